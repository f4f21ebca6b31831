using System.Globalization;
using FastTrap.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>A running <c>hot</c>, probed, which makes a round of calls when asked and says what a call cost it.</summary>
internal sealed class ProbedTarget : IAsyncDisposable
{
    private const int Warmup = 20_000;

    private readonly TargetProcess _target;
    private readonly Tracer _tracer;
    private readonly List<ProbeEnabling> _enablings = [];
    private readonly int _calls;
    private ulong _sum;
    private long _before;
    private Task? _reader;

    private ProbedTarget(TargetProcess target, Tracer tracer, int calls)
    {
        _target = target;
        _tracer = tracer;
        _calls = calls;
    }

    public static async Task<ProbedTarget> StartAsync(
        string hot, string kind, int calls, HitVariant variant, HitAffinity affinity, int? spin, bool warm)
    {
        TargetProcess target = TargetProcess.Start(hot, [kind, $"{calls}", "0", "lines"]);
        target.ReadLineStarting("ready ");
        TracerOptions defaults = new();
        Tracer tracer = new(new TracerOptions
        {
            Affinity = affinity == HitAffinity.Follow ? ControlThreadAffinity.FollowTarget : ControlThreadAffinity.Inherit,
            SpinMicroseconds = spin ?? defaults.SpinMicroseconds,
        });
        ProbedTarget probed = new(target, tracer, calls);
        HashSet<int> before = ControlThreads();
        TracedProcess process = await tracer.AttachAsync(target.ProcessId).ConfigureAwait(false);
        if (affinity is HitAffinity.Same or HitAffinity.Other)
        {
            Pin(target.ProcessId, 0);
            foreach (int thread in ControlThreads().Except(before))
            {
                Pin(thread, affinity == HitAffinity.Same ? 0 : 1);
            }
        }

        await probed.EnableAsync(process, kind, variant).ConfigureAwait(false);
        for (int done = 0; warm && done < Warmup; done += calls)
        {
            // Twice, with time for the compiler's second tier in between.
            probed.Round();
        }

        return probed;
    }

    /// <summary>Nanoseconds for each call of a round, as the target sees it.</summary>
    public double Round()
    {
        _target.SendLine("go");
        string line = _target.ReadLineStarting("");
        double ns = double.Parse(line[..line.IndexOf(' ', StringComparison.Ordinal)], CultureInfo.InvariantCulture);
        long hits = _enablings.Sum(e => e.HitCount);
        long expected = _enablings.Sum(e => e.Description.Name == "false" ? 0L : _calls);
        if (hits - _before != expected && hits != _before)
        {
            throw new InvalidOperationException($"{_calls} calls gave {hits - _before} hits.");
        }

        _before = hits;
        return ns;
    }

    public async ValueTask DisposeAsync()
    {
        await _tracer.DisposeAsync().ConfigureAwait(false);
        if (_reader is not null)
        {
            await _reader.ConfigureAwait(false);
        }

        _target.Dispose();
    }

    private async Task EnableAsync(TracedProcess process, string kind, HitVariant variant)
    {
        ProbeOptions options = variant switch
        {
            HitVariant.PredicateFalse => new ProbeOptions { Buffered = false, Predicate = static (in ProbeContext _) => false },
            HitVariant.Handler => new ProbeOptions { OnHit = (in ProbeContext context) => _sum += context.GetArgument(0) },
            HitVariant.Buffered => new ProbeOptions { ArgumentCount = 2 },
            _ => new ProbeOptions { Buffered = false },
        };
        List<ProbeRequest> requests = [new($"a.out:hot_{kind}:entry", options)];
        if (variant == HitVariant.EntryAndReturn)
        {
            requests.Add(new($"a.out:hot_{kind}:return", options));
        }

        _enablings.AddRange(await process.EnableAsync(requests).ConfigureAwait(false));
        if (variant == HitVariant.Buffered)
        {
            _reader = Task.Run(async () =>
            {
                await foreach (ProbeHit hit in _enablings[0].ReadAllAsync().ConfigureAwait(false))
                {
                    _sum += hit.Arguments[0];
                }
            });
        }
    }

    /// <summary>The library's threads of that purpose, by their name, which the kernel cuts at 15 bytes.</summary>
    private static HashSet<int> ControlThreads()
    {
        HashSet<int> found = [];
        foreach (string task in Directory.GetDirectories("/proc/self/task"))
        {
            if (File.ReadAllText(Path.Combine(task, "comm")).StartsWith("FastTrap contro", StringComparison.Ordinal))
            {
                found.Add(int.Parse(Path.GetFileName(task), CultureInfo.InvariantCulture));
            }
        }

        return found;
    }

    private static void Pin(int thread, int cpu)
    {
        Errno error = LinuxPlatform.Instance.SetAffinity(thread, [cpu]);
        if (error != Errno.None)
        {
            throw new InvalidOperationException($"Thread {thread} cannot be put on CPU {cpu}: {error}.");
        }
    }
}

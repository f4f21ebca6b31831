using System.Globalization;
using FastTrap.Tests.Faults;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests;

/// <summary>
/// The test assembly as a program: a tracer in a process of its own, for tests of how a tracer ends and of what another user may do. Its exit code is 1 and its
/// line <c>error CODE MESSAGE</c> when the library refuses.
/// </summary>
internal static class TracerProgram
{
    /// <summary>Hits of an enabling after which the tracer is busy.</summary>
    private const int BusyHits = 200;

    private static Timer? s_end;

    public static async Task<int> Main(string[] arguments)
    {
        if (arguments is ["publish", string provider, .. string[] path])
        {
            return PublisherProgram.Run(provider, path.FirstOrDefault());
        }

        int processId = arguments.Length > 1 ? int.Parse(arguments[1], CultureInfo.InvariantCulture) : 0;
        try
        {
            switch (arguments)
            {
                case ["attach", _]:
                    await using (Tracer tracer = new())
                    {
                        await tracer.AttachAsync(processId).ConfigureAwait(false);
                        Console.WriteLine("attached");
                    }

                    return 0;
                case ["busy", _, string end, .. string[] descriptions]:
                    return await BeBusyAsync(processId, end, descriptions).ConfigureAwait(false);
                case ["restless", _, string milliseconds, .. string[] descriptions]:
                    await BeRestlessAsync(processId, int.Parse(milliseconds, CultureInfo.InvariantCulture), descriptions).ConfigureAwait(false);
                    return 5;
                case ["jumpy", _, string milliseconds, .. string[] descriptions]:
                    await BeRestlessAsync(processId, int.Parse(milliseconds, CultureInfo.InvariantCulture), descriptions, jumps: true).ConfigureAwait(false);
                    return 5;
                case ["recount", _, string mechanism, string rounds, .. string[] descriptions]:
                    return await CountAsync(processId, Enum.Parse<ProbeMechanism>(mechanism), int.Parse(rounds, CultureInfo.InvariantCulture), descriptions).ConfigureAwait(false);
                case ["dying", _, string mechanism, string change, .. string[] descriptions]:
                    return await CountAndDieAsync(processId, Enum.Parse<ProbeMechanism>(mechanism), int.Parse(change, CultureInfo.InvariantCulture), descriptions).ConfigureAwait(false);
                case ["count", _, string mechanism, .. string[] descriptions]:
                    return await CountForEverAsync(processId, Enum.Parse<ProbeMechanism>(mechanism), descriptions, isToLive: false).ConfigureAwait(false);
                case ["read", _, .. string[] descriptions]:
                    return await CountForEverAsync(processId, ProbeMechanism.Auto, descriptions, isToLive: false, reads: true).ConfigureAwait(false);
                case ["live", _, string mechanism, .. string[] descriptions]:
                    return await CountForEverAsync(processId, Enum.Parse<ProbeMechanism>(mechanism), descriptions, isToLive: true).ConfigureAwait(false);
                case ["compute"]:
                    return ManagedWork.Run();
                default:
                    await Console.Error.WriteLineAsync("usage: attach PID | restless PID MILLISECONDS DESCRIPTION... | busy PID wait|die|throw|return|exit DESCRIPTION...").ConfigureAwait(false);
                    return 2;
            }
        }
        catch (FastTrapException exception)
        {
            Console.WriteLine($"error {exception.Error} {exception.Message}");
            return 1;
        }
    }

    /// <summary>Counts by one mechanism, prints <c>armed</c> with how many by jumps, traps and breakpoints, and waits to be killed; before that it may prepare the process for that.</summary>
    private static async Task<int> CountForEverAsync(int processId, ProbeMechanism mechanism, string[] descriptions, bool isToLive, bool reads = false)
    {
        TracedProcess process = await new Tracer().AttachAsync(processId).ConfigureAwait(false);
        List<ProbeMechanisms> all = [];
        foreach (string text in descriptions)
        {
            ProbeQuery query = process.On(text).WithMechanism(mechanism);
            ProbeSum sum = await (reads ? query.Sum(c => c.Read<long>(c.Arg(0))) : query.Count()).EnableAsync().ConfigureAwait(false);
            all.Add(sum.Mechanisms);
        }

        string? problem = isToLive ? await process.PrepareForLifeAsync().ConfigureAwait(false) : null;
        Console.WriteLine(problem ?? $"armed {all.Sum(m => m.Jump)} {all.Sum(m => m.InProcessTrap)} {all.Sum(m => m.Breakpoint)}");
        await new TaskCompletionSource().Task.ConfigureAwait(false);
        return 3;
    }

    /// <summary>Enables and disables without end; after so many milliseconds (0: never) a thread throws, whatever goes on.</summary>
    private static async Task BeRestlessAsync(int processId, int milliseconds, string[] descriptions, bool jumps = false)
    {
        if (milliseconds > 0)
        {
            s_end = new Timer(static _ => throw new InvalidOperationException("on purpose"), null, milliseconds, Timeout.Infinite);
        }

        Tracer tracer = new();
        ProbeOptions options = new() { Buffered = false };
        while (true)
        {
            TracedProcess process = await tracer.AttachAsync(processId).ConfigureAwait(false);
            for (int round = 0; round < 5; round++)
            {
                if (jumps)
                {
                    foreach (string text in descriptions)
                    {
                        ProbeSum hits = await process.On(text).Count().EnableAsync().ConfigureAwait(false);
                        await hits.DisposeAsync().ConfigureAwait(false);
                    }

                    continue;
                }

                IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync([.. descriptions.Select(text => new ProbeRequest(text, options))]).ConfigureAwait(false);
                foreach (ProbeEnabling enabling in enablings)
                {
                    await enabling.DisposeAsync().ConfigureAwait(false);
                }
            }

            await process.DisposeAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Counts by queries: prints <c>attached</c>, enables and disables so many times (0: without end) and prints <c>armed</c> when all is enabled at last, disposing nothing.</summary>
    private static async Task<int> CountAsync(int processId, ProbeMechanism mechanism, int rounds, string[] descriptions)
    {
        Tracer tracer = new();
        TracedProcess process = await tracer.AttachAsync(processId).ConfigureAwait(false);
        Console.WriteLine("attached");
        for (int round = 1; round != rounds; round++)
        {
            foreach (string description in descriptions)
            {
                try
                {
                    ProbeQuery query = process.On(description).WithMechanism(mechanism);
                    ProbeSum sum = await (description.Contains(":peek:", StringComparison.Ordinal) ? query.Sum(c => c.Read<long>(c.Arg(0))) : query.Count()).EnableAsync().ConfigureAwait(false);
                    await sum.DisposeAsync().ConfigureAwait(false);
                }
                catch (FastTrapException exception) when (exception.Error == FastTrapError.NoMatch && rounds == 0)
                {
                    // A thread was in a signal handler that may come back into the only window.
                }
            }

            if (round == 1)
            {
                Console.WriteLine("looping");
            }
        }

        foreach (string description in descriptions)
        {
            await process.On(description).WithMechanism(mechanism).Count().EnableAsync().ConfigureAwait(false);
        }

        Console.WriteLine("armed");
        using ManualResetEventSlim never = new();
        never.Wait();
        return 3;
    }

    /// <summary>Attaches, enables, disables and detaches, and is killed at some change that it makes; 0: at none, and it prints how many there were.</summary>
    private static async Task<int> CountAndDieAsync(int processId, ProbeMechanism mechanism, int change, string[] descriptions)
    {
        FaultyPlatform platform = new();
        platform.DieAtChange(change);
        await using (Tracer tracer = new(new TracerOptions(), platform))
        {
            TracedProcess process = await tracer.AttachAsync(processId).ConfigureAwait(false);
            for (int round = 0; round < (change < 0 ? 60 : 1); round++)
            {
                List<ProbeSum> sums = [];
                foreach (string description in descriptions)
                {
                    sums.Add(await process.On(description).WithMechanism(mechanism).Count().EnableAsync().ConfigureAwait(false));
                }

                foreach (ProbeSum sum in sums)
                {
                    await sum.DisposeAsync().ConfigureAwait(false);
                }
            }
        }

        Console.WriteLine($"changes {(change == FaultyPlatform.GoneTrap ? platform.LedFromGoneTraps : platform.Changes)}");
        return 0;
    }

    /// <summary>Probes a process, prints <c>busy</c> once there were hits, and ends as it is told to, never disposing anything.</summary>
    private static async Task<int> BeBusyAsync(int processId, string end, string[] descriptions)
    {
        using ManualResetEventSlim busy = new();
        int hits = 0;
        Tracer tracer = new(new TracerOptions { KillTargetsWithTracer = end == "die" });
        TracedProcess process = await tracer.AttachAsync(processId).ConfigureAwait(false);
        ProbeOptions options = new()
        {
            Buffered = false,
            OnHit = (in ProbeContext context) =>
            {
                if (++hits == BusyHits)
                {
                    busy.Set();
                }
            },
        };
        await process.EnableAsync([.. descriptions.Select(text => new ProbeRequest(text, options))]).ConfigureAwait(false);
        busy.Wait();
        Console.WriteLine("busy");
        switch (end)
        {
            case "throw":
                Thread thread = new(static () => throw new InvalidOperationException("on purpose"));
                thread.Start();
                thread.Join();
                break;
            case "exit":
                Environment.Exit(4);
                break;
            case "wait" or "die":
                using (ManualResetEventSlim never = new())
                {
                    never.Wait();
                }

                break;
        }

        return 3;
    }
}

using FastTrap.Native;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Faults;

/// <summary>
/// Every call of the platform fails in turn, in every phase of a probe's life. The target lives on, clean and undisturbed, unless the fault is its death;
/// what is thrown is typed; nothing hangs.
/// </summary>
[TestFixture]
[NonParallelizable]
public sealed class FaultTests
{
    /// <summary>Calls of one method that are tried in one phase.</summary>
    private const int MaximumCalls = 6;

    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(15);

    public enum Phase
    {
        Attach,
        Enable,
        Hit,
        Disable,
        Detach,
    }

    [Test]
    public async Task TargetSurvivesEveryFailureOfTheTracer([Values] Phase phase, [Values] bool byJump)
    {
        List<string> wrong = [];
        int reached = 0;
        foreach (Fault first in FaultPoints.All)
        {
            for (int call = 1; call <= MaximumCalls; call++)
            {
                Fault fault = first with { Call = call };
                try
                {
                    if (!await RunAsync(phase, fault, byJump))
                    {
                        break;
                    }
                }
                catch (Exception e) when (e is not OutOfMemoryException)
                {
                    wrong.Add($"{phase}, {fault}: {e.GetType().Name}: {e.Message}");
                }

                reached++;
            }
        }

        TestContext.Out.WriteLine($"{phase}: {reached} faults");
        Assert.That(wrong, Is.Empty, () => string.Join('\n', wrong));
        Assert.That(reached, Is.GreaterThan(5), "the faults do not reach the calls any more");
    }

    /// <summary>One life of a probe with a fault in one of its phases; false if the fault was not reached.</summary>
    private static async Task<bool> RunAsync(Phase phase, Fault fault, bool byJump)
    {
        FaultyPlatform platform = new();
        using TargetProcess target = TargetProcess.StartTarget("faults", null, [], new TargetStart { Timeout = s_deadline });
        int processId = target.ProcessId;
        Tracer tracer = new(null, platform);
        TracedProcess? process = null;
        IAsyncDisposable? enabling = null;
        async Task Do(Phase now, Func<Task> step)
        {
            platform.Set(now == phase ? fault : null, processId);
            try
            {
                await step().WaitAsync(s_deadline);
            }
            catch (FastTrapException e)
            {
                Assert.That(e.Message, Is.Not.Empty);
            }
        }

        await Do(Phase.Attach, async () => process = await tracer.AttachAsync(processId));
        if (process is not null)
        {
            await Do(Phase.Enable, async () => enabling = byJump
                ? await process.On("a.out:work*:entry").Count().EnableAsync()
                : (await process.EnableAsync([new("a.out:work*:entry"), new("a.out:work*:return")]))[0]);
            await Do(Phase.Hit, () => Task.Run(() => Work(target)));
            if (enabling is not null)
            {
                await Do(Phase.Disable, () => enabling.DisposeAsync().AsTask());
            }

            await Do(Phase.Detach, () => process.DisposeAsync().AsTask());
        }

        platform.Set(null, 0);
        await tracer.DisposeAsync().AsTask().WaitAsync(s_deadline);
        if (process is not null)
        {
            await process.Completion.WaitAsync(s_deadline);
        }

        bool isKilled = platform.IsReached && fault.Kind is (FaultKind.KillBefore or FaultKind.KillAfter);
        if (isKilled)
        {
            Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, Signal.SIGKILL)), "the end of a killed target");
        }
        else
        {
            TextCheck.AssertClean(processId);
            Assert.That(Tracers(processId), Is.All.EqualTo(0), "somebody still traces it");
            Work(target);
            target.SendLine("quit");
            Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), target.Errors);
        }

        return platform.IsReached;
    }

    private static void Work(TargetProcess target)
    {
        try
        {
            target.SendLine("go 3");
            target.ReadLineStarting("done 3 ");
        }
        catch (Exception e) when ((e is EndOfStreamException or IOException) && target.TryWaitForExit(s_deadline) && target.Exit!.Value.Signal == Signal.SIGKILL)
        {
            // Killed on purpose; the caller looks at the exit.
            return;
        }
    }

    private static List<int> Tracers(int processId) =>
    [
        .. Directory.GetDirectories($"/proc/{processId}/task")
            .Select(d => File.ReadLines(Path.Combine(d, "status")).First(l => l.StartsWith("TracerPid:", StringComparison.Ordinal)))
            .Select(l => int.Parse(l.AsSpan(10).Trim(), System.Globalization.CultureInfo.InvariantCulture)),
    ];
}

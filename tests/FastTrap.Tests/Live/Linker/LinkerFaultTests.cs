using FastTrap.Control;
using FastTrap.Native;
using FastTrap.Tests.Faults;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live.Linker;

/// <summary>Every call of the platform fails in turn while the linker is watched: the target lives on, clean and undisturbed.</summary>
[TestFixture]
public sealed class LinkerFaultTests : LinkerTest
{
    private const int MaximumCalls = 2;

    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(15);

    public enum Phase
    {
        Watch,
        Load,
        Detach,
    }

    [Test]
    public async Task TargetSurvivesEveryFailure([Values] Phase phase)
    {
        List<string> wrong = [];
        int reached = 0;
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, 1);
        foreach (Fault first in FaultPoints.All)
        {
            for (int call = 1; call <= MaximumCalls; call++)
            {
                Fault fault = first with { Call = call };
                try
                {
                    if (!await RunAsync(phase, fault, plugins))
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

    private static async Task<bool> RunAsync(Phase phase, Fault fault, string[] plugins)
    {
        FaultyPlatform platform = new();
        using TargetProcess target = TargetProcess.StartTarget("dlopens", null, plugins, new TargetStart { Timeout = s_deadline });
        int processId = target.ProcessId;
        Tracer tracer = new(null, platform);
        TracedProcess process = await tracer.AttachAsync(processId);
        async Task DoAsync(Phase now, Func<Task> step)
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

        await DoAsync(Phase.Watch, () => WatchAsync(process, new Recorder()));
        await DoAsync(Phase.Load, () => Task.Run(() => Load(target)));
        await DoAsync(Phase.Detach, () => process.DisposeAsync().AsTask());
        platform.Set(null, 0);
        await tracer.DisposeAsync().AsTask().WaitAsync(s_deadline);
        await process.Completion.WaitAsync(s_deadline);
        if (platform.IsReached && fault.Kind is (FaultKind.KillBefore or FaultKind.KillAfter))
        {
            Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, Signal.SIGKILL)), "the end of a killed target");
        }
        else
        {
            TextCheck.AssertClean(processId);
            Load(target);
            Quit(target);
        }

        return platform.IsReached;
    }

    private static void Load(TargetProcess target)
    {
        try
        {
            Do(target, "storm 1 2");
            Do(target, "fork");
        }
        catch (Exception e) when ((e is EndOfStreamException or IOException) && target.TryWaitForExit(s_deadline) && target.Exit!.Value.Signal == Signal.SIGKILL)
        {
            // Killed on purpose; the caller looks at the exit.
            return;
        }
    }
}

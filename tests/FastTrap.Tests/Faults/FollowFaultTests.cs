using FastTrap.Native;
using FastTrap.Tests.Control;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Faults;

/// <summary>Every call of the platform fails in turn while children are born and followed: whoever was announced ends once, and nobody is left standing.</summary>
[TestFixture]
[NonParallelizable]
public sealed class FollowFaultTests
{
    private const int MaximumCalls = 4;

    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(15);

    [Test]
    public async Task ChildrenLiveThroughEveryFailureOfTheTracer()
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
                    if (!await RunAsync(fault))
                    {
                        break;
                    }
                }
                catch (Exception e) when (e is not OutOfMemoryException)
                {
                    wrong.Add($"{fault}: {e.GetType().Name}: {e.Message}");
                }

                reached++;
            }
        }

        TestContext.Out.WriteLine($"{reached} faults");
        Assert.That(wrong, Is.Empty, () => string.Join('\n', wrong));
        Assert.That(reached, Is.GreaterThan(5), "the faults do not reach the calls any more");
    }

    /// <summary>A program forks four times with a fault meanwhile; false if the fault was not reached.</summary>
    private static async Task<bool> RunAsync(Fault fault)
    {
        FaultyPlatform platform = new();
        using TargetProcess target = TargetProcess.StartTarget("dies", null, ["4"], new TargetStart { Timeout = s_deadline });
        ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId, platform: platform);
        platform.Set(fault, target.ProcessId);
        target.SendLine("go");
        bool isKilled = fault.Kind is FaultKind.KillBefore or FaultKind.KillAfter;
        try
        {
            target.ReadLineStarting("killed ");
        }
        catch (EndOfStreamException) when (isKilled && platform.IsReached)
        {
            Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, Signal.SIGKILL)));
        }

        platform.Set(null, 0);
        foreach ((FastTrap.Control.ProcessHandle child, _) in tree.Children)
        {
            await child.Completion.WaitAsync(s_deadline);
        }

        await tree.DisposeAsync().AsTask().WaitAsync(s_deadline);
        Assert.That(tree.Children.Select(child => child.Life.Length), Is.All.EqualTo(2));
        if (target.Exit is null)
        {
            try
            {
                target.SendLine("end");
            }
            catch (IOException) when (isKilled && platform.IsReached)
            {
                // It was killed behind its last line.
            }

            TargetExit exit = target.WaitForExit();
            Assert.That(exit == new TargetExit(0, 0) || (isKilled && platform.IsReached && exit == new TargetExit(0, Signal.SIGKILL)), $"{exit}\n{string.Join('\n', target.Lines)}");
        }

        return platform.IsReached;
    }
}

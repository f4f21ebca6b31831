using FastTrap.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Faults;

/// <summary>Every call of the platform fails in turn while a program is created: it is there or it is not, and nothing is left behind.</summary>
[TestFixture]
[NonParallelizable]
public sealed class CreateFaultTests
{
    private const int MaximumCalls = 5;

    private static readonly TimeSpan s_deadline = TimeSpan.FromSeconds(15);

    [Test]
    public async Task ProgramIsThereOrNot([Values] CreateStop stopAt)
    {
        using PrivateDirectory directory = new("create-faults");
        string input = directory["input"];
        await File.WriteAllTextAsync(input, "go 3\nquit\n");
        string[] before = [.. Leftovers.Find()];
        List<string> wrong = [];
        int reached = 0;
        foreach (Fault first in FaultPoints.All)
        {
            for (int call = 1; call <= MaximumCalls; call++)
            {
                Fault fault = first with { Call = call };
                try
                {
                    if (!await RunAsync(fault, stopAt, input, directory["output"]))
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
        Assert.That(reached, Is.GreaterThan(20), "the faults do not reach the calls any more");
        Assert.That(Leftovers.Find().Except(before), Is.Empty);
    }

    [Test]
    public async Task ProgramThatEndsBeforeItsEntrySaysSo()
    {
        await using Tracer tracer = new();
        FastTrapException e = Assert.ThrowsAsync<FastTrapException>(() => tracer.CreateAsync(
            TargetBuilder.Build("faults"), null, new CreateOptions { Environment = new Dictionary<string, string> { ["LD_LIBRARY_PATH"] = "", ["LD_TRACE_LOADED_OBJECTS"] = "1" }, StandardOutput = "/dev/null" }))!;
        Assert.That(e.Error, Is.EqualTo(FastTrapError.CannotStart), e.Message);
    }

    private static async Task<bool> RunAsync(Fault fault, CreateStop stopAt, string input, string output)
    {
        FaultyPlatform platform = new();
        platform.Set(fault, 0);
        await using Tracer tracer = new(null, platform);
        ProcessExit exit;
        try
        {
            CreateOptions options = new() { StopAt = stopAt, StandardInput = input, StandardOutput = output };
            TracedProcess process = await tracer.CreateAsync(TargetBuilder.Build("faults"), null, options).WaitAsync(s_deadline);
            bool isReached = platform.IsReached;
            platform.Set(null, 0);
            if (stopAt == CreateStop.Entry && !isReached)
            {
                await process.EnableAsync("a.out:work_plain:entry").WaitAsync(s_deadline);
            }

            try
            {
                await process.ResumeAsync().WaitAsync(s_deadline);
            }
            catch (FastTrapException e) when (e.Error == FastTrapError.ProcessEnded)
            {
                // Killed by the fault, and noticed already.
                Assert.That(fault.Kind, Is.AnyOf(FaultKind.KillBefore, FaultKind.KillAfter));
            }

            exit = await process.Completion.WaitAsync(s_deadline);
        }
        catch (FastTrapException e)
        {
            Assert.That(e.Message, Is.Not.Empty);
            Assert.That(platform.IsReached, "it failed without a fault");
            return true;
        }

        if (platform.IsReached && fault.Kind is (FaultKind.KillBefore or FaultKind.KillAfter))
        {
            Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Killed, 0, Signal.SIGKILL)));
        }
        else
        {
            Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)));
            Assert.That(await File.ReadAllTextAsync(output), Does.Contain("done 3 "));
        }

        return platform.IsReached;
    }
}

using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Native;
using FastTrap.Tests.Faults;
using FastTrap.Tests.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>A tracer dies between any two of its requests while a thread of the target makes a system call for it: the thread goes on as if nothing had been.</summary>
[TestFixture]
public sealed class EscapeTests : LiveTest
{
    private static readonly SystemCallNumbers s_numbers = SystemCallNumbers.Of(RuntimeInformation.ProcessArchitecture);

    [TestCase("")]
    [TestCase("-static")]
    public void EveryThreadComesBackFromARemoteCallWhenTheTracerDies(string flags)
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor", new TargetVariant(Flags: flags));
        Assert.That(EscapeRoute.TryFind(LinuxPlatform.Instance, target.ProcessId, out EscapeRoute route), Is.True);
        int[] threads = ReadThreads(target);
        int[] deaths = new int[threads.Length];
        for (int i = 0; i < threads.Length; i++)
        {
            ulong? mask = ReadMask(target.ProcessId, threads[i]);
            RemoteResult? result;
            while ((result = Call(target.ProcessId, threads[i], route.CallAddress, route, deaths[i] + 1)) is null)
            {
                deaths[i]++;
                Assert.That(target.ReadState(), Is.Not.Null.And.Not.EqualTo('Z'), $"dead after {deaths[i]} requests");
            }

            Assert.That((result.Value.Error, result.Value.Value), Is.EqualTo((Errno.None, (long)target.ProcessId)));
            Assert.That(ReadMask(target.ProcessId, threads[i]), Is.EqualTo(mask));
            target.SendLine("phase");
            target.ReadLineStarting("phase ");
        }

        TestContext.Out.WriteLine($"deaths: {string.Join(' ', deaths)}");
        Assert.That(deaths, Is.All.GreaterThan(15));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    /// <summary>An interrupted sleep goes on by restart_syscall, which a signal frame cannot hold: it begins anew.</summary>
    [Test]
    public void SleepsAreNotInterruptedHoweverOftenTracersDie()
    {
        const string ClockNanosleep = "230";
        const string Poll = "7";
        using TargetProcess target = TargetProcess.StartTarget("eintr");
        Assert.That(EscapeRoute.TryFind(LinuxPlatform.Instance, target.ProcessId, out EscapeRoute route), Is.True);
        int[] sleepers = [.. ReadThreads(target).Where(t => File.ReadAllText($"/proc/{target.ProcessId}/task/{t}/syscall").Split(' ')[0] is ClockNanosleep or Poll)];
        Assert.That(sleepers, Has.Length.EqualTo(3));
        foreach (int thread in sleepers)
        {
            RemoteResult? result = null;
            for (int calls = 1; result is null; calls++)
            {
                result = Call(target.ProcessId, thread, route.CallAddress, route, calls);
            }

            Assert.That(result.Value.Error, Is.EqualTo(Errno.None));
        }

        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>The control: it is the route that brings threads back.</summary>
    [Test]
    public void WithoutTheRouteADeathOfTheTracerHurts()
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        Assert.That(EscapeRoute.TryFind(LinuxPlatform.Instance, target.ProcessId, out EscapeRoute route), Is.True);

        // One that computes goes on behind the call, with our registers.
        int thread = ReadThreads(target)[1];
        ulong? mask = ReadMask(target.ProcessId, thread);
        int calls = 0;
        RemoteResult? result = null;
        while (result is null && IsUnhurt())
        {
            result = Call(target.ProcessId, thread, route.CallAddress, default, ++calls);
        }

        TestContext.Out.WriteLine($"{calls} requests, state {target.ReadState()}");
        Assert.That(result?.Error != Errno.ESRCH && IsUnhurt(), Is.False, $"it lived through deaths after each of {calls} requests");

        bool IsUnhurt() => target.ReadState() is not (null or 'Z') && ReadMask(target.ProcessId, thread) == mask;
    }

    /// <summary>Has a thread ask for its process id, by a tracer that dies after so many requests. Null if it died; ESRCH if the thread has.</summary>
    private static RemoteResult? Call(int processId, int threadId, ulong callAddress, EscapeRoute route, int calls)
    {
        RemoteResult? result = null;
        SpawnedTarget.OnThread(() =>
        {
            FaultyPlatform platform = new();
            if (platform.Seize(threadId, PtraceOptions.TraceSysGood) != Errno.None || platform.Interrupt(threadId) != Errno.None
                || platform.Wait(threadId, block: true, out WaitStatus status) != threadId || !status.Stopped)
            {
                result = new RemoteResult(Errno.ESRCH, 0, default);
                return;
            }

            Assert.That(status.Event is PtraceEvent.Stop or PtraceEvent.None, Is.True);
            RemoteThread thread = new(processId, threadId, RuntimeInformation.ProcessArchitecture, callAddress, route);
            try
            {
                platform.DieAfter(calls);
                List<SignalInfo> held = [];
                result = RemoteSystemCall.Invoke(platform, in thread, s_numbers.GetPid, [], held);
                platform.DieAfter(0);
            }
            catch (OperationCanceledException)
            {
                // The end of this thread is the end of the tracer for the kernel.
            }
        });
        WaitUntil(() => ReadStatus(processId, threadId, "TracerPid") is "0" or null, "the kernel lets go of the thread");
        return result;
    }

    private static int[] ReadThreads(TargetProcess target) =>
        [.. Directory.GetDirectories($"/proc/{target.ProcessId}/task").Select(d => int.Parse(Path.GetFileName(d), CultureInfo.InvariantCulture)).Order()];

    private static ulong? ReadMask(int processId, int threadId) =>
        ReadStatus(processId, threadId, "SigBlk") is { } text ? ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture) : null;

    /// <summary>Null of a thread that has gone.</summary>
    private static string? ReadStatus(int processId, int threadId, string name)
    {
        try
        {
            return File.ReadLines($"/proc/{processId}/task/{threadId}/status").First(l => l.StartsWith(name + ":", StringComparison.Ordinal))[(name.Length + 1)..].Trim();
        }
        catch (IOException)
        {
            return null;
        }
    }
}

using System.Runtime.InteropServices;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>System calls which a stopped thread makes for us: the target must not notice.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class RemoteSystemCallTests
{
    private const ulong PageLength = 4096;

    private static readonly SystemCallNumbers s_numbers = SystemCallNumbers.Of(RuntimeInformation.ProcessArchitecture);

    private static LinuxPlatform Platform => LinuxPlatform.Instance;

    [Test]
    public void FromTheExecStopItGivesTheResultAndTheProgramRunsOn() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        RegisterSet before = target.Registers();
        List<SignalInfo> held = [];
        RemoteResult result = RemoteSystemCall.Invoke(Platform, target.Remote(), s_numbers.GetPid, [], held);
        Assert.That(result.Error, Is.EqualTo(Errno.None));
        Assert.That(result.Value, Is.EqualTo(target.Pid));
        Assert.That(result.LastStatus.Event, Is.EqualTo(PtraceEvent.Stop));
        Assert.That(target.Registers().ProgramCounter, Is.EqualTo(before.ProgramCounter));
        Assert.That(target.Registers().StackPointer, Is.EqualTo(before.StackPointer));
        Assert.That(held, Is.Empty);
        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
    });

    [Test]
    public void FromATrapAllRegistersAreRestored() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("trap");
        Assert.That(Platform.Continue(target.Pid, 0), Is.EqualTo(Errno.None));
        Assert.That(target.Next().StopSignal, Is.EqualTo(Signal.SIGTRAP));
        RegisterSet before = target.Registers();
        Assert.That(Platform.GetSignalMask(target.Pid, out ulong mask), Is.EqualTo(Errno.None));
        for (int i = 0; i < 20; i++)
        {
            RemoteResult result = RemoteSystemCall.Invoke(Platform, target.Remote(), s_numbers.GetTid, [], []);
            Assert.That((result.Failure, result.Value), Is.EqualTo((Errno.None, (long)target.Pid)));
        }

        Assert.That(target.Registers().Words.ToArray(), Is.EqualTo(before.Words.ToArray()));
        Assert.That(Platform.GetSignalMask(target.Pid, out ulong maskAfter), Is.EqualTo(Errno.None));
        Assert.That(maskAfter, Is.EqualTo(mask));
        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(5));
        Assert.That(target.Output, Is.EqualTo("trap same\n"));
    });

    [Test]
    public void AnErrorOfTheCallIsGivenAsItsErrno() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        RemoteResult result = RemoteSystemCall.Invoke(Platform, target.Remote(), s_numbers.Munmap, [1, PageLength], []);
        Assert.That((result.Error, result.Failure), Is.EqualTo((Errno.None, Errno.EINVAL)));
        result = RemoteSystemCall.Invoke(Platform, target.Remote() with { SystemCallAddress = 0x1000 }, s_numbers.GetPid, [], []);
        Assert.That(result.Error, Is.EqualTo(Errno.EFAULT));
        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
    });

    [Test]
    public void MapsNearAndUnmaps() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        Assert.That(Auxv.TryRead(Platform, target.Pid, out Auxv auxv, out _), Is.True);
        foreach (ulong near in new[] { auxv.Entry, auxv.Base, auxv.Entry })
        {
            RemoteThread thread = target.Remote();
            List<SignalInfo> held = [];
            Errno error = RemoteMemoryMap.Map(Platform, in thread, near, RemoteMemoryMap.NearReach, 4 * PageLength, held, out ulong address, out _);
            Assert.That(error, Is.EqualTo(Errno.None));
            Assert.That(Math.Abs((long)(address - near)), Is.LessThan(int.MaxValue - (4 * (long)PageLength)));
            MemoryRegion region = Region(target.Pid, address);
            Assert.That(region.Access, Is.EqualTo(MemoryAccess.Read | MemoryAccess.Execute));
            Assert.That(region.Path, Is.Empty);
            Assert.That(region.Start <= address && address + (4 * PageLength) <= region.End);
            Assert.That(RemoteMemoryMap.Unmap(Platform, in thread, address, 4 * PageLength, held, out _), Is.EqualTo(Errno.None));
            Assert.That(Region(target.Pid, address), Is.EqualTo(default(MemoryRegion)));
        }

        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
    });

    [TestCase("nanosleep", 35, 230, ExpectedResult = "nanosleep 0 0 enough")]
    [TestCase("read", 0, 0, ExpectedResult = "read 1 0 x")]
    [TestCase("poll", 7, 271, ExpectedResult = "poll 1 0")]
    [TestCase("epoll_wait", 232, 281, ExpectedResult = "epoll_wait 1 0")]
    [TestCase("mutex", 202, 202, ExpectedResult = "mutex 0")]
    public string AnInterruptedCallIsRestartedExactly(string mode, long call, long otherCall)
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("The numbers of the system calls are of x86-64.");
        }

        string output = string.Empty;
        SpawnedTarget.OnThread(() =>
        {
            using SpawnedTarget target = new(mode);
            target.RunUntilBlockedIn(call, otherCall);
            for (int i = 0; i < 3; i++)
            {
                Assert.That(target.Stop().Event, Is.EqualTo(PtraceEvent.Stop));
                RegisterSet before = target.Registers();
                RemoteThread thread = target.Remote();
                RemoteResult result = RemoteSystemCall.Invoke(Platform, in thread, s_numbers.GetPid, [], []);
                Assert.That((result.Failure, result.Value), Is.EqualTo((Errno.None, (long)target.Pid)));
                Assert.That(target.Registers().Words.ToArray(), Is.EqualTo(before.Words.ToArray()));
                Assert.That(
                    RemoteMemoryMap.Map(Platform, in thread, before.ProgramCounter, RemoteMemoryMap.NearReach, PageLength, [], out _, out _),
                    Is.EqualTo(Errno.None));
                Assert.That(target.Registers().Words.ToArray(), Is.EqualTo(before.Words.ToArray()));
                Assert.That(Platform.Continue(target.Pid, 0), Is.EqualTo(Errno.None));

                // The rest of a sleep is restart_syscall's (219).
                Until.True(() => target.IsBlockedIn(call, otherCall, 219), "it blocks again");
            }

            target.WriteInput("x");
            WaitStatus status = target.Next();
            Assert.That(status.Exited);
            output = target.Output["ready\n".Length..].TrimEnd();
        });
        return output;
    }

    [TestCase("pause", 34, Signal.SIGUSR1, ExpectedResult = "pause -1 EINTR handled 10")]
    [TestCase("sigsuspend", 130, Signal.SIGUSR1, ExpectedResult = "sigsuspend handled 10 mask 10")]
    public string ASignalEndsARestartedWait(string mode, long call, int signal)
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("The numbers of the system calls are of x86-64.");
        }

        string output = string.Empty;
        SpawnedTarget.OnThread(() =>
        {
            using SpawnedTarget target = new(mode);
            target.RunUntilBlockedIn(call);
            target.Stop();
            RemoteThread thread = target.Remote();
            RemoteResult result = RemoteSystemCall.Invoke(Platform, in thread, s_numbers.GetPid, [], []);
            Assert.That((result.Failure, result.Value), Is.EqualTo((Errno.None, (long)target.Pid)));
            Assert.That(Platform.Continue(target.Pid, 0), Is.EqualTo(Errno.None));
            Until.True(() => target.IsBlockedIn(call), "it blocks again");

            // Now with the signal arriving before the call: it must wait in the kernel and be delivered afterwards.
            target.Stop();
            Platform.Kill(target.Pid, signal);
            List<SignalInfo> held = [];
            result = RemoteSystemCall.Invoke(Platform, in thread, s_numbers.GetPid, [], held);
            Assert.That((result.Failure, result.Value, held.Count), Is.EqualTo((Errno.None, (long)target.Pid, 0)));
            Assert.That(target.RunToEnd().ExitCode, Is.Zero);
            output = target.Output["ready\n".Length..].TrimEnd();
        });
        return output;
    }

    [Test]
    public void AStopSignalOnTheWayIsHandedBack() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        RemoteThread thread = target.Remote();
        Platform.Kill(target.Pid, Signal.SIGSTOP);
        List<SignalInfo> held = [];
        RemoteResult result = RemoteSystemCall.Invoke(Platform, in thread, s_numbers.GetPid, [], held);
        Assert.That((result.Failure, result.Value), Is.EqualTo((Errno.None, (long)target.Pid)));
        Assert.That(held.Select(static s => (s.si_signo, s.si_pid)), Is.EqualTo(new[] { (Signal.SIGSTOP, Environment.ProcessId) }));
        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
    });

    [Test]
    public void DuringAJobControlStopItStaysStopped() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        Platform.Kill(target.Pid, Signal.SIGSTOP);
        Platform.Continue(target.Pid, 0);
        Assert.That(target.Next().StopSignal, Is.EqualTo(Signal.SIGSTOP));
        Platform.Continue(target.Pid, Signal.SIGSTOP);
        WaitStatus stop = target.Next();
        Assert.That((stop.Event, stop.StopSignal), Is.EqualTo((PtraceEvent.Stop, Signal.SIGSTOP)));
        RemoteThread thread = target.Remote();
        RemoteResult result = RemoteSystemCall.Invoke(Platform, in thread, s_numbers.GetPid, [], []);
        Assert.That((result.Failure, result.Value), Is.EqualTo((Errno.None, (long)target.Pid)));
        Assert.That((result.LastStatus.Event, result.LastStatus.StopSignal), Is.EqualTo((PtraceEvent.Stop, Signal.SIGSTOP)));
        Assert.That(Platform.Listen(target.Pid), Is.EqualTo(Errno.None));
        Assert.That(Platform.Wait(target.Pid, false, out _), Is.Zero, "stopped still");
        Platform.Kill(target.Pid, Signal.SIGCONT);
        Assert.That(target.Next().Event, Is.EqualTo(PtraceEvent.Stop));
        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
    });

    [Test]
    public void ACallThatAFilterTrapsIsRefusedAndTheTargetNeverHearsOfIt() => SpawnedTarget.OnThread(() =>
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("The numbers of the system calls are of x86-64.");
        }

        const int GetPPid = 110;
        const int GetPGid = 121;
        using SpawnedTarget target = new("seccomp");
        target.RunUntilBlockedIn(0);
        Assert.That(ProcStatus.TryRead(Platform, target.Pid, out ProcStatus? status, out _));
        Assert.That((status!.Seccomp, status.NoNewPrivs), Is.EqualTo((2, true)));
        target.Stop();
        RegisterSet before = target.Registers();
        RemoteThread thread = target.Remote();
        List<SignalInfo> held = [];
        Assert.That(RemoteSystemCall.Invoke(Platform, in thread, GetPPid, [], held).Error, Is.EqualTo(Errno.EPERM));
        RemoteResult result = RemoteSystemCall.Invoke(Platform, in thread, GetPGid, [0], held);
        Assert.That((result.Error, result.Failure), Is.EqualTo((Errno.None, Errno.EPERM)));
        Assert.That(RemoteSystemCall.Invoke(Platform, in thread, s_numbers.GetPid, [], held).Value, Is.EqualTo(target.Pid));
        Assert.That(held, Is.Empty);
        Assert.That(target.Registers().Words.ToArray(), Is.EqualTo(before.Words.ToArray()));
        Assert.That(Platform.Continue(target.Pid, 0), Is.EqualTo(Errno.None));
        target.WriteInput("x");
        WaitStatus stop = target.Next();
        Assert.That(stop.StopSignal, Is.EqualTo(Signal.SIGSYS), "its own trapped call");
        Assert.That(target.RunToEnd(Signal.SIGSYS).ExitCode, Is.Zero);
        Assert.That(target.Output, Is.EqualTo("ready\nread 1 handled 0 then 31\n"));
    });

    [Test]
    public void DeathIsReported() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        RemoteThread thread = target.Remote();
        Platform.Kill(target.Pid, Signal.SIGKILL);
        RemoteResult result = RemoteSystemCall.Invoke(Platform, in thread, s_numbers.GetPid, [], []);
        Assert.That(result.Error, Is.EqualTo(Errno.ESRCH).Or.EqualTo(Errno.EFAULT));
    });

    [Test]
    public void FoundInstructionIsOne() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        RemoteThread thread = target.Remote();
        Assert.That(Region(target.Pid, thread.SystemCallAddress).IsExecutable);
        Assert.That(SystemCallInstruction.IsAt(Platform, target.Pid, thread.Architecture, thread.SystemCallAddress));
        Assert.That(SystemCallInstruction.IsAt(Platform, target.Pid, thread.Architecture, thread.SystemCallAddress + 1), Is.False);
    });

    private static MemoryRegion Region(int pid, ulong address)
    {
        Assert.That(ProcMaps.TryRead(Platform, pid, out List<MemoryRegion> regions, out _));
        return regions.Find(r => r.Contains(address));
    }
}

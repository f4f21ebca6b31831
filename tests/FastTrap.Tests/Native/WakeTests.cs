using System.Runtime.InteropServices;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>Waking a blocked wait, process descriptors, signals with their information, files.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class WakeTests
{
    private static LinuxPlatform Platform => LinuxPlatform.Instance;

    [Test]
    public void WakeThreadEndsABlockingWait() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("read");
        target.RunUntilBlockedIn(0, 63);
        int tracer = Platform.CurrentThreadId;
        int woken = 0;
        Thread waker = new(() => Until.True(
            () =>
            {
                // EAGAIN: as many wait as the user may have, until the thread gets round to taking them.
                Assert.That(Platform.WakeThread(tracer), Is.AnyOf(Errno.None, Errno.EAGAIN));
                return Volatile.Read(ref woken) != 0;
            },
            "the waiting thread wakes"));
        waker.Start();
        Assert.That(Platform.Wait(target.Pid, true, out _), Is.EqualTo(-(int)Errno.EINTR));
        Volatile.Write(ref woken, 1);
        waker.Join();
        target.WriteInput("x");
        Assert.That(target.Next().ExitCode, Is.Zero);
    });

    [Test]
    public void WaitWithoutBlockingAndWithoutTracees() => SpawnedTarget.OnThread(() =>
    {
        Assert.That(Platform.Wait(-1, false, out _), Is.EqualTo(-(int)Errno.ECHILD));
        using SpawnedTarget target = new("read");
        Assert.That(Platform.Wait(-1, false, out _), Is.Zero);
        int fromOther = 0;
        Thread other = new(() => fromOther = Platform.Wait(-1, false, out _));
        other.Start();
        other.Join();
        Assert.That(fromOther, Is.EqualTo(-(int)Errno.ECHILD), "only the tracer's own thread sees its tracees");
    });

    [Test]
    public void AProcessDescriptorTellsTheEnd() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        Assert.That(Platform.OpenProcessDescriptor(target.Pid, out SafeHandle? descriptor), Is.EqualTo(Errno.None));
        using (descriptor)
        {
            Assert.That(Platform.HasEnded(descriptor!), Is.False);
            target.RunToEnd();
            Assert.That(Platform.HasEnded(descriptor!), Is.True);
        }

        Assert.That(Platform.OpenProcessDescriptor(0x7ffffff0, out descriptor), Is.EqualTo(Errno.ESRCH).Or.EqualTo(Errno.EINVAL));
        Assert.That(descriptor, Is.Null);
    });

    [Test]
    public void AQueuedSignalArrivesWithItsInformation() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("pause");
        SignalInfo sent = new() { si_signo = Signal.SIGUSR1, si_code = -1, si_addr = 0x1234_0000_5678 };
        Assert.That(Platform.QueueSignal(target.Pid, target.Pid, in sent), Is.EqualTo(Errno.None));
        Platform.Continue(target.Pid, 0);
        Assert.That(target.Next().StopSignal, Is.EqualTo(Signal.SIGUSR1));
        Assert.That(Platform.GetSignalInfo(target.Pid, out SignalInfo got), Is.EqualTo(Errno.None));
        Assert.That((got.si_signo, got.si_code, got.si_addr), Is.EqualTo((sent.si_signo, sent.si_code, sent.si_addr)));
        got.si_code = SignalInfo.SI_KERNEL;
        Assert.That(Platform.SetSignalInfo(target.Pid, in got), Is.EqualTo(Errno.None));
        Assert.That(Platform.GetSignalInfo(target.Pid, out got), Is.EqualTo(Errno.None));
        Assert.That(got.si_code, Is.EqualTo(SignalInfo.SI_KERNEL));
        Assert.That(Platform.SignalThread(target.Pid, target.Pid, Signal.SIGKILL), Is.EqualTo(Errno.None));
        Assert.That(target.Next().TerminatingSignal, Is.EqualTo(Signal.SIGKILL));
    });

    [Test]
    public void SharesAddressSpaceOfItselfOnly() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("pause");
        bool? same = Platform.SharesAddressSpace(Environment.ProcessId, Environment.ProcessId);
        bool? different = Platform.SharesAddressSpace(Environment.ProcessId, target.Pid);
        if (same is null)
        {
            Assert.Ignore("This kernel has no kcmp.");
        }

        Assert.That((same, different), Is.EqualTo(((bool?)true, (bool?)false)));
    });

    [Test]
    public void AffinityIsSetAndTakenBack() => SpawnedTarget.OnThread(() =>
    {
        static string Allowed() => File.ReadLines("/proc/thread-self/status").First(static l => l.StartsWith("Cpus_allowed_list", StringComparison.Ordinal)).Split('\t')[1];
        string all = Allowed();
        Assert.That(Platform.SetAffinity(0, [0]), Is.EqualTo(Errno.None));
        Assert.That(Allowed(), Is.EqualTo("0"));
        Assert.That(Platform.SetAffinity(0, []), Is.EqualTo(Errno.None));
        Assert.That(Allowed(), Is.EqualTo(all));
        Assert.That(Platform.SetAffinity(0, [-1]), Is.EqualTo(Errno.EINVAL));
    });

    [Test]
    public void UrgencyIsNotInheritedAndTakenBack() => SpawnedTarget.OnThread(() =>
    {
        int before = ThreadNice.Own;
        bool mayBe = ThreadNice.MayBeUrgent;
        Errno error = Platform.SetUrgent(true);
        if (!mayBe)
        {
            Assert.That((error, ThreadNice.Own), Is.EqualTo((Errno.EPERM, before)), "What cannot be changed stays.");
            return;
        }

        Assert.That((error, ThreadNice.Own), Is.EqualTo((Errno.None, -10)));
        int child = -1;
        Thread thread = new(() => child = ThreadNice.Own);
        thread.Start();
        thread.Join();
        Assert.That(child, Is.Zero);
        Assert.That(Platform.SetUrgent(true), Is.EqualTo(Errno.EPERM), "It is already.");
        Assert.That((Platform.SetUrgent(false), ThreadNice.Own), Is.EqualTo((Errno.None, 0)));
        Assert.That((Platform.SetUrgent(false), ThreadNice.Own), Is.EqualTo((Errno.EPERM, 0)));
    });

    [Test]
    public void OpensRegularFilesOnly()
    {
        string path = CCompiler.Build("native_target.c");
        byte[] expected = File.ReadAllBytes(path);
        Assert.That(Platform.OpenFile(path, out TargetFile? file), Is.EqualTo(Errno.None));
        using (file)
        {
            byte[] bytes = new byte[expected.Length + 10];
            Assert.That(file!.Length, Is.EqualTo(expected.Length));
            Assert.That(file.Read(3, bytes), Is.EqualTo(expected.Length - 3));
            Assert.That(bytes[..(expected.Length - 3)], Is.EqualTo(expected[3..]));
            Assert.That(file.Read(expected.Length + 1, bytes), Is.Zero);
            TimeSpan modified = File.GetLastWriteTimeUtc(path) - DateTime.UnixEpoch;
            Assert.That(file.Identity.ModifiedNs / 100, Is.EqualTo(modified.Ticks));
        }

        Assert.That(Platform.OpenFile("/dev/null", out _), Is.EqualTo(Errno.EINVAL));
        Assert.That(Platform.OpenFile("/proc", out _), Is.EqualTo(Errno.EINVAL));
        Assert.That(Platform.OpenFile("/missing", out file), Is.EqualTo(Errno.ENOENT));
        Assert.That(file, Is.Null);
    }

    [Test]
    public void ReadsProcFilesLinksAndIds()
    {
        Assert.That(Platform.ReadProcFile("/proc/self/cmdline", out Errno error), Is.EqualTo(File.ReadAllBytes("/proc/self/cmdline")));
        Assert.That(error, Is.EqualTo(Errno.None));
        Assert.That(Platform.ReadProcFile("/proc/self/missing", out error), Is.Null);
        Assert.That(error, Is.EqualTo(Errno.ENOENT));
        Assert.That(Platform.ReadLink("/proc/self/cwd", out _), Is.EqualTo(Environment.CurrentDirectory));
        Assert.That(Platform.ReadLink("/proc/self/stat", out error), Is.Null);
        Assert.That(error, Is.EqualTo(Errno.EINVAL));
        List<int> ids = [-5];
        Assert.That(Platform.ListProcIds("/proc", ids), Is.EqualTo(ids.Count).And.GreaterThan(1));
        Assert.That(ids, Does.Contain(1).And.Contain(Environment.ProcessId).And.Not.Contain(-5));
        Assert.That(Platform.ListProcIds("/proc/self/missing", ids), Is.EqualTo(-(int)Errno.ENOENT));
        Assert.That(Platform.ListProcIds("/proc/self/stat", ids), Is.EqualTo(-(int)Errno.ENOTDIR));

        string large = Path.GetTempFileName();
        byte[] bytes = new byte[3_000_001];
        new Random(1).NextBytes(bytes);
        File.WriteAllBytes(large, bytes);
        Assert.That(Platform.ReadProcFile(large, out _), Is.EqualTo(bytes));
        File.Delete(large);
    }
}

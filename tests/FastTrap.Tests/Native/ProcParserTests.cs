using System.Text;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>The texts of /proc: recorded ones, real ones, hostile ones.</summary>
[TestFixture]
internal sealed class ProcParserTests
{
    private const string Maps =
        "00400000-00401000 r--p 00000000 fd:01 131  /usr/bin/a b  c\n"
        + "00401000-00402000 r-xp 00001000 fd:01 131  /usr/bin/a b  c\n"
        + "7f0000000000-7f0000021000 rw-s 00000000 00:05 9999   /memfd:x (deleted)\n"
        + "7f1000000000-7f1000001000 ---p 00000000 00:00 0 \n"
        + "7f2000000000-7f2000001000 rwxp abcdef000 103:fffff 18446744073709551615 /tmp/new\\012line\\134 (deleted) (deleted)\n"
        + "7f3000000000-7f3000001000 rw-p 00000000 00:00 0    [anon: a (deleted)]\n"
        + "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n"
        + "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]";

    private const string Status =
        "Name:\ta b\\n)\nUmask:\t0022\nState:\tt (tracing stop)\nTgid:\t77\nNgid:\t0\nPid:\t78\nPPid:\t1\nTracerPid:\t55\nUid:\t1000\t1001\t1002\t4294967295\n"
        + "NStgid:\t77\t2\nNSpid:\t78\t3\t1\nVmPeak:\t  100 kB\nVmSize:\t  99 kB\nThreads:\t4\nSigQ:\t0/3\nSigPnd:\t0000000040000000\nSigBlk:\tfffffffe7ffbfeff\nSigIgn:\t0000000000001000\n"
        + "SigCgt:\t0000000180000002\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    [Test]
    public void MapsOfEveryKind()
    {
        List<MemoryRegion> regions = ProcMaps.Parse(Encoding.UTF8.GetBytes(Maps));
        Assert.That(regions, Is.EqualTo(new MemoryRegion[]
        {
            new(0x400000, 0x401000, MemoryAccess.Read, 0, 0xfd, 1, 131, "/usr/bin/a b  c", false),
            new(0x401000, 0x402000, MemoryAccess.Read | MemoryAccess.Execute, 0x1000, 0xfd, 1, 131, "/usr/bin/a b  c", false),
            new(0x7f0000000000, 0x7f0000021000, MemoryAccess.Read | MemoryAccess.Write | MemoryAccess.Shared, 0, 0, 5, 9999, "/memfd:x", true),
            new(0x7f1000000000, 0x7f1000001000, MemoryAccess.None, 0, 0, 0, 0, "", false),
            new(0x7f2000000000, 0x7f2000001000, (MemoryAccess)7, 0xabcdef000, 0x103, 0xfffff, ulong.MaxValue, "/tmp/new\nline\\134 (deleted)", true),
            new(0x7f3000000000, 0x7f3000001000, (MemoryAccess)3, 0, 0, 0, 0, "[anon: a (deleted)]", false),
            new(0x7ffc00000000, 0x7ffc00021000, (MemoryAccess)3, 0, 0, 0, 0, "[stack]", false),
            new(0xffffffffff600000, 0xffffffffff601000, MemoryAccess.Execute, 0, 0, 0, 0, "[vsyscall]", false),
        }));
        Assert.That(regions[1].Path, Is.SameAs(regions[0].Path));
        Assert.That((regions[0].Contains(0x400fff), regions[0].Contains(0x401000), regions[0].Length), Is.EqualTo((true, false, 0x1000UL)));
    }

    [TestCase("")]
    [TestCase("\n\n\n")]
    [TestCase("garbage")]
    [TestCase("1000-1000 r--p 0 0:0 0")]
    [TestCase("2000-1000 r--p 0 0:0 0")]
    [TestCase("-1000 r--p 0 0:0 0")]
    [TestCase("1000- r--p 0 0:0 0")]
    [TestCase("1000-2000 r-- 0 0:0 0")]
    [TestCase("1000-2000 r--p 0 00 0")]
    [TestCase("1000-2000 r--p 0 0:100000000 0")]
    [TestCase("1000-2000 r--p 0 0:0 -1")]
    [TestCase("1000-2000 r--p 0 0:0 18446744073709551616")]
    [TestCase("10000000000000000-20000000000000000 r--p 0 0:0 0")]
    [TestCase("1000-2000 r--p 0 0:0")]
    public void LinesOfAnotherFormAreLeftOut(string line)
    {
        Assert.That(ProcMaps.Parse(Encoding.UTF8.GetBytes(line)), Is.Empty);
        List<MemoryRegion> regions = ProcMaps.Parse(Encoding.UTF8.GetBytes($"1000-3000 r--p 0 0:0 0\n{line}\n3000-4000 r--p 0 0:0 0 \n2000-5000 r--p 0 0:0 0 [overlaps]\n"));
        Assert.That(regions.Select(static r => r.Start), Is.EqualTo(new ulong[] { 0x1000, 0x3000 }));
    }

    [Test]
    public void EveryTruncationAndCorruptionEndsWithoutAnException()
    {
        Random random = new(7);
        foreach (string recorded in new[] { Maps, Status, "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22", "0 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8\n" })
        {
            byte[] bytes = Encoding.UTF8.GetBytes(recorded);
            for (int i = 0; i <= bytes.Length; i++)
            {
                ParseAll(bytes.AsSpan(0, i));
                byte[] broken = [.. bytes];
                for (int j = 0; j < 5; j++)
                {
                    broken[random.Next(broken.Length)] = (byte)random.Next(256);
                }

                ParseAll(broken);
            }
        }

        static void ParseAll(ReadOnlySpan<byte> text)
        {
            Assert.That(ProcMaps.Parse(text), Has.Count.LessThanOrEqualTo(9));
            Assert.That(ProcStatus.Parse(text), Is.Not.Null);
            _ = ProcStat.TryParse(text, out _);
            _ = ProcSystemCall.TryParse(text, out _);
            _ = Auxv.Parse(text);
        }
    }

    [Test]
    public void StatusFields()
    {
        ProcStatus status = ProcStatus.Parse(Encoding.UTF8.GetBytes(Status));
        Assert.That(status.Name, Is.EqualTo("a b\\n)"));
        Assert.That((status.State, status.Tgid, status.PPid, status.TracerPid, status.Threads), Is.EqualTo(('t', 77, 1, 55, 4)));
        Assert.That((status.RealUid, status.EffectiveUid, status.SavedUid, status.FileSystemUid), Is.EqualTo((1000u, 1001u, 1002u, uint.MaxValue)));
        Assert.That(status.SigPnd, Is.EqualTo(Signal.Bit(Signal.SIGSYS)));
        Assert.That((status.SigBlk, status.SigIgn, status.SigCgt), Is.EqualTo((0xfffffffe7ffbfeffUL, 0x1000UL, 0x180000002UL)));
        Assert.That((status.NoNewPrivs, status.Seccomp), Is.EqualTo((true, 2)));
        Assert.That(status.NSpid, Is.EqualTo(new[] { 78, 3, 1 }));
        Assert.That((status.HasAddressSpace, status.IsKernelThread, status.IsZombie), Is.EqualTo((true, false, false)));
        status = ProcStatus.Parse("Name:\tkthreadd\nState:\tS (sleeping)\n"u8);
        Assert.That((status.HasAddressSpace, status.IsKernelThread), Is.EqualTo((false, true)));
        status = ProcStatus.Parse("Name:\tx\nState:\tZ (zombie)\n"u8);
        Assert.That((status.IsKernelThread, status.IsZombie), Is.EqualTo((false, true)));
    }

    [TestCase("x86_Thread_features:\tshstk wrss \n", true)]
    [TestCase("x86_Thread_features:\t\n", false)]
    [TestCase("Name:\tshstk\n", false)]
    public void ShadowStackIsSeenInTheThreadsFeatures(string text, bool expected) =>
        Assert.That(ProcStatus.Parse(Encoding.UTF8.GetBytes(text)).HasShadowStack, Is.EqualTo(expected));

    [TestCase("0-3,8", new[] { 0, 1, 2, 3, 8 })]
    [TestCase("5", new[] { 5 })]
    [TestCase("7-6,x,-1-1,8190-99999999", new[] { 8190, 8191 })]
    public void AllowedCpus(string list, int[] expected) =>
        Assert.That(ProcStatus.Parse(Encoding.UTF8.GetBytes($"Cpus_allowed:\tf\nCpus_allowed_list:\t{list}\n")).AllowedCpus, Is.EqualTo(expected));

    [Test]
    public void StatBehindAHostileName()
    {
        Assert.That(ProcStat.TryParse("12 (a) R 1 (\n) S 34 5 6 7 8 2097152 1 2 3 4 5 6 7 8 9 10 11 12 987654321 5 6\n"u8, out ProcStat stat));
        Assert.That((stat.State, stat.ParentProcessId, stat.Flags, stat.StartTime), Is.EqualTo(('S', 34, 0x200000u, 987654321UL)));
        Assert.That(stat.IsKernelThread);
        Assert.That(stat.Processor, Is.EqualTo(-1));
        string fields = string.Join(' ', Enumerable.Range(4, 49).Select(field => $"{field * 100}"));
        Assert.That(ProcStat.TryParse(Encoding.UTF8.GetBytes($"12 (a) S {fields}\n"), out stat));
        Assert.That((stat.Processor, stat.RealTimePriority), Is.EqualTo((3900, 4000)));
        Assert.That(ProcStat.TryParse("12 (a) S 34 5 6"u8, out _), Is.False);
        Assert.That(ProcStat.TryParse("12 a S 34 5 6"u8, out _), Is.False);
    }

    [Test]
    public void SystemCallInItsThreeForms()
    {
        Assert.That(ProcSystemCall.TryParse("running\n"u8, out ProcSystemCall call));
        Assert.That(call.IsRunning);
        Assert.That(ProcSystemCall.TryParse("-1 0x7ffe 0x401000\n"u8, out call));
        Assert.That((call.IsRunning, call.Number, call.StackPointer, call.ProgramCounter), Is.EqualTo((false, -1L, 0x7ffeUL, 0x401000UL)));
        Assert.That(ProcSystemCall.TryParse("257 0xffffff9c 0x1 0x2 0x3 0x4 0xffffffffffffffff 0x7ffe 0x401000\n"u8, out call));
        Assert.That((call.Number, call.GetArgument(0), call.GetArgument(5), call.ProgramCounter), Is.EqualTo((257L, 0xffffff9cUL, ulong.MaxValue, 0x401000UL)));
        Assert.That(ProcSystemCall.TryParse("257 0x1 0x2\n"u8, out _), Is.False);
        Assert.That(ProcSystemCall.TryParse(""u8, out _), Is.False);
    }

    [Test]
    public void AuxvEndsAtItsEnd()
    {
        ulong[] words = [33, 0x7fff0000, 9, 0x401000, 3, 0x400040, 5, 13, 7, 0x7f0000000000, 99, 1, 0, 0, 9, 0xbad];
        byte[] bytes = new byte[(words.Length * 8) + 3];
        Buffer.BlockCopy(words, 0, bytes, 0, words.Length * 8);
        Assert.That(Auxv.Parse(bytes), Is.EqualTo(new Auxv(0x401000, 0x7fff0000, 0x7f0000000000, 0x400040, 13)));
    }

    [Test]
    public void TheTestsOwnProcess()
    {
        LinuxPlatform platform = LinuxPlatform.Instance;
        int self = Environment.ProcessId;
        Assert.That(ProcMaps.TryRead(platform, self, out List<MemoryRegion> regions, out _));
        Assert.That(regions.Select(static r => r.Path), Does.Contain("[stack]"));
        Assert.That(ProcStatus.TryRead(platform, self, out ProcStatus? status, out _));
        Assert.That((status!.Tgid, status.HasAddressSpace, status.NSpid.Count), Is.EqualTo((self, true, 1)));
        Assert.That(ProcStatus.TryReadThread(platform, self, platform.CurrentThreadId, out status, out _));
        Assert.That(status!.Tgid, Is.EqualTo(self));
        List<int> threads = [];
        Assert.That(ProcTasks.TryRead(platform, self, threads, out _));
        Assert.That(threads, Does.Contain(self).And.Contain(platform.CurrentThreadId));
        Assert.That(Auxv.TryRead(platform, self, out Auxv auxv, out _));
        Assert.That(regions.Find(r => r.Contains(auxv.Entry)).Path, Is.EqualTo(Environment.ProcessPath));
        Assert.That(regions.Find(r => r.Contains(auxv.SystemInfoHeader)).Path, Is.EqualTo("[vdso]"));
        Assert.That(platform.OpenFile(Environment.ProcessPath!, out TargetFile? file), Is.EqualTo(Errno.None));
        using (file)
        {
            MemoryRegion program = regions.Find(r => r.Contains(auxv.Entry));
            Assert.That((program.Device, program.Inode), Is.EqualTo((file!.Identity.Device, file.Identity.Inode)));
        }

        Assert.That(ProcMaps.TryRead(platform, 0x7ffffff0, out _, out Errno error), Is.False);
        Assert.That(error, Is.EqualTo(Errno.ENOENT));
        Assert.That(ProcTasks.TryRead(platform, 0x7ffffff0, threads, out error), Is.False);
        Assert.That(error, Is.EqualTo(Errno.ENOENT));
    }
}

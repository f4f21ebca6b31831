using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>Reading and writing a target's memory.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class MemoryTests
{
    private const int PageLength = 4096;

    private static LinuxPlatform Platform => LinuxPlatform.Instance;

    [Test]
    public void ReadsAndWritesDataOfARunningTarget() => OnMemoryTarget((target, numbers, constant) =>
    {
        Span<ulong> value = stackalloc ulong[2];
        Assert.That(Platform.ReadMemory(target.Pid, numbers + 8, MemoryMarshal.AsBytes(value)), Is.EqualTo(16));
        Assert.That(value.ToArray(), Is.EqualTo(new ulong[] { 0x1000001, 0x1000002 }));
        Assert.That(Platform.ReadMemory(target.Pid, constant, MemoryMarshal.AsBytes(value[..1])), Is.EqualTo(8));
        Assert.That(value[0], Is.EqualTo(0x1122334455667788));
        Assert.That(Platform.WriteMemory(target.Pid, constant, MemoryMarshal.AsBytes(value[..1])), Is.EqualTo(-(int)Errno.EFAULT), "read-only data");
        value[0] = 77;
        Assert.That(Platform.WriteMemory(target.Pid, numbers + 8, MemoryMarshal.AsBytes(value[..1])), Is.EqualTo(8));
        value[0] = 42;
        Assert.That(Platform.WriteMemory(target.Pid, numbers, MemoryMarshal.AsBytes(value[..1])), Is.EqualTo(8));
        Assert.That(target.Next().ExitCode, Is.Zero);
        Assert.That(target.Output, Does.EndWith("changed 77\n"));
    });

    [Test]
    public void AMissingPageGivesAShortRead() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("memory");
        ulong end = LastPageBeforeAHole(target.Pid);
        byte[] buffer = new byte[3 * PageLength];
        Assert.That(Platform.ReadMemory(target.Pid, end - 100, buffer), Is.EqualTo(100));
        Assert.That(Platform.ReadMemory(target.Pid, end, buffer), Is.EqualTo(-(int)Errno.EFAULT));
        Assert.That(Platform.ReadMemory(target.Pid, 0, buffer), Is.EqualTo(-(int)Errno.EFAULT));
        Assert.That(Platform.ReadMemory(target.Pid, end, []), Is.Zero);
        Assert.That(Platform.ReadMemory(0x7ffffff0, end, buffer), Is.EqualTo(-(int)Errno.ESRCH));
    });

    [Test]
    public void ABatchReadsAroundEveryMissingPiece() => OnMemoryTarget((target, numbers, _) =>
    {
        const int Count = 3000;
        ulong hole = LastPageBeforeAHole(target.Pid);
        ulong[] addresses = new ulong[Count];
        for (int i = 0; i < Count; i++)
        {
            // The last one begins in readable memory and ends in the hole.
            addresses[i] = IsBad(i) ? (i % 2 == 0 ? 0 : hole - 8) : numbers + ((ulong)i * 8);
        }

        ulong[] values = new ulong[Count * 2];
        Array.Fill(values, ulong.MaxValue);
        bool[] ok = new bool[Count];
        Array.Fill(ok, true);
        Platform.ReadMemoryBatch(target.Pid, addresses, 16, MemoryMarshal.AsBytes(values.AsSpan()), ok);
        for (int i = 0; i < Count; i++)
        {
            ulong[] expected = IsBad(i) ? [0, 0] : [0x1000000 + (ulong)i, 0x1000001 + (ulong)i];
            Assert.That((ok[i], values[2 * i], values[(2 * i) + 1]), Is.EqualTo((!IsBad(i), expected[0], expected[1])), $"piece {i}");
        }

        Platform.ReadMemoryBatch(0x7ffffff0, addresses, 16, MemoryMarshal.AsBytes(values.AsSpan()), ok);
        Assert.That(ok, Is.All.False);
        Assert.That(values, Is.All.Zero);

        // The first and last of all, the first and last of a system call, neighbours.
        static bool IsBad(int i) => i is 0 or 1 or 500 or 501 or 1023 or 1024 or 1025 or 2047 or 2048 or Count - 1;
    });

    [Test]
    public void WriteCodeWritesReadOnlyTextAndTheTargetRunsIt() => SpawnedTarget.OnThread(() =>
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("The trap is x86-64's.");
        }

        using SpawnedTarget target = new("environment");
        Assert.That(Auxv.TryRead(Platform, target.Pid, out Auxv auxv, out _));
        Assert.That(Platform.OpenMemory(target.Pid, out TargetMemory memory), Is.EqualTo(Errno.None));
        using (memory)
        {
            byte[] trap = [0xcc];
            byte[] original = new byte[1];
            byte[] now = new byte[1];
            Assert.That(Platform.WriteMemory(target.Pid, auxv.Entry, trap), Is.EqualTo(-(int)Errno.EFAULT), "the oracle: the text is read-only");
            Assert.That(Platform.ReadCode(memory, auxv.Entry, original), Is.EqualTo(1));
            Assert.That(Platform.WriteCode(memory, auxv.Entry, trap), Is.EqualTo(1));
            Assert.That(Platform.ReadMemory(target.Pid, auxv.Entry, now), Is.EqualTo(1));
            Assert.That(now, Is.EqualTo(trap));
            Platform.Continue(target.Pid, 0);
            Assert.That(target.Next().StopSignal, Is.EqualTo(Signal.SIGTRAP));
            Assert.That(Platform.GetSignalInfo(target.Pid, out SignalInfo info), Is.EqualTo(Errno.None));
            Assert.That((info.si_signo, info.si_code, info.IsSynchronous), Is.EqualTo((Signal.SIGTRAP, SignalInfo.SI_KERNEL, true)));
            RegisterSet registers = target.Registers();
            Assert.That(registers.ProgramCounter, Is.EqualTo(auxv.Entry + 1));
            Assert.That(Platform.WriteCode(memory, auxv.Entry, original), Is.EqualTo(1));
            registers.ProgramCounter = auxv.Entry;
            Assert.That(Platform.SetRegisters(target.Pid, in registers), Is.EqualTo(Errno.None));
            Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
            Assert.That(Platform.ReadCode(memory, auxv.Entry, now), Is.LessThanOrEqualTo(0), "the address space is gone");
        }

        Assert.That(Platform.ReadCode(memory, auxv.Entry, new byte[1]), Is.EqualTo(-(int)Errno.EBADF));
        Assert.That(Platform.OpenMemory(0x7ffffff0, out _), Is.EqualTo(Errno.ENOENT));
    });

    [Test, NonParallelizable]
    public void TheHitPathAllocatesNothing() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        Assert.That(Auxv.TryRead(Platform, target.Pid, out Auxv auxv, out _));
        Assert.That(Platform.OpenMemory(target.Pid, out TargetMemory memory), Is.EqualTo(Errno.None));
        RegisterSet registers = target.Registers();
        byte[] buffer = new byte[64];
        ulong[] addresses = [auxv.Entry, 0, auxv.Entry];
        bool[] ok = new bool[3];
        long before = 0;
        for (int i = 0; i < 200; i++)
        {
            if (i == 100)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }

            Platform.Interrupt(target.Pid);
            Platform.Continue(target.Pid, 0);
            Platform.Wait(target.Pid, true, out _);
            Platform.GetRegisters(target.Pid, ref registers);
            Platform.SetRegisters(target.Pid, in registers);
            Platform.GetSignalInfo(target.Pid, out _);
            Platform.GetSignalMask(target.Pid, out ulong mask);
            Platform.SetSignalMask(target.Pid, mask);
            Platform.ReadMemory(target.Pid, auxv.Entry, buffer);
            Platform.WriteMemory(target.Pid, registers.StackPointer - 4096, buffer);
            Platform.ReadMemoryBatch(target.Pid, addresses, 16, buffer, ok);
            Platform.ReadCode(memory, auxv.Entry, buffer.AsSpan(0, 1));
            Platform.WriteCode(memory, auxv.Entry, buffer.AsSpan(0, 1));
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        memory.Dispose();
    });

    private static void OnMemoryTarget(Action<SpawnedTarget, ulong, ulong> action) => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("memory");
        Platform.Continue(target.Pid, 0);
        Until.True(() => target.Output.EndsWith('\n'), "it is ready");
        ulong[] addresses = [.. target.Output.Split(' ').Skip(1).Select(static w => ulong.Parse(w.Trim()[2..], NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
        action(target, addresses[0], addresses[1]);
    });

    private static ulong LastPageBeforeAHole(int pid)
    {
        Assert.That(ProcMaps.TryRead(Platform, pid, out List<MemoryRegion> regions, out _));
        for (int i = 0; i + 1 < regions.Count; i++)
        {
            if (regions[i].IsReadable && regions[i + 1].Start > regions[i].End && regions[i].Inode != 0)
            {
                return regions[i].End;
            }
        }

        throw new InvalidOperationException("No hole.");
    }
}

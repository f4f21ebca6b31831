using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>Ptrace and wait.</summary>
internal sealed partial class GuestPlatform
{
    private const int SYS_ptrace = 117;
    private const int SYS_wait4 = 260;
    private const int VectorLength = 16;

    public Errno Seize(int threadId, PtraceOptions options) => Ptrace(PtraceRequest.PTRACE_SEIZE, threadId, 0, (ulong)options);

    public Errno Interrupt(int threadId) => Ptrace(PtraceRequest.PTRACE_INTERRUPT, threadId, 0, 0);

    public Errno Listen(int threadId) => Ptrace(PtraceRequest.PTRACE_LISTEN, threadId, 0, 0);

    public Errno Continue(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_CONT, threadId, 0, (ulong)signal);

    public Errno ContinueToSystemCall(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_SYSCALL, threadId, 0, (ulong)signal);

    public Errno SingleStep(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_SINGLESTEP, threadId, 0, (ulong)signal);

    public Errno Detach(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_DETACH, threadId, 0, (ulong)signal);

    public Errno GetRegisters(int threadId, ref RegisterSet registers)
    {
        int length = GetRegisterSet(threadId, PtraceRequest.NT_PRSTATUS, MemoryMarshal.AsBytes(registers.Words)[..registers.Length]);
        return length < 0 ? (Errno)(-length) : length == registers.Length ? Errno.None : Errno.EINVAL;
    }

    public Errno SetRegisters(int threadId, in RegisterSet registers) =>
        SetRegisterSet(threadId, PtraceRequest.NT_PRSTATUS, MemoryMarshal.AsBytes(Unsafe.AsRef(in registers).Words)[..registers.Length]);

    public Errno SetChangedRegisters(int threadId, in RegisterSet registers, in RegisterSet current) => SetRegisters(threadId, registers);

    public int GetRegisterSet(int threadId, int noteType, Span<byte> buffer)
    {
        GuestChannel channel = link.OfThread;
        channel.Begin()
            .Write(0, Words(channel.Address(VectorLength), (ulong)buffer.Length))
            .Call(SYS_ptrace, PtraceRequest.PTRACE_GETREGSET, (ulong)threadId, (ulong)noteType, channel.Address(0))
            .Read(0, VectorLength)
            .Read(VectorLength, buffer.Length)
            .Exchange();
        long result = channel.TakeResult();
        int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(channel.Take(VectorLength)[sizeof(ulong)..]);
        if (result < 0)
        {
            return (int)result;
        }

        channel.Take(length).CopyTo(buffer);
        return length;
    }

    public Errno SetRegisterSet(int threadId, int noteType, ReadOnlySpan<byte> buffer)
    {
        GuestChannel channel = link.OfThread;
        return Check(channel.Begin()
            .Write(0, Words(channel.Address(VectorLength), (ulong)buffer.Length))
            .Write(VectorLength, buffer)
            .Call(SYS_ptrace, PtraceRequest.PTRACE_SETREGSET, (ulong)threadId, (ulong)noteType, channel.Address(0))
            .Exchange().TakeResult());
    }

    public Errno GetSignalInfo(int threadId, out SignalInfo info)
    {
        info = default;
        return Get(PtraceRequest.PTRACE_GETSIGINFO, threadId, 0, MemoryMarshal.AsBytes(new Span<SignalInfo>(ref info)));
    }

    public Errno SetSignalInfo(int threadId, in SignalInfo info) =>
        Set(PtraceRequest.PTRACE_SETSIGINFO, threadId, 0, MemoryMarshal.AsBytes(new ReadOnlySpan<SignalInfo>(in info)));

    public Errno GetSignalMask(int threadId, out ulong mask)
    {
        mask = 0;
        return Get(PtraceRequest.PTRACE_GETSIGMASK, threadId, sizeof(ulong), MemoryMarshal.AsBytes(new Span<ulong>(ref mask)));
    }

    public Errno SetSignalMask(int threadId, ulong mask) => Set(PtraceRequest.PTRACE_SETSIGMASK, threadId, sizeof(ulong), Words(mask));

    public Errno GetEventMessage(int threadId, out ulong message)
    {
        message = 0;
        return Get(PtraceRequest.PTRACE_GETEVENTMSG, threadId, 0, MemoryMarshal.AsBytes(new Span<ulong>(ref message)));
    }

    /// <summary>For guards only, which there are none of on arm64.</summary>
    public int Peek(int threadId, bool block, out WaitStatus status) => throw new NotSupportedException();

    public int Wait(int threadId, bool block, out WaitStatus status)
    {
        const ulong WNOHANG = 1;
        const ulong AllOfThisThread = 0x4000_0000 | 0x2000_0000; // __WALL, __WNOTHREAD
        GuestChannel channel = link.OfThread;
        channel.Begin()
            .Write(0, Words(0))
            .Call(SYS_wait4, (ulong)threadId, channel.Address(0), AllOfThisThread | (block ? 0 : WNOHANG), 0)
            .Read(0, sizeof(int))
            .Exchange(isEndless: block);
        int id = (int)channel.TakeResult();
        status = new WaitStatus(BinaryPrimitives.ReadInt32LittleEndian(channel.Take(sizeof(int))));
        return id;
    }

    private Errno Ptrace(int request, int threadId, ulong address, ulong data) => Check(Call(SYS_ptrace, (ulong)request, (ulong)threadId, address, data));

    private Errno Get(int request, int threadId, ulong address, Span<byte> into)
    {
        GuestChannel channel = link.OfThread;
        Errno error = Check(channel.Begin()
            .Call(SYS_ptrace, (ulong)request, (ulong)threadId, address, channel.Address(0))
            .Read(0, into.Length)
            .Exchange().TakeResult());
        if (error == Errno.None)
        {
            channel.Take(into.Length).CopyTo(into);
        }

        return error;
    }

    private Errno Set(int request, int threadId, ulong address, ReadOnlySpan<byte> from)
    {
        GuestChannel channel = link.OfThread;
        return Check(channel.Begin()
            .Write(0, from)
            .Call(SYS_ptrace, (ulong)request, (ulong)threadId, address, channel.Address(0))
            .Exchange().TakeResult());
    }
}

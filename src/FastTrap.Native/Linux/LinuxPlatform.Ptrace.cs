using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>Ptrace and wait. Nothing here allocates.</summary>
internal sealed unsafe partial class LinuxPlatform
{
    public Errno Seize(int threadId, PtraceOptions options) => Ptrace(PtraceRequest.PTRACE_SEIZE, threadId, 0, (nint)options);

    public Errno Interrupt(int threadId) => Ptrace(PtraceRequest.PTRACE_INTERRUPT, threadId, 0, 0);

    public Errno Listen(int threadId) => Ptrace(PtraceRequest.PTRACE_LISTEN, threadId, 0, 0);

    public Errno Continue(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_CONT, threadId, 0, signal);

    public Errno ContinueToSystemCall(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_SYSCALL, threadId, 0, signal);

    public Errno SingleStep(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_SINGLESTEP, threadId, 0, signal);

    public Errno Detach(int threadId, int signal) => Ptrace(PtraceRequest.PTRACE_DETACH, threadId, 0, signal);

    public Errno GetRegisters(int threadId, ref RegisterSet registers)
    {
        fixed (ulong* words = registers.Words)
        {
            int length = TransferRegisterSet(PtraceRequest.PTRACE_GETREGSET, threadId, PtraceRequest.NT_PRSTATUS, words, registers.Length);
            return length < 0 ? (Errno)(-length) : length == registers.Length ? Errno.None : Errno.EINVAL;
        }
    }

    public Errno SetRegisters(int threadId, in RegisterSet registers)
    {
        fixed (ulong* words = Unsafe.AsRef(in registers).Words)
        {
            int length = TransferRegisterSet(PtraceRequest.PTRACE_SETREGSET, threadId, PtraceRequest.NT_PRSTATUS, words, registers.Length);
            return length < 0 ? (Errno)(-length) : Errno.None;
        }
    }

    public Errno SetChangedRegisters(int threadId, in RegisterSet registers, in RegisterSet current)
    {
        // Only x86-64 has the request for one register; it takes a third of the time that all of them take.
        const int Limit = 2;
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64 || registers.Architecture != Architecture.X64
            || current.Architecture != Architecture.X64)
        {
            return SetRegisters(threadId, registers);
        }

        ReadOnlySpan<ulong> now = Unsafe.AsRef(in registers).Words[..RegisterSet.X64WordCount];
        ReadOnlySpan<ulong> before = Unsafe.AsRef(in current).Words[..RegisterSet.X64WordCount];
        Span<int> changed = stackalloc int[Limit];
        int count = 0;
        for (int word = now.CommonPrefixLength(before); word < now.Length; word += 1 + now[(word + 1)..].CommonPrefixLength(before[(word + 1)..]))
        {
            if (count == Limit)
            {
                return SetRegisters(threadId, registers);
            }

            changed[count++] = word;
        }

        foreach (int word in changed[..count])
        {
            // struct user (sys/user.h) begins with the registers.
            Errno error = Ptrace(PtraceRequest.PTRACE_POKEUSER, threadId, word * sizeof(ulong), (nint)now[word]);
            if (error != Errno.None)
            {
                return error;
            }
        }

        return Errno.None;
    }

    public int GetRegisterSet(int threadId, int noteType, Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            return TransferRegisterSet(PtraceRequest.PTRACE_GETREGSET, threadId, noteType, bytes, buffer.Length);
        }
    }

    public Errno SetRegisterSet(int threadId, int noteType, ReadOnlySpan<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            int length = TransferRegisterSet(PtraceRequest.PTRACE_SETREGSET, threadId, noteType, bytes, buffer.Length);
            return length < 0 ? (Errno)(-length) : Errno.None;
        }
    }

    public Errno GetSignalInfo(int threadId, out SignalInfo info)
    {
        info = default;
        fixed (SignalInfo* pointer = &info)
        {
            return Ptrace(PtraceRequest.PTRACE_GETSIGINFO, threadId, 0, (nint)pointer);
        }
    }

    public Errno SetSignalInfo(int threadId, in SignalInfo info)
    {
        fixed (SignalInfo* pointer = &info)
        {
            return Ptrace(PtraceRequest.PTRACE_SETSIGINFO, threadId, 0, (nint)pointer);
        }
    }

    public Errno GetSignalMask(int threadId, out ulong mask)
    {
        mask = 0;
        fixed (ulong* pointer = &mask)
        {
            return Ptrace(PtraceRequest.PTRACE_GETSIGMASK, threadId, sizeof(ulong), (nint)pointer);
        }
    }

    public Errno SetSignalMask(int threadId, ulong mask) => Ptrace(PtraceRequest.PTRACE_SETSIGMASK, threadId, sizeof(ulong), (nint)(&mask));

    public Errno GetEventMessage(int threadId, out ulong message)
    {
        message = 0;
        fixed (ulong* pointer = &message)
        {
            return Ptrace(PtraceRequest.PTRACE_GETEVENTMSG, threadId, 0, (nint)pointer);
        }
    }

    public int Wait(int threadId, bool block, out WaitStatus status)
    {
        if (block)
        {
            AdmitWakeSignal();
        }

        int word = 0;
        int options = LibC.__WALL | LibC.__WNOTHREAD | (block ? 0 : LibC.WNOHANG);

        // One that may sleep is made once: after EINTR the caller must look around first.
        int id = block ? -1 : LibC.wait4_quick(threadId, &word, options, null);
        if (id < 0)
        {
            id = LibC.wait4(threadId, &word, options, null);
        }

        status = new WaitStatus(word);
        return id >= 0 ? id : -(int)LibC.LastError;
    }

    public int Peek(int threadId, bool block, out WaitStatus status)
    {
        if (block)
        {
            AdmitWakeSignal();
        }

        SignalInfo info = default;
        int options = LibC.WEXITED | LibC.WNOWAIT | LibC.__WALL | LibC.__WNOTHREAD | (block ? 0 : LibC.WNOHANG);
        int error = LibC.waitid(threadId < 0 ? LibC.P_ALL : LibC.P_PID, Math.Max(threadId, 0), &info, options);
        status = new WaitStatus(error == 0 && info.si_code == LibC.CLD_TRAPPED ? (info.si_status << 8) | 0x7f : 0);
        return error == 0 ? info.si_pid : -(int)LibC.LastError;
    }

    /// <summary>Nothing changes when a request that failed is made again, for its error number.</summary>
    private static Errno Ptrace(int request, int threadId, nint address, nint data) =>
        LibC.ptrace_quick(request, threadId, address, data) != -1 ? Errno.None : Check(LibC.ptrace(request, threadId, address, data));

    private static int TransferRegisterSet(int request, int threadId, int noteType, void* buffer, int length)
    {
        IoVector vector = new() { iov_base = (ulong)buffer, iov_len = (nuint)length };
        Errno error = Ptrace(request, threadId, noteType, (nint)(&vector));
        return error == Errno.None ? (int)vector.iov_len : -(int)error;
    }
}

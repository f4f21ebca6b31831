using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>
/// Makes a stopped thread of the target do one system call, and puts everything back.
/// </summary>
/// <remarks>
/// <para>
/// The thread must stand in a stop from which it goes on to the kernel's signal handling: the signal-delivery-stop of a trap, a
/// PTRACE_EVENT_STOP or a PTRACE_EVENT_EXEC, CLONE or FORK stop; not in a VFORK stop, from which it sleeps on. Its options include
/// TRACESYSGOOD. A signal it was about to be delivered is the caller's, as it is after any stop: it cannot be injected where the thread
/// stands afterwards, so it must be sent again.
/// </para>
/// <para>
/// Afterwards the thread stands in a PTRACE_EVENT_STOP with all registers as before. On x86-64 those include the mark of an interrupted
/// system call (a restart code in rax, the number in orig_rax), by which the kernel restarts it when the thread goes on. It acts on the
/// mark only while the thread leaves its signal handling, which is why the thread is brought there to restore. On arm64 the kernel has
/// rewound such a call before the stop; a relative sleep then starts anew with its full time.
/// </para>
/// <para>
/// All signals but synchronous ones are blocked meanwhile, so they wait in the kernel. What still comes (SIGSTOP) is taken out and given
/// to the caller, who must send it again.
/// </para>
/// <para>
/// On arm64 a system call loses what SVE registers hold beyond 128 bits, and all predicates: they are kept and restored where the thread uses them.
/// </para>
/// <para>
/// A tracer that is killed leaves the thread with our registers. So on x86-64, where the target has the instructions (<see cref="EscapeRoute"/>), the call is made in front of a signal frame of the thread as it is
/// (<see cref="X64SignalFrame"/>): left alone, it returns into that and goes on as if nothing had been.
/// </para>
/// <para>
/// Not for a thread inside an rseq critical section: the kernel forgets the section when it sees the thread elsewhere. A thread in a
/// system call is never in one.
/// </para>
/// </remarks>
internal ref struct RemoteSystemCall
{
    private const int MaximalArguments = 6;

    /// <summary>More unexpected stops in a row than this, and something is wrong.</summary>
    private const int MaximalStops = 1000;

    private const int SYS_SECCOMP = 1;

    /// <summary>Polls between two looks whether the thread still lives.</summary>
    private const int PollsPerLook = 64;

    /// <summary>int3.</summary>
    private const byte TrapInstruction = 0xcc;

    private static readonly ulong s_asynchronousSignals = ~(Signal.Bit(Signal.SIGSEGV)
        | Signal.Bit(Signal.SIGBUS)
        | Signal.Bit(Signal.SIGILL)
        | Signal.Bit(Signal.SIGFPE)
        | Signal.Bit(Signal.SIGSYS));

    private readonly IPlatform _platform;
    private readonly RemoteThread _thread;
    private readonly List<SignalInfo> _held;
    private WaitStatus _lastStatus;
    private bool _isTrappedByFilter;

    private RemoteSystemCall(IPlatform platform, in RemoteThread thread, List<SignalInfo> held)
    {
        _platform = platform;
        _thread = thread;
        _held = held;
    }

    /// <summary>Does the call.</summary>
    /// <param name="platform">The kernel.</param>
    /// <param name="thread">Who shall make it.</param>
    /// <param name="number">The system call, numbered for the target's architecture.</param>
    /// <param name="arguments">Up to six.</param>
    /// <param name="held">Signals taken out on the way are added to it; the caller sends them again.</param>
    public static RemoteResult Invoke(
        IPlatform platform,
        in RemoteThread thread,
        int number,
        ReadOnlySpan<ulong> arguments,
        List<SignalInfo> held)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(arguments.Length, MaximalArguments, nameof(arguments));
        if (!SystemCallInstruction.IsAt(platform, thread.ProcessId, thread.Architecture, thread.SystemCallAddress))
        {
            return new RemoteResult(Errno.EFAULT, 0, default);
        }

        RemoteSystemCall call = new(platform, in thread, held);
        Errno error = call.Run(number, arguments, out long value);
        return new RemoteResult(error, value, call._lastStatus);
    }

    /// <summary>
    /// From the signal-delivery-stop of an asynchronous signal: gives that signal back to the kernel, with all its details, which keeps it until the thread goes on. The thread
    /// stands in a PTRACE_EVENT_STOP then, and has executed nothing.
    /// </summary>
    /// <param name="platform">The kernel.</param>
    /// <param name="thread">Who stands there.</param>
    /// <param name="signal">Its number.</param>
    /// <param name="held">As for a call.</param>
    /// <param name="last">As for a call.</param>
    public static Errno PutBack(IPlatform platform, in RemoteThread thread, int signal, List<SignalInfo> held, out WaitStatus last)
    {
        RemoteSystemCall call = new(platform, in thread, held);
        Errno error = call.PutBack(signal);
        last = call._lastStatus;
        return error;
    }

    private Errno PutBack(int signal)
    {
        int id = _thread.ThreadId;
        RegisterSet saved = new(_thread.Architecture);
        Errno error = _platform.GetRegisters(id, ref saved);
        if (error != Errno.None || (error = _platform.GetSignalMask(id, out ulong mask)) != Errno.None)
        {
            return error;
        }

        RegisterSet registers = saved;
        if (TryWriteFrame(BeforeTrap(saved, _thread.IsBehindTrap), mask, out ulong frame))
        {
            registers.ProgramCounter = _thread.Escape.RestorerAddress;
            registers[X64Register.Rsp] = frame + sizeof(ulong);
            registers[X64Register.OrigRax] = ulong.MaxValue;
            error = _platform.SetRegisters(id, in registers);
        }

        error = error == Errno.None ? _platform.SetSignalMask(id, s_asynchronousSignals | Signal.Bit(signal)) : error;

        // Delivered to a thread that blocks it, a signal is pending again.
        error = error == Errno.None ? ReachEventStop(signal) : error;
        Errno restoreError = error == Errno.ESRCH ? error : _platform.SetSignalMask(id, mask);
        restoreError = restoreError != Errno.None || frame == 0 ? restoreError : _platform.SetRegisters(id, in saved);
        return restoreError != Errno.None ? restoreError : error;
    }

    /// <summary>A frame by which the thread comes back by itself. False if there cannot be one.</summary>
    private readonly bool TryWriteFrame(in RegisterSet registers, ulong mask, out ulong frame)
    {
        frame = 0;
        return _thread.Escape.IsPresent(_platform, _thread.ProcessId) && X64SignalFrame.TryWrite(_platform, in _thread, registers, mask, out frame);
    }

    private Errno Run(int number, ReadOnlySpan<ulong> arguments, out long value)
    {
        value = 0;
        int id = _thread.ThreadId;
        RegisterSet saved = new(_thread.Architecture);

        // From an exec or clone stop the thread still has to leave that system call, which sets registers.
        bool isAtTrap = _thread.IsBehindTrap && IsAtTrap();
        Errno error = ReachEventStop();
        if (error != Errno.None || (error = _platform.GetRegisters(id, ref saved)) != Errno.None
            || (error = _platform.GetSignalMask(id, out ulong mask)) != Errno.None)
        {
            return error;
        }

        byte[]? vectors = SaveLongVectors();
        RegisterSet registers = saved;
        Prepare(ref registers, number, arguments);
        if (TryWriteFrame(BeforeTrap(saved, isAtTrap), mask, out ulong frame))
        {
            registers.ProgramCounter = _thread.Escape.CallAddress;
            registers[X64Register.Rsp] = frame;
        }

        // The registers first, and last: with them, a thread that nobody stops any more gets its mask back by itself.
        error = _platform.SetRegisters(id, in registers);
        error = error == Errno.None ? _platform.SetSignalMask(id, s_asynchronousSignals) : error;
        if (error == Errno.None)
        {
            error = Execute(number, in registers, out value);
        }

        // Restoring is tried whatever happened; on death it fails with ESRCH, which is the answer then.
        Errno restoreError = error == Errno.ESRCH ? error : ReachEventStop();
        restoreError = restoreError != Errno.None ? restoreError : _platform.SetSignalMask(id, mask);
        restoreError = restoreError != Errno.None || vectors is null ? restoreError : _platform.SetRegisterSet(id, PtraceRequest.NT_ARM_SVE, vectors);
        restoreError = restoreError != Errno.None ? restoreError : _platform.SetRegisters(id, in saved);
        error = restoreError != Errno.None ? restoreError : error;
        return error == Errno.None && _isTrappedByFilter ? Errno.EPERM : error;
    }

    /// <summary>Whether the thread is in the stop that an executed trap made.</summary>
    private readonly bool IsAtTrap() =>
        _platform.GetSignalInfo(_thread.ThreadId, out SignalInfo info) == Errno.None && info.si_signo == Signal.SIGTRAP && info.si_code == SignalInfo.SI_KERNEL;

    /// <summary>
    /// The registers with which a thread comes back by itself: one that has executed a trap, whose signal was taken away or still waits, executes it again, for nobody will lead it from there.
    /// </summary>
    private readonly RegisterSet BeforeTrap(RegisterSet registers, bool isAtTrap)
    {
        Span<byte> before = stackalloc byte[1];
        if (_platform.ReadMemory(_thread.ProcessId, registers.ProgramCounter - 1, before) == 1 && before[0] == TrapInstruction
            && (isAtTrap || _held.Exists(static s => s.si_signo == Signal.SIGTRAP && s.si_code == SignalInfo.SI_KERNEL)
                || (ProcStatus.TryReadThread(_platform, _thread.ProcessId, _thread.ThreadId, out ProcStatus? status, out _) && status!.IsPending(Signal.SIGTRAP))))
        {
            registers.ProgramCounter--;
        }

        return registers;
    }

    /// <summary>The SVE registers of an arm64 thread which uses them (<c>struct user_sve_header</c> and what follows it); null of all others.</summary>
    private readonly byte[]? SaveLongVectors()
    {
        const int HeaderLength = 16;
        const int FlagsOffset = 12;
        const ushort UsesLongVectors = 1; // SVE_PT_REGS_SVE
        if (_thread.Architecture != Architecture.Arm64)
        {
            return null;
        }

        Span<byte> header = stackalloc byte[HeaderLength];
        if (_platform.GetRegisterSet(_thread.ThreadId, PtraceRequest.NT_ARM_SVE, header) != HeaderLength
            || (BinaryPrimitives.ReadUInt16LittleEndian(header[FlagsOffset..]) & UsesLongVectors) == 0)
        {
            return null;
        }

        byte[] vectors = new byte[BinaryPrimitives.ReadInt32LittleEndian(header)];
        return _platform.GetRegisterSet(_thread.ThreadId, PtraceRequest.NT_ARM_SVE, vectors) == vectors.Length ? vectors : null;
    }

    private readonly void Prepare(ref RegisterSet registers, int number, ReadOnlySpan<ulong> arguments)
    {
        registers.ProgramCounter = _thread.SystemCallAddress;
        if (_thread.Architecture == Architecture.X64)
        {
            // Outside any system call: or the kernel would restart the interrupted one here.
            registers[X64Register.OrigRax] = ulong.MaxValue;
            registers[X64Register.Rax] = (ulong)number;
        }
        else
        {
            registers[Arm64Register.X8] = (ulong)number;
        }

        ReadOnlySpan<X64Register> x64 =
            [X64Register.Rdi, X64Register.Rsi, X64Register.Rdx, X64Register.R10, X64Register.R8, X64Register.R9];
        for (int i = 0; i < MaximalArguments; i++)
        {
            ulong argument = i < arguments.Length ? arguments[i] : 0;
            if (_thread.Architecture == Architecture.X64)
            {
                registers[x64[i]] = argument;
            }
            else
            {
                registers[Arm64Register.X0 + i] = argument;
            }
        }
    }

    private Errno Execute(int number, in RegisterSet registers, out long value)
    {
        value = 0;
        int id = _thread.ThreadId;
        Errno error = ReachSystemCallStop();
        if (error != Errno.None)
        {
            return error;
        }

        if (_thread.Architecture == Architecture.Arm64)
        {
            // If the thread was interrupted at this very instruction, the kernel may have put restart_syscall in place of our number.
            Span<byte> word = stackalloc byte[sizeof(int)];
            BinaryPrimitives.WriteInt32LittleEndian(word, number);
            error = _platform.SetRegisterSet(id, PtraceRequest.NT_ARM_SYSTEM_CALL, word);
            if (error != Errno.None)
            {
                return error;
            }
        }

        error = ReachSystemCallStop();
        if (error != Errno.None)
        {
            return error;
        }

        RegisterSet after = registers;
        error = _platform.GetRegisters(id, ref after);
        value = (long)after.ReturnValue;

        // A filter that traps a call leaves in this register what it held at the entry.
        ulong atEntry = _thread.Architecture == Architecture.X64 ? (ulong)number : registers[Arm64Register.X0];
        return error == Errno.None && after.ReturnValue == atEntry ? DropSignalOfFilter() : error;
    }

    /// <summary>Takes away the SIGSYS which a seccomp filter has sent because of our call, if it has: the target's handler must not see it.</summary>
    private Errno DropSignalOfFilter()
    {
        // Not without knowing: with nothing pending, a thread that goes on from here would run.
        if (!ProcStatus.TryReadThread(_platform, _thread.ProcessId, _thread.ThreadId, out ProcStatus? status, out Errno error))
        {
            return error == Errno.ENOENT ? Errno.ESRCH : error;
        }

        bool isPending = status!.IsPending(Signal.SIGSYS);
        for (int i = 0; i < MaximalStops && isPending && error == Errno.None; i++)
        {
            error = _platform.Continue(_thread.ThreadId, 0);
            error = error == Errno.None ? NextStop() : error;
            error = error == Errno.None ? HoldSignal(out _) : error;
            isPending = _lastStatus.Event != PtraceEvent.None || _lastStatus.StopSignal != Signal.SIGSYS;
        }

        return error;
    }

    /// <summary>From any stop to a PTRACE_EVENT_STOP, without running an instruction of the target.</summary>
    private Errno ReachEventStop(int signal = 0)
    {
        Errno error = _platform.Interrupt(_thread.ThreadId);
        for (int i = 0; i < MaximalStops && error == Errno.None; i++)
        {
            error = _platform.Continue(_thread.ThreadId, i == 0 ? signal : 0);
            error = error == Errno.None ? NextStop() : error;
            if (error == Errno.None && _lastStatus.Event == PtraceEvent.Stop)
            {
                return Errno.None;
            }

            error = error == Errno.None ? HoldSignal(out _) : error;
        }

        return error == Errno.None ? Errno.EIO : error;
    }

    private Errno ReachSystemCallStop()
    {
        Errno error = Errno.None;
        for (int i = 0; i < MaximalStops && error == Errno.None; i++)
        {
            error = _platform.ContinueToSystemCall(_thread.ThreadId, 0);
            error = error == Errno.None ? NextStop() : error;
            if (error == Errno.None && _lastStatus.IsSystemCallStop)
            {
                return Errno.None;
            }

            bool isFault = false;
            error = error == Errno.None ? HoldSignal(out isFault) : error;
            if (isFault)
            {
                return Errno.EFAULT;
            }
        }

        return error == Errno.None ? Errno.EIO : error;
    }

    private Errno NextStop()
    {
        // Never sleeping in wait: a leader that was killed is reported only once all other threads of its process have been waited for,
        // which is for the caller to do.
        int waited;
        ShortWait wait = default;
        for (int polls = 1; (waited = _platform.Wait(_thread.ThreadId, block: false, out _lastStatus)) == 0 || waited == -(int)Errno.EINTR; polls++)
        {
            if (polls % PollsPerLook == 0 && IsDead())
            {
                return Errno.ESRCH;
            }

            wait.Next();
        }

        if (waited < 0)
        {
            return waited == -(int)Errno.ECHILD ? Errno.ESRCH : (Errno)(-waited);
        }

        return !_lastStatus.Stopped || _lastStatus.Event == PtraceEvent.Exit ? Errno.ESRCH : Errno.None;
    }

    private readonly bool IsDead() =>
        ProcStatus.TryRead(_platform, _thread.ThreadId, out ProcStatus? status, out Errno error) ? status!.IsZombie : error is Errno.ENOENT or Errno.ESRCH;

    /// <summary>At a signal-delivery-stop: keeps the signal for the caller, unless our own call raised it.</summary>
    private Errno HoldSignal(out bool isFault)
    {
        isFault = false;
        if (_lastStatus.Event != PtraceEvent.None || _lastStatus.IsSystemCallStop)
        {
            return Errno.None;
        }

        Errno error = _platform.GetSignalInfo(_thread.ThreadId, out SignalInfo info);
        if (error != Errno.None)
        {
            return error;
        }

        if (info.si_signo == Signal.SIGSYS && info.si_code == SYS_SECCOMP)
        {
            _isTrappedByFilter = true;
        }
        else if (info.IsSynchronous)
        {
            isFault = true;
        }
        else
        {
            _held.Add(info);
        }

        return Errno.None;
    }
}

using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// The target's own action for a signal that instructions raise. The kernel resets it when one does so in a thread that blocks the signal, or while the
/// process ignores it; what was there is learned before code of ours may raise it, and put back.
/// </summary>
/// <remarks>Control thread only. Nothing is learned of a program that leaves the default action alone, which is most.</remarks>
internal sealed class SignalDisposition(int signal)
{
    /// <summary>Bytes of the kernel's struct sigaction on both architectures (handler, flags, restorer, mask).</summary>
    private const int Length = 32;

    private const ulong SIG_IGN = 1;

    /// <summary>Room below the stack pointer: behind the red zone, and put back as it was.</summary>
    private const ulong Distance = 1024;

    private readonly byte[] _action = new byte[Length];
    private bool _isLearned;
    private ulong _cover;
    private ulong _current;
    private ulong _spare;

    public int Number => signal;

    /// <summary>Whether the action was learned.</summary>
    public bool IsKnown => _isLearned || _cover != 0;

    /// <summary>
    /// Whether the target ignores the signal. Then every trap resets that, and it is put back at the detach only: ignoring a signal makes the
    /// kernel drop what is pending, and so the traps of other threads.
    /// </summary>
    public bool IsIgnored => _isLearned && _cover == 0 && BitConverter.ToUInt64(_action) == SIG_IGN;

    /// <summary>Whether a process has an action of its own for a signal, by /proc.</summary>
    public static bool IsNeeded(IPlatform platform, int processId, int signal) =>
        ProcStatus.TryRead(platform, processId, out ProcStatus? status, out _) && ((status!.SigCgt | status.SigIgn) & Signal.Bit(signal)) != 0;

    /// <summary>Asks the kernel, through a stopped thread.</summary>
    public Errno Learn(ProcessHandle process, TracedTask task)
    {
        Errno error = Call(process, task, _action, isSet: false);
        _isLearned = error == Errno.None;
        return error;
    }

    /// <summary>Whether the kernel has reset the action: it takes the handler away, and leaves the rest, which no program does.</summary>
    public bool IsReset(ProcessHandle process, TracedTask task)
    {
        Span<byte> now = stackalloc byte[Length];
        return Call(process, task, now, isSet: false) == Errno.None && BitConverter.ToUInt64(now) == 0 && now[sizeof(ulong)..].SequenceEqual(_action.AsSpan(sizeof(ulong)));
    }

    /// <summary>
    /// An action of ours stands in front of the target's own one from now on: it is what is put back after a trap, and the target's own at the end.
    /// </summary>
    /// <param name="installed">Where in the target our action is, as the kernel has it.</param>
    /// <param name="current">Where in the target the address of the target's own action is.</param>
    /// <param name="spare">Where in the target there is room for another.</param>
    public void Cover(ulong installed, ulong current, ulong spare)
    {
        _cover = installed;
        _current = current;
        _spare = spare;
    }

    /// <summary>Puts back the action which a trap has reset, through a stopped thread.</summary>
    public Errno Restore(ProcessHandle process, TracedTask task) =>
        _cover != 0 ? RemoteMap.Invoke(process, task, n => n.RtSigAction, [(ulong)signal, _cover, 0, sizeof(ulong)]) : Call(process, task, _action, isSet: true);

    /// <summary>Puts back the target's own action, through a stopped thread, unless the target has set another one since.</summary>
    public Errno End(ProcessHandle process, TracedTask task)
    {
        if (_cover == 0)
        {
            return Call(process, task, _action, isSet: true);
        }

        Errno error = RemoteMap.Invoke(process, task, n => n.RtSigAction, [(ulong)signal, 0, _spare, sizeof(ulong)]);
        if (error != Errno.None)
        {
            return error;
        }

        if (!TryReadWord(process, task, _spare, out ulong now) || !TryReadWord(process, task, _cover, out ulong ours) || !TryReadWord(process, task, _current, out ulong own))
        {
            return Errno.EFAULT;
        }

        // A trap may have reset it to the default action.
        return now == ours || now == 0 ? RemoteMap.Invoke(process, task, n => n.RtSigAction, [(ulong)signal, own, 0, sizeof(ulong)]) : Errno.None;
    }

    private static bool TryReadWord(ProcessHandle process, TracedTask task, ulong address, out ulong value)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        bool isRead = process.Platform.ReadMemory(task.ThreadId, address, word) == word.Length;
        value = isRead ? BitConverter.ToUInt64(word) : 0;
        return isRead;
    }

    private Errno Call(ProcessHandle process, TracedTask task, Span<byte> action, bool isSet)
    {
        RegisterSet registers = new(process.Architecture);
        Errno error = process.Platform.GetRegisters(task.ThreadId, ref registers);
        if (error != Errno.None)
        {
            return error;
        }

        IPlatform platform = process.Platform;
        ulong scratch = (registers.StackPointer - Distance) & ~15UL;
        Span<byte> kept = stackalloc byte[Length];
        if (platform.ReadMemory(task.ThreadId, scratch, kept) != Length
            || platform.WriteMemory(task.ThreadId, scratch, isSet ? action : kept) != Length)
        {
            return Errno.EFAULT;
        }

        try
        {
            ReadOnlySpan<ulong> arguments = isSet ? [(ulong)signal, scratch, 0, sizeof(ulong)] : [(ulong)signal, 0, scratch, sizeof(ulong)];
            error = RemoteMap.Invoke(process, task, n => n.RtSigAction, arguments);
            return error == Errno.None && !isSet && platform.ReadMemory(task.ThreadId, scratch, action) != Length ? Errno.EFAULT : error;
        }
        finally
        {
            platform.WriteMemory(task.ThreadId, scratch, kept);
        }
    }
}

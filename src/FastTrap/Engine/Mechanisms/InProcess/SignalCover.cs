using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>What a handler is to see of a thread in code of ours.</summary>
/// <param name="Offset">Where that code begins in the trampoline.</param>
/// <param name="Length">Its length; 1 of a single instruction.</param>
/// <param name="Original">The program counter which it stands for.</param>
/// <param name="Deltas">How far the stack pointer is down at each offset, <see cref="SignalCoverCode.NoInstruction"/> where nothing begins; null of a single instruction.</param>
/// <param name="Delta">The same of a single instruction.</param>
internal readonly record struct CoveredEntry(int Offset, int Length, ulong Original, ushort[]? Deltas, int Delta);

/// <summary>One trampoline, or island, with what it stands for.</summary>
internal readonly record struct CoveredCode(ulong Start, int Length, IReadOnlyList<CoveredEntry> Entries);

/// <summary>
/// A handler of ours in front of the target's own of all signals but SIGTRAP, for the time in which nobody traces: they see original addresses where the thread is in a trampoline. x86-64.
/// </summary>
/// <remarks>
/// Made when the tracer lets go, undone when there is one again. Each of the target's actions is installed as it was but for the handler: stack, mask and restart are the kernel's. Its own handlers are in private memory, of which fork children have a copy. Control thread only.
/// Two words behind the magic in the memory's header say where the own actions and our handler are: who finds it without its tracer can give them back (<see cref="GiveBack"/>).
/// </remarks>
internal sealed class SignalCover(ProcessHandle process)
{
    /// <summary>The name of its memory in <c>/proc/PID/maps</c>.</summary>
    public const string Name = "fasttrap.signals";

    /// <summary>The first word: "FASTTRPS". A random word follows.</summary>
    public const ulong Magic = 0x5350_5254_5453_4146;

    /// <summary>A word: where the own actions are.</summary>
    public const int StateOffset = 16;

    private const int HandlerOffset = 24;
    private const int CodeOffset = 64;
    private const int DataOffset = 4096;
    private const int Alignment = 0x10000;
    private const ulong NearReach = 1UL << 30;
    private const int SignalCount = 64;

    /// <summary>Room for two actions behind those of all signals: one that is to be set, and the one which that replaces.</summary>
    private const int NextOffset = (SignalCount + 1) * GuardAction.Length;
    private const int SeenOffset = NextOffset + GuardAction.Length;

    /// <summary>A thread of the target that sets actions all the time is waited for so often.</summary>
    private const int MostChanges = 32;
    private const ulong NeverCovered = (1UL << (Signal.SIGTRAP - 1)) | (1UL << (Signal.SIGKILL - 1)) | (1UL << (Signal.SIGSTOP - 1));

    private readonly List<(ulong Start, ulong Length)> _mapped = [];
    private readonly List<SharedMemory> _memories = [];
    private ulong _start;
    private ulong _length;

    /// <summary>Memory of it in the target.</summary>
    public IReadOnlyList<(ulong Start, ulong Length)> Mapped => _mapped;

    /// <summary>Whether it stands in front of the target's handlers.</summary>
    public bool IsInstalled { get; private set; }

    /// <summary>Where its code and data are, to its end; 0 if there is none.</summary>
    public (ulong Start, ulong End) Range => (_start, _start + _length);

    public bool Contains(ulong address) => address - _start < _length;

    /// <summary>Stands in front of the handlers. Returns null, or why it cannot be had; nothing has changed then, unless <see cref="IsInstalled"/> says so.</summary>
    public string? Install(IReadOnlyList<CoveredCode> codes)
    {
        if (IsInstalled)
        {
            return "some of its handlers of signals could not be given back before";
        }

        string? problem = "no thread of the process could be stopped";
        _ = process.Thread.TryBorrow(process, task => problem = Install(task, codes));
        IsInstalled |= problem is null;
        return problem;
    }

    /// <summary>Puts the target's own handlers back. Its memory stays, for a thread may be in a handler that was called from there.</summary>
    public Errno Undo()
    {
        if (!IsInstalled)
        {
            return Errno.None;
        }

        Errno error = Errno.ESRCH;
        _ = process.Thread.TryBorrow(process, task => error = GiveBack(process, task, _start));
        IsInstalled = error != Errno.None;
        return error;
    }

    /// <summary>Puts back the own handlers of a target, by the memory alone that a cover has left at an address. A handler which the target has set since stays.</summary>
    public static Errno GiveBack(ProcessHandle process, TracedTask task, ulong start)
    {
        byte[] header = new byte[CodeOffset];
        if (process.Platform.ReadMemory(task.ThreadId, start, header) != header.Length || BinaryPrimitives.ReadUInt64LittleEndian(header) != Magic)
        {
            return Errno.EINVAL;
        }

        ulong state = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(StateOffset));
        ulong handler = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(HandlerOffset));
        Errno error = Errno.None;
        foreach (int signal in Caught(process))
        {
            Errno failure = Exchange(process, task, signal, state, handler, covers: false);
            error = error == Errno.None ? failure : error;
        }

        return error;
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        foreach (SharedMemory memory in _memories)
        {
            memory.Dispose();
        }

        _memories.Clear();
        _mapped.Clear();
        _start = 0;
        _length = 0;
        IsInstalled = false;
    }

    private string? Install(TracedTask task, IReadOnlyList<CoveredCode> codes)
    {
        _ = SignalCoverCode.Assemble(CodeOffset, 0, 0, 0, out CoveredCode self);
        byte[] data = Lay([.. codes, self], 0, out int count);
        int length = (DataOffset + data.Length + Alignment - 1) & -Alignment;
        Span<byte> header = stackalloc byte[2 * sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        RandomNumberGenerator.Fill(header[sizeof(ulong)..]);
        SharedMemoryFailure failure = RemoteMap.Share(process, task, new SharedMemoryRequest(Name, length, IsCode: true), header, out ulong start, out SharedMemory? memory);
        if (failure.LeftStart != 0)
        {
            _mapped.Add((failure.LeftStart, failure.LeftLength));
        }

        if (memory is null)
        {
            return $"memory for it could not be had: {failure.Describe()}";
        }

        _memories.Add(memory);
        _mapped.Add((start, (ulong)length));
        if (!RemoteMap.TryMapNear(process, task, start, NearReach, GuardState.Length, out ulong state, out string? problem, isData: true))
        {
            return problem;
        }

        _mapped.Add((state, GuardState.Length));
        byte[] code = SignalCoverCode.Assemble(start + CodeOffset, state, start + DataOffset, count, out self);
        Lay([.. codes, self], start + DataOffset, out _).CopyTo(memory.Slice(DataOffset, data.Length));
        code.CopyTo(memory.Slice(CodeOffset, DataOffset - CodeOffset));
        BinaryPrimitives.WriteUInt64LittleEndian(memory.Slice(StateOffset, sizeof(ulong)), state);
        BinaryPrimitives.WriteUInt64LittleEndian(memory.Slice(HandlerOffset, sizeof(ulong)), start + CodeOffset);
        _start = start;
        _length = (ulong)length;

        // Twice: meanwhile there may be a handler where there was none, or another in front of which nobody stands.
        for (int pass = 0; pass < 2; pass++)
        {
            foreach (int signal in Caught(process))
            {
                Errno error = Exchange(process, task, signal, state, start + CodeOffset, covers: true);
                if (error != Errno.None)
                {
                    IsInstalled = GiveBack(process, task, start) != Errno.None;
                    return $"the action for signal {signal} could not be set ({error})";
                }
            }
        }

        return null;
    }

    /// <summary>
    /// Stands in front of a handler, or gives it back. What the setting call replaces may be an action that another thread has set meanwhile: it is the newer, and is covered, or put back, in place of the former.
    /// </summary>
    private static Errno Exchange(ProcessHandle process, TracedTask task, int signal, ulong state, ulong handler, bool covers)
    {
        ulong place = state + ((ulong)signal * GuardAction.Length);
        if (!TryCall(process, task, signal, 0, state + SeenOffset, out GuardAction standing, out Errno error)
            || covers == (standing.Handler == handler) || (covers && !standing.HasHandler))
        {
            return error;
        }

        GuardAction own = standing;
        if (!covers && !TryRead(process, task, place, out own))
        {
            return Errno.EFAULT;
        }

        for (int i = 0; i < MostChanges; i++)
        {
            // In its place before ours leads to it.
            GuardAction next = Next(own);
            if (!TryKeep(own) || !TryWrite(process, task, state + NextOffset, next))
            {
                return Errno.EFAULT;
            }

            if (!TryCall(process, task, signal, state + NextOffset, state + SeenOffset, out GuardAction replaced, out error)
                || replaced == standing || replaced.Handler == handler)
            {
                return error;
            }

            if (Next(replaced) == next)
            {
                return TryKeep(replaced) ? Errno.None : Errno.EFAULT;
            }

            (standing, own) = (next, replaced);
        }

        return Errno.EAGAIN;

        GuardAction Next(GuardAction action) => covers && action.HasHandler ? action with { Handler = handler } : action;

        // A thread in our handler goes on to what is there.
        bool TryKeep(GuardAction action) => !action.HasHandler || TryWrite(process, task, place, action);
    }

    /// <summary>rt_sigaction with a new action, or none, and the old one as the kernel writes it.</summary>
    private static bool TryCall(ProcessHandle process, TracedTask task, int signal, ulong action, ulong old, out GuardAction seen, out Errno error)
    {
        seen = default;
        error = RemoteMap.Invoke(process, task, n => n.RtSigAction, [(ulong)signal, action, old, sizeof(ulong)]);
        error = error == Errno.None && !TryRead(process, task, old, out seen) ? Errno.EFAULT : error;
        return error == Errno.None;
    }

    private static bool TryRead(ProcessHandle process, TracedTask task, ulong address, out GuardAction action)
    {
        byte[] bytes = new byte[GuardAction.Length];
        bool isRead = process.Platform.ReadMemory(task.ThreadId, address, bytes) == bytes.Length;
        action = GuardAction.Read(bytes);
        return isRead;
    }

    private static bool TryWrite(ProcessHandle process, TracedTask task, ulong address, GuardAction action)
    {
        byte[] bytes = new byte[GuardAction.Length];
        action.Write(bytes);
        return process.Platform.WriteMemory(task.ThreadId, address, bytes) == bytes.Length;
    }

    private static IEnumerable<int> Caught(ProcessHandle process) =>
        ProcStatus.TryRead(process.Platform, process.ProcessId, out ProcStatus? status, out _)
            ? Enumerable.Range(1, SignalCount).Where(s => ((status!.SigCgt & ~NeverCovered) >> (s - 1) & 1) != 0)
            : [];

    /// <summary>Records, then entries, then deltas, which many share.</summary>
    private static byte[] Lay(IReadOnlyList<CoveredCode> codes, ulong address, out int count)
    {
        CoveredCode[] sorted = [.. codes.OrderBy(c => c.Start)];
        count = sorted.Length;
        int entries = sorted.Length * SignalCoverCode.RecordLength;
        int deltas = entries + (sorted.Sum(c => c.Entries.Count) * SignalCoverCode.EntryLength);
        Dictionary<string, int> shapes = [];
        List<byte> shared = [];
        byte[] data = new byte[deltas];
        for (int i = 0, entry = entries; i < sorted.Length; i++)
        {
            Write(data, i * SignalCoverCode.RecordLength, sorted[i].Start, (ulong)sorted[i].Length, address + (ulong)entry, (ulong)sorted[i].Entries.Count);
            foreach (CoveredEntry covered in sorted[i].Entries)
            {
                int place = 0;
                if (covered.Deltas is { } words)
                {
                    string key = new(MemoryMarshal.Cast<ushort, char>(words));
                    if (!shapes.TryGetValue(key, out place))
                    {
                        place = deltas + shared.Count;
                        shapes.Add(key, place);
                        shared.AddRange(MemoryMarshal.AsBytes<ushort>(words));
                    }
                }

                Write(data, entry, (uint)covered.Offset | ((ulong)covered.Length << 32), covered.Original, place == 0 ? 0 : address + (ulong)place, (ulong)covered.Delta);
                entry += SignalCoverCode.EntryLength;
            }
        }

        return [.. data, .. shared];
    }

    private static void Write(byte[] data, int offset, params ReadOnlySpan<ulong> words)
    {
        foreach (ulong word in words)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(data.AsSpan(offset), word);
            offset += sizeof(ulong);
        }
    }
}

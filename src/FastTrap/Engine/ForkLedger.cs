using FastTrap.Isa;
using FastTrap.Native;
using Microsoft.Extensions.Logging;

namespace FastTrap.Engine;

/// <summary>
/// Removes inherited traps from fork children: those in the table, and those removed a moment ago, which a child that was forked before may still have.
/// </summary>
/// <remarks>
/// Control thread only. A removed trap is remembered for <see cref="MemoryTime"/>; a child's byte is restored only where it is a trap while its
/// parent's is the original, so memory which was reused meanwhile is left alone. Of a library that was unmapped the parent shows nothing any more.
/// Source: fasttrap.c, fasttrap_fork.
/// </remarks>
internal sealed class ForkLedger
{
    private static readonly TimeSpan MemoryTime = TimeSpan.FromSeconds(10);

    private const int PageLength = 4096;
    private const ulong PageMask = ~(PageLength - 1UL);

    private readonly Recent<Removed> _removed = new(MemoryTime);
    private TargetMemory? _spare;

    public bool IsEmpty => _removed.IsEmpty;

    public bool Contains(ulong address)
    {
        foreach (Removed removed in _removed.All())
        {
            if (removed.Address == address)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Remembers a trap that is removed, or that went with the library it stood in.</summary>
    public void Add(ulong address, ReadOnlySpan<byte> original, bool isUnmapped = false)
    {
        uint word = 0;
        for (int i = 0; i < original.Length; i++)
        {
            word |= (uint)original[i] << (8 * i);
        }

        _removed.Add(new Removed(address, word, isUnmapped));
    }

    /// <summary>Keeps a descriptor to give up when a child's memory must be opened and the tracer has none left: the child would die at the first trap.</summary>
    public void Reserve(IPlatform platform, int processId)
    {
        if (_spare is null && platform.OpenMemory(processId, out TargetMemory spare) == Errno.None)
        {
            _spare = spare;
        }
    }

    /// <summary>Gives back what <see cref="Reserve"/> keeps.</summary>
    public void Release()
    {
        _spare?.Dispose();
        _spare = null;
    }

    public void Clean(
        IPlatform platform, int childProcessId, TracepointTable table, int patchLength, InstructionSet isa, TargetMemory parentMemory, Action<TargetMemory> before, ILogger logger)
    {
        Errno error = platform.OpenMemory(childProcessId, out TargetMemory memory);
        if (error == Errno.EMFILE)
        {
            Release();
            error = platform.OpenMemory(childProcessId, out memory);
        }

        if (error != Errno.None)
        {
            if (error != Errno.ESRCH)
            {
                Control.Log.ForkChildNotCleaned(logger, childProcessId, (int)error);
            }

            return;
        }

        using (memory)
        {
            before(memory);
            HashSet<ulong> done = [];
            Span<byte> child = stackalloc byte[patchLength];
            Span<byte> parent = stackalloc byte[patchLength];
            Span<byte> original = stackalloc byte[4];
            Tracepoint[] tracepoints = [.. table.All().OrderBy(t => t.Address)];
            for (int first = 0, next; first < tracepoints.Length; first = next)
            {
                ulong page = tracepoints[first].Address & PageMask;
                for (next = first; next < tracepoints.Length && (tracepoints[next].Address & PageMask) == page; next++)
                {
                    done.Add(tracepoints[next].Address);
                }

                CleanPage(platform, memory, childProcessId, tracepoints.AsSpan(first..next), patchLength, isa.TrapBytes, logger);
            }

            foreach (Removed removed in _removed.All())
            {
                BitConverter.TryWriteBytes(original, removed.Original);
                if (done.Add(removed.Address)
                    && platform.ReadCode(memory, removed.Address, child) == patchLength && child.SequenceEqual(isa.TrapBytes)
                    && (removed.IsUnmapped
                        || (platform.ReadCode(parentMemory, removed.Address, parent) == patchLength && parent.SequenceEqual(original[..patchLength]))))
                {
                    Restore(platform, memory, childProcessId, removed.Address, original[..patchLength], logger);
                }
            }
        }
    }

    /// <summary>The traps of one page: one read and one write, however many there are.</summary>
    private static void CleanPage(
        IPlatform platform, TargetMemory memory, int childProcessId, ReadOnlySpan<Tracepoint> tracepoints, int patchLength, ReadOnlySpan<byte> trap, ILogger logger)
    {
        ulong start = tracepoints[0].Address;
        Span<byte> bytes = stackalloc byte[PageLength + 4];
        bytes = bytes[..((int)(tracepoints[^1].Address - start) + patchLength)];
        bool isRead = platform.ReadCode(memory, start, bytes) == bytes.Length;
        bool isChanged = false;
        foreach (Tracepoint tracepoint in tracepoints)
        {
            Span<byte> here = bytes.Slice((int)(tracepoint.Address - start), patchLength);
            if (!isRead)
            {
                // Not all of it is there, or it cannot be read: what we have written we can write again.
                Restore(platform, memory, childProcessId, tracepoint.Address, tracepoint.Instruction.Bytes[..patchLength], logger);
            }
            else if (here.SequenceEqual(trap))
            {
                tracepoint.Instruction.Bytes[..patchLength].CopyTo(here);
                isChanged = true;
            }
        }

        if (isChanged)
        {
            Restore(platform, memory, childProcessId, start, bytes, logger);
        }
    }

    private static void Restore(
        IPlatform platform, TargetMemory memory, int childProcessId, ulong address, ReadOnlySpan<byte> original, ILogger logger)
    {
        int written = platform.WriteCode(memory, address, original);
        if (written != original.Length && written != -(int)Errno.ESRCH)
        {
            // There is no second chance: a trap that stays kills the child.
            written = platform.WriteCode(memory, address, original);
        }

        if (written != original.Length && written != -(int)Errno.ESRCH)
        {
            Control.Log.TextNotRestored(logger, childProcessId, address, -written);
        }
    }

    private readonly record struct Removed(ulong Address, uint Original, bool IsUnmapped);
}

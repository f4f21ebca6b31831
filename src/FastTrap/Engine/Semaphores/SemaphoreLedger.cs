using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Diagnostics;
using FastTrap.Control;
using FastTrap.Native;
using Microsoft.Extensions.Logging;

namespace FastTrap.Engine;

/// <summary>
/// The semaphores of static probes: counters of 16 bits in the target, by which a program learns that somebody wants a probe. Each is raised by one
/// while any of our probes needs it, and lowered by exactly that.
/// </summary>
/// <remarks>
/// Scheme. The control thread owns it; another thread sees the set of what is raised in <see cref="LowerBytes"/>, the last resort. A count is
/// read, changed and written by two system calls: a change that another tool makes between them is lost, for Linux has no atomic operation on the memory of
/// another process; nobody is known to stay in that window of a microsecond. A counter at its end (65,535) is left alone, and one at 0 is not lowered.
/// A fork child inherits the counts. Where none of ours changed in the last <see cref="MemoryTime"/>, it inherited what is ours now; else what it has is compared with
/// what the parent has, since the child may have been made before the change.
/// </remarks>
internal sealed class SemaphoreLedger(IPlatform platform, int processId, ILogger logger)
{
    private static readonly TimeSpan MemoryTime = TimeSpan.FromSeconds(10);

    private readonly Dictionary<ulong, Entry> _entries = [];
    private readonly ConcurrentDictionary<ulong, bool> _raised = new();
    private int _limit = 64;

    /// <summary>Told before a count of ours is added, with true, and after it was taken back.</summary>
    public Action<ulong, bool>? Noted { get; set; }

    /// <summary>Where counts of ours are.</summary>
    public IEnumerable<ulong> Raised => _raised.Keys;

    /// <summary>Whether a fork child could have inherited anything.</summary>
    public bool IsEmpty => _entries.Count == 0;

    /// <summary>Needs a semaphore once more; the first time it is raised. False if it cannot be written.</summary>
    public bool TryRaise(ulong address)
    {
        if (!_entries.TryGetValue(address, out Entry? entry))
        {
            DropOld();
            entry = new Entry();
            _entries.Add(address, entry);
        }

        if (entry.Needs == 0)
        {
            Noted?.Invoke(address, true);
            if (!TryRead(processId, address, out ushort count) || (count != ushort.MaxValue && !TryWrite(processId, address, (ushort)(count + 1))))
            {
                entry.Changed = Stopwatch.GetTimestamp();
                Noted?.Invoke(address, false);
                return false;
            }

            entry.Changed = Stopwatch.GetTimestamp();
            entry.IsOurs = count != ushort.MaxValue;
            if (entry.IsOurs)
            {
                _raised.TryAdd(address, true);
            }
            else
            {
                Noted?.Invoke(address, false);
            }
        }

        entry.Needs++;
        return true;
    }

    /// <summary>Needs a semaphore once less; the last time it is lowered.</summary>
    public void Lower(ulong address)
    {
        if (!_entries.TryGetValue(address, out Entry? entry) || entry.Needs == 0 || --entry.Needs != 0)
        {
            return;
        }

        LowerNow(address, entry);
    }

    /// <summary>Lowers all, before a detach.</summary>
    public void LowerAll()
    {
        foreach ((ulong address, Entry entry) in _entries)
        {
            if (entry.Needs != 0)
            {
                entry.Needs = 0;
                LowerNow(address, entry);
            }
        }
    }

    /// <summary>The bytes alone, no book is kept. Any thread, when the control thread does not answer.</summary>
    public void LowerBytes()
    {
        foreach (ulong address in _raised.Keys)
        {
            LowerIn(processId, address);
        }
    }

    /// <summary>Takes ours out of the copies that a fork child has. The child is stopped before its first instruction.</summary>
    public void CleanForkChild(int childProcessId)
    {
        foreach ((ulong address, Entry entry) in _entries)
        {
            bool isInherited = entry.IsOurs;
            if (entry.IsRecent && TryRead(childProcessId, address, out ushort inherited) && TryRead(processId, address, out ushort now))
            {
                isInherited = inherited > now - (entry.IsOurs ? 1 : 0);
            }

            if (isInherited)
            {
                LowerIn(childProcessId, address);
            }
        }
    }

    /// <summary>The library that it was in is unmapped: nothing is written there any more.</summary>
    public void Abandon(ulong address)
    {
        _entries.Remove(address);
        _raised.TryRemove(address, out _);
        Noted?.Invoke(address, false);
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        _entries.Clear();
        _raised.Clear();
    }

    private void LowerNow(ulong address, Entry entry)
    {
        entry.Changed = Stopwatch.GetTimestamp();
        if (!entry.IsOurs)
        {
            return;
        }

        entry.IsOurs = false;
        _raised.TryRemove(address, out _);
        LowerIn(processId, address);
        Noted?.Invoke(address, false);
    }

    /// <summary>Takes back what another tracer had added.</summary>
    public void LowerLeft(ulong address) => LowerIn(processId, address);

    /// <summary>Takes one from a count that is not 0. There is no second chance later, so it is tried twice; a process that has gone needs nothing.</summary>
    private void LowerIn(int process, ulong address)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ushort)];
        int done = 0;
        for (int attempt = 0; attempt < 2; attempt++)
        {
            done = platform.ReadMemory(process, address, bytes);
            ushort count = BinaryPrimitives.ReadUInt16LittleEndian(bytes);
            if (done == bytes.Length && count != 0)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)(count - 1));
                done = platform.WriteMemory(process, address, bytes);
            }

            if (done == bytes.Length)
            {
                return;
            }
        }

        if (done != -(int)Errno.ESRCH)
        {
            Log.SemaphoreNotLowered(logger, process, address, done < 0 ? -done : 0);
        }
    }

    /// <summary>Forgets what was lowered long ago, now and then.</summary>
    private void DropOld()
    {
        if (_entries.Count < _limit)
        {
            return;
        }

        foreach ((ulong address, Entry entry) in _entries)
        {
            if (entry.Needs == 0 && !entry.IsRecent)
            {
                _entries.Remove(address);
            }
        }

        _limit = Math.Max(_limit, 2 * _entries.Count);
    }

    private bool TryRead(int process, ulong address, out ushort count)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ushort)];
        bool isRead = platform.ReadMemory(process, address, bytes) == bytes.Length;
        count = isRead ? BinaryPrimitives.ReadUInt16LittleEndian(bytes) : (ushort)0;
        return isRead;
    }

    private bool TryWrite(int process, ulong address, ushort count)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ushort)];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, count);
        return platform.WriteMemory(process, address, bytes) == bytes.Length;
    }

    private sealed class Entry
    {
        /// <summary>Enabled probes that need it.</summary>
        public int Needs { get; set; }

        /// <summary>Whether one of its count is ours.</summary>
        public bool IsOurs { get; set; }

        public long Changed { get; set; }

        public bool IsRecent => Stopwatch.GetElapsedTime(Changed) < MemoryTime;
    }
}

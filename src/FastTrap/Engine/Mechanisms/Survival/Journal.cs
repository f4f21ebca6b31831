using System.Buffers.Binary;
using System.Security.Cryptography;
using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// What the text of a process holds of ours, written into the process itself, ahead of every change: from it a later tracer removes everything, should this one be killed or have let go.
/// </summary>
/// <remarks>Control thread only. Memory which the target maps, too: an entry stands there as soon as it is written here. Read by <see cref="JournalReader"/>.</remarks>
internal sealed class Journal(ProcessHandle process)
{
    private const int LeastLength = 1 << 20;
    private const int MostLength = 32 << 20;

    /// <summary>Bytes of an entry, about, by which the memory is sized.</summary>
    private const int EntryLength = 256;

    private readonly List<JournalVolume> _volumes = [];
    private readonly Dictionary<JumpSite, (JournalVolume Volume, int Offset)> _entries = [];
    private readonly Dictionary<ulong, (JournalVolume Volume, int Offset)> _semaphores = [];
    private readonly List<(ulong Start, ulong Length)> _left = [];
    private byte[] _entry = [];

    /// <summary>What is mapped in the target.</summary>
    public IEnumerable<(ulong Start, ulong Length)> Mapped => [.. _volumes.Select(v => (v.Address, (ulong)v.Memory.Length)), .. _left];

    /// <summary>Makes sure that there is room for some more sites. False, with the reason, if there can be none.</summary>
    public bool TryReserve(int sites, out string reason)
    {
        reason = "";
        if (_volumes.Count != 0 && _volumes[^1].Room > (long)sites * EntryLength)
        {
            return true;
        }

        _entries.EnsureCapacity(_entries.Count + sites);
        long wanted = JournalLayout.EntriesOffset + ((long)sites * EntryLength);
        int length = (int)Math.Clamp((long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)wanted), LeastLength, MostLength);
        return TryAddVolume(length, out reason);
    }

    /// <summary>Writes down a site whose trampoline is written and whose text is not yet. False, with the reason, if there is no room, nor can there be.</summary>
    public bool TryAdd(JumpSite site, out string reason)
    {
        ReadOnlySpan<byte> entry = Make(site);
        if (!TryFindRoom(entry.Length, out reason))
        {
            return false;
        }

        JournalVolume volume = _volumes[^1];
        _entries[site] = (volume, volume.Add(entry));
        return true;
    }

    /// <summary>Writes down that a semaphore is raised by one, before it is; or, afterwards, that it was lowered.</summary>
    public void SetSemaphore(ulong address, bool isRaised)
    {
        if (!isRaised)
        {
            if (_semaphores.Remove(address, out (JournalVolume Volume, int Offset) known))
            {
                known.Volume.Kill(known.Offset);
            }

            return;
        }

        byte[] entry = new byte[JournalLayout.BytesOffset];
        BinaryPrimitives.WriteUInt64LittleEndian(entry.AsSpan(JournalLayout.StartOffset), address);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(JournalLayout.SumOffset), JournalLayout.Sum(entry));
        if (!_semaphores.ContainsKey(address) && TryFindRoom(entry.Length, out _))
        {
            _semaphores.Add(address, (_volumes[^1], _volumes[^1].Add(entry)));
        }
    }

    /// <summary>The text of a site is as it was, and nobody is in its trampoline.</summary>
    public void Remove(JumpSite site)
    {
        if (_entries.Remove(site, out (JournalVolume Volume, int Offset) entry))
        {
            entry.Volume.Kill(entry.Offset);
        }
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        foreach (JournalVolume volume in _volumes)
        {
            volume.Memory.Dispose();
        }

        _volumes.Clear();
        _entries.Clear();
        _semaphores.Clear();
        _left.Clear();
        process.Escape = process.Escape with { FrameTop = 0 };
    }

    private bool TryFindRoom(int length, out string reason)
    {
        reason = "";
        return (_volumes.Count != 0 && _volumes[^1].Room >= length) || TryAddVolume(LeastLength, out reason);
    }

    private bool TryAddVolume(int length, out string reason)
    {
        byte[] header = new byte[JournalLayout.HeaderLength];
        WriteHeader(header);
        SharedMemoryRequest request = new(JournalLayout.Name, length, IsCode: false);
        SharedMemoryFailure failure = default;
        SharedMemory? memory = null;
        ulong address = 0;
        if (!process.Thread.TryBorrow(process, task => failure = RemoteMap.Share(process, task, in request, header, out address, out memory)))
        {
            reason = "no thread of the process could be stopped to map memory for the journal";
            return false;
        }

        if (memory is null)
        {
            if (failure.LeftStart != 0)
            {
                _left.Add((failure.LeftStart, failure.LeftLength));
            }

            reason = $"memory for the journal could not be had: {failure.Describe()}";
            return false;
        }

        _volumes.Add(new JournalVolume(address, memory));
        if (process.Escape.CallAddress != 0)
        {
            // From here on threads that make calls for us need nothing of their own stacks.
            process.Escape = process.Escape with { FrameTop = address + JournalLayout.EntriesOffset };
        }

        reason = "";
        return true;
    }

    private void WriteHeader(Span<byte> header)
    {
        IPlatform platform = process.Platform;
        int owner = platform.CurrentProcessId;
        BinaryPrimitives.WriteUInt64LittleEndian(header, JournalLayout.Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(header[JournalLayout.VersionOffset..], JournalLayout.Version);
        BinaryPrimitives.WriteInt32LittleEndian(header[JournalLayout.OwnerOffset..], owner);
        BinaryPrimitives.WriteUInt64LittleEndian(header[JournalLayout.OwnerStartOffset..], ProcStat.TryRead(platform, owner, out ProcStat stat, out _) ? stat.StartTime : 0);
        RandomNumberGenerator.Fill(header.Slice(JournalLayout.NonceOffset, sizeof(ulong)));
        JournalReader.ReadBoot(platform, header.Slice(JournalLayout.BootOffset, JournalLayout.BootLength));
    }

    /// <summary>An entry, until the next is made: nothing is allocated while threads may wait.</summary>
    private ReadOnlySpan<byte> Make(JumpSite site)
    {
        ReadOnlySpan<RelocatedPoint> points = site.Code!.Points;
        RelocatedBody body = site.Code.Body;
        int bytes = site.Original.Length + site.Patch.Length + site.IslandOriginal.Length + site.IslandPatch.Length;
        int pointsOffset = (JournalLayout.BytesOffset + bytes + 7) & ~7;
        int length = pointsOffset + (points.Length * JournalLayout.PointLength);
        if (_entry.Length < length)
        {
            _entry = new byte[length * 2];
        }

        Span<byte> entry = _entry.AsSpan(0, length);
        entry.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(entry[JournalLayout.StartOffset..], site.Start);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[JournalLayout.SiteOffset..], site.Window.Site);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[JournalLayout.CodeOffset..], site.Code.Address);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[JournalLayout.IslandOffset..], site.Window.Island);
        BinaryPrimitives.WriteInt32LittleEndian(entry[JournalLayout.CodeLengthOffset..], site.Code.Length);
        entry[JournalLayout.WindowLengthOffset] = site.Window.Length;
        entry[JournalLayout.WindowCodeLengthOffset] = site.Window.CodeLength;
        entry[JournalLayout.PatchLengthOffset] = (byte)site.Patch.Length;
        entry[JournalLayout.OriginalLengthOffset] = (byte)site.Original.Length;
        BinaryPrimitives.WriteInt32LittleEndian(entry[JournalLayout.PointCountOffset..], points.Length);
        BinaryPrimitives.WriteInt32LittleEndian(entry[JournalLayout.BodyOffset..], body.Offset);
        BinaryPrimitives.WriteInt32LittleEndian(entry[JournalLayout.BodyLengthOffset..], body.Length);
        Span<byte> rest = entry[JournalLayout.BytesOffset..];
        Append(site.Original, ref rest);
        Append(site.Patch, ref rest);
        Append(site.IslandOriginal, ref rest);
        Append(site.IslandPatch, ref rest);

        for (int i = 0; i < points.Length; i++)
        {
            Span<byte> point = entry[(pointsOffset + (i * JournalLayout.PointLength))..];
            BinaryPrimitives.WriteInt32LittleEndian(point, points[i].Offset);
            BinaryPrimitives.WriteInt32LittleEndian(point[JournalLayout.PushedOffset..], points[i].Pushed);
            BinaryPrimitives.WriteUInt64LittleEndian(point[JournalLayout.OriginalOffset..], points[i].Original);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(entry[JournalLayout.SumOffset..], JournalLayout.Sum(entry));
        return entry;
    }

    private static void Append(byte[] part, ref Span<byte> rest)
    {
        part.CopyTo(rest);
        rest = rest[part.Length..];
    }
}

/// <summary>One piece of a journal's memory.</summary>
internal sealed class JournalVolume(ulong address, SharedMemory memory)
{
    private int _used = JournalLayout.EntriesOffset;
    private int _live;

    public ulong Address => address;

    public SharedMemory Memory => memory;

    /// <summary>Bytes for entries; a word behind the last one stays 0.</summary>
    public long Room => memory.Length - _used - sizeof(ulong);

    /// <summary>Writes an entry and commits it. Returns where it is.</summary>
    public int Add(ReadOnlySpan<byte> entry)
    {
        if (_live == 0 && _used != JournalLayout.EntriesOffset)
        {
            // All dead: from the start, over zeros, so that no old entry follows a new one.
            Span<byte> old = memory.Slice(JournalLayout.EntriesOffset, _used - JournalLayout.EntriesOffset);
            old.Clear();
            Interlocked.MemoryBarrier();
            _used = JournalLayout.EntriesOffset;
        }

        int offset = _used;
        entry[sizeof(uint)..].CopyTo(memory.Slice(offset + sizeof(uint), entry.Length - sizeof(uint)));
        Commit(offset, JournalLayout.LiveFlag | (uint)entry.Length);
        _used += entry.Length;
        _live++;
        return offset;
    }

    public void Kill(int offset)
    {
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(memory.Slice(offset, sizeof(uint))) & JournalLayout.LengthMask;
        Commit(offset, JournalLayout.DeadFlag | length);
        _live--;
    }

    private unsafe void Commit(int offset, uint word) => Volatile.Write(ref *(uint*)(memory.Start + offset), word);
}

using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>What a tracer that was killed, or that has let go, has left in a process: found by the names of mappings, believed if they begin as ours do. Immutable; nothing is changed by looking.</summary>
internal sealed class Leftovers
{
    private const string Prefix = "/memfd:fasttrap.";
    private const string CodeName = "/memfd:" + CodeRegion.Name;
    private const string GuardName = "/memfd:" + TrapGuard.Name;
    private const string CoverName = "/memfd:" + SignalCover.Name;
    private const string JournalName = "/memfd:" + JournalLayout.Name;
    private const string DataName = "/memfd:fasttrap.data";

    /// <summary>Bytes behind a region of data by which programs know a fork child.</summary>
    private const ulong DataGuardLength = 0x10000;
    private const ulong ReservationAlignment = 0x10000;
    private const int ChunkLength = 0x10000;

    private readonly List<(ulong Start, ulong Length)> _regions = [];
    private readonly List<(ulong Start, ulong Length)> _code = [];
    private readonly List<(ulong Start, ulong Length)> _guards = [];
    private readonly List<ulong> _guardStates = [];
    private readonly List<(ulong Start, ulong Length)> _covers = [];
    private readonly List<JumpSite> _sites = [];
    private readonly List<ulong> _semaphores = [];
    private readonly List<int> _descriptors = [];

    /// <summary>Whether the process is a tracer itself, which has what it shares with its targets mapped, too: that is its own.</summary>
    private bool _isTracer;

    private Leftovers()
    {
    }

    /// <summary>The tracer's process; 0 if that is not known.</summary>
    public int OwnerProcessId { get; private set; }

    /// <summary>Whether that process runs.</summary>
    public bool IsOwnerAlive { get; private set; }

    /// <summary>All memory.</summary>
    public IReadOnlyList<(ulong Start, ulong Length)> Regions => _regions;

    /// <summary>Of that, memory that is executed: of trampolines, and of guards.</summary>
    public IReadOnlyList<(ulong Start, ulong Length)> Code => _code;

    /// <summary>Of that, handlers of SIGTRAP.</summary>
    public IReadOnlyList<(ulong Start, ulong Length)> Guards => _guards;

    /// <summary>Where their states are, each a <see cref="GuardState"/>.</summary>
    public IReadOnlyList<ulong> GuardStates => _guardStates;

    /// <summary>Of that, what stands in front of the handlers of other signals.</summary>
    public IReadOnlyList<(ulong Start, ulong Length)> Covers => _covers;

    /// <summary>What stands, or may stand, in the text.</summary>
    public IReadOnlyList<JumpSite> Sites => _sites;

    /// <summary>Counters of static probes that were raised by one.</summary>
    public IReadOnlyList<ulong> Semaphores => _semaphores;

    /// <summary>Files which the process holds open, because the tracer was killed before it had them closed.</summary>
    public IReadOnlyList<int> Descriptors => _descriptors;

    /// <summary>Looks. False if the process cannot be read; with a problem, if something is there and cannot be understood.</summary>
    /// <param name="platform">The kernel.</param>
    /// <param name="processId">The process.</param>
    /// <param name="found">What was found; null if there is nothing.</param>
    /// <param name="problem">What is wrong with it; null: nothing.</param>
    public static bool TryFind(IPlatform platform, int processId, out Leftovers? found, out string? problem)
    {
        found = null;
        problem = null;
        if (!ProcMaps.TryRead(platform, processId, out List<MemoryRegion> maps, out _))
        {
            return false;
        }

        Leftovers leftovers = new();
        List<MemoryRegion> journals = [];
        List<(ulong Start, ulong Length)> loose = [];
        for (int i = 0; i < maps.Count; i++)
        {
            leftovers.Look(platform, processId, maps, i, journals, loose);
        }

        foreach (MemoryRegion journal in journals)
        {
            byte[] bytes = ReadJournal(platform, processId, journal);
            bool isRead = JournalReader.TryReadOwner(platform, bytes, out int owner, out bool isAlive);
            if (isRead ? isAlive && owner == processId : leftovers._isTracer)
            {
                leftovers._isTracer = true;
                continue;
            }

            // The first that goes: what it names is there as long as it is.
            leftovers._regions.Insert(0, (journal.Start, journal.Length));
            problem = "its version is not known here";
            if (!isRead || !JournalReader.TryRead(bytes, leftovers.IsTrampoline, leftovers._sites, leftovers._semaphores, out problem))
            {
                problem = string.Create(CultureInfo.InvariantCulture, $"the journal at {journal.Start:x} cannot be understood: {problem}");
                return true;
            }

            leftovers.OwnerProcessId = owner;
            leftovers.IsOwnerAlive = isAlive;
            problem = null;
        }

        if (!leftovers._isTracer)
        {
            leftovers._regions.AddRange(loose);
            leftovers.FindDescriptors(platform, processId);
        }

        if (leftovers._regions.Count != 0 || leftovers._descriptors.Count != 0)
        {
            found = leftovers;
        }

        return true;
    }

    private bool IsTrampoline(ulong address, int length)
    {
        foreach ((ulong start, ulong regionLength) in _code)
        {
            if (address - start < regionLength && (ulong)length <= regionLength - (address - start))
            {
                return true;
            }
        }

        return false;
    }

    private void Look(IPlatform platform, int processId, List<MemoryRegion> maps, int index, List<MemoryRegion> journals, List<(ulong Start, ulong Length)> loose)
    {
        MemoryRegion region = maps[index];
        if (!region.Path.StartsWith(Prefix, StringComparison.Ordinal))
        {
            if (IsReservation(platform, processId, region))
            {
                _regions.Add((region.Start, region.Length));
            }

            return;
        }

        // The magics of all kinds differ in their last letter only.
        const ulong MagicMask = 0x00ff_ffff_ffff_ffff;
        if (!TryReadWord(platform, processId, region.Start, out ulong magic) || (magic & MagicMask) != (JournalLayout.Magic & MagicMask) || region.FileOffset != 0)
        {
            return;
        }

        ulong length = region.Length;
        if (region.Path is CodeName or GuardName or CoverName && !region.IsExecutable)
        {
            _isTracer = true;
            return;
        }

        switch (region.Path)
        {
            case CodeName:
                _code.Add((region.Start, length));
                break;
            case GuardName:
                _code.Add((region.Start, length));
                _guards.Add((region.Start, length));
                if (TryAddState(platform, processId, region.Start + TrapGuard.StateOffset, maps, out ulong state))
                {
                    _guardStates.Add(state);
                }

                break;
            case CoverName:
                _code.Add((region.Start, length));
                _covers.Add((region.Start, length));
                _ = TryAddState(platform, processId, region.Start + SignalCover.StateOffset, maps, out _);
                break;
            case JournalName:
                journals.Add(region);
                return;
            case DataName when index + 1 < maps.Count && maps[index + 1] is { Access: MemoryAccess.Read, Path.Length: 0 } behind
                && behind.Start == region.End && behind.Length >= DataGuardLength:
                length += DataGuardLength;
                break;
            default:
                // No guard behind it: a tracer's own view, or the last that one has made before it was killed.
                loose.Add((region.Start, length));
                return;
        }

        _regions.Add((region.Start, length));
    }

    /// <summary>Memory without a name, to which memory with one points.</summary>
    private bool TryAddState(IPlatform platform, int processId, ulong pointer, List<MemoryRegion> maps, out ulong state)
    {
        bool isThere = TryReadWord(platform, processId, pointer, out ulong start) && start != 0 && maps.Exists(m => m.Contains(start) && m.Path.Length == 0);
        if (isThere)
        {
            _regions.Add((start, GuardState.Length));
        }

        state = isThere ? start : 0;
        return isThere;
    }

    /// <summary>A place that was reserved for a file which was not mapped any more: the file's name stands in it.</summary>
    private static bool IsReservation(IPlatform platform, int processId, in MemoryRegion region)
    {
        if (region.Access != MemoryAccess.Read || region.Path.Length != 0 || region.Length % ReservationAlignment != 0)
        {
            return false;
        }

        ReadOnlySpan<byte> name = "fasttrap."u8;
        Span<byte> seen = stackalloc byte[name.Length];
        return platform.ReadMemory(processId, region.Start, seen) == seen.Length && seen.SequenceEqual(name);
    }

    /// <summary>All of it that was written to.</summary>
    private static byte[] ReadJournal(IPlatform platform, int processId, in MemoryRegion region)
    {
        using MemoryStream bytes = new();
        byte[] chunk = new byte[ChunkLength];
        for (ulong at = region.Start; at < region.End; at += (ulong)chunk.Length)
        {
            int length = (int)Math.Min((ulong)chunk.Length, region.End - at);
            int read = platform.ReadMemory(processId, at, chunk.AsSpan(0, length));
            if (read > 0)
            {
                bytes.Write(chunk.AsSpan(0, read));
            }

            if (read < length || chunk.AsSpan(0, read).IndexOfAnyExcept((byte)0) < 0)
            {
                break;
            }
        }

        return bytes.ToArray();
    }

    private void FindDescriptors(IPlatform platform, int processId)
    {
        List<int> numbers = [];
        if (platform.ListProcIds($"/proc/{processId}/fd", numbers) < 0)
        {
            return;
        }

        foreach (int number in numbers)
        {
            if (platform.ReadLink($"/proc/{processId}/fd/{number}", out _) is { } path && path.StartsWith(Prefix, StringComparison.Ordinal))
            {
                _descriptors.Add(number);
            }
        }
    }

    private static bool TryReadWord(IPlatform platform, int processId, ulong address, out ulong word)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        bool isRead = platform.ReadMemory(processId, address, bytes) == bytes.Length;
        word = isRead ? BinaryPrimitives.ReadUInt64LittleEndian(bytes) : 0;
        return isRead;
    }
}

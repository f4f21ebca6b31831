using System.Buffers.Binary;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// Reads the run-time linker's lists of libraries: one for each namespace (dlmopen; glibc tells of the others from 2.35 on). The memory is the target's own and
/// may hold anything, so lists are followed with bounds, and one that returns into itself, or cannot be read, is no list.
/// </summary>
/// <remarks>Control thread only: entries that were read before are not read again while they stand as they stood.</remarks>
internal sealed class LinkMapReader(IPlatform platform)
{
    /// <summary>Entries of all namespaces together: with four mappings each, more than the kernel's usual limit allows a process.</summary>
    private const int MaximumObjects = 16_384;

    /// <summary>How far before its dynamic section the beginning of a file is looked for.</summary>
    private const int MaximumMappings = 64;

    /// <summary>glibc has 16.</summary>
    private const int MaximumNamespaces = 64;

    private const int DebugLength = 40;
    private const int EntryLength = 40;

    private readonly Dictionary<ulong, LinkedObject> _known = [];

    /// <summary>The mappings, if they were needed in this look.</summary>
    private List<MemoryRegion>? _regions;

    private int _id;
    private TargetReader _reader;

    /// <summary>The namespaces at this moment; false if they cannot be read.</summary>
    /// <param name="id">The process, or one of its threads: the main thread may have left the others behind.</param>
    /// <param name="debugAddress">The first struct r_debug.</param>
    /// <param name="namespaces">What was read.</param>
    public bool TryRead(int id, ulong debugAddress, List<LinkNamespace> namespaces)
    {
        namespaces.Clear();
        _regions = null;
        _id = id;
        _reader = new TargetReader(platform, id);
        HashSet<ulong> seen = [];
        Span<byte> debug = stackalloc byte[DebugLength];
        for (ulong at = debugAddress; at != 0;)
        {
            if (namespaces.Count == MaximumNamespaces || namespaces.Exists(n => n.DebugAddress == at) || !_reader.TryRead(at, debug))
            {
                return false;
            }

            int version = BinaryPrimitives.ReadInt32LittleEndian(debug);
            uint state = BinaryPrimitives.ReadUInt32LittleEndian(debug[24..]);
            if (version is < 0 or > 100 || state > (uint)LinkerState.Deleting)
            {
                return false;
            }

            LinkNamespace space = new(at, (LinkerState)state, Word(debug, 16), []);
            if (!TryReadObjects(Word(debug, 8), space.Objects, seen, isBase: namespaces.Count == 0) && state == (uint)LinkerState.Consistent)
            {
                // While it is being changed it may well be cut.
                return false;
            }

            namespaces.Add(space);
            if (version < 2 || !_reader.TryReadWord(at + DebugLength, out at))
            {
                break;
            }
        }

        Forget(seen);
        return namespaces.Count != 0;
    }

    private bool TryReadObjects(ulong first, List<LinkedObject> objects, HashSet<ulong> seen, bool isBase)
    {
        Span<byte> entry = stackalloc byte[EntryLength];
        for (ulong at = first; at != 0; at = Word(entry, 24))
        {
            if (seen.Count == MaximumObjects || !_reader.TryRead(at, entry) || !seen.Add(at))
            {
                return false;
            }

            (ulong loadBase, ulong name, ulong dynamic) = (Word(entry, 0), Word(entry, 8), Word(entry, 16));
            if (!_known.TryGetValue(at, out LinkedObject known) || known.LoadBase != loadBase || known.NameAddress != name || known.DynamicAddress != dynamic)
            {
                known = Describe(at, loadBase, dynamic, name, isMain: isBase && objects.Count == 0);
                _known[at] = known;
            }

            objects.Add(known);
        }

        return true;
    }

    private LinkedObject Describe(ulong at, ulong loadBase, ulong dynamic, ulong name, bool isMain)
    {
        string path = _reader.ReadText(name) ?? "";
        ulong header = loadBase;
        if (path.Length == 0 || isMain || !LoadedElf.TryRead(_reader, header, out _))
        {
            // The program itself has no name, and may be linked to fixed addresses; its mapping tells both.
            (string mapped, header) = FindMapping(dynamic);
            path = path.Length == 0 || isMain ? mapped : path;
        }

        return LoadedElf.TryRead(_reader, header, out LoadedElf elf) && dynamic >= elf.Start && dynamic < elf.End
            ? new LinkedObject(at, loadBase, dynamic, name, path, elf.Start, elf.End - elf.Start)
            : new LinkedObject(at, loadBase, dynamic, name, path, 0, 0);
    }

    /// <summary>The file that is mapped at an address, and where its beginning is.</summary>
    private (string Path, ulong Header) FindMapping(ulong address)
    {
        if (_regions is null)
        {
            _ = ProcMaps.TryRead(platform, _id, out _regions, out _);
        }

        int index = FindRegion(_regions, address);
        if (index < 0)
        {
            return ("", 0);
        }

        MemoryRegion region = _regions[index];
        for (int i = index; i >= 0 && i > index - MaximumMappings; i--)
        {
            if (_regions[i].FileOffset == 0 && _regions[i].Inode == region.Inode && _regions[i].Path == region.Path)
            {
                return (region.Path, _regions[i].Start);
            }
        }

        return (region.Path, 0);
    }

    private static int FindRegion(List<MemoryRegion> regions, ulong address)
    {
        int low = 0;
        int high = regions.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (regions[middle].Contains(address))
            {
                return middle;
            }

            if (regions[middle].Start > address)
            {
                high = middle - 1;
            }
            else
            {
                low = middle + 1;
            }
        }

        return -1;
    }

    private void Forget(HashSet<ulong> seen)
    {
        if (_known.Count > seen.Count)
        {
            foreach (ulong gone in _known.Keys.Where(at => !seen.Contains(at)).ToArray())
            {
                _known.Remove(gone);
            }
        }
    }

    private static ulong Word(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);
}

/// <summary>One namespace of the run-time linker.</summary>
/// <param name="DebugAddress">Its struct r_debug.</param>
/// <param name="State">Whether its list is complete.</param>
/// <param name="Breakpoint">The function that is called at each change (r_brk); 0 before the linker has started.</param>
/// <param name="Objects">Its list, in the linker's order; of the first namespace, the program itself comes first.</param>
internal sealed record LinkNamespace(ulong DebugAddress, LinkerState State, ulong Breakpoint, List<LinkedObject> Objects);

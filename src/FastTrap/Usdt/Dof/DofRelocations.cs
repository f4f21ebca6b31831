using System.Buffers.Binary;

namespace FastTrap.Usdt;

/// <summary>Puts run-time addresses into a DOF object.</summary>
/// <remarks>
/// Addresses of probes only: relocations of other sections belong to D programs, which are not read. Source: dtrace_dof_relocate, with the
/// base and address that drti.c hands over.
/// </remarks>
internal static class DofRelocations
{
    private const int HeaderSize = 12;
    private const int EntrySize = 24;
    private const uint Nothing = 0, AddBase = 1, AddPlace = 2;

    /// <summary>Applies all relocations of probe sections.</summary>
    /// <exception cref="DofFormatException">One is not as it must be.</exception>
    public static void Apply(DofFile file, DofPlacement placement)
    {
        int budget = file.Length / EntrySize;
        foreach (DofSection header in file.Sections)
        {
            if (header.Type == DofSectionType.UserRelocations)
            {
                Apply(file, header, placement, ref budget);
            }
        }
    }

    private static void Apply(DofFile file, DofSection header, DofPlacement placement, ref int budget)
    {
        DofFile.Require(header.Size >= HeaderSize, DofProblem.Truncated, header.Index, "it is shorter than a relocation header");
        DofFile.RequireAligned(header, 4);
        ReadOnlySpan<byte> fields = file.Bytes(header);
        file.Get(BinaryPrimitives.ReadUInt32LittleEndian(fields), DofSectionType.StringTable, header.Index);
        DofSection table = file.Get(BinaryPrimitives.ReadUInt32LittleEndian(fields[4..]), DofSectionType.RelocationTable, header.Index);
        DofSection target = file.Get(BinaryPrimitives.ReadUInt32LittleEndian(fields[8..]), DofSectionType.None, header.Index);
        DofFile.RequireTable(table, EntrySize, 8);
        DofFile.Require(table.Count <= budget, DofProblem.LimitExceeded, header.Index, "its table is used more than once");
        budget -= table.Count;
        if (target.Type != DofSectionType.Probes)
        {
            return;
        }

        DofFile.RequireTable(target, sizeof(ulong), 8);
        ReadOnlySpan<byte> entries = file.Bytes(table);
        Span<byte> probes = file.Bytes(target);
        for (int i = 0; i < table.Count; i++)
        {
            ReadOnlySpan<byte> entry = entries.Slice(i * (int)table.EntrySize, EntrySize);
            uint kind = BinaryPrimitives.ReadUInt32LittleEndian(entry[4..]);
            ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
            if (kind == Nothing)
            {
                continue;
            }

            DofFile.Require(kind is AddBase or AddPlace, DofProblem.BadRelocation, table.Index, $"entry {i} is of the unknown kind {kind}");

            // The address is the first field of a probe; what else there is in a probe was not meant to be relocated.
            DofFile.Require(
                offset < (ulong)probes.Length && offset % target.EntrySize == 0, DofProblem.BadRelocation, table.Index, $"entry {i} is for no probe's address");
            Span<byte> field = probes[(int)offset..];
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(field);
            BinaryPrimitives.WriteUInt64LittleEndian(field, Relocate(value, kind, placement, (ulong)target.Offset + offset));
        }
    }

    private static ulong Relocate(ulong value, uint kind, DofPlacement placement, ulong place) =>
        kind == AddPlace ? unchecked(value + placement.Address + place)

        // Some linkers leave a relocation to the dynamic linker as well: in memory it is done by now, which the address shows.
        : value > placement.LoadBase && placement.LoadBase != 0 ? value
        : unchecked(value + placement.LoadBase);
}

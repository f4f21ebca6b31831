using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Reads a journal that another tracer has left in a process, and believes nothing of it: every number has its bounds, and what is to be restored must still show what was written.</summary>
internal static class JournalReader
{
    private const int LongestWindow = 64;
    private const int LongestTrampoline = 1 << 20;
    private const int MostPoints = 1024;
    private const int MostPushed = 256;

    /// <summary>The random number of this boot of the machine.</summary>
    public static void ReadBoot(IPlatform platform, Span<byte> boot)
    {
        boot.Clear();
        byte[]? text = platform.ReadProcFile("/proc/sys/kernel/random/boot_id", out _);
        if (text is not null && Guid.TryParse(System.Text.Encoding.ASCII.GetString(text).Trim(), CultureInfo.InvariantCulture, out Guid id))
        {
            id.TryWriteBytes(boot);
        }
    }

    /// <summary>Whose journal it is. False if it is none.</summary>
    /// <param name="platform">The kernel.</param>
    /// <param name="journal">Its bytes.</param>
    /// <param name="owner">The id of the tracer's process.</param>
    /// <param name="isAlive">Whether that process runs.</param>
    public static bool TryReadOwner(IPlatform platform, ReadOnlySpan<byte> journal, out int owner, out bool isAlive)
    {
        owner = 0;
        isAlive = false;
        if (journal.Length < JournalLayout.EntriesOffset || BinaryPrimitives.ReadUInt64LittleEndian(journal) != JournalLayout.Magic
            || BinaryPrimitives.ReadUInt32LittleEndian(journal[JournalLayout.VersionOffset..]) != JournalLayout.Version)
        {
            return false;
        }

        owner = BinaryPrimitives.ReadInt32LittleEndian(journal[JournalLayout.OwnerOffset..]);
        Span<byte> boot = stackalloc byte[JournalLayout.BootLength];
        ReadBoot(platform, boot);
        isAlive = owner > 0 && boot.SequenceEqual(journal.Slice(JournalLayout.BootOffset, JournalLayout.BootLength))
            && ProcStat.TryRead(platform, owner, out ProcStat stat, out _)
            && stat.StartTime == BinaryPrimitives.ReadUInt64LittleEndian(journal[JournalLayout.OwnerStartOffset..]);
        return true;
    }

    /// <summary>The sites that a journal has. False, with what is wrong, if it cannot be a journal of ours.</summary>
    /// <param name="journal">Its bytes.</param>
    /// <param name="isCode">Whether a range of addresses lies in a code region of ours.</param>
    /// <param name="sites">Takes the sites.</param>
    /// <param name="semaphores">Takes the addresses of semaphores that are raised.</param>
    /// <param name="problem">What is wrong.</param>
    public static bool TryRead(ReadOnlySpan<byte> journal, Func<ulong, int, bool> isCode, List<JumpSite> sites, List<ulong> semaphores, out string problem)
    {
        int at = JournalLayout.EntriesOffset;
        while (at + JournalLayout.BytesOffset <= journal.Length)
        {
            uint word = BinaryPrimitives.ReadUInt32LittleEndian(journal[at..]);
            if (word == 0)
            {
                break;
            }

            int length = (int)(word & JournalLayout.LengthMask);
            uint state = word & ~JournalLayout.LengthMask;
            if (length < JournalLayout.BytesOffset || length % sizeof(ulong) != 0 || length > journal.Length - at || state is not (JournalLayout.LiveFlag or JournalLayout.DeadFlag))
            {
                problem = $"the entry at {at:x} has no length";
                return false;
            }

            ReadOnlySpan<byte> entry = journal.Slice(at, length);
            at += length;
            if (state == JournalLayout.DeadFlag)
            {
                continue;
            }

            bool isWhole = BinaryPrimitives.ReadUInt32LittleEndian(entry[JournalLayout.SumOffset..]) == JournalLayout.Sum(entry);
            if (isWhole && entry.Length == JournalLayout.BytesOffset && entry[JournalLayout.PatchLengthOffset] == 0)
            {
                semaphores.Add(BinaryPrimitives.ReadUInt64LittleEndian(entry[JournalLayout.StartOffset..]));
                continue;
            }

            if (!isWhole || !TryReadSite(entry, isCode, out JumpSite? site))
            {
                problem = $"the entry at {at - length:x} makes no sense";
                return false;
            }

            sites.Add(site);
        }

        problem = "";
        return true;
    }

    private static bool TryReadSite(ReadOnlySpan<byte> entry, Func<ulong, int, bool> isCode, [NotNullWhen(true)] out JumpSite? site)
    {
        site = null;
        ulong start = BinaryPrimitives.ReadUInt64LittleEndian(entry[JournalLayout.StartOffset..]);
        ulong probed = BinaryPrimitives.ReadUInt64LittleEndian(entry[JournalLayout.SiteOffset..]);
        ulong code = BinaryPrimitives.ReadUInt64LittleEndian(entry[JournalLayout.CodeOffset..]);
        ulong island = BinaryPrimitives.ReadUInt64LittleEndian(entry[JournalLayout.IslandOffset..]);
        int codeLength = BinaryPrimitives.ReadInt32LittleEndian(entry[JournalLayout.CodeLengthOffset..]);
        int patchLength = entry[JournalLayout.PatchLengthOffset];
        int originalLength = entry[JournalLayout.OriginalLengthOffset];
        int pointCount = BinaryPrimitives.ReadInt32LittleEndian(entry[JournalLayout.PointCountOffset..]);
        RelocatedBody body = new(
            BinaryPrimitives.ReadInt32LittleEndian(entry[JournalLayout.BodyOffset..]), BinaryPrimitives.ReadInt32LittleEndian(entry[JournalLayout.BodyLengthOffset..]), probed);
        WindowKind kind = patchLength == PatchWindow.TrapLength ? WindowKind.Trap : island == 0 ? WindowKind.Near : WindowKind.Short;
        PatchWindow window = new(start, entry[JournalLayout.WindowLengthOffset], entry[JournalLayout.WindowCodeLengthOffset], probed, kind, island);
        int islandLength = island == 0 ? 0 : PatchWindow.NearLength;
        int pointsOffset = (JournalLayout.BytesOffset + originalLength + patchLength + (2 * islandLength) + 7) & ~7;
        if (start > AddressGaps.HighestOfX64 || island > AddressGaps.HighestOfX64 || codeLength is < 0 or > LongestTrampoline
            || !(isCode(code, codeLength) || (kind == WindowKind.Trap && (code, codeLength) == (0, 0)))
            || patchLength != window.PatchLength || (kind == WindowKind.Trap && island != 0) || originalLength < patchLength || originalLength > LongestWindow || window.CodeLength > originalLength
            || probed - start >= window.CodeLength || pointCount is < 0 or > MostPoints || entry.Length != pointsOffset + (pointCount * JournalLayout.PointLength)
            || body.Offset < 0 || body.Length < 0 || (long)body.Offset + body.Length > codeLength)
        {
            return false;
        }

        RelocatedPoint[] points = new RelocatedPoint[pointCount];
        for (int i = 0; i < pointCount; i++)
        {
            // The way of a branch that is taken stands for its target, which may be anywhere.
            ReadOnlySpan<byte> point = entry.Slice(pointsOffset + (i * JournalLayout.PointLength), JournalLayout.PointLength);
            int offset = BinaryPrimitives.ReadInt32LittleEndian(point);
            int pushed = BinaryPrimitives.ReadInt32LittleEndian(point[JournalLayout.PushedOffset..]);
            if ((uint)offset >= (uint)codeLength || pushed is < 0 or > MostPushed)
            {
                return false;
            }

            points[i] = new RelocatedPoint(offset, BinaryPrimitives.ReadUInt64LittleEndian(point[JournalLayout.OriginalOffset..]), pushed);
        }

        ReadOnlySpan<byte> bytes = entry[JournalLayout.BytesOffset..];
        byte[] patch = bytes.Slice(originalLength, patchLength).ToArray();
        byte[] islandPatch = bytes.Slice(originalLength + patchLength + islandLength, islandLength).ToArray();
        byte[] expected = new byte[patchLength];
        byte[] expectedIsland = new byte[islandLength];
        if (!window.TryEncode(code, expected, expectedIsland) || !expected.AsSpan().SequenceEqual(patch) || !expectedIsland.AsSpan().SequenceEqual(islandPatch))
        {
            return false;
        }

        site = JumpSite.Adopt(window, new Trampoline(code, codeLength, points, body));
        site.Original = bytes[..originalLength].ToArray();
        site.Patch = patch;
        site.IslandOriginal = bytes.Slice(originalLength + patchLength, islandLength).ToArray();
        site.IslandPatch = islandPatch;
        site.State = JumpState.Leading;
        return true;
    }
}

using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>Finds a system call instruction in a target: syscall (0f 05) or svc #0. Nothing is written for one.</summary>
internal static class SystemCallInstruction
{
    private const int ChunkLength = 64 * 1024;
    private const long MaximalSearchLength = 256L * 1024 * 1024;

    public static ReadOnlySpan<byte> Bytes(Architecture architecture) =>
        architecture == Architecture.X64 ? [0x0f, 0x05] : [0x01, 0x00, 0x00, 0xd4];

    /// <summary>
    /// Looks into the vdso first, then into the dynamic linker and the C library, then anywhere executable. ENOENT if there is none.
    /// </summary>
    public static Errno Find(IPlatform platform, int processId, Architecture architecture, out ulong address) =>
        FindBytes(platform, processId, Bytes(architecture), architecture == Architecture.X64 ? 1 : Bytes(architecture).Length, out address);

    /// <summary>As <see cref="Find"/>, for other instructions.</summary>
    public static Errno FindBytes(IPlatform platform, int processId, ReadOnlySpan<byte> wanted, int alignment, out ulong address)
    {
        address = 0;
        if (!ProcMaps.TryRead(platform, processId, out List<MemoryRegion> regions, out Errno error))
        {
            return error;
        }

        regions.RemoveAll(static r => !r.IsExecutable || !r.IsReadable || r.Start > long.MaxValue);
        regions.Sort(static (a, b) => (Rank(a.Path), a.Start).CompareTo((Rank(b.Path), b.Start)));
        byte[] buffer = new byte[ChunkLength];
        long searched = 0;
        foreach (MemoryRegion region in regions)
        {
            if (TrySearch(platform, processId, wanted, alignment, region, buffer, ref searched, out address))
            {
                return Errno.None;
            }

            if (searched >= MaximalSearchLength)
            {
                break;
            }
        }

        return Errno.ENOENT;
    }

    /// <summary>Whether there still is one at an address.</summary>
    public static bool IsAt(IPlatform platform, int processId, Architecture architecture, ulong address)
    {
        ReadOnlySpan<byte> wanted = Bytes(architecture);
        Span<byte> found = stackalloc byte[wanted.Length];
        return platform.ReadMemory(processId, address, found) == wanted.Length && found.SequenceEqual(wanted);
    }

    private static int Rank(string path)
    {
        string name = Path.GetFileName(path);
        return path == "[vdso]" ? 0
            : name.StartsWith("ld-", StringComparison.Ordinal) ? 1
            : name.StartsWith("libc", StringComparison.Ordinal) ? 2
            : 3;
    }

    private static bool TrySearch(
        IPlatform platform,
        int processId,
        ReadOnlySpan<byte> wanted,
        int alignment,
        in MemoryRegion region,
        byte[] buffer,
        ref long searched,
        out ulong address)
    {
        ulong at = region.Start;
        while (at < region.End && searched < MaximalSearchLength)
        {
            int length = (int)Math.Min((ulong)buffer.Length, region.End - at);
            int read = platform.ReadMemory(processId, at, buffer.AsSpan(0, length));
            if (read < wanted.Length)
            {
                break;
            }

            searched += read;
            for (int from = 0; ;)
            {
                int index = buffer.AsSpan(from, read - from).IndexOf(wanted);
                if (index < 0)
                {
                    break;
                }

                ulong candidate = at + (ulong)(from + index);
                if (candidate % (ulong)alignment == 0)
                {
                    address = candidate;
                    return true;
                }

                from += index + 1;
            }

            // One may lie across two chunks.
            at += (ulong)(read < length ? read : length == buffer.Length ? length - Math.Max(alignment, wanted.Length - 1) : length);
            if (read < length)
            {
                break;
            }
        }

        address = 0;
        return false;
    }
}

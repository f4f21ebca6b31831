using System.Buffers;
using System.Globalization;
using System.Text;
using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>
/// The functions which a JIT compiler lists in <c>/tmp/perf-PID.map</c>: lines of start, size (hexadecimal) and name. The file grows while
/// the target runs; <see cref="Refresh"/> reads what is new. Code memory is reused, so where lines overlap the later one is meant.
/// </summary>
/// <remarks>Any thread; a leaf lock guards what has been read, and <see cref="Symbols"/> is an immutable snapshot.</remarks>
internal sealed class PerfMap(IPlatform platform, string path, ElfLimits? limits = null)
{
    private const int BlockBytes = 1 << 20;

    private readonly ElfLimits _limits = limits ?? ElfLimits.Default;
    private readonly Lock _lock = new();
    private readonly ArrayBufferWriter<byte> _names = new();
    private List<PerfMapEntry> _entries = [];
    private FileIdentity _identity;
    private long _consumed;
    private volatile SymbolTable _symbols = SymbolTable.Empty;

    /// <summary>The file, by this machine's path.</summary>
    public string Path { get; } = path;

    /// <summary>The functions as of the last <see cref="Refresh"/>; addresses are the target's.</summary>
    public SymbolTable Symbols => _symbols;

    /// <summary>Lines that are not understood, so far.</summary>
    public long SkippedLines { get; private set; }

    /// <summary>Whether the file is longer, or lists more functions, than the limits allow, so that its rest is not read.</summary>
    public bool IsCutShort { get; private set; }

    /// <summary>The path of a process's file: in its own /tmp, under the process id that it has in its own namespace.</summary>
    public static string PathFor(IPlatform platform, int processId)
    {
        int own = processId;
        byte[]? status = platform.ReadProcFile($"/proc/{processId}/status", out _);
        foreach (string line in Encoding.UTF8.GetString(status ?? []).Split('\n'))
        {
            if (line.StartsWith("NSpid:", StringComparison.Ordinal)
                && int.TryParse(line[(line.LastIndexOfAny(['\t', ' ', ':']) + 1)..], CultureInfo.InvariantCulture, out int innermost))
            {
                own = innermost;
            }
        }

        return $"/proc/{processId}/root/tmp/perf-{own}.map";
    }

    /// <summary>
    /// Reads what has been added since the last time, or everything when it is another file. True if the functions may have changed.
    /// </summary>
    public bool Refresh()
    {
        lock (_lock)
        {
            if (platform.OpenFile(Path, out TargetFile? file) != Errno.None)
            {
                return false;
            }

            using (file)
            {
                FileIdentity identity = file!.Identity;
                bool isSame = identity.Device == _identity.Device && identity.Inode == _identity.Inode && file.Length >= _consumed;
                if (!isSame)
                {
                    _entries = [];
                    _names.ResetWrittenCount();
                    _consumed = 0;
                    SkippedLines = 0;
                    IsCutShort = false;
                }

                _identity = identity;
                if (!ReadLines(file) && isSame)
                {
                    return false;
                }
            }

            _entries = PerfMapEntry.RemoveReplaced(_entries);
            _symbols = BuildTable();
            return true;
        }
    }

    private bool ReadLines(TargetFile file)
    {
        byte[] buffer = new byte[BlockBytes];
        bool isAnyNew = false;
        while (!IsCutShort)
        {
            int wanted = (int)Math.Min(BlockBytes, _limits.MaxPerfMapBytes - _consumed);
            int count = wanted <= 0 ? 0 : file.Read(_consumed, buffer.AsSpan(0, wanted));
            if (count <= 0)
            {
                IsCutShort = wanted <= 0;
                break;
            }

            // Only whole lines: the target may be in the middle of writing the last one.
            ReadOnlySpan<byte> block = buffer.AsSpan(0, count);
            int end = block.LastIndexOf((byte)'\n') + 1;
            if (end == 0)
            {
                if (count < BlockBytes)
                {
                    IsCutShort = _consumed + count >= _limits.MaxPerfMapBytes;
                    break;
                }

                // A line of a whole block is none.
                SkippedLines++;
                _consumed += count;
                continue;
            }

            foreach (Range line in block[..(end - 1)].Split((byte)'\n'))
            {
                isAnyNew |= AddLine(block[line]);
            }

            _consumed += end;
        }

        return isAnyNew;
    }

    private bool AddLine(ReadOnlySpan<byte> line)
    {
        if (line.IsEmpty)
        {
            return false;
        }

        if (_entries.Count >= _limits.MaxPerfMapEntries)
        {
            IsCutShort = true;
            return false;
        }

        if (!TryReadHex(ref line, out ulong start) || !TryReadHex(ref line, out ulong size) || size == 0 || size > uint.MaxValue
            || start > ulong.MaxValue - size || line.IsEmpty || line.Length > _limits.MaxNameLength || line.Contains((byte)0))
        {
            SkippedLines++;
            return false;
        }

        _entries.Add(new PerfMapEntry(start, start + size, _names.WrittenCount, line.Length));
        _names.Write(line);
        return true;
    }

    /// <summary>Takes a hexadecimal number and the blanks after it off a line.</summary>
    private static bool TryReadHex(ref ReadOnlySpan<byte> line, out ulong value)
    {
        int end = line.IndexOf((byte)' ');
        ReadOnlySpan<byte> digits = end < 0 ? line : line[..end];
        digits = digits.StartsWith("0x"u8) ? digits[2..] : digits;
        line = end < 0 ? default : line[end..].TrimStart((byte)' ');
        return ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
    }

    private SymbolTable BuildTable()
    {
        SymbolTableBuilder builder = new(Path, _limits);
        builder.Reserve(_entries.Count);
        byte source = builder.AddSource(_names.WrittenMemory);
        foreach (PerfMapEntry entry in _entries)
        {
            builder.Add(new RawSymbol
            {
                Address = entry.Start,
                Size = (uint)(entry.End - entry.Start),
                Source = source,
                NameOffset = entry.NameOffset,
                NameLength = entry.NameLength,
            });
        }

        return builder.Build();
    }
}

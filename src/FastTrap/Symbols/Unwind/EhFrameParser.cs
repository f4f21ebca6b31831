using System.Buffers;

namespace FastTrap.Symbols;

/// <summary>Parses .eh_frame (LSB core specification, "Exception Frames") once from its beginning to its end. One thread.</summary>
internal sealed class EhFrameParser
{
    private const byte OmittedPointer = 0xff;
    private const ulong X64StackPointer = 7;
    private const ulong Arm64StackPointer = 31;

    private readonly ElfFile _elf;
    private readonly ulong _address;
    private readonly bool _stopsAtZero;
    private readonly CfaRule _afterCall;
    private readonly Dictionary<int, CommonEntry> _commonEntries = [];
    private readonly List<ulong> _starts = [];
    private readonly List<(uint Length, bool IsContinuation)> _ranges = [];
    private readonly List<(ulong Start, ulong Table)> _handlerTables = [];

    private EhFrameParser(ElfFile elf, ulong address, bool stopsAtZero)
    {
        _elf = elf;
        _address = address;
        _stopsAtZero = stopsAtZero;

        // A call pushes the return address on x86-64, so the caller's frame begins 8 above the stack pointer; arm64 keeps it in a register.
        _afterCall = elf.Machine == ElfMachine.X64 ? new CfaRule(X64StackPointer, 8, false) : new CfaRule(Arm64StackPointer, 0, false);
    }

    /// <summary>Reads the tables of a file, by the section or by PT_GNU_EH_FRAME.</summary>
    public static EhFrame Read(ElfFile elf)
    {
        if (elf.TryGetSection(".eh_frame"u8, out ElfSection section) && section.Type != ElfSection.NoBits)
        {
            return Parse(elf, section.FileOffset, section.Size, section.Address, false);
        }

        foreach (ElfSegment segment in elf.Segments)
        {
            if (segment.Type == ElfSegment.EhFrameHeader && TryReadHeader(elf, segment, out ulong address)
                && elf.TryGetFileOffset(address, out ulong offset, out ulong available))
            {
                return Parse(elf, offset, available, address, true);
            }
        }

        return EhFrame.Empty;
    }

    private static EhFrame Parse(ElfFile elf, ulong offset, ulong size, ulong address, bool stopsAtZero)
    {
        int length = elf.CheckRange(offset, size, "the unwind table");
        byte[] rented = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            elf.ReadExactly(offset, rented.AsSpan(0, length), "the unwind table");
            EhFrameParser parser = new(elf, address, stopsAtZero);
            parser.ParseRecords(rented.AsSpan(0, length));
            return parser.Finish();
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    private static bool TryReadHeader(ElfFile elf, in ElfSegment segment, out ulong address)
    {
        byte[] bytes = elf.ReadRange(segment.FileOffset, Math.Min(segment.FileSize, 16), "the unwind table's header");
        CfiReader reader = new(bytes, segment.Address);
        byte version = reader.ReadByte();
        byte encoding = reader.ReadByte();
        reader.ReadByte();
        reader.ReadByte();
        address = 0;
        return version == 1 && encoding != OmittedPointer
            && reader.TryReadPointer(encoding, segment.Address, out address) && !reader.IsPastEnd;
    }

    private void ParseRecords(ReadOnlySpan<byte> table)
    {
        int position = 0;
        while (table.Length - position >= 4)
        {
            CfiReader reader = new(table[position..], _address + (ulong)position);
            ulong length = reader.ReadUInt32();
            if (length == 0)
            {
                if (_stopsAtZero)
                {
                    return;
                }

                // Files linked in an unusual order have terminators within; the section's end is the end.
                position += 4;
                continue;
            }

            length = length == uint.MaxValue ? reader.ReadUInt64() : length;
            int body = position + reader.Position;
            if (reader.IsPastEnd || length < 4 || length > (ulong)(table.Length - body))
            {
                throw Malformed(position, "reaches past the end of the table");
            }

            ParseRecord(table.Slice(body, (int)length), body, position);
            position = body + (int)length;
        }
    }

    private void ParseRecord(ReadOnlySpan<byte> body, int bodyPosition, int recordPosition)
    {
        CfiReader reader = new(body, _address + (ulong)bodyPosition);
        uint id = reader.ReadUInt32();
        if (id == 0)
        {
            _commonEntries[recordPosition] = ParseCommonEntry(ref reader, recordPosition);
        }
        else if (_commonEntries.TryGetValue(unchecked(bodyPosition - (int)id), out CommonEntry? common))
        {
            ParseRange(ref reader, common, recordPosition);
        }
        else
        {
            throw Malformed(recordPosition, "refers to no common entry");
        }
    }

    private CommonEntry ParseCommonEntry(ref CfiReader reader, int position)
    {
        byte version = reader.ReadByte();
        ReadOnlySpan<byte> augmentation = reader.ReadString();
        if (augmentation.StartsWith("eh"u8))
        {
            reader.Skip(8);
        }

        if (version == 4)
        {
            reader.Skip(2);
        }

        reader.ReadUleb();
        long dataAlignment = reader.ReadSleb();
        if (version == 1)
        {
            reader.ReadByte();
        }
        else
        {
            reader.ReadUleb();
        }

        byte encoding = 0;
        byte handlerEncoding = OmittedPointer;
        bool isSignalFrame = false;
        bool isKnown = version is 1 or 3 or 4;
        bool hasLength = augmentation is [(byte)'z', ..];
        if (hasLength)
        {
            ulong length = reader.ReadUleb();
            int start = reader.Position;
            foreach (byte letter in augmentation[1..])
            {
                switch (letter)
                {
                    case (byte)'L':
                        handlerEncoding = reader.ReadByte();
                        break;
                    case (byte)'P':
                        reader.TryReadPointer(reader.ReadByte(), 0, out _);
                        break;
                    case (byte)'R':
                        encoding = reader.ReadByte();
                        break;
                    case (byte)'S':
                        isSignalFrame = true;
                        break;
                    case (byte)'B' or (byte)'G':
                        break;
                    default:
                        isKnown = false;
                        break;
                }
            }

            ulong read = (ulong)(reader.Position - start);
            if (read > length)
            {
                throw Malformed(position, "has augmentation data of the wrong length");
            }

            reader.Skip(length - read);
        }

        if (reader.IsPastEnd)
        {
            throw Malformed(position, "ends within its fields");
        }

        CfaRule rule = default;
        isKnown &= CfaRule.TryRun(reader.Rest, dataAlignment, ref rule);
        return new CommonEntry(encoding, handlerEncoding, dataAlignment, hasLength, isSignalFrame, isKnown, rule);
    }

    private void ParseRange(ref CfiReader reader, CommonEntry common, int position)
    {
        bool isUsable = reader.TryReadPointer(common.PointerEncoding, 0, out ulong start);
        isUsable &= reader.TryReadPointer((byte)(common.PointerEncoding & 0x0f), 0, out ulong length);
        ulong handlers = 0;
        if (common.HasAugmentationLength)
        {
            ulong size = reader.ReadUleb();
            int before = reader.Position;
            if (common.HandlerEncoding != OmittedPointer && size > 0)
            {
                // Zero means none, whatever it is relative to.
                ulong none = (common.HandlerEncoding & CfiReader.ApplicationMask) == 0 ? 0 : reader.Address;
                bool isKnown = reader.TryReadPointer(common.HandlerEncoding, 0, out handlers);
                handlers = handlers == none ? 0 : isKnown ? handlers : EhFrame.UnknownTable;
            }

            ulong taken = (ulong)(reader.Position - before);
            reader.Skip(size > taken ? size - taken : 0);
        }

        if (reader.IsPastEnd)
        {
            throw Malformed(position, "ends within its fields");
        }

        // Linkers leave ranges of functions which they dropped; those are empty or stand where no code is.
        if (!isUsable || length == 0 || !_elf.TryGetExecutableSegment(start, out ElfSegment segment))
        {
            return;
        }

        if (_starts.Count == _elf.Limits.MaxUnwindRanges)
        {
            throw _elf.Fail(ElfProblem.LimitExceeded, $"more than {_elf.Limits.MaxUnwindRanges} unwind ranges");
        }

        length = Math.Min(length, segment.MemorySize - (start - segment.Address));
        if (handlers != 0)
        {
            _handlerTables.Add((start, handlers));
        }

        _starts.Add(start);
        _ranges.Add(((uint)Math.Min(length, uint.MaxValue), IsContinuation(common, reader.Rest)));
    }

    private bool IsContinuation(CommonEntry common, ReadOnlySpan<byte> instructions)
    {
        CfaRule rule = common.Rule;
        if (!common.IsKnown || common.IsSignalFrame || !CfaRule.TryRun(instructions, common.DataAlignment, ref rule) || rule == _afterCall)
        {
            return false;
        }

        // The procedure linkage table begins with what looks like a frame, and goes on with an expression for its equal entries.
        bool isPlt = rule == _afterCall with { Offset = 16 } && instructions.IndexOf((byte)0x0f) > 0;
        return !isPlt;
    }

    private EhFrame Finish()
    {
        ulong[] starts = [.. _starts];
        (uint Length, bool IsContinuation)[] ranges = [.. _ranges];
        Array.Sort(starts, ranges);
        return new EhFrame(starts, Array.ConvertAll(ranges, r => r.Length), Array.ConvertAll(ranges, r => r.IsContinuation), [.. _handlerTables]);
    }

    private ElfFormatException Malformed(int position, string what) =>
        _elf.Fail(ElfProblem.Malformed, $"the unwind record at offset {position} of its table {what}");

    /// <summary>A CIE: what the ranges that refer to it have in common.</summary>
    private sealed record CommonEntry(
        byte PointerEncoding, byte HandlerEncoding, long DataAlignment, bool HasAugmentationLength, bool IsSignalFrame, bool IsKnown, CfaRule Rule);
}

using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using FastTrap.Symbols;

namespace FastTrap.Usdt;

/// <summary>
/// The static probes of a file: its notes of owner <c>stapsdt</c>, version 3. Bytes are hostile: what is wrong is left out and listed, the rest stands.
/// </summary>
/// <remarks>
/// Immutable; any thread. Notes are read from the file that is loaded, never from its separate debug file, which may hold them again. They are found by section,
/// for no segment holds them.
/// </remarks>
internal sealed class UsdtNotes
{
    /// <summary>The provider of functions and instructions; nobody else's probes can have it.</summary>
    public const string ReservedProvider = "pid";

    private static readonly byte[] s_reserved = Encoding.ASCII.GetBytes(ReservedProvider);

    private const uint Version3 = 3;
    private const int MaximumNotes = 1 << 17;
    private const int MaximumProblems = 64;
    private const ulong MaximumSectionBytes = 64 << 20;
    private const int MaximumNameLength = 255;
    private const int MaximumArgumentsLength = 4096;
    private const int FixedLength = 3 * sizeof(ulong);

    private static readonly SearchValues<byte> s_nameBytes =
        SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$@"u8);

    private readonly List<UsdtNote> _notes = [];
    private readonly List<UsdtNoteProblem> _problems = [];
    private readonly ElfFile _elf;
    private readonly ulong _base;

    private UsdtNotes(ElfFile elf)
    {
        _elf = elf;
        _base = elf.TryGetSection(".stapsdt.base"u8, out ElfSection section) ? section.Address : 0;
    }

    /// <summary>The usable notes, in the file's order.</summary>
    public IReadOnlyList<UsdtNote> All => _notes;

    /// <summary>What could not be used; 64 at most are listed.</summary>
    public IReadOnlyList<UsdtNoteProblem> Problems => _problems;

    /// <summary>Reads a file's notes. It never throws for what the file holds.</summary>
    public static UsdtNotes Read(ElfFile elf)
    {
        UsdtNotes notes = new(elf);
        foreach (ElfSection section in elf.Sections)
        {
            if (section.Type == ElfSection.Note && elf.SectionName(section).SequenceEqual(".note.stapsdt"u8))
            {
                notes.ReadSection(section);
            }
        }

        return notes;
    }

    private void ReadSection(in ElfSection section)
    {
        byte[] bytes;
        try
        {
            if (section.Size > MaximumSectionBytes)
            {
                Fail(UsdtProblem.Section, section.FileOffset);
                return;
            }

            bytes = _elf.ReadRange(section.FileOffset, section.Size, "the static probes");
        }
        catch (ElfFormatException)
        {
            // Outside the file, or the file was cut short: the other sections may be whole.
            Fail(UsdtProblem.Section, section.FileOffset);
            return;
        }

        ElfNoteReader reader = new(bytes);
        while (reader.TryRead())
        {
            if (!reader.Name.SequenceEqual("stapsdt\0"u8))
            {
                continue;
            }

            ulong offset = section.FileOffset + (ulong)reader.Offset;
            if (_notes.Count >= MaximumNotes)
            {
                Fail(UsdtProblem.TooMany, offset);
                return;
            }

            if (reader.Type != Version3)
            {
                Fail(UsdtProblem.Version, offset);
            }
            else
            {
                Add(reader.Content, offset);
            }
        }

        if (reader.IsCutShort)
        {
            Fail(UsdtProblem.Truncated, section.FileOffset);
        }
    }

    private void Add(ReadOnlySpan<byte> content, ulong offset)
    {
        if (content.Length < FixedLength || !TryTakeText(content[FixedLength..], out ReadOnlySpan<byte> provider, out ReadOnlySpan<byte> rest)
            || !TryTakeText(rest, out ReadOnlySpan<byte> name, out rest) || !TryTakeText(rest, out ReadOnlySpan<byte> arguments, out _))
        {
            Fail(UsdtProblem.Truncated, offset);
            return;
        }

        ulong address = BinaryPrimitives.ReadUInt64LittleEndian(content);
        ulong linkedBase = BinaryPrimitives.ReadUInt64LittleEndian(content[8..]);
        ulong semaphore = BinaryPrimitives.ReadUInt64LittleEndian(content[16..]);

        // A prelinker moves the sections and leaves notes as they were: the section of the base tells by how much.
        ulong moved = _base != 0 && linkedBase != 0 ? _base - linkedBase : 0;
        address += moved;
        semaphore = semaphore == 0 ? 0 : semaphore + moved;
        if (!IsName(provider) || !IsName(name) || IsReserved(provider))
        {
            Fail(UsdtProblem.Name, offset);
        }
        else if (arguments.Length > MaximumArgumentsLength || arguments.ContainsAnyExceptInRange((byte)' ', (byte)'~'))
        {
            Fail(UsdtProblem.Arguments, offset);
        }
        else if (!_elf.TryGetExecutableSegment(address, out _))
        {
            Fail(UsdtProblem.Address, offset);
        }
        else if (semaphore != 0 && !IsData(semaphore))
        {
            Fail(UsdtProblem.Semaphore, offset);
        }
        else
        {
            _notes.Add(new UsdtNote(
                Encoding.ASCII.GetString(provider), Encoding.ASCII.GetString(name), address, semaphore, Encoding.ASCII.GetString(arguments)));
        }
    }

    /// <summary>Whether a provider's name is that of functions and instructions, or could not be told from it: with the process's id behind it, <c>pid12</c> of process 34 reads like that of 1234.</summary>
    public static bool IsReserved(ReadOnlySpan<byte> provider) =>
        provider.StartsWith(s_reserved) && !provider[s_reserved.Length..].ContainsAnyExceptInRange((byte)'0', (byte)'9');

    private static bool IsName(ReadOnlySpan<byte> name) =>
        name.Length is > 0 and <= MaximumNameLength && !name.ContainsAnyExcept(s_nameBytes);

    /// <summary>Whether both bytes of a semaphore lie in one writable segment.</summary>
    private bool IsData(ulong address)
    {
        foreach (ElfSegment segment in _elf.Segments)
        {
            if (segment.Type == ElfSegment.Load && segment.IsWritable && segment.Contains(address) && segment.Contains(address + 1))
            {
                return true;
            }
        }

        return false;
    }

    private void Fail(UsdtProblem problem, ulong offset)
    {
        if (_problems.Count < MaximumProblems)
        {
            _problems.Add(new UsdtNoteProblem(problem, offset));
        }
    }

    private static bool TryTakeText(ReadOnlySpan<byte> bytes, out ReadOnlySpan<byte> text, out ReadOnlySpan<byte> rest)
    {
        int end = bytes.IndexOf((byte)0);
        text = end < 0 ? default : bytes[..end];
        rest = end < 0 ? default : bytes[(end + 1)..];
        return end >= 0;
    }
}

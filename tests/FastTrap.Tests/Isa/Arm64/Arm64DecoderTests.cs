using System.Buffers.Binary;
using System.Text.RegularExpressions;
using FastTrap.Isa;
using FastTrap.Isa.Arm64;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>Classes of random words against objdump's mnemonics.</summary>
[TestFixture, Parallelizable]
internal sealed partial class Arm64DecoderTests
{
    private const int RandomWords = 30_000;
    private const int WordsOfEach = 300;

    /// <summary>Tables which random words seldom meet.</summary>
    private static readonly Arm64Words[] s_rare =
    [
        new("exception generation", 0xff00_0000, 0xd400_0000),
        new("exception generation, small", 0xff00_ffe0, 0xd400_0000),
        new("system", 0xff00_0000, 0xd500_0000),
        new("hints", 0xffff_f01f, 0xd503_201f),
        new("barriers", 0xffff_f01f, 0xd503_301f),
        new("branch register", 0xfe1f_f000, 0xd61f_0000),
        new("branch register, authenticated", 0xfe1f_f000, 0xd61f_0000),
        new("exclusive, ordered, compare and swap", 0x3f00_0000, 0x0800_0000),
        new("memory copy", 0x3f20_0c00, 0x1900_0400),
        new("memory copy with options", 0x3f20_0c00, 0x1d00_0400),
        new("UDF", 0xffff_0000, 0x0000_0000),
        new("reserved", 0x9e00_0000, 0x0000_0000),
    ];

    [Test]
    public void ClassesAreObjdumps()
    {
        Random random = new(7);
        List<uint> words = [];
        for (int i = 0; i < RandomWords; i++)
        {
            words.Add((uint)random.NextInt64());
        }

        foreach (Arm64Words table in (Arm64Words[])[.. Arm64Words.Emulated, .. Arm64Words.Slotted, .. s_rare])
        {
            for (int i = 0; i < WordsOfEach; i++)
            {
                words.Add(table.Next(random));
            }
        }

        byte[] bytes = new byte[words.Count * sizeof(uint)];
        for (int i = 0; i < words.Count; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(i * sizeof(uint)), words[i]);
        }

        Dictionary<ulong, Arm64Line> listing = Arm64Listing.OfWords(bytes);
        Assert.That(listing, Has.Count.EqualTo(words.Count));
        List<string> wrong = [];
        foreach ((ulong address, Arm64Line line) in listing)
        {
            Assert.That(line.Word, Is.EqualTo(words[(int)(address / sizeof(uint))]));
            string? difference = line.Mnemonic == ".inst" ? CheckUnknown(line.Word, address) : Check(line, address);
            if (difference is not null)
            {
                wrong.Add($"{line.Word:x8} {line.Mnemonic} {line.Operands}: {difference}");
            }
        }

        Assert.That(wrong.Take(20), Is.Empty, $"{wrong.Count} of {words.Count}");
    }

    private static string? Check(Arm64Line line, ulong address)
    {
        Arm64Class @class = Arm64Encodings.Classify(new Arm64Word(line.Word));
        Arm64Class? expected = ClassOf(line);
        bool fits = expected is { } known
            ? @class == known
            : @class is Arm64Class.Independent or Arm64Class.Hint or >= Arm64Class.AddSubtractImmediate;
        if (!fits)
        {
            return @class.ToString();
        }

        if (@class is Arm64Class.Branch or Arm64Class.BranchLink or Arm64Class.BranchConditional or Arm64Class.CompareBranch or Arm64Class.TestBranch
            or Arm64Class.Address)
        {
            Decode(line.Word, address, out DisplacedInstruction instruction);
            ulong target = Arm64Listing.TargetOf(line);
            return instruction.Immediate == target ? null : $"to {instruction.Immediate:x}";
        }

        return null;
    }

    /// <summary>What objdump does not know must not be emulated, and is no branch that we know either; newer than objdump it may be.</summary>
    private static string? CheckUnknown(uint word, ulong address)
    {
        Arm64Class @class = Arm64Encodings.Classify(new Arm64Word(word));
        bool isDecoded = Decode(word, address, out DisplacedInstruction instruction);
        return isDecoded && instruction.Kind == DisplacedKind.Emulated ? $"emulated as {@class}"
            : @class is >= Arm64Class.Branch and <= Arm64Class.SystemCall or Arm64Class.ClearExclusive ? @class.ToString() : null;
    }

    private static bool Decode(uint word, ulong address, out DisplacedInstruction instruction)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, word);
        return Arm64InstructionSet.Instance.TryDecode(bytes, address, out instruction, out _);
    }

    /// <summary>The class that a mnemonic stands for; null for those that are not told apart.</summary>
    internal static Arm64Class? ClassOf(Arm64Line line) => line.Mnemonic switch
    {
        "b" => Arm64Class.Branch,
        "bl" => Arm64Class.BranchLink,
        ['b', '.', ..] or ['b', 'c', '.', ..] => Arm64Class.BranchConditional,
        "cbz" or "cbnz" => Arm64Class.CompareBranch,
        "tbz" or "tbnz" => Arm64Class.TestBranch,
        "br" => Arm64Class.BranchRegister,
        "blr" => Arm64Class.BranchLinkRegister,
        "ret" => Arm64Class.Return,
        "braa" or "brab" or "braaz" or "brabz" => Arm64Class.BranchAuthenticated,
        "blraa" or "blrab" or "blraaz" or "blrabz" => Arm64Class.BranchLinkAuthenticated,
        "retaa" or "retab" => Arm64Class.ReturnAuthenticated,
        "eret" or "eretaa" or "eretab" or "drps" => Arm64Class.ExceptionReturn,
        "adr" or "adrp" when !line.Operands.Contains('[', StringComparison.Ordinal) => Arm64Class.Address,
        "hint" when line.Operands == "#0x27" => Arm64Class.PositionDependent,
        "brk" => Arm64Class.Breakpoint,
        "svc" => Arm64Class.SystemCall,
        "hvc" or "smc" or "hlt" or "dcps1" or "dcps2" or "dcps3" => Arm64Class.ExceptionGenerating,
        "udf" => Arm64Class.PermanentlyUndefined,
        "clrex" => Arm64Class.ClearExclusive,
        "ldr" or "ldrsw" or "prfm" when !line.Operands.Contains('[', StringComparison.Ordinal) => Arm64Class.LoadLiteral,
        _ when LoadExclusive().IsMatch(line.Mnemonic) => Arm64Class.LoadExclusive,
        _ when StoreExclusive().IsMatch(line.Mnemonic) => Arm64Class.StoreExclusive,
        _ when LaterPart().IsMatch(line.Mnemonic) => Arm64Class.PositionDependent,
        _ => null,
    };

    [GeneratedRegex("^lda?x[rp][bh]?$")]
    private static partial Regex LoadExclusive();

    [GeneratedRegex("^stl?x[rp][bh]?$")]
    private static partial Regex StoreExclusive();

    [GeneratedRegex("^(cpyf?|setg?)[me](w|r|t|n)*$")]
    private static partial Regex LaterPart();
}

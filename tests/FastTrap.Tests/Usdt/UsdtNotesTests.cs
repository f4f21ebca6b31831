using System.Buffers.Binary;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using FastTrap.Tests.TestKit;
using FastTrap.Usdt;

namespace FastTrap.Tests.Usdt;

/// <summary>Notes that are wrong, in files that are otherwise whole: each is left out with a reason, and the others stand.</summary>
[TestFixture, Parallelizable]
public sealed class UsdtNotesTests
{
    private readonly string _path = TargetBuilder.Build("usdt");
    private byte[] _bytes = [];
    private ElfSection _section;
    private int _count;

    [OneTimeSetUp]
    public void ReadTheFile()
    {
        _bytes = File.ReadAllBytes(_path);
        using ElfFile elf = Open(_bytes);
        Assert.That(elf.TryGetSection(".note.stapsdt"u8, out _section), Is.True);
        _count = UsdtNotes.Read(elf).All.Count;
        Assert.That(_count, Is.GreaterThan(15));
    }

    [TestCase(8, 2, UsdtProblem.Version, TestName = "AnotherVersionIsLeftOut")]
    [TestCase(20, 0, UsdtProblem.Address, TestName = "ASiteOutsideOfCodeIsLeftOut")]
    [TestCase(36, 1, UsdtProblem.Semaphore, TestName = "ASemaphoreOutsideOfDataIsLeftOut")]
    [TestCase(44, ':', UsdtProblem.Name, TestName = "AColonInANameIsLeftOut")]
    [TestCase(44, 0, UsdtProblem.Name, TestName = "AnEmptyNameIsLeftOut")]
    [TestCase(44 + 14 + 22, 7, UsdtProblem.Arguments, TestName = "AControlCharacterInArgumentsIsLeftOut")]
    public void OneIsLeftOut(int offset, int value, object problemObject)
    {
        UsdtProblem problem = (UsdtProblem)problemObject;

        // The first note: header 12, "stapsdt" 8, location 8, base 8, semaphore 8, then the texts fasttrap_test, sizes__of__registers, arguments.
        byte[] bytes = [.. _bytes];
        int at = (int)_section.FileOffset + offset;
        bytes[at] = (byte)value;
        if (problem == UsdtProblem.Address)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(at), 0x7fff_0000_0000);
        }

        UsdtNotes notes = Read(bytes);
        Assert.That(notes.Problems, Is.EqualTo(new[] { new UsdtNoteProblem(problem, _section.FileOffset) }));
        Assert.That(notes.All, Has.Count.EqualTo(_count - 1));
    }

    /// <summary><c>pid12</c> of process 34 would read like the provider of process 1234.</summary>
    [TestCase("pid\0pid")]
    [TestCase("pid12\0x")]
    public void TheProviderOfFunctionsCannotBeSpoofed(string names)
    {
        byte[] bytes = [.. _bytes];
        System.Text.Encoding.ASCII.GetBytes(names).CopyTo(bytes.AsSpan((int)_section.FileOffset + 44));
        UsdtNotes notes = Read(bytes);
        Assert.That(notes.Problems, Is.EqualTo(new[] { new UsdtNoteProblem(UsdtProblem.Name, _section.FileOffset) }));
        Assert.That(notes.All, Has.Count.EqualTo(_count - 1));
        Assert.That(notes.All.Select(note => note.Provider), Has.None.StartsWith("pid"));
    }

    [Test]
    public void ACutSectionGivesWhatComesBefore()
    {
        byte[] bytes = [.. _bytes];

        // The second note claims a name of four gigabytes.
        int second = 12 + 8 + ((int)BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan((int)_section.FileOffset + 4)) + 3 & ~3);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan((int)_section.FileOffset + second), uint.MaxValue);
        UsdtNotes notes = Read(bytes);
        Assert.That(notes.All, Has.Count.EqualTo(1));
        Assert.That(notes.Problems.Single().Problem, Is.EqualTo(UsdtProblem.Truncated));
    }

    [Test]
    public void PrelinkingIsTakenIntoAccount()
    {
        byte[] bytes = [.. _bytes];
        UsdtNote before = Read(bytes).All[0];

        // As if everything had been moved after the notes were written: their base, and so their addresses, are 16 lower.
        for (int offset = 20; offset <= 28; offset += 8)
        {
            Span<byte> word = bytes.AsSpan((int)_section.FileOffset + offset);
            BinaryPrimitives.WriteUInt64LittleEndian(word, BinaryPrimitives.ReadUInt64LittleEndian(word) - 16);
        }

        Assert.That(Read(bytes).All[0], Is.EqualTo(before));
    }

    [Test]
    public void AStrippedFileWithADebugFileHasEachNoteOnce()
    {
        string debug = Symbols.Tool.NewPath("debug");
        Symbols.Tool.Run("objcopy", "--only-keep-debug", _path, debug);
        string stripped = Symbols.Tool.StripCopy(_path);
        Symbols.Tool.Run("objcopy", $"--add-gnu-debuglink={debug}", stripped);
        Assert.That(Read(File.ReadAllBytes(stripped)).All, Has.Count.EqualTo(_count));
        Assert.That(
            Tracer.ListFile(stripped, "fasttrap_test:::").Sum(probe => probe.SiteCount), Is.EqualTo(Tracer.ListFile(_path, "fasttrap_test:::").Sum(probe => probe.SiteCount)));
    }

    [Test]
    public void MutatedNotesNeverThrow()
    {
        Random random = new(20);
        int start = (int)_section.FileOffset;
        int length = (int)_section.Size;
        int partial = 0;
        for (int round = 0; round < 3000; round++)
        {
            byte[] bytes = [.. _bytes];
            for (int i = random.Next(1, 12); i > 0; i--)
            {
                bytes[start + random.Next(length)] = (byte)random.Next(256);
            }

            using ElfFile elf = Open(bytes);
            UsdtNotes notes = UsdtNotes.Read(elf);
            UsdtSymbols symbols = new(elf, 0);
            foreach (UsdtNote note in notes.All)
            {
                Assert.That(UsdtArgumentParser.Parse(note.Arguments, elf.Machine, symbols), Has.Length.LessThanOrEqualTo(32));
            }

            partial += notes.All.Count < _count && notes.All.Count > 0 ? 1 : 0;
        }

        Assert.That(partial, Is.GreaterThan(100), "The mutations must hit something, and leave something.");
    }

    [Test]
    public void MutatedArgumentStringsNeverThrow()
    {
        using ElfFile elf = Open(_bytes);
        UsdtSymbols symbols = new(elf, 0);
        string[] seeds = [.. Read(_bytes).All.Select(note => note.Arguments).Append("-4@[sp, 12] 8@[x0, x1, lsl 3] 4f@s0 16@q1 8@[x0, #:lo12:global_int]")];
        const string Letters = "%$()[]@,:+-*#0123456789abcdefnrtsxyzw \u00e4\0";
        Random random = new(21);
        for (int round = 0; round < 30_000; round++)
        {
            char[] text = seeds[random.Next(seeds.Length)].ToCharArray();
            for (int i = random.Next(1, 6); i > 0 && text.Length > 0; i--)
            {
                text[random.Next(text.Length)] = Letters[random.Next(Letters.Length)];
            }

            foreach (ElfMachine machine in new[] { ElfMachine.X64, ElfMachine.Arm64 })
            {
                Assert.That(UsdtArgumentParser.Parse(new string(text), machine, symbols), Has.Length.LessThanOrEqualTo(32));
            }
        }
    }

    private ElfFile Open(byte[] bytes) => ElfFile.Open(new DiskFile(bytes), _path);

    private UsdtNotes Read(byte[] bytes)
    {
        using ElfFile elf = Open(bytes);
        return UsdtNotes.Read(elf);
    }
}

using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using FastTrap.Tests.Usdt;
using FastTrap.Tests.Usdt.Dof;
using FastTrap.Usdt;

namespace FastTrap.Tests.Fuzz;

/// <summary>
/// Readers of untrusted bytes under damaged inputs. The ordinary run is short; <c>FASTTRAP_FUZZ_COUNT=1000000</c> with the filter
/// <c>FuzzTests.Long</c> runs so many inputs for each reader, <c>FASTTRAP_FUZZ_SEED</c> others than usual.
/// </summary>
[TestFixture, Parallelizable(ParallelScope.All)]
public sealed class FuzzTests
{
    private const int ShortRun = 15_000;

    private static readonly Lazy<ElfFile> s_symbols = new(() => ElfFile.Open(new DiskFile(Images()[0]), "symbols"));

    /// <summary>Every reader, one line each.</summary>
    private static readonly FuzzTarget[] s_targets =
    [
        new("DOF", Dofs, ReadDof, typeof(DofFormatException)),
        new("notes for the build id", Notes, input => ElfNotes.TryFindBuildId(input, out _)),
        new("ELF files", Images, ReadElf, typeof(ElfFormatException)) { Allowance = (256 << 10, 64) },
        new("notes of static probes", StaticImages, ReadStatic, typeof(ElfFormatException)) { Allowance = (256 << 10, 256) },
        new("arguments on x86-64", () => Texts(UsdtTexts.X64), input => ReadArguments(input, ElfMachine.X64)) { Allowance = (512 << 10, 4096) },
        new("arguments on arm64", () => Texts(UsdtTexts.Arm64), input => ReadArguments(input, ElfMachine.Arm64)) { Allowance = (512 << 10, 4096) },
    ];

    [TestCaseSource(nameof(s_targets))]
    public void Short(object target)
    {
        FuzzOutcome outcome = Fuzzer.Run((FuzzTarget)target, 1, ShortRun);
        Assert.That((outcome.Accepted, outcome.Refused), Is.EqualTo((Math.Max(outcome.Accepted, ShortRun / 100), Math.Max(outcome.Refused, ShortRun / 100))), "too mild, or too crude");
    }

    [TestCaseSource(nameof(s_targets)), Explicit("millions of inputs")]
    public void Long(object target)
    {
        int seed = (int)FromEnvironment("FASTTRAP_FUZZ_SEED", 1000);
        long count = FromEnvironment("FASTTRAP_FUZZ_COUNT", 1_000_000);
        FuzzOutcome outcome = Fuzzer.Run((FuzzTarget)target, seed, count);
        TestContext.Out.WriteLine($"{target}: {outcome.Accepted} accepted, {outcome.Refused} refused, at most {outcome.MostBytes} bytes of memory for one.");
    }

    [Test]
    public void AFailure_IsSeenAndDescribed()
    {
        FuzzTarget crashes = new("crashes", () => [[1, 2, 3, 4]], input => input[0] == 1 ? true : throw new DivideByZeroException());
        Assert.That(Fail(crashes), Does.Contain("DivideByZero").And.Contain("crashes, seed 5, input "));
        FuzzTarget grows = new("grows", () => [[1, 2, 3, 4]], input => input[0] == 1 || new byte[100_000].Length > 0);
        Assert.That(Fail(grows), Does.Contain("bytes of memory for an input of"));

        static string Fail(FuzzTarget target)
        {
            using (new NUnit.Framework.Internal.TestExecutionContext.IsolatedContext())
            {
                return Assert.Throws<AssertionException>(() => Fuzzer.Run(target, 5, 1000))!.Message;
            }
        }
    }

    [Test]
    public void ASeed_GivesTheSameInputsAgain()
    {
        Mutator one = new(3, [[1, 2, 3, 4, 5, 6, 7, 8]]);
        Mutator two = new(3, [[1, 2, 3, 4, 5, 6, 7, 8]]);
        HashSet<string> seen = [];
        for (int i = 0; i < 1000; i++)
        {
            string text = Convert.ToHexString(one.Next());
            Assert.That(Convert.ToHexString(two.Next()), Is.EqualTo(text));
            seen.Add(text);
        }

        Assert.That(seen, Has.Count.GreaterThan(800));
    }

    private static long FromEnvironment(string name, long otherwise) =>
        long.TryParse(Environment.GetEnvironmentVariable(name), CultureInfo.InvariantCulture, out long value) ? value : otherwise;

    private static byte[][] Dofs()
    {
        BuiltProbe rich = new("handle_request", "query-start", 0x1000)
        {
            Offsets = [0x40, 0x10, 0x90],
            IsEnabledOffsets = [0x8, 0x88],
            NativeTypes = ["struct request *", "int", "char *"],
            Arguments = [("char *", 2), ("reqinfo_t *", 0)],
        };
        BuiltProbe poor = new("f", "p", 0x2000);
        byte[] first = new DofBuilder { Relocation = 1 }.Add("shop", rich, poor).Add("other", poor).Build();
        byte[] second = new DofBuilder { Relocation = 2 }.Add("place", rich).Build();
        return
        [
            first, second, new DofBuilder { Version = 1 }.Add("old", poor).Build(),
            [.. first, .. new byte[8 - (first.Length % 8)], .. second],
            new DofBuilder { Relocation = 1 }.Add("many", [.. Enumerable.Range(0, 40).Select(i => rich with { Name = $"n{i}" })]).Build(),
        ];
    }

    private static bool ReadDof(ReadOnlySpan<byte> input) => DofReader.ReadSection(input, new DofPlacement(0x7f12_3456_7000, 0x7f12_3456_8000)).Count > 0;

    private static byte[][] Images() =>
    [
        ImageWriter.Make(ElfMachine.X64, "fuzz", [new("tick", "-8@%rdi -4@%esi"), new("bare", "")], out _),
        ImageWriter.Make(ElfMachine.Arm64, "fuzz", [new("tick", "-8@x0 -4@x1")], out _),
    ];

    /// <summary>Files with many notes: the damage hits those more often than the rest.</summary>
    private static byte[][] StaticImages() =>
    [
        ImageWriter.Make(ElfMachine.X64, "fuzz", [.. UsdtTexts.X64.Select((text, i) => new ImageProbe($"probe{i}", text))], out _),
        ImageWriter.Make(ElfMachine.Arm64, "fuzz", [.. UsdtTexts.Arm64.Select((text, i) => new ImageProbe($"probe{i}", text))], out _),
    ];

    private static bool ReadStatic(ReadOnlySpan<byte> input)
    {
        using ElfFile elf = ElfFile.Open(new DiskFile(input.ToArray()), "damaged");
        UsdtNotes notes = UsdtNotes.Read(elf);
        foreach (UsdtNote note in notes.All)
        {
            if (note.Name.Length == 0 || note.Provider.Length == 0 || !elf.TryGetExecutableSegment(note.Address, out _))
            {
                throw new InvalidOperationException("a note that cannot be used was accepted");
            }
        }

        return notes.All.Count > 0 && notes.Problems.Count == 0;
    }

    private static byte[][] Texts(IReadOnlyList<string> texts) => [.. texts.Select(Encoding.ASCII.GetBytes)];

    /// <summary>Parsed, and evaluated against registers and memory that hold something everywhere.</summary>
    private static bool ReadArguments(ReadOnlySpan<byte> input, ElfMachine machine)
    {
        RegisterValues thread = new(machine == ElfMachine.X64 ? Architecture.X64 : Architecture.Arm64);
        UsdtArgument[] arguments = UsdtArgumentParser.Parse(Encoding.UTF8.GetString(input), machine, new UsdtSymbols(s_symbols.Value, 0x7f00_0000_0000));
        Span<byte> bytes = stackalloc byte[32];
        bool isReadable = arguments.Length > 0;
        foreach (UsdtArgument argument in arguments)
        {
            isReadable &= argument.Kind != ArgumentKind.Unreadable;
            if (argument.Location.Length == 0)
            {
                throw new InvalidOperationException("an argument without a place or a reason");
            }

            if (argument.Kind != ArgumentKind.Unreadable)
            {
                argument.TryGetValue(thread.Registers, thread, thread, out _);
                argument.TryRead(thread.Registers, thread, thread, bytes[..argument.Size]);
            }
        }

        return isReadable;
    }

    private static byte[][] Notes() => [.. Images().SelectMany(image =>
    {
        using ElfFile elf = ElfFile.Open(new DiskFile(image), "image");
        byte[][] sections = [.. elf.Sections.ToArray().Where(section => section.Type == ElfSection.Note).Select(section => elf.ReadRange(section.FileOffset, section.Size, "notes"))];
        return new[] { sections[0], [.. sections[1], .. sections[0]] };
    })];

    private static bool ReadElf(ReadOnlySpan<byte> input)
    {
        using ElfFile elf = ElfFile.Open(new DiskFile(input.ToArray()), "damaged");
        bool isWhole = elf.BuildId.Length > 0;
        isWhole &= elf.Sections.Length > 5;
        _ = elf.Interpreter;
        _ = elf.Soname;
        _ = elf.DebugLinkName;
        _ = elf.IsPie;
        return isWhole & ElfSymbolReader.Read(elf).Count > 0;
    }
}

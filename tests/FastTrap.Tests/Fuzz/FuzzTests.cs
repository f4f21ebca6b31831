using System.Globalization;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
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

    /// <summary>Every reader, one line each.</summary>
    private static readonly FuzzTarget[] s_targets =
    [
        new("DOF", Dofs, ReadDof, typeof(DofFormatException)),
        new("notes for the build id", Notes, input => ElfNotes.TryFindBuildId(input, out _)),
        new("ELF files", Images, ReadElf, typeof(ElfFormatException)) { Allowance = (256 << 10, 64) },
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

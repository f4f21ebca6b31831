using System.Text;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Tests.House;
using FastTrap.Tests.Isa.Differential;
using Iced.Intel;

namespace FastTrap.Tests.Isa;

/// <summary><c>docs/isa-coverage.md</c> says of every instruction what becomes of it; it is what the classifier does.</summary>
[TestFixture, Parallelizable]
public sealed class IsaCoverageTests
{
    private const string Regenerate = "FASTTRAP_WRITE_ISA_COVERAGE";
    private const ulong Pc = 0x401000;

    /// <summary>What <c>DifferentialTests</c> did when it was last run at length.</summary>
    private static readonly string[] s_compared =
    [
        "## Compared with the processor", "",
        "`DifferentialTests` runs every code in a real process, natively, before-probed and after-probed, from random states, and compares registers, flags, x87,",
        "MMX, SSE, AVX, AVX-512 and AMX registers, segment selectors and bases, memory with the red zone, and faults (signal, code, address, pc). A quick run is",
        "in the test suite. The long run takes 1,000 states of each code, and 100 more with operands out of reach of a slot:", "",
        "    dotnet test tests/FastTrap.Tests -c Release --filter Name=TheLongRun --logger \"console;verbosity=detailed\"", "",
        "It lasts about five minutes, ends after two hours in any case, and prints what it saw. `FASTTRAP_DIFFERENTIAL_SEED`, `_CODES` (a part of names), `_SLICE` (`3/8`:",
        "the third of eight parts) and `_MINUTES` choose. Seeds 1, 2 and 3 on an Intel processor with AVX-512, AMX and TSX (Sapphire Rapids), Linux 6.18:", "",
        "- 3,806 codes run to their end, 63 only ever raise a signal (privileged, or without what they need), 466 the processor does not have. The latter raise the",
        "  signal of an undefined instruction, from 40 states each: of AMD's and VIA's own, and of newer ones of Intel's, that is what is compared, and the form of",
        "  the slot (`X64SlotTests`).",
        "- 8.7 million probed states with each seed: 0 differences.",
        "- On an AMD EPYC with AVX-512, seed 1, as far as nine minutes went (3,541 codes run to their end): 7.6 million states by breakpoints and, in seven minutes, 3.1 million by jumps: 0 differences.",
        "- What uprobes of the kernel refuse (AVX and EVEX whose opcodes look like others, `lock`, `cs nop`, `notrack`, `int 0x80`, `hlt`) is among what passes, by name:",
        "  `EveryFormIsTheSameWhenProbed`, as is every branch, call, return, push and pop with each prefix and each ModRM and SIB byte.",
        "- Not compared: what `rdtsc`, `rdrand` and their kin return, the status of an aborted transaction, and the address of the last x87 instruction",
        "  ([limits.md](limits.md)).",
    ];

    /// <summary>What may become of a code: it depends on its operands and on who waits for it.</summary>
    [Flags]
    private enum Ways
    {
        None = 0,
        Emulated = 1,
        SlotUnlessAwaited = 2,
        Slot = 4,
        Refused = 8,
    }

    [Test]
    public void CoverageIsAsWrittenDown()
    {
        string path = Path.Combine(SourceTree.Root, "docs", "isa-coverage.md");
        string[] now = Describe();
        if (Environment.GetEnvironmentVariable(Regenerate) == "1")
        {
            File.WriteAllLines(path, now);
        }

        string[] written = File.Exists(path) ? File.ReadAllLines(path) : [];
        Assert.That(
            now.Except(written).Select(line => "+ " + line).Concat(written.Except(now).Select(line => "- " + line)), Is.Empty,
            $"What becomes of instructions is not what docs/isa-coverage.md says. If that is meant, run this test with {Regenerate}=1 and commit the file.");
        Assert.That(now, Is.EqualTo(written), "The same lines in another order.");
    }

    [Test]
    public void EveryCodeOf64BitModeIsThere() => Assert.That(InstructionTemplates.Expected.Except(InstructionTemplates.All.Keys), Is.Empty);

    private static string[] Describe()
    {
        SortedDictionary<string, List<(Code Code, Ways Ways)>> mnemonics = new(StringComparer.Ordinal);
        SortedDictionary<string, List<Code>> refused = new(StringComparer.Ordinal);
        int[] counts = new int[4];
        foreach (InstructionTemplate template in InstructionTemplates.All.Values.OrderBy(t => t.Code))
        {
            Ways ways = Classify(template, out ProbeRefusal reason);
            string mnemonic = template.Code.Mnemonic().ToString().ToLowerInvariant();
            if (ways == Ways.Refused)
            {
                Add(refused, reason.ToString(), template.Code);
                counts[3]++;
                continue;
            }

            counts[ways == Ways.Slot ? 2 : (ways & Ways.SlotUnlessAwaited) != 0 ? 1 : 0]++;
            if (!mnemonics.TryGetValue(mnemonic, out List<(Code, Ways)>? list))
            {
                mnemonics.Add(mnemonic, list = []);
            }

            list.Add((template.Code, ways));
        }

        string notRun = string.Join(' ', InstructionTemplates.All.Values.Where(t => IsWaived(t)).Select(t => t.Code).Order());
        List<string> lines =
        [
            "# What becomes of each x86-64 instruction", "",
            $"Generated by a test (`{Regenerate}=1 dotnet test --filter IsaCoverage`) from the classifier, for every `Code` of the decoder (Iced) in 64-bit",
            "mode. Which are emulated was chosen by a count of what is probed most, in libc, libstdc++, libjvm, postgres, python and libcoreclr:",
            "[performance.md](performance.md#what-is-emulated).", "",
            "| | codes |", "|---|---|",
            $"| emulated | {counts[0]} |", $"| emulated, or in a slot where memory is accessed and nobody waits for the effects | {counts[1]} |",
            $"| in a slot | {counts[2]} |", $"| refused | {counts[3]} |", "",
            "A prefix that changes what the instruction is to memory (`lock`, `xacquire`) or that is undefined for it makes an emulated instruction one for a slot.",
            "Instructions that this processor does not have, or that are privileged, raise their signal in the slot, and it is reported at their own address.", "",
            .. s_compared,
            $"- Not run, for they are the hypervisor's affair or another mode's: {notRun}.", "",
            "## Emulated", "", "Of a mnemonic: forms always emulated; forms emulated or in a slot; forms in a slot only.", "",
            "| mnemonic | emulated | either | slot |", "|---|---|---|---|",
        ];
        foreach ((string mnemonic, List<(Code Code, Ways Ways)> codes) in mnemonics.Where(m => m.Value.Exists(c => c.Ways != Ways.Slot)))
        {
            string always = Names(codes.Where(c => (c.Ways & (Ways.SlotUnlessAwaited | Ways.Slot)) == 0).Select(c => c.Code));
            string either = Names(codes.Where(c => c.Ways != Ways.Slot && (c.Ways & (Ways.SlotUnlessAwaited | Ways.Slot)) != 0).Select(c => c.Code));
            lines.Add($"| {mnemonic} | {always} | {either} | {Names(codes.Where(c => c.Ways == Ways.Slot).Select(c => c.Code))} |");
        }

        lines.AddRange(["", "## In a slot", ""]);
        foreach ((string mnemonic, List<(Code Code, Ways Ways)> codes) in mnemonics.Where(m => m.Value.TrueForAll(c => c.Ways == Ways.Slot)))
        {
            lines.Add($"- {mnemonic}: {Names(codes.Select(c => c.Code))}");
        }

        lines.AddRange(["", "## Refused", "", "| reason | forms |", "|---|---|"]);
        foreach ((string reason, List<Code> codes) in refused)
        {
            string text = Enum.Parse<ProbeRefusal>(reason).Describe();
            lines.Add($"| `{reason}`: {text} | {string.Join(' ', codes)} |");
        }

        lines.AddRange(
        [
            "", "By their operands, too: `mov` and `pop` to `ss` (`MasksTraps`), branches through memory with two different segment prefixes",
            "(`ConflictingSegments`), and, on processors other than Intel's, near branches with an operand-size prefix (`OperandSizeBranch`).",
            "", "## Not decoded", "",
            "What only other modes, or only other processors than the decoder's default ones, have is refused as `Undecodable`:", "",
        ]);
        StringBuilder others = new();
        foreach (IGrouping<string, Code> group in Enum.GetValues<Code>()
            .Where(c => c.ToOpCode().IsInstruction && !InstructionTemplates.All.ContainsKey(c)).GroupBy(c => c.Mnemonic().ToString().ToLowerInvariant()).OrderBy(g => g.Key, StringComparer.Ordinal))
        {
            others.Append($"{group.Key} ({Names(group)}); ");
        }

        lines.Add(others.ToString().TrimEnd(' ', ';') + ".");
        return [.. lines];
    }

    /// <summary>Neither refused nor compared.</summary>
    private static bool IsWaived(InstructionTemplate template)
    {
        Iced.Intel.Decoder decoder = Iced.Intel.Decoder.Create(64, template.Bytes, Pc);
        return !CaseStates.IsRunnable(decoder.Decode()) && Classify(template, out _) != Ways.Refused;
    }

    /// <summary>The code's template, with a register and with a memory operand.</summary>
    private static Ways Classify(InstructionTemplate template, out ProbeRefusal reason)
    {
        Ways ways = Ways.None;
        reason = ProbeRefusal.None;
        byte modRm = template.Bytes[template.ModRmOffset];
        foreach (byte variant in new[] { modRm, (byte)(modRm | 0xc0), (byte)(modRm & 0x38), (byte)((modRm & 0x38) | 0x41) })
        {
            byte[] bytes = [.. template.Bytes];
            bytes[template.ModRmOffset] = variant;
            Iced.Intel.Decoder decoder = Iced.Intel.Decoder.Create(64, bytes, Pc);
            if (decoder.Decode().Code != template.Code)
            {
                continue;
            }

            if (!X64InstructionSet.Instance.TryDecode(bytes, Pc, out DisplacedInstruction displaced, out ProbeRefusal refusal))
            {
                ways |= Ways.Refused;
                reason = refusal;
            }
            else
            {
                ways |= displaced.Kind == DisplacedKind.Slot ? Ways.Slot : displaced.Has(DisplacedTraits.SlotPreferred) ? Ways.SlotUnlessAwaited : Ways.Emulated;
            }
        }

        return ways;
    }

    private static void Add(SortedDictionary<string, List<Code>> to, string key, Code code)
    {
        if (!to.TryGetValue(key, out List<Code>? list))
        {
            to.Add(key, list = []);
        }

        list.Add(code);
    }

    /// <summary>Codes without their mnemonic, which stands before them.</summary>
    private static string Names(IEnumerable<Code> codes) => string.Join(' ', codes.Select(code =>
    {
        string name = code.ToString();
        int cut = name.IndexOf('_');
        return cut < 0 ? name : name[(cut + 1)..];
    }));
}

using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Isa;
using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>What a differential run found.</summary>
internal sealed class DifferentialReport
{
    public long States { get; set; }

    public long Hits { get; set; }

    public long Differences { get; set; }

    public HashSet<Code> Codes { get; } = [];

    /// <summary>Codes of which a state ran to the end without a signal: this processor has them.</summary>
    public HashSet<Code> Executed { get; } = [];

    /// <summary>See <see cref="CaseStates.IsRunnable"/>.</summary>
    public HashSet<Code> NotRun { get; } = [];

    public Dictionary<Code, ProbeRefusal> Refused { get; } = [];

    public List<string> Shown { get; } = [];
}

/// <summary>
/// Runs forms of instructions natively and probed, in one process, from the same states, and lets the target compare what they left.
/// </summary>
internal sealed class DifferentialRun(Random random, bool isFar, DifferentialReport report)
{
    private const int MaximumBlocks = 2000;
    private const int MaximumShown = 40;

    /// <summary>The target's SIGPROF: a case took seconds of processor time.</summary>
    private const ulong BrokenOff = 27;

    /// <summary>A target is left after so many batches, and with it the slots that were made in it.</summary>
    private const int BatchesOfATarget = 16;

    private readonly ulong _code = isFar ? Arena.FarCode : Arena.Code;
    private readonly InstructionForms _forms = new(random);

    /// <summary>Each template in each of the wanted forms, from a number of states, before- and after-probed.</summary>
    public async Task RunAsync(IEnumerable<InstructionTemplate> templates, IReadOnlyList<WantedOperand> wanted, int formsOfEach, int states, Func<bool> mayGoOn)
    {
        CaseStates maker = new(random, _code);
        IEnumerator<Case> cases = Cases(templates, wanted, formsOfEach, maker).GetEnumerator();
        bool more = true;
        while (more && mayGoOn())
        {
            await using DifferentialTarget target = await DifferentialTarget.StartAsync(isFar);
            WriteLanding(target);
            for (int batch = 0; batch < BatchesOfATarget && more && mayGoOn(); batch++)
            {
                List<Case> block = [];
                int limit = Math.Min(MaximumBlocks, target.MaximumInputs / states);
                while (block.Count < limit && (more = cases.MoveNext()))
                {
                    block.Add(cases.Current);
                }

                await RunBatchAsync(target, maker, block, states);
            }
        }
    }

    private IEnumerable<Case> Cases(IEnumerable<InstructionTemplate> templates, IReadOnlyList<WantedOperand> wanted, int formsOfEach, CaseStates maker)
    {
        int block = 0;
        foreach (InstructionTemplate template in templates)
        {
            for (int form = 0; form < formsOfEach; form++)
            {
                foreach (WantedOperand operand in wanted)
                {
                    if (_forms.Make(template, operand) is not { } bytes)
                    {
                        continue;
                    }

                    // Blocks are used in turn; the first is the landing.
                    ulong address = _code + ((ulong)(block + 1) * Arena.BlockLength) + Arena.InstructionOffset;
                    if (!maker.TryPrepareBytes(bytes, address, out ulong branchTarget))
                    {
                        continue;
                    }

                    Iced.Intel.Decoder decoder = Iced.Intel.Decoder.Create(64, bytes, address);
                    decoder.Decode(out Instruction instruction);
                    if (!CaseStates.IsRunnable(instruction))
                    {
                        report.NotRun.Add(instruction.Code);
                        continue;
                    }

                    if (isFar && !instruction.IsIPRelativeMemoryOperand)
                    {
                        continue;
                    }

                    if (!DifferentialTarget.TryDecode(bytes, address, out DisplacedInstruction displaced, out ProbeRefusal reason))
                    {
                        report.Refused[instruction.Code] = reason;
                        continue;
                    }

                    block = (block + 1) % MaximumBlocks;
                    yield return new Case(bytes, instruction, displaced, branchTarget);
                }
            }
        }
    }

    private async Task RunBatchAsync(DifferentialTarget target, CaseStates maker, List<Case> cases, int states)
    {
        if (cases.Count == 0)
        {
            return;
        }

        List<CaseInput> inputs = [];
        List<int> owners = [];
        for (int i = 0; i < cases.Count; i++)
        {
            Case one = cases[i];
            for (int state = 0; state < states; state++)
            {
                if (maker.TryMake(one.Instruction, one.Displaced.Address, one.BranchTarget, out CaseInput input))
                {
                    inputs.Add(input);
                    owners.Add(i);
                }
            }
        }

        WriteBlocks(target, cases);
        target.Write(Arena.Inputs, MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(inputs)));
        NamingTheCase(target, cases, owners, () => target.RunNative(inputs.Count));
        int signals = Survey(target, cases, owners);
        foreach (bool after in new[] { false, true })
        {
            ProbeEnabling enabling = await target.EnableAsync([.. cases.Select(c => c.Displaced)], after);
            (List<int> shown, long count) = ([], 0);
            NamingTheCase(target, cases, owners, () => (shown, count) = target.RunProbed(inputs.Count));
            for (int i = 0; i < shown.Count && report.Shown.Count < MaximumShown; i++)
            {
                report.Shown.Add(Describe(target, cases[owners[shown[i]]], inputs[shown[i]], shown[i], i, after));
            }

            foreach (ProbeFailure failure in enabling.Failures)
            {
                Case failed = cases.First(c => c.Displaced.Address == failure.Address);
                report.Shown.Add($"{failed.Text}: the probe failed: {failure}");
                report.Differences++;
            }

            await enabling.DisposeAsync();
            report.Differences += count;
            report.States += inputs.Count;
            report.Hits += enabling.HitCount;

            // Every run hits the before-probe once. An after-probe is left out by a fault, and by xbegin.
            int transactions = owners.Count(o => cases[o].Displaced.Has(DisplacedTraits.BeginsTransaction));
            bool exact = !after ? enabling.HitCount == inputs.Count : enabling.HitCount <= inputs.Count && enabling.HitCount >= inputs.Count - signals - transactions;
            if (!exact && enabling.Failures.Count == 0)
            {
                report.Differences++;
                report.Shown.Add(
                    $"{string.Join(' ', cases.Select(c => c.Instruction.Code).Distinct())}: {inputs.Count} runs, {signals} of them with a signal, hit {enabling.HitCount} {(after ? "after" : "before")}-probes");
            }
        }
    }

    /// <summary>Which codes ran to the end; gives the number of states that raised a signal.</summary>
    private int Survey(DifferentialTarget target, List<Case> cases, List<int> owners)
    {
        byte[] head = new byte[CaseResult.VectorsOffset];
        int signals = 0;
        for (int i = 0; i < owners.Count; i++)
        {
            target.Read(Arena.Results + ((ulong)i * (ulong)target.ResultLength), head);
            Code code = cases[owners[i]].Instruction.Code;
            report.Codes.Add(code);
            ulong signal = MemoryMarshal.Read<CaseResult>(head).Signal;
            if (signal == BrokenOff)
            {
                report.Shown.Add($"{cases[owners[i]].Text}: never ends by itself");
            }

            if (signal == 0)
            {
                report.Executed.Add(code);
            }
            else
            {
                signals++;
            }
        }

        return signals;
    }

    /// <summary>A case that keeps the target from answering is told by name.</summary>
    private static void NamingTheCase(DifferentialTarget target, List<Case> cases, List<int> owners, Action run)
    {
        try
        {
            run();
        }
        catch (TimeoutException e)
        {
            byte[] index = new byte[8];
            target.Read(Arena.Current, index);
            throw new TimeoutException($"{cases[owners[(int)MemoryMarshal.Read<ulong>(index)]].Text} does not end.", e);
        }
    }

    private static void WriteLanding(ulong pointer, Span<byte> at)
    {
        // jmp *[pointer], an address below 2 GiB.
        ReadOnlySpan<byte> jump = [0xff, 0x24, 0x25];
        jump.CopyTo(at);
        MemoryMarshal.Write(at[3..], (int)pointer);
    }

    private void WriteLanding(DifferentialTarget target)
    {
        byte[] landing = new byte[7];
        WriteLanding(Arena.TargetPointer, landing);
        target.Write(_code, landing);
    }

    private void WriteBlocks(DifferentialTarget target, List<Case> cases)
    {
        foreach (Case one in cases)
        {
            byte[] block = new byte[Arena.BlockLength];
            block.AsSpan().Fill(0xcc);
            one.Bytes.CopyTo(block.AsSpan(Arena.InstructionOffset));
            WriteLanding(Arena.FallPointer, block.AsSpan(Arena.InstructionOffset + one.Bytes.Length));
            ulong start = one.Displaced.Address - Arena.InstructionOffset;
            if (one.BranchTarget - start < Arena.BlockLength)
            {
                WriteLanding(Arena.TargetPointer, block.AsSpan((int)(one.BranchTarget - start)));
            }

            target.Write(start, block);
        }
    }

    private static string Describe(DifferentialTarget target, Case one, in CaseInput input, int index, int shown, bool after)
    {
        byte[] native = new byte[target.ResultLength];
        byte[] probed = new byte[target.ResultLength];
        target.Read(Arena.Results + ((ulong)index * (ulong)target.ResultLength), native);
        target.Read(Arena.Scratch + ((ulong)(shown + 1) * (ulong)target.ResultLength), probed);
        StringBuilder text = new();
        text.Append($"{one.Text} {one.Displaced.Kind}{(after ? " after" : "")}:");
        string[] names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
            "flags", "where", "rip", "fs", "gs", "selectors", "pkru", "signal", "code", "address", "trap", "error"];
        ReadOnlySpan<ulong> first = MemoryMarshal.Cast<byte, ulong>(native);
        ReadOnlySpan<ulong> second = MemoryMarshal.Cast<byte, ulong>(probed);
        for (int i = 0; i < names.Length; i++)
        {
            if (first[i] != second[i])
            {
                text.Append($" {names[i]} {first[i]:x} -> {second[i]:x}{(i < 16 ? $" (before {input.Registers[i]:x})" : "")};");
            }
        }

        int different = 0;
        for (int i = CaseResult.VectorsOffset; i < native.Length && different < 8; i++)
        {
            if (native[i] != probed[i])
            {
                different++;
                int at = i - CaseResult.VectorsOffset;
                string where = at < CaseResult.VectorsLength ? $"vectors+{at}" : at < CaseResult.VectorsLength + (int)Arena.DataLength
                    ? $"data+{at - CaseResult.VectorsLength:x}" : $"stack+{at - CaseResult.VectorsLength - (int)Arena.DataLength:x}";
                text.Append($" {where} {native[i]:x2} -> {probed[i]:x2};");
            }
        }

        return text.ToString();
    }

    private sealed record Case(byte[] Bytes, Instruction Instruction, DisplacedInstruction Displaced, ulong BranchTarget)
    {
        public string Text => $"{Instruction} [{Convert.ToHexString(Bytes)}] {Instruction.Code}";
    }
}

using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Programs;
using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>How many states of which forms a run takes.</summary>
/// <param name="Wanted">The forms' operands, in turn.</param>
/// <param name="StatesOfCode">Each code gets so many, if it has any form at all.</param>
/// <param name="StatesOfForm">So many of them run in one form.</param>
internal sealed record DifferentialPlan(IReadOnlyList<WantedOperand> Wanted, int StatesOfCode, int StatesOfForm);

/// <summary>
/// Runs forms of instructions natively and probed, in one process, from the same states, and lets the target compare what they left.
/// </summary>
/// <remarks>
/// By in-process traps, an instruction has no window but itself. By jumps, a case's instruction is in a window with fillers before it and the landing behind it, as chance has it; what cannot be moved is probed by a trap all the same.
/// </remarks>
internal sealed partial class DifferentialRun(Random random, bool isFar, DifferentialReport report, ProbeMechanism mechanism = ProbeMechanism.Breakpoint)
{
    private const int MaximumBlocks = 2000;

    /// <summary>A form may be of no use; so many times more than needed are tried.</summary>
    private const int MoreForms = 4;

    /// <summary>A state may leave no room for code on the stack; so many times more than needed are tried.</summary>
    private const int StatesWithoutRoom = 8;

    /// <summary>A target is left after so many batches, and with it the slots that were made in it.</summary>
    private const int BatchesOfATarget = 16;

    private readonly ulong _code = isFar ? Arena.FarCode : Arena.Code;
    private readonly InstructionForms _forms = new(random);
    private readonly CaseStates _states = new(random, isFar ? Arena.FarCode : Arena.Code);

    /// <summary>Each template from a number of states, before- and after-probed. False if it was ended before its time.</summary>
    public Task<bool> RunAsync(IEnumerable<InstructionTemplate> templates, DifferentialPlan plan, Func<bool> mayGoOn) => RunAsync(Cases(templates, plan), mayGoOn);

    /// <summary>Each of these encodings; relative operands are made to lead somewhere. One that cannot be run is a difference.</summary>
    public Task<bool> RunAsync(IEnumerable<byte[]> forms, int states) => RunAsync(Cases(forms, states), () => !report.IsFull);

    private async Task<bool> RunAsync(IEnumerable<Case> all, Func<bool> mayGoOn)
    {
        using IEnumerator<Case> cases = all.GetEnumerator();
        bool more = cases.MoveNext();
        while (more && mayGoOn())
        {
            await using DifferentialTarget target = await DifferentialTarget.StartAsync(isFar);
            WriteLanding(target);
            for (int batch = 0; batch < BatchesOfATarget && more && mayGoOn(); batch++)
            {
                List<Case> block = [];
                int inputs = 0;
                while (more && block.Count < MaximumBlocks && inputs + cases.Current.Inputs.Count <= target.MaximumInputs)
                {
                    block.Add(cases.Current);
                    inputs += cases.Current.Inputs.Count;
                    more = cases.MoveNext();
                }

                if (!await TryRunBatchAsync(target, block))
                {
                    // Without the one that destroyed it, in a new target.
                    break;
                }
            }
        }

        return !more;
    }

    private IEnumerable<Case> Cases(IEnumerable<byte[]> forms, int states)
    {
        int block = 0;
        foreach (byte[] form in forms)
        {
            if (MakeCase([.. form], AddressOf(block), states) is { } made)
            {
                block = (block + 1) % MaximumBlocks;
                yield return made;
            }
            else if (!IsInTarget)
            {
                report.Show($"{Convert.ToHexString(form)} cannot be run");
            }
        }
    }

    private IEnumerable<Case> Cases(IEnumerable<InstructionTemplate> templates, DifferentialPlan plan)
    {
        int block = 0;
        foreach (InstructionTemplate template in templates)
        {
            int states = 0;
            int tries = MoreForms * ((plan.StatesOfCode / plan.StatesOfForm) + plan.Wanted.Count);
            for (int form = 0; form < tries && states < plan.StatesOfCode; form++)
            {
                if (_forms.Make(template, plan.Wanted[form % plan.Wanted.Count]) is { } bytes && MakeCase(bytes, AddressOf(block), plan.StatesOfForm) is { } made)
                {
                    block = (block + 1) % MaximumBlocks;
                    states += made.Inputs.Count;
                    yield return made;
                }
            }
        }
    }

    /// <summary>Blocks are used in turn; the first is the landing.</summary>
    private ulong AddressOf(int block) => _code + ((ulong)(block + 1) * Arena.BlockLength) + Arena.InstructionOffset;

    private Case? MakeCase(byte[] bytes, ulong address, int states)
    {
        if (!_states.TryPrepareBytes(bytes, address, out ulong branchTarget))
        {
            return null;
        }

        Iced.Intel.Decoder decoder = Iced.Intel.Decoder.Create(64, bytes, address);
        decoder.Decode(out Instruction instruction);
        if (isFar && !instruction.IsIPRelativeMemoryOperand)
        {
            return null;
        }

        if (!DifferentialTarget.TryDecode(bytes, address, out DisplacedInstruction displaced, out ProbeRefusal reason))
        {
            report.Refused[instruction.Code] = reason;
            return null;
        }

        if (!CaseStates.IsRunnable(instruction))
        {
            report.NotRun.Add(instruction.Code);
            return null;
        }

        int filler = IsInTarget && random.Next(3) == 0 ? random.Next(1, s_fillers.Length) : 0;
        List<CaseInput> inputs = [];
        for (int tries = (IsInTarget ? StatesWithoutRoom : 1) * states; tries > 0 && inputs.Count < states; tries--)
        {
            if (_states.TryMake(instruction, address - (ulong)filler, branchTarget, out CaseInput input) && (!IsInTarget || CaseStates.HasRoomForCode(instruction, ref input)))
            {
                inputs.Add(input);
            }
        }

        report.WithoutRoom += IsInTarget && inputs.Count == 0 ? 1 : 0;
        return inputs.Count == 0
            ? null
            : new Case(bytes, instruction, displaced, branchTarget, inputs) { Filler = filler, IsShort = IsInTarget && random.Next(4) == 0, IsOwnTarget = instruction.IsJmpNearIndirect && IsInTarget && random.Next(3) == 0 };
    }

    /// <summary>False if a case has destroyed the target. What the batch found by then stays.</summary>
    private async Task<bool> TryRunBatchAsync(DifferentialTarget target, List<Case> cases)
    {
        string phase = "natively";
        List<Case> owners = [.. cases.SelectMany(c => Enumerable.Repeat(c, c.Inputs.Count))];
        try
        {
            List<CaseInput> inputs = [.. cases.SelectMany(c => c.Inputs)];
            WriteBlocks(target, cases);
            target.WriteInputs(inputs);
            target.RunNative(inputs.Count);
            int signals = Survey(target, owners);
            foreach (bool after in new[] { false, true })
            {
                phase = after ? "after-probed" : "before-probed";
                QueryProgram? program = IsInTarget ? MakeProgram() : null;
                List<Case> meant = [.. cases.Where(c => !after || program is null || c.MayLeave)];
                ProbeEnabling enabling = await target.EnableAsync(meant.Select(c => MakeSpec(target, c, after, program is not null)), program);
                HashSet<Case> inCode = [.. meant.Where(c => target.IsCode(c.PatchStart(mechanism), mechanism))];
                (List<int> shown, long count) = target.RunProbed(inputs.Count);
                inCode.RemoveWhere(c => !target.IsCode(c.PatchStart(mechanism), mechanism));
                for (int i = 0; i < shown.Count; i++)
                {
                    report.Show(Describe(target, owners[shown[i]], inputs[shown[i]], shown[i], i, after));
                }

                foreach (ProbeFailure failure in enabling.Failures)
                {
                    Case failed = cases.First(c => c.Displaced.Address == failure.Address);
                    report.Show($"{failed.Text}: the probe failed: {failure}");
                    report.Differences++;
                }

                await enabling.DisposeAsync();
                report.Differences += count;
                report.States += meant.Sum(c => c.Inputs.Count);
                report.CodeStates += inCode.Sum(c => c.Inputs.Count);
                long hits = enabling.HitCount + (program?.Hits ?? 0);
                report.Hits += hits;
                if (enabling.Failures.Count == 0)
                {
                    CheckHits(target, cases, owners, hits, signals, after);
                }
            }

            return true;
        }
        catch (DifferentialTargetLostException e)
        {
            report.Show($"{owners[target.Current].Text}, {phase}: {e.Message}, and the rest of its batch of {owners.Count} states was not run");
            report.Astray++;
            return false;
        }
    }

    /// <summary>Every run hits the before-probe once. An after-probe is left out by a fault, and by xbegin; of jumps by code in the target, it fires where they lead out.</summary>
    private void CheckHits(DifferentialTarget target, List<Case> cases, List<Case> owners, long hits, int signals, bool after)
    {
        int transactions = owners.Count(static o => o.Displaced.Has(DisplacedTraits.BeginsTransaction));
        long most = after && IsInTarget ? CountLeaving(target, owners) : owners.Count;
        bool exact = !after ? hits == most : IsInTarget ? hits >= most && hits <= most + signals : hits <= most && hits >= most - signals - transactions;
        if (!exact)
        {
            report.Differences++;
            report.Show(
                $"{string.Join(' ', cases.Select(c => c.Instruction.Code).Distinct())}: {owners.Count} runs, {signals} of them with a signal, hit {hits} {(after ? "after" : "before")}-probes, not {most}");
        }
    }

    /// <summary>What became of the codes natively; gives the number of states that raised a signal.</summary>
    private int Survey(DifferentialTarget target, List<Case> owners)
    {
        byte[] head = new byte[CaseResult.VectorsOffset];
        int signals = 0;
        for (int i = 0; i < owners.Count; i++)
        {
            target.ReadResult(i, head);
            CaseResult result = MemoryMarshal.Read<CaseResult>(head);
            report.Count(owners[i].Instruction.Code, result);
            if (result.Signal == DifferentialReport.BrokenOff)
            {
                report.Show($"{owners[i].Text}: never ends by itself");
            }

            signals += result.Signal == 0 ? 0 : 1;
        }

        return signals;
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
        target.WriteCode(_code, landing);
    }

    private void WriteBlocks(DifferentialTarget target, List<Case> cases)
    {
        foreach (Case one in cases)
        {
            byte[] block = new byte[Arena.BlockLength];
            block.AsSpan().Fill(0xcc);
            one.Bytes.CopyTo(block.AsSpan(Arena.InstructionOffset));
            s_fillers[one.Filler].CopyTo(block.AsSpan(Arena.InstructionOffset - one.Filler));
            WriteLanding(Arena.FallPointer, block.AsSpan(Arena.InstructionOffset + one.Bytes.Length));
            ulong start = one.Displaced.Address - Arena.InstructionOffset;
            if (one.BranchTarget - start < Arena.BlockLength)
            {
                WriteLanding(Arena.TargetPointer, block.AsSpan((int)(one.BranchTarget - start)));
            }

            target.WriteCode(start, block);
            one.Block = block;
        }
    }

    private static string Describe(DifferentialTarget target, Case one, in CaseInput input, int index, int shown, bool after)
    {
        byte[] native = new byte[target.ResultLength];
        byte[] probed = new byte[target.ResultLength];
        target.ReadResult(index, native);
        target.ReadDifferent(shown, probed);
        StringBuilder text = new();
        text.Append($"{one.Text} {one.Displaced.Kind}{(after ? " after" : "")}:");
        string[] names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
            "flags", "where", "rip", "fs", "gs", "selectors", "pkru", "signal", "code", "address", "trap", "error", "tiles"];
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

    private sealed record Case(byte[] Bytes, Instruction Instruction, DisplacedInstruction Displaced, ulong BranchTarget, List<CaseInput> Inputs)
    {
        /// <summary>Bytes of fillers before it.</summary>
        public int Filler { get; init; }

        /// <summary>Whether its window is to be left by an island.</summary>
        public bool IsShort { get; init; }

        /// <summary>Whether its branch target is to be a part of its function.</summary>
        public bool IsOwnTarget { get; init; }

        public byte[] Block { get; set; } = [];

        public ulong WindowStart => Displaced.Address - (ulong)Filler;

        public ulong PatchStart(ProbeMechanism mechanism) => mechanism == ProbeMechanism.InProcessTrap ? Displaced.Address : WindowStart;

        /// <summary>Whether its function may be left by it, or not.</summary>
        public bool MayLeave => Instruction.IsJccShortOrNear || Instruction.IsJcxShort || Instruction.IsJmpNearIndirect;

        public string Text => $"{Instruction} [{Convert.ToHexString(Bytes)}] {Instruction.Code}";
    }
}

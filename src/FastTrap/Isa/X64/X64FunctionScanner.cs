using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>The linear sweep over a function: instruction offsets, and where it may be left.</summary>
/// <remarks>Source: dt_pid.c and fasttrap_isa.c, dt_pid_create_return_probe and fasttrap_pid_probe's test of return probes.</remarks>
internal static class X64FunctionScanner
{
    public static unsafe bool TryScan(ReadOnlySpan<byte> code, ulong address, FunctionScan result, out ProbeRefusal reason)
    {
        result.Clear();
        reason = ProbeRefusal.NotDecodable;
        fixed (byte* start = code)
        {
            X64Decoding decoding = X64Decoding.Current;
            decoding.Start(start, code.Length, address);
            while (decoding.Position < code.Length)
            {
                int offset = decoding.Position;
                decoding.Decode(out Instruction instruction);
                if (decoding.LastError != DecoderError.None || instruction.IsInvalid || RefersToDataInside(instruction, address, result, code.Length))
                {
                    result.Clear();
                    return false;
                }

                result.InstructionOffsets.Add(offset);
                AddSite(instruction, offset, address, code.Length, result);
            }
        }

        foreach (int target in result.InnerTargets)
        {
            if (!IsBoundary(result, target, code))
            {
                result.Clear();
                return false;
            }
        }

        reason = ProbeRefusal.None;
        return true;
    }

    /// <summary>
    /// An operand inside the function is data between its instructions, which may decode like code: a trap there would change it. An address that is
    /// only taken may be a label's, of a computed goto: then it is that of an instruction.
    /// </summary>
    private static bool RefersToDataInside(in Instruction instruction, ulong start, FunctionScan result, int length)
    {
        if (!instruction.IsIPRelativeMemoryOperand)
        {
            return false;
        }

        ulong offset = instruction.IPRelativeMemoryAddress - start;
        if (offset >= (ulong)length)
        {
            return false;
        }

        if (instruction.Mnemonic == Mnemonic.Lea)
        {
            result.InnerTargets.Add((int)offset);
            return false;
        }

        return true;
    }

    private static void AddSite(in Instruction instruction, int offset, ulong start, int length, FunctionScan result)
    {
        if (instruction.Mnemonic == Mnemonic.Ret)
        {
            result.ReturnSites.Add(new ReturnSite(offset, ReturnSiteKind.Return, 0));
            return;
        }

        if (instruction.IsJmpNearIndirect)
        {
            result.ReturnSites.Add(new ReturnSite(offset, ReturnSiteKind.MaybeLeaves, 0));
            return;
        }

        if (instruction.OpCount == 0 || instruction.Op0Kind is not (OpKind.NearBranch64 or OpKind.NearBranch32 or OpKind.NearBranch16))
        {
            return;
        }

        ulong target = instruction.NearBranchTarget;
        ulong targetOffset = target - start;
        if (targetOffset < (ulong)length)
        {
            result.InnerTargets.Add((int)targetOffset);
        }
        else if (!instruction.IsCallNear && instruction.Mnemonic != Mnemonic.Xbegin)
        {
            ReturnSiteKind kind = instruction.IsJmpShortOrNear ? ReturnSiteKind.Exit : ReturnSiteKind.ConditionalExit;
            result.ReturnSites.Add(new ReturnSite(offset, kind, target));
        }
    }

    /// <summary>Jumps past a lock prefix, as C libraries do in programs with one thread, are to a boundary too.</summary>
    private static bool IsBoundary(FunctionScan result, int target, ReadOnlySpan<byte> code) =>
        result.IsInstruction(target) || (target > 0 && code[target - 1] == 0xf0 && result.IsInstruction(target - 1));
}

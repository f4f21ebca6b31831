using System.Buffers.Binary;

namespace FastTrap.Isa.Arm64;

/// <summary>The linear sweep over a function: instruction offsets, where it may be left, literals inside it, exclusive sequences.</summary>
/// <remarks>
/// Literal pools are known by the loads which refer to them: they are skipped if control cannot run into them. Every other word must be an
/// instruction; data that decodes like instructions and that no literal load names cannot be recognised.
/// Source: fasttrap_isa.c, dt_pid.c, dt_pid_create_return_probe.
/// </remarks>
internal static class Arm64FunctionScanner
{
    private const uint Nop = 0xd503_201f;

    public static bool TryScan(ReadOnlySpan<byte> code, ulong address, FunctionScan result, out ProbeRefusal reason)
    {
        result.Clear();
        reason = ProbeRefusal.NotDecodable;
        if (address % sizeof(uint) != 0 || code.Length % sizeof(uint) != 0 || !TrySweep(code, address, result, out bool hasExclusives))
        {
            result.Clear();
            return false;
        }

        foreach (int target in result.InnerTargets)
        {
            if (!result.IsInstruction(target))
            {
                result.Clear();
                return false;
            }
        }

        if (hasExclusives)
        {
            Arm64ExclusiveSequences.Find(code, result);
        }

        reason = ProbeRefusal.None;
        return true;
    }

    /// <summary>Whether the next instruction may follow.</summary>
    internal static bool FallsThrough(Arm64Class @class) => @class is not (
        Arm64Class.Branch or Arm64Class.BranchRegister or Arm64Class.BranchAuthenticated or Arm64Class.Return or Arm64Class.ReturnAuthenticated
        or Arm64Class.ExceptionReturn or Arm64Class.PermanentlyUndefined or Arm64Class.Breakpoint);

    /// <summary>The distance of a direct branch's target, in bytes.</summary>
    internal static bool TryGetTarget(Arm64Word word, Arm64Class @class, out long distance)
    {
        distance = @class switch
        {
            Arm64Class.Branch or Arm64Class.BranchLink => word.Imm26Offset,
            Arm64Class.BranchConditional or Arm64Class.CompareBranch => word.Imm19Offset,
            Arm64Class.TestBranch => word.Imm14Offset,
            _ => 0,
        };
        return @class is Arm64Class.Branch or Arm64Class.BranchLink or Arm64Class.BranchConditional or Arm64Class.CompareBranch or Arm64Class.TestBranch;
    }

    private static bool TrySweep(ReadOnlySpan<byte> code, ulong address, FunctionScan result, out bool hasExclusives)
    {
        bool fallsThrough = true;
        hasExclusives = false;
        for (int offset = 0; offset < code.Length; offset += sizeof(uint))
        {
            if (result.LiteralOffsets.Contains(offset))
            {
                if (fallsThrough)
                {
                    return false;
                }

                continue;
            }

            Arm64Word word = new(BinaryPrimitives.ReadUInt32LittleEndian(code[offset..]));
            Arm64Class @class = Arm64Encodings.Classify(word);
            if (@class is Arm64Class.Unallocated or Arm64Class.PermanentlyUndefined)
            {
                return false;
            }

            result.InstructionOffsets.Add(offset);
            if (!TryAddReferences(word, @class, offset, code.Length, result))
            {
                return false;
            }

            AddSite(word, @class, offset, address, code.Length, result);
            hasExclusives |= @class == Arm64Class.LoadExclusive;

            // What pads is reached as what stands before it.
            fallsThrough = word.Value == Nop ? fallsThrough : FallsThrough(@class);
        }

        return true;
    }

    /// <summary>
    /// Literals and addresses inside the function. An address that is only taken may be a label's, of a computed goto or a jump table: then it is that of an
    /// instruction.
    /// </summary>
    private static bool TryAddReferences(Arm64Word word, Arm64Class @class, int offset, int length, FunctionScan result)
    {
        if (@class == Arm64Class.Address && !word.Bit(31))
        {
            long label = offset + word.ImmHiLo;
            if (label >= 0 && label < length)
            {
                result.InnerTargets.Add((int)label);
            }
        }

        if (@class != Arm64Class.LoadLiteral || word.Bits(31, 30) == 3)
        {
            return true;
        }

        int size = (word.VR, word.Bits(31, 30)) switch
        {
            (true, 2) => 16,
            (true, 1) or (false, 1) => 8,
            _ => 4,
        };
        long start = offset + word.Imm19Offset;
        for (long literal = start; literal < start + size; literal += sizeof(uint))
        {
            if (literal >= 0 && literal <= offset && !result.LiteralOffsets.Contains((int)literal))
            {
                // It was taken for an instruction.
                return false;
            }

            if (literal > offset && literal < length)
            {
                result.LiteralOffsets.Add((int)literal);
            }
        }

        return true;
    }

    private static void AddSite(Arm64Word word, Arm64Class @class, int offset, ulong start, int length, FunctionScan result)
    {
        if (@class is Arm64Class.Return or Arm64Class.ReturnAuthenticated)
        {
            result.ReturnSites.Add(new ReturnSite(offset, ReturnSiteKind.Return, 0));
        }
        else if (@class is Arm64Class.BranchRegister or Arm64Class.BranchAuthenticated)
        {
            result.ReturnSites.Add(new ReturnSite(offset, ReturnSiteKind.MaybeLeaves, 0));
        }
        else if (TryGetTarget(word, @class, out long distance))
        {
            long target = offset + distance;
            if (target >= 0 && target < length)
            {
                result.InnerTargets.Add((int)target);
            }
            else if (@class != Arm64Class.BranchLink)
            {
                ReturnSiteKind kind = @class == Arm64Class.Branch ? ReturnSiteKind.Exit : ReturnSiteKind.ConditionalExit;
                result.ReturnSites.Add(new ReturnSite(offset, kind, start + (ulong)target));
            }
        }
    }
}

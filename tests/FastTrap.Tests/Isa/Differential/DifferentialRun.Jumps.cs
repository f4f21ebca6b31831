using System.Runtime.InteropServices;
using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;
using FastTrap.Isa.X64;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>The same through code in the target: by jumps and by in-process traps, with programs of several kinds.</summary>
internal sealed partial class DifferentialRun
{
    /// <summary>An island's place in a block: behind all that a short branch can lead to.</summary>
    private const int IslandOffset = 0xf8;

    /// <summary>jmp *[pointer].</summary>
    private const int LandingLength = 7;

    private const ulong LeftToTarget = 2;

    /// <summary>Nops of so many bytes.</summary>
    private static readonly byte[][] s_fillers = [[], [0x90], [0x66, 0x90], [0x0f, 0x1f, 0x00], [0x0f, 0x1f, 0x40, 0x00]];

    private bool IsInTarget => mechanism != ProbeMechanism.Breakpoint;

    /// <summary>Programs that use few registers, that use more, and that compute with doubles.</summary>
    private QueryProgram MakeProgram()
    {
        ProgramBuilder builder = new();
        ProgramAction action = random.Next(2) == 0 ? ProgramAction.Count : ProgramAction.Sum;
        if (action.Kind == ProgramActionKind.Sum)
        {
            int first = builder.Input(ProgramOp.Argument, ProgramType.UInt64);
            int second = builder.Input(ProgramOp.Argument, ProgramType.UInt64, 1);
            ProgramType type = random.Next(2) == 0 ? ProgramType.Double : ProgramType.Int64;
            builder.Output(builder.Convert(builder.Binary(ProgramOp.Multiply, builder.Convert(first, type), builder.Convert(second, type)), ProgramType.Int64));
        }

        // What cannot be had by either is a breakpoint.
        return new QueryProgram(builder.Build(), action, ProbeMechanism.Auto, 0, null);
    }

    private ProbeSpec MakeSpec(DifferentialTarget target, Case one, bool after, bool isInTarget) => new()
    {
        Module = "code",
        Function = target.NextName(),
        Name = after ? "return" : "0",
        Kind = after ? ProbeKind.Return : ProbeKind.Offset,
        FunctionAddress = one.Displaced.Address,

        // Nothing is in a function of no length, so that each after-probe fires. Otherwise what follows the instruction is in it, and its target as the case has it.
        FunctionLength = isInTarget ? one.Displaced.Length + 1UL : 0,
        ColdStart = isInTarget && one.IsOwnTarget ? one.BranchTarget : 0,
        ColdLength = isInTarget && one.IsOwnTarget ? 1UL : 0,
        Instructions = [one.Displaced],
        Windows = isInTarget ? [FindWindow(one)] : [],
    };

    /// <summary>A window of whole instructions: the fillers, the one that is meant, and if there is need of it the landing. None leaves the in-process trap.</summary>
    private SiteWindow FindWindow(Case one)
    {
        if (mechanism == ProbeMechanism.InProcessTrap)
        {
            return new SiteWindow(default, [], "it shall be a trap");
        }

        int minimum = one.IsShort ? PatchWindow.ShortLength : PatchWindow.NearLength;
        Movable movable = X64Movability.Examine(one.Bytes, one.Displaced.Address);
        if (!movable.IsMovable)
        {
            return new SiteWindow(default, [], "it cannot be moved");
        }

        int code = one.Filler + one.Bytes.Length;
        code += code < minimum && !movable.EndsFlow ? LandingLength : 0;
        int length = Math.Max(code, minimum);
        ulong island = one.IsShort ? one.Displaced.Address - Arena.InstructionOffset + IslandOffset : 0;
        PatchWindow window = new(one.WindowStart, (byte)length, (byte)code, one.Displaced.Address, one.IsShort ? WindowKind.Short : WindowKind.Near, island);
        return new SiteWindow(window, one.Block.AsSpan(Arena.InstructionOffset - one.Filler, length).ToArray(), null);
    }

    /// <summary>How often the function was left, by what was seen natively.</summary>
    private static long CountLeaving(DifferentialTarget target, List<Case> owners)
    {
        byte[] head = new byte[CaseResult.VectorsOffset];
        long count = 0;
        for (int i = 0; i < owners.Count; i++)
        {
            if (owners[i].MayLeave && !owners[i].IsOwnTarget)
            {
                target.ReadResult(i, head);
                count += MemoryMarshal.Read<CaseResult>(head).Where == LeftToTarget ? 1 : 0;
            }
        }

        return count;
    }
}

using System.Diagnostics.CodeAnalysis;
using FastTrap.Engine;

namespace FastTrap;

/// <summary>What stands under the traps of a process.</summary>
public sealed partial class TracedProcess
{
    /// <summary>
    /// The instruction that a trap of this library displaced at an address, whole, as the program had it. False if none of its traps belongs there. Any thread.
    /// </summary>
    /// <remarks>Source: fasttrap.c, fasttrap_ioctl with FASTTRAPIOC_GETINSTR.</remarks>
    public bool TryGetDisplacedInstruction(ulong address, [NotNullWhen(true)] out byte[]? instruction)
    {
        Tracepoint? tracepoint = Image.ProcOrNull?.Table.Find(address);
        instruction = tracepoint?.ArmedBy is null ? null : tracepoint.Instruction.Bytes.ToArray();
        return instruction is not null;
    }

    /// <summary>The engine's side of the program that is executed now. For what lies beside descriptions: providers of other sources.</summary>
    internal Proc GetProc() => Image.GetProc();
}

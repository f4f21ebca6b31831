namespace FastTrap.Isa;

/// <summary>The words for <see cref="ProbeRefusal"/>.</summary>
internal static class ProbeRefusalText
{
    /// <summary>One sentence: why, and what to do.</summary>
    public static string Describe(this ProbeRefusal refusal) => refusal switch
    {
        ProbeRefusal.None => "The instruction can be probed.",
        ProbeRefusal.Truncated => "Readable memory ends inside the instruction; probe an address whose whole instruction is mapped.",
        ProbeRefusal.Undecodable => "The bytes there are not an instruction; probe the start of an instruction, as a disassembler lists it.",
        ProbeRefusal.AlreadyBreakpoint => "A breakpoint instruction stands there already, another debugger's or the program's own; remove it, or probe another instruction.",
        ProbeRefusal.SoftwareInterrupt => "Software interrupts (int n, int1) return to their own address; probe the instruction before or after it.",
        ProbeRefusal.FarTransfer => "Far calls, jumps and returns change the code segment; probe the instruction before it, or its target.",
        ProbeRefusal.InterruptReturn => "Returns from interrupts cannot be displaced; probe the instruction before it.",
        ProbeRefusal.FastSystemTransfer => "sysenter does not come back to where it was executed; probe the instruction before it.",
        ProbeRefusal.MasksTraps => "Loading the stack segment holds off traps until after the next instruction; probe the one after that.",
        ProbeRefusal.Privileged => "The instruction is privileged and only faults in a user program; probe the instruction before it.",
        ProbeRefusal.OperandSizeBranch => "An operand-size prefix cuts a branch's target to 16 bits on this processor, or on some; probe the instruction before it, or the branch's target.",
        ProbeRefusal.ConflictingSegments => "The branch has two different segment prefixes, whose effect is undefined; probe the instruction before it.",
        ProbeRefusal.NotForSlots => "Branches are emulated and never run out of line; this is an error of the caller.",
        ProbeRefusal.OutOfReach => "No memory within reach of the instruction's operand could be had, and the instruction leaves no register to borrow; probe another instruction.",
        ProbeRefusal.NotDecodable => "The function holds data or overlapping instructions, so its returns and offsets are unknown; probe its entry only.",
        ProbeRefusal.Misaligned => "The address is not aligned as instructions are; probe the start of an instruction.",
        ProbeRefusal.UnknownSize => "The symbol has no size, so the function's returns and instructions are not known; probe its entry only.",
        ProbeRefusal.NotAnInstruction => "No instruction starts at this offset; list the offsets with the name *, or see a disassembly.",
        ProbeRefusal.OutsideFunction => "The offset is not inside the function; list its offsets with the name *.",
        ProbeRefusal.NoReturnSite => "The function is left by no return and no jump (it never returns); probe its entry.",
        ProbeRefusal.MemoryAccess => "The instruction's memory could not be read or written; it may have been unmapped meanwhile.",
        ProbeRefusal.NoSlot => "The instruction must run out of line, and memory for that cannot be had in the target; probe another instruction of the function.",
        ProbeRefusal.UnresolvedIndirectFunction => "Nobody in the process has called this indirect function (IFUNC) yet, so its implementation is not known; enable it again later, or probe the implementation by its own name.",
        ProbeRefusal.TooManyTracepoints => "The limit on tracepoints is reached; disable others, narrow the pattern, or raise TracerOptions.MaximumTracepoints.",
        ProbeRefusal.SemaphoreAccess => "The probe's semaphore, which tells the program to fire it, could not be written; enable the probe with ProbeOptions.RaiseSemaphores set to false to do without.",
        ProbeRefusal.ExclusiveSequence => "A trap at or between a load-exclusive and its store-exclusive makes the store fail for ever; probe an instruction before or after the sequence.",
        ProbeRefusal.PositionDependent => "The instruction's effect depends on its address or its neighbours in a way that is not carried out elsewhere; probe the instruction before it.",
        ProbeRefusal.CodeChanged => "The code changed, or went away, before the probe could be enabled; enable it again.",
        ProbeRefusal.Unloaded => "The library was unloaded, and the probe with it; enable it again when the library is loaded again.",
        ProbeRefusal.NotByJump => "The Jump mechanism was asked for, and cannot be had there; allow any mechanism, or Breakpoint.",
        ProbeRefusal.NotByInProcessTrap => "A trap that leads to code in the program was asked for, and cannot be had there; allow any mechanism, or Breakpoint.",
        ProbeRefusal.InvalidDof => "The program's own description of the probe (DOF) cannot be used; rebuild the program, or probe its functions.",
        ProbeRefusal.OverBudget => "Its hits cost more than its budget allows, so it was disabled; narrow the pattern, raise the budget, or let it be sampled (BudgetAction.Sample).",
        _ => throw new ArgumentOutOfRangeException(nameof(refusal), refusal, "Not a refusal."),
    };
}

namespace FastTrap;

/// <summary>How the instructions of probes are armed.</summary>
public enum ProbeMechanism
{
    /// <summary>The cheapest that delivers what is asked for.</summary>
    Auto,

    /// <summary>A trap: the thread stops at each hit, and the tracer does what is to be done. Any instruction.</summary>
    Breakpoint,

    /// <summary>A jump to code in the target which does it: no stop. x86-64, queries that can be compiled, instructions that leave room for a jump.</summary>
    Jump,

    /// <summary>
    /// A trap that leads to code in the target which does it. While the process is traced the thread stops once and the tracer leads it; without a tracer a handler of SIGTRAP in the target does. x86-64, queries that can be compiled, instructions that can be moved.
    /// </summary>
    InProcessTrap,
}

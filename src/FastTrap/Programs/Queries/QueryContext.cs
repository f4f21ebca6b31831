namespace FastTrap;

/// <summary>
/// What a probe program can use of a hit: the parameter of the lambdas of <see cref="ProbeQuery"/>. The lambdas are not called but compiled, so the members say what is meant and never run.
/// </summary>
/// <remarks>
/// Allowed in such a lambda besides these: constants and captured variables (their values when the query is enabled), arithmetic, comparisons, <c>&amp;&amp; || ! ?:</c>, bit operations and casts among
/// <see cref="byte"/> to <see cref="ulong"/>, <see cref="double"/> and <see cref="bool"/>. Arithmetic does not check for overflow.
/// </remarks>
public abstract class QueryContext
{
    private protected QueryContext()
    {
    }

    /// <summary>The return value, at return probes.</summary>
    public abstract ulong ReturnValue { get; }

    /// <summary>The kernel's id of the thread.</summary>
    public abstract int ThreadId { get; }

    /// <summary>The process's id.</summary>
    public abstract int ProcessId { get; }

    /// <summary>When the tracer saw the hit: nanoseconds of CLOCK_MONOTONIC.</summary>
    public abstract long TimestampNs { get; }

    /// <summary>The probed instruction's address.</summary>
    public abstract ulong ProgramCounter { get; }

    /// <summary>Argument <paramref name="index"/>, as <see cref="ProbeContext.GetArgument"/> has it. The index is a constant.</summary>
    public abstract ulong Arg(int index);

    /// <summary>
    /// Reads a value from target memory. Where there is none, whatever is made of it has no value: a condition does not hold, a field is marked
    /// (<see cref="ProbeRecord{T}.IsComplete"/>), an aggregation leaves the hit out. The target is never harmed by it.
    /// </summary>
    /// <typeparam name="T"><see cref="byte"/> to <see cref="ulong"/>, <see cref="double"/>, <see cref="bool"/>, or an enumeration.</typeparam>
    public abstract T Read<T>(ulong address)
        where T : unmanaged;

    /// <summary>Reads a zero-terminated UTF-8 string of at most so many bytes (a constant, 1 to 4096). Fields of records only.</summary>
    public abstract string ReadString(ulong address, int maximumLength);

    /// <summary>
    /// The user stack by frame pointers, at most so many frames (a constant, 1 to 512): the probed instruction, then return addresses, innermost first. Code without frame pointers hides its callers. Fields of records only.
    /// </summary>
    public abstract ulong[] Stack(int depth);
}

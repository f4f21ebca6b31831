using System.Buffers;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// What a consumer wants done at its sites as code, with which they can be armed by Jump. Its handler in the tracer does the same, for those that cannot.
/// </summary>
internal interface ISiteProgram
{
    /// <summary>Which mechanism the consumer allows.</summary>
    ProbeMechanism Mechanism { get; }

    /// <summary>Whether there may be code for it.</summary>
    bool MayBeCode => Mechanism != ProbeMechanism.Breakpoint;

    /// <summary>Whether its code needs the tracer, so that the process cannot be let go of. Control thread.</summary>
    bool NeedsTracer { get; }

    /// <summary>
    /// Has what the code needs put into the target. Control thread, once, before the first <see cref="TryCompile"/>, with the process's threads as they are. Returns null, or why it cannot be had.
    /// </summary>
    /// <param name="proc">The process.</param>
    /// <param name="sites">How many sites are about to be compiled, at most.</param>
    string? Prepare(Proc proc, int sites);

    /// <summary>Appends the code for one site. Control thread. It is entered at its first byte, left behind its last, and runs at any address.</summary>
    bool TryCompile(EnabledProbe enabled, Tracepoint tracepoint, IBufferWriter<byte> code, out string reason);

    /// <summary>A site is armed, or no longer, by a mechanism; with the reason where Jump could not be had. Control thread.</summary>
    void OnArmed(EnabledProbe enabled, ulong address, ProbeMechanism mechanism, string? reason);

    /// <summary>Its sites are gone, and what it gathered is complete. Control thread.</summary>
    /// <param name="proc">The process.</param>
    /// <param name="isQuiet">Whether no thread executes its code any more, nor will: its memory can go. False where that could not be seen, or the memory is no more.</param>
    void OnRemoved(Proc proc, bool isQuiet);
}

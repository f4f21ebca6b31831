using FastTrap.Control;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// How tracepoints are armed and what becomes of the instruction which the arming displaced. The engine multiplexes consumers above it.
/// </summary>
/// <remarks>Methods run on the control thread.</remarks>
internal abstract class Mechanism
{
    /// <summary>Bytes of text which arming writes at the tracepoint's address.</summary>
    public abstract int PatchLength { get; }

    /// <summary>Writes the patch. Returns false with errno when the memory is gone or refuses.</summary>
    public abstract bool TryArm(Tracepoint tracepoint, out Native.Errno error);

    /// <summary>Puts the original bytes back where the patch stands. A memory that is gone, or another's by now, is no error.</summary>
    public abstract Native.Errno Disarm(Tracepoint tracepoint);

    /// <summary>
    /// Carries out the displaced instruction of a thread stopped on the tracepoint. With <paramref name="wantsAfter"/>, the caller is to
    /// be told once its effects are visible: now (<see cref="Displacement.Done"/>) or at a later trap (<see cref="Displacement.Later"/>).
    /// </summary>
    public abstract Displacement Displace(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers, bool wantsAfter);
}

/// <summary>How far a displaced instruction got.</summary>
internal enum Displacement
{
    /// <summary>Its effects are in the registers and memory.</summary>
    Done,

    /// <summary>The thread was sent to run it, and goes on by itself.</summary>
    GoesOn,

    /// <summary>The thread was sent to run it, and traps afterwards.</summary>
    Later,

    /// <summary>It could not be carried out away from its place: the tracepoint was withdrawn, and the thread executes it in place.</summary>
    Withdrawn,
}

using FastTrap.Isa.X64;

namespace FastTrap.Engine.Mechanisms;

/// <summary>What stands at a window.</summary>
internal enum JumpState : byte
{
    /// <summary>The original; or, while it is being written, the trap.</summary>
    Planned,

    /// <summary>The trap at its first byte, which leads into the trampoline. What follows it is old or new.</summary>
    Leading,

    /// <summary>The jump.</summary>
    Armed,

    /// <summary>The trap at its first byte, the original behind it: who hits waits until the first byte is back, too.</summary>
    Leaving,

    /// <summary>Nothing of ours, or memory that is no more.</summary>
    Gone,

    /// <summary>Another site's: nobody comes into this one's trampoline any more.</summary>
    Superseded,
}

/// <summary>One window with its trampoline. Changed on the control thread only.</summary>
internal sealed class JumpSite(Tracepoint tracepoint, EnabledProbe[] consumers, in PatchWindow window)
{
    private readonly PatchWindow _window = window;

    /// <summary>A site that another tracer has left, of which nobody wants anything but its end.</summary>
    public static JumpSite Adopt(in PatchWindow window, Trampoline code) => new(new Tracepoint(default), [], window) { Code = code, HasJumpTail = true };

    public Tracepoint Tracepoint { get; } = tracepoint;

    /// <summary>Whose programs run in the trampoline, in their order there.</summary>
    public EnabledProbe[] Consumers { get; } = consumers;

    public ref readonly PatchWindow Window => ref _window;

    public ulong Start => _window.Start;

    public int PatchLength => _window.PatchLength;

    /// <summary>Whether it stays a trap that leads.</summary>
    public bool IsTrap => _window.Kind == WindowKind.Trap;

    /// <summary>Why a jump could not be had, of one that stays a trap; null: it was not wanted.</summary>
    public string? TrapReason { get; init; }

    /// <summary>The address behind the bytes that are replaced.</summary>
    public ulong PatchEnd => _window.Start + (ulong)_window.PatchLength;

    /// <summary>What the window held: all its instructions.</summary>
    public byte[] Original { get; set; } = [];

    /// <summary>The jump.</summary>
    public byte[] Patch { get; set; } = [];

    /// <summary>The island's bytes before and after; empty if there is none.</summary>
    public byte[] IslandOriginal { get; set; } = [];

    public byte[] IslandPatch { get; set; } = [];

    /// <summary>The trampoline, once it was written.</summary>
    public Trampoline? Code { get; set; }

    public TrampolineArea? Area { get; set; }

    public JumpState State { get; set; }

    /// <summary>Whether the bytes behind the first are those of the jump.</summary>
    public bool HasJumpTail { get; set; }

    /// <summary>The site whose jump may still stand in part at this window; null: none.</summary>
    public JumpSite? Former { get; set; }

    /// <summary>The site which has the window now, if this one was superseded; null: it has it itself.</summary>
    public JumpSite? Successor { get; set; }

    /// <summary>Who has the window now.</summary>
    public JumpSite Current
    {
        get
        {
            JumpSite site = this;
            while (site.Successor is { } next)
            {
                site = next;
            }

            return site;
        }
    }

    /// <summary>Why it is not to be armed by Jump after all, or no longer; null: it is.</summary>
    public string? Demotion { get; set; }

    /// <summary>Whether the probe fails rather than being armed by Breakpoint.</summary>
    public bool IsAbandoned { get; set; }

    /// <summary>Whether its end was asked for.</summary>
    public bool IsReleased { get; set; }

    /// <summary>Whether nobody is in its trampoline any more, whose memory is free.</summary>
    public bool IsFreed { get; set; }

    /// <summary>Whether the tracepoint has a trap of its own meanwhile, by which hits are counted from then on.</summary>
    public bool IsBypassed { get; set; }

    /// <summary>Whether the window begins behind the probed instruction, which is an ENDBR64: who executes that again has done nothing.</summary>
    public bool IsBehindMark => Tracepoint.Address + WindowSearch.EndbrLength == Start;

    /// <summary>Where somebody goes who stands in front of the window and is not counted yet: he may find a trap in front of it when he goes on.</summary>
    public ulong Front => IsBehindMark ? Tracepoint.Address : Start;

    /// <summary>Whether that trap stands in front of the window.</summary>
    public bool IsCountedInFront => IsBypassed && IsBehindMark;

    /// <summary>Whether an address lies among the bytes that are replaced, but not at their start: nobody may be there.</summary>
    public bool IsInside(ulong address) => address - Start - 1 < (ulong)(PatchLength - 1);
}

/// <summary>The window of one site, or why there is none.</summary>
/// <param name="Window">The window.</param>
/// <param name="Original">The bytes of all its instructions, and of what else is replaced.</param>
/// <param name="Reason">Why there is none; null: there is.</param>
/// <param name="IsKnown">Whether the code around it is known, so that a trap may lead out of it.</param>
internal readonly record struct SiteWindow(PatchWindow Window, byte[] Original, string? Reason, bool IsKnown = true);

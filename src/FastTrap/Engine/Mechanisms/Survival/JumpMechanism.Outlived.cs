using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Traps by themselves, of breakpoints and of the library's own, in a process that has jumps: written down as those are, with code to which the guard leads who hits one when there is no tracer.</summary>
/// <remarks>What was written down stays until the detach: the instruction that a trap displaced is done rightly there, whether the trap still stands or not.</remarks>
internal sealed partial class JumpMechanism
{
    private readonly Dictionary<ulong, JumpSite> _traps = [];
    private bool _isOutlived;

    /// <summary>Before the first trap for sites that are to be code: from here on what is written into the text is written down. What cannot be had is refused when the sites are armed.</summary>
    public void PrepareToBeOutlived(int sites)
    {
        if (!_journal.TryReserve(sites, out _) || Guard.Prepare(sites) is not null || _isOutlived || _proc.IsGone)
        {
            return;
        }

        _isOutlived = true;
        foreach (ControlBreakpoint breakpoint in _proc.Process.ControlBreakpoints.Current)
        {
            BeforeTrap(breakpoint.Address);
        }

        foreach (ulong semaphore in _proc.Semaphores.Raised)
        {
            _journal.SetSemaphore(semaphore, isRaised: true);
        }

        foreach (Tracepoint tracepoint in _proc.Table.All())
        {
            if (tracepoint.ArmedBy == _breakpoint)
            {
                BeforeTrap(tracepoint.Address);
            }
        }
    }

    /// <summary>A semaphore is to be raised, or was lowered.</summary>
    public void NoteSemaphore(ulong address, bool isRaised)
    {
        if (_isOutlived)
        {
            _journal.SetSemaphore(address, isRaised);
        }
    }

    /// <summary>A trap is about to be written to an instruction, not from within a hit.</summary>
    public void BeforeTrap(ulong address)
    {
        if (!_isOutlived || _traps.ContainsKey(address))
        {
            return;
        }

        Span<byte> bytes = stackalloc byte[_proc.Isa.MaxInstructionLength];
        int read = _proc.ReadMemory(address, bytes);
        if (read <= 0 || !_proc.Isa.TryDecode(bytes[..read], address, out DisplacedInstruction instruction, out _))
        {
            return;
        }

        byte length = (byte)instruction.Length;
        PatchWindow window = new(address, length, length, address, WindowKind.Trap, 0);
        Trampoline code = new(0, 0, [], new RelocatedBody(0, 0, address));
        if (_code.TryFind(address, RelocatedLength, RelocatedLength, out TrampolineArea? area, out _))
        {
            _relocator.Begin(window, WithoutMark(bytes[..length].ToArray()), area.Next);
            if (_relocator.TryMoveUntil(address, out _))
            {
                _relocator.AddBody([]);
                if (_relocator.TryFinish(out _))
                {
                    code = new Trampoline(_relocator);
                    area.Add(_relocator.Code);
                }
            }
        }

        JumpSite trap = JumpSite.Adopt(window, code);
        trap.Original = bytes[..length].ToArray();
        trap.Patch = [.. _proc.Isa.TrapBytes];
        if (!_journal.TryAdd(trap, out _))
        {
            return;
        }

        _traps.Add(address, trap);
        if (code.Address != 0)
        {
            Guard.SetRanges(_code.Mapped);
            Guard.Add(address, code.Address);
        }
    }

    /// <summary>Prepares for the time without a tracer. False, with the reason, if something that stands in the text needs one.</summary>
    public bool TryStay(out string reason)
    {
        reason = _released.Count != 0 ? "some jumps could not be taken out in time; try again" : _index.Count == 0 ? "" : PrepareForLife() ?? "";
        return reason.Length == 0;
    }

    /// <summary>They went with their library.</summary>
    private void ForgetTraps(ulong start, ulong length)
    {
        foreach (JumpSite trap in _traps.Values.Where(t => t.Start - start < length).ToArray())
        {
            _traps.Remove(trap.Start);
            _journal.Remove(trap);
            Guard.Retire(trap.Start);
        }
    }
}

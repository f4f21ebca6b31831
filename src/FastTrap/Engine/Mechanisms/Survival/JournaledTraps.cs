using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Traps by themselves, of breakpoints and of the library's own, in a process that has jumps: written down as those are, with code to which the guard leads who hits one when there is no tracer.</summary>
/// <remarks>Control thread only. What was written down stays until the detach: the instruction that a trap displaced is done rightly there, whether the trap still stands or not.</remarks>
/// <param name="proc">The process.</param>
/// <param name="code">Where instructions are copied to.</param>
/// <param name="journal">In which traps are written down.</param>
/// <param name="guard">Which leads threads.</param>
internal sealed class JournaledTraps(Proc proc, CodeSpace code, Journal journal, TrapGuard guard)
{
    private readonly Dictionary<ulong, JumpSite> _traps = [];
    private readonly X64Relocator _relocator = new();
    private bool _isBegun;

    /// <summary>Before the first trap for sites that are to be code: from here on what is written into the text is written down. What cannot be had is refused when the sites are armed.</summary>
    public void Begin(int sites)
    {
        if (!journal.TryReserve(sites, out _) || guard.Prepare(sites) is not null || _isBegun || proc.IsGone)
        {
            return;
        }

        _isBegun = true;
        proc.Process.LeadsTraps = true;
        foreach (ControlBreakpoint own in proc.Process.ControlBreakpoints.Current)
        {
            BeforeTrap(own.Address);
        }

        foreach (ulong semaphore in proc.Semaphores.Raised)
        {
            journal.SetSemaphore(semaphore, isRaised: true);
        }

        foreach (Tracepoint tracepoint in proc.Table.All())
        {
            if (tracepoint.ArmedBy is BreakpointMechanism)
            {
                BeforeTrap(tracepoint.Address);
            }
        }
    }

    /// <summary>A semaphore is to be raised, or was lowered.</summary>
    public void NoteSemaphore(ulong address, bool isRaised)
    {
        if (_isBegun)
        {
            journal.SetSemaphore(address, isRaised);
        }
    }

    /// <summary>A trap is about to be written to an instruction, not from within a hit.</summary>
    public void BeforeTrap(ulong address)
    {
        if (!_isBegun)
        {
            return;
        }

        Span<byte> bytes = stackalloc byte[proc.Isa.MaxInstructionLength];
        int read = proc.ReadMemory(address, bytes);
        if (_traps.TryGetValue(address, out JumpSite? known))
        {
            if (read <= 0 || bytes[..read].StartsWith(known.Original))
            {
                // A jump may have been there since.
                AddToGuard(known);
                return;
            }

            // Another instruction was made there since.
            Forget(address, 1);
        }

        if (read <= 0 || !proc.Isa.TryDecode(bytes[..read], address, out DisplacedInstruction instruction, out _))
        {
            return;
        }

        byte length = (byte)instruction.Length;
        PatchWindow window = new(address, length, length, address, WindowKind.Trap, 0);
        Trampoline copy = new(0, 0, [], new RelocatedBody(0, 0, address));
        if (code.TryFind(address, JumpMechanism.RelocatedLength, JumpMechanism.RelocatedLength, out TrampolineArea? area, out _))
        {
            _relocator.Begin(window, JumpMechanism.WithoutMark(bytes[..length].ToArray()), area.Next);
            if (_relocator.TryMoveUntil(address, out _))
            {
                _relocator.AddBody([]);
                if (_relocator.TryFinish(out _))
                {
                    copy = new Trampoline(_relocator);
                    area.Add(_relocator.Code);
                }
            }
        }

        JumpSite trap = JumpSite.Adopt(window, copy);
        trap.Original = bytes[..length].ToArray();
        trap.Patch = [.. proc.Isa.TrapBytes];
        if (!journal.TryAdd(trap, out _))
        {
            return;
        }

        _traps.Add(address, trap);
        AddToGuard(trap);
    }

    /// <summary>The copy of an instruction to which the guard leads from its trap; 0: there is none.</summary>
    public ulong FindCopy(ulong address) => _traps.TryGetValue(address, out JumpSite? trap) ? trap.Code!.Address : 0;

    /// <summary>A trap that stands stays, as one by itself. False if the guard cannot lead from it then.</summary>
    public bool TryLead(ulong address)
    {
        BeforeTrap(address);
        return FindCopy(address) != 0;
    }

    private void AddToGuard(JumpSite trap)
    {
        if (trap.Code!.Address != 0)
        {
            guard.SetRanges(code.Mapped);
            guard.Add(trap.Start, trap.Code.Address);
        }
    }

    /// <summary>They went with their library.</summary>
    public void Forget(ulong start, ulong length)
    {
        foreach (JumpSite trap in _traps.Values.Where(t => t.Start - start < length).ToArray())
        {
            _traps.Remove(trap.Start);
            journal.Remove(trap);
            guard.Retire(trap.Start);
        }
    }

    /// <summary>The code goes to which they lead, at the detach: who is killed from here on leaves memory, and no trap.</summary>
    public void End()
    {
        foreach (JumpSite trap in _traps.Values)
        {
            journal.Remove(trap);
        }

        Forget();
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        _traps.Clear();
        _isBegun = false;
    }
}

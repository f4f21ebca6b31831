using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Threads in trampolines that get signals, and threads that leave.</summary>
internal sealed partial class JumpMechanism
{
    /// <summary>Whether a thread there has to be stepped out: it is in the program, or at an instruction whose original place holds something else now.</summary>
    public bool IsToStepOut(ulong address)
    {
        if (!_index.TryFindOutOfLine(address, out JumpSite? site) || address == site.Window.Island)
        {
            return false;
        }

        return !site.Code!.TryFindOriginal(address, out RelocatedPoint point) || !IsPlace(site, point);
    }

    /// <summary>Puts a thread to where it would be in the original code.</summary>
    public bool Leave(ref RegisterSet registers)
    {
        ulong pc = registers.ProgramCounter;
        if (!_index.TryFindOutOfLine(pc, out JumpSite? site))
        {
            return false;
        }

        if (pc == site.Window.Island)
        {
            registers.ProgramCounter = site.Start;
            return true;
        }

        if (!site.Code!.TryFindOriginal(pc, out RelocatedPoint point))
        {
            return false;
        }

        MoveTo(point, ref registers);
        return true;
    }

    /// <summary>A signal finds a thread in a trampoline.</summary>
    public SignalOutcome OnSignal(TracedTask task, ref RegisterSet registers, ref SignalInfo info)
    {
        ulong pc = registers.ProgramCounter;
        if (info.si_signo == Signal.SIGSTOP || !_index.TryFindOutOfLine(pc, out JumpSite? site))
        {
            // It runs no handler: the thread stops where it is, and goes on from there.
            return SignalOutcome.Deliver;
        }

        if (!info.IsSynchronous)
        {
            if (IsToStepOut(pc))
            {
                return SignalOutcome.StepOut;
            }

            Leave(ref registers);
            return SignalOutcome.Deliver;
        }

        if (!site.Code!.TryFindOriginal(pc, out RelocatedPoint point))
        {
            // The program itself: the stack has no room for it. The instruction in front of which it stands would fare no better.
            registers.ProgramCounter = site.Window.Site;
            return SignalOutcome.Deliver;
        }

        if (site.State is JumpState.Leading or JumpState.Armed && site.IsInside(point.Original))
        {
            // The handler may come back there, so the original must be there.
            site.Demotion ??= "one of its instructions raised a signal";
            Release(site);
            _waiting.Add((task, site));
            _proc.PostRetirement();
            return SignalOutcome.Stand;
        }

        MoveTo(point, ref registers);
        if (info.si_addr - pc < (ulong)LongestWindow)
        {
            info.si_addr = registers.ProgramCounter + (info.si_addr - pc);
        }

        return SignalOutcome.Deliver;
    }

    private static void MoveTo(in RelocatedPoint point, ref RegisterSet registers)
    {
        registers.ProgramCounter = point.Original;
        if (point.IsPushed)
        {
            registers[X64Register.Rsp] += sizeof(ulong);
        }
    }

    /// <summary>Whether a thread may go to the original of a place: its own bytes are there, and it is counted once, neither twice nor never.</summary>
    private static bool IsPlace(JumpSite site, in RelocatedPoint point)
    {
        bool isCounted = site.Code!.IsBehindBody(point);
        if (site.State is JumpState.Gone or JumpState.Leaving)
        {
            return !(isCounted && site.IsBypassed && point.Original == site.Window.Site);
        }

        return point.Original == site.Start ? !isCounted : isCounted && !site.IsInside(point.Original);
    }
}

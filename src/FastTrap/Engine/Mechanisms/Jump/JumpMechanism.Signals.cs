using System.Buffers.Binary;
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
            // Not out of another tracer's guard, in which SIGTRAP is blocked: the trap of a step would reset the action for it.
            return Guard.Contains(address);
        }

        return !site.Code!.TryFindOriginal(address, out RelocatedPoint point) || !IsPlace(site, point);
    }

    /// <summary>The guards' code gives the mask back: a step whose tracer was killed comes to it.</summary>
    public void KeepMask(TracedTask task, ulong? mask)
    {
        Span<byte> kept = stackalloc byte[GuardState.KeptLength];
        BinaryPrimitives.WriteUInt64LittleEndian(kept, mask is null ? 0 : 1UL);
        BinaryPrimitives.WriteUInt64LittleEndian(kept[sizeof(ulong)..], mask ?? 0);
        foreach (ulong state in (ReadOnlySpan<ulong>)[.. Adopted.GuardStates, Guard.State])
        {
            if (state != 0)
            {
                _platform.WriteMemory(task.ThreadId, state + GuardState.KeptOffset, kept);
            }
        }
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
            registers.ProgramCounter = site.Current.Front;
            return true;
        }

        if (!site.Code!.TryFindOriginal(pc, out RelocatedPoint point))
        {
            return false;
        }

        MoveTo(site, point, ref registers);
        return true;
    }

    /// <summary>Whether a thread at an address has passed the ENDBR64 at which a probe is, and not come through the window behind it yet.</summary>
    public bool IsBehindMark(ulong address) => _index.FindStart(address) is { IsBehindMark: true, State: JumpState.Leading or JumpState.Armed or JumpState.Leaving };

    /// <summary>A signal finds a thread in a trampoline, or in front of a window.</summary>
    public SignalOutcome OnSignal(TracedTask task, ref RegisterSet registers, ref SignalInfo info)
    {
        ulong pc = registers.ProgramCounter;
        if (_index.FindStart(pc) is { IsBehindMark: true } window)
        {
            // When its handler is over there may be a trap in front instead. Of a window that is left, who was looked at is counted.
            bool isCounted = window.State == JumpState.Leaving && task.Visit is null;
            registers.ProgramCounter = isCounted || info.IsSynchronous ? pc : window.Front;
            return SignalOutcome.Deliver;
        }

        if (Guard.Contains(pc) && info.si_signo != Signal.SIGSTOP && !info.IsSynchronous)
        {
            return SignalOutcome.StepOut;
        }

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
            return TrySkipLoad(ref registers) ? SignalOutcome.Ignore : OnFaultInProgram(task, site, ref registers, ref info);
        }

        JumpSite current = site.Current;
        if (current.State is JumpState.Leading or JumpState.Armed && site.IsInside(point.Original))
        {
            // The handler may come back there, so the original must be there.
            current.Demotion ??= "one of its instructions raised a signal";
            Release(current);
            _waiting.Add((task, site));
            _proc.PostRetirement();
            return SignalOutcome.Stand;
        }

        MoveTo(site, point, ref registers);
        if (info.si_addr - pc < (ulong)LongestWindow)
        {
            info.si_addr = registers.ProgramCounter + (info.si_addr - pc);
        }

        return SignalOutcome.Deliver;
    }

    /// <summary>A program that looks into its thread's control block, where the thread has none: what it would have found is 0.</summary>
    private bool TrySkipThreadLoad(ref RegisterSet registers)
    {
        // fs: [rex.w] mov eax, [disp64]; or mov or movsxd, [disp32], of the first three registers.
        Span<byte> code = stackalloc byte[9];
        if (_platform.ReadCode(_memory, registers.ProgramCounter, code) != code.Length || code[0] != 0x64)
        {
            return false;
        }

        int at = code[1] == 0x48 ? 2 : 1;
        bool isLong = code[at] == 0xa1;
        if (!isLong && (code[at] is not (0x8b or 0x63) || code[at + 1] is not (0x04 or 0x0c or 0x14) || code[at + 2] != 0x25))
        {
            return false;
        }

        registers[isLong || code[at + 1] == 0x04 ? X64Register.Rax : code[at + 1] == 0x0c ? X64Register.Rcx : X64Register.Rdx] = 0;
        registers.ProgramCounter += (ulong)at + (isLong ? 1UL + sizeof(ulong) : 3UL + sizeof(uint));
        return true;
    }

    private static void MoveTo(JumpSite site, in RelocatedPoint point, ref RegisterSet registers)
    {
        registers.ProgramCounter = point.Original == site.Start && !site.Code!.IsBehindBody(point) ? site.Current.Front : point.Original;
        registers[X64Register.Rsp] += (ulong)point.Pushed;
    }

    /// <summary>Whether a thread may go to the original of a place: its own bytes are there, and it is counted once, neither twice nor never.</summary>
    private static bool IsPlace(JumpSite site, in RelocatedPoint point)
    {
        bool isCounted = site.Code!.IsBehindBody(point);
        JumpSite current = site.Current;
        if (current.State is JumpState.Gone or JumpState.Leaving)
        {
            return !(isCounted && current.IsBypassed && point.Original == site.Window.Site);
        }

        return point.Original == site.Start ? !isCounted : isCounted && !site.IsInside(point.Original);
    }
}

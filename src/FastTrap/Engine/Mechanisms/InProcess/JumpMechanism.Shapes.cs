using System.Buffers.Binary;
using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Threads within programs: how they would look without them.</summary>
internal sealed partial class JumpMechanism
{
    /// <summary>The program of a site, and where it begins; null if it is not understood.</summary>
    private BodyShape? ShapeOf(JumpSite site, out ulong start)
    {
        if (!site.Code!.TryFind(site.Window.Site, out start))
        {
            return null;
        }

        byte[] body = new byte[site.Code.BehindBody - start];
        return _platform.ReadMemory(_proc.ProcessId, start, body) == body.Length ? BodyShape.Analyse(body) : null;
    }

    /// <summary>A program has no room on the stack. Its site becomes a Breakpoint, and the thread begins the instruction anew as if there were no program: the instruction itself may need no stack, or raises a signal of its own.</summary>
    private SignalOutcome OnFaultInProgram(TracedTask task, JumpSite site, ref RegisterSet registers, ref SignalInfo info)
    {
        JumpSite current = site.Current;
        if (current.State is JumpState.Leading or JumpState.Armed)
        {
            current.Demotion ??= "a thread's stack had no room for its program";
            Release(current);
            _waiting.Add((task, site));
            _proc.PostRetirement();
            return SignalOutcome.Stand;
        }

        if (ShapeOf(site, out ulong start)?.TryUndo((int)(registers.ProgramCounter - start), ref registers, address => ReadStack(task, address)) == true)
        {
            info = default;
        }

        registers.ProgramCounter = site.Window.Site == site.Start ? current.Front : site.Window.Site;
        return SignalOutcome.Deliver;
    }

    private ulong? ReadStack(TracedTask task, ulong address)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        return _platform.ReadMemory(task.ThreadId, address, word) == word.Length ? BinaryPrimitives.ReadUInt64LittleEndian(word) : null;
    }
}

using System.Buffers.Binary;
using FastTrap.Control;
using FastTrap.Native;
using Iced.Intel;

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

    /// <summary>
    /// A program has read memory that cannot be read: behind the load stands, as an instruction without effect, where it goes on then. Its site becomes a Breakpoint: if the tracer were killed just now, the fault would be the target's.
    /// </summary>
    public bool TrySkipLoad(ref RegisterSet registers)
    {
        const int LongestInstruction = 15;
        if (!_index.TryFindOutOfLine(registers.ProgramCounter, out JumpSite? site) || site.Code?.TryFindOriginal(registers.ProgramCounter, out _) != false)
        {
            return false;
        }

        if (TrySkipThreadLoad(ref registers))
        {
            return true;
        }

        ReadOnlySpan<byte> nopAtLabel = [0x0f, 0x1f, 0x05];
        Span<byte> code = stackalloc byte[LongestInstruction + nopAtLabel.Length + sizeof(int)];
        int read = Math.Max(0, _platform.ReadCode(_memory, registers.ProgramCounter, code));
        int length = Decoder.Create(64, new ByteArrayCodeReader(code[..read].ToArray())).Decode().Length;
        int end = length + nopAtLabel.Length + sizeof(int);
        if (length == 0 || end > read || !code[length..].StartsWith(nopAtLabel))
        {
            return false;
        }

        registers.ProgramCounter += (ulong)(end + BinaryPrimitives.ReadInt32LittleEndian(code[(end - sizeof(int))..]));
        JumpSite current = site.Current;
        if (current.State is JumpState.Leading or JumpState.Armed)
        {
            current.Demotion ??= "its program has read memory that cannot be read";
            Release(current);
            _proc.PostRetirement();
        }

        return true;
    }

    private ulong? ReadStack(TracedTask task, ulong address)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        return _platform.ReadMemory(task.ThreadId, address, word) == word.Length ? BinaryPrimitives.ReadUInt64LittleEndian(word) : null;
    }
}

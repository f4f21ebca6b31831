using System.Diagnostics.CodeAnalysis;
using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Engine;

/// <summary>
/// Memory in the target for displaced instructions: areas near the modules, each of equal slots.
/// </summary>
/// <remarks>
/// Control thread only. An area is mapped when a hit needs the first slot in its reach, by the thread that was hit: no thread is ever stopped
/// for it. A slot's content depends on its instruction alone and never changes, so threads share it, and a thread may still be in it after the
/// tracepoint has gone; it stays with its address until the detach and serves again when the same instruction is probed again.
/// Source: fasttrap.c, fasttrap_scraddr, whose slots belong to one thread each.
/// </remarks>
internal sealed class SlotSpace(ProcessHandle process, InstructionSet isa)
{
    /// <summary>Bytes of an area: 1,023 slots and the two pieces of touch code.</summary>
    private const int AreaLength = 64 * 1024;

    private readonly List<Area> _areas = [];
    private readonly Dictionary<ulong, Tracepoint> _byInstruction = [];
    private readonly List<(ulong Start, ulong Length)> _mapped = [];

    public IReadOnlyList<(ulong Start, ulong Length)> Mapped => _mapped;

    public bool Contains(ulong address)
    {
        foreach (Area area in _areas)
        {
            if (address - area.Start < AreaLength)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The tracepoint whose slot holds an address.</summary>
    public bool TryFind(ulong address, [NotNullWhen(true)] out Tracepoint? tracepoint)
    {
        foreach (Area area in _areas)
        {
            ulong offset = address - area.Start;
            if (offset < AreaLength)
            {
                int index = (int)(offset / (uint)isa.SlotLength) - 1;
                tracepoint = index >= 0 && index < area.Owners.Count ? area.Owners[index] : null;
                return tracepoint is not null;
            }
        }

        tracepoint = null;
        return false;
    }

    /// <summary>Whether a trap of touch code stands at an address.</summary>
    public bool IsTouchTrap(ulong address)
    {
        foreach (Area area in _areas)
        {
            ulong offset = address - area.Start;
            if (offset == area.ReadTouchTrap || offset == area.WriteTouch + area.WriteTouchTrap)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Gives a tracepoint its slot, written and ready. The task is stopped at a trap.</summary>
    public bool TryPlace(Tracepoint tracepoint, TracedTask task, TargetMemory memory, [NotNullWhen(false)] out string? reason)
    {
        if (tracepoint.SlotAddress != 0)
        {
            reason = null;
            return true;
        }

        if (_byInstruction.TryGetValue(tracepoint.Address, out Tracepoint? former)
            && former.Instruction.Bytes.SequenceEqual(tracepoint.Instruction.Bytes))
        {
            tracepoint.PlacedSlot = former.PlacedSlot;
            Replace(former, tracepoint);
            reason = null;
            return true;
        }

        if (!TryFindArea(tracepoint.Address, isa.SlotReach, task, memory, out Area? area, out reason)
            && (isa.FarSlotReach == isa.SlotReach || !TryFindArea(tracepoint.Address, isa.FarSlotReach, task, memory, out area, out reason)))
        {
            return false;
        }

        ulong address = area.Start + ((ulong)(area.Owners.Count + 1) * (uint)isa.SlotLength);
        Span<byte> code = stackalloc byte[isa.SlotLength];
        if (!isa.TryBuildSlot(tracepoint.Instruction, address, code, out SlotLayout layout, out ProbeRefusal refusal))
        {
            reason = refusal.Describe();
            return false;
        }

        int written = process.Platform.WriteCode(memory, address, code);
        if (written != code.Length)
        {
            reason = $"the slot could not be written ({(Errno)(-written)})";
            return false;
        }

        area.Owners.Add(tracepoint);
        _byInstruction[tracepoint.Address] = tracepoint;
        tracepoint.PlacedSlot = new PlacedSlot(address, layout);
        reason = null;
        return true;
    }

    /// <summary>Finds, or maps, touch code.</summary>
    public bool TryGetTouch(ulong near, bool write, TracedTask task, TargetMemory memory, out ulong start)
    {
        start = 0;
        if (!TryFindArea(near, isa.FarSlotReach, task, memory, out Area? area, out _))
        {
            return false;
        }

        start = area.Start + (write ? area.WriteTouch : 0);
        return true;
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        _areas.Clear();
        _byInstruction.Clear();
        _mapped.Clear();
    }

    private void Replace(Tracepoint former, Tracepoint tracepoint)
    {
        _byInstruction[tracepoint.Address] = tracepoint;
        foreach (Area area in _areas)
        {
            ulong offset = tracepoint.SlotAddress - area.Start;
            if (offset < AreaLength)
            {
                int index = (int)(offset / (uint)isa.SlotLength) - 1;
                if (ReferenceEquals(area.Owners[index], former))
                {
                    area.Owners[index] = tracepoint;
                }
            }
        }
    }

    private bool TryFindArea(
        ulong near, ulong reach, TracedTask task, TargetMemory memory, [NotNullWhen(true)] out Area? area, [NotNullWhen(false)] out string? reason)
    {
        int capacity = (AreaLength / isa.SlotLength) - 1;
        foreach (Area candidate in _areas)
        {
            ulong distance = candidate.Start > near ? candidate.Start - near : near - candidate.Start;
            if (candidate.Owners.Count < capacity && distance < reach)
            {
                area = candidate;
                reason = null;
                return true;
            }
        }

        area = null;
        if (!RemoteMap.TryMapNear(process, task, near, reach, AreaLength, out ulong start, out reason))
        {
            return false;
        }

        _mapped.Add((start, AreaLength));
        Span<byte> code = stackalloc byte[isa.SlotLength];
        TouchCode read = isa.BuildTouch(code, write: false);
        TouchCode write = isa.BuildTouch(code[read.Length..], write: true);
        int length = read.Length + write.Length;
        int written = process.Platform.WriteCode(memory, start, code[..length]);
        if (written != length)
        {
            reason = $"the mapped memory could not be written ({(Errno)(-written)})";
            return false;
        }

        area = new Area(start, read.TrapOffset, read.Length, write.TrapOffset);
        _areas.Add(area);
        reason = null;
        return true;
    }

    private sealed class Area(ulong start, int readTouchTrap, int writeTouch, int writeTouchTrap)
    {
        public ulong Start { get; } = start;

        public uint ReadTouchTrap { get; } = (uint)readTouchTrap;

        public uint WriteTouch { get; } = (uint)writeTouch;

        public uint WriteTouchTrap { get; } = (uint)writeTouchTrap;

        public List<Tracepoint> Owners { get; } = [];
    }
}

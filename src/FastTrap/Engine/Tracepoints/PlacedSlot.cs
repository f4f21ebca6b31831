using FastTrap.Isa;

namespace FastTrap.Engine;

/// <summary>A slot that has its place in the target. Immutable.</summary>
internal sealed class PlacedSlot(ulong address, SlotLayout layout)
{
    private readonly SlotLayout _layout = layout;

    /// <summary>No slot: none was needed yet.</summary>
    public static PlacedSlot None { get; } = new(0, new SlotLayout());

    /// <summary>None could be had.</summary>
    public static PlacedSlot Refused { get; } = new(0, new SlotLayout());

    public ulong Address { get; } = address;

    public ref readonly SlotLayout Layout => ref _layout;
}

using System.Buffers.Binary;

namespace FastTrap.Isa.X64;

/// <summary>How a window is left for its trampoline.</summary>
internal enum WindowKind : byte
{
    /// <summary>By a jump of 5 bytes.</summary>
    Near,

    /// <summary>By a jump of 2 bytes to an island, from which a jump of 5 bytes goes on.</summary>
    Short,

    /// <summary>By a trap in its first byte: one instruction of any length.</summary>
    Trap,
}

/// <summary>
/// Whole instructions which a jump may replace. Control enters them only at their start; behind the last of them there may be bytes which nothing reaches.
/// </summary>
/// <param name="Start">The first byte.</param>
/// <param name="Length">Bytes that may be replaced: 5 or more, of a short window 2 or more, of a trap 1 or more.</param>
/// <param name="CodeLength">Bytes of instructions; what follows up to <paramref name="Length"/> is padding.</param>
/// <param name="Site">The first instruction before which probes fire: the one asked for, or what follows it if it is ENDBR64, which stays.</param>
/// <param name="Kind">How it is left.</param>
/// <param name="Island">The address of the island's 5 bytes, of a short window; else 0.</param>
internal readonly record struct PatchWindow(ulong Start, byte Length, byte CodeLength, ulong Site, WindowKind Kind, ulong Island)
{
    public const int NearLength = 5;
    public const int ShortLength = 2;
    public const int TrapLength = 1;

    /// <summary>The first byte of a jump of 5 bytes.</summary>
    public const byte NearJump = 0xe9;

    /// <summary>The address behind its instructions.</summary>
    public ulong CodeEnd => Start + CodeLength;

    /// <summary>Bytes which the patch replaces.</summary>
    public int PatchLength => Kind switch
    {
        WindowKind.Near => NearLength,
        WindowKind.Short => ShortLength,
        _ => TrapLength,
    };

    /// <summary>The same window where the module is loaded, <paramref name="bias"/> further.</summary>
    public PatchWindow Rebase(ulong bias) =>
        this with { Start = unchecked(Start + bias), Site = unchecked(Site + bias), Island = Island == 0 ? 0 : unchecked(Island + bias) };

    /// <summary>
    /// Makes the bytes that go to <see cref="Start"/> (<see cref="PatchLength"/> of them) and, of a short window, the 5 that go to <see cref="Island"/>,
    /// which must be written first. False if the trampoline is out of reach.
    /// </summary>
    public bool TryEncode(ulong trampoline, Span<byte> site, Span<byte> island)
    {
        if (Kind == WindowKind.Trap)
        {
            site[0] = 0xcc;
            return true;
        }

        Span<byte> near = Kind == WindowKind.Near ? site : island;
        ulong from = Kind == WindowKind.Near ? Start : Island;
        long distance = unchecked((long)(trampoline - from - NearLength));
        if (distance != (int)distance)
        {
            return false;
        }

        near[0] = NearJump;
        BinaryPrimitives.WriteInt32LittleEndian(near[1..], (int)distance);
        if (Kind == WindowKind.Short)
        {
            site[0] = 0xeb;
            site[1] = (byte)(sbyte)(Island - Start - ShortLength);
        }

        return true;
    }
}

using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastTrap.Isa;

/// <summary>
/// One decoded instruction which a trap displaces: its bytes and what an emulator needs. Made once by <see cref="InstructionSet.TryDecode"/>
/// and then only read, by any thread.
/// </summary>
/// <remarks>
/// At most 56 bytes, for there are many. Registers are numbered by their word in <see cref="RegisterSet"/>. The operand fields belong to the instruction set
/// which made them.
/// </remarks>
[StructLayout(LayoutKind.Sequential)]
internal struct DisplacedInstruction
{
    /// <summary>The longest instruction of any architecture.</summary>
    internal const int ByteCapacity = 15;

    /// <summary>No register.</summary>
    internal const byte NoRegister = 0xff;

    [InlineArray(ByteCapacity)]
    private struct ByteBuffer
    {
        private byte _first;
    }

    /// <summary>Where the instruction stands in the target.</summary>
    public ulong Address { get; internal set; }

    /// <summary>The immediate operand, sign-extended, or the target of a direct branch.</summary>
    public ulong Immediate { get; internal set; }

    /// <summary>The displacement of the memory operand; its full address if it is relative to the program counter.</summary>
    public ulong Displacement { get; internal set; }

    public DisplacedTraits Traits { get; internal set; }

    public DisplacedKind Kind { get; internal set; }

    /// <summary>Bytes.</summary>
    public byte Length { get; internal set; }

    /// <summary>The instruction set's own number of what to do.</summary>
    internal byte Operation { get; set; }

    /// <summary>The instruction set's own number of which operands there are.</summary>
    internal byte Form { get; set; }

    /// <summary>The condition code, if any.</summary>
    internal byte Condition { get; set; }

    /// <summary>Bytes of the destination operand.</summary>
    internal byte Size { get; set; }

    /// <summary>Bytes of the source operand.</summary>
    internal byte SourceSize { get; set; }

    internal byte Destination { get; set; }

    internal byte Source { get; set; }

    internal byte Base { get; set; }

    internal byte Index { get; set; }

    /// <summary>The index register's factor: 1, 2, 4 or 8.</summary>
    internal byte Scale { get; set; }

    /// <summary>The register with the segment's base address.</summary>
    internal byte Segment { get; set; }

    /// <summary>Bytes of an address (and of an implicit counter): 4 or 8.</summary>
    internal byte AddressSize { get; set; }

    /// <summary>Where the displacement stands in the bytes; 0 if there is none.</summary>
    internal byte DisplacementOffset { get; set; }

    private ByteBuffer _bytes;

    /// <summary>The address of the instruction that follows.</summary>
    public readonly ulong NextAddress => Address + Length;

    /// <summary>The instruction as it stands, or stood, in the target. Valid as long as the struct is.</summary>
    [UnscopedRef]
    public readonly ReadOnlySpan<byte> Bytes => ((ReadOnlySpan<byte>)_bytes)[..Length];

    /// <summary>Whether all of <paramref name="traits"/> hold.</summary>
    public readonly bool Has(DisplacedTraits traits) => (Traits & traits) == traits;

    /// <summary>Makes an instruction without operands.</summary>
    internal static DisplacedInstruction Create(ReadOnlySpan<byte> bytes, ulong address)
    {
        DisplacedInstruction made = default;
        bytes = bytes.Length > ByteCapacity ? bytes[..ByteCapacity] : bytes;
        bytes.CopyTo(made._bytes);
        made.Length = (byte)bytes.Length;
        made.Address = address;
        made.Destination = made.Source = made.Base = made.Index = made.Segment = NoRegister;
        return made;
    }
}

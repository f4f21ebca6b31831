using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace FastTrap.Programs.Compilation;

/// <summary>A site's own numbers in code which it shares with others.</summary>
internal enum SiteValue : byte
{
    /// <summary>32 bits.</summary>
    Id,

    Address,

    /// <summary>The offset in its function.</summary>
    FunctionOffset,

    /// <summary>The function's address.</summary>
    Function,
}

/// <summary>The site for which code is written.</summary>
/// <param name="Id">By which records tell it.</param>
/// <param name="Address">Of the probed instruction.</param>
/// <param name="FunctionAddress">Of its function.</param>
internal readonly record struct BodySite(uint Id, ulong Address, ulong FunctionAddress)
{
    public ulong this[SiteValue value] => value switch
    {
        SiteValue.Id => Id,
        SiteValue.Address => Address,
        SiteValue.Function => FunctionAddress,
        _ => Address - FunctionAddress,
    };
}

/// <summary>
/// The code of a program, for all sites with the same sources of arguments: position-independent, entered at its first byte and left behind its last, with all registers, flags and the red zone as
/// they were. Immutable.
/// </summary>
internal sealed class CompiledBody
{
    private readonly byte[] _code;
    private readonly SitePatch[] _patches;
    private readonly Architecture _architecture;

    public CompiledBody(Architecture architecture, byte[] code, SitePatch[] patches, int recordLength)
    {
        _architecture = architecture;
        _code = code;
        _patches = patches;
        RecordLength = recordLength;
    }

    /// <summary>Bytes.</summary>
    public int Length => _code.Length;

    /// <summary>Bytes of its records; 0 if it makes none.</summary>
    public int RecordLength { get; }

    /// <summary>Writes the code of one site, <see cref="Length"/> bytes, to run at any address.</summary>
    public void Write(Span<byte> destination, in BodySite site)
    {
        _code.CopyTo(destination);
        foreach (SitePatch patch in _patches)
        {
            Span<byte> at = destination[patch.Offset..];
            ulong value = site[patch.Value];
            if (_architecture == Architecture.Arm64)
            {
                WriteMoves(at, value, patch.Length / sizeof(ushort));
            }
            else if (patch.Length == sizeof(uint))
            {
                BinaryPrimitives.WriteUInt32LittleEndian(at, (uint)value);
            }
            else
            {
                BinaryPrimitives.WriteUInt64LittleEndian(at, value);
            }
        }
    }

    /// <summary>The 16 bits of each instruction of a row of MOVZ and MOVK.</summary>
    private static void WriteMoves(Span<byte> at, ulong value, int count)
    {
        for (int i = 0; i < count; i++, at = at[sizeof(uint)..])
        {
            uint word = BinaryPrimitives.ReadUInt32LittleEndian(at) & ~(0xffffu << 5);
            BinaryPrimitives.WriteUInt32LittleEndian(at, word | ((uint)(ushort)(value >> (16 * i)) << 5));
        }
    }
}

/// <summary>Where a site's number stands in shared code.</summary>
/// <param name="Value">Which.</param>
/// <param name="Offset">Of the number; on arm64 of the first of the instructions which hold 16 bits each.</param>
/// <param name="Length">Bytes of the number, 4 or 8.</param>
internal readonly record struct SitePatch(SiteValue Value, int Offset, int Length);

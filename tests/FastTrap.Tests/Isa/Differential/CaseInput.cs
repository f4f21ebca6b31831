using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>What <c>tests/targets/instructions.c</c> shall do differently for a case.</summary>
[Flags]
internal enum CaseOptions : ulong
{
    None = 0,

    /// <summary>The address of the last x87 instruction is that of the slot: see docs/limits.md.</summary>
    IgnoreFpuPointers = 1,

    /// <summary>The last x87 opcode has the ModRM byte in it, and that of a borrowed register is another.</summary>
    IgnoreFpuOpcode = 2,

    /// <summary>The operand is an image of the vector state.</summary>
    FpuImageAtAddress = 4,

    /// <summary>A transaction may be aborted by anything: both ways are right.</summary>
    SameWhere = 8,

    /// <summary>The tile registers and their configuration have values.</summary>
    Tiles = 16,

    TileConfigurationAtAddress = 32,

    /// <summary>What lies below the red zone is nobody's: code in the target uses it.</summary>
    IgnoreBelowRedZone = 64,

    /// <summary>A call whose operand faults has written its return address: see docs/limits.md.</summary>
    IgnoreWordAtFault = 128,

    /// <summary>The address of the last x87 operand is lost when the kernel switches threads.</summary>
    IgnoreFpuData = 256,

    /// <summary>So are all places in an environment that is stored at the image's address, of 28 bytes, or of 14.</summary>
    IgnoreFpuEnvironment = 512,
    IgnoreShortFpuEnvironment = 1024,
}

[InlineArray(16)]
internal struct SixteenWords
{
    private ulong _first;
}

[InlineArray(4)]
internal struct FourWords
{
    private ulong _first;
}

/// <summary><c>struct input</c> of the target. Registers are in the order in which instructions encode them.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CaseInput
{
    public SixteenWords Registers;
    public ulong Flags;
    public ulong FsBase;
    public ulong GsBase;
    public ulong Entry;
    public ulong Seed;
    public CaseOptions Options;
    public ulong IgnoredRegisters;
    public ulong Vector;
    public ulong VectorElementSize;
    public ulong VectorMask;
    public FourWords PatchAddresses;
    public FourWords PatchValues;
    public ulong ImageAddress;
    public ulong Unused0;
    public ulong Unused1;

    /// <summary>Puts 8 bytes into the target's memory before the case runs. Four such fit.</summary>
    public void Patch(ulong address, ulong value)
    {
        for (int i = 0; i < 4; i++)
        {
            if (PatchAddresses[i] == 0)
            {
                PatchAddresses[i] = address;
                PatchValues[i] = value;
                return;
            }
        }

        throw new InvalidOperationException("A case has no more than four patches.");
    }
}

/// <summary><c>struct result</c> of the target.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CaseResult
{
    public const int VectorsOffset = 256;
    public const int VectorsLength = 2752;
    public const int DataOffset = VectorsOffset + VectorsLength;

    public SixteenWords Registers;
    public ulong Flags;
    public ulong Where;
    public ulong Rip;
    public ulong FsBase;
    public ulong GsBase;
    public ulong Selectors;
    public ulong Pkru;
    public ulong Signal;
    public ulong Code;
    public ulong Address;
    public ulong Trap;
    public ulong Error;
    public ulong Tiles;
}

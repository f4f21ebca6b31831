using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>Between the decoder's registers and the words of a <see cref="RegisterSet"/>.</summary>
internal static class X64Registers
{
    /// <summary>Added to a register's word: bits 8 to 15 of it are meant (ah, ch, dh, bh).</summary>
    internal const byte HighByte = 0x40;

    private static ReadOnlySpan<byte> Words =>
    [
        (byte)X64Register.Rax, (byte)X64Register.Rcx, (byte)X64Register.Rdx, (byte)X64Register.Rbx,
        (byte)X64Register.Rsp, (byte)X64Register.Rbp, (byte)X64Register.Rsi, (byte)X64Register.Rdi,
        (byte)X64Register.R8, (byte)X64Register.R9, (byte)X64Register.R10, (byte)X64Register.R11,
        (byte)X64Register.R12, (byte)X64Register.R13, (byte)X64Register.R14, (byte)X64Register.R15,
    ];

    /// <summary>The word of a general register of any width, or <see cref="DisplacedInstruction.NoRegister"/>.</summary>
    public static byte WordOf(Register register)
    {
        if (register is Register.AH or Register.CH or Register.DH or Register.BH)
        {
            return (byte)(Words[register - Register.AH] | HighByte);
        }

        return register.IsGPR() ? Words[register.GetFullRegister() - Register.RAX] : DisplacedInstruction.NoRegister;
    }

    /// <summary>The word with the base address which a memory operand's segment register adds, or none.</summary>
    public static byte SegmentWordOf(Register segment) => segment switch
    {
        Register.FS => (byte)X64Register.FsBase,
        Register.GS => (byte)X64Register.GsBase,
        _ => DisplacedInstruction.NoRegister,
    };
}

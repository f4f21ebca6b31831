using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>Makes random states in which an instruction mostly reaches its operands, and sometimes faults.</summary>
internal sealed partial class CaseStates(Random random, ulong code)
{
    private const int Rax = 0, Rcx = 1, Rdx = 2, Rbx = 3, Rsp = 4, Rbp = 5, Rsi = 6, Rdi = 7;
    private readonly InstructionInfoFactory _info = new();

    /// <summary>Instructions that are not run: what they do is the hypervisor's or another mode's affair, or waits.</summary>
    public static bool IsRunnable(in Instruction instruction) => instruction.Mnemonic is not
        (Mnemonic.Vmcall or Mnemonic.Vmmcall or Mnemonic.Sysenter or Mnemonic.Tdcall or Mnemonic.Seamcall or Mnemonic.Seamops or Mnemonic.Seamret
        or Mnemonic.Getsec or Mnemonic.Altinst or Mnemonic.Vmgexit);

    /// <summary>
    /// False if no state was found in which an atomic access stays within a cache line (over two, it would slow the whole machine), or another access
    /// within the arena.
    /// </summary>
    public bool TryMake(in Instruction instruction, ulong entry, ulong target, out CaseInput input)
    {
        for (int i = 0; i < 8; i++)
        {
            input = Make(instruction, entry, target);
            if ((!IsAtomic(instruction) || !IsSplit(instruction, input)) && !IsAstray(instruction, input))
            {
                return true;
            }
        }

        input = default;
        return false;
    }

    /// <summary>
    /// Whether code of ours finds room below the red zone, as all code that follows the ABI leaves it, which the instruction itself does not use. What it leaves there is not compared.
    /// </summary>
    public static bool HasRoomForCode(in Instruction instruction, ref CaseInput input)
    {
        const ulong Room = 1024;
        const ulong RedZone = 128;
        ulong top = input.Registers[Rsp];
        if (!IsWithin(top - Room, Room, Arena.Stack, Arena.StackLength))
        {
            return false;
        }

        CaseInput copy = input;
        foreach (UsedMemory used in new InstructionInfoFactory().GetInfo(instruction).GetUsedMemory())
        {
            ulong length = used.MemorySize.GetSize() is > 0 and int size && !IsMasked(instruction) ? (ulong)size : CaseResult.VectorsLength;
            // Elements of a vector register, and rows of a tile, lie anywhere around the stack pointer.
            if (used.VsibSize != 0 || IsOfTiles(instruction) ? used.Base is Register.RSP or Register.ESP : (!used.TryGetVirtualAddress(0, out ulong address, (Register r, int _, int _, out ulong value) =>
                {
                    value = Value(r, copy);
                    return true;
                }) || (address + length > top - Room && address < top - RedZone)))
            {
                return false;
            }
        }

        input.Options |= CaseOptions.IgnoreBelowRedZone | (instruction.IsCallNearIndirect ? CaseOptions.IgnoreWordAtFault : CaseOptions.None);
        return true;
    }

    private static bool IsAtomic(in Instruction instruction) =>
        instruction.HasLockPrefix || instruction.Mnemonic is Mnemonic.Xchg or Mnemonic.Cmpxchg16b or Mnemonic.Cmpxchg8b;

    /// <summary>
    /// A bit may be 2^60 bytes from its operand's address, and the mask of an XSAVE may be the register that its address is made of: anywhere in the target's own data.
    /// </summary>
    private static bool IsAstray(in Instruction instruction, CaseInput input)
    {
        if (IsOfTiles(instruction))
        {
            // Rows as far from each other as the first is from 0 lie in the code, where there are traps.
            return instruction.MemoryBase == instruction.MemoryIndex;
        }

        if (!IsBitInMemory(instruction) && !IsMasked(instruction))
        {
            return false;
        }

        const ulong Lowest = 0x10000;
        ulong address = Address(instruction, 0, input);
        return address >= Lowest && address - (Arena.Data - 0x10000) > 0x20000 && (IsBitInMemory(instruction) || !IsWritable(address, CaseResult.VectorsLength));
    }

    private static bool IsOfTiles(in Instruction instruction) => instruction.Mnemonic is Mnemonic.Tileloadd or Mnemonic.Tileloaddt1 or Mnemonic.Tilestored;

    private static bool IsMasked(in Instruction instruction) => instruction.Mnemonic is
        Mnemonic.Xsave or Mnemonic.Xsave64 or Mnemonic.Xsaveopt or Mnemonic.Xsaveopt64 or Mnemonic.Xsavec or Mnemonic.Xsavec64 or Mnemonic.Xrstor or Mnemonic.Xrstor64;

    private static bool IsBitInMemory(in Instruction instruction) =>
        instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc
        && instruction.Op0Kind == OpKind.Memory && instruction.Op1Kind == OpKind.Register;

    /// <summary>Where an operand in memory is. A bit's is that of the word which the bit is in, whole words away from what the encoding says.</summary>
    private static ulong Address(in Instruction instruction, int operand, CaseInput input)
    {
        ulong address = instruction.GetVirtualAddress(operand, 0, (register, _, _) => Value(register, input));
        if (!IsBitInMemory(instruction))
        {
            return address;
        }

        long offset = (long)input.Registers[Number(instruction.Op1Register)];
        int size = instruction.Op1Register.GetSize();
        offset = size switch { 2 => (short)offset, 4 => (int)offset, _ => offset };
        return address + (ulong)((offset >> 3) & -size);
    }

    private static bool IsSplit(in Instruction instruction, CaseInput input)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Memory)
            {
                return (Address(instruction, i, input) & 63) + (ulong)Math.Max(8, instruction.MemorySize.GetSize()) > 64;
            }
        }

        return false;
    }

    private CaseInput Make(in Instruction instruction, ulong entry, ulong target)
    {
        CaseInput input = default;
        input.Entry = entry;
        input.Seed = (ulong)random.NextInt64();
        for (int i = 0; i < 16; i++)
        {
            input.Registers[i] = RandomValue();
        }

        input.Registers[Rsp] = Arena.Stack + 4096 + ((ulong)random.Next(-64, 64) * 8);
        if (random.Next(2) == 0)
        {
            input.Registers[Rbp] = Arena.Stack + 2048 + ((ulong)random.Next(256) * 8);
        }

        // The status flags and the direction.
        input.Flags = 0x202 | ((ulong)random.Next() & 0xcd5);
        if (random.Next(4) == 0)
        {
            input.Flags |= 0x200000;
        }

        input.FsBase = Base();
        input.GsBase = Base();
        bool faults = random.Next(12) == 0;
        SetOperands(instruction, ref input, faults);
        SetSpecial(instruction, ref input, target, faults);
        return input;
    }

    private ulong Base() => random.Next(3) == 0 ? 0 : random.Next(2) == 0 ? (ulong)random.Next(0x10000) : (ulong)random.NextInt64(0x7fff_0000_0000);

    private ulong RandomValue() => random.Next(5) switch
    {
        0 => (ulong)random.NextInt64() << 1 ^ (ulong)random.Next(2),
        1 => (ulong)random.Next(-3, 4),
        2 => 1UL << random.Next(64),
        3 => (ulong)random.Next(256),
        _ => (1UL << random.Next(64)) - 1 ^ ((ulong)random.Next() << 32),
    };

    private ulong DataAddress(bool faults, int alignment) => faults
        ? random.Next(6) switch
        {
            0 => Arena.Data - 1 - (ulong)random.Next(64),
            1 => Arena.Data + Arena.DataLength + (ulong)random.Next(4000),
            2 => Arena.Data + Arena.DataLength + 0x1000,
            3 => Arena.Data + Arena.DataLength - 1 - (ulong)random.Next(64),
            4 => 0x8000_0000_0000_0000 >> random.Next(17),
            _ => 0xffff_8000_0000_0000 + (ulong)random.Next(),
        }
        : random.Next(4) == 0 && alignment <= 1
            ? Arena.Data + 1024 + (ulong)random.Next((int)Arena.DataLength - 2048)
            : Arena.Data + 1024 + ((ulong)random.Next(((int)Arena.DataLength - 2048 - 3072) / 64) * 64);

    private void SetOperands(in Instruction instruction, ref CaseInput input, bool faults)
    {
        bool atomic = IsAtomic(instruction);
        foreach (UsedMemory used in _info.GetInfo(instruction).GetUsedMemory())
        {
            if (used.Base is Register.RSP or Register.ESP && used.Index == Register.None)
            {
                continue;
            }

            ulong address = DataAddress(faults && !atomic, atomic ? 64 : 1);
            if (!used.Base.IsGPR() && !used.Index.IsGPR() && used.VsibSize == 0)
            {
                // The encoding has the address, without a segment's base.
                input.FsBase = input.GsBase = 0;
            }

            ulong segment = used.Segment switch { Register.FS => input.FsBase, Register.GS => input.GsBase, _ => 0 };
            if (used.VsibSize != 0)
            {
                SetVectorIndex(used, ref input);
            }

            SetAddress(used, address - segment, ref input);
        }

        // Addresses which are computed and not used, or only as a hint.
        if (instruction.IsStringInstruction && (instruction.HasRepPrefix || instruction.HasRepnePrefix))
        {
            input.Registers[Rcx] = (ulong)(uint)random.Next(24) | (HasAddressPrefix(instruction) ? (ulong)(uint)random.Next() << 32 : 0);
        }
    }

    private static bool HasAddressPrefix(in Instruction instruction) =>
        instruction.Op0Kind is OpKind.MemoryESEDI or OpKind.MemorySegESI || (instruction.OpCount > 1 && instruction.Op1Kind is OpKind.MemoryESEDI or OpKind.MemorySegESI);

    private void SetVectorIndex(in UsedMemory used, ref CaseInput input)
    {
        int number = used.Index >= Register.ZMM0 ? used.Index - Register.ZMM0 : used.Index >= Register.YMM0 ? used.Index - Register.YMM0 : used.Index - Register.XMM0;
        input.Vector = (ulong)number;
        input.VectorElementSize = (ulong)used.VsibSize;
        input.VectorMask = random.Next(16) == 0 ? 0x7ff : (ulong)0x7f;
    }

    private void SetAddress(in UsedMemory used, ulong address, ref CaseInput input)
    {
        bool narrow = used.AddressSize == CodeSize.Code32;
        ulong high = narrow && random.Next(2) == 0 ? (ulong)(uint)random.Next() << 32 : 0;
        bool hasBase = used.Base.IsGPR();
        bool hasIndex = used.Index.IsGPR();
        ulong rest = address - used.Displacement;
        ulong scale = (ulong)used.Scale;
        int index = hasIndex ? Number(used.Index) : -1;
        int register = hasBase ? Number(used.Base) : -1;
        if (hasBase && register != Rsp && register != index)
        {
            if (hasIndex && used.Index is Register.AL)
            {
                rest -= (byte)input.Registers[Rax];
            }
            else if (hasIndex)
            {
                rest -= input.Registers[index] * scale;
            }

            input.Registers[register] = narrow ? (uint)rest | high : rest;
        }
        else if (hasIndex)
        {
            ulong stack = register == Rsp ? input.Registers[Rsp] : 0;
            ulong factor = hasBase && register != Rsp ? scale + 1 : scale;
            input.Registers[index] = narrow ? (uint)(rest - stack) / factor | high : (ulong)((long)(rest - stack) / (long)factor);
        }
    }

    private static bool IsWritable(ulong address, ulong length) =>
        IsWithin(address, length, Arena.Data, Arena.DataLength) || IsWithin(address, length, Arena.Stack, Arena.StackLength);

    /// <summary>No sum here may wrap around.</summary>
    private static bool IsWithin(ulong address, ulong length, ulong start, ulong whole) => address >= start && address - start <= whole - length;

    private static ulong Value(Register register, in CaseInput input) => register switch
    {
        Register.FS => input.FsBase,
        Register.GS => input.GsBase,
        _ when !register.IsGPR() => 0,
        _ when register.IsGPR32() => (uint)input.Registers[Number(register)],
        _ => input.Registers[Number(register)],
    };

    private static int Number(Register register) => register.IsGPR() ? register.GetFullRegister() - Register.RAX : -1;

    /// <summary>
    /// Makes direct branches and operands without a register lead where they may; false if a form is of no use here. Returns where a branch leads.
    /// </summary>
    public bool TryPrepareBytes(Span<byte> bytes, ulong entry, out ulong target)
    {
        target = code;
        Decoder decoder = Decoder.Create(64, bytes.ToArray(), entry);
        decoder.Decode(out Instruction instruction);
        ConstantOffsets offsets = decoder.GetConstantOffsets(instruction);
        ulong next = instruction.NextIP;
        if (instruction.OpCount > 0 && instruction.Op0Kind is OpKind.NearBranch64 or OpKind.NearBranch32 or OpKind.NearBranch16)
        {
            if (offsets.ImmediateSize == 1)
            {
                // Within the block, clear of the instruction and of what stands behind it.
                int distance = random.Next(2) == 0 ? random.Next(0x10, 0x60) : -random.Next(0x30, 0x70);
                bytes[offsets.ImmediateOffset] = (byte)distance;
                target = next + (ulong)distance;
                return true;
            }

            WriteInt32(bytes[offsets.ImmediateOffset..], (int)(target - next), offsets.ImmediateSize);
            return instruction.Op0Kind == OpKind.NearBranch64;
        }

        if (instruction.Mnemonic == Mnemonic.Enter && random.Next(4) != 0)
        {
            // A frame, and copies of frame pointers, that the stack has room for.
            bytes[offsets.ImmediateOffset + 1] &= 3;
            bytes[offsets.ImmediateOffset2] &= 7;
        }
        else if (instruction.Code == Code.Int_imm8 && random.Next(2) == 0)
        {
            bytes[offsets.ImmediateOffset] = 0x80;
        }

        if (!offsets.HasDisplacement || offsets.DisplacementSize < 4)
        {
            return true;
        }

        if (instruction.IsIPRelativeMemoryOperand)
        {
            bool atomic = IsAtomic(instruction);
            ulong address = !atomic && random.Next(24) == 0 ? Arena.Data + Arena.DataLength + (ulong)random.Next(64) : DataAddress(false, atomic ? 64 : 1);
            WriteInt32(bytes[offsets.DisplacementOffset..], (int)(address - next), 4);
        }
        else if (instruction.MemoryBase == Register.None && instruction.MemoryIndex == Register.None)
        {
            WriteInt32(bytes[offsets.DisplacementOffset..], (int)DataAddress(false, 64), offsets.DisplacementSize);
        }
        else if (instruction.MemoryBase is Register.RSP or Register.ESP || random.Next(2) == 0)
        {
            WriteInt32(bytes[offsets.DisplacementOffset..], random.Next(-128, 128) * 8, 4);
        }

        return true;
    }

    private static void WriteInt32(Span<byte> at, int value, int length)
    {
        at[..length].Clear();
        for (int i = 0; i < Math.Min(length, 4); i++)
        {
            at[i] = (byte)(value >> (8 * i));
        }
    }
}

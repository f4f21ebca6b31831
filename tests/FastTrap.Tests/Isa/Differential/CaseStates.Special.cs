using FastTrap.Native;
using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>What single instructions need of their state, to do more than to fault.</summary>
internal sealed partial class CaseStates
{
    private void SetSpecial(in Instruction instruction, ref CaseInput input, ulong target, bool faults)
    {
        bool transfers = instruction.IsJmpNearIndirect || instruction.IsCallNearIndirect;
        ulong destination = !faults || random.Next(2) == 0 ? target : random.Next(4) switch
        {
            0 => 0x1_0000_0000UL << random.Next(31),
            1 => Arena.Data,
            2 => 0xffff_8000_0000_1000,
            _ => (ulong)random.NextInt64() << 1,
        };
        if (transfers && instruction.Op0Kind == OpKind.Register)
        {
            input.Registers[Number(instruction.Op0Register)] = destination;
        }
        else if (transfers)
        {
            CaseInput copy = input;
            ulong address = instruction.GetVirtualAddress(0, 0, (register, _, _) => Value(register, copy));
            if (IsWritable(address, 8))
            {
                input.Patch(address, destination);
            }
        }

        switch (instruction.Mnemonic)
        {
            case Mnemonic.Ret:
                input.Patch(input.Registers[Rsp], destination);
                SetBadStack(ref input, faults);
                break;
            case Mnemonic.Push or Mnemonic.Pop or Mnemonic.Call or Mnemonic.Pushfq or Mnemonic.Pushf:
                if (instruction.Mnemonic == Mnemonic.Pop && instruction.Op0Register.IsSegmentRegister())
                {
                    input.Patch(input.Registers[Rsp], Selector());
                }

                SetBadStack(ref input, faults);
                break;
            case Mnemonic.Popf or Mnemonic.Popfq:
                // Without TF and NT, which end elsewhere.
                input.Patch(input.Registers[Rsp], (ulong)random.NextInt64() & 0x0024_0ed5);
                break;
            case Mnemonic.Leave or Mnemonic.Enter:
                input.Registers[Rbp] = faults ? DataAddress(true, 1) : Arena.Stack + 4096 + (ulong)random.Next(512);
                break;
            case Mnemonic.Syscall:
                // getpid, gettid, getuid, getppid, and one that no kernel has.
                input.Registers[Rax] = new ulong[] { 39, 186, 102, 110, 100000 }[random.Next(5)];
                break;
            case Mnemonic.Int:
                // getpid, getppid, getuid of 32-bit programs.
                input.Registers[Rax] = new ulong[] { 20, 64, 24 }[random.Next(3)];
                break;
            case Mnemonic.Loop or Mnemonic.Loope or Mnemonic.Loopne or Mnemonic.Jrcxz or Mnemonic.Jecxz:
                input.Registers[Rcx] = (uint)random.Next(3) | (random.Next(2) == 0 ? (ulong)(uint)random.Next() << 32 : 0);
                break;
            case Mnemonic.Div or Mnemonic.Idiv:
                input.Registers[Rdx] = (ulong)random.Next(4);
                break;
            case Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc when instruction.Op0Kind == OpKind.Memory && instruction.Op1Kind == OpKind.Register:
                SetBitOffset(instruction, ref input, faults);
                break;
            case Mnemonic.Mov when instruction.Op0Kind == OpKind.Register && instruction.Op0Register.IsSegmentRegister():
                if (instruction.Op1Kind == OpKind.Register)
                {
                    input.Registers[Number(instruction.Op1Register)] = Selector();
                }
                else
                {
                    PatchSelector(instruction, 1, 0, ref input);
                }

                break;
            case Mnemonic.Lss or Mnemonic.Lfs or Mnemonic.Lgs:
                PatchSelector(instruction, 1, instruction.Op0Register.GetSize(), ref input);
                break;
            case Mnemonic.Wrpkru:
                input.Registers[Rax] = (uint)random.Next() & 0xffff_fffcU;
                input.Registers[Rcx] = faults ? 1UL : 0;
                input.Registers[Rdx] = 0;
                break;
            case Mnemonic.Rdpkru or Mnemonic.Xgetbv:
                input.Registers[Rcx] = faults ? 7UL : 0;
                break;
            case Mnemonic.Cpuid:
                input.Registers[Rax] = new ulong[] { 0, 1, 2, 4, 7, 0xd, 0x14, 0x80000000, 0x80000004, 0x80000008 }[random.Next(10)];
                input.Registers[Rcx] = (ulong)random.Next(4);
                break;
            case Mnemonic.Rdtsc or Mnemonic.Rdpru:
                input.IgnoredRegisters |= 1 << Rax | 1 << Rdx;
                break;
            case Mnemonic.Rdtscp:
                input.IgnoredRegisters |= 1 << Rax | 1 << Rdx;
                break;
            case Mnemonic.Rdrand or Mnemonic.Rdseed:
                input.IgnoredRegisters |= 1UL << Number(instruction.Op0Register) | 1 << 16;
                break;
            case Mnemonic.Xbegin or Mnemonic.Xend or Mnemonic.Xabort or Mnemonic.Xtest:
                input.Options |= CaseOptions.SameWhere;
                input.IgnoredRegisters |= instruction.Mnemonic == Mnemonic.Xbegin ? 1UL << Rax : 0;
                break;
            case Mnemonic.Xsave or Mnemonic.Xsave64 or Mnemonic.Xsaveopt or Mnemonic.Xsaveopt64 or Mnemonic.Xsavec or Mnemonic.Xsavec64:
                // Not the tiles, nor protection keys.
                input.Registers[Rax] &= 0xe7;
                input.Registers[Rdx] = 0;
                break;
            case Mnemonic.Xrstor or Mnemonic.Xrstor64:
                input.Registers[Rax] &= 0xe7;
                input.Registers[Rdx] = 0;
                SetImage(instruction, ref input);
                break;
            case Mnemonic.Tileloadd or Mnemonic.Tileloaddt1 or Mnemonic.Tilestored:
                SetRows(instruction, ref input, faults);
                break;
            case Mnemonic.Ldtilecfg:
                if (SetImage(instruction, ref input) && random.Next(4) != 0)
                {
                    input.Options = (input.Options & ~CaseOptions.FpuImageAtAddress) | CaseOptions.TileConfigurationAtAddress;
                }

                break;
            case Mnemonic.Fxrstor or Mnemonic.Fxrstor64 or Mnemonic.Ldmxcsr or Mnemonic.Vldmxcsr or Mnemonic.Frstor or Mnemonic.Fldenv or Mnemonic.Fldcw:
                SetImage(instruction, ref input);
                break;
        }

        if (instruction.CpuidFeatures.Any(static f => f is CpuidFeature.AMX_TILE or CpuidFeature.AMX_INT8 or CpuidFeature.AMX_BF16))
        {
            input.Options |= CaseOptions.Tiles;
        }

        if (instruction.Code.Encoding() == EncodingKind.Legacy && instruction.Mnemonic.ToString().StartsWith('F'))
        {
            input.Options |= CaseOptions.IgnoreFpuPointers | (code == Arena.FarCode ? CaseOptions.IgnoreFpuOpcode : CaseOptions.None);
            IgnoreLostPlaces(instruction, ref input);
        }
    }

    /// <summary>What some processors forget when the thread stops, and so also when it is only interrupted.</summary>
    private void IgnoreLostPlaces(in Instruction instruction, ref CaseInput input)
    {
        if (!Processor.LosesFpuPlaces)
        {
            return;
        }

        input.Options |= CaseOptions.IgnoreFpuOpcode | CaseOptions.IgnoreFpuData;
        if (instruction.Mnemonic is Mnemonic.Fnstenv or Mnemonic.Fnsave)
        {
            input.ImageAddress = Address(instruction, 0, input);
            input.Options |= instruction.Code is Code.Fnstenv_m14byte or Code.Fnsave_m94byte ? CaseOptions.IgnoreShortFpuEnvironment : CaseOptions.IgnoreFpuEnvironment;
        }
    }

    private ulong Selector() => new ulong[] { 0, 3, 0x10, 0x2b, 0x33, 0x7b, (ulong)random.Next(65536) }[random.Next(7)];

    private void PatchSelector(in Instruction instruction, int operand, int offset, ref CaseInput input)
    {
        ulong address = Address(instruction, operand, input) + (ulong)offset;
        if (IsWritable(address, 8))
        {
            input.Patch(address, Selector());
        }
    }

    private void SetBadStack(ref CaseInput input, bool faults)
    {
        if (faults && random.Next(2) == 0)
        {
            input.Registers[Rsp] = random.Next(4) switch
            {
                0 => Arena.Stack + (ulong)random.Next(8),
                1 => Arena.Stack + Arena.StackLength - (ulong)random.Next(8),
                2 => Arena.Data + Arena.DataLength + (ulong)random.Next(32),
                _ => DataAddress(true, 1),
            };
        }
        else if (random.Next(8) == 0)
        {
            input.Registers[Rsp] += (ulong)random.Next(8);
        }
    }

    /// <summary>The bit offset reaches far from the operand's address: not out of the window.</summary>
    private void SetBitOffset(in Instruction instruction, ref CaseInput input, bool faults)
    {
        int offset = Number(instruction.Op1Register);
        if (!faults && offset != Number(instruction.MemoryBase) && offset != Number(instruction.MemoryIndex))
        {
            input.Registers[offset] = (ulong)random.Next(-4096, 4096);
        }
    }

    private bool SetImage(in Instruction instruction, ref CaseInput input)
    {
        ulong address = Address(instruction, 0, input);
        if (!IsWritable(address, CaseResult.VectorsLength) || (address & 7) != 0)
        {
            return false;
        }

        // ldmxcsr, fldcw and fldenv read a piece of one.
        input.ImageAddress = instruction.Mnemonic is Mnemonic.Ldmxcsr or Mnemonic.Vldmxcsr ? address - 24 : address;
        input.Options |= CaseOptions.FpuImageAtAddress;
        return true;
    }

    /// <summary>Rows of tiles are one behind the other, as a rule: the index register is their distance.</summary>
    private void SetRows(in Instruction instruction, ref CaseInput input, bool faults)
    {
        int rows = Number(instruction.MemoryIndex);
        int register = Number(instruction.MemoryBase);
        if (faults || rows < 0 || register == rows || register == Rsp)
        {
            return;
        }

        bool narrow = instruction.MemoryIndex.IsGPR32();
        input.Registers[rows] = (ulong)random.Next(1, (64 / instruction.MemoryIndexScale) + 1);
        if (register >= 0)
        {
            ulong address = Arena.Data + 1024 + (ulong)random.Next(1024) - instruction.MemoryDisplacement64;
            ulong segment = instruction.MemorySegment switch { Register.FS => input.FsBase, Register.GS => input.GsBase, _ => 0 };
            input.Registers[register] = narrow ? (uint)(address - segment) : address - segment;
        }
    }
}

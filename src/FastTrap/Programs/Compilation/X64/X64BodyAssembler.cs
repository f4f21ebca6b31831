using System.Runtime.InteropServices;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Programs.Compilation.X64;

/// <summary>
/// x86-64. A is rax, B rcx, C rdx. Doubles are computed in xmm0 and xmm1 by instructions of SSE, which keep the upper parts of longer registers, with the default rounding whatever the thread's.
/// </summary>
/// <remarks>
/// Frame, from rsp: the saved registers, slots, validity bytes, a word for the assembler, the system calls' area, vectors and MXCSR; behind it the red zone. Its lowest word is written first, so that a stack without room for it
/// is seen when nothing but rsp has changed. Flags are kept by LAHF and SETO, which take a fraction of what PUSHFQ and POPFQ do.
/// </remarks>
internal sealed partial class X64BodyAssembler(ProgramTarget target) : BodyAssembler
{
    private const int RedZone = 128;
    private const int SystemCallArea = 11 * sizeof(ulong);
    private const int VectorArea = 6 * sizeof(ulong);
    private const int SavedArea = 4 * sizeof(ulong);
    private const uint DefaultMxcsr = 0x1f80;

    private static readonly AssemblerRegister64[] s_wide = [rax, rcx, rdx];
    private static readonly AssemblerRegister32[] s_narrow = [eax, ecx, edx];

    private readonly Assembler _c = new(64);
    private readonly List<Label> _labels = [];
    private readonly List<(int Instruction, SiteValue Value)> _patches = [];
    private bool _usesDoubles;
    private int _validity;
    private int _temporary;
    private int _systemCall;
    private int _vectors;
    private int _frameLength;

    public override bool HasLockedForms => true;

    public override void Enter(int slots, int bytes, bool usesDoubles, bool usesMemory)
    {
        _usesDoubles = usesDoubles;
        _validity = SavedArea + (slots * sizeof(ulong));
        _temporary = _validity + ((bytes + sizeof(ulong) - 1) & -sizeof(ulong));
        _systemCall = _temporary + sizeof(ulong);
        _vectors = _systemCall + (usesMemory ? SystemCallArea : 0);
        _frameLength = _vectors + (usesDoubles ? VectorArea : 0);
        _c.lea(rsp, __[rsp - RedZone - _frameLength]);
        _c.mov(Saved(rax), rax);
        _c.lahf();
        _c.seto(al);
        _c.mov(SavedFlags, rax);
        _c.mov(Saved(rcx), rcx);
        _c.mov(Saved(rdx), rdx);
        if (usesDoubles)
        {
            _c.movups(__xmmword_ptr[rsp + _vectors], xmm0);
            _c.movups(__xmmword_ptr[rsp + _vectors + 16], xmm1);
            _c.stmxcsr(__dword_ptr[rsp + _vectors + 32]);
            _c.mov(__dword_ptr[rsp + _vectors + 40], DefaultMxcsr);
            _c.ldmxcsr(__dword_ptr[rsp + _vectors + 40]);
        }
    }

    public override void Leave()
    {
        if (_usesDoubles)
        {
            _c.ldmxcsr(__dword_ptr[rsp + _vectors + 32]);
            _c.movups(xmm0, __xmmword_ptr[rsp + _vectors]);
            _c.movups(xmm1, __xmmword_ptr[rsp + _vectors + 16]);
        }

        // OF from al, the others from ah.
        _c.mov(rax, SavedFlags);
        _c.add(al, 0x7f);
        _c.sahf();
        _c.mov(rax, Saved(rax));
        _c.mov(rcx, Saved(rcx));
        _c.mov(rdx, Saved(rdx));
        _c.lea(rsp, __[rsp + RedZone + _frameLength]);
    }

    public override CompiledBody Finish(int recordLength)
    {
        using MemoryStream code = new();
        AssemblerResult result = _c.Assemble(new StreamCodeWriter(code), 0, BlockEncoderOptions.ReturnConstantOffsets | BlockEncoderOptions.ReturnNewInstructionOffsets);
        BlockEncoderResult block = result.Result[0];
        SitePatch[] patches =
        [
            .. _patches.Select(p => new SitePatch(
                p.Value,
                (int)block.NewInstructionOffsets[p.Instruction] + (int)block.ConstantOffsets[p.Instruction].ImmediateOffset,
                (int)block.ConstantOffsets[p.Instruction].ImmediateSize)),
        ];
        return new CompiledBody(Architecture.X64, code.ToArray(), patches, recordLength);
    }

    public override BodyLabel NewLabel()
    {
        _labels.Add(_c.CreateLabel());
        return new BodyLabel(_labels.Count - 1);
    }

    public override void Mark(BodyLabel label)
    {
        _c.Label(ref CollectionsMarshal.AsSpan(_labels)[label.Number]);

        // An instruction may have one label only, and the last label no instruction.
        _c.zero_bytes();
    }

    public override void Jump(BodyLabel label) => _c.jmp(_labels[label.Number]);

    public override void JumpIfZero(Scratch register, BodyLabel label)
    {
        _c.test(Wide(register), Wide(register));
        _c.je(_labels[label.Number]);
    }

    public override void MoveConstant(Scratch to, ulong value)
    {
        if (value <= uint.MaxValue)
        {
            _c.mov(Narrow(to), (uint)value);
        }
        else
        {
            _c.mov(Wide(to), value);
        }
    }

    public override void MoveSite(Scratch to, SiteValue value) =>
        Patched(Instruction.Create(Code.Mov_r64_imm64, Register.RAX + (int)to, ulong.MaxValue >> 1), value);

    public override void Move(Scratch to, Scratch from) => _c.mov(Wide(to), Wide(from));

    public override void LoadRegister(Scratch to, int word)
    {
        if (word == (int)X64Register.Rsp)
        {
            _c.lea(Wide(to), __[rsp + _frameLength + RedZone]);
            return;
        }

        AssemblerRegister64 register = OfWord(word);
        if (Array.IndexOf(s_wide, register) >= 0)
        {
            _c.mov(Wide(to), Saved(register));
        }
        else
        {
            _c.mov(Wide(to), register);
        }
    }

    public override void LoadVector(Scratch to, int number)
    {
        if (_usesDoubles && number < 2)
        {
            _c.mov(Wide(to), __qword_ptr[rsp + _vectors + (16 * number)]);
        }
        else
        {
            _c.movq(Wide(to), new AssemblerRegisterXMM(Register.XMM0 + number));
        }
    }

    public override void LoadSlot(Scratch to, int slot) => _c.mov(Wide(to), __qword_ptr[rsp + SavedArea + (slot * sizeof(ulong))]);

    public override void StoreSlot(int slot, Scratch from) => _c.mov(__qword_ptr[rsp + SavedArea + (slot * sizeof(ulong))], Wide(from));

    public override void LoadValidity(Scratch to, int number) => _c.movzx(Narrow(to), __byte_ptr[rsp + _validity + number]);

    public override void StoreValidity(int number, Scratch from) => _c.mov(__byte_ptr[rsp + _validity + number], Low(from));

    public override void AndValidity(Scratch register, int number) => _c.and(Low(register), __byte_ptr[rsp + _validity + number]);

    public override void ClearUnlessC()
    {
        _c.neg(rdx);
        _c.and(rax, rdx);
    }

    public override void LoadSegmentBase(Scratch to, int word)
    {
        if (word == (int)X64Register.GsBase)
        {
            _c.rdgsbase(Wide(to));
        }
        else
        {
            LoadThreadPointer(Wide(to), false);
        }
    }

    public override void LoadThreadId(Scratch to)
    {
        if (target.ThreadIdOffset is { } offset)
        {
            _c.movsxd(Wide(to), __dword_ptr.fs[offset]);
            return;
        }

        const int GetThreadId = 186;
        _c.mov(__qword_ptr[rsp + _systemCall], rcx);
        _c.mov(__qword_ptr[rsp + _systemCall + 8], r11);
        _c.mov(eax, GetThreadId);
        _c.syscall();
        _c.mov(rcx, __qword_ptr[rsp + _systemCall]);
        _c.mov(r11, __qword_ptr[rsp + _systemCall + 8]);
    }

    public override void ReadTicks()
    {
        _c.rdtsc();
        _c.shl(rdx, 32);
        _c.or(rax, rdx);
    }

    public override void ScaleTicks(in TickScale scale)
    {
        _c.mov(rdx, scale.BaseTicks);
        _c.sub(rax, rdx);
        _c.mov(rdx, scale.Multiplier);
        _c.mul(rdx);
        _c.shrd(rax, rdx, 32);
        _c.mov(rdx, (ulong)scale.BaseNs);
        _c.add(rax, rdx);
    }

    private static AssemblerRegister64 Wide(Scratch register) => s_wide[(int)register];

    private static AssemblerRegister32 Narrow(Scratch register) => s_narrow[(int)register];

    private static AssemblerRegister8 Low(Scratch register) => register switch
    {
        Scratch.A => al,
        Scratch.B => cl,
        _ => dl,
    };

    private static AssemblerRegister64 OfWord(int word) => (X64Register)word switch
    {
        X64Register.Rax => rax,
        X64Register.Rcx => rcx,
        X64Register.Rdx => rdx,
        X64Register.Rbx => rbx,
        X64Register.Rbp => rbp,
        X64Register.Rsi => rsi,
        X64Register.Rdi => rdi,
        X64Register.R8 => r8,
        X64Register.R9 => r9,
        X64Register.R10 => r10,
        X64Register.R11 => r11,
        X64Register.R12 => r12,
        X64Register.R13 => r13,
        X64Register.R14 => r14,
        X64Register.R15 => r15,
        _ => throw new ArgumentOutOfRangeException(nameof(word), word, "This is no general register."),
    };

    private static AssemblerMemoryOperand SavedFlags => __qword_ptr[rsp + 24];

    private static AssemblerMemoryOperand Saved(AssemblerRegister64 register) => __qword_ptr[rsp + (register == rax ? 0 : register == rcx ? 8 : 16)];

    private void LoadThreadPointer(AssemblerRegister64 to, bool isWord)
    {
        if (target.HasReadFsBase && !isWord)
        {
            _c.rdfsbase(to);
        }
        else
        {
            _c.mov(to, __qword_ptr.fs[0]);
        }
    }

    private void Patched(Instruction instruction, SiteValue value)
    {
        _patches.Add((_c.Instructions.Count, value));
        _c.AddInstruction(instruction);
    }
}

using FastTrap.Native;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Programs.Compilation.X64;

/// <summary>Reading the target's memory, which may not be there: as it is, with a tracer that leads on who faults; or by the kernel.</summary>
internal sealed partial class X64BodyAssembler
{
    public override void ReadMemory(int length)
    {
        if (target.TracerWord is null)
        {
            ReadByKernel(length);
            return;
        }

        Label none = _c.CreateLabel();
        Label done = _c.CreateLabel();
        JumpUnlessUser(rax, rcx, none);
        if (target.IsTrial)
        {
            _c.mov(rax, rsp);
        }

        LoadA(length);
        LeadTo(none);
        _c.mov(ecx, 1);
        _c.jmp(done);
        _c.Label(ref none);
        _c.xor(eax, eax);
        _c.xor(ecx, ecx);
        _c.Label(ref done);
        _c.zero_bytes();
    }

    public override void ReadText(int offset, int length)
    {
        if (target.TracerWord is null)
        {
            ReadTextByKernel(offset, length);
            return;
        }

        AssemblerMemoryOperand record = __qword_ptr[rsp + _systemCall];
        AssemblerMemoryOperand savedRsi = __qword_ptr[rsp + _systemCall + 8];
        AssemblerMemoryOperand savedRdi = __qword_ptr[rsp + _systemCall + 16];
        Label words = _c.CreateLabel();
        Label bytes = _c.CreateLabel();
        Label inWord = _c.CreateLabel();
        Label end = _c.CreateLabel();
        Label any = _c.CreateLabel();
        _c.mov(record, rcx);
        _c.mov(savedRsi, rsi);
        _c.mov(savedRdi, rdi);
        _c.lea(rdi, __[rcx + offset]);
        JumpUnlessUser(rax, rcx, end);
        _c.mov(rsi, target.IsTrial ? rsp : rax);
        _c.mov(edx, length);

        // Eight bytes at once where they are in one page: behind the text's end there may be none.
        _c.Label(ref words);
        _c.mov(ecx, esi);
        _c.and(ecx, HeldWord.PageLength - 1);
        _c.cmp(ecx, HeldWord.PageLength - sizeof(ulong));
        _c.ja(bytes);
        _c.cmp(edx, sizeof(ulong));
        _c.jb(bytes);
        _c.mov(rax, __qword_ptr[rsi]);
        LeadTo(end);
        _c.mov(__qword_ptr[rdi], rax);
        _c.mov(rcx, ~0x0101_0101_0101_0101UL + 1);
        _c.add(rcx, rax);
        _c.not(rax);
        _c.and(rcx, rax);
        _c.mov(rax, 0x8080_8080_8080_8080UL);
        _c.add(rdi, sizeof(ulong));
        _c.test(rcx, rax);
        _c.jne(end);
        _c.add(rsi, sizeof(ulong));
        _c.sub(edx, sizeof(ulong));
        _c.jne(words);
        _c.jmp(end);
        _c.Label(ref bytes);
        _c.movzx(eax, __byte_ptr[rsi]);
        LeadTo(end);
        _c.mov(__byte_ptr[rdi], al);
        _c.inc(rdi);
        _c.test(eax, eax);
        _c.je(end);
        _c.inc(rsi);
        _c.dec(edx);
        _c.jne(words);
        _c.Label(ref end);
        _c.mov(rcx, record);
        _c.mov(rax, rdi);
        _c.sub(rax, rcx);
        _c.sub(rax, offset);
        _c.mov(rsi, savedRsi);
        _c.mov(rdi, savedRdi);
        _c.jne(any);
        _c.mov(rax, -1L);
        _c.Label(ref any);
        _c.zero_bytes();
    }

    /// <summary>Jumps if an address can be none of a program's memory: it is not to be tried. Changes the other register.</summary>
    private void JumpUnlessUser(AssemblerRegister64 address, AssemblerRegister64 other, Label none)
    {
        const int UserBits = 47;
        _c.lea(other, __[address - (int)AddressGaps.Lowest]);
        _c.shr(other, UserBits);
        _c.jne(none);
    }

    /// <summary>
    /// Behind a load: an instruction without effect, which says where the tracer leads a thread whose load has faulted (<c>JumpMechanism</c> does).
    /// </summary>
    private void LeadTo(Label none) => _c.nop(__dword_ptr[none]);

    private void LoadA(int length)
    {
        switch (length)
        {
            case 1:
                _c.movzx(eax, __byte_ptr[rax]);
                break;
            case 2:
                _c.movzx(eax, __word_ptr[rax]);
                break;
            case 4:
                _c.mov(eax, __dword_ptr[rax]);
                break;
            default:
                _c.mov(rax, __qword_ptr[rax]);
                break;
        }
    }

    /// <summary>Memory of the frame's own page is there; all other is read by the kernel, which says if it is not.</summary>
    private void ReadByKernel(int length)
    {
        const int PageShift = 12;
        int buffer = _systemCall + 32;
        Label byKernel = _c.CreateLabel();
        Label done = _c.CreateLabel();
        for (int end = 0; end < length; end += Math.Max(1, length - 1))
        {
            _c.lea(rdx, __[rsp + _frameLength - sizeof(ulong)]);
            _c.lea(rcx, __[rax + end]);
            _c.xor(rcx, rdx);
            _c.shr(rcx, PageShift);
            _c.jne(byKernel);
        }

        LoadA(length);
        _c.mov(ecx, 1);
        _c.jmp(done);
        _c.Label(ref byKernel);
        _c.lea(rcx, __[rsp + buffer]);
        _c.mov(__qword_ptr[rsp + buffer], 0);
        CopyByKernel(length);
        _c.xor(ecx, ecx);
        _c.cmp(rax, length);
        _c.sete(cl);
        _c.mov(rax, __qword_ptr[rsp + buffer]);
        _c.Label(ref done);
        _c.zero_bytes();
    }

    private void ReadTextByKernel(int offset, int length)
    {
        Label any = _c.CreateLabel();
        _c.mov(__qword_ptr[rsp + _systemCall + 32], rcx);
        _c.lea(rcx, __[rcx + offset]);
        CopyByKernel(length);
        _c.mov(rcx, __qword_ptr[rsp + _systemCall + 32]);
        _c.test(rax, rax);
        _c.jg(any);
        _c.mov(rax, -1L);
        _c.Label(ref any);
        _c.zero_bytes();
    }

    /// <summary>rax = how many bytes the kernel has copied from rax to rcx, or an error. Changes rcx and rdx.</summary>
    private void CopyByKernel(int length)
    {
        const int ProcessVmReadv = 310;
        int local = _systemCall;
        int remote = _systemCall + 16;
        int saved = _systemCall + 40;
        AssemblerRegister64[] arguments = [rdi, rsi, r8, r9, r10, r11];
        for (int i = 0; i < arguments.Length; i++)
        {
            _c.mov(__qword_ptr[rsp + saved + (i * sizeof(ulong))], arguments[i]);
        }

        _c.mov(__qword_ptr[rsp + local], rcx);
        _c.mov(__qword_ptr[rsp + local + 8], length);
        _c.mov(__qword_ptr[rsp + remote], rax);
        _c.mov(__qword_ptr[rsp + remote + 8], length);
        _c.mov(edi, target.OwnProcessId);
        _c.lea(rsi, __[rsp + local]);
        _c.mov(edx, 1);
        _c.lea(r10, __[rsp + remote]);
        _c.mov(r8d, 1);
        _c.xor(r9d, r9d);
        _c.mov(eax, ProcessVmReadv);
        _c.syscall();
        for (int i = 0; i < arguments.Length; i++)
        {
            _c.mov(arguments[i], __qword_ptr[rsp + saved + (i * sizeof(ulong))]);
        }
    }
}

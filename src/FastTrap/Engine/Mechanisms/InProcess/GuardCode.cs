using Iced.Intel;
using FastTrap.Native;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Engine.Mechanisms;

/// <summary>The guard's code in the target: a handler of SIGTRAP which finds traps of ours in the table and passes on all others. x86-64; no C library, no stack but its frame.</summary>
/// <remarks>
/// The address of the trap is one below the saved program counter; or, where the tracer was about to lead the thread and had moved it already, perhaps, stands in the signal's details (<see cref="SignalInfo.LedMark"/>).
/// A trap that leads: the saved program counter becomes the trampoline's. A trap that leads no more: the instruction is restarted, unless the program has a trap of its own there by now. All else goes to the target's own
/// action (<see cref="GuardState"/>): a handler is jumped to with the kernel's frame as it is, its own restorer put back there; a default action is set again and the signal sent again with its details, so that the process dies by it where it stood.
/// </remarks>
internal static class GuardCode
{
    private const int SignalCodeOffset = 8;

    /// <summary>si_code of int3 (SI_KERNEL).</summary>
    private const int TrapCode = 0x80;

    /// <summary>uc_mcontext.gregs[REG_RIP].</summary>
    private const int ProgramCounterOffset = 168;

    /// <summary>uc_mcontext.gregs[REG_EFL].</summary>
    private const int FlagsOffset = 176;

    /// <summary>si_code of a single step (TRAP_TRACE).</summary>
    private const int StepCode = 2;

    /// <summary>TF, in the second byte of the flags.</summary>
    private const byte StepFlag = 1;

    /// <summary>uc_sigmask.</summary>
    private const int MaskOffset = 296;

    /// <summary>si_code of a single step over a system call (TRAP_BRKPT).</summary>
    private const int CallStepCode = 1;

    /// <summary>syscall. What else has that code is int1, which may have been displaced.</summary>
    private const short SystemCallInstruction = 0x050f;

    /// <summary>si_errno.</summary>
    private const int MarkOffset = 4;

    /// <summary>si_addr.</summary>
    private const int AddressOffset = 16;

    private const byte TrapInstruction = 0xcc;

    /// <summary>The same in two bytes (CD 03).</summary>
    private const short LongTrapInstruction = 0x03cd;

    /// <summary>And with a breakpoint on it.</summary>
    private const short ProbedLongTrap = 0x03cc;

    /// <summary>Assembles it.</summary>
    /// <param name="address">Where it will be.</param>
    /// <param name="tablePointer">The address of the word that points to the table.</param>
    /// <param name="state">The address of the state.</param>
    /// <param name="nothing">The address of 32 bytes of zeros: the default action.</param>
    /// <param name="ranges">The address of the ranges of trampolines: start and length, until a start of 0.</param>
    /// <param name="escape">Where threads make system calls for the tracer, and come back by themselves; 0: nowhere.</param>
    /// <param name="restorer">Where the restorer is.</param>
    /// <param name="blocked">The mask of a thread that is stepped with its signals blocked.</param>
    public static byte[] Assemble(ulong address, ulong tablePointer, ulong state, ulong nothing, ulong ranges, ulong escape, ulong blocked, out ulong restorer)
    {
        Assembler c = new(64);
        Label restore = c.CreateLabel();
        Label next = c.CreateLabel();
        Label found = c.CreateLabel();
        Label lead = c.CreateLabel();
        Label chain = c.CreateLabel();
        Label handle = c.CreateLabel();
        Label known = c.CreateLabel();
        Label again = c.CreateLabel();
        Label done = c.CreateLabel();
        Label other = c.CreateLabel();
        Label stray = c.CreateLabel();
        Label range = c.CreateLabel();
        Label nowhere = c.CreateLabel();
        Label search = c.CreateLabel();
        Label single = c.CreateLabel();
        Label stepped = c.CreateLabel();
        Label marked = c.CreateLabel();
        Label restart = c.CreateLabel();

        c.endbr64();
        c.cmp(__dword_ptr[rsi + SignalCodeOffset], TrapCode);
        c.jne(other);
        c.mov(r8, __qword_ptr[rsi + AddressOffset]);
        c.cmp(__dword_ptr[rsi + MarkOffset], SignalInfo.LedMark);
        c.je(marked);
        c.mov(r8, __qword_ptr[rdx + ProgramCounterOffset]);
        c.dec(r8);
        c.Label(ref marked);
        c.mov(r9, tablePointer);
        c.mov(r9, __qword_ptr[r9]);
        c.mov(rax, GuardTable.HashMultiplier);
        c.imul(rax, r8);
        c.shr(rax, 32);
        c.Label(ref next);
        c.and(rax, __qword_ptr[r9]);
        c.mov(rcx, rax);
        c.shl(rcx, 4);
        c.mov(r10, __qword_ptr[r9 + rcx + GuardTable.EntriesOffset]);
        c.cmp(r10, r8);
        c.je(found);
        c.test(r10, r10);
        c.je(stray);
        c.inc(rax);
        c.jmp(next);
        c.Label(ref found);
        c.mov(r10, __qword_ptr[r9 + rcx + GuardTable.EntriesOffset + sizeof(ulong)]);
        c.test(r10, r10);
        c.jne(lead);
        c.cmp(__byte_ptr[r8], TrapInstruction);
        c.je(chain);
        c.Label(ref restart);
        c.mov(r10, r8);
        c.Label(ref lead);
        c.mov(__qword_ptr[rdx + ProgramCounterOffset], r10);
        c.ret();

        // A step of a tracer that was killed: the kernel has ended the stepping. Who steps itself has the flag.
        c.Label(ref other);
        c.test(__byte_ptr[rdx + FlagsOffset + 1], StepFlag);
        c.jne(chain);
        c.cmp(__dword_ptr[rsi + SignalCodeOffset], StepCode);
        c.je(stepped);
        c.cmp(__dword_ptr[rsi + SignalCodeOffset], CallStepCode);
        c.jne(chain);
        c.mov(r8, __qword_ptr[rdx + ProgramCounterOffset]);
        c.test(r8d, 0xffe);
        c.je(chain);
        c.cmp(__word_ptr[r8 - 2], SystemCallInstruction);
        c.jne(chain);

        // It was stepped with its signals blocked, perhaps, and has not returned to another mask.
        c.Label(ref stepped);
        c.mov(r9, state);
        c.mov(rax, blocked);
        c.cmp(rax, __qword_ptr[rdx + MaskOffset]);
        c.jne(done);
        c.xor(eax, eax);
        c.xchg(__qword_ptr[r9 + GuardState.KeptOffset], rax);
        c.test(rax, rax);
        c.je(done);
        c.mov(rax, __qword_ptr[r9 + GuardState.KeptOffset + sizeof(ulong)]);
        c.mov(__qword_ptr[rdx + MaskOffset], rax);
        c.ret();

        // A trap of ours whose thread the tracer had led on, before it was killed in front of taking the signal away: to a trampoline, to a system call for the tracer, or back to the trap.
        c.Label(ref stray);
        c.cmp(__dword_ptr[rsi + MarkOffset], SignalInfo.LedMark);
        c.je(restart);
        c.lea(r10, __[r8 + 1]);
        c.mov(r11, ranges);
        c.Label(ref range);
        c.mov(rax, __qword_ptr[r11]);
        c.test(rax, rax);
        c.je(nowhere);
        c.mov(rcx, r10);
        c.sub(rcx, rax);
        c.cmp(rcx, __qword_ptr[r11 + sizeof(ulong)]);
        c.jb(done);
        c.add(r11, 2 * sizeof(ulong));
        c.jmp(range);
        c.Label(ref nowhere);
        c.mov(rax, escape);
        c.cmp(r10, rax);
        c.je(done);
        c.test(r10d, 0xfff);
        c.je(chain);
        c.cmp(__byte_ptr[r8], TrapInstruction);
        c.je(chain);
        c.mov(eax, r10d);
        c.and(eax, 0xfff);
        c.cmp(eax, 1);
        c.je(single);
        c.cmp(__word_ptr[r8 - 1], LongTrapInstruction);
        c.je(chain);
        c.cmp(__word_ptr[r8 - 1], ProbedLongTrap);
        c.je(chain);
        c.Label(ref single);
        c.mov(rax, GuardTable.HashMultiplier);
        c.imul(rax, r10);
        c.shr(rax, 32);
        c.Label(ref search);
        c.and(rax, __qword_ptr[r9]);
        c.mov(rcx, rax);
        c.shl(rcx, 4);
        c.mov(rcx, __qword_ptr[r9 + rcx + GuardTable.EntriesOffset]);
        c.cmp(rcx, r10);
        c.je(done);
        c.inc(rax);
        c.test(rcx, rcx);
        c.jne(search);

        c.Label(ref chain);
        c.mov(r9, state);
        c.mov(r9, __qword_ptr[r9 + GuardState.CurrentOffset]);
        c.test(__dword_ptr[r9 + GuardAction.FlagsOffset], unchecked((int)(uint)GuardAction.SA_RESETHAND));
        c.mov(rax, __qword_ptr[r9]);
        c.je(handle);
        c.cmp(rax, (int)GuardAction.SIG_IGN);
        c.je(handle);

        // Once only, whoever comes at the same time.
        c.xor(eax, eax);
        c.xchg(__qword_ptr[r9], rax);
        c.Label(ref handle);
        c.cmp(rax, (int)GuardAction.SIG_IGN);
        c.jb(again);
        c.ja(known);

        // Ignored: but the kernel ignores no trap.
        c.cmp(__dword_ptr[rsi + SignalCodeOffset], 0);
        c.jle(done);
        c.Label(ref again);
        c.mov(r9, rsi);
        c.mov(eax, SystemCallNumbers.Of(System.Runtime.InteropServices.Architecture.X64).RtSigAction);
        c.mov(edi, Signal.SIGTRAP);
        c.mov(rsi, nothing);
        c.xor(edx, edx);
        c.mov(r10d, sizeof(ulong));
        c.syscall();
        c.mov(eax, SystemCallNumbers.Of(System.Runtime.InteropServices.Architecture.X64).GetPid);
        c.syscall();
        c.mov(r8d, eax);
        c.mov(eax, SystemCallNumbers.Of(System.Runtime.InteropServices.Architecture.X64).GetTid);
        c.syscall();
        c.mov(edi, r8d);
        c.mov(esi, eax);
        c.mov(edx, Signal.SIGTRAP);
        c.mov(r10, r9);
        c.mov(eax, SystemCallNumbers.Of(System.Runtime.InteropServices.Architecture.X64).RtTgSigQueueInfo);
        c.syscall();
        c.Label(ref done);
        c.ret();

        c.Label(ref known);
        c.mov(r11, rax);
        c.mov(r10, __qword_ptr[r9 + GuardAction.RestorerOffset]);
        c.mov(__qword_ptr[rsp], r10);
        c.xor(eax, eax);
        c.jmp(r11);

        // Unwinders know these bytes.
        c.nop();
        c.Label(ref restore);
        c.db(0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05);

        using MemoryStream code = new();
        AssemblerResult result = c.Assemble(new StreamCodeWriter(code), address, BlockEncoderOptions.ReturnNewInstructionOffsets);
        restorer = result.GetLabelRIP(restore);
        return code.ToArray();
    }
}

using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Engine.Mechanisms;

/// <summary>The code of a <see cref="SignalCover"/> in the target. x86-64; no C library.</summary>
/// <remarks>
/// A handler of a signal that found its thread elsewhere is jumped to, and notices nothing. Else program counter and stack pointer in the frame become those of the original code, the handler is called, and if it has left them so, the thread goes on where it was.
/// Records are sorted by their start, four words each: start, length, entries, number of entries. Entries have four words: offset and length (32 bits each), the original address, the deltas of the stack pointer for each offset (16 bits; 0xffff: no instruction), or 0; the one delta then.
/// </remarks>
internal static class SignalCoverCode
{
    public const int RecordLength = 32;
    public const int EntryLength = 32;
    public const ushort NoInstruction = ushort.MaxValue;

    /// <summary>In place of an original address: the handler of the signal which the thread has in its first argument.</summary>
    public const ulong OwnHandler = 0;

    private const int SignalOffset = 104;
    private const int SignalCodeOffset = 8;
    private const int SignalAddressOffset = 16;
    private const int StackPointerOffset = 160;
    private const int ProgramCounterOffset = 168;

    /// <summary>Assembles it.</summary>
    /// <param name="address">Where it will be.</param>
    /// <param name="actions">The address of the target's own actions, by number of the signal.</param>
    /// <param name="records">The address of the records.</param>
    /// <param name="count">How many.</param>
    /// <param name="own">What it stands for itself, for a signal that comes when another's handler is about to be called: that handler, with <see cref="OwnHandler"/> for its address.</param>
    public static byte[] Assemble(ulong address, ulong actions, ulong records, int count, out CoveredCode own)
    {
        Assembler c = new(64);
        Label search = c.CreateLabel();
        Label lower = c.CreateLabel();
        Label hit = c.CreateLabel();
        Label entry = c.CreateLabel();
        Label next = c.CreateLabel();
        Label match = c.CreateLabel();
        Label single = c.CreateLabel();
        Label moved = c.CreateLabel();
        Label known = c.CreateLabel();
        Label call = c.CreateLabel();
        Label lowered = c.CreateLabel();
        Label called = c.CreateLabel();
        Label leave = c.CreateLabel();
        Label plain = c.CreateLabel();

        Label pushed = c.CreateLabel();
        c.endbr64();
        c.push(rbx);
        c.Label(ref pushed);
        c.mov(rax, __qword_ptr[rdx + ProgramCounterOffset]);
        c.mov(r9, records);
        c.xor(r10d, r10d);
        c.mov(r11d, count);
        c.Label(ref search);
        c.cmp(r10, r11);
        c.jae(plain);
        c.lea(rcx, __[r10 + r11]);
        c.shr(rcx, 1);
        c.mov(rbx, rcx);
        c.shl(rbx, 5);
        c.add(rbx, r9);
        c.mov(r8, rax);
        c.sub(r8, __qword_ptr[rbx]);
        c.jb(lower);
        c.cmp(r8, __qword_ptr[rbx + 8]);
        c.jb(hit);
        c.lea(r10, __[rcx + 1]);
        c.jmp(search);
        c.Label(ref lower);
        c.mov(r11, rcx);
        c.jmp(search);

        c.Label(ref hit);
        c.mov(r9, __qword_ptr[rbx + 16]);
        c.mov(r10, __qword_ptr[rbx + 24]);
        c.Label(ref entry);
        c.test(r10, r10);
        c.je(plain);
        c.mov(ecx, __dword_ptr[r9]);
        c.mov(r11, r8);
        c.sub(r11, rcx);
        c.jb(next);
        c.mov(ecx, __dword_ptr[r9 + 4]);
        c.cmp(r11, rcx);
        c.jb(match);
        c.Label(ref next);
        c.add(r9, EntryLength);
        c.dec(r10);
        c.jmp(entry);
        c.Label(ref match);
        c.mov(rcx, __qword_ptr[r9 + 16]);
        c.test(rcx, rcx);
        c.je(single);
        c.movzx(ecx, __word_ptr[rcx + r11 * 2]);
        c.cmp(ecx, NoInstruction);
        c.je(plain);
        c.jmp(moved);
        c.Label(ref single);
        c.test(r11, r11);
        c.jne(plain);
        c.mov(rcx, __qword_ptr[r9 + 24]);

        // The handler keeps these registers; the frame has the thread's.
        c.Label(ref moved);
        c.pop(rbx);
        c.mov(rbx, rdx);
        c.mov(r12, rax);
        c.mov(r13, __qword_ptr[r9 + 8]);
        c.test(r13, r13);
        c.jne(known);
        c.mov(r8, actions);
        c.mov(r11d, __dword_ptr[rdx + SignalOffset]);
        c.shl(r11d, 5);
        c.mov(r13, __qword_ptr[r8 + r11]);
        c.Label(ref known);
        c.mov(r14, __qword_ptr[rdx + StackPointerOffset]);
        c.lea(r15, __[r14 + rcx]);
        c.mov(__qword_ptr[rdx + ProgramCounterOffset], r13);
        c.mov(__qword_ptr[rdx + StackPointerOffset], r15);
        c.cmp(__dword_ptr[rsi + SignalCodeOffset], 0);
        c.jle(call);
        c.cmp(__qword_ptr[rsi + SignalAddressOffset], rax);
        c.jne(call);
        c.mov(__qword_ptr[rsi + SignalAddressOffset], r13);
        c.Label(ref call);
        c.mov(r8, actions);
        c.mov(ecx, edi);
        c.shl(ecx, 5);
        c.xor(eax, eax);
        c.sub(rsp, 8);
        c.Label(ref lowered);
        c.call(__qword_ptr[r8 + rcx]);
        c.Label(ref called);
        c.add(rsp, 8);
        c.cmp(__qword_ptr[rbx + ProgramCounterOffset], r13);
        c.jne(leave);
        c.cmp(__qword_ptr[rbx + StackPointerOffset], r15);
        c.jne(leave);
        c.mov(__qword_ptr[rbx + ProgramCounterOffset], r12);
        c.mov(__qword_ptr[rbx + StackPointerOffset], r14);
        c.Label(ref leave);
        c.ret();

        c.Label(ref plain);
        c.pop(rbx);
        c.mov(r8, actions);
        c.mov(ecx, edi);
        c.shl(ecx, 5);
        c.xor(eax, eax);
        c.jmp(__qword_ptr[r8 + rcx]);

        using MemoryStream code = new();
        AssemblerResult result = c.Assemble(new StreamCodeWriter(code), address, BlockEncoderOptions.ReturnNewInstructionOffsets);
        int At(Label label) => (int)(result.GetLabelRIP(label) - address);
        ushort[] deltas = new ushort[code.Length];
        deltas.AsSpan(At(pushed), At(moved) + 1 - At(pushed)).Fill(sizeof(ulong));
        deltas.AsSpan(At(lowered), At(called) - At(lowered)).Fill(sizeof(ulong));
        deltas.AsSpan(At(called), At(plain) - At(called)).Fill(NoInstruction);
        deltas[At(plain)] = sizeof(ulong);
        own = new CoveredCode(address, deltas.Length, [new CoveredEntry(0, deltas.Length, OwnHandler, deltas, 0)]);
        return code.ToArray();
    }
}

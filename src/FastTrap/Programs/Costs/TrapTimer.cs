using System.Runtime.InteropServices;
using FastTrap.Native;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Programs;

/// <summary>What it costs on this machine that a thread traps, gets SIGTRAP and returns from a handler which does nothing: what comes on top of the code of a program that an in-process trap leads to, where nobody traces.</summary>
/// <remarks>
/// Any thread. The tracer's own handlers are left alone: a child that shares its memory (clone with CLONE_VM and CLONE_VFORK, but handlers of its own) installs one, traps, and exits. It has its own stack and all signals blocked but this one, so nothing of the
/// tracer's runs in it; the thread that made it stands still meanwhile, and reaps it.
/// </remarks>
internal static unsafe class TrapTimer
{
    private const int Rounds = 15;
    private const int TrapsOfARound = 64;

    // What the code uses: the ticks, masks of signals, an action as the kernel has it, and behind all that the child's stack.
    private const int TicksOffset = 0;
    private const int AllSignalsOffset = 8;
    private const int OldSignalsOffset = 16;
    private const int TrapSignalOffset = 24;
    private const int ActionOffset = 32;
    private const int ActionFlagsOffset = ActionOffset + 8;
    private const int RestorerOffset = ActionOffset + 16;
    private const int StackEnd = 1 << 16;

    private const ulong Flags = 0x0400_0004; // SA_RESTORER | SA_SIGINFO
    private const int ShareMemoryAndWait = 0x4100; // CLONE_VM | CLONE_VFORK
    private const int AnyChild = 0x4000_0000; // __WALL

    private static readonly Lock s_gate = new();
    private static double? s_known;
    private static bool s_isKnown;

    /// <summary>Nanoseconds; null where it cannot be measured. Measured once.</summary>
    public static double? Time(IPlatform platform)
    {
        lock (s_gate)
        {
            if (!s_isKnown)
            {
                s_known = Measure(platform);
                s_isKnown = true;
            }

            return s_known;
        }
    }

    private static double? Measure(IPlatform platform)
    {
        if (TickClock.Read(platform) is not { } ticks)
        {
            return null;
        }

        byte* memory = (byte*)NativeMemory.AlignedAlloc(StackEnd, 64);
        try
        {
            NativeMemory.Clear(memory, StackEnd);
            *(ulong*)(memory + AllSignalsOffset) = ulong.MaxValue;
            *(ulong*)(memory + TrapSignalOffset) = 1UL << (Signal.SIGTRAP - 1);
            *(ulong*)(memory + ActionFlagsOffset) = Flags;
            ulong[] rounds = new ulong[Rounds];
            if (platform.Execute(Assemble(), TrapsOfARound, (nint)memory, static () => { }, rounds) != Errno.None || Array.Exists(rounds, round => round == 0))
            {
                return null;
            }

            Array.Sort(rounds);
            return (double)rounds[Rounds / 2] / TrapsOfARound * ticks.Multiplier / 4_294_967_296.0;
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    /// <summary>A function of how often and of the memory; it returns the ticks, or 0.</summary>
    private static byte[] Assemble()
    {
        SystemCallNumbers numbers = SystemCallNumbers.Of(Architecture.X64);
        Assembler c = new(64);
        Label child = c.CreateLabel();
        Label again = c.CreateLabel();
        Label exit = c.CreateLabel();
        Label restore = c.CreateLabel();
        Label done = c.CreateLabel();
        Label handler = c.CreateLabel();
        Label restorer = c.CreateLabel();
        c.push(rbx);
        c.push(r12);
        c.push(r13);
        c.mov(ebx, edi);
        c.mov(r12, rsi);
        c.mov(__qword_ptr[r12 + TicksOffset], 0);
        c.lea(rax, __[handler]);
        c.mov(__qword_ptr[r12 + ActionOffset], rax);
        c.lea(rax, __[restorer]);
        c.mov(__qword_ptr[r12 + RestorerOffset], rax);
        SetMask(2, AllSignalsOffset, OldSignalsOffset);
        c.test(rax, rax);
        c.jne(done);
        c.mov(edi, ShareMemoryAndWait);
        c.lea(rsi, __[r12 + StackEnd]);
        c.xor(edx, edx);
        c.xor(r10d, r10d);
        c.xor(r8d, r8d);
        c.mov(eax, 56); // clone
        c.syscall();
        c.test(rax, rax);
        c.je(child);
        c.js(restore);
        c.mov(edi, eax);
        c.xor(esi, esi);
        c.mov(edx, AnyChild);
        c.xor(r10d, r10d);
        c.mov(eax, 61); // wait4
        c.syscall();
        c.Label(ref restore);
        SetMask(2, OldSignalsOffset, null);
        c.Label(ref done);
        c.mov(rax, __qword_ptr[r12 + TicksOffset]);
        c.pop(r13);
        c.pop(r12);
        c.pop(rbx);
        c.ret();

        c.Label(ref child);
        c.mov(edi, Signal.SIGTRAP);
        c.lea(rsi, __[r12 + ActionOffset]);
        c.xor(edx, edx);
        c.mov(r10d, sizeof(ulong));
        c.mov(eax, numbers.RtSigAction);
        c.syscall();
        c.test(rax, rax);
        c.jne(exit);
        SetMask(1, TrapSignalOffset, null);
        ReadTicks();
        c.mov(r13, rax);
        c.Label(ref again);
        c.int3();
        c.dec(ebx);
        c.jne(again);
        ReadTicks();
        c.sub(rax, r13);
        c.mov(__qword_ptr[r12 + TicksOffset], rax);
        c.Label(ref exit);
        c.xor(edi, edi);
        c.mov(eax, 60); // exit
        c.syscall();

        c.Label(ref handler);
        c.ret();
        c.nop();
        c.Label(ref restorer);
        c.mov(eax, 15); // rt_sigreturn
        c.syscall();

        using MemoryStream code = new();
        c.Assemble(new StreamCodeWriter(code), 0);
        return code.ToArray();

        void SetMask(int how, int set, int? old)
        {
            c.mov(edi, how);
            c.lea(rsi, __[r12 + set]);
            if (old is { } kept)
            {
                c.lea(rdx, __[r12 + kept]);
            }
            else
            {
                c.xor(edx, edx);
            }

            c.mov(r10d, sizeof(ulong));
            c.mov(eax, 14); // rt_sigprocmask
            c.syscall();
        }

        void ReadTicks()
        {
            c.lfence();
            c.rdtsc();
            c.shl(rdx, 32);
            c.or(rax, rdx);
        }
    }
}

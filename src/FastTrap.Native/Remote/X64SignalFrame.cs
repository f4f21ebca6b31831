using System.Buffers.Binary;
using System.Runtime.Intrinsics.X86;

namespace FastTrap.Native;

/// <summary>
/// A signal frame of a stopped x86-64 thread as it is, as the kernel would make it (<c>struct rt_sigframe</c>): whoever calls rt_sigreturn on it is that thread again, with its registers, vectors and mask.
/// </summary>
/// <remarks>
/// Two things differ from a kernel's frame. An interrupted system call is begun anew, whatever a handler would have made of it: a relative sleep then takes its full time again. And the alternative stack is left
/// as it is, by flags which the kernel refuses. A frame lies on the thread's stack only where the stack is known to end at pages without access: others, such as a goroutine's, may have no room.
/// </remarks>
internal static class X64SignalFrame
{
    // asm/sigcontext.h, asm/ucontext.h, asm/sigframe.h.
    private const int RestorerOffset = 0;
    private const int FlagsOffset = 8;
    private const int StackFlagsOffset = 8 + 16 + 8;
    private const int ContextOffset = 8 + 40;
    private const int SelectorsOffset = ContextOffset + 144;
    private const int FloatingPointOffset = ContextOffset + 184;
    private const int MaskOffset = ContextOffset + 256;
    private const int FrameLength = MaskOffset + 8 + 128;

    /// <summary>UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS.</summary>
    private const ulong Flags = 7;

    /// <summary>No mode of an alternative stack: sigaltstack refuses it, and rt_sigreturn does not mind.</summary>
    private const int NoStackMode = 3;

    private const int NT_X86_XSTATE = 0x202;
    private const int LegacyLength = 512;
    private const int HeaderLength = 64;
    private const int SoftwareOffset = 464;
    private const uint FirstMagic = 0x4650_5853;
    private const uint SecondMagic = 0x4650_5845;
    private const int LongestState = 16 * 1024;
    private const int Protection = 9;

    private const ulong UserCode64 = 0x33;

    /// <summary>mov eax, imm32.</summary>
    private const byte MoveToEax = 0xb8;

    /// <summary>The red zone, and what a call's arguments may point to behind it.</summary>
    private const int KeptBelowStack = 2048;
    private const int StackReserve = 4096;

    /// <summary>More than the pages without access below a thread's stack, less than what an allocator reserves.</summary>
    private const ulong LargestGuard = 1 << 20;

    private static readonly X64Register[] s_order =
    [
        X64Register.R8, X64Register.R9, X64Register.R10, X64Register.R11, X64Register.R12, X64Register.R13, X64Register.R14, X64Register.R15, X64Register.Rdi,
        X64Register.Rsi, X64Register.Rbp, X64Register.Rbx, X64Register.Rdx, X64Register.Rax, X64Register.Rcx, X64Register.Rsp, X64Register.Rip, X64Register.Eflags,
    ];

    /// <summary>Writes a frame for a stopped thread. False, and nothing is changed, if there is no room for it, or the thread's state cannot be had.</summary>
    /// <param name="platform">The kernel.</param>
    /// <param name="thread">The thread, with its route.</param>
    /// <param name="registers">Its registers.</param>
    /// <param name="mask">Its signal mask.</param>
    /// <param name="address">The frame's: a thread that returns with this stack pointer is the thread as it was.</param>
    public static bool TryWrite(IPlatform platform, in RemoteThread thread, in RegisterSet registers, ulong mask, out ulong address)
    {
        address = 0;
        byte[] state = new byte[LongestState];
        if (registers[X64Register.Cs] != UserCode64 || !TryReadState(platform, thread.ThreadId, state, out int stateLength))
        {
            return false;
        }

        ulong top = thread.Escape.FrameTop != 0 ? thread.Escape.FrameTop : registers.StackPointer - KeptBelowStack;
        ulong statePlace = (top - (ulong)stateLength) & ~63UL;
        ulong frame = ((statePlace - FrameLength) & ~15UL) - sizeof(ulong);
        if (thread.Escape.FrameTop == 0 && !IsOnStack(platform, thread.ProcessId, registers.StackPointer, frame))
        {
            return false;
        }

        byte[] bytes = new byte[top - frame];
        Fill(bytes, BeginCallAnew(platform, thread.ProcessId, registers), mask, thread.Escape.RestorerAddress, statePlace);
        state.AsSpan(0, stateLength).CopyTo(bytes.AsSpan((int)(statePlace - frame)));
        if (platform.WriteMemory(thread.ProcessId, frame, bytes) != bytes.Length)
        {
            return false;
        }

        address = frame;
        return true;
    }

    private static void Fill(Span<byte> frame, in RegisterSet wanted, ulong mask, ulong restorer, ulong state)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(frame[RestorerOffset..], restorer);
        BinaryPrimitives.WriteUInt64LittleEndian(frame[FlagsOffset..], Flags);
        BinaryPrimitives.WriteInt32LittleEndian(frame[StackFlagsOffset..], NoStackMode);
        for (int i = 0; i < s_order.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame[(ContextOffset + (i * sizeof(ulong)))..], wanted[s_order[i]]);
        }

        BinaryPrimitives.WriteUInt16LittleEndian(frame[SelectorsOffset..], (ushort)wanted[X64Register.Cs]);
        BinaryPrimitives.WriteUInt16LittleEndian(frame[(SelectorsOffset + 6)..], (ushort)wanted[X64Register.Ss]);
        BinaryPrimitives.WriteUInt64LittleEndian(frame[FloatingPointOffset..], state);
        BinaryPrimitives.WriteUInt64LittleEndian(frame[MaskOffset..], mask);
    }

    /// <summary>The kernel restarts an interrupted call by a mark that no frame can hold, and forgets at rt_sigreturn which sleep restart_syscall would go on with: the number before the instruction tells.</summary>
    private static RegisterSet BeginCallAnew(IPlatform platform, int processId, RegisterSet registers)
    {
        const long FirstRestart = -516;
        const long LastRestart = -512;
        const ulong RestartSystemCall = 219;
        const uint Poll = 7;
        const uint Nanosleep = 35;
        const uint Futex = 202;
        const uint ClockNanosleep = 230;
        if ((long)registers[X64Register.OrigRax] < 0 || (long)registers[X64Register.Rax] is not (>= FirstRestart and <= LastRestart and not -515))
        {
            return registers;
        }

        registers.ProgramCounter -= 2;
        registers[X64Register.Rax] = registers[X64Register.OrigRax];
        Span<byte> move = stackalloc byte[1 + sizeof(uint)];
        if (registers[X64Register.OrigRax] == RestartSystemCall
            && platform.ReadMemory(processId, registers.ProgramCounter - (ulong)move.Length, move) == move.Length && move[0] == MoveToEax
            && BinaryPrimitives.ReadUInt32LittleEndian(move[1..]) is var number and (Poll or Nanosleep or Futex or ClockNanosleep))
        {
            registers[X64Register.Rax] = number;
        }

        return registers;
    }

    /// <summary>The vectors and what else XSAVE keeps, with the marks by which the kernel knows its own layout, up to the last component that is in use.</summary>
    private static bool TryReadState(IPlatform platform, int threadId, Span<byte> state, out int length)
    {
        length = 0;
        int read = platform.GetRegisterSet(threadId, NT_X86_XSTATE, state);
        if (read < LegacyLength + HeaderLength || read + sizeof(uint) > state.Length || !X86Base.IsSupported)
        {
            return false;
        }

        ulong used = BinaryPrimitives.ReadUInt64LittleEndian(state[LegacyLength..]) | 3;
        int size = LegacyLength + HeaderLength;
        for (int i = 2; i < 63; i++)
        {
            const int ExtendedStateLeaf = 0xd;
            bool isProtection = i == Protection;
            if ((used & (1UL << i)) == 0 && !isProtection)
            {
                continue;
            }

            (int componentLength, int offset, _, _) = X86Base.CpuId(ExtendedStateLeaf, i);
            if (componentLength == 0 || offset + componentLength > read)
            {
                if (isProtection)
                {
                    continue;
                }

                return false;
            }

            if (isProtection && (used & (1UL << i)) == 0)
            {
                // Zero would mean access to everything.
                if (BinaryPrimitives.ReadUInt32LittleEndian(state[offset..]) == 0)
                {
                    continue;
                }

                used |= 1UL << i;
            }

            size = Math.Max(size, offset + componentLength);
        }

        BinaryPrimitives.WriteUInt64LittleEndian(state[LegacyLength..], used);
        Span<byte> software = state.Slice(SoftwareOffset, 48);
        software.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(software, FirstMagic);
        BinaryPrimitives.WriteInt32LittleEndian(software[4..], size + sizeof(uint));
        BinaryPrimitives.WriteUInt64LittleEndian(software[8..], used);
        BinaryPrimitives.WriteInt32LittleEndian(software[16..], size);
        BinaryPrimitives.WriteUInt32LittleEndian(state[size..], SecondMagic);
        length = size + sizeof(uint);
        return true;
    }

    /// <summary>Whether a frame lies on a stack of the system's making, with room to spare: the main one, or one that a few pages without access end.</summary>
    private static bool IsOnStack(IPlatform platform, int processId, ulong stackPointer, ulong frame)
    {
        if (!ProcMaps.TryRead(platform, processId, out List<MemoryRegion> regions, out _))
        {
            return false;
        }

        int index = regions.FindIndex(r => r.Contains(stackPointer));
        if (index < 0 || frame < regions[index].Start + StackReserve)
        {
            return false;
        }

        MemoryRegion stack = regions[index];
        if (stack.Path == "[stack]")
        {
            return true;
        }

        const MemoryAccess Private = MemoryAccess.Read | MemoryAccess.Write;
        return index > 0 && stack.Access == Private && stack.Inode == 0
            && regions[index - 1] is var guard && guard.End == stack.Start && guard.Access == MemoryAccess.None && guard.Length <= LargestGuard;
    }
}

using System.Buffers.Binary;
using System.Runtime.InteropServices;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>
/// Runs single instructions on this machine's processor: loads all general registers, the status flags and xmm0, executes, and captures
/// them again together with where the instruction went. The oracle of the emulator.
/// </summary>
/// <remarks>
/// One mapping in the low 2 GiB, so that absolute and 32-bit addresses reach it: code, state, a data window and a stack window, the
/// latter with room below it for a signal's frame. Not thread-safe.
/// </remarks>
internal sealed unsafe partial class NativeRunner : IDisposable
{
    public const int WindowLength = 4096;
    private const int MapLength = 0x100000;
    private const int StateOffset = 0x10000;
    private const int DataOffset = 0x20000;
    private const int StackOffset = 0xe0000;
    private const int InstructionOffset = 0x4000;
    private const int HarnessOffset = 0x0;
    private const int CaptureFallOffset = 0x1000;
    private const int CaptureTargetOffset = 0x1400;
    private const int FarTargetOffset = 0x6000;

    // The state block: 16 registers in encoding order, then these.
    private const int FlagsSlot = 16 * 8;
    private const int EntrySlot = 17 * 8;
    private const int HostStackSlot = 18 * 8;
    private const int WhereSlot = 19 * 8;
    private const int VectorSlot = 20 * 8;

    private static readonly X64Register[] s_order =
    [
        X64Register.Rax, X64Register.Rcx, X64Register.Rdx, X64Register.Rbx, X64Register.Rsp, X64Register.Rbp, X64Register.Rsi, X64Register.Rdi,
        X64Register.R8, X64Register.R9, X64Register.R10, X64Register.R11, X64Register.R12, X64Register.R13, X64Register.R14, X64Register.R15,
    ];

    private readonly byte* _map;

    public NativeRunner()
    {
        _map = (byte*)Map(MapLength, low: true);
        BuildHarness();
        BuildCapture(CaptureFallOffset, 1);
        BuildCapture(CaptureTargetOffset, 2);
        WriteJump(_map + FarTargetOffset, _map + CaptureTargetOffset);
    }

    /// <summary>The general registers in the order in which instructions encode them.</summary>
    public static ReadOnlySpan<X64Register> EncodingOrder => s_order;

    /// <summary>Where the instruction under test stands.</summary>
    public ulong InstructionAddress => (ulong)_map + InstructionOffset;

    /// <summary>A place for a slot, in reach of everything.</summary>
    public ulong SlotAddress => (ulong)_map + 0x8000;

    /// <summary>A branch target in reach of rel32.</summary>
    public ulong FarTarget => (ulong)_map + FarTargetOffset;

    /// <summary>Code that ends <see cref="Run"/> as if the instruction had gone on to the next.</summary>
    public ulong CaptureAddress => (ulong)_map + CaptureFallOffset;

    public ulong DataAddress => (ulong)_map + DataOffset;

    public ulong StackAddress => (ulong)_map + StackOffset;

    public Span<byte> Data => new(_map + DataOffset, WindowLength);

    public Span<byte> Stack => new(_map + StackOffset, WindowLength);

    /// <summary>xmm0 before and after <see cref="Run"/>.</summary>
    public Span<byte> Vector => new(_map + StateOffset + VectorSlot, 16);

    /// <summary>Maps executable memory: in the low 2 GiB, or far from it.</summary>
    public static nint Map(int length, bool low)
    {
        const int ReadWriteExecute = 7;
        const int PrivateAnonymous = 0x22;
        nint map = mmap(0, (nuint)length, ReadWriteExecute, PrivateAnonymous | (low ? 0x40 : 0), -1, 0);
        Assert.That(map, Is.Not.EqualTo((nint)(-1)), "mmap failed");
        return map;
    }

    public static void Unmap(nint map, int length) =>
        Assert.That(munmap(map, (nuint)length), Is.Zero, "munmap failed");

    /// <summary>Puts the instruction at its address, and a capture behind it.</summary>
    public void Place(ReadOnlySpan<byte> instruction)
    {
        byte* code = _map + InstructionOffset;
        new Span<byte>(code - 0x100, 0x200).Fill(0xcc);
        instruction.CopyTo(new Span<byte>(code, 16));
        WriteJump(code + instruction.Length, _map + CaptureFallOffset);
    }

    /// <summary>Makes a short branch's target a capture; it must be clear of the instruction and of what follows it.</summary>
    public void PlaceTarget(ulong address) => WriteJump((byte*)address, _map + CaptureTargetOffset);

    /// <summary>
    /// Runs from <paramref name="entry"/> until a capture; changes the registers accordingly. The program counter becomes
    /// <paramref name="next"/> or <paramref name="target"/>, by which of the captures was reached.
    /// </summary>
    public void Run(ref RegisterSet registers, ulong entry, ulong next, ulong target)
    {
        ulong* state = (ulong*)(_map + StateOffset);
        for (int i = 0; i < s_order.Length; i++)
        {
            state[i] = registers[s_order[i]];
        }

        state[FlagsSlot / 8] = registers[X64Register.Eflags];
        state[EntrySlot / 8] = entry;
        state[WhereSlot / 8] = 0;
        ((delegate* unmanaged<void*, void>)(_map + HarnessOffset))(state);
        for (int i = 0; i < s_order.Length; i++)
        {
            registers[s_order[i]] = state[i];
        }

        registers[X64Register.Eflags] = state[FlagsSlot / 8];
        registers[X64Register.Rip] = state[WhereSlot / 8] switch
        {
            1 => next,
            2 => target,
            _ => throw new InvalidOperationException("no capture was reached"),
        };
    }

    /// <summary>This thread's fs base, which the C library keeps at fs:0. gs is zero in programs.</summary>
    public ulong ReadFsBase()
    {
        RegisterSet registers = new(Architecture.X64);
        registers[X64Register.Rsp] = StackAddress;
        registers[X64Register.Eflags] = 0x202;
        Place([0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]);
        Run(ref registers, InstructionAddress, 0, 0);
        return registers[X64Register.Rax];
    }

    public void Dispose() => Unmap((nint)_map, MapLength);

    private static void WriteJump(byte* at, byte* target)
    {
        *at = 0xe9;
        BinaryPrimitives.WriteInt32LittleEndian(new Span<byte>(at + 1, 4), (int)(target - (at + 5)));
    }

    private void BuildHarness()
    {
        Code code = new(_map + HarnessOffset, _map + StateOffset);
        code.Bytes(0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57); // push rbx, rbp, r12 ... r15
        code.Relative([0x48, 0x89, 0x25], HostStackSlot); // mov [host], rsp
        code.Relative([0x0f, 0x10, 0x05], VectorSlot); // movups xmm0, [vector]
        code.Relative([0xff, 0x35], FlagsSlot); // push [flags]
        code.Bytes(0x9d); // popfq
        for (int i = 0; i < 16; i++)
        {
            code.Relative([(byte)(i < 8 ? 0x48 : 0x4c), 0x8b, (byte)(0x05 | ((i & 7) << 3))], i * 8); // mov reg, [state]
        }

        code.Relative([0xff, 0x25], EntrySlot); // jmp [entry]
    }

    private void BuildCapture(int offset, byte where)
    {
        Code code = new(_map + offset, _map + StateOffset);
        for (int i = 0; i < 16; i++)
        {
            code.Relative([(byte)(i < 8 ? 0x48 : 0x4c), 0x89, (byte)(0x05 | ((i & 7) << 3))], i * 8); // mov [state], reg
        }

        code.Relative([0x48, 0x8b, 0x25], HostStackSlot); // mov rsp, [host]
        code.Bytes(0x9c); // pushfq
        code.Relative([0x8f, 0x05], FlagsSlot); // pop [flags]
        code.Bytes(0xfc); // cld
        code.Relative([0x0f, 0x11, 0x05], VectorSlot); // movups [vector], xmm0
        code.Bytes(0xb8, where, 0, 0, 0); // mov eax, where
        code.Relative([0x48, 0x89, 0x05], WhereSlot); // mov [where], rax
        code.Bytes(0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3); // pop r15 ... rbx; ret
    }

    [LibraryImport("libc")]
    private static partial nint mmap(nint address, nuint length, int protection, int flags, int fd, nint offset);

    [LibraryImport("libc")]
    private static partial int munmap(nint address, nuint length);

    private struct Code(byte* at, byte* state)
    {
        private byte* _at = at;
        private readonly byte* _state = state;

        public void Bytes(params ReadOnlySpan<byte> bytes)
        {
            bytes.CopyTo(new Span<byte>(_at, bytes.Length));
            _at += bytes.Length;
        }

        public void Relative(ReadOnlySpan<byte> opcode, int slot)
        {
            Bytes(opcode);
            *(int*)_at = (int)(_state + slot - (_at + 4));
            _at += 4;
        }
    }
}

using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using FastTrap.Native;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;
using FastTrap.Tests.Isa;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Runs generated code on this machine's processor, in this process: all general registers, flags, vector registers and MXCSR are loaded before it and captured behind it.</summary>
/// <remarks>One mapping in the low 2 GiB, so that all of it can be named by 32 bits. Runs on the thread that made it.</remarks>
internal sealed unsafe partial class X64BodyMachine : IBodyMachine, IDisposable
{
    private const int LaneCount = 8;
    private const int RingLength = 1024;
    private const int PageLength = 4096;
    private const int MapLength = 0x80000;
    private const int CallerOffset = 0;
    private const int CaptureOffset = 0x800;
    private const int LoopOffset = 0x1000;
    private const int ThreadPointerOffset = 0x1800;
    private const int StateOffset = 0x2000;
    private const int DataOffset = 0x4000;
    private const int DataLength = 2 * PageLength;
    private const int CodeOffset = 0x8000;
    private const int StackOffset = 0x40000;
    private const int StackLength = 2 * PageLength;
    private const int RegionOffset = 0x50000;
    private const int CountersLength = 1100 * sizeof(ulong);

    private const int NestedOffset = 0x28000;
    private const int PendingSlot = 0x800;
    private const int FlagsSlot = 128;
    private const int EntrySlot = 136;
    private const int HostStackSlot = 144;
    private const int HostMxcsrSlot = 152;
    private const int VectorSlot = 256;
    private const int MxcsrSlot = VectorSlot + (16 * 32);

    private readonly byte* _map = (byte*)NativeRunner.Map(MapLength, low: true);
    private readonly bool _hasAvx = Avx.IsSupported;

    /// <param name="hasThreadPointerWord">Whether code takes the thread pointer from fs:0, and not from the processor.</param>
    public X64BodyMachine(bool hasThreadPointerWord = true)
    {
        Assemble(CallerOffset, BuildCaller);
        Assemble(CaptureOffset, BuildCapture);
        Assemble(LoopOffset, BuildLoop);

        // Nothing is behind the data.
        NativeRunner.Unmap((nint)(_map + DataOffset + DataLength), PageLength);
        ThreadPointer = ReadThreadPointer();
        Target = new ProgramTarget
        {
            Architecture = Architecture.X64,
            Layout = new LaneLayout(CountersLength, RingLength, LaneCount),
            RegionAddress = (ulong)(_map + RegionOffset),
            ProcessId = Environment.ProcessId + 1_000_000,
            OwnProcessId = Environment.ProcessId,
            AllowsSystemCalls = true,
            HasReadFsBase = Auxv.TryRead(LinuxPlatform.Instance, Environment.ProcessId, out Auxv auxv, out _) && auxv.HasReadFsBase,
            HasThreadPointerWord = hasThreadPointerWord,
        };
        Guard = 1;
    }

    public Architecture Architecture => Architecture.X64;

    public ProgramTarget Target { get; }

    public Span<byte> Lanes => new((byte*)Target.LanesAddress, (int)((LaneCount + 1) * Target.Layout.LaneStride));

    public ref byte Guard => ref *(byte*)Target.GuardAddress;

    public ulong ThreadPointer { get; }

    public int ThreadId => gettid();

    public ulong StackAddress => (ulong)(_map + StackOffset);

    public Span<byte> Stack => new(_map + StackOffset, StackLength);

    public ulong DataAddress => (ulong)(_map + DataOffset);

    public Span<byte> Data => new(_map + DataOffset, DataLength);

    public Span<byte> Vectors => new(_map + StateOffset + VectorSlot, (16 * 32) + sizeof(uint));

    public int VectorLength => 32;

    public int RedZone => 128;

    public bool WasInterrupted => *(int*)(_map + StateOffset + PendingSlot) <= 0;

    public void Place(CompiledBody body, in BodySite site)
    {
        byte* at = _map + CodeOffset;
        body.Write(new Span<byte>(at, body.Length), site);
        at[body.Length] = 0xe9;
        *(int*)(at + body.Length + 1) = (int)(_map + CaptureOffset - (at + body.Length + 5));
    }

    /// <summary>A call is put in front of the instruction, and also where branches to it lead.</summary>
    public bool TryPlaceInterrupted(CompiledBody body, in BodySite site, CompiledBody handler, in BodySite handlerSite, int instruction)
    {
        byte[] code = new byte[body.Length];
        body.Write(code, site);
        ulong start = (ulong)(_map + CodeOffset);
        List<Instruction> instructions = [];
        for (Decoder decoder = Decoder.Create(64, code, start); decoder.IP != start + (ulong)code.Length;)
        {
            instructions.Add(decoder.Decode());
        }

        if (instruction >= instructions.Count)
        {
            return false;
        }

        Instruction here = instructions[instruction];
        ulong own = start + 0x10_0000;
        ulong pending = (ulong)(_map + StateOffset + PendingSlot);
        Instruction[] call =
        [
            Instruction.Create(Code.Lea_r64_m, Iced.Intel.Register.RSP, new MemoryOperand(Iced.Intel.Register.RSP, -RedZone)),
            Instruction.Create(Code.Pushfq),
            Instruction.Create(Code.Dec_rm32, new MemoryOperand(Iced.Intel.Register.None, Iced.Intel.Register.None, 1, (long)pending, 4)),
            Instruction.CreateBranch(Code.Jne_rel32_64, own + 5),
            Instruction.CreateBranch(Code.Call_rel32_64, (ulong)(_map + NestedOffset)),
            Instruction.Create(Code.Popfq),
            Instruction.Create(Code.Lea_r64_m, Iced.Intel.Register.RSP, new MemoryOperand(Iced.Intel.Register.RSP, RedZone)),
        ];
        for (int i = 0; i < call.Length; i++)
        {
            call[i].IP = i == 0 ? here.IP : own + (ulong)i;
        }

        here.IP = own + (ulong)call.Length;
        instructions[instruction] = here;
        instructions.InsertRange(instruction, call);
        Instruction leave = Instruction.CreateBranch(Code.Jmp_rel32_64, (ulong)(_map + CaptureOffset));
        leave.IP = own + 100;
        instructions.Add(leave);
        using UnmanagedMemoryStream stream = new(_map + CodeOffset, NestedOffset - CodeOffset, NestedOffset - CodeOffset, FileAccess.Write);
        Assert.That(BlockEncoder.TryEncode(64, new InstructionBlock(new StreamCodeWriter(stream), instructions, start), out string? error, out _), error);
        handler.Write(new Span<byte>(_map + NestedOffset, handler.Length), handlerSite);
        _map[NestedOffset + handler.Length] = 0xc3;
        return true;
    }

    public void Run(ref RegisterSet registers)
    {
        ulong* state = (ulong*)(_map + StateOffset);
        *(int*)(_map + StateOffset + PendingSlot) = 1;
        ReadOnlySpan<X64Register> order = NativeRunner.EncodingOrder;
        for (int i = 0; i < order.Length; i++)
        {
            state[i] = registers[order[i]];
        }

        state[FlagsSlot / 8] = registers[X64Register.Eflags];
        state[EntrySlot / 8] = (ulong)(_map + CodeOffset);
        ((delegate* unmanaged<void>)(_map + CallerOffset))();
        for (int i = 0; i < order.Length; i++)
        {
            registers[order[i]] = state[i];
        }

        registers[X64Register.Eflags] = state[FlagsSlot / 8];
    }

    /// <summary>Executes what is placed as often as asked, from a harmless state; gives the ticks it took.</summary>
    public ulong Repeat(int count) => ((delegate* unmanaged<int, ulong>)(_map + LoopOffset))(count);

    /// <summary>As <see cref="Place"/>, but as a function, which returns.</summary>
    public void PlaceFunction(ReadOnlySpan<byte> code)
    {
        code.CopyTo(new Span<byte>(_map + CodeOffset, code.Length));
        _map[CodeOffset + code.Length] = 0xc3;
    }

    public bool TryRead(ulong address, scoped Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            // The kernel is the oracle for what can be read.
            Vector local = new(bytes, (nuint)buffer.Length);
            Vector remote = new((void*)address, (nuint)buffer.Length);
            return process_vm_readv(Environment.ProcessId, &local, 1, &remote, 1, 0) == buffer.Length;
        }
    }

    public bool TryWrite(ulong address, ReadOnlySpan<byte> data) => throw new InvalidOperationException("Programs write nothing.");

    public void Dispose() => NativeRunner.Unmap((nint)_map, MapLength);

    private static void Write(Assembler assembler, byte* at)
    {
        using UnmanagedMemoryStream stream = new(at, 0x800, 0x800, FileAccess.Write);
        assembler.Assemble(new StreamCodeWriter(stream), (ulong)at);
    }

    private void Assemble(int offset, Action<Assembler> build)
    {
        Assembler assembler = new(64);
        build(assembler);
        Write(assembler, _map + offset);
    }

    private AssemblerMemoryOperand State(int offset) => __qword_ptr[(ulong)(_map + StateOffset + offset)];

    private static AssemblerRegister64 Register(int number) => new(Iced.Intel.Register.RAX + number);

    private void BuildLoop(Assembler c)
    {
        Label again = c.CreateLabel();
        c.push(rbx);
        c.push(r12);
        c.mov(ebx, edi);
        c.rdtsc();
        c.shl(rdx, 32);
        c.or(rax, rdx);
        c.mov(r12, rax);
        c.Label(ref again);
        c.call((ulong)(_map + CodeOffset));
        c.dec(ebx);
        c.jne(again);
        c.rdtsc();
        c.shl(rdx, 32);
        c.or(rax, rdx);
        c.sub(rax, r12);
        c.pop(r12);
        c.pop(rbx);
        c.ret();
    }

    private void BuildCaller(Assembler c)
    {
        foreach (AssemblerRegister64 register in (AssemblerRegister64[])[rbx, rbp, r12, r13, r14, r15])
        {
            c.push(register);
        }

        c.mov(State(HostStackSlot), rsp);
        c.stmxcsr(State(HostMxcsrSlot));
        c.ldmxcsr(State(MxcsrSlot));
        for (int i = 0; i < 16; i++)
        {
            if (_hasAvx)
            {
                c.vmovdqu(new AssemblerRegisterYMM(Iced.Intel.Register.YMM0 + i), State(VectorSlot + (32 * i)));
            }
            else
            {
                c.movdqu(new AssemblerRegisterXMM(Iced.Intel.Register.XMM0 + i), State(VectorSlot + (32 * i)));
            }
        }

        c.push(State(FlagsSlot));
        c.popfq();
        for (int i = 0; i < 16; i++)
        {
            c.mov(Register(i), State(i * 8));
        }

        c.jmp(State(EntrySlot));
    }

    private void BuildCapture(Assembler c)
    {
        for (int i = 0; i < 16; i++)
        {
            c.mov(State(i * 8), Register(i));
        }

        c.mov(rsp, State(HostStackSlot));
        c.pushfq();
        c.pop(State(FlagsSlot));
        c.cld();
        for (int i = 0; i < 16; i++)
        {
            if (_hasAvx)
            {
                c.vmovdqu(State(VectorSlot + (32 * i)), new AssemblerRegisterYMM(Iced.Intel.Register.YMM0 + i));
            }
            else
            {
                c.movdqu(State(VectorSlot + (32 * i)), new AssemblerRegisterXMM(Iced.Intel.Register.XMM0 + i));
            }
        }

        c.stmxcsr(State(MxcsrSlot));
        c.ldmxcsr(State(HostMxcsrSlot));
        if (_hasAvx)
        {
            c.vzeroupper();
        }

        foreach (AssemblerRegister64 register in (AssemblerRegister64[])[r15, r14, r13, r12, rbp, rbx])
        {
            c.pop(register);
        }

        c.ret();
    }

    private ulong ReadThreadPointer()
    {
        Assembler c = new(64);
        c.mov(rax, __qword_ptr.fs[0]);
        c.ret();
        Write(c, _map + ThreadPointerOffset);
        return ((delegate* unmanaged<ulong>)(_map + ThreadPointerOffset))();
    }

    private readonly struct Vector(void* start, nuint length)
    {
        public readonly void* Start = start;
        public readonly nuint Length = length;
    }

    [LibraryImport("libc")]
    private static partial nint process_vm_readv(int pid, Vector* local, nuint localCount, Vector* remote, nuint remoteCount, nuint flags);

    [LibraryImport("libc")]
    private static partial int gettid();
}

using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;
using FastTrap.Tests.Isa.Arm64;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Runs generated code on Unicorn; its system calls are answered here.</summary>
internal sealed unsafe class Arm64BodyMachine : IBodyMachine, IDisposable
{
    private const int LaneCount = 8;
    private const int RingLength = 1024;
    private const int CountersLength = 1100 * sizeof(ulong);
    private const ulong SetupStart = 0x10_0000;
    private const ulong CodeStart = 0x40_0000_0000;
    private const ulong HandlerStart = CodeStart + (CodeLength / 2);
    private const int CodeLength = 0x4_0000;
    private const ulong DataStart = 0x50_0000_0000;
    private const int DataLength = 8192;
    private const ulong StackStart = 0x7f_0000_0000;
    private const int StackLength = 0x1_0000;
    private const int StackOffset = 0x8000;
    private const ulong RegionStart = 0x60_0000_0000;
    private const uint SystemCall = 0xd400_0001;
    private const uint EndCall = 0xd400_0021;
    private const int SetupInstructions = 3;
    private const int NoInterruption = -1;

    private readonly UnicornMachine _machine = new();
    private readonly byte* _setup;
    private readonly byte* _code;
    private readonly byte* _data;
    private readonly byte* _stack;
    private readonly byte* _region;
    private readonly byte[] _vectors = new byte[(Arm64State.VectorCount * 16) + 8];
    private int _length;
    private int _handlerLength;
    private int _interruptAt = NoInterruption;

    public Arm64BodyMachine()
    {
        Target = new ProgramTarget
        {
            Architecture = Architecture.Arm64,
            Layout = new LaneLayout(CountersLength, RingLength, LaneCount),
            RegionAddress = RegionStart,
            ProcessId = 1_000_000,
            OwnProcessId = 77,
            ThreadIdOffset = -16,
            AllowsSystemCalls = true,
        };
        _setup = Map(SetupStart, 4096, true);
        _code = Map(CodeStart, CodeLength, true);
        _data = Map(DataStart, DataLength, false);
        _stack = Map(StackStart, StackLength, false);
        _region = Map(RegionStart, (int)Target.Layout.TargetLength, false);

        // msr tpidr_el0, x0; msr fpcr, x1; msr fpsr, x2; and the other way round.
        uint[] setup = [0xd51b_d040, 0xd51b_4401, 0xd51b_4422, 0xd53b_d040, 0xd53b_4401, 0xd53b_4422];
        MemoryMarshal.AsBytes(setup.AsSpan()).CopyTo(new Span<byte>(_setup, 4096));
        Guard = 1;

        // The thread's control block is in the region's header, which no code looks at.
        ThreadPointer = RegionStart + 64 + 2048;
        BinaryPrimitives.WriteInt32LittleEndian(new Span<byte>(_region + 64 + 2048 - 16, sizeof(int)), ThreadId);
    }

    public Architecture Architecture => Architecture.Arm64;

    public ProgramTarget Target { get; }

    public Span<byte> Lanes => new(_region + LaneLayout.RegionHeaderLength, (int)((LaneCount + 1) * Target.Layout.LaneStride));

    public ref byte Guard => ref _region[Target.Layout.GuardOffset];

    public ulong ThreadPointer { get; }

    public int ThreadId => 4711;

    public ulong StackAddress => StackStart + StackOffset;

    public Span<byte> Stack => new(_stack + StackOffset, 8192);

    public ulong DataAddress => DataStart;

    public Span<byte> Data => new(_data, DataLength);

    public Span<byte> Vectors => _vectors;

    public int VectorLength => 16;

    public int RedZone => 0;

    public bool WasInterrupted { get; private set; }

    public void Place(CompiledBody body, in BodySite site)
    {
        _machine.Changed(CodeStart, Math.Max(_length, body.Length) + sizeof(uint));
        body.Write(new Span<byte>(_code, body.Length), site);
        _length = body.Length;

        // Where a run ends that was to be interrupted at an instruction to which it does not come.
        BinaryPrimitives.WriteUInt32LittleEndian(new Span<byte>(_code + _length, sizeof(uint)), EndCall);
        _interruptAt = NoInterruption;
    }

    public bool TryPlaceInterrupted(CompiledBody body, in BodySite site, CompiledBody handler, in BodySite handlerSite, int instruction)
    {
        Place(body, site);
        _machine.Changed(HandlerStart, Math.Max(_handlerLength, handler.Length) + sizeof(uint));
        handler.Write(new Span<byte>(_code + (CodeLength / 2), handler.Length), handlerSite);
        _handlerLength = handler.Length;
        _interruptAt = instruction;
        return instruction < body.Length / sizeof(uint);
    }

    public void Run(ref RegisterSet registers)
    {
        Arm64State state = default;
        SetUp(SetupStart, [ThreadPointer, BinaryPrimitives.ReadUInt32LittleEndian(_vectors.AsSpan(^8)), BinaryPrimitives.ReadUInt32LittleEndian(_vectors.AsSpan(^4))]);
        state.Take(registers);
        for (int i = 0; i < Arm64State.VectorCount * 2; i++)
        {
            state.Vectors[i] = BinaryPrimitives.ReadUInt64LittleEndian(_vectors.AsSpan(i * 8));
        }

        ulong end = CodeStart + (ulong)_length;
        state.Pc = CodeStart;
        if (_interruptAt > 0)
        {
            Execute(ref state, CodeStart + (ulong)(_interruptAt * sizeof(uint)));
        }

        WasInterrupted = _interruptAt >= 0 && state.Pc != end;
        if (WasInterrupted)
        {
            Interrupt(state);
        }

        if (state.Pc != end)
        {
            Execute(ref state, end);
        }

        state.Pc = registers.ProgramCounter;
        RegisterSet after = state.ToRegisterSet();
        after[Arm64Register.Pstate] = state.Words[32];
        registers = after;
        for (int i = 0; i < Arm64State.VectorCount * 2; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_vectors.AsSpan(i * 8), state.Vectors[i]);
        }

        ReadOnlySpan<ulong> control = SetUp(SetupStart + (SetupInstructions * sizeof(uint)), [0, 0, 0]);
        BinaryPrimitives.WriteUInt32LittleEndian(_vectors.AsSpan(^8), (uint)control[1]);
        BinaryPrimitives.WriteUInt32LittleEndian(_vectors.AsSpan(^4), (uint)control[2]);
    }

    public bool TryRead(ulong address, scoped Span<byte> buffer)
    {
        byte* found = address - DataStart <= (ulong)(DataLength - buffer.Length) ? _data + (address - DataStart)
            : address - StackStart <= (ulong)(StackLength - buffer.Length) ? _stack + (address - StackStart)
            : null;
        if (found != null)
        {
            new Span<byte>(found, buffer.Length).CopyTo(buffer);
        }

        return found != null;
    }

    public bool TryWrite(ulong address, ReadOnlySpan<byte> data) => throw new InvalidOperationException("Programs write nothing.");

    public void Dispose() => _machine.Dispose();

    private byte* Map(ulong address, int length, bool isCode) => (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(_machine.Map(address, length, isCode)));

    /// <summary>Runs the handler on the interrupted thread's stack, from the interrupted state; all of its registers come back.</summary>
    private void Interrupt(in Arm64State state)
    {
        Arm64State nested = state;
        nested.Words[31] -= 1024;
        nested.Pc = HandlerStart;
        Arm64State before = nested;
        Execute(ref nested, HandlerStart + (ulong)_handlerLength);
        before.Pc = nested.Pc;
        Assert.That(nested.DifferenceFrom(before), Is.Empty);
    }

    private ulong[] SetUp(ulong start, ulong[] values)
    {
        Arm64State state = default;
        for (int i = 0; i < values.Length; i++)
        {
            state.Words[i] = values[i];
        }

        state.Pc = start;
        Assert.That(_machine.Run(ref state, start + (SetupInstructions * sizeof(uint))), Is.Zero);
        return [state.Words[0], state.Words[1], state.Words[2]];
    }

    /// <summary>Executes to an address, or to the end of the code.</summary>
    private void Execute(ref Arm64State state, ulong until)
    {
        while (_machine.Run(ref state, until) is var error && error != 0)
        {
            uint call = CodeWord(state.Pc - sizeof(uint));
            bool isBehind = call is SystemCall or EndCall;
            call = isBehind ? call : CodeWord(state.Pc);
            Assert.That(error == UnicornMachine.Exception && call is SystemCall or EndCall, $"error {error} at {state.Pc:x}");
            if (call == EndCall)
            {
                state.Pc = CodeStart + (ulong)_length;
                return;
            }

            state.Words[0] = Answer(state);
            state.Pc += isBehind ? 0UL : sizeof(uint);
        }

        Assert.That(state.Pc, Is.EqualTo(until));
    }

    private uint CodeWord(ulong address) => BitConverter.ToUInt32(new ReadOnlySpan<byte>(_code + (address - CodeStart), sizeof(uint)));

    private ulong Answer(in Arm64State state)
    {
        const int GetThreadId = 178;
        const int ProcessVmReadv = 270;
        if (state.Words[8] == GetThreadId)
        {
            return (ulong)ThreadId;
        }

        Assert.That((state.Words[8], state.Words[0], state.Words[2], state.Words[4], state.Words[5]), Is.EqualTo(((ulong)ProcessVmReadv, (ulong)Target.OwnProcessId, 1UL, 1UL, 0UL)));
        ulong local = StackWord(state.Words[1]);
        ulong length = StackWord(state.Words[1] + 8);
        Assert.That(StackWord(state.Words[3] + 8), Is.EqualTo(length));
        byte* into = local - RegionStart < (ulong)Target.Layout.TargetLength ? _region + (local - RegionStart) : _stack + (local - StackStart);

        // As the kernel does it: page by page, as far as there are any.
        ulong from = StackWord(state.Words[3]);
        ulong read = 0;
        while (read < length)
        {
            ulong chunk = Math.Min(length - read, 4096 - ((from + read) % 4096));
            if (!TryRead(from + read, new Span<byte>(into + read, (int)chunk)))
            {
                break;
            }

            read += chunk;
        }

        return read != 0 ? read : unchecked((ulong)-14L);
    }

    private ulong StackWord(ulong address) => *(ulong*)(_stack + (address - StackStart));
}

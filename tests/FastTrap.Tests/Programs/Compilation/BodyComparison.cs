using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;
using FastTrap.Usdt;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Runs random programs from random states as code and by the interpreter, and compares what comes of them and that nothing else changed.</summary>
internal sealed partial class BodyComparison(IBodyMachine machine, Random random)
{
    private const int StatesOfAProgram = 25;
    private const uint StatusFlags = 0x8d5;
    private const ulong DirectionFlag = 0x400;

    private readonly int _stride = (int)machine.Target.Layout.LaneStride;
    private readonly RandomPrograms _programs = new(random, machine);
    private readonly byte[] _stackBefore = new byte[machine.Stack.Length];
    private readonly byte[] _vectorsBefore = new byte[machine.Vectors.Length];
    private readonly ulong[] _values = new ulong[ProbeProgram.MaximumLength];
    private readonly bool[] _valid = new bool[ProbeProgram.MaximumLength];

    /// <summary>Cases that were compared.</summary>
    public int Cases { get; private set; }

    /// <summary>Cases whose filter passed.</summary>
    public int Passed { get; private set; }

    /// <summary>Outputs that were invalid.</summary>
    public int Invalid { get; private set; }

    /// <summary>Texts and stacks that were there.</summary>
    public int Texts { get; private set; }

    /// <summary>Frames of stacks.</summary>
    public int Frames { get; private set; }

    /// <summary>Why programs were not compiled.</summary>
    public Dictionary<ProgramNotCompilable, int> Refused { get; } = [];

    /// <summary>Compares so many programs.</summary>
    public static void Run(IBodyMachine machine, int seed, int programs)
    {
        BodyComparison comparison = new(machine, new Random(seed));
        for (int i = 0; i < programs; i++)
        {
            Assert.That(comparison.CompareNext(), Is.Null, $"program {i}, seed {seed}");
        }

        TestContext.Out.WriteLine(
            $"{comparison.Cases} cases, {comparison.Passed} passed the filter, {comparison.Invalid} invalid outputs, {comparison.Texts} texts, {comparison.Frames} frames; refused: {string.Join(", ", comparison.Refused)}");
        Assert.That(comparison.Cases, Is.GreaterThan(programs * 20));
        Assert.That(comparison.Passed, Is.GreaterThan(comparison.Cases / 4));
        Assert.That(comparison.Invalid, Is.GreaterThan(programs / 4));
        Assert.That(comparison.Texts, Is.GreaterThan(programs / 2));
        Assert.That(comparison.Frames, Is.GreaterThan(comparison.Texts));
    }

    /// <summary>Compares one program from some states; null if all is equal.</summary>
    public string? CompareNext()
    {
        ProgramAction action = NextAction();
        ProbeProgram program = _programs.Next(random.Next(1, random.Next(8) == 0 ? 90 : 18), action.OutputCount ?? random.Next(1, 6));
        if (action.OutputCount == 1 && program.Instructions[program.Outputs[0]].Type == ProgramType.Double)
        {
            // The bits of what is no number differ from processor to processor; records are compared with regard to that.
            action = ProgramAction.Record;
        }

        if (action.Kind == ProgramActionKind.Record && random.Next(3) == 0)
        {
            action = ProgramAction.RecordWith(NextTexts(program));
        }

        ArgumentSources sources = _programs.NextSources();
        ProgramTarget target = machine.Target with
        {
            ThreadIdOffset = random.Next(2) == 0 ? machine.Target.ThreadIdOffset : null,
            Ticks = action.Kind == ProgramActionKind.Latency ? new TickScale(0, 1UL << 32, 0) : null,
        };
        if (!new ProgramCompiler(program, action, target).TryCompile(sources, out CompiledBody? body, out ProgramNotCompilable reason))
        {
            Refused[reason] = Refused.GetValueOrDefault(reason) + 1;
            return null;
        }

        BodySite site = new((uint)random.Next(), (ulong)random.NextInt64(), 0);
        site = site with { FunctionAddress = site.Address - (ulong)(random.Next(3) == 0 ? 0 : random.Next()) };
        machine.Place(body, site);
        for (int i = 0; i < StatesOfAProgram; i++)
        {
            if (CompareState(program, action, sources, site, body) is { } difference)
            {
                return $"{difference}\n{action.Kind} {string.Join("\n", program.Instructions.ToArray().Select((p, n) => $"{n}: {p}"))}\nfilter {program.Filter}, outputs {string.Join(' ', program.Outputs.ToArray())}";
            }
        }

        return null;
    }

    private string? CompareState(ProbeProgram program, ProgramAction action, ArgumentSources sources, in BodySite site, CompiledBody body)
    {
        RegisterSet before = NextState();
        bool isGuarded = random.Next(50) == 0;
        machine.Guard = (byte)(isGuarded ? 0 : 1);
        int lane = PrepareLanes();
        machine.Stack.CopyTo(_stackBefore);
        machine.Vectors.CopyTo(_vectorsBefore);
        RegisterSet after = before;
        machine.Run(ref after);
        Cases++;

        int changed = before.Words.SequenceCompareTo(after.Words) == 0 ? -1 : before.Words.CommonPrefixLength(after.Words);
        if (changed >= 0)
        {
            return $"register {changed}: {before.Words[changed]:x} became {after.Words[changed]:x}";
        }

        int kept = (int)(before.StackPointer - machine.StackAddress) - machine.RedZone;
        if (!machine.Stack[kept..].SequenceEqual(_stackBefore.AsSpan(kept)))
        {
            return "the stack or the red zone changed";
        }

        if (!machine.Vectors.SequenceEqual(_vectorsBefore))
        {
            return $"vector byte {machine.Vectors.CommonPrefixLength(_vectorsBefore)} changed";
        }

        Input input = new(machine, sources, before, site);
        bool passes = ProgramInterpreter.Run(program, input, _values, _valid) && !isGuarded;
        Passed += passes ? 1 : 0;
        Span<byte> own = machine.Lanes.Slice(lane * _stride, _stride);
        string? difference = action.Kind == ProgramActionKind.Record
            ? CompareRecord(own, program, action, passes, before, sources.IsReturn, site, body)
            : action.Kind == ProgramActionKind.Latency
                ? CompareCalls(MemoryMarshal.Cast<byte, ulong>(own[LaneLayout.CountersStart..machine.Target.Layout.RingStart]), passes, isGuarded, sources.IsReturn, lane == machine.Target.Layout.LaneCount, before.StackPointer, site)
            : CompareCounters(own[LaneLayout.CountersStart..machine.Target.Layout.RingStart], action, program, passes);
        own[8..].Clear();
        return difference ?? (machine.Lanes.IndexOfAnyExcept((byte)0) is int other and >= 0 && !AreOwnersOnly() ? $"lanes changed at {other:x}" : null);
    }

    private string? CompareCounters(Span<byte> counters, ProgramAction action, ProbeProgram program, bool passes)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(counters);
        ulong[] expected = new ulong[words.Length];
        bool isValid = action.Kind == ProgramActionKind.Count || _valid[program.Outputs[0]];
        if (passes && !isValid)
        {
            expected[action.Keys is null ? action.CounterCount - 1 : KeyTable.IncompleteWord] = 1;
            Invalid++;
        }
        else if (passes && action.Keys is { } keys)
        {
            keys.Add(expected, _values[program.Outputs[0]]);
        }
        else if (passes && action.Kind == ProgramActionKind.Count)
        {
            expected[0] = 1;
        }
        else if (passes)
        {
            ulong value = _values[program.Outputs[0]];
            if (action.Kind == ProgramActionKind.Histogram)
            {
                HistogramScale scale = action.Scale.Step == 0
                    ? HistogramScale.PowersOfTwo
                    : HistogramScale.Linear(action.Scale.Least, action.Scale.Least + (action.Scale.Step * (action.Scale.Count - 2)), action.Scale.Step);
                expected[scale.IndexOf((long)value)] = 1;
            }
            else
            {
                (expected[0], expected[1], expected[2], expected[3]) = (1, value, ProgramAction.EncodeLeast((long)value), ProgramAction.EncodeGreatest((long)value));
            }
        }

        int wrong = words.CommonPrefixLength(expected);
        return wrong == words.Length ? null : $"counter {wrong} is {words[wrong]:x}, not {expected[wrong]:x}";
    }

    /// <summary>A return of a call that is not known does nothing; an entry is kept whether or not it counts.</summary>
    private static string? CompareCalls(Span<ulong> words, bool passes, bool isGuarded, bool isReturn, bool isCommon, ulong stackPointer, in BodySite site)
    {
        ulong[] expected = new ulong[words.Length];
        if (!isReturn && !isGuarded)
        {
            expected[CallStack.EntriesWord] = passes ? 1UL : 0;
            expected[CallStack.LostWord] = passes && isCommon ? 1UL : 0;
            if (!isCommon)
            {
                // The time is any that is one.
                ulong ticks = words[CallStack.CallsWord + 2];
                CallStack.Push(ref expected[CallStack.StateWord], expected.AsSpan(CallStack.CallsWord), stackPointer, site.FunctionAddress, passes ? Math.Max(ticks, 1) : 0);
            }
        }

        int wrong = words.CommonPrefixLength(expected);
        return wrong == words.Length ? null : $"word {wrong} of the calls is {words[wrong]:x}, not {expected[wrong]:x}";
    }

    private bool AreOwnersOnly()
    {
        LaneLayout lanes = machine.Target.Layout;
        for (int i = 0; i <= lanes.LaneCount; i++)
        {
            if (machine.Lanes.Slice((i * _stride) + 8, _stride - 8).IndexOfAnyExcept((byte)0) >= 0)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Makes the thread's lane its own, free, or one of others'; gives the lane which it will have.</summary>
    private int PrepareLanes()
    {
        LaneLayout lanes = machine.Target.Layout;
        machine.Lanes.Clear();
        int first = lanes.FirstLaneOf(machine.ThreadPointer);
        int others = random.Next(3) == 0 ? random.Next(lanes.LaneCount + 1) : 0;
        for (int i = 0; i < others; i++)
        {
            Owner((first + i) % lanes.LaneCount) = 42;
        }

        int lane = others == lanes.LaneCount ? lanes.LaneCount : (first + others) % lanes.LaneCount;
        if (lane != lanes.LaneCount && random.Next(2) == 0)
        {
            Owner(lane) = machine.ThreadPointer;
        }

        // The ring has been written round and round, and is clear.
        ulong position = (ulong)random.Next(1 << 20) * sizeof(ulong);
        Span<byte> own = machine.Lanes[(lane * _stride)..];
        BinaryPrimitives.WriteUInt64LittleEndian(own[LaneLayout.HeadOffset..], position);
        BinaryPrimitives.WriteUInt64LittleEndian(own[LaneLayout.TailOffset..], position);
        return lane;
    }

    private ref ulong Owner(int lane) => ref MemoryMarshal.Cast<byte, ulong>(machine.Lanes[(lane * _stride)..])[0];

    private RegisterSet NextState()
    {
        RegisterSet registers = new(machine.Architecture);
        bool isX64 = machine.Architecture == Architecture.X64;
        if (isX64)
        {
            foreach (X64Register register in Isa.NativeRunner.EncodingOrder)
            {
                registers[register] = _programs.NextValue();
            }

            registers[X64Register.Eflags] = 0x202 | ((uint)random.Next() & StatusFlags) | (random.Next(4) == 0 ? DirectionFlag : 0);
        }
        else
        {
            for (int i = 0; i <= 30; i++)
            {
                registers[Arm64Register.X0 + i] = _programs.NextValue();
            }

            registers[Arm64Register.Pstate] = (uint)random.Next(16) << 28;
        }

        registers.StackPointer = machine.StackAddress + 4096 + (ulong)(random.Next(80) * 16);
        random.NextBytes(machine.Data);
        random.NextBytes(machine.Stack);
        for (int i = 0; i < 200; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(machine.Stack[(4096 + (random.Next(500) * 8))..], _programs.NextValue());
        }

        if (random.Next(2) == 0)
        {
            NextFrames(ref registers, isX64);
        }

        int vectors = machine.Vectors.Length / machine.VectorLength * machine.VectorLength;
        random.NextBytes(machine.Vectors[..vectors]);
        for (int i = 0; i < vectors; i += machine.VectorLength)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(machine.Vectors[i..], random.Next(3) == 0
                ? BitConverter.SingleToUInt32Bits((float)_programs.NextDouble()) : BitConverter.DoubleToUInt64Bits(_programs.NextDouble()));
        }

        if (!isX64)
        {
            // FPCR: any rounding, denormals as they are or as zeros, any or the default NaN; FPSR: any status.
            BinaryPrimitives.WriteUInt32LittleEndian(machine.Vectors[vectors..], (uint)random.Next(16) << 22);
            BinaryPrimitives.WriteUInt32LittleEndian(machine.Vectors[(vectors + sizeof(uint))..], (uint)random.Next(32));
        }
        else
        {
            // Any rounding, any status, nothing unmasked; denormals as they are, or as zeros.
            BinaryPrimitives.WriteUInt32LittleEndian(machine.Vectors[vectors..], 0x1f80 | (uint)(random.Next(4) << 13) | (uint)random.Next(64) | (uint)(random.Next(2) * 0x8040));
        }

        return registers;
    }

    private ProgramAction NextAction()
    {
        switch (random.Next(8))
        {
            case 6:
                return ProgramAction.CountBy(random.Next(1, 250));
            case 7:
                return ProgramAction.Latency(16);
            case 0:
                return ProgramAction.Count;
            case 1:
                return ProgramAction.Sum;
            case 2:
                return ProgramAction.Histogram(HistogramScale.PowersOfTwo);
            case 3:
                long step = 1 + (random.NextInt64() >> random.Next(12, 62));
                long least = random.NextInt64(-1000, 1000);
                return ProgramAction.Histogram(HistogramScale.Linear(least, least + (step * random.Next(1, 1000)), step));
            default:
                return ProgramAction.Record;
        }
    }

    private static ulong Word(Span<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);

    /// <summary>The state as a hit of the interpreter.</summary>
    private readonly ref struct Input(IBodyMachine machine, ArgumentSources sources, RegisterSet registers, BodySite site) : IProgramInput
    {
        public ulong ReturnValue => registers.ReturnValue;

        public int ThreadId => machine.ThreadId;

        public int ProcessId => machine.Target.ProcessId;

        public long TimestampNs => 0;

        public ulong ProgramCounter => site.Address;

        public bool TryGetArgument(int index, out ulong value)
        {
            if (sources.IsReturn)
            {
                value = index switch
                {
                    0 => site.Address - site.FunctionAddress,
                    1 => registers.ReturnValue,
                    2 => machine.Architecture == Architecture.X64 ? registers[X64Register.Rdx] : registers[Arm64Register.X1],
                    _ => 0,
                };
                return index <= 2;
            }

            RegisterSet known = registers;
            if (machine.Architecture == Architecture.X64)
            {
                known[X64Register.FsBase] = machine.ThreadPointer;
            }

            if (sources == ArgumentSources.ForEntry(machine.Architecture))
            {
                return InstructionSet.For(machine.Architecture).TryGetArgument(known, machine, index, out value);
            }

            value = 0;
            return sources[index] is { } argument && argument.TryGetValue(known, machine, new CapturedVectors(machine), out value);
        }

        public bool TryRead(ulong address, scoped Span<byte> buffer) => machine.TryRead(address, buffer);
    }

    private sealed class CapturedVectors(IBodyMachine machine) : IVectorRegisters
    {
        public bool TryRead(int register, Span<byte> bytes)
        {
            machine.Vectors.Slice(register * machine.VectorLength, bytes.Length).CopyTo(bytes);
            return true;
        }
    }
}

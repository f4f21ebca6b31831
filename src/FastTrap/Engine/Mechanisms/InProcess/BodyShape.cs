using FastTrap.Native;
using Iced.Intel;

namespace FastTrap.Engine.Mechanisms;

/// <summary>What a compiled program has done to the stack pointer and to registers before each of its instructions, found out from the code alone: how a thread in it would look without it. x86-64. Immutable.</summary>
/// <remarks>
/// Programs are entered at their first byte and left behind their last, move the stack pointer by constants, and keep what they change in their frame. A program that does otherwise has no shape. Flags and vectors are not told of.
/// </remarks>
internal sealed class BodyShape
{
    /// <summary>Where a register is that was not changed.</summary>
    private const int InRegister = int.MaxValue;
    private const int Lost = int.MinValue;
    private const int Unknown = -1;
    private const int RegisterCount = 16;

    private static readonly X64Register[] s_registers =
    [
        X64Register.Rax, X64Register.Rcx, X64Register.Rdx, X64Register.Rbx, X64Register.Rsp, X64Register.Rbp, X64Register.Rsi, X64Register.Rdi,
        X64Register.R8, X64Register.R9, X64Register.R10, X64Register.R11, X64Register.R12, X64Register.R13, X64Register.R14, X64Register.R15,
    ];

    private readonly State?[] _states;

    private BodyShape(State?[] states) => _states = states;

    /// <summary>Looks at a program; null if it is none that is understood.</summary>
    public static BodyShape? Analyse(ReadOnlySpan<byte> body)
    {
        Dictionary<int, Instruction> instructions = Decode(body.ToArray());
        State?[] states = new State?[body.Length + 1];
        states[0] = State.Start();
        Queue<int> open = new([0]);
        InstructionInfoFactory factory = new();
        while (open.TryDequeue(out int at))
        {
            if (at == body.Length)
            {
                continue;
            }

            if (!instructions.TryGetValue(at, out Instruction instruction) || states[at]!.After(instruction, factory) is not { } after)
            {
                return null;
            }

            bool goesOn = instruction.FlowControl is FlowControl.Next or FlowControl.ConditionalBranch || instruction.Mnemonic == Mnemonic.Syscall;
            bool branches = instruction.FlowControl is FlowControl.ConditionalBranch or FlowControl.UnconditionalBranch && instruction.Op0Kind == OpKind.NearBranch64;
            if ((!goesOn && !branches) || (goesOn && !Join(states, instruction.Length + at, after, open))
                || (branches && (instruction.NearBranchTarget > (ulong)body.Length || !Join(states, (int)instruction.NearBranchTarget, after, open))))
            {
                return null;
            }
        }

        return states[body.Length] is { Delta: 0 } ? new BodyShape(states) : null;
    }

    /// <summary>How much the stack pointer is below where it was; -1: nothing starts there.</summary>
    public int DeltaAt(int offset) => (uint)offset < (uint)_states.Length && _states[offset] is { } state ? state.Delta : Unknown;

    /// <summary>Puts the registers of a thread in it back to what they were at its beginning, but for the program counter and flags. False if one is not known any more.</summary>
    /// <param name="offset">Where in the program the thread is.</param>
    /// <param name="registers">Its registers.</param>
    /// <param name="read">Reads a word of its stack.</param>
    public bool TryUndo(int offset, ref RegisterSet registers, Func<ulong, ulong?> read)
    {
        if ((uint)offset >= (uint)_states.Length || _states[offset] is not { } state)
        {
            return false;
        }

        ulong stack = registers.StackPointer + (ulong)state.Delta;
        RegisterSet before = registers;
        for (int i = 0; i < RegisterCount; i++)
        {
            // What the program itself leaves changed is of no use to anybody.
            int place = state.Places[i];
            if (place == InRegister || (place == Lost && _states[^1]!.Places[i] == Lost))
            {
                continue;
            }

            if (place == Lost || read(unchecked(stack - (ulong)place)) is not { } word)
            {
                return false;
            }

            before[s_registers[i]] = word;
        }

        before.StackPointer = stack;
        registers = before;
        return true;
    }

    /// <summary>Two ways into one instruction must agree on the stack; a register that is in two places is lost.</summary>
    private static bool Join(State?[] states, int at, State state, Queue<int> open)
    {
        if (states[at] is not { } known)
        {
            states[at] = state;
            open.Enqueue(at);
            return true;
        }

        if (known.Delta != state.Delta)
        {
            return false;
        }

        if (known.Meet(state) is { } less)
        {
            states[at] = less;
            open.Enqueue(at);
        }

        return true;
    }

    private static unsafe Dictionary<int, Instruction> Decode(byte[] body)
    {
        Dictionary<int, Instruction> found = [];
        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(body), 0);
        while (decoder.IP < (ulong)body.Length)
        {
            decoder.Decode(out Instruction instruction);
            if (instruction.IsInvalid)
            {
                break;
            }

            found.Add((int)instruction.IP, instruction);
        }

        return found;
    }

    /// <summary>How far the stack pointer is down, and for each register how far below its first value it is kept.</summary>
    private sealed record State(int Delta, int[] Places)
    {
        private const int StackPointer = 4;

        public static State Start() => new(0, [.. Enumerable.Repeat(InRegister, RegisterCount)]);

        public State? Meet(State other)
        {
            int[] places = [.. Places.Zip(other.Places, static (a, b) => a == b ? a : Lost)];
            return places.AsSpan().SequenceEqual(Places) ? null : this with { Places = places };
        }

        public State? After(in Instruction instruction, InstructionInfoFactory factory)
        {
            int[] places = [.. Places];
            int delta = Delta - instruction.StackPointerIncrement;
            if (instruction is { Code: Code.Lea_r64_m, Op0Register: Register.RSP })
            {
                return instruction is { MemoryBase: Register.RSP, MemoryIndex: Register.None } ? this with { Delta = Delta - (int)(long)instruction.MemoryDisplacement64 } : null;
            }

            if (instruction is { Mnemonic: Mnemonic.Sub or Mnemonic.Add, Op0Kind: OpKind.Register, Op0Register: Register.RSP })
            {
                int by = instruction.Op1Kind is OpKind.Immediate8to64 or OpKind.Immediate32to64 ? (int)(long)instruction.GetImmediate(1) : 0;
                return by == 0 ? null : this with { Delta = Delta + (instruction.Mnemonic == Mnemonic.Sub ? by : -by) };
            }

            // A store of a register that is still as it was keeps it; a load from there brings it back.
            if (instruction is { Code: Code.Mov_rm64_r64, MemoryBase: Register.RSP, MemoryIndex: Register.None, Op0Kind: OpKind.Memory })
            {
                int number = instruction.Op1Register.GetNumber();
                int place = Delta - (int)(long)instruction.MemoryDisplacement64;
                Overwrite(places, place);
                places[number] = places[number] == InRegister && number != StackPointer ? place : places[number];
                return new State(delta, places);
            }

            if (instruction is { Code: Code.Mov_r64_rm64, MemoryBase: Register.RSP, MemoryIndex: Register.None, Op1Kind: OpKind.Memory })
            {
                int number = instruction.Op0Register.GetNumber();
                places[number] = places[number] != Lost && places[number] == Delta - (int)(long)instruction.MemoryDisplacement64 ? InRegister : Written(places[number]);
                return new State(delta, places);
            }

            if (instruction.Mnemonic == Mnemonic.Push && instruction.Op0Kind == OpKind.Register)
            {
                int number = instruction.Op0Register.GetNumber();
                Overwrite(places, delta);
                places[number] = places[number] == InRegister ? delta : places[number];
                return new State(delta, places);
            }

            if (instruction.Mnemonic == Mnemonic.Pop && instruction.Op0Kind == OpKind.Register)
            {
                int number = instruction.Op0Register.GetNumber();
                places[number] = places[number] == Delta ? InRegister : Written(places[number]);
                return new State(delta, places);
            }

            InstructionInfo info = factory.GetInfo(instruction);
            foreach (UsedRegister used in info.GetUsedRegisters())
            {
                Register full = used.Register.GetFullRegister();
                if (!full.IsGPR64() || used.Access is OpAccess.Read or OpAccess.CondRead or OpAccess.NoMemAccess or OpAccess.None)
                {
                    continue;
                }

                int number = full.GetNumber();
                if (number == StackPointer && instruction.StackPointerIncrement == 0)
                {
                    return null;
                }

                places[number] = number == StackPointer ? InRegister : Written(places[number]);
            }

            foreach (UsedMemory memory in info.GetUsedMemory())
            {
                if (memory.Base == Register.RSP && memory.Access is OpAccess.Write or OpAccess.ReadWrite or OpAccess.CondWrite or OpAccess.ReadCondWrite)
                {
                    Overwrite(places, Delta - (int)(long)memory.Displacement);
                }
            }

            return new State(delta, places);
        }

        /// <summary>One that was in its register only is lost when that is written.</summary>
        private static int Written(int place) => place == InRegister ? Lost : place;

        /// <summary>What was kept in a word that is written is lost.</summary>
        private static void Overwrite(int[] places, int place)
        {
            for (int i = 0; i < places.Length; i++)
            {
                if (places[i] is not (InRegister or Lost) && Math.Abs(places[i] - place) < sizeof(ulong))
                {
                    places[i] = Lost;
                }
            }
        }
    }
}

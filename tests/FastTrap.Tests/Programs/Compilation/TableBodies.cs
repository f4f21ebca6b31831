using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Code that gathers in tables, hit after hit: it leaves what the tracer's own would, word by word; and that is what the calls were.</summary>
internal sealed class TableBodies(IBodyMachine machine)
{
    private static readonly TickScale s_scale = new(0, 1UL << 32, 0);

    private readonly LaneLayout _layout = machine.Target.Layout;

    private int Home => _layout.FirstLaneOf(machine.ThreadPointer);

    /// <summary>Counts by key against the tracer's table and against a dictionary.</summary>
    public void CompareKeys(Random random, int rounds)
    {
        for (int round = 0; round < rounds; round++)
        {
            int capacity = random.Next(1, 60);
            ProgramAction action = ProgramAction.CountBy(capacity);
            Place(Compile(KeyProgram(), action), default);
            int lane = Clear(random.Next(8) == 0);
            ulong[] expected = new ulong[action.CounterCount];
            Dictionary<ulong, long> truth = [];
            long others = 0;
            ulong spread = 1UL << random.Next(64);
            for (int hit = random.Next(1, 200); hit > 0; hit--)
            {
                ulong key = (ulong)random.Next(capacity * 2) * spread;
                action.Keys!.Add(expected, key);
                others += truth.ContainsKey(key) || truth.Count < capacity ? 0 : 1;
                if (truth.ContainsKey(key) || truth.Count < capacity)
                {
                    truth[key] = truth.GetValueOrDefault(key) + 1;
                }

                Run(StackOf(0), key);
            }

            Span<ulong> words = Counters(lane)[..expected.Length];
            Assert.That(words.CommonPrefixLength(expected), Is.EqualTo(expected.Length), $"round {round}, capacity {capacity}");
            Dictionary<ulong, long> found = [];
            action.Keys!.AddTo(found, words);
            Assert.That(found, Is.EquivalentTo(truth));
            Assert.That(((long)words[KeyTable.OthersWord], action.Keys.CountHits(words)), Is.EqualTo((others, truth.Values.Sum() + others)));
        }
    }

    /// <summary>
    /// Functions call each other, return, jump to each other at their ends, are left by <c>longjmp</c>, and are interrupted by handlers on another stack which do the same; some entries do not count. Every return gets its own call's entry.
    /// </summary>
    public void CompareCalls(Random random, int rounds)
    {
        int returns = 0;
        for (int round = 0; round < rounds; round++)
        {
            int depth = random.Next(4) == 0 ? 6 : 64;
            ProgramAction action = ProgramAction.Latency(depth);
            ProgramBuilder builder = new();
            builder.Filter(builder.Binary(ProgramOp.Less, builder.Constant(ProgramType.UInt64, 0), builder.Input(ProgramOp.Argument, ProgramType.UInt64)));
            CompiledBody entry = Compile(builder.Build(), action);
            CompiledBody exit = Compile(builder.Build(), action, isReturn: true);
            int lane = Clear(false);
            Span<ulong> words = Counters(lane);
            ulong state = 0;
            ulong[] calls = new ulong[action.Calls!.Limit];
            List<(ulong Function, ulong At, ulong Id)> live = [];
            Stack<(int Base, int Stack)> stacks = new();
            int stack = random.Next(2);
            ulong id = 0;
            ulong lost = 0;
            ulong entered = 0;
            ulong timed = 0;
            for (int step = 0; step < 120; step++)
            {
                int own = stacks.TryPeek(out (int Base, int Stack) interrupted) ? interrupted.Base : 0;
                int choice = random.Next(12);
                if (choice < 6 && live.Count - own < 30)
                {
                    Enter(live.Count > own ? live[^1].At - (ulong)(8 + (random.Next(4) * 8)) : StackOf(stack));
                }
                else if (choice < 9 && live.Count > own)
                {
                    ulong at = Leave();
                    if (choice == 8)
                    {
                        Enter(at);
                    }
                }
                else if (choice == 9 && live.Count > own)
                {
                    int kept = own + random.Next(live.Count - own);
                    live.RemoveRange(kept, live.Count - kept);
                }
                else if (choice == 10 && stacks.Count == 0)
                {
                    stacks.Push((live.Count, stack));
                    stack ^= 1;
                }
                else if (choice == 11 && stacks.Count != 0)
                {
                    // The handler returns, or leaves by siglongjmp.
                    live.RemoveRange(own, live.Count - own);
                    stack = stacks.Pop().Stack;
                }

                int use = CallStack.UseOf(state);
                Assert.That(CallStack.UseOf(words[CallStack.StateWord]), Is.EqualTo(use), $"round {round}, step {step}");
                for (int i = 0; i < use; i++)
                {
                    ulong word = words[CallStack.CallsWord + i];
                    Assert.That(i % CallStack.CallWords == 2 ? word != 0 : word == calls[i], Is.EqualTo(i % CallStack.CallWords != 2 || calls[i] != 0), $"round {round}, step {step}, word {i}");
                }

                Assert.That((words[CallStack.LostWord], words[CallStack.EntriesWord]), Is.EqualTo((lost, entered)));
                Assert.That(Sum(words.Slice(CallStack.StepsWord, CallStack.StepCount)), Is.EqualTo(timed), $"round {round}, step {step}");
            }

            returns += (int)timed;

            void Enter(ulong at)
            {
                ulong function = 0x1000 * (ulong)random.Next(1, 4);
                bool counts = random.Next(4) != 0;
                id++;
                live.Add((function, at, counts ? id : 0));
                lost += (ulong)CallStack.Push(ref state, calls, at, function, counts ? id : 0);
                entered += counts ? 1UL : 0;
                Place(entry, new BodySite(1, function + 4, function));
                Run(at, counts ? 1UL : 0);
            }

            ulong Leave()
            {
                (ulong function, ulong at, ulong own) = live[^1];
                live.RemoveAt(live.Count - 1);
                bool isFound = CallStack.TryPop(ref state, calls, at, 0, function, out ulong start);
                Assert.That(isFound || lost != 0, $"round {round}: a call was not found");
                Assert.That(!isFound || start == own, $"round {round}: call {own} got the time of {start}");
                timed += isFound && own != 0 ? 1UL : 0;
                Place(exit, new BodySite(1, function + 40, function));
                Run(at, 0);
                return at;
            }
        }

        TestContext.Out.WriteLine($"{returns} returns");
        Assert.That(returns, Is.GreaterThan(rounds * 5));
    }

    /// <summary>Each instruction is interrupted by other code of the same thread; gives how often.</summary>
    public int Interrupt()
    {
        int interruptions = 0;
        foreach ((ulong outer, ulong inner, int capacity) in new (ulong, ulong, int)[] { (100, 100, 4), (100, 101, 4), (0, 0, 4), (7, 0, 1), (100, 101, 1) })
        {
            ProgramAction action = ProgramAction.CountBy(capacity);
            CompiledBody body = Compile(KeyProgram(), action);
            CompiledBody handler = Compile(KeyProgram(inner), action);
            interruptions += Interrupt(body, handler, outer, _ => { }, (words, hits) =>
            {
                Dictionary<ulong, long> found = [];
                action.Keys!.AddTo(found, words);
                long others = (long)words[KeyTable.OthersWord];
                return action.Keys.CountHits(words) == hits && (int)words[KeyTable.UsedWord] == found.Count && found.Keys.All(k => k == outer || k == inner)
                    && others == (hits == 2 && capacity == 1 && outer != inner ? 1 : 0);
            });
        }

        ProgramAction latency = ProgramAction.Latency(8);
        CompiledBody entry = Compile(new ProgramBuilder().Build(), latency);
        CompiledBody exit = Compile(new ProgramBuilder().Build(), latency, isReturn: true);
        foreach (int before in (int[])[0, 3, 8])
        {
            // Calls on a far stack, which stay; with eight of them there is no room.
            interruptions += Interrupt(entry, entry, 0, words => Fill(words, before), (words, hits) =>
            {
                int use = CallStack.UseOf(words[CallStack.StateWord]) / CallStack.CallWords;
                int own = before == 8 ? 0 : before;
                ulong lost = before == 8 ? 8UL : 0;
                return words[CallStack.EntriesWord] == (ulong)hits && words[CallStack.LostWord] == lost && use >= own + 1 && use <= own + hits
                    && Enumerable.Range(own, use - own).Any(i => Call(i, machine) == (InterruptedStack, OuterFunction));
            });
        }

        // A return, of the one call that is known, and an entry, or the return of another call, in its midst.
        interruptions += Interrupt(exit, entry, 0, FillOwn, (words, hits) =>
            Sum(words.Slice(CallStack.StepsWord, CallStack.StepCount)) == 1 && words[CallStack.TotalWord] != 0 && words[CallStack.LostWord] == 0 && CallStack.UseOf(words[CallStack.StateWord]) <= (hits - 1) * CallStack.CallWords);
        return interruptions;
    }

    private const ulong OuterFunction = 0x1000;
    private const ulong InnerFunction = 0x2000;

    private ulong InterruptedStack => StackOf(1) - 512;

    private static void Fill(Span<ulong> words, int calls)
    {
        for (int i = 0; i < calls; i++)
        {
            words[CallStack.CallsWord + (i * CallStack.CallWords)] = 0x10_0000;
        }

        words[CallStack.StateWord] = (ulong)(calls * CallStack.CallWords) << 32 | uint.MaxValue;
    }

    private void FillOwn(Span<ulong> words)
    {
        (words[CallStack.CallsWord], words[CallStack.CallsWord + 1], words[CallStack.CallsWord + 2]) = (InterruptedStack, OuterFunction, 1);
        words[CallStack.StateWord] = (ulong)CallStack.CallWords << 32;
    }

    private (ulong StackPointer, ulong Function) Call(int index, IBodyMachine of)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(of.Lanes[(int)(Home * _layout.LaneStride)..])[(LaneLayout.CountersStart / 8)..];
        return (words[CallStack.CallsWord + (index * CallStack.CallWords)], words[CallStack.CallsWord + (index * CallStack.CallWords) + 1]);
    }

    private int Interrupt(CompiledBody body, CompiledBody handler, ulong argument, Action<Span<ulong>> prepare, Func<Span<ulong>, int, bool> isRight)
    {
        int interruptions = 0;
        BodySite outer = new(1, OuterFunction + 8, OuterFunction);
        BodySite inner = new(2, InnerFunction + 8, InnerFunction);
        for (int i = 0; machine.TryPlaceInterrupted(body, outer, handler, inner, i); i++)
        {
            int lane = Clear(false);
            prepare(Counters(lane));
            Run(InterruptedStack, argument);
            int hits = machine.WasInterrupted ? 2 : 1;
            interruptions += hits - 1;
            Assert.That(isRight(Counters(lane), hits), $"instruction {i}, {hits} hits: {string.Join(' ', Counters(lane)[..100].ToArray().Select(w => $"{w:x}"))}");
        }

        return interruptions;
    }

    private static ProbeProgram KeyProgram(ulong? constant = null)
    {
        ProgramBuilder builder = new();
        builder.Output(constant is { } key ? builder.Constant(ProgramType.UInt64, key) : builder.Input(ProgramOp.Argument, ProgramType.UInt64));
        return builder.Build();
    }

    private CompiledBody Compile(ProbeProgram program, ProgramAction action, bool isReturn = false)
    {
        ArgumentSources sources = isReturn ? ArgumentSources.ForReturn(machine.Architecture) : ArgumentSources.ForEntry(machine.Architecture);
        Assert.That(new ProgramCompiler(program, action, machine.Target with { Ticks = s_scale }).TryCompile(sources, out CompiledBody? body, out ProgramNotCompilable reason), $"{reason}");
        return body!;
    }

    private void Place(CompiledBody body, in BodySite site) => machine.Place(body, site);

    /// <summary>The upper ends of two stacks, far from each other.</summary>
    private ulong StackOf(int stack) => stack == 0 ? machine.DataAddress + 8000 : machine.StackAddress + 8000;

    private int Clear(bool isCommon)
    {
        machine.Lanes.Clear();
        for (int i = 0; i < (isCommon ? _layout.LaneCount : 0); i++)
        {
            MemoryMarshal.Cast<byte, ulong>(machine.Lanes[(int)(i * _layout.LaneStride)..])[0] = 42;
        }

        return isCommon ? _layout.LaneCount : Home;
    }

    private Span<ulong> Counters(int lane) =>
        MemoryMarshal.Cast<byte, ulong>(machine.Lanes.Slice((int)(lane * _layout.LaneStride) + LaneLayout.CountersStart, _layout.CountersLength));

    private static ulong Sum(Span<ulong> words)
    {
        ulong sum = 0;
        foreach (ulong word in words)
        {
            sum += word;
        }

        return sum;
    }

    private void Run(ulong stackPointer, ulong argument)
    {
        RegisterSet before = new(machine.Architecture) { StackPointer = stackPointer };
        if (machine.Architecture == Architecture.X64)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(machine.Vectors[^4..], 0x1f80);
            before[X64Register.Eflags] = 0x202;
            before[X64Register.Rdi] = argument;
        }
        else
        {
            before[Arm64Register.X0] = argument;
        }

        RegisterSet after = before;
        machine.Run(ref after);
        Assert.That(after.Words.SequenceEqual(before.Words));
    }
}

using System.Diagnostics;
using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>What generated code costs, beside code written by hand for the same thing, in the same run.</summary>
[TestFixture, NonParallelizable]
public sealed class X64BodyCosts
{
    /// <summary>As many records as a ring of the machine holds.</summary>
    private const int Batch = 30;
    private const int Batches = 20_001;

    [Test, Explicit("Prints a table; a measurement asserts nothing of time.")]
    public void CostTable()
    {
        using X64BodyMachine machine = new();
        ProbeProgram one = Program(b => b.Output(b.Input(ProgramOp.Argument, ProgramType.UInt64, 0)), null);
        ProbeProgram signed = Program(b => b.Output(b.Convert(b.Input(ProgramOp.Argument, ProgramType.UInt64, 0), ProgramType.Int64)), null);
        ProbeProgram failing = Program(_ => { }, b => b.Binary(ProgramOp.Less, b.Input(ProgramOp.Argument, ProgramType.UInt64, 2), b.Constant(ProgramType.UInt64, 0)));
        ProbeProgram loading = Program(b => b.Output(b.Load(ProgramType.UInt64, b.Constant(ProgramType.UInt64, machine.DataAddress), 8, false)), null);
        double empty = Median(machine, []);
        double count = Median(machine, ByHand(CountByHand, machine)) - empty;
        double record = Median(machine, ByHand(RecordByHand, machine)) - empty;
        TestContext.Out.WriteLine($"by hand: count {count:f1} ns, record of 32 bytes {record:f1} ns; call and return {empty:f1} ns, taken off");
        Print("count", one, ProgramAction.Count, count);
        Print("filter that fails", failing, ProgramAction.Count, count);
        Print("sum", signed, ProgramAction.Sum, count);
        Print("histogram", signed, ProgramAction.Histogram(HistogramScale.PowersOfTwo), count);
        Print("record of 32 bytes", one, ProgramAction.Record, record);
        Print("record of a word read through the kernel", loading, ProgramAction.Record, record);

        void Print(string name, ProbeProgram program, ProgramAction action, double floor)
        {
            ProgramTarget target = machine.Target with { ThreadIdOffset = 720 };
            Assert.That(new ProgramCompiler(program, action, target).TryCompile(ArgumentSources.ForEntry(Architecture.X64), out CompiledBody? body, out _));
            byte[] code = new byte[body!.Length];
            body.Write(code, new BodySite(1, 2, 2));
            double time = Median(machine, code) - empty;
            TestContext.Out.WriteLine($"{name}: {time:f1} ns, {time / floor:f2} times by hand, {code.Length} bytes");
        }
    }

    private static ProbeProgram Program(Action<ProgramBuilder> build, Func<ProgramBuilder, int>? filter)
    {
        ProgramBuilder builder = new();
        build(builder);
        if (filter is not null)
        {
            builder.Filter(filter(builder));
        }

        return builder.Build();
    }

    private static double Median(X64BodyMachine machine, byte[] code)
    {
        machine.PlaceFunction(code);
        Span<ulong> lanes = MemoryMarshal.Cast<byte, ulong>(machine.Lanes);
        ulong[] ticks = new ulong[Batches];
        for (int i = 0; i < Batches; i++)
        {
            // Read to its end.
            for (int lane = 0; lane <= machine.Target.Layout.LaneCount; lane++)
            {
                Span<ulong> header = lanes[(int)(lane * machine.Target.Layout.LaneStride / 8)..];
                header[LaneLayout.TailOffset / 8] = header[LaneLayout.HeadOffset / 8];
            }

            ticks[i] = machine.Repeat(Batch);
        }

        Array.Sort(ticks);
        return ticks[Batches / 2] / TicksPerNs() / Batch;
    }

    private static double TicksPerNs()
    {
        if (s_ticksPerNs == 0)
        {
            using X64BodyMachine machine = new();
            machine.PlaceFunction([]);
            long start = Stopwatch.GetTimestamp();
            ulong ticks = machine.Repeat(100_000_000);
            s_ticksPerNs = ticks / Stopwatch.GetElapsedTime(start).TotalNanoseconds;
        }

        return s_ticksPerNs;
    }

    private static double s_ticksPerNs;

    private static byte[] ByHand(Action<Assembler, X64BodyMachine> build, X64BodyMachine machine)
    {
        Assembler c = new(64);
        build(c, machine);
        using MemoryStream code = new();
        c.Assemble(new StreamCodeWriter(code), 0);
        return code.ToArray();
    }

    private static void CountByHand(Assembler c, X64BodyMachine machine)
    {
        c.lea(rsp, __[rsp - 128]);
        c.push(rax);
        c.lahf();
        c.seto(al);
        c.inc(__qword_ptr[machine.Target.CommonLaneAddress + LaneLayout.CountersStart]);
        c.add(al, 0x7f);
        c.sahf();
        c.pop(rax);
        c.lea(rsp, __[rsp + 128]);
    }

    /// <summary>Into a ring whose place is known.</summary>
    private static void RecordByHand(Assembler c, X64BodyMachine machine)
    {
        LaneLayout layout = machine.Target.Layout;
        c.lea(rsp, __[rsp - 128]);
        c.push(rax);
        c.lahf();
        c.seto(al);
        c.push(rax);
        c.push(rcx);
        c.push(rdx);
        c.mov(rcx, machine.Target.CommonLaneAddress);
        c.mov(rax, __qword_ptr[rcx + LaneLayout.HeadOffset]);
        c.mov(rdx, rax);
        c.sub(rdx, __qword_ptr[rcx + LaneLayout.TailOffset]);
        Label full = c.CreateLabel();
        c.cmp(rdx, layout.RingLength - 32);
        c.ja(full);
        c.lea(rdx, __[rax + 32]);
        c.mov(__qword_ptr[rcx + LaneLayout.HeadOffset], rdx);
        c.and(eax, layout.RingLength - 1);
        c.lea(rcx, __[rcx + rax + layout.RingStart]);
        c.rdtsc();
        c.shl(rdx, 32);
        c.or(rax, rdx);
        c.mov(__qword_ptr[rcx + 8], rax);
        c.mov(__qword_ptr[rcx + 16], 0);
        c.mov(__qword_ptr[rcx + 24], rdi);
        c.mov(__qword_ptr[rcx], 32);
        c.Label(ref full);
        c.pop(rdx);
        c.pop(rcx);
        c.pop(rax);
        c.add(al, 0x7f);
        c.sahf();
        c.pop(rax);
        c.lea(rsp, __[rsp + 128]);
    }
}

using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Code of one probe that is interrupted by code of another of the same thread, at each of its instructions: nothing is lost, changed, or there twice.</summary>
internal static class InterruptedBodies
{
    private const uint OuterSite = 0x1111_1111;
    private const uint InnerSite = 0x2222_2222;

    /// <summary>Compares all instructions in all situations; gives how many interruptions there were.</summary>
    public static int Check(IBodyMachine machine)
    {
        ProgramBuilder builder = new();
        int first = builder.Input(ProgramOp.Argument, ProgramType.UInt64, 0);
        builder.Output(builder.Convert(first, ProgramType.Int64));
        builder.Output(builder.Input(ProgramOp.Argument, ProgramType.UInt64, 1));
        ProbeProgram program = builder.Build();
        int interruptions = 0;
        foreach (ProgramAction action in (ProgramAction[])[ProgramAction.Record, ProgramAction.Count, ProgramAction.Sum, ProgramAction.Histogram(HistogramScale.PowersOfTwo)])
        {
            Assert.That(new ProgramCompiler(program, action, machine.Target).TryCompile(ArgumentSources.ForEntry(machine.Architecture), out CompiledBody? body, out _));
            for (int i = 0; machine.TryPlaceInterrupted(body!, new BodySite(OuterSite, 1, 1), body!, new BodySite(InnerSite, 2, 2), i); i++)
            {
                foreach (Situation situation in Enum.GetValues<Situation>())
                {
                    machine.TryPlaceInterrupted(body!, new BodySite(OuterSite, 1, 1), body!, new BodySite(InnerSite, 2, 2), i);
                    int hits = Run(machine, situation, out int lane);
                    interruptions += hits - 1;
                    Span<byte> own = machine.Lanes[(int)(lane * machine.Target.Layout.LaneStride)..];
                    string? wrong = action.Kind == ProgramActionKind.Record ? CheckRing(machine, own, situation, hits) : CheckCounters(own, action, hits);
                    Assert.That(wrong, Is.Null, $"{action.Kind}, {situation}, instruction {i}");
                }
            }
        }

        return interruptions;
    }

    private static int Run(IBodyMachine machine, Situation situation, out int lane)
    {
        LaneLayout layout = machine.Target.Layout;
        machine.Lanes.Clear();
        machine.Stack.Clear();
        machine.Vectors.Clear();
        if (machine.Architecture == Architecture.X64)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(machine.Vectors[^4..], 0x1f80);
        }

        int home = layout.FirstLaneOf(machine.ThreadPointer);
        for (int i = 0; situation is Situation.Common or Situation.Neighbour && i < (situation == Situation.Common ? layout.LaneCount : 1); i++)
        {
            Word(machine.Lanes[(int)(((home + i) % layout.LaneCount) * layout.LaneStride)..], LaneLayout.OwnerOffset) = 42;
        }

        lane = situation == Situation.Common ? layout.LaneCount : situation == Situation.Neighbour ? (home + 1) % layout.LaneCount : home;
        Span<byte> own = machine.Lanes[(int)(lane * layout.LaneStride)..];
        if (situation is not Situation.Unclaimed and not Situation.Neighbour)
        {
            Word(own, LaneLayout.OwnerOffset) = machine.ThreadPointer;
        }

        Word(own, LaneLayout.HeadOffset) = HeadOf(layout, situation);
        Word(own, LaneLayout.TailOffset) = TailOf(layout, situation);
        RegisterSet before = new(machine.Architecture) { StackPointer = machine.StackAddress + 4096 + 512 };
        if (machine.Architecture == Architecture.X64)
        {
            before[X64Register.Eflags] = 0x202;
            (before[X64Register.Rdi], before[X64Register.Rsi]) = (100, 200);
        }
        else
        {
            (before[Arm64Register.X0], before[Arm64Register.X1]) = (100, 200);
        }

        RegisterSet after = before;
        machine.Run(ref after);
        Assert.That(after.Words.SequenceEqual(before.Words));
        return machine.WasInterrupted ? 2 : 1;
    }

    /// <summary>Records of 40 bytes: where two, one, or none fit in front of the ring's end.</summary>
    private static ulong HeadOf(LaneLayout layout, Situation situation) => (ulong)layout.RingLength + situation switch
    {
        Situation.OneBeforeEnd => (ulong)layout.RingLength - 56,
        Situation.NoneBeforeEnd => (ulong)layout.RingLength - 16,
        Situation.Full => 200,
        Situation.RoomForOne => 240,
        Situation.RoomForOneBehindEnd => (ulong)layout.RingLength - 16,
        _ => 0,
    };

    private static ulong TailOf(LaneLayout layout, Situation situation) => HeadOf(layout, situation) - situation switch
    {
        Situation.Full => (ulong)layout.RingLength - 32,
        Situation.RoomForOne => (ulong)layout.RingLength - 48,
        Situation.RoomForOneBehindEnd => (ulong)layout.RingLength - 64,
        _ => 0,
    };

    private static string? CheckRing(IBodyMachine machine, Span<byte> lane, Situation situation, int hits)
    {
        LaneLayout layout = machine.Target.Layout;
        Span<byte> ring = lane.Slice(layout.RingStart, layout.RingLength);
        int records = 0;
        uint sites = 0;
        for (ulong at = HeadOf(layout, situation), end = Word(lane, LaneLayout.HeadOffset); at != end;)
        {
            Span<byte> record = ring[(int)(at % (ulong)ring.Length)..];
            uint size = BinaryPrimitives.ReadUInt32LittleEndian(record);
            if ((size & LaneLayout.FillerFlag) != 0)
            {
                at += size & LaneLayout.SizeMask;
                continue;
            }

            uint site = BinaryPrimitives.ReadUInt32LittleEndian(record[LaneLayout.RecordSiteOffset..]);
            if (size != 40 || (site != OuterSite && site != InnerSite) || Word(record, 24) != 100 || Word(record, 32) != 200)
            {
                return $"size {size:x}, site {site:x}, {Word(record, 24)}, {Word(record, 32)}";
            }

            records++;
            sites ^= site;
            at += size;
        }

        int drops = (int)Word(lane, LaneLayout.DropsOffset);
        int room = situation switch
        {
            Situation.Full => 0,
            Situation.RoomForOne or Situation.RoomForOneBehindEnd => 1,
            _ => 2,
        };
        bool isRight = records == Math.Min(hits, room) && drops == hits - records && (records != 2 || sites == (OuterSite ^ InnerSite));
        return isRight ? null : $"{hits} hits: {records} records, {drops} drops, sites {sites:x}";
    }

    private static string? CheckCounters(Span<byte> lane, ProgramAction action, int hits)
    {
        ulong[] expected = new ulong[action.CounterCount];
        switch (action.Kind)
        {
            case ProgramActionKind.Histogram:
                expected[HistogramScale.PowersOfTwo.IndexOf(100)] = (ulong)hits;
                break;
            case ProgramActionKind.Count:
                expected[0] = (ulong)hits;
                break;
            default:
                (expected[0], expected[1], expected[2], expected[3]) = ((ulong)hits, 100UL * (ulong)hits, ProgramAction.EncodeLeast(100), ProgramAction.EncodeGreatest(100));
                break;
        }

        Span<ulong> counters = MemoryMarshal.Cast<byte, ulong>(lane[LaneLayout.CountersStart..])[..expected.Length];
        return counters.SequenceEqual(expected) ? null : $"{hits} hits: {string.Join(' ', counters.ToArray())}";
    }

    private static ref ulong Word(Span<byte> bytes, int offset) => ref MemoryMarshal.Cast<byte, ulong>(bytes[offset..])[0];

    private enum Situation
    {
        Claimed,
        Unclaimed,
        Neighbour,
        Common,
        OneBeforeEnd,
        NoneBeforeEnd,
        Full,
        RoomForOne,
        RoomForOneBehindEnd,
    }
}

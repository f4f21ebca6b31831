using FastTrap.Engine;
using FastTrap.Isa;

namespace FastTrap.Tests.Engine;

/// <summary>The table of tracepoints against a dictionary.</summary>
[TestFixture]
public sealed class TracepointTableTests
{
    [Test]
    public void FindsWhatIsInItAndNothingElse([Values(0, 1, 2, 3, 100, 5000)] int count, [Values(1UL, 16UL, 4096UL, 0x1_0000_0001UL)] ulong stride)
    {
        const ulong Start = 0x7fff_f7dd_0000;
        Dictionary<ulong, Tracepoint> expected = [];
        for (int i = 0; i < count; i++)
        {
            Tracepoint tracepoint = At(Start + ((ulong)i * stride * 2));
            expected.Add(tracepoint.Address, tracepoint);
        }

        TracepointTable table = TracepointTable.Create(expected.Values);
        Assert.That(table.Count, Is.EqualTo(count));
        for (int i = -1; i <= 2 * count; i++)
        {
            ulong address = Start + ((ulong)i * stride);
            Assert.That(table.Find(address), Is.SameAs(expected.GetValueOrDefault(address)));
        }

        Assert.That(table.All(), Is.EquivalentTo(expected.Values));
        if (count != 0)
        {
            Assert.That((table.Lowest, table.Highest), Is.EqualTo((expected.Keys.Min(), expected.Keys.Max())));
        }
    }

    [Test]
    public void EmptyTableFindsNothing()
    {
        Assert.That(TracepointTable.Empty.Find(0), Is.Null);
        Assert.That(TracepointTable.Empty.Find(ulong.MaxValue), Is.Null);
        Assert.That(TracepointTable.Empty.All(), Is.Empty);
    }

    [Test]
    public void LimitOnTracepointsIsExact()
    {
        TracerCore core = new(FastTrap.Native.LinuxPlatform.Instance, new TracerOptions { MaximumTracepoints = 3 });
        Assert.That(Enumerable.Range(0, 5).Select(_ => core.TryReserveTracepoint()), Is.EqualTo(new[] { true, true, true, false, false }));
        core.ReleaseTracepoints(2);
        Assert.That(Enumerable.Range(0, 3).Select(_ => core.TryReserveTracepoint()), Is.EqualTo(new[] { true, true, false }));
    }

    private static Tracepoint At(ulong address)
    {
        Assert.That(InstructionSet.For(System.Runtime.InteropServices.Architecture.X64).TryDecode([0x90, 0x90], address, out DisplacedInstruction nop, out _));
        return new Tracepoint(nop);
    }
}

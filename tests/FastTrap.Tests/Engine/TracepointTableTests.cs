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
    public void WhatIsTakenOutIsFoundNoMoreAndTheRestIs()
    {
        Tracepoint[] all = [.. Enumerable.Range(1, 1000).Select(i => At((ulong)i))];
        TracepointTable table = TracepointTable.Create(all);
        for (int i = 0; i < all.Length; i += 3)
        {
            int version = table.Version;
            table.Remove(all[i]);
            Assert.That(table.Version, Is.Not.EqualTo(version), "a reader cannot tell that one went");
        }

        Assert.That(all.Where((_, i) => i % 3 == 0).Select(t => table.Find(t.Address)), Is.All.Null);
        Assert.That(all.Where((_, i) => i % 3 != 0).All(t => table.Find(t.Address) == t));
        Assert.That(table.All().Count(), Is.EqualTo(table.Count).And.EqualTo(666));
        Assert.That(table.IsSparse, Is.False);
        foreach (Tracepoint tracepoint in table.All().Take(200).ToArray())
        {
            table.Remove(tracepoint);
        }

        Assert.That(table.IsSparse);
        Tracepoint more = At(5000);
        TracepointTable next = table.With([more]);
        Assert.That(next.All(), Is.EquivalentTo(table.All().Append(more)));
        Assert.That((next.Count, next.IsSparse, next.Highest, next.Lowest), Is.EqualTo((table.Count + 1, false, 5000UL, table.All().Min(t => t.Address))));
    }

    private static Tracepoint At(ulong address)
    {
        Assert.That(InstructionSet.For(System.Runtime.InteropServices.Architecture.X64).TryDecode([0x90, 0x90], address, out DisplacedInstruction nop, out _));
        return new Tracepoint(nop);
    }
}

using System.Runtime.InteropServices;
using FastTrap.Engine.Mechanisms;
using FastTrap.Native;

namespace FastTrap.Tests.Engine;

/// <summary>The search of stacks, in memory of this process, against what was put there.</summary>
[TestFixture]
public sealed unsafe class StackScanTests
{
    private const int Words = 3 * StackScan.MaximumDepth / sizeof(ulong);
    private const ulong Lowest = 0x7fff_f7dd_0123;
    private const ulong Highest = 0x7fff_f7de_0456;

    private ulong* _memory;

    [SetUp]
    public void Allocate()
    {
        _memory = (ulong*)NativeMemory.AlignedAlloc(Words * sizeof(ulong), 4096);
        new Span<ulong>(_memory, Words).Fill(0x7fff_0000_0000);
    }

    [TearDown]
    public void Free() => NativeMemory.AlignedFree(_memory);

    [Test]
    public void FindsEveryWordInTheRangeAndNoOther([Range(0, 3)] int offset)
    {
        Random random = new(offset);
        HashSet<ulong> expected = [];
        ulong[] others = [0, 1, Lowest - 1, Highest + 1, ulong.MaxValue, Lowest | (1UL << 63), 0x34, 0x2b];
        for (int i = offset; i < StackScan.MaximumDepth / sizeof(ulong); i += random.Next(1, 40))
        {
            _memory[i] = random.Next(3) == 0 ? others[random.Next(others.Length)] : Lowest + (ulong)random.NextInt64((long)(Highest - Lowest) + 1);
            if (_memory[i] - Lowest <= Highest - Lowest)
            {
                expected.Add(_memory[i]);
            }
        }

        _memory[offset + 9] = Lowest;
        _memory[offset + 11] = Highest;
        expected.UnionWith([Lowest, Highest]);
        HashSet<ulong> found = [];
        new StackScan(LinuxPlatform.Instance, () => []).Scan(Environment.ProcessId, (ulong)(_memory + offset), Lowest, Highest, word => found.Add(word));
        Assert.That(found.IsSupersetOf(expected), "a word was passed over");
        Assert.That(found.All(w => w is >= Lowest and <= Highest), "a word lies outside");
    }

    /// <summary>What a signal frame says of the stack that the thread was on is followed; wherever in a row of four words the selectors are.</summary>
    [Test]
    public void FollowsFramesToOtherStacks([Range(16, 23)] int at, [Values(0x33UL, 0x33UL | (0x2bUL << 48))] ulong selectors)
    {
        int other = 2 * StackScan.MaximumDepth / sizeof(ulong);
        _memory[at] = selectors;
        _memory[at - 2] = 0x1234_5678;
        _memory[at - 3] = (ulong)(_memory + other);
        _memory[other + 5] = Lowest + 7;
        List<ulong> found = [];
        List<ulong> frames = [];
        StackScan scan = new(LinuxPlatform.Instance, () => []);
        scan.Scan(Environment.ProcessId, (ulong)_memory, Lowest, Highest, found.Add);
        scan.ScanFrames(Environment.ProcessId, (ulong)_memory, frames.Add);
        Assert.That(found, Is.EqualTo(new[] { Lowest + 7 }));
        Assert.That(frames, Is.EqualTo(new[] { 0x1234_5678UL }));
    }

    /// <summary>What lies right behind a stack may be ours, with the addresses of windows in it: they are no thread's.</summary>
    [TestCase(40)]
    [TestCase(8000)]
    [TestCase(0)]
    public void EndsWhereMemoryOfOursBegins(int length)
    {
        for (int i = 0; i < StackScan.MaximumDepth / sizeof(ulong); i++)
        {
            _memory[i] = i % 2 == 0 ? Lowest + 3 : 0;
        }

        int found = 0;
        new StackScan(LinuxPlatform.Instance, () => [(1, 4096), ((ulong)(_memory + length), 4096)]).Scan(Environment.ProcessId, (ulong)_memory, Lowest, Highest, _ => found++);
        Assert.That(found, Is.EqualTo(length / 2));
    }
}

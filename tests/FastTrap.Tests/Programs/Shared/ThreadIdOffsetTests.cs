using System.Buffers.Binary;
using System.Globalization;
using FastTrap.Native;
using FastTrap.Programs.Shared;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>Where the C library keeps a thread's id.</summary>
[TestFixture]
internal sealed class ThreadIdOffsetTests
{
    [TestCase("", TargetLink.Pie)]
    [TestCase("", TargetLink.Static)]
    [TestCase("musl-", TargetLink.Pie)]
    [TestCase("musl-", TargetLink.Static)]
    public void OfAllThreadsItIsAtTheSameDistance(string toolchain, TargetLink link)
    {
        Assume.That(Command.Find(toolchain + "gcc"), Is.Not.Null, "musl-tools is not installed.");
        using TargetProcess target = TargetProcess.StartTarget("lanes", new TargetVariant(link, Toolchain: toolchain));
        target.SendLine("threads 5");
        target.ReadLineStarting("done");
        ThreadSample[] threads =
        [
            .. target.Lines.Where(l => l.StartsWith("thread ", StringComparison.Ordinal)).Select(l => l.Split(' '))
                .Select(w => new ThreadSample(int.Parse(w[1], CultureInfo.InvariantCulture), ulong.Parse(w[2], CultureInfo.InvariantCulture))),
        ];
        Assert.That(threads, Has.Length.EqualTo(6));
        Assert.That(ThreadIdOffset.TryFind(LinuxPlatform.Instance, target.ProcessId, threads, out int offset));
        TestContext.Out.WriteLine($"{toolchain}gcc {link}: {offset}");
        foreach (ThreadSample thread in threads)
        {
            byte[] word = new byte[4];
            Assert.That(LinuxPlatform.Instance.ReadMemory(target.ProcessId, thread.ThreadPointer + (ulong)offset, word), Is.EqualTo(4));
            Assert.That(BinaryPrimitives.ReadInt32LittleEndian(word), Is.EqualTo(thread.ThreadId));

            // What was found for all is found for one that is not the first; of that, there may be two places.
            if (ThreadIdOffset.TryFind(LinuxPlatform.Instance, target.ProcessId, [thread], out int alone))
            {
                Assert.That(alone, Is.EqualTo(offset), $"thread {thread.ThreadId}");
            }
        }

        Assert.That(ThreadIdOffset.TryFind(LinuxPlatform.Instance, target.ProcessId, [threads[0], threads[1] with { ThreadId = 1 << 30 }], out _), Is.False);
        Assert.That(ThreadIdOffset.TryFind(LinuxPlatform.Instance, target.ProcessId, [threads[0] with { ThreadPointer = 0x10_0000 }], out _), Is.False);
    }

    [Test]
    public void OfOneThreadAnAmbiguousPlaceIsNotBelieved()
    {
        byte[] memory = new byte[2 * ThreadIdOffset.Reach];
        BinaryPrimitives.WriteInt32LittleEndian(memory.AsSpan(ThreadIdOffset.Reach + 720), 4711);
        bool[]? candidates = null;
        ThreadIdOffset.Narrow(memory, 4711, ref candidates);
        Assert.That(ThreadIdOffset.TryChoose(candidates, 1, out int offset));
        Assert.That(offset, Is.EqualTo(720));
        BinaryPrimitives.WriteInt32LittleEndian(memory.AsSpan(ThreadIdOffset.Reach - 32), 4711);
        candidates = null;
        ThreadIdOffset.Narrow(memory, 4711, ref candidates);
        Assert.That(ThreadIdOffset.TryChoose(candidates, 1, out _), Is.False);

        // A second thread decides.
        BinaryPrimitives.WriteInt32LittleEndian(memory.AsSpan(ThreadIdOffset.Reach + 720), 4712);
        ThreadIdOffset.Narrow(memory, 4712, ref candidates);
        Assert.That(ThreadIdOffset.TryChoose(candidates, 2, out offset));
        Assert.That(offset, Is.EqualTo(720));
    }
}

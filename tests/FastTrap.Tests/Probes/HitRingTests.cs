using System.Runtime.CompilerServices;
using FastTrap.Engine;
using FastTrap.Probes;

namespace FastTrap.Tests.Probes;

/// <summary>The ring between the control thread and a reader.</summary>
[TestFixture]
public sealed class HitRingTests
{
    [TestCase(1, 1)]
    [TestCase(5, 8)]
    [TestCase(16, 16)]
    public void KeepsTheOldestAndCountsTheRest(int capacity, int kept)
    {
        HitRing ring = new(capacity, 0);
        for (int i = 0; i < 100; i++)
        {
            Assert.That(TryPut(ring, i), Is.EqualTo(i < kept));
        }

        Assert.That(ring.Lost, Is.EqualTo(100 - kept));
        Assert.That(TakeAll(ring), Is.EqualTo(Enumerable.Range(0, kept)));
        Assert.That(TryPut(ring, 7), Is.True, "what was taken makes room");
    }

    [Test]
    public void StackBelongsToItsHit()
    {
        HitRing ring = new(4, 3);
        for (int i = 0; i < 10; i++)
        {
            ref HitRecord record = ref ring.TryBegin(out long position, out Span<ulong> stack, out _);
            Assert.That(stack.Length, Is.EqualTo(3));
            stack[0] = (ulong)i;
            stack[1] = (ulong)i + 1;
            record.Source = Source;
            record.StackCount = i % 3;
            ring.End(position);
            Assert.That(ring.TryTake(out ProbeHit hit));
            Assert.That(hit.Stack.ToArray(), Is.EqualTo(new[] { (ulong)i, (ulong)i + 1 }.Take(i % 3)));
        }
    }

    [Test]
    public async Task WriterAndReaderAgreeOnEveryHit()
    {
        const int Hits = 300_000;
        HitRing ring = new(64, 0);
        int put = 0;
        Thread writer = new(() =>
        {
            for (int i = 0; i < Hits; i++)
            {
                put += TryPut(ring, i) ? 1 : 0;
                if (i % 1000 == 0)
                {
                    // Lets the reader run dry and go to sleep.
                    Thread.Yield();
                }
            }

            ring.Complete();
        });
        writer.Start();
        long last = -1;
        int taken = 0;
        while (await ring.WaitAsync(CancellationToken.None).AsTask().WaitAsync(TimeSpan.FromSeconds(30)))
        {
            while (ring.TryTake(out ProbeHit hit))
            {
                Assert.That(hit.TimestampNs, Is.GreaterThan(last));
                last = hit.TimestampNs;
                taken++;
            }
        }

        writer.Join();
        Assert.That(taken, Is.EqualTo(put));
        Assert.That(taken + ring.Lost, Is.EqualTo(Hits));
    }

    [Test]
    public async Task SeveralWritersAndOneReaderAgreeOnEveryHit()
    {
        const int Hits = 100_000;
        const int Writers = 4;
        HitRing ring = new(64, 0);
        int[] put = new int[Writers];
        Thread[] writers =
        [
            .. Enumerable.Range(0, Writers).Select(w => new Thread(() =>
            {
                for (int i = 0; i < Hits; i++)
                {
                    put[w] += TryPut(ring, (i * Writers) + w) ? 1 : 0;
                    if (i % 1000 == 0)
                    {
                        Thread.Yield();
                    }
                }
            })),
        ];
        Array.ForEach(writers, w => w.Start());
        Task completion = Task.Run(() =>
        {
            Array.ForEach(writers, w => w.Join());
            ring.Complete();
        });
        long[] last = [-1, -1, -1, -1];
        int[] taken = new int[Writers];
        while (await ring.WaitAsync(CancellationToken.None).AsTask().WaitAsync(TimeSpan.FromSeconds(30)))
        {
            while (ring.TryTake(out ProbeHit hit))
            {
                int writer = (int)(hit.TimestampNs % Writers);
                Assert.That(hit.TimestampNs, Is.GreaterThan(last[writer]), "each writer's hits come in their order");
                last[writer] = hit.TimestampNs;
                taken[writer]++;
            }
        }

        await completion;
        Assert.That(taken, Is.EqualTo(put));
        Assert.That(taken.Sum() + ring.Lost, Is.EqualTo(Hits * Writers));
    }

    [Test]
    public async Task CancelledReadersLoseNothing()
    {
        HitRing ring = new(64, 0);
        for (int round = 0; round < 50; round++)
        {
            using CancellationTokenSource cancellation = new();
            Task<bool> wait = ring.WaitAsync(cancellation.Token).AsTask();
            await cancellation.CancelAsync();
            Assert.That(async () => await wait, Throws.InstanceOf<OperationCanceledException>());
            Assert.That(TryPut(ring, round));
            Assert.That(await ring.WaitAsync(CancellationToken.None));
            Assert.That(TakeAll(ring), Is.EqualTo(new[] { round }));
        }

        Task<bool> last = ring.WaitAsync(CancellationToken.None).AsTask();
        Assert.That(last.IsCompleted, Is.False, "old signals end no new wait");
        ring.Complete();
        Assert.That(await last.WaitAsync(TimeSpan.FromSeconds(30)), Is.False);
    }

    [Test]
    public async Task WhatIsInTheRingAtItsEndIsStillRead()
    {
        HitRing ring = new(8, 0);
        TryPut(ring, 1);
        ring.Complete();
        Assert.That(await ring.WaitAsync(CancellationToken.None), Is.True);
        Assert.That(TakeAll(ring), Is.EqualTo(new[] { 1 }));
        Assert.That(await ring.WaitAsync(CancellationToken.None), Is.False);
    }

    private static readonly EnabledProbe Source = new(null!, null!);

    private static bool TryPut(HitRing ring, int number)
    {
        ref HitRecord record = ref ring.TryBegin(out long position, out _, out _);
        if (Unsafe.IsNullRef(ref record))
        {
            return false;
        }

        record.Source = Source;
        record.TimestampNs = number;
        record.StackCount = 0;
        ring.End(position);
        return true;
    }

    private static List<int> TakeAll(HitRing ring)
    {
        List<int> numbers = [];
        while (ring.TryTake(out ProbeHit hit))
        {
            numbers.Add((int)hit.TimestampNs);
        }

        return numbers;
    }
}

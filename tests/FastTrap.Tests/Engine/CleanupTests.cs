using System.Runtime.CompilerServices;
using FastTrap.Control;
using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>The generation barrier and the cleaner.</summary>
[TestFixture]
public sealed class CleanupTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    [Test]
    public void BarrierWaitsForThreadsAtWorkOnly()
    {
        GenerationBarrier barrier = new();
        PassCounter atWork = new();
        PassCounter asleep = new();
        PassCounter ended = new();
        atWork.Pass();
        asleep.Pass();
        asleep.Rest();
        ended.Pass();
        ended.End();
        Array.ForEach([atWork, asleep, ended], barrier.Add);

        long changed = barrier.Generation;
        Assert.That(barrier.IsPassed(changed), Is.False);
        Assert.That(barrier.Wait(changed, TimeSpan.FromMilliseconds(1)), Is.False, "A thread was still at work.");
        Assert.That(barrier.IsPassed(changed), Is.False);

        using ManualResetEventSlim waiting = new();
        Task<bool> wait = Task.Run(() =>
        {
            waiting.Set();
            return barrier.Wait(changed, s_patience);
        });
        waiting.Wait();
        while (!wait.IsCompleted)
        {
            atWork.Pass();
        }

        Assert.That(wait.Result);
        Assert.That(barrier.IsPassed(changed));
        Assert.That(barrier.IsPassed(barrier.Generation), Is.False, "What is changed from now on is not served.");
    }

    [Test]
    public void ThreadThatSleepsDuringTheWaitPassesIt()
    {
        GenerationBarrier barrier = new();
        PassCounter thread = new();
        thread.Pass();
        barrier.Add(thread);
        Task<bool> wait = Task.Run(() => barrier.Wait(barrier.Generation, s_patience));
        thread.Rest();
        Assert.That(wait.Wait(s_patience) && wait.Result);
    }

    /// <summary>A reader that found something in a pass may use it to the end of the pass, however often it is taken away and used again.</summary>
    [Test]
    public void NothingIsUsedAgainWhileAPassThatFoundItGoesOn()
    {
        GenerationBarrier barrier = new();
        PassCounter thread = new();
        barrier.Add(thread);
        StrongBox<int>? shared = new();
        int wrong = 0;
        int passes = 0;
        bool over = false;
        Thread reader = new(() =>
        {
            while (!Volatile.Read(ref over))
            {
                thread.Pass();
                StrongBox<int> found = Volatile.Read(ref shared)!;
                int before = Volatile.Read(ref found.Value);
                Thread.SpinWait(passes++ % 64);
                wrong += Volatile.Read(ref found.Value) == before ? 0 : 1;
                if (passes % 16 == 0)
                {
                    thread.Rest();
                }
            }

            thread.End();
        });
        reader.Start();
        StrongBox<int> spare = new();
        for (int i = 1; i <= 3000 || Volatile.Read(ref passes) <= 100; i++)
        {
            StrongBox<int> old = Interlocked.Exchange(ref shared, spare);
            Assert.That(barrier.Wait(barrier.Generation, s_patience));

            // Nobody can be using it: it serves again, as another thing.
            Volatile.Write(ref old.Value, i);
            spare = old;
        }

        Volatile.Write(ref over, true);
        reader.Join();
        Assert.That(wrong, Is.Zero);
        Assert.That(passes, Is.GreaterThan(100));
    }

    [Test]
    public void CleanerTriesAgainUntilNothingIsLeftAndEnds()
    {
        int left = 3;
        int sweeps = 0;
        Cleaner cleaner = new(
            _ =>
            {
                sweeps++;
                return Math.Max(0, --left);
            },
            TimeSpan.FromMilliseconds(1));
        Assert.That(cleaner.IsRunning, Is.False, "A thread without work.");
        cleaner.Kick();
        Assert.That(SpinWait.SpinUntil(() => !cleaner.IsRunning, s_patience));
        Assert.That(sweeps, Is.EqualTo(3));

        cleaner.Kick();
        Assert.That(SpinWait.SpinUntil(() => !cleaner.IsRunning, s_patience));
        Assert.That(sweeps, Is.EqualTo(4));
    }

    [Test]
    public void DrainDoesNotWaitForTheNextTry()
    {
        int left = 5;
        Cleaner cleaner = new(_ => Interlocked.Decrement(ref left) > 0 ? 1 : 0, TimeSpan.FromHours(1));
        cleaner.Kick();
        Assert.That(cleaner.Drain(s_patience));
        Assert.That((left <= 0, cleaner.IsRunning), Is.EqualTo((true, false)));
    }

    [Test]
    public void DrainGivesUpInTimeAndTheCleanerGoesOn()
    {
        int left = 1;
        Cleaner cleaner = new(_ => Volatile.Read(ref left), TimeSpan.FromMilliseconds(1));
        Assert.That(cleaner.Drain(TimeSpan.FromMilliseconds(20)), Is.False);
        Assert.That(cleaner.IsRunning);
        Volatile.Write(ref left, 0);
        Assert.That(SpinWait.SpinUntil(() => !cleaner.IsRunning, s_patience));
    }

    [Test]
    public void WorkThatComesDuringASweepIsDone()
    {
        int sweeps = 0;
        Cleaner? cleaner = null;
        cleaner = new Cleaner(
            _ =>
            {
                if (++sweeps == 1)
                {
                    cleaner!.Kick();
                }

                return 0;
            },
            TimeSpan.FromHours(1));
        cleaner.Kick();
        Assert.That(SpinWait.SpinUntil(() => !cleaner.IsRunning, s_patience));
        Assert.That(sweeps, Is.EqualTo(2));
    }
}

using FastTrap.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Native;

/// <summary>A word by which those who share memory with a thread see that it lives.</summary>
public sealed class HeldWordTests
{
    private const int First = HeldWord.PageLength - HeldWord.SharedLength;

    [Test]
    public void TheWordIsTheThreadsUntilItIsGivenBack()
    {
        using SharedMemory memory = Map();
        int id = 0;
        int held = 0;
        OnThread(() =>
        {
            Assert.That(LinuxPlatform.Instance.Hold(memory, 0, out HeldWord? word), Is.EqualTo(Errno.None));
            id = LinuxPlatform.Instance.CurrentThreadId;
            held = Read(memory, word!.Index);
            word.Release();
            Assert.That(Read(memory, word.Index), Is.Zero);
            Assert.That(word.Release, Throws.InvalidOperationException);
        });
        Assert.That(held, Is.EqualTo(id));
    }

    /// <summary>Whatever those who share the memory have written there.</summary>
    [TestCase(0)]
    [TestCase(-1)]
    public void ThePagesOfAThreadThatEndsAreMarked(int written)
    {
        using SharedMemory memory = Map();
        HeldWord? word = null;
        OnThread(() =>
        {
            Assert.That(LinuxPlatform.Instance.Hold(memory, 0, out word), Is.EqualTo(Errno.None));
            memory.Slice(First, HeldWord.SharedLength)[((word!.Index + 1) * sizeof(int))..].Fill((byte)written);
        });
        long end = Environment.TickCount64 + 60_000;
        while (((uint)Read(memory, word!.Index) & HeldWord.Ended) == 0)
        {
            // Managed code is over a little earlier than the thread.
            Assert.That(Environment.TickCount64, Is.LessThan(end));
            Thread.Yield();
        }

        Assert.That(word.Release, Throws.InvalidOperationException, "by another thread");
    }

    [Test]
    public void WhatWasOverwrittenIsGivenBackAllTheSame()
    {
        using SharedMemory memory = Map();
        OnThread(() =>
        {
            Assert.That(LinuxPlatform.Instance.Hold(memory, 0, out HeldWord? word), Is.EqualTo(Errno.None));
            memory.Slice(First, HeldWord.SharedLength).Fill(0xff);
            word!.Release();
            Assert.That(Read(memory, word.Index), Is.Zero);
        });
    }

    [Test]
    public void AThreadHoldsNoMoreThanTheKernelLooksAt()
    {
        using SharedMemory memory = Map();
        OnThread(() =>
        {
            List<HeldWord> words = [];
            for (int i = 0; i < HeldWord.MostOfAThread; i++)
            {
                Assert.That(LinuxPlatform.Instance.Hold(memory, 0, out HeldWord? word), Is.EqualTo(Errno.None));
                words.Add(word!);
            }

            Assert.That(LinuxPlatform.Instance.Hold(memory, 0, out HeldWord? none), Is.EqualTo(Errno.EAGAIN));
            Assert.That(none, Is.Null);
            words.ForEach(w => w.Release());
            Assert.That(LinuxPlatform.Instance.Hold(memory, 0, out HeldWord? again), Is.EqualTo(Errno.None));
            again!.Release();
        });
    }

    private static int Read(SharedMemory memory, int index) => BitConverter.ToInt32(memory.Slice(First + (index * sizeof(int)), sizeof(int)));

    private static unsafe SharedMemory Map()
    {
        int file;
        fixed (byte* name = "word"u8)
        {
            file = LibC.memfd_create(name, LibC.MFD_CLOEXEC);
        }

        Errno error = LinuxPlatform.Instance.MapMemoryFile(Environment.ProcessId, file, "word", HeldWord.PageLength, out SharedMemory? memory);
        Posix.Close(file);
        return error == Errno.None ? memory! : throw new InvalidOperationException($"{error}");
    }

    /// <summary>On a thread of its own.</summary>
    private static void OnThread(Action action)
    {
        Exception? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                action();
            }
            catch (Exception exception)
            {
                failure = exception;
            }
        });
        thread.Start();
        thread.Join();
        Assert.That(failure, Is.Null);
    }
}

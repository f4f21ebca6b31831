namespace FastTrap.Tests.Fuzz;

/// <summary>What a run saw.</summary>
internal readonly record struct FuzzOutcome(long Accepted, long Refused, long MostBytes);

/// <summary>
/// Gives damaged inputs to a reader: another exception than its refusal, memory out of proportion, or no end, is a failure which says how to
/// make the input again.
/// </summary>
internal static class Fuzzer
{
    /// <summary>A reader that takes so long for one input hangs: all take microseconds. The process is ended, for nothing else ends such a thread.</summary>
    private static readonly TimeSpan s_hang = TimeSpan.FromMinutes(2);

    /// <summary>Runs so many inputs. The good ones must be accepted.</summary>
    public static FuzzOutcome Run(FuzzTarget target, int seed, long count)
    {
        IReadOnlyList<byte[]> corpus = target.Corpus();
        Assert.That(corpus, Is.Not.Empty);
        foreach (byte[] good in corpus)
        {
            Assert.That(target.Read(good), Is.True, "A good input must be accepted.");
        }

        Mutator mutator = new(seed, corpus);
        long accepted = 0;
        long refused = 0;
        long most = 0;
        long current = 0;
        using ManualResetEventSlim end = new();
        Thread watch = new(() => Watch(target, seed, end, () => Volatile.Read(ref current))) { IsBackground = true };
        watch.Start();
        try
        {
            for (; current < count; Volatile.Write(ref current, current + 1))
            {
                ReadOnlySpan<byte> input = mutator.Next();
                long before = GC.GetAllocatedBytesForCurrentThread();
                bool isAccepted = TryRead(target, input, seed, current);
                long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
                if (bytes > target.Allowance.Always + (target.Allowance.EachByte * input.Length))
                {
                    Assert.Fail($"{bytes} bytes of memory for an input of {input.Length}. {Describe(target, seed, current, input)}");
                }

                most = Math.Max(most, bytes);
                accepted += isAccepted ? 1 : 0;
                refused += isAccepted ? 0 : 1;
            }
        }
        finally
        {
            end.Set();
            watch.Join();
        }

        return new FuzzOutcome(accepted, refused, most);
    }

    private static bool TryRead(FuzzTarget target, ReadOnlySpan<byte> input, int seed, long number)
    {
        try
        {
            return target.Read(input);
        }
        catch (Exception exception) when (exception.GetType() == target.Refusal)
        {
            return false;
        }
        catch (Exception exception)
        {
            Assert.Fail($"{exception.GetType()}: {exception.Message} {Describe(target, seed, number, input)}\n{exception.StackTrace}");
            throw;
        }
    }

    private static string Describe(FuzzTarget target, int seed, long number, ReadOnlySpan<byte> input) =>
        $"{target.Name}, seed {seed}, input {number}: {Convert.ToHexString(input[..Math.Min(input.Length, 4096)])}";

    private static void Watch(FuzzTarget target, int seed, ManualResetEventSlim end, Func<long> current)
    {
        long last = -1;
        while (!end.Wait(s_hang))
        {
            long now = current();
            if (now == last)
            {
                Environment.FailFast($"A reader hangs: {target.Name}, seed {seed}, input {now}.");
            }

            last = now;
        }
    }
}

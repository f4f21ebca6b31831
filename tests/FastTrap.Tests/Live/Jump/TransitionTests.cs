using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Whatever comes and goes at the same instructions while threads run, with signals among them: who was there before counts each hit once.</summary>
[TestFixture]
public sealed class TransitionTests : LiveTest
{
    private const int Steps = 3;

    private static readonly string[] s_functions = ["hot", "leaf", "inner"];

    [TestCase("", 0, 1, 8)]
    [TestCase("-fcf-protection=full", 0, 2, 8)]
    [TestCase("", 300, 3, 8)]
    [TestCase("-fcf-protection=full", 300, 4, 8)]
    [TestCase("", 300, 5, 200, Explicit = true, Reason = "Minutes.")]
    [TestCase("-fcf-protection=full", 300, 6, 200, Explicit = true, Reason = "Minutes.")]
    public async Task EachHitIsCountedOnceWhateverComesAndGoes(string flags, int microseconds, int seed, int rounds)
    {
        Random random = new(seed);
        using TargetProcess target = TargetProcess.StartTarget("transit", new TargetVariant(Flags: flags), ["4", $"{microseconds}"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<string> story = [];
        int came = 0;
        for (int round = 0; round < rounds; round++)
        {
            story.Clear();
            List<Residents> residents = [];
            for (int i = random.Next(1, 4); i > 0; i--)
            {
                string function = s_functions[random.Next(s_functions.Length)];
                if (await TryEnableAsync(process, $"a.out:{function}:{(random.Next(2) == 0 ? "entry" : "return")}", random, story) is { } counter)
                {
                    residents.Add(new Residents(function, counter));
                }
            }

            target.SendLine("run");
            target.ReadLineStarting("running");
            List<Counter> newcomers = [];
            for (int i = 0; i < Steps; i++)
            {
                // Some at the same time.
                List<Task<Counter?>> coming = [];
                List<Task> going = [];
                for (int j = random.Next(1, 4); j > 0; j--)
                {
                    if (newcomers.Count != 0 && random.Next(3) == 0)
                    {
                        Counter leaver = newcomers[random.Next(newcomers.Count)];
                        newcomers.Remove(leaver);
                        going.Add(leaver.DisposeAsync().AsTask());
                    }
                    else
                    {
                        string place = random.Next(4) switch { 0 => "entry", 1 => "return", 2 => "*", _ => "0" };
                        coming.Add(TryEnableAsync(process, $"a.out:{s_functions[random.Next(s_functions.Length)]}:{place}", random, story));
                    }
                }

                await Task.WhenAll(going);
                newcomers.AddRange((await Task.WhenAll(coming)).OfType<Counter>());
            }

            came += newcomers.Count;
            target.SendLine("stop");
            Dictionary<string, long> counts = s_functions.ToDictionary(f => f, target.ReadCount);
            foreach (Residents resident in residents)
            {
                Assert.That(resident.Counter.Count, Is.EqualTo(counts[resident.Function]), $"round {round}, {resident.Function}: {string.Join(", ", story)}");
            }

            foreach (Counter counter in newcomers.Concat(residents.Select(r => r.Counter)).OrderBy(_ => random.Next()))
            {
                await counter.DisposeAsync();
            }
        }

        Assert.That(came, Is.GreaterThan(rounds), "hardly anybody came");
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>Null: the mechanism that is insisted on cannot be had beside the others.</summary>
    private static async Task<Counter?> TryEnableAsync(TracedProcess process, string description, Random random, List<string> story)
    {
        int kind = random.Next(5);
        ProbeMechanism mechanism = kind switch { 0 => ProbeMechanism.Jump, 1 => ProbeMechanism.InProcessTrap, _ => ProbeMechanism.Auto };
        Tell($"{description} {(kind == 2 ? "Handler" : $"{mechanism}")}");
        try
        {
            if (kind == 2)
            {
                ProbeEnabling handler = await process.EnableAsync(description, CountOnly);
                return new Counter(() => handler.HitCount, handler);
            }

            ProbeSum sum = await process.On(description).WithMechanism(mechanism).Count().EnableAsync();
            return new Counter(() => sum.Count, sum);
        }
        catch (FastTrapException refused) when (refused.Message.Contains("asked for", StringComparison.Ordinal))
        {
            Tell($"{description} refused: {refused.Message}");
            return null;
        }

        void Tell(string what)
        {
            lock (story)
            {
                story.Add(what);
            }
        }
    }

    private sealed record Residents(string Function, Counter Counter);

    private sealed class Counter(Func<long> count, IAsyncDisposable enabling) : IAsyncDisposable
    {
        public long Count => count();

        public ValueTask DisposeAsync() => enabling.DisposeAsync();
    }
}

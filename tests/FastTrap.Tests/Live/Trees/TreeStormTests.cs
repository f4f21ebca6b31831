using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live.Trees;

/// <summary>
/// Processes of many threads which fork, vfork, execute, load and unload libraries, raise signals and end, all followed and probed, while other probes come and go: nothing is lost, nothing hangs, and every
/// count is the targets' own.
/// </summary>
[TestFixture]
public sealed class TreeStormTests : LiveTest
{
    /// <summary>How long the storm on request lasts.</summary>
    private const string SecondsVariable = "FASTTRAP_STORM_SECONDS";

    [Test]
    public async Task EveryCallBirthAndExecutionIsSeenOnce([Values(1, 2)] int seed) => await StormAsync(2, 8, 24, 2, seed);

    [Test, Explicit("a minute")]
    public async Task TwentySeeds([Range(3, 22)] int seed) => await StormAsync(2, 8, 24, 2, seed);

    /// <summary>The command of the long storm: see docs/performance.md.</summary>
    [Test, Explicit("minutes: FASTTRAP_STORM_SECONDS says how many seconds")]
    public async Task EightProcessesOfSixteenThreads()
    {
        int seconds = int.Parse(Environment.GetEnvironmentVariable(SecondsVariable) ?? "60", CultureInfo.InvariantCulture);
        long start = Environment.TickCount64;
        long end = start + (seconds * 1000L);
        List<long> memory = [];
        int round = 0;
        long hits = 0;
        long births = 0;
        do
        {
            (long Hits, long Births) seen = await StormAsync(8, 16, 40, 2, 1000 + round);
            hits += seen.Hits;
            births += seen.Births;
            round++;
            memory.Add(GC.GetTotalMemory(forceFullCollection: true));
            TestContext.Progress.WriteLine($"{round} storms, {hits} hits, {births} births, {memory[^1] >> 10} KiB, {Environment.TickCount64 - start} ms");
        }
        while (Environment.TickCount64 < end);
        TestContext.Out.WriteLine(
            $"{round} storms, {hits} hits, {births} births: all as the targets counted. Memory in use: {memory[0] >> 10} KiB after the first, {memory[^1] >> 10} KiB after the last.");
    }

    private static async Task<(long Hits, long Births)> StormAsync(int processes, int threads, int rounds, int stages, int seed)
    {
        string plugin = TargetBuilder.BuildLibrary("storm_plugin");
        int descriptors = CountDescriptors();
        List<TargetProcess> targets = [];
        Tracer tracer = new();
        try
        {
            await using EventLog log = new(tracer);
            StandingEnabling hot = await tracer.EnableAsync("a.out:hot:entry", CountOnly);
            StandingEnabling loaded = await tracer.EnableAsync("libstorm_plugin.so:plugin_hot:entry", CountOnly);
            for (int i = 0; i < processes; i++)
            {
                string[] arguments = [$"{threads}", $"{rounds}", $"{stages}", $"{(seed * 100) + i}", plugin];
                TargetProcess target = TargetProcess.StartTarget("storm", null, arguments, new TargetStart { Timeout = TimeSpan.FromMinutes(5) });
                targets.Add(target);
                await tracer.AttachAsync(target.ProcessId, new AttachOptions { FollowChildren = true });
            }

            using CancellationTokenSource over = new();
            Task[] users = [.. new[] { "a.out:hot:return", "a.out:fork_*:entry", "libc.so.6:waitpid:*", "libstorm_plugin.so:*:return" }.Select(text => Task.Run(() => ComeAndGoAsync(tracer, text, over.Token)))];
            targets.ForEach(t => t.SendLine("go"));
            long calls = targets.Sum(t => t.ReadCount("hot"));
            long plugins = targets.Sum(t => t.ReadCount("plugin"));
            long births = targets.Sum(t => t.ReadCount("births"));
            long executions = targets.Sum(t => t.ReadCount("execs"));
            foreach (TargetProcess target in targets)
            {
                Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(3, 0)), string.Join('\n', target.Lines));
                Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
            }

            await over.CancelAsync();
            await Task.WhenAll(users);
            WaitUntil(() => tracer.Processes.All(p => p.Completion.IsCompleted), "the end of all processes");
            Assert.That(hot.ProcessFailures.Concat(loaded.ProcessFailures), Is.Empty);
            Assert.That(hot.Failures.Select(f => $"{f} {string.Join(", ", log.All.Where(e => f.Probe.Contains($"pid{e.ProcessId}:", StringComparison.Ordinal)))}"), Is.Empty);
            Assert.That(loaded.Failures, Is.Empty);
            Assert.That(hot.HitCount, Is.EqualTo(calls), "calls of hot");
            Assert.That(loaded.HitCount, Is.EqualTo(plugins), "calls of plugin_hot");
            Assert.That(hot.GetHitCounts().Values.Sum(), Is.EqualTo(calls));
            await tracer.DisposeAsync();
            Assert.That(tracer.Processes, Is.Empty);
            await log.AssertInOrderAsync();
            Assert.That(log.Count(ProcessEventKind.Forked), Is.EqualTo(births), "births");
            Assert.That(log.Count(ProcessEventKind.Executed), Is.EqualTo(executions), "executions");
            Assert.That(log.Count(ProcessEventKind.Ended), Is.EqualTo(births + processes), "ends");
            return (calls, births);
        }
        finally
        {
            await tracer.DisposeAsync();
            targets.ForEach(t => t.Dispose());
            WaitUntil(() => CountDescriptors() <= descriptors, "descriptors to be given back");
            WaitUntil(() => CountControlThreads() == 0, "the ends of control threads");
        }
    }

    /// <summary>What targets cost: their memory, their files in /proc, pipes to them. The runtime opens its own files when it needs them.</summary>
    private static int CountDescriptors() =>
        Directory.GetFileSystemEntries("/proc/self/fd").Select(path => new FileInfo(path).LinkTarget ?? "").Count(
            target => target.StartsWith("/proc/", StringComparison.Ordinal) || target.StartsWith("anon_inode:[pidfd]", StringComparison.Ordinal));

    private static int CountControlThreads() => Directory.GetDirectories("/proc/self/task").Count(path => ReadName(path).StartsWith("FastTrap", StringComparison.Ordinal));

    private static string ReadName(string path)
    {
        try
        {
            return File.ReadAllText(path + "/comm");
        }
        catch (IOException)
        {
            // It has ended.
            return "";
        }
    }

    /// <summary>A user who enables and disables all the while.</summary>
    private static async Task ComeAndGoAsync(Tracer tracer, string text, CancellationToken over)
    {
        while (!over.IsCancellationRequested)
        {
            StandingEnabling standing = await tracer.EnableAsync(text, CountOnly, cancellationToken: CancellationToken.None);
            await Task.Yield();
            await standing.DisposeAsync();
            long after = standing.HitCount;
            Assert.That(standing.HitCount, Is.EqualTo(after), "a hit after the disposal");
        }
    }
}

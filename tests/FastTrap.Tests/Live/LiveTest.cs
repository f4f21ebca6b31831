using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>What tests on live targets share. They run one after another: each is timed by its target, not by us.</summary>
[NonParallelizable]
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
public abstract class LiveTest
{
    /// <summary>Longest wait for something that must happen.</summary>
    protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    protected Tracer Tracer { get; } = new();

    [TearDown]
    public async Task DisposeTracer() => await Tracer.DisposeAsync();

    /// <summary>Options of an enabling whose hits are counted only.</summary>
    protected static ProbeOptions CountOnly { get; } = new() { Buffered = false };

    /// <summary>The lines which a target prints when nobody looks.</summary>
    internal static IReadOnlyList<string> RunAlone(string name, TargetVariant? variant = null, params string[] arguments)
    {
        using TargetProcess target = TargetProcess.StartTarget(name, variant, arguments);
        target.SendLine("go");
        target.ReadLineStarting(LastLineOf(name));
        target.SendLine("end");
        TargetExit exit = target.WaitForExit();
        Assert.That(exit, Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        return Comparable(target.Lines);
    }

    /// <summary>How the line begins which says that a target's work is done.</summary>
    internal static string LastLineOf(string name) => name == "hashing" ? "count sha256_block" : "checksum ";

    /// <summary>Lines without those that name the process.</summary>
    internal static IReadOnlyList<string> Comparable(IEnumerable<string> lines) =>
        [.. lines.Where(line => !line.StartsWith("ready ", StringComparison.Ordinal) && !line.StartsWith("signals ", StringComparison.Ordinal)
            && !line.StartsWith("count in_handler", StringComparison.Ordinal))];

    /// <summary>Waits for a condition by looking again and again, never longer than <see cref="Patience"/>.</summary>
    protected static void WaitUntil(Func<bool> condition, string what)
    {
        long start = Environment.TickCount64;
        while (!condition())
        {
            Assert.That(Environment.TickCount64 - start, Is.LessThan((long)Patience.TotalMilliseconds), $"waited in vain: {what}");
            Thread.Yield();
        }
    }
}

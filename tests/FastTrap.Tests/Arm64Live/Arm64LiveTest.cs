using FastTrap.Tests.Arm64Live.Guest;

namespace FastTrap.Tests.Arm64Live;

/// <summary>
/// Tests on live targets on a real arm64 kernel, in a virtual machine: the whole library runs here, its platform there. Each class runs on a processor without, and on one with
/// pointer authentication, landing pads, LSE and SVE.
/// </summary>
[NonParallelizable]
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
public abstract class Arm64LiveTest(string processor)
{
    public const string Plain = "cortex-a72";
    public const string Full = "max,pauth-impdef=on";

    /// <summary>Longest wait for something that must happen.</summary>
    protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>Options of an enabling whose hits are counted only.</summary>
    protected static ProbeOptions CountOnly { get; } = new() { Buffered = false };

    private protected GuestMachine Machine { get; } = Guests.Get(processor);

    protected bool HasEverything { get; } = processor == Full;

    protected Tracer Tracer { get; private set; } = null!;

    [SetUp]
    public void MakeTracer() => Tracer = new Tracer(null, Machine.Platform);

    [TearDown]
    public async Task DisposeTracer() => await Tracer.DisposeAsync();

    private protected GuestProcess Start(string target, params string[] arguments) => GuestProcess.Start(Machine, target, arguments);

    /// <summary>The lines which a target prints when nobody looks.</summary>
    private protected IReadOnlyList<string> RunAlone(string name, params string[] arguments)
    {
        using GuestProcess target = Start(name, arguments);
        target.SendLine("go 12");
        target.ReadLineStarting(LastLineOf(name));
        AssertEnds(target);
        return Comparable(target);
    }

    /// <summary>The target's text is clean, it ends well, and has printed what it prints alone.</summary>
    private protected void AssertEndsAs(GuestProcess target, IReadOnlyList<string> alone)
    {
        AssertEnds(target);
        Assert.That(Comparable(target), Is.EqualTo(alone));
    }

    /// <summary>The target's text is clean, and it ends well.</summary>
    private protected void AssertEnds(GuestProcess target)
    {
        GuestText.AssertClean(Machine, target);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TestKit.TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    private static string LastLineOf(string name) => name == "arm64_instructions" ? "sum " : "checksum ";

    private static string[] Comparable(GuestProcess target) => [.. target.Lines.Where(l => !l.StartsWith("ready ", StringComparison.Ordinal)).SkipLast(1)];

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

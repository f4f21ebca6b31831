namespace FastTrap.Tests.Live;

/// <summary>Tests that hold for each mechanism: what a handler would count, a query counts by it.</summary>
/// <param name="mechanism">The one to be used: Jump where it can be had, any other always.</param>
public abstract class MechanismTest(ProbeMechanism mechanism) : LiveTest
{
    protected ProbeMechanism Mechanism { get; } = mechanism;

    /// <summary>Whether the probed threads do not stop: then more can be asked of them.</summary>
    protected bool IsFast => Mechanism == ProbeMechanism.Jump;

    /// <summary>Whether hits are counted by a query, all together.</summary>
    protected bool IsQuery => Mechanism != ProbeMechanism.Breakpoint;

    /// <summary>Enables probes that count: by a handler, or by a query.</summary>
    protected async Task<Counting> CountAsync(TracedProcess process, string description)
    {
        if (Mechanism == ProbeMechanism.Breakpoint)
        {
            return new Counting(Mechanism, await process.EnableAsync(description, CountOnly), null);
        }

        ProbeQuery query = process.On(description);
        ProbeSum sum = await (Mechanism == ProbeMechanism.Jump ? query : query.WithMechanism(Mechanism)).Count().EnableAsync();
        Counting counting = new(Mechanism, sum.Enablings[0], sum);
        TestContext.Out.WriteLine($"{description}: {counting}");
        return counting;
    }

    /// <summary>What counts, by either way.</summary>
    protected sealed class Counting(ProbeMechanism mechanism, ProbeEnabling enabling, ProbeSum? sum) : IAsyncDisposable
    {
        public long HitCount => sum?.Count ?? Enabling.HitCount;

        public ProbeEnabling Enabling { get; } = enabling;

        /// <summary>How many instructions are probed without a trap to the tracer.</summary>
        public int Jumps => sum?.Mechanisms.Jump ?? 0;

        /// <summary>Whether nothing is probed in another way than by traps in the process, if those were asked for.</summary>
        public bool IsAsAsked => sum is null || mechanism == ProbeMechanism.Jump || (sum.Mechanisms.Jump, sum.Mechanisms.Breakpoint) == (0, 0);

        public ValueTask DisposeAsync() => sum?.DisposeAsync() ?? Enabling.DisposeAsync();

        public override string ToString() => sum is null
            ? $"{Enabling.Probes.Count} probes"
            : $"jump {sum.Mechanisms.Jump}, trap {sum.Mechanisms.InProcessTrap}, breakpoint {sum.Mechanisms.Breakpoint}: {string.Join("; ", sum.Mechanisms.Reasons.OrderByDescending(r => r.Value).Select(r => $"{r.Value} {r.Key}"))}";
    }
}

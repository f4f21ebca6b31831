using System.Diagnostics;
using FastTrap.Engine;
using FastTrap.Isa;

namespace FastTrap;

/// <summary>What an enabling costs, and what is done when that is too much.</summary>
/// <remarks>
/// Scheme. The control thread measures and decides, at the end of a stop; what is to be done is work like any other, posted to the control thread from outside. From the decision on
/// no hit fires. A dispose meanwhile wins: what rests is not put back.
/// </remarks>
public sealed partial class ProbeEnabling
{
    private readonly CostMeter _meter = new(Stopwatch.Frequency);
    private readonly BudgetGovernor? _governor;
    private int _budgetState;

    /// <summary>What its hits cost the target, over the last second. Any thread, at any time.</summary>
    public ProbeCost Cost => _meter.Read(Stopwatch.GetTimestamp());

    /// <summary>What its hits cost, over its whole time so far. Of an enabling with handlers or a buffer; those of queries: <see cref="ProbeResult.GetCosts"/>. Empty if it has no probes.</summary>
    public IReadOnlyList<MechanismCost> GetCosts()
    {
        int instructions = Probes.Sum(p => p.SiteCount);
        (long stops, double? mean) = MeanStop([this]);
        return instructions == 0 && stops == 0 ? [] : [new MechanismCost(ProbeMechanism.Breakpoint, instructions, stops, null, mean)];
    }

    /// <summary>How it stands to its budget.</summary>
    public BudgetState BudgetState => (BudgetState)Volatile.Read(ref _budgetState);

    /// <summary>The share of the time, from 0 to 1, in which hits were seen: less than 1 where the budget made it rest (<see cref="BudgetAction.Sample"/>).</summary>
    public double SampledShare => _governor?.SampledShare(Stopwatch.GetTimestamp()) ?? 1;

    /// <summary>The stops for some enablings so far, and nanoseconds of one on average; null of none.</summary>
    internal static (long Stops, double? MeanNs) MeanStop(IEnumerable<ProbeEnabling> enablings)
    {
        long stops = 0;
        double total = 0;
        foreach (ProbeEnabling enabling in enablings)
        {
            long own = enabling._meter.Stops;
            stops += own;
            total += own * enabling._meter.MeanNs;
        }

        return (stops, stops == 0 ? null : total / stops);
    }

    /// <summary>Whether it fires nothing for now, and needs no traps.</summary>
    internal bool IsResting => _governor is { IsResting: true };

    /// <summary>It is about to be armed. Control thread.</summary>
    internal void BeginCost(long now)
    {
        using (_gate.Enter())
        {
            // All probes are in: what the list grew to is more than it needs.
            _enabled.Trim();
        }

        _meter.Begin(now);
        _governor?.Begin(now, _enabled.Count);
    }

    /// <summary>
    /// A thread was stopped for it since <paramref name="start"/>; the clock is read into <paramref name="now"/> if that is 0 and the stop is to be timed. Control thread.
    /// </summary>
    internal void Charge(long start, ref long now)
    {
        int weight = _meter.WeightOf(start);
        if (weight == 0)
        {
            _meter.Add(start, start, weight);
            return;
        }

        now = now == 0 ? Stopwatch.GetTimestamp() : now;
        _meter.Add(start, now, weight);
        if (_governor is not null && _governor.Charge(start, now, weight) is var verdict && verdict != BudgetVerdict.Within)
        {
            Act(verdict);
        }
    }

    /// <summary>From another thread: this one must go on. (By itself, because what it allocates must not be allocated for each hit.)</summary>
    private void Act(BudgetVerdict verdict) => _ = Task.Run(() => verdict == BudgetVerdict.Rest ? RestAsync(_governor!) : EndOverBudgetAsync());

    private async Task RestAsync(BudgetGovernor governor)
    {
        Volatile.Write(ref _budgetState, (int)BudgetState.Sampled);
        await RunAsync(Proc.Rest(this)).ConfigureAwait(false);
        await Task.Delay(TimeSpan.FromSeconds((double)governor.RestTicks / Stopwatch.Frequency)).ConfigureAwait(false);
        await RunAsync(Proc.Wake(this)).ConfigureAwait(false);
    }

    private async Task EndOverBudgetAsync()
    {
        Volatile.Write(ref _budgetState, (int)BudgetState.Disabled);
        ProbeCost cost = Cost;
        using (_gate.Enter())
        {
            string message = $"{ProbeRefusal.OverBudget.Describe()} It had {cost.HitsPerSecond:f0} hits a second of {cost.NanosecondsPerHit:f0} ns each; its budget is {_options.Budget:p1} of a CPU.";
            _failures.Add(new ProbeFailure(Description.ToString(), 0, ProbeRefusal.OverBudget, message));
        }

        Control.Log.OverBudget(Proc.Core.Logger, Process.ProcessId, Description.ToString());
        await RunAsync(Proc.Disable(this)).ConfigureAwait(false);
        CompleteRing();
    }

    private async Task RunAsync(IEnumerator<bool> slices)
    {
        try
        {
            await Proc.Process.Thread.RunSlicedAsync(Proc.Process, slices).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // Gone with the process: there is nothing to rest or to disable.
        }
    }

    /// <summary>Its traps go in again. Control thread.</summary>
    internal void EndRest() => _governor!.EndRest(Stopwatch.GetTimestamp());
}

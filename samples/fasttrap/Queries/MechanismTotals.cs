namespace FastTrap.Tool.Queries;

/// <summary>Costs by mechanism, summed over results and enablings. Thread-safe.</summary>
internal sealed class MechanismTotals
{
    private readonly Lock _gate = new();
    private readonly SortedDictionary<ProbeMechanism, MechanismTotal> _totals = [];
    private readonly Dictionary<string, int> _reasons = [];
    private long _codeHits;

    /// <summary>The sums.</summary>
    public IReadOnlyList<(ProbeMechanism Mechanism, MechanismTotal Total)> All
    {
        get
        {
            lock (_gate)
            {
                return [.. _totals.Select(pair => (pair.Key, pair.Value))];
            }
        }
    }

    /// <summary>Why instructions are not armed by jumps, the most frequent first.</summary>
    public IReadOnlyList<KeyValuePair<string, int>> Reasons
    {
        get
        {
            lock (_gate)
            {
                return [.. _reasons.OrderByDescending(reason => reason.Value)];
            }
        }
    }

    /// <summary>Hits by code in the target.</summary>
    public long CodeHits
    {
        get
        {
            lock (_gate)
            {
                return _codeHits;
            }
        }
    }

    public void Add(ProbeResult result)
    {
        Add(result.GetCosts());
        lock (_gate)
        {
            _codeHits += result.CodeHits;
            foreach ((string reason, int count) in result.Mechanisms.Reasons)
            {
                _reasons[reason] = _reasons.GetValueOrDefault(reason) + count;
            }
        }
    }

    public void Add(IEnumerable<MechanismCost> costs)
    {
        lock (_gate)
        {
            foreach (MechanismCost cost in costs)
            {
                _totals[cost.Mechanism] = _totals.GetValueOrDefault(cost.Mechanism, MechanismTotal.None).With(new MechanismTotal(
                    cost.Instructions, cost.Hits ?? 0, cost.Hits is not null,
                    cost.PredictedNs ?? 0, cost.PredictedNs is null ? 0 : 1,
                    (cost.MeasuredNs ?? 0) * (cost.Hits ?? 0), cost.MeasuredNs is null ? 0 : cost.Hits ?? 0));
            }
        }
    }

    public void Add(MechanismTotals other)
    {
        long codeHits = other.CodeHits;
        lock (_gate)
        {
            _codeHits += codeHits;
        }

        foreach ((ProbeMechanism mechanism, MechanismTotal total) in other.All)
        {
            lock (_gate)
            {
                _totals[mechanism] = _totals.GetValueOrDefault(mechanism, MechanismTotal.None).With(total);
            }
        }

        foreach ((string reason, int count) in other.Reasons)
        {
            lock (_gate)
            {
                _reasons[reason] = _reasons.GetValueOrDefault(reason) + count;
            }
        }
    }
}

/// <summary>The sums of one mechanism.</summary>
/// <param name="Instructions">Instructions that are armed by it.</param>
/// <param name="Hits">Their hits.</param>
/// <param name="HasHits">Whether they are known: those of jumps and of in-process traps may be told together only.</param>
/// <param name="PredictedSum">Nanoseconds that were predicted, over so many codes.</param>
/// <param name="Predictions">How many.</param>
/// <param name="MeasuredSum">Nanoseconds of all hits that were measured.</param>
/// <param name="MeasuredHits">How many.</param>
internal readonly record struct MechanismTotal(int Instructions, long Hits, bool HasHits, double PredictedSum, int Predictions, double MeasuredSum, long MeasuredHits)
{
    public static MechanismTotal None { get; } = new(0, 0, true, 0, 0, 0, 0);

    public double? PredictedNs => Predictions == 0 ? null : PredictedSum / Predictions;

    public double? MeasuredNs => MeasuredHits == 0 ? null : MeasuredSum / MeasuredHits;

    public MechanismTotal With(in MechanismTotal other) => new(
        Instructions + other.Instructions, Hits + other.Hits, HasHits && other.HasHits, PredictedSum + other.PredictedSum, Predictions + other.Predictions,
        MeasuredSum + other.MeasuredSum, MeasuredHits + other.MeasuredHits);
}

using FastTrap.Programs;
using FastTrap.Programs.Compilation;

namespace FastTrap;

/// <summary>What comes of an enabled query. Dispose it to remove the probes; what was gathered can be read afterwards.</summary>
/// <remarks>Hits are handled on the process's control thread alone; any thread reads.</remarks>
public abstract class ProbeResult : IAsyncDisposable
{
    private readonly ulong[] _values;
    private readonly bool[] _valid;
    private long _passed;
    private long _incomplete;

    private protected ProbeResult(ProbeProgram program, ProgramAction? action = null)
    {
        Program = program;
        Action = action;
        _values = new ulong[Math.Max(1, program.Instructions.Length)];
        _valid = new bool[_values.Length];
    }

    /// <summary>The enablings of its probes, with what could not be enabled.</summary>
    public IReadOnlyList<ProbeEnabling> Enablings { get; private set; } = [];

    /// <summary>Which mechanisms the instructions of its probes are armed by, and why not all by <see cref="ProbeMechanism.Jump"/>. After the end: by which they were.</summary>
    public ProbeMechanisms Mechanisms => Code?.Mechanisms ?? ProbeMechanisms.None;

    /// <summary>What its hits cost, by each mechanism by which its probes are, or were, armed. The first call takes some milliseconds if there is code.</summary>
    public IReadOnlyList<MechanismCost> GetCosts()
    {
        ProbeMechanisms mechanisms = Mechanisms;
        List<MechanismCost> costs = [];
        if (mechanisms.Jump != 0 || (mechanisms.InProcessTrap == 0 && CodeHits != 0))
        {
            costs.Add(new MechanismCost(ProbeMechanism.Jump, mechanisms.Jump, Code!.HitsBy(ProbeMechanism.Jump), Code.PredictedNs, null));
        }

        if (mechanisms.InProcessTrap != 0)
        {
            costs.Add(new MechanismCost(ProbeMechanism.InProcessTrap, mechanisms.InProcessTrap, Code!.HitsBy(ProbeMechanism.InProcessTrap), Code.PredictedTrapNs, null));
        }

        if (mechanisms.Breakpoint != 0)
        {
            (long stops, double? mean) = ProbeEnabling.MeanStop(Enablings);
            costs.Add(new MechanismCost(ProbeMechanism.Breakpoint, mechanisms.Breakpoint, stops, null, mean));
        }

        return costs;
    }

    /// <summary>Those of <see cref="Count"/> that code in the target has handled, whichever mechanism led to it.</summary>
    public long CodeHits => Code?.Hits ?? 0;

    /// <summary>How long enabling and disabling its probes held threads of the process up.</summary>
    public ProbeStall Stall => Enablings.Aggregate(default(ProbeStall), (sum, enabling) => sum + enabling.Stall);

    /// <summary>Hits that passed the conditions. Records of the Jump mechanism count when they are read, or dropped.</summary>
    public long Count => Volatile.Read(ref _passed) + (Code?.Hits ?? 0);

    /// <summary>Hits among them of which a value could not be had, because memory could not be read or a division had no result.</summary>
    public long IncompleteCount => Volatile.Read(ref _incomplete) + (Code?.Incomplete ?? 0);

    /// <summary>What is done with the outputs; null: nothing that code could do in the target.</summary>
    private protected ProgramAction? Action { get; }

    /// <summary>The same as code for the target; null before it is enabled.</summary>
    private protected QueryProgram? Code { get; private set; }

    /// <summary>Bytes of a ring of records for each lane; 0: there are no records.</summary>
    private protected virtual int RingLength => 0;

    /// <summary>Why it is nothing for code; null: it is.</summary>
    private protected virtual string? NoCodeReason => Action is null ? "what is made of its hits is made by the tracer" : null;

    /// <summary>Whether counts may still grow after the end, because somebody is reading.</summary>
    internal virtual bool IsBeingRead => false;

    private protected ProbeProgram Program { get; }

    /// <summary>Removes the probes. After it returns nothing is gathered any more.</summary>
    public virtual async ValueTask DisposeAsync()
    {
        await Task.WhenAll(Enablings.Select(e => e.DisposeAsync().AsTask())).ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    /// <summary>What is to be enabled for it. Once.</summary>
    internal IReadOnlyList<ProbeRequest> Begin(ProbeDescription description, ProbeMechanism mechanism)
    {
        Code = new QueryProgram(Program, Action ?? ProgramAction.Count, mechanism, RingLength, NoCodeReason, EnablingCount);
        return Requests(description);
    }

    /// <summary>One of the requests became an enabling; in the order of the requests.</summary>
    internal virtual void Add(ProbeEnabling enabling) => Enablings = [.. Enablings, enabling];

    /// <summary>How many requests there are.</summary>
    private protected virtual int EnablingCount => 1;

    private protected virtual IReadOnlyList<ProbeRequest> Requests(ProbeDescription description) =>
        [new ProbeRequest(description, new ProbeOptions { OnHit = OnHit, Buffered = false, Program = Code })];

    private protected void OnHit(in ProbeContext context)
    {
        ContextInput input = new(context);
        if (!ProgramInterpreter.Run(Program, input, _values, _valid))
        {
            Pass(context);
            return;
        }

        bool isComplete = true;
        foreach (int output in Program.Outputs)
        {
            isComplete &= _valid[output];
        }

        Volatile.Write(ref _passed, _passed + 1);
        if (!isComplete)
        {
            Volatile.Write(ref _incomplete, _incomplete + 1);
        }

        Take(context, _values, _valid, isComplete);
    }

    /// <summary>A hit whose conditions do not hold.</summary>
    private protected virtual void Pass(in ProbeContext context)
    {
    }

    private protected abstract void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete);
}

/// <summary>A sum, with the least and the greatest of its values. Values that could not be had are left out.</summary>
public sealed class ProbeSum : ProbeResult
{
    private long _sum;
    private long _least = long.MaxValue;
    private long _greatest = long.MinValue;

    internal ProbeSum(ProbeProgram program, ProgramAction action)
        : base(program, action)
    {
    }

    /// <summary>The sum; it wraps at 64 bits.</summary>
    public long Sum => Volatile.Read(ref _sum) + (Code?.Sum.Sum ?? 0);

    /// <summary>The least value, or null if there was none.</summary>
    public long? Minimum => Least <= Greatest ? Least : null;

    /// <summary>The greatest value, or null if there was none.</summary>
    public long? Maximum => Least <= Greatest ? Greatest : null;

    private long Least => Math.Min(Volatile.Read(ref _least), Code?.Sum.Least ?? long.MaxValue);

    /// <summary>Written by the first value, and last of all: a hit counts before its value is taken.</summary>
    private long Greatest => Math.Max(Volatile.Read(ref _greatest), Code?.Sum.Greatest ?? long.MinValue);

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete)
    {
        if (isComplete)
        {
            long value = (long)values[Program.Outputs[0]];
            Volatile.Write(ref _sum, _sum + value);
            Volatile.Write(ref _least, Math.Min(_least, value));
            Volatile.Write(ref _greatest, Math.Max(_greatest, value));
        }
    }
}

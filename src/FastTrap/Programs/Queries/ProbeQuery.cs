using System.Linq.Expressions;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;

namespace FastTrap;

/// <summary>
/// Says what to learn from the hits of probes, as data: it is compiled into a program which runs at each hit. Begin with <see cref="TracedProcess.On"/>, filter with <see cref="Where"/>, say what
/// comes of it, then <see cref="ProbeQuery{TResult}.EnableAsync"/>. For several processes begin with <see cref="On"/> and end with <see cref="Tracer.EnableAsync{TResult}"/>.
/// </summary>
/// <remarks>
/// Immutable; any thread. Lambdas are compiled, with the values that captured variables have, when the query is enabled; what cannot be compiled is refused then by an <see cref="ArgumentException"/>
/// which names it, before anything is changed.
/// </remarks>
public sealed class ProbeQuery
{
    private readonly TracedProcess? _process;
    private readonly ProbeDescription _description;
    private readonly Expression<Func<QueryContext, bool>>[] _conditions;
    private readonly ProbeMechanism _mechanism;

    internal ProbeQuery(TracedProcess? process, ProbeDescription description, Expression<Func<QueryContext, bool>>[] conditions, ProbeMechanism mechanism = ProbeMechanism.Auto)
    {
        _process = process;
        _description = description;
        _conditions = conditions;
        _mechanism = mechanism;
    }

    /// <summary>Begins a query that belongs to no process yet.</summary>
    public static ProbeQuery On(ProbeDescription description)
    {
        ArgumentNullException.ThrowIfNull(description);
        return new ProbeQuery(null, description, []);
    }

    /// <summary>Hits for which this does not hold, or cannot be computed, do not count.</summary>
    public ProbeQuery Where(Expression<Func<QueryContext, bool>> condition)
    {
        ArgumentNullException.ThrowIfNull(condition);
        return new ProbeQuery(_process, _description, [.. _conditions, condition], _mechanism);
    }

    /// <summary>How the probes are to be armed. By default each is armed by the cheapest mechanism that can be had at its instructions (<see cref="ProbeResult.Mechanisms"/> tells which).</summary>
    /// <param name="mechanism">With <see cref="ProbeMechanism.Jump"/> or <see cref="ProbeMechanism.InProcessTrap"/>, probes that cannot be armed so are refused (<see cref="ProbeRefusal.NotByJump"/>, <see cref="ProbeRefusal.NotByInProcessTrap"/>).</param>
    /// <exception cref="ArgumentOutOfRangeException">Not one of the names.</exception>
    public ProbeQuery WithMechanism(ProbeMechanism mechanism) => Enum.IsDefined(mechanism)
        ? new ProbeQuery(_process, _description, _conditions, mechanism)
        : throw new ArgumentOutOfRangeException(nameof(mechanism), mechanism, "Not a mechanism.");

    /// <summary>A record of each hit, read as a stream.</summary>
    /// <param name="selector">What a record is made of: a value, or an object that is constructed of values (<c>new { Length = c.Arg(2) }</c>).</param>
    /// <param name="capacity">Records that are kept for the reader before further ones are dropped and counted, 1 to 4,194,304.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="capacity"/> is out of range.</exception>
    public ProbeQuery<ProbeRecords<T>> Record<T>(Expression<Func<QueryContext, T>> selector, int capacity = 65_536)
    {
        ArgumentNullException.ThrowIfNull(selector);
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(capacity, 1 << 22);
        return new ProbeQuery<ProbeRecords<T>>(_process, _description, _mechanism, () =>
        {
            ProgramBuilder builder = Filtered();
            (IReadOnlyList<(int, int)> texts, Func<RecordReader, T> make) = RecordSelector.Compile(new ExpressionCompiler(builder, selector.Parameters[0]), selector);
            return new ProbeRecords<T>(builder.Build(), texts, make, capacity);
        });
    }

    /// <summary>The number of hits.</summary>
    public ProbeQuery<ProbeSum> Count() => new(_process, _description, _mechanism, () =>
    {
        ProgramBuilder builder = Filtered();
        builder.Output(builder.Constant(ProgramType.Int64, 1));
        return new ProbeSum(builder.Build(), ProgramAction.Count);
    });

    /// <summary>The number of hits of each probe.</summary>
    public ProbeQuery<ProbeTally> CountByProbe() => new(_process, _description, _mechanism, () => new ProbeTally(Filtered().Build()));

    /// <summary>The sum of a value, with its least and greatest, and how many there were.</summary>
    public ProbeQuery<ProbeSum> Sum(Expression<Func<QueryContext, long>> value) => new(_process, _description, _mechanism, () => new ProbeSum(OneOutput(value), ProgramAction.Sum));

    /// <summary>How often a value falls between two powers of two.</summary>
    public ProbeQuery<ProbeHistogram> Histogram(Expression<Func<QueryContext, long>> value) =>
        new(_process, _description, _mechanism, () => new ProbeHistogram(OneOutput(value), HistogramScale.PowersOfTwo));

    /// <summary>How often a value falls between two steps: below <paramref name="least"/>, then every <paramref name="step"/> up to <paramref name="most"/>, and from there on.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No step, or more than 1,000.</exception>
    public ProbeQuery<ProbeHistogram> Histogram(Expression<Func<QueryContext, long>> value, long least, long most, long step)
    {
        HistogramScale scale = HistogramScale.Linear(least, most, step);
        return new ProbeQuery<ProbeHistogram>(_process, _description, _mechanism, () => new ProbeHistogram(OneOutput(value), scale));
    }

    /// <summary>
    /// The time from entry to return of each call, in nanoseconds, between powers of two; conditions are looked at on entry. The description names entries
    /// (<c>libc.so.6:malloc:entry</c>); their returns are enabled with them. By thread, recursion included. A call that ends in a tail call is timed up to it; one that is left by an
    /// exception or by <c>longjmp</c>, or that returns on another thread, does not count. The times contain the cost of probes that are hit meanwhile.
    /// </summary>
    /// <exception cref="InvalidOperationException">The description's name is not <c>entry</c>.</exception>
    public ProbeQuery<ProbeLatencies> Latency() => _description.Name == "entry"
        ? new ProbeQuery<ProbeLatencies>(_process, _description, _mechanism, () => new ProbeLatencies(Filtered().Build()))
        : throw new InvalidOperationException($"'{_description}' names no entries: write '{_description.Module}:{_description.Function}:entry'.");

    /// <summary>The number of hits for each value of a key.</summary>
    /// <param name="key">The key: a number, a condition or an enumeration.</param>
    /// <param name="capacity">Keys that are kept, of each thread where code in the target counts, 1 to 1,048,576; hits of further ones are counted together.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="capacity"/> is out of range.</exception>
    public ProbeQuery<ProbeCounts<TKey>> CountBy<TKey>(Expression<Func<QueryContext, TKey>> key, int capacity = 4096)
        where TKey : unmanaged
    {
        ArgumentNullException.ThrowIfNull(key);
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(capacity, 1 << 20);
        return new ProbeQuery<ProbeCounts<TKey>>(_process, _description, _mechanism, () =>
        {
            if (ExpressionCompiler.TypeOf(typeof(TKey)) is null)
            {
                throw ExpressionCompiler.Refuse(key.Body, $"a key is one number, condition or enumeration, not a {typeof(TKey).Name}. Combine two numbers by arithmetic, or count the records");
            }

            ProgramBuilder builder = Filtered();
            ExpressionCompiler compiler = new(builder, key.Parameters[0]);
            (_, Func<RecordReader, TKey> make) = RecordSelector.Compile(compiler, key);
            if (!compiler.UsesSite(key.Body))
            {
                // The same key for every hit.
                builder.Output(builder.Constant(ProgramType.Int32, 0));
            }

            return new ProbeCounts<TKey>(builder.Build(), make, capacity);
        });
    }

    private ProbeProgram OneOutput(Expression<Func<QueryContext, long>> value)
    {
        ArgumentNullException.ThrowIfNull(value);
        ProgramBuilder builder = Filtered();
        builder.Output(new ExpressionCompiler(builder, value.Parameters[0]).Compile(value.Body));
        return builder.Build();
    }

    private ProgramBuilder Filtered()
    {
        ProgramBuilder builder = new();
        foreach (Expression<Func<QueryContext, bool>> condition in _conditions)
        {
            builder.Filter(new ExpressionCompiler(builder, condition.Parameters[0]).Compile(condition.Body));
        }

        return builder;
    }
}

/// <summary>A complete query: what to learn from which probes. Immutable; each enabling is one of its own.</summary>
/// <typeparam name="TResult">What comes of it.</typeparam>
public sealed class ProbeQuery<TResult>
    where TResult : ProbeResult
{
    private readonly ProbeMechanism _mechanism;
    private readonly Func<TResult> _compile;

    internal ProbeQuery(TracedProcess? process, ProbeDescription description, ProbeMechanism mechanism, Func<TResult> compile)
    {
        Process = process;
        Description = description;
        _mechanism = mechanism;
        _compile = compile;
    }

    /// <summary>The process it began with; null: none.</summary>
    internal TracedProcess? Process { get; }

    internal ProbeDescription Description { get; }

    /// <summary>Compiles the query and enables its probes.</summary>
    /// <exception cref="ArgumentException">A part cannot be compiled; the message names it.</exception>
    /// <exception cref="FastTrapException">Nothing matches, or all that matches is refused, or the process has ended.</exception>
    /// <exception cref="InvalidOperationException">The query belongs to no process.</exception>
    public async Task<TResult> EnableAsync(CancellationToken cancellationToken = default)
    {
        TracedProcess process = Process ?? throw new InvalidOperationException(
            "This query belongs to no process: enable it by one (TracedProcess.EnableAsync), or for all of a tracer (Tracer.EnableAsync).");
        return (await process.EnableAsync([this], cancellationToken).ConfigureAwait(false))[0];
    }

    /// <summary>Compiles it, for one process image.</summary>
    internal TResult Compile(out IReadOnlyList<ProbeRequest> requests)
    {
        TResult result = _compile();
        requests = result.Begin(Description, _mechanism);
        return result;
    }
}

namespace FastTrap;

/// <summary>
/// Decides whether a hit counts. Runs on the process's control thread while the target's thread is stopped: be quick, do not block.
/// </summary>
public delegate bool ProbePredicate(in ProbeContext context);

/// <summary>
/// Handles a hit. Runs on the process's control thread while the target's thread is stopped; may read and write its registers and memory.
/// Be quick, do not block, and do not await or dispose anything of this library from here.
/// </summary>
public delegate void ProbeHandler(in ProbeContext context);

/// <summary>What to do with the hits of an enabling; all have defaults.</summary>
public sealed class ProbeOptions
{
    /// <summary>Most arguments that a buffered hit carries.</summary>
    public const int MaximumArgumentCount = 12;

    /// <summary>Bytes that a buffer holds of texts over all its hits: a quarter of a gigabyte.</summary>
    internal const long MaximumTextBytes = 1 << 28;

    private readonly int _bufferCapacity = 65_536;
    private readonly int _argumentCount = 6;
    private readonly int _stackDepth;
    private readonly double? _budget;
    private readonly BudgetAction _budgetAction = BudgetAction.Disable;
    private readonly int _stringLength = 256;
    private readonly int[] _stringArguments = [];

    /// <summary>Hits for which this is false are neither counted nor handled nor buffered. Default: all pass.</summary>
    public ProbePredicate? Predicate { get; init; }

    /// <summary>
    /// A synchronous handler. With one, hits are not buffered for <see cref="ProbeEnabling.ReadAllAsync"/> unless <see cref="Buffered"/> is set to true.
    /// </summary>
    public ProbeHandler? OnHit { get; init; }

    /// <summary>Whether hits are buffered for <see cref="ProbeEnabling.ReadAllAsync"/>; null (default) means: unless <see cref="OnHit"/> is given.</summary>
    public bool? Buffered { get; init; }

    /// <summary>Hits that the buffer holds before it drops and counts, 1 to 4,194,304; rounded up to a power of two. Default 65,536.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int BufferCapacity
    {
        get => _bufferCapacity;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 1 << 22);
            _bufferCapacity = value;
        }
    }

    /// <summary>
    /// Arguments copied into a buffered hit, 0 to 12. Of functions they are integers, read from the stack from the seventh on; of static probes all kinds. Default 6.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int ArgumentCount
    {
        get => _argumentCount;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, MaximumArgumentCount);
            _argumentCount = value;
        }
    }

    /// <summary>Frames of the user stack copied into a buffered hit, 0 to 512, by frame pointers; times the capacity at most 67,108,864. Default 0: none.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int StackDepth
    {
        get => _stackDepth;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 512);
            _stackDepth = value;
        }
    }

    /// <summary>
    /// Offset probes fire after their instruction was executed, not before: its effects are seen. Entry and return probes of the description are left out. Default: false.
    /// </summary>
    public bool AfterInstruction { get; init; }

    /// <summary>
    /// Most that the hits may cost the target, as a share of one CPU (0.02 is 2 %), 0.0001 to 1; more than that, over a second or a part of it, and <see cref="BudgetAction"/> is taken. What counts is
    /// <see cref="ProbeCost.ShareOfCpu"/>. Default null: no limit.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public double? Budget
    {
        get => _budget;
        init
        {
            if (value is not null and not (>= 0.0001 and <= 1))
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, "A budget is a share of one CPU, from 0.0001 to 1.");
            }

            _budget = value;
        }
    }

    /// <summary>What becomes of an enabling that exceeds <see cref="Budget"/>. Default: it is disabled.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not one of the names.</exception>
    public BudgetAction BudgetAction
    {
        get => _budgetAction;
        init
        {
            if (!Enum.IsDefined(value))
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, "Not a budget action.");
            }

            _budgetAction = value;
        }
    }

    /// <summary>
    /// Numbers of arguments, each 0 to 11 and given once, which point to texts: the text is copied into a buffered hit while the thread stands, for
    /// <see cref="ProbeHit.GetArgumentString"/>. Default: none.
    /// </summary>
    /// <exception cref="ArgumentNullException">The list is null.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range.</exception>
    /// <exception cref="ArgumentException">A number is given twice.</exception>
    public IReadOnlyList<int> StringArguments
    {
        get => _stringArguments;
        init
        {
            ArgumentNullException.ThrowIfNull(value);
            foreach (int index in value)
            {
                ArgumentOutOfRangeException.ThrowIfNegative(index, nameof(value));
                ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, MaximumArgumentCount, nameof(value));
            }

            if (value.Distinct().Count() != value.Count)
            {
                throw new ArgumentException("Name each argument once.", nameof(value));
            }

            _stringArguments = [.. value];
        }
    }

    /// <summary>
    /// Bytes of each text in <see cref="StringArguments"/>, 1 to 65,536; a longer one is cut. Times the texts and the capacity it may be 268,435,456 at most. Default 256.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int StringLength
    {
        get => _stringLength;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 65_536);
            _stringLength = value;
        }
    }

    /// <summary>
    /// Whether the semaphores of static probes are raised, by which a program that tests them learns that it shall fire. Default true; with false, such a program fires
    /// only while another tool has raised them.
    /// </summary>
    public bool RaiseSemaphores { get; init; } = true;

    /// <summary>What <see cref="OnHit"/> does, as code for the target.</summary>
    internal Engine.Mechanisms.ISiteProgram? Program { get; init; }

    internal int[] StringIndices => _stringArguments;

    internal bool IsBuffered => Buffered ?? OnHit is null;
}

/// <summary>One description with its options, for enabling several in one change of the target.</summary>
/// <param name="Description">The probes.</param>
/// <param name="Options">What to do with hits; null for the defaults.</param>
public sealed record ProbeRequest(ProbeDescription Description, ProbeOptions? Options = null);

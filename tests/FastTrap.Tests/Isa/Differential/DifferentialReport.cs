using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>What differential runs found.</summary>
internal sealed class DifferentialReport
{
    /// <summary>The target's SIGPROF: a case took seconds of processor time.</summary>
    public const ulong BrokenOff = 27;

    private const int MaximumShown = 40;
    private const ulong InvalidOpcode = 6;
    private readonly Dictionary<Code, int> _states = [];
    private readonly HashSet<Code> _defined = [];
    private readonly HashSet<Code> _completed = [];

    /// <summary>Each of them ran natively, before-probed and after-probed; those two are counted.</summary>
    public long States { get; set; }

    public long Hits { get; set; }

    /// <summary>States among them whose instruction led into the target's code by the mechanism that was asked for, from the beginning to the end of its cases.</summary>
    public long CodeStates { get; set; }

    public long Differences { get; set; }

    /// <summary>Cases which destroyed their target, or might have: each of them fails the run.</summary>
    public int Astray { get; set; }

    /// <summary>See <see cref="CaseStates.IsRunnable"/>.</summary>
    public HashSet<Code> NotRun { get; } = [];

    public Dictionary<Code, ProbeRefusal> Refused { get; } = [];

    /// <summary>Forms which use what lies below the red zone in all states that were made.</summary>
    public int WithoutRoom { get; set; }

    /// <summary>The first differences.</summary>
    public List<string> Shown { get; } = [];

    /// <summary>There is no use in going on.</summary>
    public bool IsFull => Shown.Count >= MaximumShown;

    /// <summary>All that ran.</summary>
    public IEnumerable<Code> Codes => _states.Keys;

    /// <summary>Codes of which a state ran to the end without a signal: this processor has them.</summary>
    public IEnumerable<Code> Completed => _completed;

    /// <summary>Codes which this processor has, but which always raise a signal here: most are the kernel's.</summary>
    public IEnumerable<Code> Forbidden => _defined.Except(_completed);

    /// <summary>Codes which this processor does not have: the exception is always that of an undefined instruction.</summary>
    public IEnumerable<Code> Undefined => _states.Keys.Except(_defined);

    public int StatesOf(Code code) => _states.GetValueOrDefault(code);

    public void Show(string difference)
    {
        if (!IsFull)
        {
            Shown.Add(difference);
        }
    }

    public void Count(Code code, in CaseResult result)
    {
        _states[code] = StatesOf(code) + 1;
        if (result.Signal == 0)
        {
            _completed.Add(code);
        }

        if (result.Signal == 0 || result.Trap != InvalidOpcode)
        {
            _defined.Add(code);
        }
    }

    public void Print(TextWriter output, bool lists)
    {
        output.WriteLine(
            $"{_states.Count} codes: {_completed.Count} run to their end on this processor, {Forbidden.Count()} are its own but raise a signal, "
            + $"{Undefined.Count()} it does not have. {States} probed states, {CodeStates} of them by code, {Hits} hits, {Differences} differences, {Astray} cases astray.");
        if (!lists)
        {
            return;
        }

        output.WriteLine($"always a signal: {string.Join(' ', Forbidden.Order())}");
        output.WriteLine($"undefined here: {string.Join(' ', Undefined.Order())}");
        foreach (IGrouping<ProbeRefusal, Code> group in Refused.Where(r => !_states.ContainsKey(r.Key)).GroupBy(r => r.Value, r => r.Key))
        {
            output.WriteLine($"refused, {group.Key}: {string.Join(' ', group.Order())}");
        }

        output.WriteLine($"not run: {string.Join(' ', NotRun.Order())}");
    }
}

namespace FastTrap.Usdt;

/// <summary>One site of a static probe, as a note in a file describes it. Addresses are link-time addresses, put right for prelinking.</summary>
/// <param name="Provider">The provider's base name.</param>
/// <param name="Name">The probe's name as the note has it, with <c>__</c> for <c>-</c>.</param>
/// <param name="Address">The instruction.</param>
/// <param name="SemaphoreAddress">A counter of 16 bits which the program tests before it prepares arguments; 0 if there is none.</param>
/// <param name="Arguments">The argument string, not looked at.</param>
internal readonly record struct UsdtNote(string Provider, string Name, ulong Address, ulong SemaphoreAddress, string Arguments)
{
    /// <summary>The name as DTrace writes it.</summary>
    public string ProbeName => ToProbeName(Name);

    /// <summary>A note's spelling of a name as DTrace's: <c>query__start</c> is <c>query-start</c>.</summary>
    public static string ToProbeName(string name) => name.Replace("__", "-", StringComparison.Ordinal);
}

/// <summary>What is wrong with a note.</summary>
internal enum UsdtProblem
{
    /// <summary>The section is not in the file, or larger than the limit.</summary>
    Section,

    /// <summary>The bytes end inside of a note, or a note inside of its fields.</summary>
    Truncated,

    /// <summary>A version of the note's format that is not known; 3 is.</summary>
    Version,

    /// <summary>A provider or probe name that is empty, too long, or holds other characters than names do; or the provider <c>pid</c>, which is not the program's.</summary>
    Name,

    /// <summary>An argument string that is too long, or no ASCII text.</summary>
    Arguments,

    /// <summary>The site is outside the file's code.</summary>
    Address,

    /// <summary>The semaphore is outside the file's writable data.</summary>
    Semaphore,

    /// <summary>More notes than the limit; the rest is left out.</summary>
    TooMany,
}

/// <summary>A note, or a section of notes, that cannot be used.</summary>
/// <param name="Problem">What is wrong.</param>
/// <param name="FileOffset">Where.</param>
internal readonly record struct UsdtNoteProblem(UsdtProblem Problem, ulong FileOffset);

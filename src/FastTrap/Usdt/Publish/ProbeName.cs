namespace FastTrap.Usdt;

/// <summary>Names of published providers and probes: what every tool's grammar can say.</summary>
internal static class ProbeName
{
    /// <summary>DTRACE_PROVNAMELEN is 64, and ten characters of it are left for the process's id.</summary>
    public const int LongestProvider = 53;

    /// <summary>DTRACE_NAMELEN is 64, with the terminating zero.</summary>
    public const int LongestProbe = 63;

    /// <summary>The name as it stands in the note, where a hyphen is two underscores, as the C macros have it.</summary>
    /// <exception cref="ArgumentException">It cannot be a name.</exception>
    public static string ToNote(string name, int longest, string parameter)
    {
        ArgumentException.ThrowIfNullOrEmpty(name, parameter);
        string note = name.Replace("-", "__", StringComparison.Ordinal);
        if (note.Length > longest)
        {
            throw new ArgumentException($"'{Shorten(name)}' is too long: {longest} characters are the limit, a hyphen being two.", parameter);
        }

        foreach (char c in note)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c != '_')
            {
                throw new ArgumentException($"'{name}' has a character that names of probes cannot have: use ASCII letters, digits, '_' and '-'.", parameter);
            }
        }

        if (char.IsAsciiDigit(note[0]))
        {
            throw new ArgumentException($"'{name}' begins with a digit: begin with a letter or '_'.", parameter);
        }

        return note;
    }

    /// <summary>As <see cref="ToNote"/> for a provider, whose name is followed by the process's id.</summary>
    /// <exception cref="ArgumentException">It cannot be a name.</exception>
    public static string ProviderToNote(string name, string parameter)
    {
        string note = ToNote(name, LongestProvider, parameter);
        if (note == UsdtNotes.ReservedProvider)
        {
            throw new ArgumentException($"'{name}' is the provider of functions and instructions; give this one another name.", parameter);
        }

        return char.IsAsciiDigit(note[^1])
            ? throw new ArgumentException($"'{name}' ends with a digit, which could not be told from the process's id that follows: end with a letter.", parameter)
            : note;
    }

    private static string Shorten(string name) => name.Length <= 80 ? name : name[..80] + "...";
}

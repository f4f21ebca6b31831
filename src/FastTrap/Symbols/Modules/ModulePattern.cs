namespace FastTrap.Symbols;

/// <summary>
/// The module part of a probe description. It matches the file's name, the soname, either of them up to <c>.so</c> (so that <c>libc</c>
/// finds
/// libc.so.6), <c>a.out</c> for the program itself, <c>vdso</c> and <c>jit</c>; with a slash in it the whole path.
/// </summary>
internal sealed class ModulePattern(string pattern)
{
    private const string MainAlias = "a.out";

    private readonly Glob _glob = new(pattern);
    private readonly bool _isPath = pattern.Contains('/', StringComparison.Ordinal);

    /// <summary>Whether every module matches.</summary>
    public bool MatchesAll => _glob.MatchesAll;

    /// <summary>Whether a module matches. The file is opened, for its soname, only when no other name has matched.</summary>
    public bool IsMatch(Module module)
    {
        if (_glob.MatchesAll)
        {
            return true;
        }

        if (_isPath)
        {
            return _glob.IsMatch(module.Path);
        }

        // The brackets of "[vdso]" are part of the name, not a set of letters.
        return pattern == module.Name
            || (module.IsMainExecutable && pattern == MainAlias)
            || MatchesName(module.IsVdso || module.IsJit ? module.Name[1..^1] : module.Name)
            || (module.Soname is { } soname && MatchesName(soname));
    }

    private bool MatchesName(string name)
    {
        if (_glob.IsMatch(name))
        {
            return true;
        }

        int end = name.IndexOf(".so", StringComparison.Ordinal);
        return end > 0 && (end + 3 == name.Length || name[end + 3] == '.') && _glob.IsMatch(name.AsSpan(0, end));
    }
}

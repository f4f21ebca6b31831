namespace FastTrap.Symbols;

/// <summary>A file cannot be read as the program or library it should be. The only exception that reading untrusted bytes throws.</summary>
internal sealed class ElfFormatException(ElfProblem problem, string path, string detail) : Exception($"{path}: {detail}")
{
    /// <summary>What kind of thing is wrong, for callers who act differently.</summary>
    public ElfProblem Problem { get; } = problem;

    /// <summary>The file, as it was opened.</summary>
    public string FilePath { get; } = path;

    /// <summary>What is wrong, without the path.</summary>
    public string Detail { get; } = detail;
}

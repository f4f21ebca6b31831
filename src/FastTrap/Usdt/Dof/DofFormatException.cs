namespace FastTrap.Usdt;

/// <summary>Bytes cannot be read as DOF. The only exception that reading untrusted DOF throws.</summary>
internal sealed class DofFormatException(DofProblem problem, int section, string detail)
    : Exception(section < 0 ? $"DOF: {detail}" : $"DOF section {section}: {detail}")
{
    /// <summary>What kind of thing is wrong.</summary>
    public DofProblem Problem { get; } = problem;

    /// <summary>The index of the section concerned, or -1.</summary>
    public int Section { get; } = section;
}

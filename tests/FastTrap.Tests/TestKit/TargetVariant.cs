namespace FastTrap.Tests.TestKit;

/// <summary>How a target is linked.</summary>
public enum TargetLink
{
    /// <summary>Position-independent, the compiler's default.</summary>
    Pie,

    /// <summary>At fixed addresses.</summary>
    NoPie,

    /// <summary>Static, at fixed addresses.</summary>
    Static,
}

/// <summary>One way to build a target.</summary>
/// <param name="Link">How it is linked.</param>
/// <param name="Optimization">The level after <c>-O</c>.</param>
/// <param name="Flags">More flags for the compiler, separated by spaces.</param>
/// <param name="Toolchain">What the compiler's name begins with, such as <c>aarch64-linux-gnu-</c>; empty for this machine's own.</param>
public sealed record TargetVariant(TargetLink Link = TargetLink.Pie, int Optimization = 2, string Flags = "", string Toolchain = "")
{
    /// <summary>Position-independent and optimised.</summary>
    public static TargetVariant Default { get; } = new();

    /// <summary>The six combinations of linking and optimising, for <c>TestCaseSource</c>.</summary>
    public static IEnumerable<TargetVariant> All =>
        from link in Enum.GetValues<TargetLink>() from level in new[] { 0, 2 } select new TargetVariant(link, level);

    public override string ToString() => $"{Toolchain}{Link}-O{Optimization}{(Flags.Length == 0 ? "" : " " + Flags)}";
}

using FastTrap.Engine;
using FastTrap.Symbols;

namespace FastTrap;

/// <summary>A standing enabling in one program image of one process.</summary>
internal sealed class StandingMember(TracedProcess process, ProcessImage image)
{
    public TracedProcess Process { get; } = process;

    public ProcessImage Image { get; } = image;

    /// <summary>The modules that were matched already: a look at what was loaded since need not look at these.</summary>
    public HashSet<Module> Seen { get; } = [];

    /// <summary>Null until something matched.</summary>
    public ProbeEnabling? Enabling { get; set; }
}

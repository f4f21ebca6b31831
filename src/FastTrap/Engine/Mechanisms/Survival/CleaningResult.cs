namespace FastTrap.Engine.Mechanisms;

/// <summary>What came of a cleaning.</summary>
internal sealed class CleaningResult
{
    /// <summary>Sites that stood in the text.</summary>
    public int Sites { get; set; }

    /// <summary>Mappings that were removed.</summary>
    public int Regions { get; set; }

    /// <summary>Mappings that stay.</summary>
    public int RegionsLeft { get; set; }

    /// <summary>Why nothing was touched; null: it was.</summary>
    public string? Problem { get; set; }
}

using FastTrap.Control;

namespace FastTrap.Engine;

/// <summary>What the contexts of one hit share. One for each process image, used again from hit to hit; control thread only.</summary>
internal sealed class HitFrame(Proc proc)
{
    public Proc Proc { get; } = proc;

    public TracedTask Task { get; set; } = null!;

    public long TimestampNs { get; set; }

    /// <summary>The probed instruction.</summary>
    public ulong SiteAddress { get; set; }
}

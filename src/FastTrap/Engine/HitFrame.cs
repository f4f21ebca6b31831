using FastTrap.Control;

namespace FastTrap.Engine;

/// <summary>What the contexts of one hit share. One for each process image, used again from hit to hit; control thread only.</summary>
internal sealed class HitFrame(Proc proc)
{
    private ProbeEnabling[] _charged = new ProbeEnabling[4];
    private int _chargedCount;

    public Proc Proc { get; } = proc;

    public TracedTask Task { get; set; } = null!;

    /// <summary>The thread's vector registers, for arguments of static probes that are there.</summary>
    public VectorRegisters Vectors { get; } = new(proc.Process);

    public long TimestampNs { get; set; }

    /// <summary>The probed instruction.</summary>
    public ulong SiteAddress { get; set; }

    /// <summary>Who has been fired at this stop; each pays for it once.</summary>
    public ReadOnlySpan<ProbeEnabling> Charged => _charged.AsSpan(0, _chargedCount);

    public void Charge(ProbeEnabling enabling)
    {
        foreach (ProbeEnabling charged in Charged)
        {
            if (charged == enabling)
            {
                return;
            }
        }

        if (_chargedCount == _charged.Length)
        {
            // Grows to as many enablings as meet at one instruction, once.
            Array.Resize(ref _charged, _chargedCount * 2);
        }

        _charged[_chargedCount++] = enabling;
    }

    public void ClearCharged() => _chargedCount = 0;
}

using System.Globalization;
using FastTrap.Usdt;

namespace FastTrap.Engine;

/// <summary>The probes of one process image under one name: <c>pid42</c>, <c>postgresql42</c>.</summary>
/// <remarks>
/// Scheme. Three counts keep it from being freed: probes that are enabled, consumers that are creating probes, meta providers that stand behind it. They and the
/// states are guarded by its lock. Who looks a provider up gets it with a count raised, and lets go of all locks before it takes the
/// creation lock, which makes look-up and creation of a probe one step. Retired: its process image has gone, or its meta provider has; nobody finds it any more.
/// Marked: the cleaner is to try to remove it. The chain of its bucket, and what is retired, change under the bucket's lock.
/// Source: fasttrap.c, fasttrap_provider_t.
/// </remarks>
internal sealed class Provider(ProbeRegistry registry, ProcEntry proc, string baseName, ProviderStability stability)
{
    /// <summary>The base name of the providers of functions and instructions.</summary>
    public const string Pid = "pid";

    /// <summary>Whether a base name is that one, or could not be told from it once a process's id is behind it.</summary>
    public static bool IsPid(string baseName) => UsdtNotes.IsReserved(System.Text.Encoding.UTF8.GetBytes(baseName));

    private readonly RankedLock _lock = new(LockRank.Provider);
    private int _enabled;
    private int _creating;
    private int _meta;
    private bool _isRetired;
    private bool _isMarked;
    private long _generation;

    public ProcEntry Proc { get; } = proc;

    /// <summary>Without the process's id.</summary>
    public string BaseName { get; } = baseName;

    /// <summary>The only place where the two parts of the name are put together.</summary>
    public string Name { get; } = string.Create(CultureInfo.InvariantCulture, $"{baseName}{proc.ProcessId}");

    public ProviderStability Stability { get; } = stability;

    /// <summary>Held over a look-up and the creation that depends on it; never together with the provider's lock.</summary>
    public RankedLock CreationLock { get; } = new(LockRank.ProviderCreation);

    /// <summary>Its probes; the registry's, under its lock.</summary>
    internal ProbeTable Probes { get; } = new();

    /// <summary>Its probes are not found by name any more; the registry's.</summary>
    internal bool IsInvalid { get; set; }

    /// <summary>The next in its bucket; the table's.</summary>
    internal Provider? Next { get; set; }

    public bool IsRetired => Volatile.Read(ref _isRetired);

    public bool IsMarked
    {
        get
        {
            using (_lock.Enter())
            {
                return _isMarked;
            }
        }
    }

    /// <summary>The generation in which one of its probes was disabled last.</summary>
    public long Generation => Volatile.Read(ref _generation);

    /// <summary>Whether one of the counts is not zero.</summary>
    public bool IsInUse
    {
        get
        {
            using (_lock.Enter())
            {
                return _enabled != 0 || _creating != 0 || _meta != 0;
            }
        }
    }

    public ProviderCounts Counts
    {
        get
        {
            using (_lock.Enter())
            {
                return new ProviderCounts(_enabled, _creating, _meta);
            }
        }
    }

    public bool IsRegistered(Probe probe) => registry.Contains(probe);

    /// <summary>Raises a count. The caller holds the bucket's lock, or another count.</summary>
    public void Hold(ProviderHold hold)
    {
        using (_lock.Enter())
        {
            Count(hold) += 1;
        }
    }

    /// <summary>Lowers a count; true if the provider is retired, so that the cleaner should look.</summary>
    public bool Release(ProviderHold hold)
    {
        using (_lock.Enter())
        {
            Count(hold) -= 1;
            return _isRetired;
        }
    }

    /// <summary>One of its probes is enabled by a first consumer.</summary>
    public void OnProbeEnabled() => Hold(ProviderHold.Enabled);

    /// <summary>
    /// One of its probes is not enabled by anybody any more. True if the cleaner should look: the provider is retired, or <paramref name="isCrowded"/>.
    /// </summary>
    public bool OnProbeDisabled(long generation, bool isCrowded)
    {
        using (_lock.Enter())
        {
            _enabled--;
            _generation = Math.Max(_generation, generation);
            if (_isMarked || !(_isRetired || isCrowded))
            {
                return false;
            }

            _isMarked = true;
            return true;
        }
    }

    /// <summary>The address space is gone, and with it every trap: nothing is enabled any more.</summary>
    public void OnAddressSpaceGone(long generation)
    {
        using (_lock.Enter())
        {
            _enabled = 0;
            _generation = Math.Max(_generation, generation);
        }
    }

    /// <summary>
    /// Retires it, if it is not yet, and marks it. With <paramref name="byMeta"/> only if no other meta provider stands behind it. Called under the bucket's lock.
    /// </summary>
    public bool TryRetire(bool byMeta)
    {
        using (_lock.Enter())
        {
            if (_isRetired || (byMeta && --_meta != 0))
            {
                return false;
            }

            _meta = 0;
            _isMarked = true;
            Volatile.Write(ref _isRetired, true);
            return true;
        }
    }

    public void Mark()
    {
        using (_lock.Enter())
        {
            _isMarked = true;
        }
    }

    /// <summary>Whether the cleaner may try to remove it now. Its mark is taken away where another try cannot do better by itself.</summary>
    public bool TryBeginClean()
    {
        using (_lock.Enter())
        {
            bool isTried = _isMarked && _creating == 0 && _meta == 0;
            if (!isTried || !_isRetired || _enabled != 0)
            {
                _isMarked = false;
            }

            return isTried;
        }
    }

    /// <summary>Whether its unused probes may be forgotten: nobody else creates some, and no meta provider would miss them.</summary>
    public bool MayCondense(int ownCreators)
    {
        using (_lock.Enter())
        {
            return _creating <= ownCreators && _meta == 0;
        }
    }

    private ref int Count(ProviderHold hold)
    {
        switch (hold)
        {
            case ProviderHold.Enabled:
                return ref _enabled;
            case ProviderHold.Creating:
                return ref _creating;
            default:
                return ref _meta;
        }
    }
}

/// <summary>Why somebody needs a provider to stay.</summary>
internal enum ProviderHold
{
    Enabled,
    Creating,
    Meta,
}

/// <summary>The three counts of a provider.</summary>
internal readonly record struct ProviderCounts(int Enabled, int Creating, int Meta);

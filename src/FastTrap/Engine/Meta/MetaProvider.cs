namespace FastTrap.Engine;

/// <summary>
/// By which a source of probes that a program describes itself (DOF, notes) gives a process providers of their own: provide, create probes, remove.
/// </summary>
/// <remarks>
/// Thread-safe. While a source stands behind a provider, its meta count keeps it and its probes, enabled or not. Several sources may give a process the same provider: it
/// stays until each has removed it, and their probes of one name become one probe with the instructions of all.
/// Source: fasttrap.c, fasttrap_meta_provide, fasttrap_meta_create_probe and fasttrap_meta_remove.
/// </remarks>
internal sealed class MetaProvider(ProviderTable providers, ProbeRegistry registry)
{
    /// <summary>Gives a process image a provider, or stands behind the one it has. Its stability is capped.</summary>
    public Provider? TryProvide(ProcEntry proc, string baseName, ProviderStability stability, out MetaRefusal refusal)
    {
        refusal = !ProviderTable.HasRoom(baseName) ? MetaRefusal.NameTooLong
            : Provider.IsPid(baseName) ? MetaRefusal.ReservedName
            : MetaRefusal.None;
        if (refusal != MetaRefusal.None)
        {
            return null;
        }

        Provider? provider = providers.TryHold(proc, baseName, stability.Capped(), ProviderHold.Meta);
        refusal = provider is null ? MetaRefusal.ProcessGone : MetaRefusal.None;
        return provider;
    }

    /// <summary>Creates a probe of a provider that the caller stands behind, or gives the one of that name more instructions.</summary>
    public Probe? TryCreateProbe(Provider provider, MetaProbeDescription description, out MetaRefusal refusal)
    {
        if (!TrySort(description.BaseAddress, description.Offsets, out ulong[] sites)
            || !TrySort(description.BaseAddress, description.IsEnabledOffsets, out ulong[] tests)
            || sites.Length + tests.Length == 0)
        {
            refusal = MetaRefusal.InvalidOffsets;
            return null;
        }

        using (provider.CreationLock.Enter())
        {
            if (registry.Find(provider, description.Module, description.Function, description.Name, null) is { } existing)
            {
                sites = [.. existing.Sites.Union(sites).Order()];
                tests = [.. existing.IsEnabledSites.Union(tests).Order()];
                if (sites.Length + tests.Length == existing.SiteCount)
                {
                    refusal = MetaRefusal.None;
                    return existing;
                }

                if (!existing.Enabled.IsEmpty)
                {
                    refusal = MetaRefusal.InUse;
                    return null;
                }

                registry.Forget(existing);
            }

            Probe? made = registry.TryCreate(
                provider, description.Module, description.Function, description.Name, sites.Length == 0 ? ProbeKind.IsEnabled : ProbeKind.Offset, 0, 0, sites,
                new ProbeDetails { IsEnabledSites = tests, Arguments = description.Arguments });
            refusal = made is null ? MetaRefusal.TooManyTracepoints : MetaRefusal.None;
            return made;
        }
    }

    /// <summary>The caller stands behind the provider no more. It goes once nobody does, and once nobody uses it.</summary>
    public void Remove(ProcEntry proc, string baseName) => providers.Retire(proc, baseName, byMeta: true);

    /// <summary>As <see cref="Remove(ProcEntry, string)"/>, and what the caller described is gone: where nobody has enabled it, it is forgotten, though others stand behind the provider.</summary>
    public void Remove(Provider provider, IReadOnlyList<Probe> probes)
    {
        using (provider.CreationLock.Enter())
        {
            foreach (Probe probe in probes.Where(p => p.Enabled.IsEmpty))
            {
                registry.Forget(probe);
            }
        }

        Remove(provider.Proc, provider.BaseName);
    }

    private static bool TrySort(ulong start, uint[] offsets, out ulong[] sites)
    {
        sites = [.. offsets.Select(offset => start + offset).Order()];
        return sites.Distinct().Count() == sites.Length;
    }
}

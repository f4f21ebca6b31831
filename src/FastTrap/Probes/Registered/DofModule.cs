using FastTrap.Engine;
using FastTrap.Symbols;
using FastTrap.Usdt;

namespace FastTrap.Probes;

/// <summary>What one module describes by DOF, and what of it is registered. Guarded by the gate of <see cref="DofProbes"/>.</summary>
internal sealed class DofModule
{
    private readonly Module _module;
    private readonly int _processId;
    private readonly IReadOnlyList<DofProvider> _providers;
    private readonly string? _problem;

    /// <summary>The provider and the probes that were made, by the index of the description's provider.</summary>
    private readonly Dictionary<int, (Provider? Provider, List<Probe> Probes)> _provided = [];
    private readonly List<(string Provider, string Function, string Name, ProbeFailure Failure)> _failures = [];

    private DofModule(Module module, int processId, IReadOnlyList<DofProvider> providers, string? problem)
    {
        _module = module;
        _processId = processId;
        _providers = providers;
        _problem = problem is null ? null : $"{problem}. Rebuild the program, or probe its functions (pid*).";
    }

    /// <summary>Reads a module's section. What is wrong with it is kept.</summary>
    public static DofModule Read(Module module, ElfFile elf, in ElfSection section, int processId, ReadCode read)
    {
        try
        {
            DofFile.Require(section.Size <= DofFile.MaxSize, DofProblem.LimitExceeded, -1, $"a section of {section.Size} bytes; {DofFile.MaxSize} are the limit");
            ulong address = section.IsLoaded ? unchecked(section.Address + module.LoadBias) : 0;
            byte[] bytes = new byte[(int)section.Size];
            if (!section.IsLoaded || read(address, bytes) != bytes.Length)
            {
                bytes = elf.ReadRange(section.FileOffset, section.Size, "the DOF");
            }

            return new DofModule(module, processId, DofReader.ReadSection(bytes, new DofPlacement(module.LoadBias, address)), null);
        }
        catch (Exception e) when (e is DofFormatException or ElfFormatException)
        {
            return new DofModule(module, processId, [], e.Message);
        }
    }

    /// <summary>Registers the providers of which a description may mean a probe. Whether there is one.</summary>
    public bool TryProvide(MetaProvider meta, Func<Proc> proc, ProbeDescription description)
    {
        Glob provider = new(description.Provider);
        Glob function = new(description.Function);
        Glob name = new(description.Name);
        bool isAny = false;
        for (int i = 0; i < _providers.Count; i++)
        {
            if (provider.IsMatch($"{_providers[i].Name}{_processId}") && _providers[i].Probes.Any(p => function.IsMatch(p.Function) && name.IsMatch(p.Name)))
            {
                isAny = true;
                if (!_provided.ContainsKey(i))
                {
                    _provided.Add(i, Provide(meta, proc(), _providers[i]));
                }
            }
        }

        return isAny;
    }

    /// <summary>Adds why probes that a description means are not there.</summary>
    public void Explain(ProbeDescription description, List<ProbeFailure> failures)
    {
        Glob provider = new(description.Provider);
        if (_problem is not null && !provider.MatchesAll)
        {
            failures.Add(new ProbeFailure($"*{_processId}:{_module.Name}::", _module.Start, ProbeRefusal.InvalidDof, _problem));
        }

        Glob function = new(description.Function);
        Glob name = new(description.Name);
        failures.AddRange(_failures.Where(f => provider.IsMatch(f.Provider) && function.IsMatch(f.Function) && name.IsMatch(f.Name)).Select(f => f.Failure));
    }

    /// <summary>The module is not mapped any more.</summary>
    public void Remove(MetaProvider meta)
    {
        foreach ((Provider? provider, List<Probe> probes) in _provided.Values)
        {
            if (provider is not null)
            {
                meta.Remove(provider, probes);
            }
        }
    }

    private (Provider?, List<Probe>) Provide(MetaProvider meta, Proc proc, DofProvider described)
    {
        Provider? provider = meta.TryProvide(proc.Entry, described.Name, StabilityOf(described.Attributes), out MetaRefusal refusal);
        List<Probe> probes = [];
        foreach (DofProbe probe in described.Probes)
        {
            if (provider is null)
            {
                Fail(described, probe, ProbeRefusal.InvalidDof, $"the provider is refused ({refusal})");
            }
            else if (!probe.Addresses.All(_module.ContainsCode) || !probe.IsEnabledAddresses.All(_module.ContainsCode))
            {
                Fail(described, probe, ProbeRefusal.InvalidDof, "its DOF places it outside of its module's code");
            }
            else if (meta.TryCreateProbe(provider, Describe(probe), out refusal) is { } made)
            {
                probes.Add(made);
            }
            else
            {
                bool isFull = refusal == MetaRefusal.TooManyTracepoints;
                Fail(described, probe, isFull ? ProbeRefusal.TooManyTracepoints : ProbeRefusal.InvalidDof, isFull ? "the limit on tracepoints was reached" : $"it is refused ({refusal})");
            }
        }

        return (provider, probes);
    }

    private void Fail(DofProvider provider, DofProbe probe, ProbeRefusal refusal, string reason)
    {
        string name = $"{provider.Name}{_processId}";
        ulong address = probe.Addresses.Concat(probe.IsEnabledAddresses).First();
        _failures.Add((name, probe.Function, probe.Name, new ProbeFailure($"{name}:{_module.Name}:{probe.Function}:{probe.Name}", address, refusal, reason)));
    }

    private MetaProbeDescription Describe(DofProbe probe) => new()
    {
        Module = _module.Name,
        Function = probe.Function,
        Name = probe.Name,
        BaseAddress = probe.BaseAddress,
        Offsets = [.. probe.Addresses.Select(a => (uint)(a - probe.BaseAddress))],
        IsEnabledOffsets = [.. probe.IsEnabledAddresses.Select(a => (uint)(a - probe.BaseAddress))],
        Arguments = [.. probe.Arguments.Select(a => new ArgumentDescription(a.Index, a.NativeType, a.TranslatedType, a.NativeIndex, $"argument {a.NativeIndex}"))],
    };

    private static ProviderStability StabilityOf(DofProviderAttributes attributes)
    {
        return new(Of(attributes.Provider), Of(attributes.Module), Of(attributes.Function), Of(attributes.Name), Of(attributes.Arguments));

        // The levels and classes have the same order.
        static StabilityAttributes Of(DofAttribute a) => new((StabilityLevel)a.Name, (StabilityLevel)a.Data, (DependencyClass)a.Class);
    }
}

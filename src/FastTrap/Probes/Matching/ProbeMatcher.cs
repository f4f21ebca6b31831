using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Native;
using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>
/// Finds the probes of one process image which a description means, and what they need to be enabled: it picks the modules, and asks the families of probes.
/// </summary>
/// <remarks>
/// Thread-safe: one lock over the look at the modules and a match; nothing of a user's and no other lock is taken under it. What the linker unloaded is put into a queue,
/// which the next look takes, so that the control thread waits for no match.
/// Source: dt_pid.c, by behaviour.
/// </remarks>
internal sealed class ProbeMatcher
{
    /// <summary>What to do where a library comes and goes.</summary>
    public const string StandingAdvice = "An enabling that stands (Tracer.EnableAsync, 'fasttrap -f') takes it whenever it is there.";

    private static readonly SymbolCache s_cache = new();

    private readonly object _gate = new();
    private readonly IPlatform _platform;
    private readonly int _processId;
    private readonly int _limit;
    private readonly ReadCode _read;
    private readonly FunctionProbes _functions;
    private readonly StaticProbes _static;
    private readonly IProbeSource[] _sources;
    private readonly ModuleOpener _opener;
    private readonly PerfMap _perfMap;
    private readonly ConcurrentQueue<(ulong Start, ulong Length)> _unloaded = new();
    private ModuleMap? _modules;

    public ProbeMatcher(IPlatform platform, int processId, Architecture architecture, int limit, ReadCode read)
    {
        _platform = platform;
        _processId = processId;
        _limit = limit;
        _read = read;
        InstructionSet isa = InstructionSet.For(architecture);
        string suffix = processId.ToString(CultureInfo.InvariantCulture);
        _functions = new FunctionProbes(suffix, isa, read, () => _modules!);
        _static = new StaticProbes(suffix, isa, read);
        _sources = [_functions, _static];
        _opener = new ModuleOpener(platform, processId, s_cache, ReadAll);
        _perfMap = new PerfMap(platform, PerfMap.PathFor(platform, processId));
    }

    /// <summary>Looks at the target's mappings and JIT names anew.</summary>
    public void Refresh()
    {
        lock (_gate)
        {
            RefreshModules();
        }
    }

    /// <summary>A library was unloaded. Should it come back to the same place, it is another one.</summary>
    public void OnUnloaded(ulong start, ulong length) => _unloaded.Enqueue((start, length));

    /// <summary>The modules that a description means, and all that there are, by the last look.</summary>
    public (IReadOnlyList<Module> Meant, IReadOnlyList<Module> All) FindModules(ProbeDescription description)
    {
        lock (_gate)
        {
            ModuleMap modules = _modules ?? RefreshModules();
            return ([.. modules.Match(new ModulePattern(description.Module))], modules.Modules);
        }
    }

    /// <summary>Whether there is code at an address at this moment.</summary>
    public bool IsCode(ulong address) =>
        ProcMaps.TryRead(_platform, _processId, out List<MemoryRegion> regions, out _) && regions.Exists(r => r.Contains(address) && r.IsExecutable);

    /// <summary>The probes to enable. Nothing is changed.</summary>
    /// <param name="description">What is meant.</param>
    /// <param name="refresh">Whether to look first at what is mapped; not again for each description of one batch.</param>
    /// <param name="cancellationToken">Ends it early.</param>
    /// <param name="seen">Modules to leave out, to which those are added that were looked at now; null: none. JIT code is looked at always.</param>
    /// <exception cref="FastTrapException">More instructions than the limit on tracepoints.</exception>
    public MatchResult Match(ProbeDescription description, bool refresh, CancellationToken cancellationToken, HashSet<Module>? seen = null)
    {
        MatchResult result = new(_processId, _limit);
        lock (_gate)
        {
            ForEachModule(description, refresh, (source, module) => source.Match(module, description, result, cancellationToken), seen);
        }

        return result;
    }

    /// <summary>The same probes with the windows in which jumps to code of ours may be placed. Nothing is changed.</summary>
    public IReadOnlyList<ProbeSpec> FindWindows(IReadOnlyList<ProbeSpec> specs, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            WindowFinder finder = new(_modules ?? RefreshModules());
            List<ProbeSpec> found = new(specs.Count);
            foreach (ProbeSpec spec in specs)
            {
                cancellationToken.ThrowIfCancellationRequested();
                found.Add(finder.Find(spec));
                Ageing.OnMade(found.Count);
            }

            return found;
        }
    }

    /// <summary>The names of the probes. Nothing is decoded but for offsets.</summary>
    public List<ProbeInfo> List(ProbeDescription description, CancellationToken cancellationToken)
    {
        List<ProbeInfo> probes = [];
        lock (_gate)
        {
            ForEachModule(description, refresh: true, (source, module) => source.List(module, description, probes, cancellationToken));
        }

        return probes;
    }

    /// <summary>Names the function an address belongs to.</summary>
    public bool TryResolve(ulong address, out CodeLocation location)
    {
        lock (_gate)
        {
            Module? module = (_modules ?? RefreshModules()).Find(address) ?? RefreshModules().Find(address);
            if (module is null)
            {
                location = default;
                return false;
            }

            int index = module.FindFunction(address, out SymbolTable symbols);
            location = index < 0
                ? new CodeLocation(module.Name, null, address - module.Start)
                : new CodeLocation(module.Name, symbols.GetName(index), address - module.LoadBias - symbols.GetAddress(index));
            return true;
        }
    }

    /// <summary>Says which part of a description matched nothing, and what there is.</summary>
    public FastTrapException ExplainNoMatch(ProbeDescription description)
    {
        string message;
        lock (_gate)
        {
            Module[] modules = [.. (_modules ?? RefreshModules()).Match(new ModulePattern(description.Module))];
            ModuleCode[] code = [.. modules.Select(Describe)];
            Glob provider = new(description.Provider);
            string[] providers = [.. code.SelectMany(_static.ProvidersOf).Distinct().Order(StringComparer.Ordinal)];
            bool isStatic = _static.Means(description) && Array.Exists(providers, provider.IsMatch);
            bool isFunction = provider.IsMatch(_functions.ProviderName);
            if (modules.Length == 0)
            {
                string known = string.Join(", ", _modules!.Modules.Select(m => m.Name).Distinct().Take(12));
                message = $"no module '{description.Module}' is loaded. Loaded are: {known}. {StandingAdvice}";
            }
            else if (!isFunction && !isStatic)
            {
                string known = providers.Length == 0 ? "no module meant has static probes" : $"static probes are those of {string.Join(", ", providers.Take(12))}";
                message = $"the provider '{description.Provider}' is none of this process; write {_functions.ProviderName}, pid*, or nothing ({known}).";
            }
            else if (!isFunction)
            {
                string[] names = [.. code.SelectMany(c => _static.NamesOf(c, provider)).Distinct().Order(StringComparer.Ordinal)];
                message = $"no static probe '{description.Function}:{description.Name}' was found. There are: {string.Join(", ", names.Take(20))}{(names.Length > 20 ? " ..." : "")}.";
            }
            else if (!new NamePattern(description.Name).IsPossible)
            {
                message = $"'{description.Name}' is no probe name: write entry, return, an offset in hexadecimal, a static probe's name, or a glob. Of a function '{description.Name}' the entry is '{description.Name}:entry'.";
            }
            else if (modules.Select(m => m.TryGetSymbols(out _, out ModuleFailure f) ? null : f).FirstOrDefault(f => f is not null) is { } failure)
            {
                message = $"no function '{description.Function}' was found, and the symbols of a module could not be read: {failure.Message}";
            }
            else if (modules.FirstOrDefault(m => m.TryGetImage(out ModuleImage image, out _) && image.IsStripped) is { } stripped)
            {
                message = $"no function '{description.Function}' was found. {stripped.Name} is stripped: only exported functions have names. Install its debug symbols (on Debian a package ending in -dbg or -dbgsym), or probe an exported function.";
            }
            else
            {
                message = $"no function '{description.Function}' was found; list with '*{description.Function.Trim('*')}*' to see similar names.";
            }
        }

        return new FastTrapException(FastTrapError.NoMatch, $"'{description}' matches nothing in process {_processId}: {message}", _processId);
    }

    private static ModuleCode Describe(Module module)
    {
        // What cannot be read has no functions; the explanation of no match tells why.
        module.TryGetSymbols(out SymbolTable symbols, out _);
        module.TryGetImage(out ModuleImage? image, out _);
        return new ModuleCode(module.Name, symbols, image, module.LoadBias);
    }

    private void ForEachModule(
        ProbeDescription description, bool refresh, Action<IProbeSource, ModuleCode> found, HashSet<Module>? seen = null)
    {
        IProbeSource[] sources = Array.FindAll(_sources, source => source.Means(description));
        if (sources.Length == 0)
        {
            return;
        }

        ModuleMap modules = refresh || _modules is null ? RefreshModules() : _modules;
        if (seen?.Count > modules.Modules.Count)
        {
            // Some of them are gone.
            seen.IntersectWith(modules.Modules);
        }

        foreach (Module module in modules.Match(new ModulePattern(description.Module)))
        {
            if (seen is not null && !seen.Add(module) && !module.IsJit)
            {
                continue;
            }

            ModuleCode code = Describe(module);
            foreach (IProbeSource source in sources)
            {
                found(source, code);
            }
        }
    }

    private ModuleMap RefreshModules()
    {
        while (_unloaded.TryDequeue(out (ulong Start, ulong Length) range))
        {
            _modules = _modules?.Without(range.Start, range.Length);
        }

        if (ProcMaps.TryRead(_platform, _processId, out List<MemoryRegion> regions, out Errno error))
        {
            _perfMap.Refresh();
            MappedRange[] ranges =
            [
                .. regions.Select(r => new MappedRange(
                    r.Start, r.End, r.FileOffset, r.IsExecutable, (r.Access & MemoryAccess.Write) != 0, r.Path, r.Inode, r.IsDeleted, r.Device)),
            ];
            _modules = ModuleMap.Create(ranges, _opener, _modules, _perfMap.Symbols.Count == 0 ? null : _perfMap);
        }
        else if (_modules is null)
        {
            throw new FastTrapException(FastTrapError.ProcessEnded, $"The mappings of process {_processId} cannot be read ({error}); it may have ended.", _processId, (int)error);
        }

        return _modules;
    }

    private bool ReadAll(ulong address, Span<byte> buffer) => _read(address, buffer) == buffer.Length;
}

using System.Runtime.InteropServices;
using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Native;
using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>
/// Finds the probes of one process image which a description means, and what they need to be enabled.
/// </summary>
/// <remarks>
/// Thread-safe: one lock over the look at the modules and a match; nothing of a user's and no other lock is taken under it.
/// Source: dt_pid.c, by behaviour.
/// </remarks>
internal sealed class ProbeMatcher
{
    private static readonly SymbolCache s_cache = new();

    private readonly object _gate = new();
    private readonly IPlatform _platform;
    private readonly int _processId;
    private readonly int _limit;
    private readonly InstructionSet _isa;
    private readonly ReadCode _read;
    private readonly ModuleOpener _opener;
    private readonly PerfMap _perfMap;
    private ModuleMap? _modules;

    public ProbeMatcher(IPlatform platform, int processId, Architecture architecture, int limit, ReadCode read)
    {
        _platform = platform;
        _processId = processId;
        _limit = limit;
        _isa = InstructionSet.For(architecture);
        _read = read;
        _opener = new ModuleOpener(platform, processId, s_cache, ReadAll);
        _perfMap = new PerfMap(platform, PerfMap.PathFor(platform, processId));
    }

    private string ProviderName => $"pid{_processId}";

    /// <summary>Looks at the target's mappings and JIT names anew.</summary>
    public void Refresh()
    {
        lock (_gate)
        {
            RefreshModules();
        }
    }

    /// <summary>The probes to enable. Nothing is changed.</summary>
    /// <param name="description">What is meant.</param>
    /// <param name="refresh">Whether to look first at what is mapped; not again for each description of one batch.</param>
    /// <param name="cancellationToken">Ends it early.</param>
    /// <param name="seen">Modules to leave out, to which those are added that were looked at now; null: none. JIT code is looked at always.</param>
    /// <exception cref="FastTrapException">More instructions than the limit on tracepoints.</exception>
    public MatchResult Match(ProbeDescription description, bool refresh, CancellationToken cancellationToken, HashSet<Module>? seen = null)
    {
        MatchResult result = new();
        NamePattern names = new(description.Name);
        lock (_gate)
        {
            ForEachFunction(description, refresh, (module, code, name, index) => AddFunction(module, code, names, index, name, result), cancellationToken, seen);
        }

        return result;
    }

    /// <summary>The names of the probes. Nothing is decoded but for offsets.</summary>
    public List<ProbeInfo> List(ProbeDescription description, CancellationToken cancellationToken)
    {
        List<ProbeInfo> probes = [];
        NamePattern names = new(description.Name);
        lock (_gate)
        {
            ForEachFunction(
                description,
                refresh: true,
                (module, code, name, index) => ProbeLister.Add(ProviderName, module.Name, name, module.GetExtent(index), names, code, probes),
                cancellationToken);
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
            if (!new Glob(description.Provider).IsMatch(ProviderName))
            {
                message = $"the provider '{description.Provider}' is none of this process; write {ProviderName}, pid*, or nothing.";
            }
            else if (!new NamePattern(description.Name).IsPossible)
            {
                message = $"'{description.Name}' is no probe name: write entry, return, an offset in hexadecimal, or a glob. Of a function '{description.Name}' the entry is '{description.Name}:entry'.";
            }
            else if (modules.Length == 0)
            {
                string known = string.Join(", ", _modules!.Modules.Select(m => m.Name).Distinct().Take(12));
                message = $"no module '{description.Module}' is loaded. Loaded are: {known}.";
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

    private delegate void FunctionFound(ModuleCode module, FunctionCode code, string name, int index);

    private void ForEachFunction(
        ProbeDescription description, bool refresh, FunctionFound found, CancellationToken cancellationToken, HashSet<Module>? seen = null)
    {
        if (!new Glob(description.Provider).IsMatch(ProviderName) || !new NamePattern(description.Name).IsPossible)
        {
            return;
        }

        Glob function = new(description.Function);
        bool useDemangled = Demangler.LooksDemangled(description.Function);
        ModuleMap modules = refresh || _modules is null ? RefreshModules() : _modules;
        FunctionCode code = new(_isa, new CodeWindow(_read));
        foreach (Module module in modules.Match(new ModulePattern(description.Module)))
        {
            if (seen is not null && !seen.Add(module) && !module.IsJit)
            {
                continue;
            }

            if (module.TryGetSymbols(out SymbolTable symbols, out _))
            {
                module.TryGetImage(out ModuleImage? image, out _);
                ModuleCode described = new(module.Name, symbols, image, module.LoadBias);
                FunctionMatcher.ForEach(described, function, useDemangled, (index, name) => found(described, code, name, index), cancellationToken);
            }
        }
    }

    private ModuleMap RefreshModules()
    {
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

    private void AddFunction(ModuleCode module, FunctionCode code, NamePattern names, int index, string name, MatchResult result)
    {
        if ((module.Symbols.GetFlags(index) & SymbolFlags.Ifunc) == 0)
        {
            AddProbes(module, code, names, module.GetExtent(index), name, result);
            return;
        }

        List<ulong> implementations = [];
        ulong resolver = module.Symbols.GetAddress(index) + module.LoadBias;
        Module? owner = _modules!.Find(resolver);
        if (owner is null || IfuncResolver.FindImplementations(owner, index, _modules.Modules, ReadAll, implementations) == 0)
        {
            Fail(module, name, names.MatchesEntry ? "entry" : names.MatchesReturn ? "return" : "*", resolver, ProbeRefusal.UnresolvedIndirectFunction, result);
            return;
        }

        foreach (ulong implementation in implementations)
        {
            AddProbes(module, code, names, module.GetExtentAt(implementation), name, result);
        }
    }

    private void AddProbes(ModuleCode module, FunctionCode code, NamePattern names, FunctionExtent extent, string function, MatchResult result)
    {
        if (names.MatchesEntry)
        {
            AddAt(module, code, extent, function, "entry", ProbeKind.Entry, extent.Address, result);
        }

        if (names.ExactOffset == 0)
        {
            AddAt(module, code, extent, function, "0", ProbeKind.Offset, extent.Address, result);
        }

        if (!names.MatchesReturn && !names.MatchesOffsets && names.ExactOffset is null or 0)
        {
            return;
        }

        bool isScanned = code.TryScan(extent, module.FindContinuation, out ProbeRefusal refusal);
        if (names.MatchesReturn)
        {
            if (isScanned)
            {
                AddReturn(module, code, function, result);
            }
            else
            {
                Fail(module, function, "return", extent.Address, refusal, result);
            }
        }

        if (names.ExactOffset is { } offset and not 0)
        {
            refusal = extent.Length != 0 && offset >= extent.Length ? ProbeRefusal.OutsideFunction
                : !isScanned ? refusal
                : code.IsInstruction(offset) ? ProbeRefusal.None : ProbeRefusal.NotAnInstruction;
            if (refusal == ProbeRefusal.None)
            {
                AddAt(module, code, extent, function, NamePattern.NameOf(offset), ProbeKind.Offset, extent.Address + offset, result);
            }
            else
            {
                Fail(module, function, NamePattern.NameOf(offset), extent.Address + offset, refusal, result);
            }
        }
        else if (names.MatchesOffsets)
        {
            AddOffsets(module, code, names, extent, function, isScanned, refusal, result);
        }
    }

    private void AddOffsets(
        ModuleCode module, FunctionCode code, NamePattern names, FunctionExtent extent, string function, bool isScanned, ProbeRefusal refusal, MatchResult result)
    {
        if (!isScanned)
        {
            Fail(module, function, "*", extent.Address, refusal, result);
            return;
        }

        foreach (int offset in code.Offsets)
        {
            string name = NamePattern.NameOf((ulong)offset);
            if (names.IsOffsetMatch(name))
            {
                AddAt(module, code, extent, function, name, ProbeKind.Offset, extent.Address + (ulong)offset, result);
            }
        }
    }

    private void AddAt(
        ModuleCode module, FunctionCode code, FunctionExtent extent, string function, string name, ProbeKind kind, ulong address, MatchResult result)
    {
        if (!code.TryDecode(address, out DisplacedInstruction instruction, out ProbeRefusal refusal))
        {
            Fail(module, function, name, address, refusal, result);
            return;
        }

        Add(module, extent, function, name, kind, [instruction], result);
    }

    private void AddReturn(ModuleCode module, FunctionCode code, string function, MatchResult result)
    {
        List<ulong> sites = [];
        code.AddReturnSites(sites);
        if (sites.Count == 0)
        {
            Fail(module, function, "return", code.Extent.Address, ProbeRefusal.NoReturnSite, result);
            return;
        }

        DisplacedInstruction[] instructions = new DisplacedInstruction[sites.Count];
        for (int i = 0; i < sites.Count; i++)
        {
            if (!code.TryDecode(sites[i], out instructions[i], out ProbeRefusal refusal))
            {
                // A return probe that misses some returns would lie.
                Fail(module, function, "return", sites[i], refusal, result);
                return;
            }
        }

        Add(module, code.Extent, function, "return", ProbeKind.Return, instructions, result);
    }

    private void Add(
        ModuleCode module, FunctionExtent extent, string function, string name, ProbeKind kind, DisplacedInstruction[] instructions, MatchResult result)
    {
        result.SiteCount += instructions.Length;
        if (result.SiteCount > _limit)
        {
            throw new FastTrapException(
                FastTrapError.TooManyTracepoints,
                $"The description needs more than {_limit} tracepoints. Narrow the pattern, or raise TracerOptions.MaximumTracepoints.", _processId);
        }

        result.Specs.Add(new ProbeSpec
        {
            Module = module.Name,
            Function = function,
            Name = name,
            Kind = kind,
            FunctionAddress = extent.Address,
            FunctionLength = extent.Length,
            ColdStart = extent.ColdStart,
            ColdLength = extent.ColdLength,
            Instructions = instructions,
        });
    }

    private void Fail(ModuleCode module, string function, string name, ulong address, ProbeRefusal refusal, MatchResult result) =>
        result.Failures.Add(new ProbeFailure($"{ProviderName}:{module.Name}:{function}:{name}", address, refusal, refusal.Describe()));

    private bool ReadAll(ulong address, Span<byte> buffer) => _read(address, buffer) == buffer.Length;
}

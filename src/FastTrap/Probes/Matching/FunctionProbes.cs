using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>The probes of the provider <c>pid</c>: entries, returns and instructions of functions. One thread.</summary>
/// <param name="suffix">What follows the provider's base name: the process id, or nothing for a file.</param>
/// <param name="isa">The target's instructions.</param>
/// <param name="read">Reads code.</param>
/// <param name="modules">The modules of the process; null for a file, whose probes are only listed.</param>
/// <remarks>Source: dt_pid.c, by behaviour.</remarks>
internal sealed class FunctionProbes(string suffix, InstructionSet isa, ReadCode read, Func<ModuleMap>? modules) : IProbeSource
{
    private readonly string _provider = Provider.Pid + suffix;

    public string ProviderName => _provider;

    public bool Means(ProbeDescription description) =>
        new Glob(description.Provider).IsMatch(_provider) && new NamePattern(description.Name).IsPossible;

    public void Match(ModuleCode module, ProbeDescription description, MatchResult result, CancellationToken cancellationToken)
    {
        NamePattern names = new(description.Name);
        FunctionCode code = new(isa, new CodeWindow(read));
        FunctionMatcher.ForEach(
            module, new Glob(description.Function), Demangler.LooksDemangled(description.Function),
            (index, name) => AddFunction(module, code, names, index, NameOf(module, index, name), result), cancellationToken);
    }

    public void List(ModuleCode module, ProbeDescription description, List<ProbeInfo> probes, CancellationToken cancellationToken)
    {
        NamePattern names = new(description.Name);
        FunctionCode code = new(isa, new CodeWindow(read));
        FunctionMatcher.ForEach(
            module, new Glob(description.Function), Demangler.LooksDemangled(description.Function),
            (index, name) => ProbeLister.Add(_provider, module.Name, name, module.GetExtent(index), names, code, probes), cancellationToken);
    }

    /// <summary>The table outlives its module only if it is a file's; that of JIT code is made again and again.</summary>
    private static FunctionName NameOf(ModuleCode module, int index, string name) => new(name, module.Image is null ? null : module.Symbols, index);

    private void AddFunction(ModuleCode module, FunctionCode code, NamePattern names, int index, FunctionName name, MatchResult result)
    {
        if ((module.Symbols.GetFlags(index) & SymbolFlags.Ifunc) == 0)
        {
            AddProbes(module, code, names, module.GetExtent(index), name, result);
            return;
        }

        List<ulong> implementations = [];
        ulong resolver = module.Symbols.GetAddress(index) + module.LoadBias;
        ModuleMap loaded = modules?.Invoke() ?? throw new InvalidOperationException("Probes of a file are listed, not matched.");
        Module? owner = loaded.Find(resolver);
        if (owner is null || IfuncResolver.FindImplementations(owner, index, loaded.Modules, ReadAll, implementations) == 0)
        {
            Fail(module, name, names.MatchesEntry ? "entry" : names.MatchesReturn ? "return" : "*", resolver, ProbeRefusal.UnresolvedIndirectFunction, result);
            return;
        }

        foreach (ulong implementation in implementations)
        {
            AddProbes(module, code, names, module.GetExtentAt(implementation), name, result);
        }
    }

    private void AddProbes(ModuleCode module, FunctionCode code, NamePattern names, FunctionExtent extent, FunctionName function, MatchResult result)
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
        ModuleCode module, FunctionCode code, NamePattern names, FunctionExtent extent, FunctionName function, bool isScanned, ProbeRefusal refusal, MatchResult result)
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
        ModuleCode module, FunctionCode code, FunctionExtent extent, FunctionName function, string name, ProbeKind kind, ulong address, MatchResult result)
    {
        if (!code.TryDecode(address, out DisplacedInstruction instruction, out ProbeRefusal refusal))
        {
            Fail(module, function, name, address, refusal, result);
            return;
        }

        Add(module, extent, function, name, kind, [instruction], result);
    }

    private void AddReturn(ModuleCode module, FunctionCode code, FunctionName function, MatchResult result)
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

    private static void Add(
        ModuleCode module, FunctionExtent extent, FunctionName function, string name, ProbeKind kind, DisplacedInstruction[] instructions, MatchResult result) =>
        result.Add(new ProbeSpec
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

    private void Fail(ModuleCode module, FunctionName function, string name, ulong address, ProbeRefusal refusal, MatchResult result) =>
        result.Failures.Add(new ProbeFailure($"{_provider}:{module.Name}:{function}:{name}", address, refusal, refusal.Describe()));

    private bool ReadAll(ulong address, Span<byte> buffer) => read(address, buffer) == buffer.Length;
}

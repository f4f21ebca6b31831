using System.Buffers;
using System.Runtime.CompilerServices;
using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Symbols;
using FastTrap.Usdt;

namespace FastTrap.Probes;

/// <summary>
/// Static probes (USDT): what the author of a program marked and gave a provider and a name. A probe is all the sites of one name in one function. One thread.
/// </summary>
/// <param name="suffix">What follows the provider's base name: the process id, or nothing for a file.</param>
/// <param name="isa">The target's instructions.</param>
/// <param name="read">Reads code.</param>
/// <remarks>Source: fasttrap.c, fasttrap_meta_create_probe, by behaviour.</remarks>
internal sealed class StaticProbes(string suffix, InstructionSet isa, ReadCode read) : IProbeSource
{
    private const int LocationsNamed = 4;

    private static readonly SearchValues<char> s_processIdPattern = SearchValues.Create("0123456789*?[]-!^");

    /// <summary>The notes of a file, as long as the file is held.</summary>
    private static readonly ConditionalWeakTable<ElfFile, UsdtNotes> s_notes = [];

    /// <summary>Any provider can be meant but by a pattern for process ids, such as <c>pid*</c>, which never means a static provider that begins with these letters.</summary>
    public bool Means(ProbeDescription description) => MeansOthers(description.Provider);

    /// <summary>Whether a pattern can mean other providers than that of functions.</summary>
    public static bool MeansOthers(string provider) =>
        !provider.StartsWith(Provider.Pid, StringComparison.Ordinal) || provider.AsSpan(Provider.Pid.Length).ContainsAnyExcept(s_processIdPattern);

    public void Match(ModuleCode module, ProbeDescription description, MatchResult result, CancellationToken cancellationToken)
    {
        FunctionCode code = new(isa, new CodeWindow(read));
        UsdtSymbols? symbols = null;
        Dictionary<string, UsdtArgument[]> parsed = [];
        foreach (Group group in Find(module, description, cancellationToken))
        {
            symbols ??= new UsdtSymbols(module.Image!.Elf, module.LoadBias);
            Add(module, code, group, symbols, parsed, result);
        }
    }

    public void List(ModuleCode module, ProbeDescription description, List<ProbeInfo> probes, CancellationToken cancellationToken)
    {
        UsdtSymbols? symbols = null;
        Dictionary<string, UsdtArgument[]> parsed = [];
        foreach (Group group in Find(module, description, cancellationToken))
        {
            symbols ??= new UsdtSymbols(module.Image!.Elf, module.LoadBias);
            UsdtArgument[][] arguments = Parse(module, group, symbols, parsed);
            probes.Add(new ProbeInfo(group.Provider + suffix, module.Name, group.Function, group.Name, group.Sites[0].Address + module.LoadBias)
            {
                SiteCount = group.Sites.Count,
                Arguments = Describe(arguments),
            });
        }
    }

    /// <summary>The providers that a module's probes belong to.</summary>
    public IEnumerable<string> ProvidersOf(ModuleCode module) => NotesOf(module).Select(note => note.Provider + suffix).Distinct();

    /// <summary>The names of a module's probes, of those providers which a pattern means.</summary>
    public IEnumerable<string> NamesOf(ModuleCode module, Glob provider) =>
        NotesOf(module).Where(note => provider.IsMatch(note.Provider + suffix)).Select(note => note.ProbeName).Distinct();

    private static IReadOnlyList<UsdtNote> NotesOf(ModuleCode module) => module.Image is { } image ? s_notes.GetValue(image.Elf, UsdtNotes.Read).All : [];

    /// <summary>The sites that are meant, by probe, in the order of addresses.</summary>
    private List<Group> Find(ModuleCode module, ProbeDescription description, CancellationToken cancellationToken)
    {
        IReadOnlyList<UsdtNote> notes = NotesOf(module);
        if (notes.Count == 0)
        {
            return [];
        }

        Glob provider = new(description.Provider);
        Glob function = new(description.Function);
        Glob name = new(description.Name);
        Dictionary<(string, string, string, ulong), Group> groups = [];
        foreach (UsdtNote note in notes)
        {
            cancellationToken.ThrowIfCancellationRequested();
            string probeName = note.ProbeName;
            if (!provider.IsMatch(note.Provider + suffix) || !(name.IsMatch(probeName) || name.IsMatch(note.Name))
                || !TryNameFunction(module.Symbols, note.Address, function, out string functionName, out ulong functionAddress, out ulong functionLength))
            {
                continue;
            }

            (string, string, string, ulong) key = (note.Provider, probeName, functionName, functionAddress);
            if (!groups.TryGetValue(key, out Group? group))
            {
                group = new Group(note.Provider, probeName, functionName, functionAddress, functionLength);
                groups.Add(key, group);
            }

            group.Sites.Add(note);
        }

        foreach (Group group in groups.Values)
        {
            group.SortSites();
        }

        return [.. groups.Values.OrderBy(group => group.Sites[0].Address)];
    }

    /// <summary>The function around a site, if its name is meant. Code without a symbol has an empty name, which only a pattern for everything means.</summary>
    private static bool TryNameFunction(SymbolTable symbols, ulong address, Glob pattern, out string name, out ulong start, out ulong length)
    {
        const string ColdMark = ".cold";
        name = "";
        start = length = 0;
        int index = symbols.FindContaining(address);
        if (index < 0)
        {
            return pattern.MatchesAll;
        }

        start = symbols.GetAddress(index);
        length = symbols.GetSize(index);
        (int first, int count) = symbols.GetAliases(index);
        for (int alias = first; alias < first + count; alias++)
        {
            name = symbols.GetName(alias);
            int cold = name.IndexOf(ColdMark, StringComparison.Ordinal);
            name = cold > 0 ? name[..cold] : name;
            if (pattern.IsMatch(name) || (Demangler.LooksDemangled(pattern.Text) && Demangler.TryDemangle(name) is { } demangled && pattern.IsMatch(demangled)))
            {
                return true;
            }
        }

        return false;
    }

    private void Add(
        ModuleCode module, FunctionCode code, Group group, UsdtSymbols symbols, Dictionary<string, UsdtArgument[]> parsed, MatchResult result)
    {
        DisplacedInstruction[] instructions = new DisplacedInstruction[group.Sites.Count];
        for (int i = 0; i < instructions.Length; i++)
        {
            ulong address = group.Sites[i].Address + module.LoadBias;
            if (!code.TryDecode(address, out instructions[i], out ProbeRefusal refusal))
            {
                // A probe that misses some of its sites would lie.
                result.Failures.Add(new ProbeFailure($"{group.Provider}{suffix}:{module.Name}:{group.Function}:{group.Name}", address, refusal, refusal.Describe()));
                return;
            }
        }

        UsdtArgument[][] arguments = Parse(module, group, symbols, parsed);
        result.Add(new ProbeSpec
        {
            Provider = group.Provider,
            Module = module.Name,
            Function = group.Function,
            Name = group.Name,
            Kind = ProbeKind.Static,
            FunctionAddress = group.Function.Length == 0 ? instructions[0].Address : group.FunctionAddress + module.LoadBias,
            FunctionLength = group.FunctionLength,
            Instructions = instructions,
            Arguments = Describe(arguments),
            SiteArguments = arguments,
            SemaphoreAddresses =
            [
                .. group.Sites.Where(site => site.SemaphoreAddress != 0).Select(site => site.SemaphoreAddress + module.LoadBias).Distinct(),
            ],
        });
    }

    private static UsdtArgument[][] Parse(ModuleCode module, Group group, UsdtSymbols symbols, Dictionary<string, UsdtArgument[]> parsed)
    {
        UsdtArgument[][] all = new UsdtArgument[group.Sites.Count][];
        for (int i = 0; i < all.Length; i++)
        {
            string text = group.Sites[i].Arguments;
            if (!parsed.TryGetValue(text, out UsdtArgument[]? arguments))
            {
                arguments = UsdtArgumentParser.Parse(text, module.Image!.Elf.Machine, symbols);
                parsed.Add(text, arguments);
            }

            all[i] = arguments;
        }

        return all;
    }

    /// <summary>What is said of the arguments of all sites together.</summary>
    private static ArgumentDescription[] Describe(UsdtArgument[][] sites)
    {
        ArgumentDescription[] descriptions = new ArgumentDescription[sites.Max(site => site.Length)];
        for (int i = 0; i < descriptions.Length; i++)
        {
            UsdtArgument[] here = [.. sites.Where(site => site.Length > i).Select(site => site[i])];
            string[] locations = [.. here.Select(argument => argument.Location).Distinct().Take(LocationsNamed + 1)];
            string location = string.Join(" or ", locations.Take(LocationsNamed)) + (locations.Length > LocationsNamed ? " or others" : "");
            descriptions[i] = new ArgumentDescription(i, here[0].NativeType, here[0].TranslatedType, i, location);
        }

        return descriptions;
    }

    /// <summary>The sites of one probe.</summary>
    private sealed class Group(string provider, string name, string function, ulong functionAddress, ulong functionLength)
    {
        public string Provider { get; } = provider;

        public string Name { get; } = name;

        public string Function { get; } = function;

        public ulong FunctionAddress { get; } = functionAddress;

        public ulong FunctionLength { get; } = functionLength;

        public List<UsdtNote> Sites { get; private set; } = [];

        /// <summary>By address, each address once: two notes of one name at one instruction are one site.</summary>
        public void SortSites() => Sites = [.. Sites.DistinctBy(site => site.Address).OrderBy(site => site.Address)];
    }
}

namespace FastTrap;

/// <summary>The kinds of probes.</summary>
public enum ProbeKind
{
    /// <summary>The first instruction of a function, before it is executed.</summary>
    Entry,

    /// <summary>All instructions by which a function returns or is left, after they were executed.</summary>
    Return,

    /// <summary>One instruction, before it is executed.</summary>
    Offset,

    /// <summary>One instruction, after it was executed.</summary>
    PostOffset,

    /// <summary>
    /// Instructions by which a program asks whether a probe is enabled. They fire nothing: while the probe is enabled, the result register (<c>rax</c>, <c>x0</c>)
    /// becomes 1 after them.
    /// </summary>
    IsEnabled,

    /// <summary>A static probe (USDT): the places that a program's author marked, before their instructions are executed.</summary>
    Static,
}

/// <summary>One named point of one process: one or more instructions.</summary>
/// <remarks>
/// Immutable for users; thread-safe. Source: fasttrap.c, fasttrap_probe_t.
/// </remarks>
public sealed class Probe
{
    /// <summary>The enablings which want its hits; replaced as a whole, changed and read on the control thread.</summary>
    internal Engine.EnabledProbe[] Enabled = [];

    /// <summary>The instructions, by address; those of is-enabled tests are not among them.</summary>
    internal readonly ulong[] Sites;

    /// <summary>What few probes have; null for most.</summary>
    internal readonly Engine.ProbeDetails? Details;

    /// <summary>The next in its chains of the registry, which owns these.</summary>
    internal Probe? NextByName;

    internal Probe? NextById;

    internal Probe(
        int id, Engine.Provider provider, string module, string function, string name, ProbeKind kind, ulong functionAddress, ulong functionLength,
        ulong[] sites, Engine.ProbeDetails? details = null)
    {
        Id = id;
        Owner = provider;
        Module = module;
        Function = function;
        Name = name;
        Kind = kind;
        FunctionAddress = functionAddress;
        FunctionLength = functionLength;
        Sites = sites;
        Details = details;
    }

    internal Engine.Provider Owner { get; }

    /// <summary>The arguments at each of <see cref="Sites"/>, which are in order of addresses; empty unless the probe is static.</summary>
    internal Usdt.UsdtArgument[][] SiteArguments => Details?.SiteArguments ?? [];

    /// <summary>The counters in the target which say that this static probe is enabled.</summary>
    internal ulong[] SemaphoreAddresses => Details?.SemaphoreAddresses ?? [];

    /// <summary>
    /// A number unique within the tracer, from 1. A probe keeps it while it is enabled, and afterwards until its process ends, executes another program, or the limit on
    /// tracepoints makes the tracer forget probes that nobody has enabled (<see cref="Tracer.FindProbe(int)"/>).
    /// </summary>
    public int Id { get; }

    /// <summary>The provider's name, for example <c>pid42</c> or <c>postgresql42</c>.</summary>
    public string Provider => Owner.Name;

    /// <summary>The process.</summary>
    public int ProcessId => Owner.Proc.ProcessId;

    /// <summary>The module's base name.</summary>
    public string Module { get; }

    /// <summary>The function's name as the symbol table has it; empty for a static probe in code that no symbol names.</summary>
    public string Function { get; }

    /// <summary>The demangled name of a C++ function, or <see cref="Function"/> itself.</summary>
    public string DisplayFunction => Symbols.Demangler.TryDemangle(Function) ?? Function;

    /// <summary><c>entry</c>, <c>return</c>, an offset in hexadecimal, or a static probe's name, as <c>query-start</c>.</summary>
    public string Name { get; }

    /// <summary>The kind.</summary>
    public ProbeKind Kind { get; }

    /// <summary>The function's first instruction (target virtual address); of a static probe in code that no symbol names, its first site.</summary>
    public ulong FunctionAddress { get; }

    /// <summary>The function's length in bytes; 0 when it is not known.</summary>
    public ulong FunctionLength { get; }

    /// <summary>The first probed instruction (target virtual address).</summary>
    public ulong Address => Sites.Length != 0 ? Sites[0] : IsEnabledSites[0];

    /// <summary>How many instructions it stands for, is-enabled tests included.</summary>
    public int SiteCount => Sites.Length + IsEnabledSites.Length;

    /// <summary>How far its name, and what it stands for, can be relied on.</summary>
    public ProviderStability Stability => Owner.Stability;

    /// <summary>Whether it can still be found and enabled: false once its process has ended or executed another program, or the tracer forgot it.</summary>
    public bool IsValid => !Owner.IsRetired && Owner.IsRegistered(this);

    /// <summary>Instructions by which the program asks whether the probe is enabled.</summary>
    internal ulong[] IsEnabledSites => Details?.IsEnabledSites ?? [];

    /// <summary>All instructions that are patched while it is enabled.</summary>
    internal IEnumerable<ulong> AllSites => Details is null ? Sites : Sites.Concat(IsEnabledSites);

    /// <summary>Whether the instruction at an address is one by which the program asks whether the probe is enabled.</summary>
    internal bool IsTestAt(ulong address) => Details is not null && Array.IndexOf(Details.IsEnabledSites, address) >= 0;

    /// <summary>
    /// What is known of the arguments: those of static probes, else empty. Where the sites of a probe differ, the types are the first one's and the location names all.
    /// </summary>
    public IReadOnlyList<ArgumentDescription> Arguments => Details?.Arguments ?? [];

    /// <summary>The arguments of a static probe at one of its sites; empty if it has none.</summary>
    internal Usdt.UsdtArgument[] ArgumentsAt(ulong siteAddress)
    {
        int index = Array.BinarySearch(Sites, siteAddress);
        return (uint)index < (uint)SiteArguments.Length ? SiteArguments[index] : [];
    }

    /// <summary>What an argument is at one of the sites.</summary>
    internal ArgumentKind KindOf(ulong siteAddress, int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        if (Kind != ProbeKind.Static)
        {
            return ArgumentKind.Unsigned;
        }

        Usdt.UsdtArgument[] arguments = ArgumentsAt(siteAddress);
        return index < arguments.Length ? arguments[index].Kind : ArgumentKind.Unreadable;
    }

    /// <summary>Whether an address belongs to the function, its split part included.</summary>
    internal bool IsInFunction(ulong address) =>
        address - FunctionAddress < FunctionLength || (Details is { } details && address - details.ColdStart < details.ColdLength);

    /// <summary>The full name, <c>provider:module:function:name</c>.</summary>
    public override string ToString() => $"{Provider}:{Module}:{Function}:{Name}";
}

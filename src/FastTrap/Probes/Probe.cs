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
    internal Engine.OneOrMany<Engine.EnabledProbe> Enabled;

    /// <summary>What few probes have; null for most.</summary>
    internal readonly Engine.ProbeDetails? Details;

    /// <summary>The next in its chain of the registry, which owns it.</summary>
    internal Probe? NextByName;

    private readonly Engine.ProbeOrigin _origin;
    private readonly int _symbol;
    private readonly uint _siteOffset;
    private readonly uint _functionLength;
    private readonly byte _kind;

    // There are many probes, so what can be had from elsewhere is not kept: the function's name is in the symbol table, the only site of most is in the function.
    internal Probe(
        int id, Engine.ProbeOrigin origin, Engine.FunctionName function, string name, ProbeKind kind, ulong functionAddress, ulong functionLength,
        ulong[] sites, Engine.ProbeDetails? details = null)
    {
        Id = id;
        NameHash = Engine.ProbeTable.HashOf(function.Text, name);
        FunctionAddress = functionAddress;
        _origin = origin;
        _kind = (byte)kind;
        _symbol = function.Index;
        _functionLength = (uint)Math.Min(functionLength, uint.MaxValue);
        if (sites.Length == 1 && sites[0] - functionAddress <= uint.MaxValue)
        {
            _siteOffset = (uint)(sites[0] - functionAddress);
        }
        else
        {
            details = (details ?? new Engine.ProbeDetails()) with { Sites = sites };
        }

        if (origin.Symbols is null)
        {
            details = (details ?? new Engine.ProbeDetails()) with { Function = function.Text };
        }

        if (UsualName != name)
        {
            details = (details ?? new Engine.ProbeDetails()) with { Name = name };
        }

        Details = details;
    }

    internal Engine.Provider Owner => _origin.Provider;

    /// <summary>For the registry's chains.</summary>
    internal int NameHash { get; }

    /// <summary>The instructions, by address; those of is-enabled tests are not among them.</summary>
    internal ulong[] Sites => Details?.Sites ?? [FunctionAddress + _siteOffset];

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
    public string Module => _origin.Module;

    /// <summary>The function's name as the symbol table has it; empty for a static probe in code that no symbol names.</summary>
    public string Function => Details?.Function ?? _origin.Symbols!.GetName(_symbol);

    /// <summary>The demangled name of a C++ function, or <see cref="Function"/> itself.</summary>
    public string DisplayFunction => Symbols.Demangler.TryDemangle(Function) ?? Function;

    /// <summary><c>entry</c>, <c>return</c>, an offset in hexadecimal, or a static probe's name, as <c>query-start</c>.</summary>
    public string Name => Details?.Name ?? UsualName;

    /// <summary>The kind.</summary>
    public ProbeKind Kind => (ProbeKind)_kind;

    /// <summary>The function's first instruction (target virtual address); of a static probe in code that no symbol names, its first site.</summary>
    public ulong FunctionAddress { get; }

    /// <summary>The function's length in bytes; 0 when it is not known.</summary>
    public ulong FunctionLength => _functionLength;

    /// <summary>The first probed instruction (target virtual address).</summary>
    public ulong Address => GetSite(0);

    /// <summary>How many instructions it stands for, is-enabled tests included.</summary>
    public int SiteCount => (Details?.Sites?.Length ?? 1) + IsEnabledSites.Length;

    /// <summary>How far its name, and what it stands for, can be relied on.</summary>
    public ProviderStability Stability => Owner.Stability;

    /// <summary>Whether it can still be found and enabled: false once its process has ended or executed another program, or the tracer forgot it.</summary>
    public bool IsValid => !Owner.IsRetired && Owner.IsRegistered(this);

    /// <summary>Instructions by which the program asks whether the probe is enabled.</summary>
    internal ulong[] IsEnabledSites => Details?.IsEnabledSites ?? [];

    private string UsualName => Kind switch
    {
        ProbeKind.Entry => "entry",
        ProbeKind.Return => "return",
        _ => Probes.NamePattern.NameOf(_siteOffset),
    };

    /// <summary>One of all instructions that are patched while it is enabled, tests last; there are <see cref="SiteCount"/>.</summary>
    internal ulong GetSite(int index)
    {
        if (Details is not { } details)
        {
            return FunctionAddress + _siteOffset;
        }

        int own = details.Sites?.Length ?? 1;
        return index >= own ? details.IsEnabledSites[index - own] : details.Sites is { } sites ? sites[index] : FunctionAddress + _siteOffset;
    }

    /// <summary>Whether the instruction at an address is one by which the program asks whether the probe is enabled.</summary>
    internal bool IsTestAt(ulong address) => Details is not null && Array.IndexOf(Details.IsEnabledSites, address) >= 0;

    /// <summary>
    /// What is known of the arguments: those of static probes, else empty. Where the sites of a probe differ, the types are the first one's and the location names all.
    /// </summary>
    public IReadOnlyList<ArgumentDescription> Arguments => Details?.Arguments ?? [];

    /// <summary>The arguments of a static probe at one of its sites; empty if it has none.</summary>
    internal Usdt.UsdtArgument[] ArgumentsAt(ulong siteAddress)
    {
        int index = Details?.Sites is { } sites ? Array.BinarySearch(sites, siteAddress) : siteAddress == FunctionAddress + _siteOffset ? 0 : -1;
        return (uint)index < (uint)SiteArguments.Length ? SiteArguments[index] : [];
    }

    /// <summary>What argument <paramref name="index"/>, from 0, is at one of the probe's instructions: static probes may have it elsewhere at each. Arguments of functions are taken for unsigned integers.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
    public ArgumentKind GetArgumentKind(ulong siteAddress, int index)
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

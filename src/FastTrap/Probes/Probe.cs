namespace FastTrap;

/// <summary>The kinds of probes of the <c>pid</c> provider.</summary>
public enum ProbeKind
{
    /// <summary>The first instruction of a function, before it is executed.</summary>
    Entry,

    /// <summary>All instructions by which a function returns or is left, after they were executed.</summary>
    Return,

    /// <summary>One instruction, before it is executed.</summary>
    Offset,
}

/// <summary>One named point of one process: one or more instructions.</summary>
/// <remarks>Immutable for users; thread-safe. Source: fasttrap.c, fasttrap_probe_t.</remarks>
public sealed class Probe
{
    /// <summary>The enablings which want its hits; replaced as a whole, read without a lock on the control thread.</summary>
    internal Engine.EnabledProbe[] Enabled = [];

    /// <summary>The instructions, by address.</summary>
    internal readonly ulong[] Sites;

    /// <summary>The function's split cold part, or 0 and 0.</summary>
    internal readonly ulong ColdStart;

    internal readonly ulong ColdLength;

    internal Probe(
        int id, Engine.Provider provider, string module, string function, string name, ProbeKind kind, ulong functionAddress, ulong functionLength,
        ulong coldStart, ulong coldLength, ulong[] sites)
    {
        Id = id;
        Owner = provider;
        Module = module;
        Function = function;
        Name = name;
        Kind = kind;
        FunctionAddress = functionAddress;
        FunctionLength = functionLength;
        ColdStart = coldStart;
        ColdLength = coldLength;
        Sites = sites;
    }

    internal Engine.Provider Owner { get; }

    /// <summary>A number unique within the tracer, from 1.</summary>
    public int Id { get; }

    /// <summary>The provider's name, for example <c>pid42</c>.</summary>
    public string Provider => Owner.Name;

    /// <summary>The process.</summary>
    public int ProcessId => Owner.Proc.ProcessId;

    /// <summary>The module's base name.</summary>
    public string Module { get; }

    /// <summary>The function's name as the symbol table has it.</summary>
    public string Function { get; }

    /// <summary>The demangled name of a C++ function, or <see cref="Function"/> itself.</summary>
    public string DisplayFunction => Symbols.Demangler.TryDemangle(Function) ?? Function;

    /// <summary><c>entry</c>, <c>return</c>, or an offset in hexadecimal.</summary>
    public string Name { get; }

    /// <summary>The kind.</summary>
    public ProbeKind Kind { get; }

    /// <summary>The function's first instruction (target virtual address).</summary>
    public ulong FunctionAddress { get; }

    /// <summary>The function's length in bytes; 0 when it is not known.</summary>
    public ulong FunctionLength { get; }

    /// <summary>The first probed instruction (target virtual address).</summary>
    public ulong Address => Sites[0];

    /// <summary>How many instructions it stands for.</summary>
    public int SiteCount => Sites.Length;

    /// <summary>Whether an address belongs to the function, its split part included.</summary>
    internal bool IsInFunction(ulong address) =>
        address - FunctionAddress < FunctionLength || address - ColdStart < ColdLength;

    /// <summary>The full name, <c>provider:module:function:name</c>.</summary>
    public override string ToString() => $"{Provider}:{Module}:{Function}:{Name}";
}

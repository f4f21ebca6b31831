namespace FastTrap;

/// <summary>What listing tells of a probe; enabling nothing.</summary>
/// <param name="Provider">For example <c>pid42</c> or <c>postgresql42</c>; without the number for a file.</param>
/// <param name="Module">The module's base name.</param>
/// <param name="Function">The function's name as the symbol table has it.</param>
/// <param name="Name"><c>entry</c>, <c>return</c>, an offset in hexadecimal, or a static probe's name, as <c>query-start</c>.</param>
/// <param name="Address">Where it is: the target's virtual address, or the file's for a file. For <c>return</c>: the function's start; of a static probe the first site.</param>
public readonly record struct ProbeInfo(string Provider, string Module, string Function, string Name, ulong Address)
{
    /// <summary>How many instructions a static probe stands for; 1 for others.</summary>
    public int SiteCount { get; init; } = 1;

    /// <summary>The arguments that a static probe declares; empty for others.</summary>
    public IReadOnlyList<ArgumentDescription> Arguments { get; init; } = [];

    /// <summary>The demangled name of a C++ function, or <see cref="Function"/> itself.</summary>
    public string DisplayFunction => Symbols.Demangler.TryDemangle(Function) ?? Function;

    /// <summary>The full name, <c>provider:module:function:name</c>.</summary>
    public override string ToString() => $"{Provider}:{Module}:{Function}:{Name}";
}

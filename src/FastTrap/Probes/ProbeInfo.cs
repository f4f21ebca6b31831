namespace FastTrap;

/// <summary>What listing tells of a probe; enabling nothing.</summary>
/// <param name="Provider">For example <c>pid42</c>, or <c>pid</c> for a file.</param>
/// <param name="Module">The module's base name.</param>
/// <param name="Function">The function's name as the symbol table has it.</param>
/// <param name="Name"><c>entry</c>, <c>return</c>, or an offset in hexadecimal.</param>
/// <param name="Address">Where it is: the target's virtual address, or the file's for a file. For <c>return</c>: the function's start.</param>
public readonly record struct ProbeInfo(string Provider, string Module, string Function, string Name, ulong Address)
{
    /// <summary>The demangled name of a C++ function, or <see cref="Function"/> itself.</summary>
    public string DisplayFunction => Symbols.Demangler.TryDemangle(Function) ?? Function;

    /// <summary>The full name, <c>provider:module:function:name</c>.</summary>
    public override string ToString() => $"{Provider}:{Module}:{Function}:{Name}";
}

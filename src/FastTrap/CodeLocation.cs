namespace FastTrap;

/// <summary>Where in a program an address is.</summary>
/// <param name="Module">The module's base name.</param>
/// <param name="Function">The function's name as the symbol table has it, or null if no symbol covers the address.</param>
/// <param name="Offset">Bytes from the function's start, or from the module's if there is no function.</param>
public readonly record struct CodeLocation(string Module, string? Function, ulong Offset)
{
    /// <summary>The demangled name of a C++ function, or <see cref="Function"/> itself.</summary>
    public string? DisplayFunction => Function is null ? null : Symbols.Demangler.TryDemangle(Function) ?? Function;

    /// <summary>For example <c>libc.so.6`malloc+0x10</c>.</summary>
    public override string ToString() =>
        Offset == 0 ? $"{Module}`{DisplayFunction}" : $"{Module}`{DisplayFunction ?? ""}{(Function is null ? "" : "+")}0x{Offset:x}";
}

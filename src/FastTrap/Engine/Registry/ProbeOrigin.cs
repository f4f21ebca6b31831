using FastTrap.Symbols;

namespace FastTrap.Engine;

/// <summary>What the probes of one module share. Immutable.</summary>
/// <param name="provider">Whose they are.</param>
/// <param name="module">The module's base name.</param>
/// <param name="symbols">Where their functions' names are; null if each has its own.</param>
internal sealed class ProbeOrigin(Provider provider, string module, SymbolTable? symbols)
{
    public Provider Provider { get; } = provider;

    public string Module { get; } = module;

    public SymbolTable? Symbols { get; } = symbols;

    public bool Is(string module, SymbolTable? symbols) => Symbols == symbols && Module == module;
}

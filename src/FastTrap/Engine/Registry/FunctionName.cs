using FastTrap.Symbols;

namespace FastTrap.Engine;

/// <summary>A function's name, and where it can be read again.</summary>
/// <param name="Text">The name.</param>
/// <param name="Symbols">The table that has it; null if none does which lives as long as the probe.</param>
/// <param name="Index">The symbol.</param>
internal readonly record struct FunctionName(string Text, SymbolTable? Symbols = null, int Index = 0)
{
    public static implicit operator FunctionName(string text) => new(text);

    public override string ToString() => Text;
}

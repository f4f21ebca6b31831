namespace FastTrap.Tests.Fuzz;

/// <summary>A reader of untrusted bytes.</summary>
/// <param name="Name">For the tests' names.</param>
/// <param name="Corpus">Good inputs, to be damaged.</param>
/// <param name="Read">Reads all that there is to read. Strings are UTF-8 of the bytes.</param>
/// <param name="Refusal">The exception with which it refuses; null if it throws none.</param>
internal sealed record FuzzTarget(string Name, Func<IReadOnlyList<byte[]>> Corpus, FuzzTarget.Reader Read, Type? Refusal = null)
{
    /// <summary>Reads an input. Returns whether there was anything to read in it.</summary>
    public delegate bool Reader(ReadOnlySpan<byte> input);

    /// <summary>Managed bytes that one input may cost: so many in any case, and so many for each of its bytes.</summary>
    public (long Always, long EachByte) Allowance { get; init; } = (64 << 10, 128);

    public override string ToString() => Name;
}

namespace FastTrap.Probes;

/// <summary>Where a function is in the target, or in a file.</summary>
/// <param name="Address">Its first instruction.</param>
/// <param name="Length">Bytes; 0 when they are not known.</param>
/// <param name="ColdStart">Its split part, or 0.</param>
/// <param name="ColdLength">Bytes of its split part, or 0.</param>
internal readonly record struct FunctionExtent(ulong Address, ulong Length, ulong ColdStart, ulong ColdLength)
{
    public bool Contains(ulong address) => address - Address < Length || address - ColdStart < ColdLength;
}

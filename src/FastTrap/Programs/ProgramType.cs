namespace FastTrap.Programs;

/// <summary>The types of values in a probe program. Every value has 64 bits; 32-bit ones are kept extended by their sign, or by zeros.</summary>
internal enum ProgramType : byte
{
    Boolean,
    Int32,
    UInt32,
    Int64,
    UInt64,
    Double,
}

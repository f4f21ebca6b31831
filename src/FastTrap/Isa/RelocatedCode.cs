namespace FastTrap.Isa;

/// <summary>What a place in relocated code means in the original.</summary>
/// <param name="Offset">Where an instruction of the relocated code starts.</param>
/// <param name="Original">The program counter of a thread which is about to execute it, had nothing been moved.</param>
/// <param name="Pushed">How many bytes the stack has grown by meanwhile (a call's return address was pushed): they are to be taken off it again, for the instruction is begun anew.</param>
internal readonly record struct RelocatedPoint(int Offset, ulong Original, int Pushed);

/// <summary>A probe's code within relocated code.</summary>
/// <param name="Offset">Its first byte.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Site">The address of the instruction that follows it.</param>
internal readonly record struct RelocatedBody(int Offset, int Length, ulong Site);

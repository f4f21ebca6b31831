namespace FastTrap.Programs.Compilation;

/// <summary>The registers of generated code; their values before it are in its frame.</summary>
internal enum Scratch : byte
{
    A,
    B,
    C,
}

/// <summary>A place in generated code.</summary>
internal readonly record struct BodyLabel(int Number);

/// <summary>
/// The instructions of which <see cref="BodyCompiler"/> builds code, one implementation for each architecture. Registers are named by their word in <see cref="RegisterSet"/>. Unless it says
/// otherwise, an operation keeps the scratch registers which are not its result.
/// </summary>
internal abstract class BodyAssembler
{
    /// <summary>Whether operations on the common lane are others than those on a thread's own.</summary>
    public abstract bool HasLockedForms { get; }

    /// <summary>Makes the frame: saves the scratch registers and flags, and vector registers if doubles occur.</summary>
    /// <param name="slots">Words for values.</param>
    /// <param name="bytes">Bytes for validity.</param>
    /// <param name="usesDoubles">Whether there will be operations on doubles.</param>
    /// <param name="usesMemory">Whether there will be system calls, or texts.</param>
    public abstract void Enter(int slots, int bytes, bool usesDoubles, bool usesMemory);

    /// <summary>Undoes <see cref="Enter"/>.</summary>
    public abstract void Leave();

    /// <summary>Makes the code.</summary>
    public abstract CompiledBody Finish(int recordLength);

    public abstract BodyLabel NewLabel();

    public abstract void Mark(BodyLabel label);

    public abstract void Jump(BodyLabel label);

    /// <summary>Jumps if all 64 bits are 0.</summary>
    public abstract void JumpIfZero(Scratch register, BodyLabel label);

    public abstract void MoveConstant(Scratch to, ulong value);

    public abstract void MoveSite(Scratch to, SiteValue value);

    public abstract void Move(Scratch to, Scratch from);

    /// <summary>A register as it was before.</summary>
    public abstract void LoadRegister(Scratch to, int word);

    /// <summary>The low 64 bits of a vector register as they were before.</summary>
    public abstract void LoadVector(Scratch to, int number);

    public abstract void LoadSlot(Scratch to, int slot);

    public abstract void StoreSlot(int slot, Scratch from);

    public abstract void LoadValidity(Scratch to, int number);

    public abstract void StoreValidity(int number, Scratch from);

    /// <summary>A register, which is 0 or 1, becomes 0 if the value is invalid.</summary>
    public abstract void AndValidity(Scratch register, int number);

    /// <summary>A becomes 0 unless C, which is 0 or 1, is 1. Changes C.</summary>
    public abstract void ClearUnlessC();

    /// <summary>C ^= a constant. Changes A.</summary>
    public abstract void XorC(ulong value);

    /// <summary>A = A op B, in 64 bits: all of integers but divisions. Shifts are by as many bits as the type allows. Changes B.</summary>
    public abstract void Calculate(ProgramOp op, bool isSigned, bool isWide);

    /// <summary>A = A op B, B = whether it has a value. Changes C.</summary>
    public abstract void Divide(ProgramOp op, bool isSigned, bool isWide);

    /// <summary>A = whether A op B, of integers.</summary>
    public abstract void Compare(ProgramOp op, bool isSigned);

    /// <summary>A = A != 0 ? B : C.</summary>
    public abstract void Select();

    /// <summary>A = the low bytes of A, extended: 1, 2, 4, with 16 added for signed ones.</summary>
    public abstract void Extend(int length);

    /// <summary>A = A op B, of doubles. Changes B.</summary>
    public abstract void CalculateDouble(ProgramOp op);

    /// <summary>A = whether A op B, of doubles. Changes B.</summary>
    public abstract void CompareDouble(ProgramOp op);

    /// <summary>A = the double of the integer A. Changes B.</summary>
    public abstract void ToDouble(bool isSigned);

    /// <summary>A = the double of the single-precision number in A.</summary>
    public abstract void WidenSingle();

    /// <summary>A = the integer of the double A, B = whether the type has it. Changes C.</summary>
    public abstract void FromDouble(ProgramType type);

    /// <summary>A = the bytes at A, not extended, B = 1 if they could be read, else 0. Changes C.</summary>
    public abstract void ReadMemory(int length);

    /// <summary>The base of a segment, by its word.</summary>
    public abstract void LoadSegmentBase(Scratch to, int word);

    public abstract void LoadThreadId(Scratch to);

    /// <summary>A = the processor's ticks. Changes C.</summary>
    public abstract void ReadTicks();

    /// <summary>A = ((A - base) * multiplier >> 32) + base of time. Changes C.</summary>
    public abstract void ScaleTicks(in TickScale scale);

    /// <summary>Jumps if the byte at an address is 0. Changes A.</summary>
    public abstract void JumpIfGuarded(ulong address, BodyLabel label);

    /// <summary>Jumps if nobody holds the word at an address who mends loads that fault. Changes A.</summary>
    public abstract void JumpIfUntraced(ulong address, BodyLabel label);

    /// <summary>Jumps with B = this thread's lane, or goes on with B = the common lane if it has none. Changes A and C.</summary>
    public abstract void FindLane(BodyLabel found);

    /// <summary>Adds 1 to the word at B + offset.</summary>
    public abstract void Increment(int offset, bool locked);

    /// <summary>Adds 1 to the word at B + offset + 8 * A. Changes all.</summary>
    public abstract void IncrementIndexed(int offset, bool locked);

    /// <summary>Adds C to the word at B + offset.</summary>
    public abstract void AddTo(int offset, bool locked);

    /// <summary>The word at B + offset becomes C if C is the greater of the two, unsigned. Changes A.</summary>
    public abstract void RaiseTo(int offset, bool locked);

    /// <summary>A = the number of significant bits of C plus 1; 0 if C is negative. Changes C.</summary>
    public abstract void FindPowerStep();

    /// <summary>A = 0 if C is less than the least, signed, else 1 + (C - least) / step, at most count - 1. Changes C.</summary>
    public abstract void FindLinearStep(long least, long step, int count);

    /// <summary>Reserves a record in the ring of the lane B, and marks it as busy. B = the record. Changes A and C. Jumps with B = the lane if the ring is full.</summary>
    public abstract void Reserve(int length, BodyLabel full, bool locked);

    /// <summary>Writes what precedes the fields of the record B, but its length: the site, the time, thread and processor. Changes A and C.</summary>
    public abstract void WriteHeader();

    /// <summary>Writes a register, as it was before, to B + offset. Changes A.</summary>
    public abstract void WriteRegister(int offset, int word);

    /// <summary>Writes a constant to B + offset. Changes A.</summary>
    public abstract void WriteConstant(int offset, ulong value);

    public abstract void Write(int offset, Scratch from);

    /// <summary>C |= A &lt;&lt; bit, of the 0 or 1 in A. Changes A.</summary>
    public abstract void AddBit(int bit);

    /// <summary>Writes the record's size, which says that it is complete. Changes A.</summary>
    public abstract void Commit(uint size);

    /// <summary>A = the hash of C, shifted right, times 2: the word of a pair.</summary>
    public abstract void Hash(int shift);

    /// <summary>Adds a small constant.</summary>
    public abstract void AddConstant(Scratch register, int value);

    /// <summary>Jumps if all 64 bits are not less than a constant, unsigned.</summary>
    public abstract void JumpIfAtLeast(Scratch register, int value, BodyLabel label);

    /// <summary>Takes 1 from a slot, and jumps if that leaves 0.</summary>
    public abstract void CountDown(int slot, BodyLabel spent);

    /// <summary>C = the slot - C.</summary>
    public abstract void SubtractFromSlot(int slot);

    /// <summary>The word at B + offset.</summary>
    public abstract void LoadWord(Scratch to, int offset);

    /// <summary>The word at B + offset + 8 * A.</summary>
    public abstract void LoadIndexed(Scratch to, int offset);

    /// <summary>Writes C to B + offset + 8 * A.</summary>
    public abstract void StoreIndexed(int offset);

    /// <summary>Jumps if the word at B + offset + 8 * A is C.</summary>
    public abstract void JumpIfIndexed(int offset, BodyLabel label);

    /// <summary>B += 8 * A; the word at B + offset becomes C if it is 0, otherwise jumps. Changes A.</summary>
    public abstract void Claim(int offset, BodyLabel failed, bool locked);

    /// <summary>A = the upper half of the word at B + offset, which is kept in a slot.</summary>
    public abstract void LoadState(int offset, int slot);

    /// <summary>The word at B + offset, if it still is what the slot has, gets A for its upper half and 1 more in its lower half; otherwise jumps. Changes A and C.</summary>
    public abstract void ReplaceState(int offset, int slot, BodyLabel failed);

    /// <summary>Reads text at A, up to its zero or so many bytes at least, to B + offset: A = how many bytes there were, all ones if none. Changes C.</summary>
    public abstract void ReadText(int offset, int length);
}

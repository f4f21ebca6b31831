using System.Buffers.Binary;

namespace FastTrap.Programs.Compilation.Arm64;

/// <summary>Conditions of arm64.</summary>
internal enum Arm64Condition : uint
{
    Equal = 0,
    NotEqual = 1,
    UnsignedGreaterOrEqual = 2,
    UnsignedLess = 3,
    Negative = 4,
    UnsignedGreater = 8,
    UnsignedLessOrEqual = 9,
    Less = 11,
    Greater = 12,
    LessOrEqual = 13,
}

/// <summary>Writes arm64 instructions; registers are numbers, 31 is the zero register or, where an address is meant, the stack pointer.</summary>
internal sealed class Arm64Encoder
{
    public const int Zero = 31;
    public const int StackPointer = 31;

    private readonly List<uint> _words = [];
    private readonly List<int> _labels = [];
    private readonly List<(int Position, int Label, bool IsLong)> _branches = [];

    public int Position => _words.Count * sizeof(uint);

    public int NewLabel()
    {
        _labels.Add(-1);
        return _labels.Count - 1;
    }

    public void Mark(int label) => _labels[label] = _words.Count;

    public void Word(uint word) => _words.Add(word);

    /// <summary>An instruction of up to three registers in their usual fields.</summary>
    public void Word(uint opcode, int d, int n = 0, int m = 0) => Word(opcode | (uint)d | ((uint)n << 5) | ((uint)m << 16));

    public void Branch(int label) => Branch(0x1400_0000, label, true);

    public void Branch(Arm64Condition condition, int label) => Branch(0x5400_0000 | (uint)condition, label, false);

    public void BranchIfZero(int register, int label) => Branch(0xb400_0000 | (uint)register, label, false);

    public void BranchIfNotZero(int register, int label) => Branch(0xb500_0000 | (uint)register, label, false);

    /// <summary>As <see cref="BranchIfNotZero"/>, of 32 bits.</summary>
    public void BranchIfNotZero32(int register, int label) => Branch(0x3500_0000 | (uint)register, label, false);

    public void Move(int d, ulong value)
    {
        int ones = 0;
        int zeros = 0;
        for (int i = 0; i < 64; i += 16)
        {
            ones += (ushort)(value >> i) == 0xffff ? 1 : 0;
            zeros += (ushort)(value >> i) == 0 ? 1 : 0;
        }

        // MOVZ or MOVN for the first part that is not implied, MOVK for the others.
        bool isInverted = ones > zeros;
        ushort implied = isInverted ? (ushort)0xffff : (ushort)0;
        bool isFirst = true;
        for (int i = 0; i < 4; i++)
        {
            ushort part = (ushort)(value >> (16 * i));
            if (part == implied && !(isFirst && i == 3))
            {
                continue;
            }

            uint opcode = !isFirst ? 0xf280_0000 : isInverted ? 0x9280_0000 : 0xd280_0000;
            uint immediate = isFirst && isInverted ? (ushort)~part : part;
            Word(opcode | ((uint)i << 21) | (immediate << 5) | (uint)d);
            isFirst = false;
        }
    }

    /// <summary>MOVZ and MOVKs, one for each 16 bits, to be patched.</summary>
    public void MoveParts(int d, int parts)
    {
        for (int i = 0; i < parts; i++)
        {
            Word((i == 0 ? 0xd280_0000 : 0xf280_0000) | ((uint)i << 21) | (uint)d);
        }
    }

    public void MoveRegister(int d, int m) => Word(0xaa00_03e0, d, 0, m);

    /// <summary>d = n + a number from 0 to 4095; 31 is the stack pointer.</summary>
    public void AddImmediate(int d, int n, int value) => Word(0x9100_0000 | ((uint)value << 10), d, n);

    public void SubtractImmediate(int d, int n, int value) => Word(0xd100_0000 | ((uint)value << 10), d, n);

    public void Add(int d, int n, int m) => Word(0x8b00_0000, d, n, m);

    public void Subtract(int d, int n, int m) => Word(0xcb00_0000, d, n, m);

    public void And(int d, int n, int m) => Word(0x8a00_0000, d, n, m);

    public void ShiftRight(int d, int n, int by) => Word(0xd340_fc00 | ((uint)by << 16), d, n);

    public void Compare(int n, int m) => Word(0xeb00_0000, Zero, n, m);

    public void Set(int d, Arm64Condition condition) => Word(0x9a9f_07e0 | (((uint)condition ^ 1) << 12), d);

    public void Select(int d, int n, int m, Arm64Condition condition) => Word(0x9a80_0000 | ((uint)condition << 12), d, n, m);

    public void Load(int t, int n, int offset) => Word(0xf940_0000 | ((uint)(offset / 8) << 10), t, n);

    public void Store(int t, int n, int offset) => Word(0xf900_0000 | ((uint)(offset / 8) << 10), t, n);

    public void Store32(int t, int n, int offset) => Word(0xb900_0000 | ((uint)(offset / 4) << 10), t, n);

    public void LoadByte(int t, int n, int offset) => Word(0x3940_0000 | ((uint)offset << 10), t, n);

    public void StoreByte(int t, int n, int offset) => Word(0x3900_0000 | ((uint)offset << 10), t, n);

    public byte[] Finish()
    {
        foreach ((int position, int label, bool isLong) in _branches)
        {
            int distance = _labels[label] - position;
            _words[position] |= isLong ? (uint)distance & 0x03ff_ffff : ((uint)distance & 0x7_ffff) << 5;
        }

        byte[] code = new byte[Position];
        for (int i = 0; i < _words.Count; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(code.AsSpan(i * sizeof(uint)), _words[i]);
        }

        return code;
    }

    private void Branch(uint opcode, int label, bool isLong)
    {
        _branches.Add((_words.Count, label, isLong));
        Word(opcode);
    }
}

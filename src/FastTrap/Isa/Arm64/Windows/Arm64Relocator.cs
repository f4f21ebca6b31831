using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace FastTrap.Isa.Arm64;

/// <summary>
/// Writes the trampoline of one instruction, which is all that a branch replaces: the probes' code, the instruction made to mean there what it means at its
/// place, and the branch back. Reusable; not thread-safe.
/// </summary>
/// <remarks>
/// No register is free, but the one that an instruction sets: addresses are loaded from behind the code into that one. Calls set the original return address.
/// Trampolines are mapped without PROT_BTI.
/// </remarks>
internal sealed class Arm64Relocator
{
    private const int Word = sizeof(uint);
    private const uint BranchOpcode = 0x1400_0000;
    private const uint LoadLiteral64 = 0x5800_0000;
    private const uint Nop = 0xd503_201f;
    private const int LinkRegister = 30;
    private const long BranchRange = 128L << 20;
    private const long LiteralRange = 1 << 20;

    private readonly List<RelocatedPoint> _points = [];
    private readonly List<RelocatedBody> _bodies = [];
    private readonly List<byte> _code = [];
    private ulong _literal;
    private int _literalUse;
    private ulong _site;
    private Arm64Word _word;

    /// <summary>What was written.</summary>
    public ReadOnlySpan<byte> Code => CollectionsMarshal.AsSpan(_code);

    /// <summary>Where the code will be.</summary>
    public ulong Address { get; private set; }

    /// <summary>Where the next byte will be.</summary>
    public ulong Position => Address + (ulong)_code.Count;

    /// <summary>All instructions that were written, but for those of the bodies, in order.</summary>
    public IReadOnlyList<RelocatedPoint> Points => _points;

    /// <summary>The bodies, in order.</summary>
    public IReadOnlyList<RelocatedBody> Bodies => _bodies;

    /// <summary>The branch that leads from an instruction to its trampoline. False if it does not reach.</summary>
    public static bool TryEncodeBranch(ulong from, ulong to, out uint branch)
    {
        long distance = unchecked((long)(to - from));
        branch = BranchOpcode | ((uint)(distance >> 2) & 0x03ff_ffff);
        return distance is >= -BranchRange and < BranchRange;
    }

    /// <summary>
    /// Whether an instruction may be replaced at all. Landing pads (BTI, and PACIASP, which is one) must stay where they are; between a load-exclusive and its
    /// store there must be no trampoline, which the caller sees from its scan of the function.
    /// </summary>
    public static WindowRefusal Examine(uint instruction)
    {
        Arm64Word word = new(instruction);
        return Arm64Encodings.Classify(word) switch
        {
            Arm64Class.Unallocated or Arm64Class.PositionDependent or Arm64Class.Breakpoint or Arm64Class.SystemCall => WindowRefusal.NotMovable,
            Arm64Class.LoadExclusive or Arm64Class.StoreExclusive => WindowRefusal.NotMovable,
            Arm64Class.Hint when IsLandingPad(word) => WindowRefusal.NotMovable,
            Arm64Class.BranchLinkRegister when word.Rn == LinkRegister => WindowRefusal.NotMovable,
            Arm64Class.BranchLinkAuthenticated when word.Rn == LinkRegister || (IsTwoRegister(word) && word.BranchRm == LinkRegister) => WindowRefusal.NotMovable,
            _ => WindowRefusal.None,
        };
    }

    /// <summary>BTI, PACIASP and PACIBSP: what an indirect branch may lead to where landing pads are asked for.</summary>
    public static bool IsLandingPad(Arm64Word word)
    {
        const uint PacIASp = 25;
        const uint PacIBSp = 27;
        return (word.Value & 0xffff_f01f) == 0xd503_201f && word.Bits(11, 5) is PacIASp or PacIBSp or 32 or 34 or 36 or 38;
    }

    /// <summary>Begins anew, with the original instruction at <paramref name="site"/>.</summary>
    public void Begin(uint instruction, ulong site, ulong address)
    {
        _word = new Arm64Word(instruction);
        _site = site;
        Address = address;
        _code.Clear();
        _points.Clear();
        _bodies.Clear();
        _literalUse = -1;
    }

    /// <summary>Adds code that runs before the instruction; it was made for <see cref="Position"/>, and is whole words.</summary>
    public void AddBody(ReadOnlySpan<byte> body)
    {
        _bodies.Add(new RelocatedBody(_code.Count, body.Length, _site));
        _code.AddRange(body);
    }

    /// <summary>Moves the instruction and adds the branch back.</summary>
    public bool TryFinish(out WindowRefusal refusal)
    {
        refusal = Examine(_word.Value);
        if (refusal != WindowRefusal.None)
        {
            return false;
        }

        refusal = WindowRefusal.OutOfReach;
        Arm64Class @class = Arm64Encodings.Classify(_word);
        bool isBranch = Arm64FunctionScanner.TryGetTarget(_word, @class, out _)
            || @class is Arm64Class.BranchLinkRegister or Arm64Class.BranchLinkAuthenticated || !Arm64FunctionScanner.FallsThrough(@class);
        if (!TryMove(@class) || (!isBranch && !TryPutBranch(_site + Word, _site + Word)))
        {
            return false;
        }

        if (_literalUse >= 0 && !TryPlaceLiteral())
        {
            return false;
        }

        refusal = WindowRefusal.None;
        return true;
    }

    private bool TryMove(Arm64Class @class)
    {
        switch (@class)
        {
            case Arm64Class.Branch:
                return TryPutBranch(_site + (ulong)_word.Imm26Offset, _site);
            case Arm64Class.BranchLink:
                PutLiteralLoad(LinkRegister, _site + Word);
                return TryPutBranch(_site + (ulong)_word.Imm26Offset, _site);
            case Arm64Class.BranchLinkRegister:
                // BLR becomes BR.
                PutLiteralLoad(LinkRegister, _site + Word);
                Put(_word.Value & ~(1u << 21), _site);
                return true;
            case Arm64Class.BranchLinkAuthenticated:
                PutLiteralLoad(LinkRegister, _site + Word);
                Put(_word.Value & ~(1u << 21), _site);
                return true;
            case Arm64Class.BranchConditional or Arm64Class.CompareBranch:
                return TryPutConditional(0x00ff_ffe0, _site + (ulong)_word.Imm19Offset);
            case Arm64Class.TestBranch:
                return TryPutConditional(0x0007_ffe0, _site + (ulong)_word.Imm14Offset);
            case Arm64Class.Address:
                ulong address = _word.Bit(31) ? (_site & ~4095UL) + (ulong)(_word.ImmHiLo << 12) : _site + (ulong)_word.ImmHiLo;
                PutLoadOrNop(_word.Rd, address);
                return true;
            case Arm64Class.LoadLiteral:
                return TryPutLiteral();
            default:
                Put(_word.Value, _site);
                return true;
        }
    }

    /// <summary>Taken, it goes over the branch back, to one that reaches.</summary>
    private bool TryPutConditional(uint offsetMask, ulong target)
    {
        const uint OverOne = 2 << 5;
        Put((_word.Value & ~offsetMask) | OverOne, _site);
        return TryPutBranch(_site + Word, _site + Word) && TryPutBranch(target, target);
    }

    /// <summary>A literal is loaded from its true place: it may be written to at any time.</summary>
    private bool TryPutLiteral()
    {
        const uint Prefetch = 3;
        uint opc = _word.Bits(31, 30);
        ulong literal = _site + (ulong)_word.Imm19Offset;
        if (!_word.VR && (opc == Prefetch || _word.Rt == Arm64Word.ZeroOrStackPointer))
        {
            Put(Nop, _site);
            return true;
        }

        long distance = unchecked((long)(literal - Position));
        if (distance is >= -LiteralRange and < LiteralRange)
        {
            Put((_word.Value & ~0x00ff_ffe0u) | ((uint)(distance >> 2) << 5 & 0x00ff_ffe0), _site);
            return true;
        }

        if (_word.VR)
        {
            return false;
        }

        uint load = opc == 0 ? 0xb940_0000 : opc == 1 ? 0xf940_0000 : 0xb980_0000;
        PutLiteralLoad(_word.Rt, literal);
        Put(load | ((uint)_word.Rt << 5) | (uint)_word.Rt, _site);
        return true;
    }

    private void PutLoadOrNop(int register, ulong value)
    {
        if (register == Arm64Word.ZeroOrStackPointer)
        {
            Put(Nop, _site);
            return;
        }

        PutLiteralLoad(register, value);
    }

    private void PutLiteralLoad(int register, ulong value)
    {
        _literal = value;
        _literalUse = _code.Count;
        Put(LoadLiteral64 | (uint)register, _site);
    }

    private bool TryPlaceLiteral()
    {
        if (Position % sizeof(ulong) != 0)
        {
            _code.AddRange(new byte[Word]);
        }

        Span<byte> load = CollectionsMarshal.AsSpan(_code).Slice(_literalUse, Word);
        uint offset = (uint)(_code.Count - _literalUse);
        BinaryPrimitives.WriteUInt32LittleEndian(load, BinaryPrimitives.ReadUInt32LittleEndian(load) | (offset >> 2 << 5));
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, _literal);
        _code.AddRange(bytes);
        return offset < LiteralRange;
    }

    private bool TryPutBranch(ulong target, ulong original)
    {
        bool reaches = TryEncodeBranch(Position, target, out uint branch);
        Put(branch, original);
        return reaches;
    }

    private void Put(uint word, ulong original)
    {
        _points.Add(new RelocatedPoint(_code.Count, original, 0));
        Span<byte> bytes = stackalloc byte[Word];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, word);
        _code.AddRange(bytes);
    }

    /// <summary>BLRAA and BLRAB, with a register as the modifier, not BLRAAZ and BLRABZ.</summary>
    private static bool IsTwoRegister(Arm64Word word) => word.Bit(24);
}

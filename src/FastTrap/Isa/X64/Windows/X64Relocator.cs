using System.Buffers.Binary;
using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>
/// Writes a trampoline: a window's instructions, made to mean at another address what they mean at their own, with the probes' code between them, and the jump
/// back. Reusable; not thread-safe.
/// </summary>
/// <remarks>
/// <c>Begin; TryMoveUntil(site); AddBody(code made for Position); ... TryFinish</c>. Return addresses that calls push are the original ones, so unwinders and
/// profilers see nothing of it.
/// </remarks>
internal sealed partial class X64Relocator
{
    private const int NearJumpLength = 5;
    private const int FarJumpLength = 14;

    private readonly List<RelocatedPoint> _points = [];
    private readonly List<RelocatedBody> _bodies = [];
    private readonly List<(int Offset, ulong Value)> _literals = [];
    private byte[] _code = new byte[256];
    private byte[] _original = [];
    private int _length;
    private PatchWindow _window;
    private ulong _next;
    private bool _ends;

    /// <summary>What was written.</summary>
    public ReadOnlySpan<byte> Code => _code.AsSpan(0, _length);

    /// <summary>Where the code will be.</summary>
    public ulong Address { get; private set; }

    /// <summary>Where the next byte will be.</summary>
    public ulong Position => Address + (ulong)_length;

    /// <summary>All instructions that were written, but for those of the bodies, in order.</summary>
    public IReadOnlyList<RelocatedPoint> Points => _points;

    /// <summary>The bodies, in order.</summary>
    public IReadOnlyList<RelocatedBody> Bodies => _bodies;

    /// <summary>Begins anew.</summary>
    /// <param name="window">The window, where it is in the target.</param>
    /// <param name="original">Its original bytes: <see cref="PatchWindow.CodeLength"/> or more.</param>
    /// <param name="address">Where the code will be.</param>
    public void Begin(in PatchWindow window, ReadOnlySpan<byte> original, ulong address)
    {
        _window = window;
        _original = original[..window.CodeLength].ToArray();
        Address = address;
        _next = window.Start;
        _length = 0;
        _ends = false;
        _points.Clear();
        _bodies.Clear();
        _literals.Clear();
    }

    /// <summary>Moves the instructions before <paramref name="address"/> that are not moved yet. False with the reason if one cannot be.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No instruction of the window starts there, or it was moved before.</exception>
    public bool TryMoveUntil(ulong address, out WindowRefusal refusal)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(address, _next);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(address, _window.CodeEnd);
        while (_next < address)
        {
            if (!TryMoveNext(out refusal))
            {
                return false;
            }
        }

        ArgumentOutOfRangeException.ThrowIfNotEqual(address, _next);
        refusal = WindowRefusal.None;
        return true;
    }

    /// <summary>Adds code that runs before the next instruction; it was made for <see cref="Position"/>.</summary>
    public void AddBody(ReadOnlySpan<byte> body)
    {
        _bodies.Add(new RelocatedBody(_length, body.Length, _next));
        Write(body);
    }

    /// <summary>Moves the rest and adds the jump back.</summary>
    public bool TryFinish(out WindowRefusal refusal)
    {
        if (!TryMoveUntil(_window.CodeEnd, out refusal))
        {
            return false;
        }

        if (!_ends)
        {
            WriteJump(_window.CodeEnd, _window.CodeEnd, false);
        }

        if (_literals.Count > 0)
        {
            Write(stackalloc byte[-_length & 7]);
            foreach ((int offset, ulong value) in _literals)
            {
                BinaryPrimitives.WriteInt32LittleEndian(_code.AsSpan(offset), _length - (offset + sizeof(int)));
                WriteUInt64(value);
            }
        }

        return true;
    }

    /// <summary>
    /// What a thread at an offset of the code, outside of the bodies, would be about to execute had nothing been moved. False inside of a body, which is to be
    /// left to run, and where no instruction starts.
    /// </summary>
    public bool TryFindPoint(int offset, out RelocatedPoint point)
    {
        foreach (RelocatedPoint candidate in _points)
        {
            if (candidate.Offset == offset)
            {
                point = candidate;
                return true;
            }
        }

        point = default;
        return false;
    }

    private bool TryMoveNext(out WindowRefusal refusal)
    {
        refusal = WindowRefusal.NotMovable;
        if (!TryDecodeNext(out Instruction instruction, out ReadOnlySpan<byte> code, out ConstantOffsets offsets))
        {
            return false;
        }

        ulong following = _next + (ulong)instruction.Length;
        bool moved = instruction.FlowControl switch
        {
            FlowControl.UnconditionalBranch => WriteJump(instruction.NearBranchTarget, _next, false),
            FlowControl.ConditionalBranch => WriteBranch(instruction, code, following),
            FlowControl.Call => WriteCall(instruction.NearBranchTarget, following),
            FlowControl.IndirectCall => TryWriteIndirectCall(instruction, following),
            _ => TryCopy(instruction, code, offsets),
        };
        refusal = moved ? WindowRefusal.None : WindowRefusal.OutOfReach;
        _ends = instruction.FlowControl is FlowControl.UnconditionalBranch or FlowControl.IndirectBranch or FlowControl.Return or FlowControl.Call
            or FlowControl.IndirectCall;
        _next = following;
        return moved;
    }

    private unsafe bool TryDecodeNext(out Instruction instruction, out ReadOnlySpan<byte> code, out ConstantOffsets offsets)
    {
        ReadOnlySpan<byte> rest = _original.AsSpan((int)(_next - _window.Start));
        fixed (byte* bytes = rest)
        {
            X64Decoding decoding = X64Decoding.Current;
            decoding.Start(bytes, rest.Length, _next);
            decoding.Decode(out instruction);
            offsets = decoding.ConstantOffsets(instruction);
        }

        code = rest[..Math.Min(instruction.Length, rest.Length)];
        return !instruction.IsInvalid && X64Movability.CanMove(instruction);
    }

    private bool TryCopy(in Instruction instruction, ReadOnlySpan<byte> code, in ConstantOffsets offsets)
    {
        _points.Add(new RelocatedPoint(_length, instruction.IP, 0));
        int at = _length;
        Write(code);
        if (!instruction.IsIPRelativeMemoryOperand)
        {
            return true;
        }

        long distance = unchecked((long)(instruction.IPRelativeMemoryAddress - Position));
        BinaryPrimitives.WriteInt32LittleEndian(_code.AsSpan(at + offsets.DisplacementOffset), (int)distance);
        return distance == (int)distance;
    }

    /// <summary>jcc becomes its long form; loops and jumps on rcx have none, and get a jump to jump to.</summary>
    private bool WriteBranch(in Instruction instruction, ReadOnlySpan<byte> code, ulong following)
    {
        ulong target = instruction.NearBranchTarget;
        _points.Add(new RelocatedPoint(_length, instruction.IP, 0));
        if (instruction.IsJccShortOrNear)
        {
            int prefixes = instruction.Length - (instruction.IsJccShort ? 2 : 6);
            byte condition = (byte)(code[instruction.IsJccShort ? prefixes : prefixes + 1] & 0x0f);
            int length = prefixes + 6;
            long distance = unchecked((long)(target - Position - (ulong)length));
            if (distance == (int)distance)
            {
                Write(code[..prefixes]);
                Write([0x0f, (byte)(0x80 | condition)]);
                WriteInt32((int)distance);
                return true;
            }

            // Not taken: over the jump.
            Write([(byte)(0x70 | (condition ^ 1)), FarJumpLength]);
            WriteJump(target, target, true);
            return true;
        }

        Write(code[..^1]);
        Write([2]);
        _points.Add(new RelocatedPoint(_length, following, 0));
        Write([0xeb, (byte)(FitsNear(target, Position + 2) ? NearJumpLength : FarJumpLength)]);
        WriteJump(target, target, false);
        return true;
    }

    private bool WriteCall(ulong target, ulong following)
    {
        WritePush(following);
        _points.Add(new RelocatedPoint(_length, _next, sizeof(ulong)));
        WriteJumpCode(target, false);
        return true;
    }

    /// <summary>Pushing first keeps all registers; the call's operand, if on the stack, has moved by a word then.</summary>
    private bool TryWriteIndirectCall(in Instruction call, ulong following)
    {
        Instruction jump = call;
        jump.Code = Iced.Intel.Code.Jmp_rm64;
        if (call.Op0Kind == OpKind.Memory && call.MemoryBase == Register.RSP)
        {
            ulong displacement = call.MemoryDisplacement64 + sizeof(ulong);
            jump.MemoryDisplacement64 = displacement;
            jump.MemoryDisplSize = displacement <= (ulong)sbyte.MaxValue ? 1 : 8;
        }

        WritePush(following);
        _points.Add(new RelocatedPoint(_length, _next, sizeof(ulong)));
        return TryEncode(jump);
    }

    private bool TryEncode(in Instruction instruction)
    {
        Writer writer = new();
        Encoder encoder = Encoder.Create(64, writer);
        if (!encoder.TryEncode(instruction, Position, out _, out _))
        {
            return false;
        }

        Write(writer.Bytes);
        return true;
    }

    /// <summary>One instruction, so that there is no moment at which half of the address is on the stack.</summary>
    private void WritePush(ulong value)
    {
        _points.Add(new RelocatedPoint(_length, _next, 0));
        Write([0xff, 0x35]);
        _literals.Add((_length, value));
        WriteInt32(0);
    }

    private bool WriteJump(ulong target, ulong original, bool far)
    {
        _points.Add(new RelocatedPoint(_length, original, 0));
        WriteJumpCode(target, far);
        return true;
    }

    private void WriteJumpCode(ulong target, bool far)
    {
        if (!far && FitsNear(target, Position))
        {
            long distance = unchecked((long)(target - Position - NearJumpLength));
            Write([0xe9]);
            WriteInt32((int)distance);
            return;
        }

        Write([0xff, 0x25, 0, 0, 0, 0]);
        WriteUInt64(target);
    }

    private static bool FitsNear(ulong target, ulong from)
    {
        long distance = unchecked((long)(target - from - NearJumpLength));
        return distance == (int)distance;
    }

    private void WriteInt32(int value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        Write(bytes);
    }

    private void WriteUInt64(ulong value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        Write(bytes);
    }

    private void Write(ReadOnlySpan<byte> bytes)
    {
        if (_length + bytes.Length > _code.Length)
        {
            Array.Resize(ref _code, Math.Max(_code.Length * 2, _length + bytes.Length));
        }

        bytes.CopyTo(_code.AsSpan(_length));
        _length += bytes.Length;
    }

    private sealed class Writer : CodeWriter
    {
        private readonly byte[] _bytes = new byte[32];
        private int _length;

        public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, _length);

        public override void WriteByte(byte value)
        {
            if (_length < _bytes.Length)
            {
                _bytes[_length++] = value;
            }
        }
    }
}

using System.Runtime.InteropServices;
using FastTrap.Native;
using FastTrap.Usdt;

namespace FastTrap.Control;

/// <summary>The vector registers of a stopped thread, fetched from the kernel once a hit, and only if they are asked for. Control thread only.</summary>
internal sealed class VectorRegisters(ProcessHandle process) : IVectorRegisters
{
    private const int NT_PRFPREG = 2;
    private const int NT_X86_XSTATE = 0x202;

    // asm/user.h, struct user_fpregs_struct, and the standard format of XSAVE: FXSAVE area, header, upper halves of ymm.
    private const int XmmOffset = 160;
    private const int XmmLength = 16;
    private const int FxsaveLength = 512;
    private const int YmmHighOffset = 576;
    private const int AvxBit = 4;

    private readonly byte[] _bytes = new byte[YmmHighOffset + (16 * XmmLength)];
    private int _threadId;
    private int _length;
    private bool _isFetched;

    /// <summary>Forgets what was fetched: another hit.</summary>
    public void Aim(int threadId)
    {
        _threadId = threadId;
        _isFetched = false;
    }

    public bool TryRead(int register, Span<byte> bytes)
    {
        if (!_isFetched)
        {
            _isFetched = true;
            _length = Fetch();
        }

        if (process.Architecture == Architecture.Arm64)
        {
            // struct user_fpsimd_state begins with the 32 registers.
            return bytes.Length <= XmmLength && TryCopy(register * XmmLength, bytes);
        }

        int low = Math.Min(bytes.Length, XmmLength);
        if (!TryCopy(XmmOffset + (register * XmmLength), bytes[..low]))
        {
            return false;
        }

        Span<byte> high = bytes[low..];
        if (high.IsEmpty)
        {
            return true;
        }

        // A component that is not marked is in its first state, all zero.
        bool isInUse = _length > FxsaveLength && (_bytes[FxsaveLength] & AvxBit) != 0;
        high.Clear();
        return high.Length <= XmmLength && (!isInUse || TryCopy(YmmHighOffset + (register * XmmLength), high));
    }

    private int Fetch()
    {
        if (process.Architecture == Architecture.X64)
        {
            int length = process.Platform.GetRegisterSet(_threadId, NT_X86_XSTATE, _bytes);
            if (length > 0)
            {
                return length;
            }
        }

        return Math.Max(0, process.Platform.GetRegisterSet(_threadId, NT_PRFPREG, _bytes));
    }

    private bool TryCopy(int offset, Span<byte> to)
    {
        if (offset + to.Length > _length)
        {
            return false;
        }

        _bytes.AsSpan(offset, to.Length).CopyTo(to);
        return true;
    }
}

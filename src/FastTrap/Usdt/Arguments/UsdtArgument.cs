using System.Buffers.Binary;
using FastTrap.Isa;

namespace FastTrap.Usdt;

/// <summary>One argument at one site: its type, and how its value is found when the site is hit. Immutable; evaluating allocates nothing.</summary>
internal sealed class UsdtArgument
{
    private readonly UsdtOperand _operand;

    public UsdtArgument(ArgumentKind kind, int size, in UsdtOperand operand)
    {
        Kind = kind;
        Size = size;
        _operand = operand;
        Location = operand.Text;
    }

    private UsdtArgument(string reason)
    {
        Kind = ArgumentKind.Unreadable;
        Location = $"unreadable: {reason}";
    }

    public ArgumentKind Kind { get; }

    /// <summary>How the value is found.</summary>
    public ref readonly UsdtOperand Operand => ref _operand;

    /// <summary>Bytes.</summary>
    public int Size { get; }

    /// <summary>Where it is, or why it cannot be read.</summary>
    public string Location { get; }

    /// <summary>The type with its bits and sign.</summary>
    public string NativeType => Kind switch
    {
        ArgumentKind.Signed => $"int{Size * 8} signed",
        ArgumentKind.Unsigned => $"int{Size * 8} unsigned",
        ArgumentKind.Floating => Size == 4 ? "float" : "double",
        ArgumentKind.Vector => $"vector{Size * 8}",
        _ => "unknown",
    };

    /// <summary>The type in C.</summary>
    public string TranslatedType => Kind switch
    {
        ArgumentKind.Signed => $"int{Size * 8}_t",
        ArgumentKind.Unsigned => $"uint{Size * 8}_t",
        ArgumentKind.Floating => Size == 4 ? "float" : "double",
        ArgumentKind.Vector => $"uint8_t[{Size}]",
        _ => "",
    };

    /// <summary>An argument that could not be understood.</summary>
    public static UsdtArgument Unreadable(string reason) => new(reason);

    /// <summary>The value in 64 bits, as <see cref="ArgumentKind"/> says; false if it cannot be read.</summary>
    public bool TryGetValue(in RegisterSet registers, ITargetMemory memory, IVectorRegisters vectors, out ulong value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        int length = Math.Min(Size, bytes.Length);
        bytes.Clear();
        if (!TryRead(registers, memory, vectors, bytes[..length]))
        {
            value = 0;
            return false;
        }

        value = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        if (Kind == ArgumentKind.Signed)
        {
            int unused = 64 - (length * 8);
            value = (ulong)((long)(value << unused) >> unused);
        }
        else if (Kind == ArgumentKind.Floating && Size == sizeof(float))
        {
            value = BitConverter.DoubleToUInt64Bits(BitConverter.UInt32BitsToSingle((uint)value));
        }

        return true;
    }

    /// <summary>Reads the low bytes as they are, as many as the buffer takes, <see cref="Size"/> at most; all of it or nothing.</summary>
    public bool TryRead(in RegisterSet registers, ITargetMemory memory, IVectorRegisters vectors, Span<byte> bytes)
    {
        if (Kind == ArgumentKind.Unreadable)
        {
            return false;
        }

        switch (_operand.Kind)
        {
            case UsdtOperandKind.Memory:
                return memory.TryRead(_operand.GetAddress(registers), bytes);
            case UsdtOperandKind.Vector:
                return vectors.TryRead(_operand.Register, bytes);
            default:
                ulong value = _operand.Value;
                if (_operand.Kind == UsdtOperandKind.Register)
                {
                    // A register that is narrower than the argument counts as that narrow, with the argument's sign.
                    int unused = 64 - (_operand.Width * 8);
                    value = System.Runtime.CompilerServices.Unsafe.AsRef(in registers).Words[_operand.Register] >> _operand.Shift << unused;
                    value = Kind == ArgumentKind.Signed ? (ulong)((long)value >> unused) : value >> unused;
                }

                Span<byte> all = stackalloc byte[2 * sizeof(ulong)];
                BinaryPrimitives.WriteUInt64LittleEndian(all, value);
                all[sizeof(ulong)..].Clear();
                if (bytes.Length > all.Length)
                {
                    return false;
                }

                all[..bytes.Length].CopyTo(bytes);
                return true;
        }
    }
}

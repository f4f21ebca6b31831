using System.Runtime.InteropServices;
using FastTrap.Usdt;

namespace FastTrap.Programs.Compilation;

/// <summary>Where the arguments of a probe are, at the moment of a hit. Immutable; sites with the same sources share their code.</summary>
internal sealed class ArgumentSources
{
    private const int MaximumArguments = 64;
    private const int X64RegisterArguments = 6;
    private const int Arm64RegisterArguments = 8;

    private static readonly ArgumentSources s_x64Entry = new([.. Enumerable.Range(0, MaximumArguments).Select(i => NativeArgument(Architecture.X64, i))], false);
    private static readonly ArgumentSources s_arm64Entry = new([.. Enumerable.Range(0, MaximumArguments).Select(i => NativeArgument(Architecture.Arm64, i))], false);
    private static readonly ArgumentSources s_x64Return = new([null, InRegister(X64Register.Rax), InRegister(X64Register.Rdx)], true);
    private static readonly ArgumentSources s_arm64Return = new([null, InRegister(Arm64Register.X0), InRegister(Arm64Register.X1)], true);

    private readonly UsdtArgument?[] _arguments;

    private ArgumentSources(UsdtArgument?[] arguments, bool isReturn)
    {
        _arguments = arguments;
        IsReturn = isReturn;
    }

    /// <summary>Whether argument 0 is the offset of the site in its function.</summary>
    public bool IsReturn { get; }

    /// <summary>At a function's first instruction, and at instructions where its arguments are taken for granted.</summary>
    public static ArgumentSources ForEntry(Architecture architecture) => architecture == Architecture.X64 ? s_x64Entry : s_arm64Entry;

    /// <summary>At a function's first instruction, where the probe numbers its arguments in another order.</summary>
    public static ArgumentSources ForEntry(Architecture architecture, Func<int, int> nativeIndex) => new(
        [.. Enumerable.Range(0, MaximumArguments).Select(i => nativeIndex(i) is int native and >= 0 ? NativeArgument(architecture, native) : null)], false);

    /// <summary>Before the instruction by which a function is left.</summary>
    public static ArgumentSources ForReturn(Architecture architecture) => architecture == Architecture.X64 ? s_x64Return : s_arm64Return;

    /// <summary>At one site of a static probe.</summary>
    public static ArgumentSources ForStatic(IEnumerable<UsdtArgument> arguments) => new([.. arguments], false);

    /// <summary>The argument; null if there is none, or it is the site's offset.</summary>
    public UsdtArgument? this[int index] => index < _arguments.Length && _arguments[index] is { Kind: not ArgumentKind.Unreadable } argument ? argument : null;

    /// <summary>Whether the same code serves both.</summary>
    public bool IsSameAs(ArgumentSources other) =>
        this == other || (IsReturn == other.IsReturn && _arguments.AsSpan().SequenceEqual(other._arguments, SourceComparer.Instance));

    private static UsdtArgument NativeArgument(Architecture architecture, int index)
    {
        bool isX64 = architecture == Architecture.X64;
        int inRegisters = isX64 ? X64RegisterArguments : Arm64RegisterArguments;
        if (index >= inRegisters)
        {
            // On x86-64 behind the return address.
            byte stackPointer = isX64 ? (byte)X64Register.Rsp : (byte)Arm64Register.Sp;
            ulong offset = sizeof(ulong) * (ulong)(index - inRegisters + (isX64 ? 1 : 0));
            return new UsdtArgument(
                ArgumentKind.Unsigned, sizeof(ulong), new UsdtOperand { Kind = UsdtOperandKind.Memory, Register = stackPointer, Value = offset, Text = "stack" });
        }

        return isX64
            ? InRegister(index switch
            {
                0 => X64Register.Rdi,
                1 => X64Register.Rsi,
                2 => X64Register.Rdx,
                3 => X64Register.Rcx,
                4 => X64Register.R8,
                _ => X64Register.R9,
            })
            : InRegister(Arm64Register.X0 + index);
    }

    private static UsdtArgument InRegister(X64Register register) => InRegister((byte)register);

    private static UsdtArgument InRegister(Arm64Register register) => InRegister((byte)register);

    private static UsdtArgument InRegister(byte word) =>
        new(ArgumentKind.Unsigned, sizeof(ulong), new UsdtOperand { Kind = UsdtOperandKind.Register, Register = word, Text = "register" });

    private sealed class SourceComparer : IEqualityComparer<UsdtArgument?>
    {
        public static readonly SourceComparer Instance = new();

        public bool Equals(UsdtArgument? x, UsdtArgument? y) =>
            ReferenceEquals(x, y) || (x is not null && y is not null && x.Kind == y.Kind && x.Size == y.Size && AreSame(x.Operand, y.Operand));

        public int GetHashCode(UsdtArgument? obj) => obj is null ? 0 : HashCode.Combine(obj.Kind, obj.Size, obj.Operand.Kind, obj.Operand.Register, obj.Operand.Value);

        private static bool AreSame(in UsdtOperand a, in UsdtOperand b) =>
            (a.Kind, a.Register, a.Width, a.Shift, a.Index, a.Scale, a.Extension) == (b.Kind, b.Register, b.Width, b.Shift, b.Index, b.Scale, b.Extension)
            && (a.Segment, a.Value, a.IsNarrow) == (b.Segment, b.Value, b.IsNarrow);
    }
}

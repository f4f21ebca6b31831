using FastTrap.Symbols;

namespace FastTrap.Usdt;

/// <summary>The type of one argument of a published probe, as notes can say it.</summary>
/// <param name="Size">Bytes: 1, 2, 4 or 8.</param>
/// <param name="IsSigned">Whether an integer is to be extended with its sign.</param>
/// <param name="IsFloat">Whether it is a floating-point number.</param>
internal readonly record struct ArgumentType(int Size, bool IsSigned, bool IsFloat)
{
    private static readonly string[] s_registers8 = ["rdi", "rsi", "rdx", "rcx", "r8", "r9"];
    private static readonly string[] s_registers4 = ["edi", "esi", "edx", "ecx", "r8d", "r9d"];
    private static readonly string[] s_registers2 = ["di", "si", "dx", "cx", "r8w", "r9w"];
    private static readonly string[] s_registers1 = ["dil", "sil", "dl", "cl", "r8b", "r9b"];

    /// <summary>The type that stands for a .NET type.</summary>
    /// <exception cref="ArgumentException">There is none.</exception>
    public static ArgumentType Of<T>() =>
        typeof(T) == typeof(long) || typeof(T) == typeof(nint) ? new(8, true, false)
        : typeof(T) == typeof(ulong) || typeof(T) == typeof(nuint) || typeof(T) == typeof(string) ? new(8, false, false)
        : typeof(T) == typeof(int) ? new(4, true, false)
        : typeof(T) == typeof(uint) ? new(4, false, false)
        : typeof(T) == typeof(short) ? new(2, true, false)
        : typeof(T) == typeof(ushort) || typeof(T) == typeof(char) ? new(2, false, false)
        : typeof(T) == typeof(sbyte) ? new(1, true, false)
        : typeof(T) == typeof(byte) || typeof(T) == typeof(bool) ? new(1, false, false)
        : typeof(T) == typeof(double) ? new(8, true, true)
        : typeof(T) == typeof(float) ? new(4, true, true)
        : throw new ArgumentException(
            $"{typeof(T)} cannot be an argument of a probe: integers, bool, char, float, double and string can. Convert it (an enum to its integer, an object to a string).");

    /// <summary>The arguments as a note says them: where each is when the probe's function is called.</summary>
    public static string Describe(ElfMachine machine, ReadOnlySpan<ArgumentType> types)
    {
        string[] texts = new string[types.Length];
        int integers = 0;
        int floats = 0;
        for (int i = 0; i < texts.Length; i++)
        {
            ArgumentType type = types[i];
            string register = type.IsFloat ? FloatRegister(machine, type.Size, floats++) : IntegerRegister(machine, type.Size, integers++);
            texts[i] = $"{(type.IsSigned && !type.IsFloat ? "-" : "")}{type.Size}{(type.IsFloat ? "f" : "")}@{register}";
        }

        return string.Join(' ', texts);
    }

    private static string FloatRegister(ElfMachine machine, int size, int index) =>
        machine == ElfMachine.X64 ? $"%xmm{index}" : size == 8 ? $"d{index}" : $"s{index}";

    // On arm64 tools know the names of whole registers only; the size before the @ says how much of it counts.
    private static string IntegerRegister(ElfMachine machine, int size, int index) => machine switch
    {
        ElfMachine.X64 => "%" + (size switch { 8 => s_registers8, 4 => s_registers4, 2 => s_registers2, _ => s_registers1 })[index],
        _ => $"x{index}",
    };
}

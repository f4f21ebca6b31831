using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Native;

namespace FastTrap.Usdt;

/// <summary>No argument.</summary>
internal readonly struct NoArgument;

/// <summary>Fires a probe that somebody observes: puts the arguments where its note says, and calls its function.</summary>
internal static unsafe class ProbeCall
{
    private const int RoomOnStack = 1024;

    /// <summary>Fires. Strings become UTF-8 with a terminating zero, for the time of the call.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static void Fire<T1, T2, T3, T4, T5, T6>(ProbeSite site, T1 a1, T2 a2, T3 a3, T4 a4, T5 a5, T6 a6)
    {
        nuint room = Room(a1) + Room(a2) + Room(a3) + Room(a4) + Room(a5) + Room(a6);
        byte* onStack = stackalloc byte[RoomOnStack];
        byte* text = room <= RoomOnStack ? onStack : (byte*)NativeMemory.Alloc(room);
        try
        {
            CallArguments arguments = default;
            byte* end = text;
            Add(ref arguments, ref end, a1);
            Add(ref arguments, ref end, a2);
            Add(ref arguments, ref end, a3);
            Add(ref arguments, ref end, a4);
            Add(ref arguments, ref end, a5);
            Add(ref arguments, ref end, a6);
            LoadedImage.Call(site.Function, arguments);
            GC.KeepAlive(site);
        }
        finally
        {
            if (text != onStack)
            {
                NativeMemory.Free(text);
            }
        }
    }

    /// <summary>Bytes which a string takes at most; 0 for anything else.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nuint Room<T>(T value) => typeof(T) == typeof(string) && value is string text ? ((nuint)text.Length * 3) + 1 : 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<T>(ref CallArguments arguments, ref byte* end, T value)
    {
        if (typeof(T) == typeof(NoArgument))
        {
            return;
        }

        if (typeof(T) == typeof(double))
        {
            arguments.Add(Unsafe.As<T, double>(ref value));
        }
        else if (typeof(T) == typeof(float))
        {
            arguments.Add(BitConverter.UInt64BitsToDouble(BitConverter.SingleToUInt32Bits(Unsafe.As<T, float>(ref value))));
        }
        else if (typeof(T) == typeof(string))
        {
            arguments.Add(AddText(ref end, (string?)(object?)value));
        }
        else
        {
            arguments.Add(ToInteger(value));
        }
    }

    private static ulong AddText(ref byte* end, string? value)
    {
        if (value is null)
        {
            return 0;
        }

        byte* begin = end;
        int length = Encoding.UTF8.GetBytes(value, new Span<byte>(begin, value.Length * 3));
        begin[length] = 0;
        end = begin + length + 1;
        return (ulong)begin;
    }

    // For each type one of these remains in the compiled code.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong ToInteger<T>(T value) =>
        typeof(T) == typeof(long) ? (ulong)Unsafe.As<T, long>(ref value)
        : typeof(T) == typeof(ulong) ? Unsafe.As<T, ulong>(ref value)
        : typeof(T) == typeof(nint) ? (ulong)Unsafe.As<T, nint>(ref value)
        : typeof(T) == typeof(nuint) ? Unsafe.As<T, nuint>(ref value)
        : typeof(T) == typeof(int) ? (ulong)Unsafe.As<T, int>(ref value)
        : typeof(T) == typeof(uint) ? Unsafe.As<T, uint>(ref value)
        : typeof(T) == typeof(short) ? (ulong)Unsafe.As<T, short>(ref value)
        : typeof(T) == typeof(ushort) ? Unsafe.As<T, ushort>(ref value)
        : typeof(T) == typeof(char) ? Unsafe.As<T, char>(ref value)
        : typeof(T) == typeof(sbyte) ? (ulong)Unsafe.As<T, sbyte>(ref value)
        : typeof(T) == typeof(byte) ? Unsafe.As<T, byte>(ref value)
        : Unsafe.As<T, bool>(ref value) ? 1UL : 0UL;
}

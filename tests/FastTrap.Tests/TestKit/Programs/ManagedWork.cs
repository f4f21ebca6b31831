using System.Runtime.CompilerServices;

namespace FastTrap.Tests.TestKit.Programs;

/// <summary>The test assembly as a .NET target: on each line it runs compiled methods and prints what came out.</summary>
internal static class ManagedWork
{
    public static int Run()
    {
        Console.WriteLine($"ready {Environment.ProcessId}");
        while (Console.ReadLine() is { } line && line != "end")
        {
            Console.WriteLine($"result {HotInteger(40)} {BitConverter.DoubleToInt64Bits(HotDouble(40)):x} {HotVector(40)} {HotText(20)}");
            Console.WriteLine("done");
        }

        return 0;
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static ulong HotInteger(int count)
    {
        ulong sum = 14695981039346656037;
        for (int i = 0; i < count; i++)
        {
            sum = (sum ^ (ulong)i) * 1099511628211 + (sum >> 7) + (i % 3 == 0 ? sum / 10 : sum % 17);
        }

        return sum;
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static double HotDouble(int count)
    {
        double sum = 0;
        for (int i = 1; i <= count; i++)
        {
            sum += Math.Sqrt(i) / (1 + (sum * 0.25)) - (i * 1e-3);
        }

        return sum;
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static int HotVector(int count)
    {
        Span<int> values = stackalloc int[64];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = i * count;
        }

        System.Numerics.Vector<int> total = System.Numerics.Vector<int>.Zero;
        for (int i = 0; i + System.Numerics.Vector<int>.Count <= values.Length; i += System.Numerics.Vector<int>.Count)
        {
            total += new System.Numerics.Vector<int>(values[i..]) * 3;
        }

        return System.Numerics.Vector.Sum(total);
    }

    /// <summary>Allocates, throws and catches.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static string HotText(int count)
    {
        string text = "";
        for (int i = 0; i < count; i++)
        {
            try
            {
                text += i % 5 == 4 ? Fail(text) : i.ToString(System.Globalization.CultureInfo.InvariantCulture);
            }
            catch (ArgumentException exception)
            {
                text += exception.Message.Length;
            }
        }

        return text;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static string Fail(string? text) => text is null ? "" : throw new ArgumentException("on purpose");
}

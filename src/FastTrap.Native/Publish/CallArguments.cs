using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace FastTrap.Native;

/// <summary>Arguments of <see cref="LoadedImage.Call"/>, at most six of each kind. Filled by one thread.</summary>
internal struct CallArguments
{
    /// <summary>Most arguments of each kind that both architectures pass in registers.</summary>
    public const int Capacity = 6;

    private IntegerValues _integers;
    private FloatValues _floats;

    /// <summary>How many integers there are.</summary>
    public int IntegerCount { get; private set; }

    /// <summary>How many floating-point numbers there are.</summary>
    public int FloatCount { get; private set; }

    [UnscopedRef]
    internal readonly ReadOnlySpan<ulong> Integers => _integers;

    [UnscopedRef]
    internal readonly ReadOnlySpan<double> Floats => _floats;

    /// <summary>Appends an integer or a pointer.</summary>
    public void Add(ulong value) => _integers[IntegerCount++] = value;

    /// <summary>Appends a floating-point number, or one of 32 bits in the low half.</summary>
    public void Add(double value) => _floats[FloatCount++] = value;

    [InlineArray(Capacity)]
    private struct IntegerValues
    {
        private ulong _first;
    }

    [InlineArray(Capacity)]
    private struct FloatValues
    {
        private double _first;
    }
}

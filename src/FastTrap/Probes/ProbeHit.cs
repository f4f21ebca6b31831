using System.Runtime.CompilerServices;

namespace FastTrap;

/// <summary>A hit as it was buffered: a value that keeps nothing of the target alive.</summary>
public readonly struct ProbeHit
{
    private readonly ulong[]? _stack;

    private readonly Probes.HitTexts? _layout;
    private readonly byte[]? _texts;

    internal ProbeHit(Probe probe, in HitRecord record, ulong[]? stack, Probes.HitTexts? layout, byte[]? texts)
    {
        _layout = layout;
        _texts = texts;
        Probe = probe;
        ProcessId = record.ProcessId;
        ThreadId = record.ThreadId;
        TimestampNs = record.TimestampNs;
        ProgramCounter = record.ProgramCounter;
        Arguments = new ProbeArguments(record.Arguments, record.ArgumentCount, record.Unreadable);
        _stack = stack;
    }

    internal ulong[]? StackWords => _stack;

    /// <summary>The probe that was hit.</summary>
    public Probe Probe { get; }

    /// <summary>The process.</summary>
    public int ProcessId { get; }

    /// <summary>The kernel's id of the thread.</summary>
    public int ThreadId { get; }

    /// <summary>When the tracer saw it: nanoseconds of CLOCK_MONOTONIC.</summary>
    public long TimestampNs { get; }

    /// <summary>The probed instruction's address.</summary>
    public ulong ProgramCounter { get; }

    /// <summary>
    /// Integer arguments by the target's calling convention; of a static probe those which it declares, as <see cref="ArgumentKind"/> says. Of a <c>return</c>
    /// probe: [0] is the offset of the return site in the function (bytes), [1] the return value, [2] the second return register.
    /// </summary>
    public ProbeArguments Arguments { get; }

    /// <summary>The return value of a <c>return</c> probe.</summary>
    /// <exception cref="InvalidOperationException">Another kind of probe, or fewer than two arguments were asked for.</exception>
    public ulong ReturnValue => Probe.Kind == ProbeKind.Return
        ? Arguments[1]
        : throw new InvalidOperationException($"{Probe} is no return probe, so it has no return value; use Arguments.");

    /// <summary>What argument <paramref name="index"/>, from 0, is. Arguments of functions are taken for unsigned integers.</summary>
    public ArgumentKind GetArgumentKind(int index) => Probe.GetArgumentKind(ProgramCounter, index);

    /// <summary>A floating-point argument of a static probe; false if it is none, or was not fetched or not readable.</summary>
    public bool TryGetArgumentDouble(int index, out double value)
    {
        bool isDouble = (uint)index < (uint)Arguments.Count && Arguments.IsReadable(index) && GetArgumentKind(index) == ArgumentKind.Floating;
        value = isDouble ? BitConverter.UInt64BitsToDouble(Arguments[index]) : 0;
        return isDouble;
    }

    /// <summary>
    /// The text that argument <paramref name="index"/> pointed to, if it is one of <see cref="ProbeOptions.StringArguments"/>; null if not, or if it could not be read.
    /// Invalid UTF-8 becomes U+FFFD. Allocates the string.
    /// </summary>
    public string? GetArgumentString(int index) => _layout?.Get(_texts, index);

    /// <summary>Return addresses of the user stack, innermost first, beginning with <see cref="ProgramCounter"/>; empty unless asked for.</summary>
    public ReadOnlySpan<ulong> Stack => _stack;
}

/// <summary>Up to <see cref="ProbeOptions.MaximumArgumentCount"/> arguments of 64 bits.</summary>
public readonly struct ProbeArguments
{
    private readonly ArgumentBuffer _buffer;

    private readonly uint _unreadable;

    internal ProbeArguments(in ArgumentBuffer buffer, int count, uint unreadable)
    {
        _unreadable = unreadable;
        _buffer = buffer;
        Count = count;
    }

    /// <summary>How many were fetched.</summary>
    public int Count { get; }

    /// <summary>Whether argument <paramref name="index"/>, from 0, could be read; one that could not is 0. False if it was not fetched.</summary>
    public bool IsReadable(int index) => (uint)index < (uint)Count && (_unreadable & (1u << index)) == 0;

    /// <summary>Argument <paramref name="index"/>, from 0.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not fetched; see <see cref="ProbeOptions.ArgumentCount"/>.</exception>
    public ulong this[int index]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfNegative(index);
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Count);
            return _buffer[index];
        }
    }
}

[InlineArray(ProbeOptions.MaximumArgumentCount)]
internal struct ArgumentBuffer
{
    private ulong _first;
}

/// <summary>A hit in the ring, without references but the probe's number in its enabling.</summary>
internal struct HitRecord
{
    public Engine.EnabledProbe Source;
    public long Turn;
    public int ProcessId;
    public int ThreadId;
    public long TimestampNs;
    public ulong ProgramCounter;
    public int ArgumentCount;

    /// <summary>Bit i: argument i of a static probe could not be read.</summary>
    public uint Unreadable;
    public int StackCount;
    public ArgumentBuffer Arguments;
}

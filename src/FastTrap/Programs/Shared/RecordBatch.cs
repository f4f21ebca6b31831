using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastTrap.Programs.Shared;

/// <summary>Complete records of one lane, in their order, where the target wrote them: nothing is copied. Valid until the reader's next call.</summary>
internal readonly ref struct RecordBatch(int lane, ReadOnlySpan<byte> bytes)
{
    public int Lane { get; } = lane;

    /// <summary>The records, one behind the other.</summary>
    public ReadOnlySpan<byte> Bytes { get; } = bytes;

    public Enumerator GetEnumerator() => new(Bytes);

    /// <summary>Goes through the records of a batch.</summary>
    public ref struct Enumerator(ReadOnlySpan<byte> bytes)
    {
        private ReadOnlySpan<byte> _rest = bytes;

        public LaneRecord Current { get; private set; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public bool MoveNext()
        {
            if (_rest.Length < LaneLayout.RecordHeaderLength)
            {
                return false;
            }

            // It was looked at already; the target could still write here, which must not lead anywhere else.
            uint size = MemoryMarshal.Read<uint>(_rest) & LaneLayout.SizeMask;
            if (size < LaneLayout.RecordHeaderLength || size > (uint)_rest.Length)
            {
                return false;
            }

            Current = new LaneRecord(_rest[..(int)size]);
            _rest = _rest[(int)size..];
            return true;
        }
    }
}

/// <summary>One record where the target wrote it.</summary>
internal readonly ref struct LaneRecord
{
    private readonly ReadOnlySpan<byte> _bytes;

    /// <summary>A record of at least a header.</summary>
    public LaneRecord(ReadOnlySpan<byte> bytes) => _bytes = bytes;

    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>The number of the site.</summary>
    public uint Site => Word<uint>(LaneLayout.RecordSiteOffset);

    /// <summary>Ticks of the time counter (<see cref="CounterClock"/>).</summary>
    public ulong Time => Word<ulong>(LaneLayout.RecordTimeOffset);

    /// <summary>The thread's id in its own pid namespace; 0 if it is not known.</summary>
    public int ThreadId => Word<int>(LaneLayout.RecordThreadOffset);

    /// <summary>The CPU; -1 if it is not known.</summary>
    public int Cpu => Word<int>(LaneLayout.RecordCpuOffset);

    /// <summary>Bit n: whether field n has a value.</summary>
    public ulong Validity => HasValidity && _bytes.Length >= LaneLayout.RecordHeaderLength + sizeof(ulong) ? Word<ulong>(LaneLayout.RecordHeaderLength) : ulong.MaxValue;

    /// <summary>The fields.</summary>
    public ReadOnlySpan<ulong> Fields
    {
        get
        {
            ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(_bytes[LaneLayout.RecordHeaderLength..]);
            return HasValidity && words.Length != 0 ? words[1..] : words;
        }
    }

    private bool HasValidity => (Word<uint>(LaneLayout.RecordSizeOffset) & LaneLayout.ValidityFlag) != 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private T Word<T>(int offset)
        where T : unmanaged => Unsafe.ReadUnaligned<T>(ref Unsafe.Add(ref MemoryMarshal.GetReference(_bytes), offset));
}

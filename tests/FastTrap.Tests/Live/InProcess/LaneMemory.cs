using System.Buffers.Binary;
using System.Globalization;

namespace FastTrap.Tests.Live;

/// <summary>Reads what programs in a process have counted, from its memory alone: by the description of the memory, for a tracer that is no more.</summary>
internal static class LaneMemory
{
    private const int HeaderLength = 64;

    /// <summary>The first counters of all lanes of all regions of a process, added up.</summary>
    public static long SumOfCounts(int processId)
    {
        long sum = 0;
        using FileStream memory = new($"/proc/{processId}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        foreach (string line in File.ReadAllLines($"/proc/{processId}/maps").Where(l => l.Contains("fasttrap.data", StringComparison.Ordinal)))
        {
            long start = long.Parse(line.AsSpan(0, line.IndexOf('-', StringComparison.Ordinal)), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            byte[] header = new byte[HeaderLength];
            memory.Seek(start, SeekOrigin.Begin);
            memory.ReadExactly(header);
            int lanes = BinaryPrimitives.ReadInt32LittleEndian(header.AsSpan(12));
            long stride = BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(16));
            long first = BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(24));
            int counters = BinaryPrimitives.ReadInt32LittleEndian(header.AsSpan(32));
            byte[] word = new byte[sizeof(long)];
            for (int lane = 0; lane <= lanes; lane++)
            {
                memory.Seek(start + first + (lane * stride) + counters, SeekOrigin.Begin);
                memory.ReadExactly(word);
                sum += BinaryPrimitives.ReadInt64LittleEndian(word);
            }
        }

        return sum;
    }
}

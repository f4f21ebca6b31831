using System.Buffers;
using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>CRC-32 (IEEE 802.3, reflected), the checksum of .gnu_debuglink.</summary>
internal static class Crc32
{
    private const int SliceCount = 8;

    private static readonly uint[] s_tables = BuildTables();

    /// <summary>Continues a checksum; start with 0.</summary>
    public static uint Append(uint crc, ReadOnlySpan<byte> bytes)
    {
        uint[] tables = s_tables;
        crc = ~crc;
        while (bytes.Length >= SliceCount)
        {
            // Eight bytes a step by eight tables: debug files have hundreds of megabytes.
            uint low = crc ^ BitConverter.ToUInt32(bytes);
            uint high = BitConverter.ToUInt32(bytes[4..]);
            crc = tables[0x700 + (low & 0xff)] ^ tables[0x600 + ((low >> 8) & 0xff)]
                ^ tables[0x500 + ((low >> 16) & 0xff)] ^ tables[0x400 + (low >> 24)]
                ^ tables[0x300 + (high & 0xff)] ^ tables[0x200 + ((high >> 8) & 0xff)]
                ^ tables[0x100 + ((high >> 16) & 0xff)] ^ tables[high >> 24];
            bytes = bytes[SliceCount..];
        }

        foreach (byte value in bytes)
        {
            crc = tables[(crc ^ value) & 0xff] ^ (crc >> 8);
        }

        return ~crc;
    }

    /// <summary>The checksum of a whole file.</summary>
    public static uint OfFile(TargetFile file)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(256 << 10);
        try
        {
            uint crc = 0;
            long offset = 0;
            int count;
            while ((count = file.Read(offset, buffer)) > 0)
            {
                crc = Append(crc, buffer.AsSpan(0, count));
                offset += count;
            }

            return crc;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static uint[] BuildTables()
    {
        uint[] tables = new uint[SliceCount * 256];
        for (uint i = 0; i < 256; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++)
            {
                value = (value & 1) != 0 ? (value >> 1) ^ 0xedb88320 : value >> 1;
            }

            tables[i] = value;
        }

        for (int slice = 1; slice < SliceCount; slice++)
        {
            for (int i = 0; i < 256; i++)
            {
                uint previous = tables[((slice - 1) * 256) + i];
                tables[(slice * 256) + i] = tables[previous & 0xff] ^ (previous >> 8);
            }
        }

        return tables;
    }
}

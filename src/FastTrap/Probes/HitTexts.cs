using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Probes;

/// <summary>How the texts of one hit lie in its bytes: for each argument that was asked for a length, -1 when it could not be read, and the text. Immutable.</summary>
/// <param name="indices">The arguments.</param>
/// <param name="textLength">Bytes of one text at most.</param>
internal sealed class HitTexts(int[] indices, int textLength)
{
    private const int PrefixLength = sizeof(int);

    /// <summary>Bytes of one hit.</summary>
    public int Length => indices.Length * (PrefixLength + textLength);

    /// <summary>Copies the texts that the arguments point to. Allocates nothing.</summary>
    public void Record(in ProbeContext context, Span<byte> bytes)
    {
        foreach (int index in indices)
        {
            Span<byte> text = bytes.Slice(PrefixLength, textLength);
            int length = -1;
            if (context.TryGetArgument(index, out ulong address))
            {
                int read = context.Read(address, text);
                int end = text[..read].IndexOf((byte)0);
                length = read == 0 ? -1 : end < 0 ? read : end;
            }

            BinaryPrimitives.WriteInt32LittleEndian(bytes, length);
            bytes = bytes[(PrefixLength + textLength)..];
        }
    }

    /// <summary>The text of an argument; null if it was not asked for or could not be read.</summary>
    public string? Get(ReadOnlySpan<byte> bytes, int index)
    {
        int position = Array.IndexOf(indices, index);
        if (position < 0)
        {
            return null;
        }

        bytes = bytes.Slice(position * (PrefixLength + textLength), PrefixLength + textLength);
        int length = BinaryPrimitives.ReadInt32LittleEndian(bytes);
        return length < 0 ? null : Encoding.UTF8.GetString(bytes.Slice(PrefixLength, length));
    }
}

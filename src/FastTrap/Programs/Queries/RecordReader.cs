using System.Runtime.InteropServices;
using System.Text;

namespace FastTrap.Programs;

/// <summary>Where the fields of a record lie: one word for each output, one with their validity, then the texts, each a word with its length and its bytes; a stack is a text of its frames, 8 bytes each.</summary>
internal sealed class RecordLayout(int outputs, IReadOnlyList<(int AddressOutput, int MaximumLength)> texts)
{
    /// <summary>The address of a text that is a user stack; its length is the number of frames.</summary>
    public const int IsStack = -1;

    /// <summary>The length word of a text that could not be read.</summary>
    public const ulong NoText = ulong.MaxValue;

    public int ValidityWord { get; } = outputs;

    public IReadOnlyList<(int AddressOutput, int MaximumLength)> Texts { get; } = texts;

    public int WordCount { get; } = outputs + 1 + texts.Sum(t => 1 + WordsOf(t.MaximumLength));

    public int TextWord(int index) => ValidityWord + 1 + Texts.Take(index).Sum(t => 1 + WordsOf(t.MaximumLength));

    private static int WordsOf(int length) => (length + sizeof(ulong) - 1) / sizeof(ulong);
}

/// <summary>Gives the fields of one record after another to the code that makes the consumer's values of them. One thread at a time.</summary>
internal sealed class RecordReader(RecordLayout layout)
{
    private readonly int[] _textWords = [.. Enumerable.Range(0, layout.Texts.Count).Select(layout.TextWord)];
    private ulong[] _words = [];

    /// <summary>Whether all fields had a value.</summary>
    public bool IsComplete =>
        _words[layout.ValidityWord] == (layout.ValidityWord == 64 ? ulong.MaxValue : (1UL << layout.ValidityWord) - 1)
        && Array.TrueForAll(_textWords, w => _words[w] != RecordLayout.NoText);

    public void Open(ulong[] words) => _words = words;

    public bool GetBoolean(int output) => _words[output] != 0;

    public int GetInt32(int output) => (int)_words[output];

    public uint GetUInt32(int output) => (uint)_words[output];

    public long GetInt64(int output) => (long)_words[output];

    public ulong GetUInt64(int output) => _words[output];

    public double GetDouble(int output) => BitConverter.UInt64BitsToDouble(_words[output]);

    /// <summary>A text; null if it could not be read.</summary>
    public string? GetText(int index)
    {
        int word = _textWords[index];
        if (_words[word] == RecordLayout.NoText)
        {
            return null;
        }

        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(_words.AsSpan(word + 1));
        bytes = bytes[..(int)Math.Min(_words[word], (ulong)layout.Texts[index].MaximumLength)];
        int end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }

    /// <summary>A stack; empty if it was not had.</summary>
    public ulong[] GetStack(int index)
    {
        int word = _textWords[index];
        int frames = (int)Math.Min(_words[word], (ulong)layout.Texts[index].MaximumLength / sizeof(ulong));
        return _words[word] == RecordLayout.NoText ? [] : [.. _words.AsSpan(word + 1, frames)];
    }
}

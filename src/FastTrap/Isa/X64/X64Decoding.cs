using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>One decoder per thread, kept, for a decoder is dear to make and cheap to point elsewhere.</summary>
internal sealed unsafe class X64Decoding
{
    [ThreadStatic]
    private static X64Decoding? s_current;

    private readonly Reader _reader = new();
    private readonly Decoder _decoder;

    private X64Decoding() => _decoder = Decoder.Create(64, _reader);

    /// <summary>This thread's.</summary>
    public static X64Decoding Current => s_current ??= new X64Decoding();

    /// <summary>Bytes read since <see cref="Start"/>.</summary>
    public int Position => _reader.Position;

    public DecoderError LastError => _decoder.LastError;

    /// <summary>Points at code which the caller keeps pinned.</summary>
    public void Start(byte* code, int length, ulong address)
    {
        _reader.Start(code, length);
        _decoder.IP = address;
    }

    /// <summary>Decodes the next instruction; look at <see cref="LastError"/> afterwards.</summary>
    public void Decode(out Instruction instruction) => _decoder.Decode(out instruction);

    /// <summary>Where displacement and immediate of the instruction decoded last stand in its bytes.</summary>
    public ConstantOffsets ConstantOffsets(in Instruction instruction) => _decoder.GetConstantOffsets(instruction);

    private sealed class Reader : CodeReader
    {
        private byte* _code;
        private int _length;

        public int Position { get; private set; }

        public void Start(byte* code, int length)
        {
            _code = code;
            _length = length;
            Position = 0;
        }

        public override int ReadByte() => Position < _length ? _code[Position++] : -1;
    }
}

using System.Buffers.Binary;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>
/// One channel to the guest's proxy: a thread there with memory of its own, and requests to it (the operations are described in <c>proxy.c</c>).
/// </summary>
/// <remarks>One thread at a time, from <see cref="Begin"/> to the last answer taken.</remarks>
internal sealed class GuestChannel(GuestLink link, int id)
{
    /// <summary>Bytes of the arena.</summary>
    public const int ArenaLength = 1 << 20;

    private const ulong FirstArena = 0x10_0000_0000;
    private const ulong ResultMark = 0x7e57_0000_0000_0000;
    private const int HeaderLength = 8;

    private byte[] _request = new byte[4096];
    private int _length = HeaderLength;
    private byte[] _answer = [];
    private int _taken;

    public int Id => id;

    /// <summary>The id of the channel's thread in the guest.</summary>
    public int ThreadId { get; set; }

    /// <summary>Stands for the result of an earlier call of the same request.</summary>
    public static ulong ResultOf(int call) => ResultMark + (ulong)call;

    /// <summary>The guest's address of a place in the arena.</summary>
    public ulong Address(int offset) => FirstArena + ((ulong)id * ArenaLength) + (ulong)offset;

    /// <summary>Begins a new request.</summary>
    public GuestChannel Begin()
    {
        _length = HeaderLength;
        return this;
    }

    /// <summary>Writes into the arena.</summary>
    public GuestChannel Write(int offset, ReadOnlySpan<byte> bytes)
    {
        Add('W', offset, bytes.Length);
        bytes.CopyTo(Grow(bytes.Length));
        return this;
    }

    /// <summary>Reads from the arena.</summary>
    public GuestChannel Read(int offset, int length)
    {
        Add('R', offset, length);
        return this;
    }

    /// <summary>Reads as many bytes from the arena as a call of this request returned.</summary>
    public GuestChannel ReadResult(int offset, int call)
    {
        Add('R', offset, int.MinValue | call);
        return this;
    }

    /// <summary>Makes a system call.</summary>
    public GuestChannel Call(int number, params ReadOnlySpan<ulong> arguments)
    {
        Span<byte> operation = Grow(1 + (7 * sizeof(ulong)));
        operation.Clear();
        operation[0] = (byte)'S';
        BinaryPrimitives.WriteUInt64LittleEndian(operation[1..], (ulong)number);
        for (int i = 0; i < arguments.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(operation[(1 + ((i + 1) * sizeof(ulong)))..], arguments[i]);
        }

        return this;
    }

    /// <summary>Reads the whole file whose path stands at an offset of the arena.</summary>
    public GuestChannel ReadWholeFile(int offset)
    {
        Grow(1)[0] = (byte)'F';
        BinaryPrimitives.WriteInt32LittleEndian(Grow(sizeof(int)), offset);
        return this;
    }

    /// <summary>Starts the program whose description stands at an offset of the arena.</summary>
    public GuestChannel StartProgram(int offset, bool isSeized, uint options)
    {
        Add('P', offset, isSeized ? 0 : 1);
        BinaryPrimitives.WriteUInt64LittleEndian(Grow(sizeof(ulong)), options);
        return this;
    }

    /// <summary>Asks for the thread's id.</summary>
    public GuestChannel AskThreadId()
    {
        Grow(1)[0] = (byte)'T';
        return this;
    }

    /// <summary>Sends the request and waits for its answer.</summary>
    /// <param name="isEndless">Whether the guest may take as long as it likes.</param>
    public GuestChannel Exchange(bool isEndless = false)
    {
        BinaryPrimitives.WriteInt32LittleEndian(_request, _length - HeaderLength);
        BinaryPrimitives.WriteInt32LittleEndian(_request.AsSpan(sizeof(int)), id);
        _answer = link.Exchange(id, _request.AsSpan(0, _length), isEndless);
        _taken = 0;
        return this;
    }

    /// <summary>Takes the next result of the answer.</summary>
    public long TakeResult() => BinaryPrimitives.ReadInt64LittleEndian(Take(sizeof(long)));

    /// <summary>Takes the next bytes of the answer.</summary>
    public ReadOnlySpan<byte> Take(int length)
    {
        ReadOnlySpan<byte> taken = _answer.AsSpan(_taken, length);
        _taken += length;
        return taken;
    }

    private void Add(char operation, int first, int second)
    {
        Span<byte> bytes = Grow(1 + (2 * sizeof(int)));
        bytes[0] = (byte)operation;
        BinaryPrimitives.WriteInt32LittleEndian(bytes[1..], first);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[(1 + sizeof(int))..], second);
    }

    private Span<byte> Grow(int length)
    {
        if (_length + length > _request.Length)
        {
            Array.Resize(ref _request, (_length + length) * 2);
        }

        Span<byte> grown = _request.AsSpan(_length, length);
        _length += length;
        return grown;
    }
}

using FastTrap.Native;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>The memory of the guest's processes.</summary>
internal sealed partial class GuestPlatform
{
    private const int SYS_openat = 56;
    private const int SYS_close = 57;
    private const int SYS_pread64 = 67;
    private const int SYS_pwrite64 = 68;
    private const int SYS_process_vm_readv = 270;
    private const int SYS_process_vm_writev = 271;
    private const int LargestPiece = 256 * 1024;

    /// <summary>Pieces of a batch which one request reads: the proxy keeps the results of 256 calls.</summary>
    private const int PiecesOfRequest = 128;

    public int ReadMemory(int processId, ulong address, Span<byte> buffer)
    {
        int done = 0;
        while (done < buffer.Length)
        {
            int length = Math.Min(buffer.Length - done, LargestPiece);
            GuestChannel channel = link.OfThread;
            channel.Begin()
                .Write(0, Words(channel.Address(DataOffset), (ulong)length, address + (ulong)done, (ulong)length))
                .Call(SYS_process_vm_readv, (ulong)processId, channel.Address(0), 1, channel.Address(VectorLength), 1, 0)
                .ReadResult(DataOffset, 0)
                .Exchange();
            int read = (int)channel.TakeResult();
            if (read < 0)
            {
                return done > 0 ? done : read;
            }

            channel.Take(read).CopyTo(buffer[done..]);
            done += read;
            if (read < length)
            {
                break;
            }
        }

        return done;
    }

    /// <summary>Two machines share no memory.</summary>
    public Errno MapMemoryFile(int processId, int descriptor, string name, long length, out SharedMemory? memory)
    {
        memory = null;
        return Errno.ENOSYS;
    }

    /// <summary>The guest's counter is read by the guest only.</summary>
    public Errno ReadClocks(out ClockSample sample)
    {
        sample = default;
        return Errno.ENOSYS;
    }

    public int WriteMemory(int processId, ulong address, ReadOnlySpan<byte> buffer)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        ArgumentOutOfRangeException.ThrowIfGreaterThan(buffer.Length, LargestPiece);
        GuestChannel channel = link.OfThread;
        return (int)channel.Begin()
            .Write(0, Words(channel.Address(DataOffset), (ulong)buffer.Length, address, (ulong)buffer.Length))
            .Write(DataOffset, buffer)
            .Call(SYS_process_vm_writev, (ulong)processId, channel.Address(0), 1, channel.Address(VectorLength), 1, 0)
            .Exchange().TakeResult();
    }

    public void ReadMemoryBatch(int processId, ReadOnlySpan<ulong> addresses, int length, Span<byte> buffer, Span<bool> ok)
    {
        for (int first = 0; first < addresses.Length; first += PiecesOfRequest)
        {
            int count = Math.Min(PiecesOfRequest, addresses.Length - first);
            GuestChannel channel = link.OfThread;
            channel.Begin();
            for (int i = 0; i < count; i++)
            {
                int vectors = i * 2 * VectorLength;
                int data = DataOffset + (i * length);
                channel
                    .Write(vectors, Words(channel.Address(data), (ulong)length, addresses[first + i], (ulong)length))
                    .Call(SYS_process_vm_readv, (ulong)processId, channel.Address(vectors), 1, channel.Address(vectors + VectorLength), 1, 0)
                    .ReadResult(data, i);
            }

            channel.Exchange();
            for (int i = first; i < first + count; i++)
            {
                int read = (int)channel.TakeResult();
                ReadOnlySpan<byte> bytes = channel.Take(Math.Max(read, 0));
                Span<byte> piece = buffer.Slice(i * length, length);
                ok[i] = read == length;
                piece.Clear();
                if (ok[i])
                {
                    bytes.CopyTo(piece);
                }
            }
        }
    }

    public Errno OpenMemory(int processId, out TargetMemory memory)
    {
        const ulong ReadWriteCloseOnExec = 0x80002;
        long descriptor = OpenAt($"/proc/{processId}/mem", ReadWriteCloseOnExec);
        memory = new TargetMemory(processId, descriptor < 0 ? null : new GuestDescriptor(this, descriptor));
        return Check(descriptor);
    }

    public int WriteCode(TargetMemory memory, ulong address, ReadOnlySpan<byte> code)
    {
        if (memory.Handle is not { IsClosed: false } handle)
        {
            return -(int)Errno.EBADF;
        }

        GuestChannel channel = link.OfThread;
        return (int)channel.Begin()
            .Write(DataOffset, code)
            .Call(SYS_pwrite64, (ulong)handle.DangerousGetHandle(), channel.Address(DataOffset), (ulong)code.Length, address)
            .Exchange().TakeResult();
    }

    public int ReadCode(TargetMemory memory, ulong address, Span<byte> code)
    {
        if (memory.Handle is not { IsClosed: false } handle)
        {
            return -(int)Errno.EBADF;
        }

        GuestChannel channel = link.OfThread;
        int length = Math.Min(code.Length, LargestPiece);
        channel.Begin()
            .Call(SYS_pread64, (ulong)handle.DangerousGetHandle(), channel.Address(DataOffset), (ulong)length, address)
            .ReadResult(DataOffset, 0)
            .Exchange();
        int read = (int)channel.TakeResult();
        channel.Take(Math.Max(read, 0)).CopyTo(code);
        return read;
    }

    private long OpenAt(string path, ulong flags)
    {
        GuestChannel channel = link.OfThread;
        return channel.Begin()
            .Write(0, Text(path))
            .Call(SYS_openat, unchecked((ulong)AT_FDCWD), channel.Address(0), flags, 0)
            .Exchange().TakeResult();
    }
}

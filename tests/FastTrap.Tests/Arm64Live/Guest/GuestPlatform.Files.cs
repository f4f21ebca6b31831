using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Native;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>The guest's files and /proc.</summary>
internal sealed partial class GuestPlatform
{
    private const int SYS_getdents64 = 61;
    private const int SYS_readlinkat = 78;
    private const int SYS_statx = 291;
    private const ulong ReadOnlyFlags = 0x80000 | 0x800 | 0x100; // O_CLOEXEC, O_NONBLOCK, O_NOCTTY

    private readonly ConcurrentDictionary<(FileIdentity File, long Piece), byte[]> _pieces = new();

    public byte[]? ReadProcFile(string path, out Errno error)
    {
        // Whoever waits for a thread of ours to be gone asks here.
        link.CloseThoseOfEndedThreads();
        GuestChannel channel = link.OfThread;
        long length = channel.Begin().Write(0, Text(path)).ReadWholeFile(0).Exchange().TakeResult();
        error = Check(length);
        return length < 0 ? null : channel.Take((int)length).ToArray();
    }

    public string? ReadLink(string path, out Errno error)
    {
        const int LongestPath = 4096;
        GuestChannel channel = link.OfThread;
        channel.Begin()
            .Write(0, Text(path))
            .Call(SYS_readlinkat, unchecked((ulong)AT_FDCWD), channel.Address(0), channel.Address(DataOffset), LongestPath)
            .ReadResult(DataOffset, 0)
            .Exchange();
        long length = channel.TakeResult();
        error = Check(length);
        return length < 0 ? null : Encoding.UTF8.GetString(channel.Take((int)length));
    }

    public int ListProcIds(string path, List<int> ids)
    {
        const int LengthOffset = 16;
        const int NameOffset = 19;
        const ulong Room = 128 * 1024;
        ids.Clear();
        GuestChannel channel = link.OfThread;
        channel.Begin()
            .Write(0, Text(path))
            .Call(SYS_openat, unchecked((ulong)AT_FDCWD), channel.Address(0), ReadOnlyFlags, 0)
            .Call(SYS_getdents64, GuestChannel.ResultOf(0), channel.Address(DataOffset), Room)
            .ReadResult(DataOffset, 1)
            .Call(SYS_getdents64, GuestChannel.ResultOf(0), channel.Address(DataOffset), Room)
            .Call(SYS_close, GuestChannel.ResultOf(0))
            .Exchange();
        long opened = channel.TakeResult();
        long filled = channel.TakeResult();
        if (opened < 0 || filled < 0)
        {
            return (int)Math.Min(opened, filled);
        }

        ReadOnlySpan<byte> entries = channel.Take((int)filled);
        Assert.That(channel.TakeResult(), Is.LessThanOrEqualTo(0), "The guest has more processes or threads than were asked for at once.");
        for (; !entries.IsEmpty; entries = entries[BinaryPrimitives.ReadUInt16LittleEndian(entries[LengthOffset..])..])
        {
            ReadOnlySpan<byte> name = entries[NameOffset..];
            if (int.TryParse(name[..name.IndexOf((byte)0)], NumberStyles.None, CultureInfo.InvariantCulture, out int id) && id > 0)
            {
                ids.Add(id);
            }
        }

        return ids.Count;
    }

    public Errno OpenFile(string path, out TargetFile? file)
    {
        const int StatLength = 256;
        const int RegularFile = 0x8000;
        const int TypeMask = 0xf000;
        const ulong EmptyPath = 0x1000;
        const ulong BasicStats = 0x7ff;
        file = null;
        GuestChannel channel = link.OfThread;
        byte[] name = Text(path);
        channel.Begin()
            .Write(0, name)
            .Call(SYS_openat, unchecked((ulong)AT_FDCWD), channel.Address(0), ReadOnlyFlags, 0)
            .Call(SYS_statx, GuestChannel.ResultOf(0), channel.Address(name.Length - 1), EmptyPath, BasicStats, channel.Address(DataOffset))
            .Read(DataOffset, StatLength)
            .Exchange();
        long opened = channel.TakeResult();
        if (opened < 0)
        {
            return Check(opened);
        }

        GuestDescriptor descriptor = new(this, opened);
        Errno error = Check(channel.TakeResult());
        StatX stat = MemoryMarshal.Read<StatX>(channel.Take(StatLength));
        error = error == Errno.None && (stat.stx_mode & TypeMask) != RegularFile ? Errno.EINVAL : error;
        if (error != Errno.None)
        {
            descriptor.Dispose();
            return error;
        }

        FileIdentity identity = new(
            ((ulong)stat.stx_dev_major << 32) | stat.stx_dev_minor, stat.stx_ino, (stat.stx_mtime_sec * 1_000_000_000) + stat.stx_mtime_nsec, (long)stat.stx_size);
        file = new GuestFile(this, descriptor, identity, _pieces);
        return Errno.None;
    }

    /// <summary>Reads a file at an offset; fewer bytes at its end, none after an error.</summary>
    public byte[] ReadAt(SafeHandle descriptor, ulong offset, int length)
    {
        GuestChannel channel = link.OfThread;
        channel.Begin()
            .Call(SYS_pread64, (ulong)descriptor.DangerousGetHandle(), channel.Address(DataOffset), (ulong)length, offset)
            .ReadResult(DataOffset, 0)
            .Exchange();
        return channel.Take((int)Math.Max(0, channel.TakeResult())).ToArray();
    }

    /// <summary>Closes a descriptor of the proxy.</summary>
    public bool CloseDescriptor(nint descriptor) => _isForgotten || Call(SYS_close, (ulong)descriptor) == 0;
}

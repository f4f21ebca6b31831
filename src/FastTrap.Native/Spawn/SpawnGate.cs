using System.Text;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>
/// Where a child stands between posix_spawn's clone and its exec: a FIFO in a private directory, which the child opens for reading as its
/// first file action and so sleeps in until a writer comes. A second, non-blocking open of the same name follows; <see cref="Abort"/>
/// takes the name away first, so that an aborted child fails there and never reaches its exec.
/// </summary>
/// <remarks>Used by the control thread only; Dispose removes every trace in the file system.</remarks>
internal sealed unsafe class SpawnGate : IDisposable
{
    private const uint OwnerOnly = 0x180; // 0600

    private readonly byte[] _directory;
    private readonly byte[] _abortedPath;
    private readonly SafeFileHandle _reservation;
    private SafeFileHandle? _writer;
    private bool _isAborted;

    private SpawnGate(byte[] directory, byte[] path, byte[] abortedPath, SafeFileHandle reservation)
    {
        _directory = directory;
        Path = path;
        _abortedPath = abortedPath;
        _reservation = reservation;
    }

    /// <summary>The FIFO's path, NUL-terminated.</summary>
    public byte[] Path { get; }

    /// <summary>A descriptor number which is free in the child: here it holds the FIFO's name, close-on-exec.</summary>
    public int Descriptor => (int)_reservation.DangerousGetHandle();

    public static Errno Create(out SpawnGate? gate)
    {
        Errno error = CreateIn(System.IO.Path.GetTempPath(), out gate);
        return error == Errno.None ? error : CreateIn("/dev/shm", out gate);
    }

    /// <summary>Lets the child go on to its exec.</summary>
    public Errno Open() => OpenWriter(Path);

    /// <summary>Lets the child go on to fail.</summary>
    public Errno Abort()
    {
        fixed (byte* from = Path, to = _abortedPath)
        {
            if (LibC.rename(from, to) != 0)
            {
                return LibC.LastError;
            }
        }

        _isAborted = true;
        return OpenWriter(_abortedPath);
    }

    public void Dispose()
    {
        _writer?.Dispose();
        _reservation.Dispose();
        fixed (byte* fifo = _isAborted ? _abortedPath : Path, directory = _directory)
        {
            _ = LibC.unlink(fifo);
            _ = LibC.rmdir(directory);
        }
    }

    private static Errno CreateIn(string parent, out SpawnGate? gate)
    {
        gate = null;
        byte[] directory = Encoding.UTF8.GetBytes(System.IO.Path.Combine(parent, $"fasttrap-gate-{Environment.ProcessId}-XXXXXX") + '\0');
        fixed (byte* pointer = directory)
        {
            if (LibC.mkdtemp(pointer) == null)
            {
                return LibC.LastError;
            }
        }

        byte[] path = [.. directory.AsSpan(0, directory.Length - 1), .. "/gate\0"u8];
        byte[] abortedPath = [.. directory.AsSpan(0, directory.Length - 1), .. "/aborted\0"u8];
        fixed (byte* pointer = path, directoryPointer = directory)
        {
            if (LibC.mkfifo(pointer, OwnerOnly) != 0)
            {
                Errno error = LibC.LastError;
                _ = LibC.rmdir(directoryPointer);
                return error;
            }

            int fd = LibC.open(pointer, LibC.O_PATH | LibC.O_CLOEXEC, 0);
            if (fd < 0)
            {
                Errno error = LibC.LastError;
                _ = LibC.unlink(pointer);
                _ = LibC.rmdir(directoryPointer);
                return error;
            }

            gate = new SpawnGate(directory, path, abortedPath, new SafeFileHandle(fd, ownsHandle: true));
            return Errno.None;
        }
    }

    private Errno OpenWriter(byte[] path)
    {
        fixed (byte* pointer = path)
        {
            // Read-write, so that it succeeds whether the child is already there or comes later.
            int fd = LibC.open(pointer, LibC.O_RDWR | LibC.O_NONBLOCK | LibC.O_CLOEXEC, 0);
            if (fd < 0)
            {
                return LibC.LastError;
            }

            _writer = new SafeFileHandle(fd, ownsHandle: true);
            return Errno.None;
        }
    }
}

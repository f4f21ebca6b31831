using System.Text;

namespace FastTrap.Native;

/// <summary>What memory to share with a target.</summary>
/// <param name="Name">The file's name in <c>/proc/PID/maps</c>: a few ASCII characters.</param>
/// <param name="Length">Bytes that are shared: whole pages, of 64 KiB.</param>
/// <param name="IsCode">Readable and executable in the target, else readable and writable. The tracer may always write, the target never both write and execute.</param>
/// <param name="GuardLength">Bytes behind it which are not shared, which the target may only read, and which are zero in fork children; 0 for none. The first of them will be 1.</param>
/// <param name="Near">Where it should be near; 0 for anywhere.</param>
/// <param name="Reach">How far from there it may end.</param>
internal readonly record struct SharedMemoryRequest(string Name, long Length, bool IsCode, int GuardLength = 0, ulong Near = 0, ulong Reach = 0)
{
    /// <summary>Bytes in the target.</summary>
    public ulong TargetLength => (ulong)(Length + GuardLength);
}

/// <summary>Makes memory that a target and this process share, by system calls of one of the target's stopped threads.</summary>
/// <remarks>
/// First a place is reserved, which only the target's own calls could take away, and the file's name is written there; then the file is made, mapped here, and mapped over the reservation; at last it is closed in the target. What fails half way is undone in the
/// reverse order. Another thread of the target may see the descriptor in between, and even close it: that is noticed by a header, which must be seen through both mappings.
/// </remarks>
internal ref struct RemoteSharedMemory
{
    private const int NoDescriptor = -1;

    private readonly IPlatform _platform;
    private readonly RemoteThread _thread;
    private readonly SharedMemoryRequest _request;
    private readonly SystemCallNumbers _numbers;
    private readonly List<SignalInfo> _held;
    private WaitStatus _last;
    private ulong _address;
    private int _descriptor = NoDescriptor;
    private SharedMemory? _memory;

    private RemoteSharedMemory(IPlatform platform, in RemoteThread thread, in SharedMemoryRequest request, List<SignalInfo> held)
    {
        _platform = platform;
        _thread = thread;
        _request = request;
        _numbers = SystemCallNumbers.Of(thread.Architecture);
        _held = held;
    }

    /// <summary>Makes it. The thread has no seccomp filter: that is the caller's to know.</summary>
    /// <param name="platform">The kernel.</param>
    /// <param name="thread">Who makes the calls.</param>
    /// <param name="request">What to make.</param>
    /// <param name="header">What is to stand at its beginning; nothing else has these bytes.</param>
    /// <param name="held">Signals taken out on the way are added to it; the caller sends them again.</param>
    /// <param name="address">Where it is in the target.</param>
    /// <param name="memory">Where it is here; null on failure.</param>
    /// <param name="lastStatus">The report which the thread stands in now.</param>
    public static SharedMemoryFailure Create(
        IPlatform platform,
        in RemoteThread thread,
        in SharedMemoryRequest request,
        ReadOnlySpan<byte> header,
        List<SignalInfo> held,
        out ulong address,
        out SharedMemory? memory,
        out WaitStatus lastStatus)
    {
        RemoteSharedMemory making = new(platform, in thread, in request, held);
        SharedMemoryProblem problem = SharedMemoryProblem.NoGuard;
        Errno error = platform.OpenMemory(thread.ProcessId, out TargetMemory target);
        using (target)
        {
            problem = error == Errno.None ? making.Run(target, header, out error) : problem;
        }

        SharedMemoryFailure failure = default;
        if (problem != SharedMemoryProblem.None)
        {
            failure = making.Undo(problem, error);
        }

        address = making._address;
        memory = making._memory;
        lastStatus = making._last;
        return failure;
    }

    private SharedMemoryProblem Run(TargetMemory target, ReadOnlySpan<byte> header, out Errno error)
    {
        ulong length = (ulong)_request.Length;
        error = Reserve();
        if (error != Errno.None)
        {
            return SharedMemoryProblem.NoRoom;
        }

        // The name goes with the reservation, which the file takes the place of.
        ulong name = _address;
        byte[] text = [.. Encoding.ASCII.GetBytes(_request.Name), 0];
        error = Write(target, name, text);
        error = error == Errno.None ? MakeFile(name) : error;
        if (error != Errno.None)
        {
            return SharedMemoryProblem.NoFile;
        }

        error = _platform.MapMemoryFile(_thread.ProcessId, _descriptor, _request.Name, _request.Length, out _memory);
        if (error != Errno.None)
        {
            return error == Errno.EBADF ? SharedMemoryProblem.NotShared : SharedMemoryProblem.NotMappedHere;
        }

        header.CopyTo(_memory!.Slice(0, header.Length));
        ulong access = (ulong)(RemoteMemoryMap.PROT_READ | (_request.IsCode ? RemoteMemoryMap.PROT_EXEC : RemoteMemoryMap.PROT_WRITE));
        error = Call(_numbers.Mmap, out _, _address, length, access, RemoteMemoryMap.MAP_SHARED | RemoteMemoryMap.MAP_FIXED, (ulong)_descriptor, 0);
        if (error != Errno.None)
        {
            return SharedMemoryProblem.NotMappedThere;
        }

        byte[] seen = new byte[header.Length];
        int read = _platform.ReadMemory(_thread.ProcessId, _address, seen);
        if (read != seen.Length || !header.SequenceEqual(seen))
        {
            error = read < 0 ? (Errno)(-read) : Errno.EBADF;
            return SharedMemoryProblem.NotShared;
        }

        if (_request.GuardLength != 0)
        {
            error = Call(_numbers.MAdvise, out _, _address + length, (ulong)_request.GuardLength, LibC.MADV_WIPEONFORK);
            error = error == Errno.None ? Write(target, _address + length, [1]) : error;
            if (error != Errno.None)
            {
                return SharedMemoryProblem.NoGuard;
            }
        }

        error = CloseFile();
        return error == Errno.None ? SharedMemoryProblem.None : SharedMemoryProblem.NoFile;
    }

    /// <summary>Takes memory which nobody can write: it costs nothing, whatever the target's limits on memory are.</summary>
    private Errno Reserve()
    {
        if (_request.Near != 0)
        {
            return RemoteMemoryMap.Map(
                _platform, in _thread, _request.Near, _request.Reach, _request.TargetLength, _held, out _address, out _last, RemoteMemoryMap.PROT_READ);
        }

        Errno error = Call(
            _numbers.Mmap, out long address, 0, _request.TargetLength, RemoteMemoryMap.PROT_READ, RemoteMemoryMap.MAP_PRIVATE | RemoteMemoryMap.MAP_ANONYMOUS, ulong.MaxValue, 0);
        _address = error == Errno.None ? (ulong)address : 0;
        return error;
    }

    private Errno MakeFile(ulong name)
    {
        // No part of it is ever executed as a program. Kernels before 6.3 do not know the flag.
        Errno error = Call(_numbers.MemFdCreate, out long descriptor, name, LibC.MFD_CLOEXEC | LibC.MFD_NOEXEC_SEAL);
        if (error == Errno.EINVAL)
        {
            error = Call(_numbers.MemFdCreate, out descriptor, name, LibC.MFD_CLOEXEC);
        }

        _descriptor = error == Errno.None ? (int)descriptor : NoDescriptor;
        return error;
    }

    /// <summary>Closes it in the target, if it is still the target's descriptor of our file.</summary>
    private Errno CloseFile()
    {
        string? path = _platform.ReadLink($"/proc/{_thread.ProcessId}/fd/{_descriptor}", out Errno error);
        if (path is null)
        {
            // ENOENT: the target has closed it.
            return error == Errno.ENOENT ? Errno.None : error;
        }

        if (path != $"/memfd:{_request.Name} (deleted)")
        {
            return Errno.None;
        }

        error = Call(_numbers.Close, out _, (ulong)_descriptor);
        _descriptor = error == Errno.None ? NoDescriptor : _descriptor;
        return error == Errno.EBADF ? Errno.None : error;
    }

    private SharedMemoryFailure Undo(SharedMemoryProblem problem, Errno error)
    {
        _memory?.Dispose();
        _memory = null;

        // Whether it can be looked up or not: what could not be looked at may fail once, not twice.
        Errno closeError = _descriptor == NoDescriptor ? Errno.None : CloseFile();
        if (closeError != Errno.None && closeError != Errno.ESRCH)
        {
            CloseFile();
        }

        ulong left = _address;
        _address = 0;
        if (left == 0)
        {
            return new SharedMemoryFailure(error == Errno.ESRCH ? SharedMemoryProblem.ThreadEnded : problem, error);
        }

        Errno unmapError = Call(_numbers.Munmap, out _, left, _request.TargetLength);
        if (unmapError is not (Errno.None or Errno.ESRCH))
        {
            unmapError = Call(_numbers.Munmap, out _, left, _request.TargetLength);
        }

        problem = error == Errno.ESRCH || unmapError == Errno.ESRCH ? SharedMemoryProblem.ThreadEnded : problem;
        return unmapError == Errno.None ? new SharedMemoryFailure(problem, error) : new SharedMemoryFailure(problem, error, left, _request.TargetLength);
    }

    private readonly Errno Write(TargetMemory target, ulong address, ReadOnlySpan<byte> bytes)
    {
        int written = _platform.WriteCode(target, address, bytes);
        return written == bytes.Length ? Errno.None : written < 0 ? (Errno)(-written) : Errno.EIO;
    }

    private Errno Call(int number, out long value, params ReadOnlySpan<ulong> arguments)
    {
        RemoteResult result = RemoteSystemCall.Invoke(_platform, in _thread, number, arguments, _held);
        _last = result.LastStatus;
        value = result.Value;
        return result.Failure;
    }
}

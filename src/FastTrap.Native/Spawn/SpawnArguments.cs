using System.Collections;
using System.Runtime.InteropServices;
using System.Text;

namespace FastTrap.Native;

/// <summary>What posix_spawn takes, in unmanaged memory: the child reads it while the parent's thread stands still.</summary>
/// <remarks>Made and disposed by the control thread, read by the spawner thread in between.</remarks>
internal sealed unsafe class SpawnArguments : IDisposable
{
    private const uint ReadWriteAll = 0x1b6; // 0666, before the umask

    private readonly List<nint> _blocks = [];
    private readonly byte* _actions;
    private readonly byte* _attributes;
    private byte* _path;
    private byte** _argv;
    private byte** _envp;
    private bool _hasActions;
    private bool _hasAttributes;

    private SpawnArguments()
    {
        _actions = Allocate(LibC.SpawnObjectLength);
        _attributes = Allocate(LibC.SpawnObjectLength);
    }

    public static Errno Create(SpawnRequest request, SpawnGate gate, out SpawnArguments? arguments)
    {
        SpawnArguments made = new();
        Errno error = made.Fill(request, gate);
        if (error != Errno.None)
        {
            made.Dispose();
        }

        arguments = error == Errno.None ? made : null;
        return error;
    }

    /// <summary>posix_spawn: returns once the child has executed the program or has failed to.</summary>
    public Errno Spawn(out int processId)
    {
        int id = 0;
        Errno error = (Errno)LibC.posix_spawn(&id, _path, _actions, _attributes, _argv, _envp);
        processId = id;
        return error;
    }

    public void Dispose()
    {
        if (_hasActions)
        {
            _ = LibC.posix_spawn_file_actions_destroy(_actions);
            _hasActions = false;
        }

        if (_hasAttributes)
        {
            _ = LibC.posix_spawnattr_destroy(_attributes);
            _hasAttributes = false;
        }

        foreach (nint block in _blocks)
        {
            NativeMemory.Free((void*)block);
        }

        _blocks.Clear();
    }

    private Errno Fill(SpawnRequest request, SpawnGate gate)
    {
        IReadOnlyList<string> environment = request.Environment ?? InheritedEnvironment();
        string?[] paths = [request.Path, request.WorkingDirectory, request.StandardInput, request.StandardOutput, request.StandardError];
        string?[] all = [.. paths, .. request.Arguments, .. environment];
        if (Array.Exists(all, static s => s is not null && s.Contains('\0', StringComparison.Ordinal)))
        {
            return Errno.EINVAL;
        }

        // A relative path counts from the tracer's directory, but the child will have changed its own by then.
        bool mustRoot = request.WorkingDirectory is not null && request.Path.Length > 0;
        _path = Native(mustRoot ? Path.GetFullPath(request.Path) : request.Path);
        _argv = NativeList(request.Arguments);
        _envp = NativeList(environment);

        Errno error = FillAttributes();
        return error == Errno.None ? FillActions(request, gate) : error;
    }

    private Errno FillAttributes()
    {
        int error = LibC.posix_spawnattr_init(_attributes);
        _hasAttributes = error == 0;

        // The runtime ignores SIGPIPE and more; the program shall start as a shell would start it.
        SignalSet none = default;
        SignalSet every = default;
        ((Span<ulong>)every).Fill(ulong.MaxValue);
        error = error != 0 ? error : LibC.posix_spawnattr_setsigmask(_attributes, &none);
        error = error != 0 ? error : LibC.posix_spawnattr_setsigdefault(_attributes, &every);
        const short Flags = LibC.POSIX_SPAWN_SETSIGMASK | LibC.POSIX_SPAWN_SETSIGDEF;
        return (Errno)(error != 0 ? error : LibC.posix_spawnattr_setflags(_attributes, Flags));
    }

    private Errno FillActions(SpawnRequest request, SpawnGate gate)
    {
        int error = LibC.posix_spawn_file_actions_init(_actions);
        _hasActions = error == 0;
        fixed (byte* fifo = gate.Path)
        {
            int fd = gate.Descriptor;
            error = error != 0 ? error : LibC.posix_spawn_file_actions_addopen(_actions, fd, fifo, LibC.O_RDONLY, 0);
            error = error != 0 ? error : LibC.posix_spawn_file_actions_addopen(_actions, fd, fifo, LibC.O_RDONLY | LibC.O_NONBLOCK, 0);
            error = error != 0 ? error : LibC.posix_spawn_file_actions_addclose(_actions, fd);
        }

        error = error != 0 ? error : AddOpen(0, request.StandardInput, LibC.O_RDONLY);
        error = error != 0 ? error : AddOpen(1, request.StandardOutput, LibC.O_WRONLY | LibC.O_CREAT | LibC.O_TRUNC);

        // One file for both is one open file, or each would overwrite what the other wrote.
        bool isOneFile = request.StandardError is not null && request.StandardError == request.StandardOutput;
        error = error != 0 ? error : isOneFile
            ? LibC.posix_spawn_file_actions_adddup2(_actions, 1, 2)
            : AddOpen(2, request.StandardError, LibC.O_WRONLY | LibC.O_CREAT | LibC.O_TRUNC);
        if (error == 0 && request.WorkingDirectory is { } directory)
        {
            error = LibC.posix_spawn_file_actions_addchdir_np(_actions, Native(directory));
        }

        return (Errno)error;
    }

    private int AddOpen(int fd, string? path, int flags) =>
        path is null ? 0 : LibC.posix_spawn_file_actions_addopen(_actions, fd, Native(path), flags, ReadWriteAll);

    private static List<string> InheritedEnvironment()
    {
        List<string> environment = [];
        foreach (DictionaryEntry entry in Environment.GetEnvironmentVariables())
        {
            environment.Add($"{entry.Key}={entry.Value}");
        }

        return environment;
    }

    private byte** NativeList(IReadOnlyList<string> strings)
    {
        byte** list = (byte**)Allocate((strings.Count + 1) * sizeof(byte*));
        for (int i = 0; i < strings.Count; i++)
        {
            list[i] = Native(strings[i]);
        }

        return list;
    }

    private byte* Native(string text)
    {
        int length = Encoding.UTF8.GetByteCount(text);
        byte* bytes = Allocate(length + 1);
        Encoding.UTF8.GetBytes(text, new Span<byte>(bytes, length));
        return bytes;
    }

    /// <summary>Zeroed memory, freed by Dispose.</summary>
    private byte* Allocate(int length)
    {
        void* block = NativeMemory.AllocZeroed((nuint)length);
        _blocks.Add((nint)block);
        return (byte*)block;
    }
}

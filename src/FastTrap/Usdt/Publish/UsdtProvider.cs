using System.Runtime.InteropServices;
using FastTrap.Native;
using FastTrap.Symbols;
using FastTrap.Usdt;

namespace FastTrap;

/// <summary>
/// Static probes (USDT) of a .NET program, defined at run time. Once published they are found like those of a compiled program: by this library,
/// bpftrace, gdb, bcc and, if published at a path, perf.
/// </summary>
/// <remarks>
/// Define the probes, <see cref="Publish"/> once, and fire them for as long as the program runs; one provider for a program, or for a
/// library, is usual. Thread-safe. On other systems than Linux everything but <see cref="Publish"/> works, and no probe is ever enabled.
/// <para>Scheme: the list of probes and the state are guarded by a lock, which is not held while the image is made and loaded. Firing takes no
/// lock: a probe's site is one reference, replaced as a whole.</para>
/// </remarks>
public sealed class UsdtProvider : IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<(UsdtProbeDefinition Probe, string NoteName, ArgumentType[] Arguments)> _probes = [];
    private readonly HashSet<string> _noteNames = [];
    private readonly string _noteName;
    private PublishedImage? _image;
    private State _state;

    /// <summary>Makes a provider without probes; nothing is visible yet.</summary>
    /// <param name="name">ASCII letters, digits, <c>_</c> and <c>-</c>, at most 53 characters (a hyphen counts two), not beginning or ending with a digit. Tools that do not know hyphens see <c>__</c>.</param>
    /// <exception cref="ArgumentException">It cannot be a name.</exception>
    public UsdtProvider(string name)
    {
        _noteName = ProbeName.ProviderToNote(name, nameof(name));
        Name = name;
    }

    private enum State
    {
        Defining,
        Publishing,
        Published,
        Disposed,
    }

    /// <summary>The name as it was given.</summary>
    public string Name { get; }

    /// <summary>Whether other tools can see the probes.</summary>
    public bool IsPublished
    {
        get
        {
            lock (_gate)
            {
                return _state == State.Published;
            }
        }
    }

    /// <summary>
    /// The file that tools know the probes by, while published: <c>/proc/PID/fd/N</c>, or the path that was given. For example
    /// <c>bpftrace -e 'usdt:PATH:provider:name { ... }'</c>. Null otherwise.
    /// </summary>
    public string? ImagePath
    {
        get
        {
            lock (_gate)
            {
                return _state == State.Published ? _image!.LoadedPath : null;
            }
        }
    }

    /// <summary>Defines a probe without arguments.</summary>
    /// <param name="name">As a provider's, at most 63 characters; it may end with a digit. <c>request-start</c> and <c>request__start</c> are the same.</param>
    /// <exception cref="ArgumentException">It cannot be a name, or there is a probe of this name.</exception>
    /// <exception cref="InvalidOperationException">The provider is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    public UsdtProbe DefineProbe(string name) => Add(new UsdtProbe(this, name), name);

    /// <summary>Defines a probe with one argument.</summary>
    /// <param name="name">As that of a probe without arguments.</param>
    /// <typeparam name="T">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
    /// <exception cref="ArgumentException">It cannot be a name, there is a probe of this name, or a type cannot be an argument.</exception>
    /// <exception cref="InvalidOperationException">The provider is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    public UsdtProbe<T> DefineProbe<T>(string name) =>
        Add(new UsdtProbe<T>(this, name), name, ArgumentType.Of<T>());

    /// <summary>Defines a probe with two arguments.</summary>
    /// <param name="name">As that of a probe without arguments.</param>
    /// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
    /// <exception cref="ArgumentException">It cannot be a name, there is a probe of this name, or a type cannot be an argument.</exception>
    /// <exception cref="InvalidOperationException">The provider is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    public UsdtProbe<T1, T2> DefineProbe<T1, T2>(string name) =>
        Add(new UsdtProbe<T1, T2>(this, name), name, ArgumentType.Of<T1>(), ArgumentType.Of<T2>());

    /// <summary>Defines a probe with three arguments.</summary>
    /// <param name="name">As that of a probe without arguments.</param>
    /// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
    /// <exception cref="ArgumentException">It cannot be a name, there is a probe of this name, or a type cannot be an argument.</exception>
    /// <exception cref="InvalidOperationException">The provider is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    public UsdtProbe<T1, T2, T3> DefineProbe<T1, T2, T3>(string name) =>
        Add(new UsdtProbe<T1, T2, T3>(this, name), name, ArgumentType.Of<T1>(), ArgumentType.Of<T2>(), ArgumentType.Of<T3>());

    /// <summary>Defines a probe with four arguments.</summary>
    /// <param name="name">As that of a probe without arguments.</param>
    /// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T4">The type of argument 3: an integer type, bool, char, float, double or string.</typeparam>
    /// <exception cref="ArgumentException">It cannot be a name, there is a probe of this name, or a type cannot be an argument.</exception>
    /// <exception cref="InvalidOperationException">The provider is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    public UsdtProbe<T1, T2, T3, T4> DefineProbe<T1, T2, T3, T4>(string name) =>
        Add(new UsdtProbe<T1, T2, T3, T4>(this, name), name, ArgumentType.Of<T1>(), ArgumentType.Of<T2>(), ArgumentType.Of<T3>(), ArgumentType.Of<T4>());

    /// <summary>Defines a probe with five arguments.</summary>
    /// <param name="name">As that of a probe without arguments.</param>
    /// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T4">The type of argument 3: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T5">The type of argument 4: an integer type, bool, char, float, double or string.</typeparam>
    /// <exception cref="ArgumentException">It cannot be a name, there is a probe of this name, or a type cannot be an argument.</exception>
    /// <exception cref="InvalidOperationException">The provider is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    public UsdtProbe<T1, T2, T3, T4, T5> DefineProbe<T1, T2, T3, T4, T5>(string name) =>
        Add(new UsdtProbe<T1, T2, T3, T4, T5>(this, name), name, ArgumentType.Of<T1>(), ArgumentType.Of<T2>(), ArgumentType.Of<T3>(), ArgumentType.Of<T4>(), ArgumentType.Of<T5>());

    /// <summary>Defines a probe with six arguments.</summary>
    /// <param name="name">As that of a probe without arguments.</param>
    /// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T4">The type of argument 3: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T5">The type of argument 4: an integer type, bool, char, float, double or string.</typeparam>
    /// <typeparam name="T6">The type of argument 5: an integer type, bool, char, float, double or string.</typeparam>
    /// <exception cref="ArgumentException">It cannot be a name, there is a probe of this name, or a type cannot be an argument.</exception>
    /// <exception cref="InvalidOperationException">The provider is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    public UsdtProbe<T1, T2, T3, T4, T5, T6> DefineProbe<T1, T2, T3, T4, T5, T6>(string name) =>
        Add(new UsdtProbe<T1, T2, T3, T4, T5, T6>(this, name), name, ArgumentType.Of<T1>(), ArgumentType.Of<T2>(), ArgumentType.Of<T3>(), ArgumentType.Of<T4>(), ArgumentType.Of<T5>(), ArgumentType.Of<T6>());

    /// <summary>
    /// Makes the probes visible to other tools: an ELF image of a few kilobytes with their notes is loaded into this process. Afterwards no more
    /// probes can be defined.
    /// </summary>
    /// <param name="path">
    /// Null keeps the image in memory, which bpftrace, bcc, gdb and this library find through the process. A path, where no file is yet, is for tools that
    /// want a file (perf): it is created, and removed when the provider is disposed; a process that ends without that leaves it.
    /// </param>
    /// <exception cref="InvalidOperationException">The provider has no probes, or is published already.</exception>
    /// <exception cref="ObjectDisposedException">The provider was disposed.</exception>
    /// <exception cref="PlatformNotSupportedException">This is not Linux on x86-64 or arm64.</exception>
    /// <exception cref="FastTrapException">The image cannot be loaded; the message says why. The provider can be published in another way.</exception>
    public void Publish(string? path = null)
    {
        if (path is not null)
        {
            ArgumentException.ThrowIfNullOrWhiteSpace(path);
            path = path.Contains('\0', StringComparison.Ordinal)
                ? throw new ArgumentException("A path has no zero character.", nameof(path)) : Path.GetFullPath(path);
        }

        ElfMachine machine = MachineOrThrow();
        lock (_gate)
        {
            ThrowUnlessDefining();
            if (_probes.Count == 0)
            {
                throw new InvalidOperationException("There is nothing to publish: define probes first.");
            }

            _state = State.Publishing;
        }

        // Nobody else changes the list while the state is this.
        PublishedImage? image = null;
        ProbeSite[] sites = [];
        try
        {
            ImageProbe[] probes = [.. _probes.Select(probe => new ImageProbe(probe.NoteName, ArgumentType.Describe(machine, probe.Arguments)))];
            byte[] bytes = ImageWriter.Make(machine, _noteName, probes, out ImageLayout layout);
            image = PublishedImage.Load(_noteName, bytes, layout, path, out sites);
        }
        finally
        {
            lock (_gate)
            {
                if (image is null)
                {
                    _state = _state == State.Disposed ? State.Disposed : State.Defining;
                }
                else if (_state == State.Disposed)
                {
                    image.CloseFile();
                }
                else
                {
                    _image = image;
                    for (int i = 0; i < sites.Length; i++)
                    {
                        _probes[i].Probe.Site = sites[i];
                    }

                    _state = State.Published;
                }
            }
        }
    }

    /// <summary>
    /// Ends it: no probe is enabled from now on, and tools that look do not find them any more. Threads that are firing just now finish. The image is
    /// unmapped by a later garbage collection, when no thread can be in it any more and no tool's semaphore is raised. Idempotent.
    /// </summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _state = State.Disposed;
            foreach ((UsdtProbeDefinition probe, _, _) in _probes)
            {
                probe.Site = ProbeSite.Nowhere;
            }

            _image?.CloseFile();
            _image = null;
        }
    }

    private static ElfMachine MachineOrThrow() => (OperatingSystem.IsLinux(), LoadedImage.Architecture) switch
    {
        (true, Architecture.X64) => ElfMachine.X64,
        (true, Architecture.Arm64) => ElfMachine.Arm64,
        _ => throw new PlatformNotSupportedException("Probes can be published on Linux on x86-64 and arm64 only. Without publishing they are never enabled."),
    };

    private TProbe Add<TProbe>(TProbe probe, string name, params ArgumentType[] arguments)
        where TProbe : UsdtProbeDefinition
    {
        string noteName = ProbeName.ToNote(name, ProbeName.LongestProbe, nameof(name));
        lock (_gate)
        {
            ThrowUnlessDefining();
            if (!_noteNames.Add(noteName))
            {
                throw new ArgumentException($"There is a probe {probe} already: give each another name.", nameof(name));
            }

            _probes.Add((probe, noteName, arguments));
        }

        return probe;
    }

    private void ThrowUnlessDefining()
    {
        ObjectDisposedException.ThrowIf(_state == State.Disposed, this);
        if (_state != State.Defining)
        {
            throw new InvalidOperationException("The provider is published already: define all probes first, publish once.");
        }
    }
}

using FastTrap.Native;

namespace FastTrap.Usdt;

/// <summary>A provider's image in this process.</summary>
/// <remarks>
/// Scheme. Whoever tests or fires a probe holds a <see cref="ProbeSite"/>, and thereby this, until it has left the image; nobody counts
/// them. When the provider is disposed its probes let their sites go, so that once the garbage collector has proved that no thread is left
/// with one, the finalizer unloads. It waits further while a semaphore is raised: a tool that has raised it may still lower it, at an
/// address which must not be somebody else's by then.
/// </remarks>
internal sealed unsafe class PublishedImage
{
    private readonly LoadedImage _library;
    private readonly nint _semaphores;
    private readonly int _count;

    private PublishedImage(LoadedImage library, nint semaphores, int count)
    {
        _library = library;
        _semaphores = semaphores;
        _count = count;
    }

    ~PublishedImage()
    {
        foreach (ref readonly ushort semaphore in new ReadOnlySpan<ushort>((void*)_semaphores, _count))
        {
            if (Volatile.Read(in semaphore) != 0)
            {
                GC.ReRegisterForFinalize(this);
                return;
            }
        }

        // Of a provider that nobody disposed.
        _library.CloseFile();
        _library.Unload();
    }

    /// <summary>The name by which the dynamic linker, and debuggers, know it.</summary>
    public string LoadedPath => _library.LoadedPath;

    /// <summary>Loads an image.</summary>
    /// <param name="provider">The provider's name.</param>
    /// <param name="bytes">What <see cref="ImageWriter"/> made.</param>
    /// <param name="layout">Where things are in it.</param>
    /// <param name="path">A path for the file, or null for memory.</param>
    /// <param name="sites">The sites of the probes, in their order.</param>
    /// <exception cref="FastTrapException">It cannot be loaded.</exception>
    public static PublishedImage Load(string provider, byte[] bytes, ImageLayout layout, string? path, out ProbeSite[] sites)
    {
        Errno error = LoadedImage.TryLoad($"usdt-{provider}", bytes, path, out LoadedImage? library, out string detail);
        if (library is null)
        {
            throw new FastTrapException(
                FastTrapError.KernelRefused,
                $"The probes of '{provider}' cannot be published ({error}{(detail.Length > 0 ? ": " + detail : "")}): {NextStep(error, path)}",
                errorNumber: (int)error);
        }

        nint load = library.GetAddress(ImageWriter.BaseSymbol) - (nint)layout.Base;
        PublishedImage image = new(library, load + (nint)layout.Semaphores[0], layout.Semaphores.Length);
        sites = new ProbeSite[layout.Functions.Length];
        for (int i = 0; i < sites.Length; i++)
        {
            sites[i] = new ProbeSite(image, load + (nint)layout.Functions[i], (ushort*)(load + (nint)layout.Semaphores[i]));
        }

        return image;
    }

    /// <summary>Takes the file away by which tools find the probes.</summary>
    public void CloseFile() => _library.CloseFile();

    private static string NextStep(Errno error, string? path) => (error, path) switch
    {
        (Errno.EEXIST, _) => "give a path where no file is.",
        (Errno.ENOEXEC, null) => "the dynamic linker does not load libraries from memory here; publish at a path on a file system that allows execution.",
        (Errno.ENOEXEC, _) => "publish at a path on a file system that allows execution.",
        (Errno.EMFILE, _) => "allow this process more open files.",
        (_, null) => "memory files (memfd_create) are refused here, perhaps by a seccomp filter; publish at a path.",
        _ => "give a path which this user may create and execute.",
    };
}

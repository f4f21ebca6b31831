using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>
/// A shared library made of bytes and loaded into this process by the dynamic linker, so that it stands in the list of libraries which
/// debuggers read. Its bytes lie in a memory file (memfd), or in a file of the file system.
/// </summary>
/// <remarks>
/// The library of a memory file is loaded by the name <c>/proc/PID/fd/N</c>, which other processes of the same pid namespace can open for
/// as long as the descriptor stays open; <c>/proc/self</c> would mean themselves. One thread makes and disposes it; <see cref="CloseFile"/>
/// and <see cref="Unload"/> are idempotent and may be called by any thread, one at a time.
/// </remarks>
internal sealed unsafe class LoadedImage
{
    /// <summary>
    /// Names of libraries which are loaded; guards itself. The dynamic linker takes a name that it knows for the library it knows, but descriptors and
    /// paths are used again while the library that had them is still loaded.
    /// </summary>
    private static readonly HashSet<string> s_names = new(StringComparer.Ordinal);

    private readonly string? _path;
    private SafeFileHandle? _file;
    private nint _library;

    private LoadedImage(SafeFileHandle file, string? path)
    {
        _file = file;
        _path = path;
    }

    /// <summary>The architecture of this process, for which an image must be made.</summary>
    public static Architecture Architecture => RuntimeInformation.ProcessArchitecture;

    /// <summary>The name by which the dynamic linker knows it.</summary>
    public string LoadedPath { get; private set; } = "";

    /// <summary>Makes the file, writes the bytes and loads it. On failure nothing is left behind.</summary>
    /// <param name="name">What <c>/proc/PID/maps</c> shows of a memory file.</param>
    /// <param name="bytes">An ELF shared library without relocations.</param>
    /// <param name="path">A path where no file is yet, or null for a memory file.</param>
    /// <param name="image">The library; null on failure.</param>
    /// <param name="detail">What the dynamic linker says, if it refuses.</param>
    public static Errno TryLoad(string name, ReadOnlySpan<byte> bytes, string? path, out LoadedImage? image, out string detail)
    {
        image = null;
        detail = "";
        int descriptor = path is null ? OpenMemoryFile(name) : OpenNewFile(path);
        if (descriptor < 0)
        {
            return (Errno)(-descriptor);
        }

        LoadedImage made = new(new SafeFileHandle(descriptor, ownsHandle: true), path);
        Errno error = made.Write(bytes);
        if (error == Errno.None)
        {
            made.LoadedPath = Reserve(path ?? $"/proc/{Environment.ProcessId}/fd/{descriptor}");
            try
            {
                made._library = NativeLibrary.Load(made.LoadedPath);
                image = made;
                return Errno.None;
            }
            catch (DllNotFoundException exception)
            {
                detail = exception.Message;
                error = Errno.ENOEXEC;
            }
            catch (BadImageFormatException exception)
            {
                detail = exception.Message;
                error = Errno.ENOEXEC;
            }

            Release(made.LoadedPath);
        }

        made.CloseFile();
        return error;
    }

    /// <summary>The address of an exported symbol.</summary>
    public nint GetAddress(string symbol) => NativeLibrary.GetExport(_library, symbol);

    /// <summary>Closes the descriptor, and removes the file of the file system: nobody finds the library's bytes any more. It stays loaded.</summary>
    public void CloseFile()
    {
        if (Interlocked.Exchange(ref _file, null) is not { } file)
        {
            return;
        }

        file.Dispose();
        if (_path is not null)
        {
            fixed (byte* native = Terminated(_path))
            {
                // If somebody else has removed it there is nothing left to do.
                _ = LibC.unlink(native);
            }
        }
    }

    /// <summary>Takes it out of this process. No thread may execute or read it any more.</summary>
    public void Unload()
    {
        nint library = Interlocked.Exchange(ref _library, 0);
        if (library != 0)
        {
            NativeLibrary.Free(library);
            Release(LoadedPath);
        }
    }

    /// <summary>
    /// Calls a function of the library: integers and floating-point arguments go to the registers of their own kind, in order, by the
    /// conventions of both x86-64 and arm64. The thread may be stopped in it for any time, so this is an ordinary transition to native
    /// code, which keeps no garbage collection waiting.
    /// </summary>
    public static void Call(nint function, in CallArguments arguments)
    {
        ReadOnlySpan<ulong> i = arguments.Integers;
        if (arguments.FloatCount == 0)
        {
            ((delegate* unmanaged<ulong, ulong, ulong, ulong, ulong, ulong, void>)function)(i[0], i[1], i[2], i[3], i[4], i[5]);
            return;
        }

        ReadOnlySpan<double> f = arguments.Floats;
        ((delegate* unmanaged<ulong, ulong, ulong, ulong, ulong, ulong, double, double, double, double, double, double, void>)function)(
            i[0], i[1], i[2], i[3], i[4], i[5], f[0], f[1], f[2], f[3], f[4], f[5]);
    }

    /// <summary>The path, or one that means the same and is no loaded library's name.</summary>
    private static string Reserve(string path)
    {
        lock (s_names)
        {
            string name = path;
            for (uint number = 1; !s_names.Add(name); number++)
            {
                name = Spell(path, number);
            }

            return name;
        }
    }

    /// <summary>The same path with a number in it, in binary: <c>/.</c> is 1, <c>/</c> is 0.</summary>
    private static string Spell(string path, uint number)
    {
        StringBuilder spelled = new();
        int slash = path.LastIndexOf('/');
        spelled.Append(path, 0, slash);
        for (int bit = BitOperations.Log2(number); bit >= 0; bit--)
        {
            spelled.Append((number >> bit & 1) != 0 ? "/." : "/");
        }

        return spelled.Append(path, slash, path.Length - slash).ToString();
    }

    private static void Release(string path)
    {
        lock (s_names)
        {
            s_names.Remove(path);
        }
    }

    private static int OpenMemoryFile(string name)
    {
        fixed (byte* native = Terminated(name))
        {
            // Where memory files are not executable by default (vm.memfd_noexec) it has to be asked for; older kernels do not know the flag.
            int descriptor = LibC.memfd_create(native, LibC.MFD_CLOEXEC | LibC.MFD_EXEC);
            if (descriptor < 0 && LibC.LastError is Errno.EINVAL or Errno.EACCES)
            {
                descriptor = LibC.memfd_create(native, LibC.MFD_CLOEXEC);
            }

            return descriptor < 0 ? -(int)LibC.LastError : descriptor;
        }
    }

    private static int OpenNewFile(string path)
    {
        const int OwnerReadsAndExecutes = 0x1ed; // 0755: tools of other users read it
        fixed (byte* native = Terminated(path))
        {
            int descriptor = LibC.open(native, LibC.O_RDWR | LibC.O_CREAT | LibC.O_EXCL | LibC.O_CLOEXEC, OwnerReadsAndExecutes);
            return descriptor < 0 ? -(int)LibC.LastError : descriptor;
        }
    }

    private static byte[] Terminated(string text) => Encoding.UTF8.GetBytes(text + "\0");

    private Errno Write(ReadOnlySpan<byte> bytes)
    {
        // Segments stand a page apart, which may be 64 KiB: what is between them takes no memory.
        const int Chunk = 4096;
        for (int written = 0; written < bytes.Length;)
        {
            ReadOnlySpan<byte> next = bytes.Slice(written, Math.Min(Chunk, bytes.Length - written));
            if (next.Length == Chunk && next.IndexOfAnyExcept((byte)0) < 0)
            {
                written += Chunk;
                continue;
            }

            nint count;
            fixed (byte* first = next)
            {
                count = LibC.pwrite((int)_file!.DangerousGetHandle(), first, (nuint)next.Length, written);
            }

            if (count < 0 && LibC.LastError != Errno.EINTR)
            {
                return LibC.LastError;
            }

            written += (int)Math.Max(0, count);
        }

        return Errno.None;
    }
}

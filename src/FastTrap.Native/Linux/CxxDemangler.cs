using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>
/// <c>__cxa_demangle</c> (cxxabi.h) of the C++ runtime library, loaded when first needed. The library is optional: without it nothing is
/// demangled. It recurses with its input, so callers bound what they give it. Any thread.
/// </summary>
internal static unsafe class CxxDemangler
{
    private static readonly delegate* unmanaged[Cdecl]<byte*, byte*, nuint*, int*, byte*> s_demangle = Load();

    /// <summary>Whether the library was found.</summary>
    public static bool IsAvailable => s_demangle != null;

    /// <summary>
    /// Writes the demangled name as UTF-8. Returns its length, 0 when it is not a mangled name, or -1 when it does not fit.
    /// </summary>
    /// <param name="mangled">The name, without a zero byte.</param>
    /// <param name="destination">Room for the result.</param>
    public static int TryDemangle(ReadOnlySpan<byte> mangled, Span<byte> destination)
    {
        if (s_demangle == null || mangled.Contains((byte)0))
        {
            return 0;
        }

        Span<byte> terminated = mangled.Length < 512 ? stackalloc byte[mangled.Length + 1] : new byte[mangled.Length + 1];
        mangled.CopyTo(terminated);
        terminated[^1] = 0;
        int status;
        byte* result;
        fixed (byte* name = terminated)
        {
            result = s_demangle(name, null, null, &status);
        }

        if (result == null)
        {
            return 0;
        }

        try
        {
            ReadOnlySpan<byte> text = MemoryMarshal.CreateReadOnlySpanFromNullTerminated(result);
            return status != 0 ? 0 : text.TryCopyTo(destination) ? text.Length : -1;
        }
        finally
        {
            // The result comes from malloc, which is what NativeMemory.Free releases.
            NativeMemory.Free(result);
        }
    }

    private static delegate* unmanaged[Cdecl]<byte*, byte*, nuint*, int*, byte*> Load() =>
        NativeLibrary.TryLoad("libstdc++.so.6", out nint library) && NativeLibrary.TryGetExport(library, "__cxa_demangle", out nint address)
            ? (delegate* unmanaged[Cdecl]<byte*, byte*, nuint*, int*, byte*>)address
            : null;
}

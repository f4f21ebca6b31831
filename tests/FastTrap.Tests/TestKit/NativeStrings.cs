using System.Runtime.InteropServices;

namespace FastTrap.Tests.TestKit;

/// <summary>A null-ended array of C strings.</summary>
internal sealed unsafe class NativeStrings : IDisposable
{
    private readonly int _count;

    public NativeStrings(IEnumerable<string> strings)
    {
        string[] all = [.. strings];
        _count = all.Length;
        Pointer = (byte**)NativeMemory.AllocZeroed((nuint)(_count + 1), (nuint)sizeof(byte*));
        for (int i = 0; i < _count; i++)
        {
            Pointer[i] = (byte*)Marshal.StringToCoTaskMemUTF8(all[i]);
        }
    }

    /// <summary>The array; valid until this is disposed.</summary>
    public byte** Pointer { get; private set; }

    public void Dispose()
    {
        for (int i = 0; Pointer != null && i < _count; i++)
        {
            Marshal.FreeCoTaskMem((nint)Pointer[i]);
        }

        NativeMemory.Free(Pointer);
        Pointer = null;
    }
}

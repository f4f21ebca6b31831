using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>
/// Memory of a file without a name, mapped here for reading and writing, which a target has mapped, too. What the one writes the other sees at once.
/// </summary>
/// <remarks>Any thread. It is unmapped when it was disposed and nobody holds it any more: whoever reads or writes holds it meanwhile (<see cref="Hold"/>), or is its owner.</remarks>
internal sealed unsafe class SharedMemory : SafeHandleZeroOrMinusOneIsInvalid
{
    /// <summary>Takes over a mapping.</summary>
    public SharedMemory(nint start, long length)
        : base(ownsHandle: true)
    {
        SetHandle(start);
        Length = length;
    }

    public long Length { get; }

    /// <summary>Where it begins here.</summary>
    public byte* Start => (byte*)handle;

    /// <summary>Keeps it mapped until <see cref="Release"/>.</summary>
    /// <exception cref="ObjectDisposedException">It is not any more.</exception>
    public void Hold()
    {
        bool isHeld = false;
        DangerousAddRef(ref isHeld);
    }

    public void Release() => DangerousRelease();

    /// <summary>A part of it. It must be held, or not be disposed, for as long as the span is used.</summary>
    public Span<byte> Slice(long offset, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - length);
        ObjectDisposedException.ThrowIf(IsClosed, this);
        return new Span<byte>(Start + offset, length);
    }

    protected override bool ReleaseHandle() => LibC.munmap((byte*)handle, (nuint)Length) == 0;
}

namespace FastTrap.Native;

/// <summary>Instructions of an x86-64 target by which a thread that makes a system call for us comes back by itself, should the tracer be killed meanwhile.</summary>
/// <param name="CallAddress">Where a system call instruction with a return behind it is; 0: the target has no such route.</param>
/// <param name="RestorerAddress">Where rt_sigreturn is called: what the C library, or a runtime, gives to the kernel as the end of signal handlers.</param>
/// <param name="FrameTop">The end of memory for one frame, which the tracer has in the target; 0: the thread's own stack serves.</param>
internal readonly record struct EscapeRoute(ulong CallAddress, ulong RestorerAddress, ulong FrameTop = 0)
{
    /// <summary>syscall; ret.</summary>
    public static ReadOnlySpan<byte> CallBytes => [0x0f, 0x05, 0xc3];

    /// <summary>The common end of what C libraries and Go have: the immediate 15 of a move to eax, whatever its encoding, and syscall.</summary>
    public static ReadOnlySpan<byte> RestorerBytes => [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

    /// <summary>The same in seven bytes.</summary>
    public static ReadOnlySpan<byte> ShortRestorerBytes => [0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

    /// <summary>Looks for the instructions. False if the target does not have them.</summary>
    public static bool TryFind(IPlatform platform, int processId, out EscapeRoute route)
    {
        route = default;
        if (SystemCallInstruction.FindBytes(platform, processId, CallBytes, 1, out ulong call) != Errno.None
            || (SystemCallInstruction.FindBytes(platform, processId, RestorerBytes, 1, out ulong restorer) != Errno.None
                && SystemCallInstruction.FindBytes(platform, processId, ShortRestorerBytes, 1, out restorer) != Errno.None))
        {
            return false;
        }

        route = new EscapeRoute(call, restorer);
        return true;
    }

    /// <summary>Whether the instructions still are where they were found: a library may have gone.</summary>
    public bool IsPresent(IPlatform platform, int processId)
    {
        Span<byte> call = stackalloc byte[CallBytes.Length];
        Span<byte> restorer = stackalloc byte[RestorerBytes.Length];
        return CallAddress != 0
            && platform.ReadMemory(processId, CallAddress, call) == call.Length && call.SequenceEqual(CallBytes)
            && platform.ReadMemory(processId, RestorerAddress, restorer) == restorer.Length
            && (restorer.SequenceEqual(RestorerBytes) || restorer.StartsWith(ShortRestorerBytes));
    }
}

using System.Runtime.InteropServices;

namespace FastTrap.Probes;

/// <summary>Walks a user stack by frame pointers. Allocates nothing.</summary>
internal static class FrameWalker
{
    /// <summary>Bytes which one frame may have: more is taken for an rbp or x29 that is no frame pointer.</summary>
    private const ulong MaximumFrame = 1 << 20;

    /// <summary>What is left of an arm64 return address without its signature: programs have 48 bits of addresses unless they ask for more.</summary>
    private const ulong UnsignedArm64 = (1UL << 48) - 1;

    public static int Walk(in ProbeContext context, ulong siteAddress, Span<ulong> frames)
    {
        if (frames.IsEmpty)
        {
            return 0;
        }

        int count = 0;
        frames[count++] = siteAddress;
        ulong stackPointer = context.Registers.StackPointer;
        ulong framePointer = context.Registers.FramePointer;
        if (context.Probe.Kind == ProbeKind.Return)
        {
            // The function has been left: the caller is where the thread is now.
            if (count < frames.Length)
            {
                frames[count++] = context.Registers.ProgramCounter;
            }
        }
        else if (IsAtEntry(context.Probe, siteAddress) && count < frames.Length && TryGetCaller(context, out ulong caller))
        {
            frames[count++] = caller;
        }

        ulong mask = context.Registers.Architecture == Architecture.Arm64 ? UnsignedArm64 : ulong.MaxValue;
        Span<ulong> pair = stackalloc ulong[2];
        while (count < frames.Length && framePointer >= stackPointer && framePointer - stackPointer < MaximumFrame && (framePointer & 7) == 0
            && context.Read(framePointer, MemoryMarshal.AsBytes(pair)) == 16 && pair[1] > 4096)
        {
            frames[count++] = pair[1] & mask;
            stackPointer = framePointer + 16;
            framePointer = pair[0];
        }

        return count;
    }

    /// <summary>Whether a site is a function's first instruction, where no frame stands yet. A static probe in unnamed code says nothing of that.</summary>
    private static bool IsAtEntry(Probe probe, ulong siteAddress) =>
        siteAddress == probe.FunctionAddress && (probe.Kind != ProbeKind.Static || probe.Function.Length != 0);

    private static bool TryGetCaller(in ProbeContext context, out ulong caller)
    {
        if (context.Registers.Architecture == Architecture.Arm64)
        {
            caller = context.Registers[Arm64Register.X30] & UnsignedArm64;
            return true;
        }

        return context.TryRead(context.Registers.StackPointer, out caller);
    }
}

namespace FastTrap.Isa.Arm64;

/// <summary>The memory accesses of emulated instructions: whole or not at all, also across a page boundary, with the address of the fault.</summary>
internal static class Arm64Memory
{
    /// <summary>The smallest page of any kernel; with larger ones an access is split where it need not be.</summary>
    private const ulong PageLength = 4096;

    public static bool TryLoad(ITargetMemory memory, ulong address, Span<byte> buffer, out ulong faultAddress)
    {
        int low = LengthInPage(address, buffer.Length);
        faultAddress = address;
        if (!memory.TryRead(address, buffer[..low]))
        {
            return false;
        }

        faultAddress = address + (ulong)low;
        if (low < buffer.Length && !memory.TryRead(faultAddress, buffer[low..]))
        {
            return false;
        }

        faultAddress = 0;
        return true;
    }

    public static bool TryStore(ITargetMemory memory, ulong address, ReadOnlySpan<byte> bytes, out ulong faultAddress)
    {
        int low = LengthInPage(address, bytes.Length);
        faultAddress = address;
        if (low < bytes.Length)
        {
            // The upper page first, and back again if the lower one refuses: a fault changes nothing.
            ulong boundary = address + (ulong)low;
            Span<byte> before = stackalloc byte[bytes.Length - low];
            if (!memory.TryRead(boundary, before) || !memory.TryWrite(boundary, bytes[low..]))
            {
                faultAddress = boundary;
                return false;
            }

            if (!memory.TryWrite(address, bytes[..low]))
            {
                _ = memory.TryWrite(boundary, before);
                return false;
            }
        }
        else if (!memory.TryWrite(address, bytes))
        {
            return false;
        }

        faultAddress = 0;
        return true;
    }

    private static int LengthInPage(ulong address, int size) => (int)Math.Min((ulong)size, PageLength - (address & (PageLength - 1)));
}

namespace FastTrap.Usdt;

/// <summary>The vector registers of the thread that was hit, read from the kernel when the first of them is asked for. Allocates nothing.</summary>
internal interface IVectorRegisters
{
    /// <summary>Reads the low bytes of one register: up to 32 on x86-64 (ymm), 16 on arm64 (q). False if the thread or the processor has no such bytes.</summary>
    bool TryRead(int register, Span<byte> bytes);
}

using System.Buffers.Binary;

namespace FastTrap.Native;

/// <summary>
/// /proc/PID/auxv (getauxval(3)) of a 64-bit process: what the kernel told the program at exec. Zero where it told nothing.
/// </summary>
/// <param name="Entry">AT_ENTRY: the program's entry point.</param>
/// <param name="SystemInfoHeader">AT_SYSINFO_EHDR: the vdso.</param>
/// <param name="Base">AT_BASE: the dynamic linker; 0 in a static program.</param>
/// <param name="ProgramHeaders">AT_PHDR: the program headers in memory.</param>
/// <param name="ProgramHeaderCount">AT_PHNUM.</param>
/// <param name="Capabilities">AT_HWCAP2: what the kernel lets programs use of the processor.</param>
internal readonly record struct Auxv(ulong Entry, ulong SystemInfoHeader, ulong Base, ulong ProgramHeaders, ulong ProgramHeaderCount, ulong Capabilities = 0)
{
    private const ulong AT_NULL = 0;
    private const ulong AT_PHDR = 3;
    private const ulong AT_PHNUM = 5;
    private const ulong AT_BASE = 7;
    private const ulong AT_ENTRY = 9;
    private const ulong AT_HWCAP2 = 26;
    private const ulong AT_SYSINFO_EHDR = 33;

    // asm/hwcap2.h of x86
    private const ulong HWCAP2_FSGSBASE = 2;

    /// <summary>Whether programs on x86-64 may execute RDFSBASE.</summary>
    public bool HasReadFsBase => (Capabilities & HWCAP2_FSGSBASE) != 0;

    public static bool TryRead(IPlatform platform, int processId, out Auxv auxv, out Errno error)
    {
        byte[]? bytes = platform.ReadProcFile($"/proc/{processId}/auxv", out error);
        auxv = bytes is null ? default : Parse(bytes);
        return bytes is not null;
    }

    public static Auxv Parse(ReadOnlySpan<byte> bytes)
    {
        Auxv auxv = default;
        for (; bytes.Length >= 2 * sizeof(ulong); bytes = bytes[(2 * sizeof(ulong))..])
        {
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(bytes[sizeof(ulong)..]);
            switch (BinaryPrimitives.ReadUInt64LittleEndian(bytes))
            {
                case AT_NULL:
                    return auxv;
                case AT_PHDR:
                    auxv = auxv with { ProgramHeaders = value };
                    break;
                case AT_PHNUM:
                    auxv = auxv with { ProgramHeaderCount = value };
                    break;
                case AT_HWCAP2:
                    auxv = auxv with { Capabilities = value };
                    break;
                case AT_BASE:
                    auxv = auxv with { Base = value };
                    break;
                case AT_ENTRY:
                    auxv = auxv with { Entry = value };
                    break;
                case AT_SYSINFO_EHDR:
                    auxv = auxv with { SystemInfoHeader = value };
                    break;
                default:
                    break;
            }
        }

        return auxv;
    }
}

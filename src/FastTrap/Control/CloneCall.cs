using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>The system call by which a thread makes another, or a process: its arguments say whether the two share memory.</summary>
internal static class CloneCall
{
    private const ulong SharesVm = 0x100;
    private const ulong Clone3 = 435;

    /// <summary>Asked of the maker, which stands at its event; null where the call does not tell.</summary>
    public static bool? SharesMemory(IPlatform platform, Architecture architecture, int threadId)
    {
        RegisterSet registers = new(architecture);
        if (platform.GetRegisters(threadId, ref registers) != Errno.None)
        {
            return null;
        }

        const ulong CloneX64 = 56;
        const ulong ForkX64 = 57;
        const ulong VforkX64 = 58;
        const ulong CloneArm64 = 220;
        (ulong number, ulong argument) = architecture == Architecture.X64
            ? (registers[X64Register.OrigRax], registers[X64Register.Rdi])
            : (registers[Arm64Register.X8], registers[Arm64Register.X0]);
        switch (number)
        {
            case Clone3:
                // The flags are the first word of struct clone_args.
                Span<byte> flags = stackalloc byte[sizeof(ulong)];
                return platform.ReadMemory(threadId, argument, flags) == flags.Length ? (MemoryMarshal.Read<ulong>(flags) & SharesVm) != 0 : null;
            case CloneX64 when architecture == Architecture.X64:
            case CloneArm64 when architecture == Architecture.Arm64:
                return (argument & SharesVm) != 0;
            case ForkX64 when architecture == Architecture.X64:
                return false;
            case VforkX64 when architecture == Architecture.X64:
                return true;
            default:
                return null;
        }
    }

    /// <summary>
    /// Asked of the new one at its first stop, where it has the registers of its maker, which does not go on before its own event is answered. Not so on arm64, where the first
    /// argument is gone.
    /// </summary>
    public static bool? SharesMemoryOfMaker(IPlatform platform, Architecture architecture, int threadId) =>
        architecture == Architecture.X64 ? SharesMemory(platform, architecture, threadId) : null;
}

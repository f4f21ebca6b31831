using System.Buffers.Binary;

namespace FastTrap.Engine.Mechanisms;

/// <summary>An action for a signal as the kernel has it on x86-64 (struct kernel_sigaction): handler, flags, restorer, mask.</summary>
internal readonly record struct GuardAction(ulong Handler, ulong Flags, ulong Restorer, ulong Mask)
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 32;

    public const int FlagsOffset = 8;
    public const int RestorerOffset = 16;
    public const int MaskOffset = 24;

    public const ulong SA_SIGINFO = 0x4;
    public const ulong SA_RESTORER = 0x0400_0000;
    public const ulong SA_ONSTACK = 0x0800_0000;
    public const ulong SA_RESTART = 0x1000_0000;
    public const ulong SA_NODEFER = 0x4000_0000;
    public const ulong SA_RESETHAND = 0x8000_0000;

    /// <summary>SIG_DFL is 0, SIG_IGN is 1.</summary>
    public const ulong SIG_IGN = 1;

    public bool HasHandler => Handler > SIG_IGN;

    public static GuardAction Read(ReadOnlySpan<byte> bytes) => new(
        BinaryPrimitives.ReadUInt64LittleEndian(bytes), BinaryPrimitives.ReadUInt64LittleEndian(bytes[FlagsOffset..]),
        BinaryPrimitives.ReadUInt64LittleEndian(bytes[RestorerOffset..]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[MaskOffset..]));

    public void Write(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Handler);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[FlagsOffset..], Flags);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[RestorerOffset..], Restorer);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[MaskOffset..], Mask);
    }

    /// <summary>
    /// The action by which a handler of ours stands in front of this one. The kernel then chooses the stack, the mask and the restart as it would for the target's own handler; SA_RESETHAND is ours to do. Where there is none, nothing may come in between.
    /// </summary>
    public GuardAction CoveredBy(ulong handler, ulong restorer) => HasHandler
        ? new GuardAction(handler, (Flags & ~SA_RESETHAND) | SA_SIGINFO | SA_RESTORER, restorer, Mask)
        : new GuardAction(handler, SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART, restorer, ulong.MaxValue);
}

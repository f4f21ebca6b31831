using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastTrap;

/// <summary>
/// The general registers of one stopped thread, in the layout the kernel gives them (<c>NT_PRSTATUS</c>), tagged with the
/// architecture of the target, which need not be the architecture this code runs on.
/// </summary>
/// <remarks>Not thread-safe; a value. Little-endian words of 64 bits.</remarks>
public struct RegisterSet
{
    /// <summary>Words kept: the larger of x86-64's 27 and arm64's 34.</summary>
    internal const int WordCount = 34;

    [InlineArray(WordCount)]
    private struct WordBuffer
    {
        private ulong _first;
    }

    private WordBuffer _words;

    /// <summary>Makes an all-zero set for a target of <paramref name="architecture"/>.</summary>
    /// <param name="architecture"><see cref="Architecture.X64"/> or <see cref="Architecture.Arm64"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">Another architecture.</exception>
    public RegisterSet(Architecture architecture)
    {
        if (architecture is not (Architecture.X64 or Architecture.Arm64))
        {
            throw new ArgumentOutOfRangeException(nameof(architecture), architecture, "FastTrap probes x86-64 and arm64 programs only.");
        }

        Architecture = architecture;
    }

    /// <summary>The target's architecture; says which registers the words are.</summary>
    public Architecture Architecture { get; }

    /// <summary>Bytes which the kernel transfers for this architecture: 216 (x86-64) or 272 (arm64).</summary>
    internal readonly int Length => Architecture == Architecture.X64 ? X64WordCount * sizeof(ulong) : Arm64WordCount * sizeof(ulong);

    internal const int X64WordCount = 27;
    internal const int Arm64WordCount = 34;

    /// <summary>BTYPE in pstate: that the thread came here by an indirect branch, which asks for a landing pad.</summary>
    internal const ulong Arm64BranchType = 3UL << 10;

    /// <summary>The kernel's words, to be filled or read by the platform layer.</summary>
    [UnscopedRef]
    internal Span<ulong> Words => _words;

    /// <summary>Gets or sets one x86-64 register (64 bits).</summary>
    /// <exception cref="InvalidOperationException">The set is of another architecture.</exception>
    public ulong this[X64Register register]
    {
        readonly get
        {
            RequireArchitecture(Architecture.X64);
            return _words[(int)register];
        }

        set
        {
            RequireArchitecture(Architecture.X64);
            _words[(int)register] = value;
        }
    }

    /// <summary>Gets or sets one arm64 register (64 bits).</summary>
    /// <exception cref="InvalidOperationException">The set is of another architecture.</exception>
    public ulong this[Arm64Register register]
    {
        readonly get
        {
            RequireArchitecture(Architecture.Arm64);
            return _words[(int)register];
        }

        set
        {
            RequireArchitecture(Architecture.Arm64);
            _words[(int)register] = value;
        }
    }

    /// <summary>
    /// The address of the next instruction: <c>rip</c> or <c>pc</c>. On arm64, setting it also clears the branch type in <c>pstate</c>: a thread that is
    /// sent somewhere needs no landing pad there.
    /// </summary>
    public ulong ProgramCounter
    {
        readonly get => Architecture == Architecture.X64 ? _words[(int)X64Register.Rip] : _words[(int)Arm64Register.Pc];
        set
        {
            if (Architecture == Architecture.X64)
            {
                _words[(int)X64Register.Rip] = value;
                return;
            }

            _words[(int)Arm64Register.Pc] = value;
            _words[(int)Arm64Register.Pstate] &= ~Arm64BranchType;
        }
    }

    /// <summary>The stack pointer: <c>rsp</c> or <c>sp</c>.</summary>
    public ulong StackPointer
    {
        readonly get => Architecture == Architecture.X64 ? _words[(int)X64Register.Rsp] : _words[(int)Arm64Register.Sp];
        set => _words[Architecture == Architecture.X64 ? (int)X64Register.Rsp : (int)Arm64Register.Sp] = value;
    }

    /// <summary>The frame pointer by convention: <c>rbp</c> or <c>x29</c>.</summary>
    public ulong FramePointer
    {
        readonly get => Architecture == Architecture.X64 ? _words[(int)X64Register.Rbp] : _words[(int)Arm64Register.X29];
        set => _words[Architecture == Architecture.X64 ? (int)X64Register.Rbp : (int)Arm64Register.X29] = value;
    }

    /// <summary>The register of integer return values: <c>rax</c> or <c>x0</c>.</summary>
    public ulong ReturnValue
    {
        readonly get => Architecture == Architecture.X64 ? _words[(int)X64Register.Rax] : _words[(int)Arm64Register.X0];
        set => _words[Architecture == Architecture.X64 ? (int)X64Register.Rax : (int)Arm64Register.X0] = value;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void RequireArchitecture(Architecture wanted)
    {
        if (Architecture != wanted)
        {
            ThrowArchitecture(Architecture, wanted);
        }
    }

    private static void ThrowArchitecture(Architecture architecture, Architecture wanted) =>
        throw new InvalidOperationException($"These are registers of an {architecture} thread, not of an {wanted} one; ask RegisterSet.Architecture first.");
}

/// <summary>x86-64 registers, numbered by their word in the kernel's <c>struct user_regs_struct</c> (<c>sys/user.h</c>).</summary>
public enum X64Register
{
    /// <summary>r15.</summary>
    R15,

    /// <summary>r14.</summary>
    R14,

    /// <summary>r13.</summary>
    R13,

    /// <summary>r12.</summary>
    R12,

    /// <summary>rbp.</summary>
    Rbp,

    /// <summary>rbx.</summary>
    Rbx,

    /// <summary>r11.</summary>
    R11,

    /// <summary>r10.</summary>
    R10,

    /// <summary>r9.</summary>
    R9,

    /// <summary>r8.</summary>
    R8,

    /// <summary>rax.</summary>
    Rax,

    /// <summary>rcx.</summary>
    Rcx,

    /// <summary>rdx.</summary>
    Rdx,

    /// <summary>rsi.</summary>
    Rsi,

    /// <summary>rdi.</summary>
    Rdi,

    /// <summary>The number of the system call the thread is in, or all ones outside one.</summary>
    OrigRax,

    /// <summary>rip.</summary>
    Rip,

    /// <summary>cs.</summary>
    Cs,

    /// <summary>eflags.</summary>
    Eflags,

    /// <summary>rsp.</summary>
    Rsp,

    /// <summary>ss.</summary>
    Ss,

    /// <summary>The base address of the fs segment (the thread pointer).</summary>
    FsBase,

    /// <summary>The base address of the gs segment.</summary>
    GsBase,

    /// <summary>ds.</summary>
    Ds,

    /// <summary>es.</summary>
    Es,

    /// <summary>fs.</summary>
    Fs,

    /// <summary>gs.</summary>
    Gs,
}

/// <summary>arm64 registers, numbered by their word in the kernel's <c>struct user_pt_regs</c> (<c>asm/ptrace.h</c>).</summary>
public enum Arm64Register
{
    /// <summary>x0.</summary>
    X0,

    /// <summary>x1.</summary>
    X1,

    /// <summary>x2.</summary>
    X2,

    /// <summary>x3.</summary>
    X3,

    /// <summary>x4.</summary>
    X4,

    /// <summary>x5.</summary>
    X5,

    /// <summary>x6.</summary>
    X6,

    /// <summary>x7.</summary>
    X7,

    /// <summary>x8.</summary>
    X8,

    /// <summary>x9.</summary>
    X9,

    /// <summary>x10.</summary>
    X10,

    /// <summary>x11.</summary>
    X11,

    /// <summary>x12.</summary>
    X12,

    /// <summary>x13.</summary>
    X13,

    /// <summary>x14.</summary>
    X14,

    /// <summary>x15.</summary>
    X15,

    /// <summary>x16.</summary>
    X16,

    /// <summary>x17.</summary>
    X17,

    /// <summary>x18.</summary>
    X18,

    /// <summary>x19.</summary>
    X19,

    /// <summary>x20.</summary>
    X20,

    /// <summary>x21.</summary>
    X21,

    /// <summary>x22.</summary>
    X22,

    /// <summary>x23.</summary>
    X23,

    /// <summary>x24.</summary>
    X24,

    /// <summary>x25.</summary>
    X25,

    /// <summary>x26.</summary>
    X26,

    /// <summary>x27.</summary>
    X27,

    /// <summary>x28.</summary>
    X28,

    /// <summary>x29.</summary>
    X29,

    /// <summary>x30.</summary>
    X30,

    /// <summary>The stack pointer.</summary>
    Sp,

    /// <summary>The program counter.</summary>
    Pc,

    /// <summary>The processor state (condition flags, BTYPE, ...).</summary>
    Pstate,
}

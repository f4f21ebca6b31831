using System.Runtime.InteropServices;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>
/// An arm64 processor by the Unicorn emulator (package libunicorn2): an oracle which knows nothing of this library. Code and data are mapped from memory
/// of this process. Pointer authentication has no keys here, so its instructions change nothing.
/// </summary>
internal sealed unsafe partial class UnicornMachine : IDisposable
{
    public const int Exception = 21;
    public const int FetchUnmapped = 8;
    public const int InvalidInstruction = 10;

    private const string Library = "libunicorn.so.2";
    private const int ArchitectureArm64 = 2;
    private const int CpuMax = 3;
    private const int ReadWrite = 3;
    private const int ReadExecute = 5;
    private const int SetCpuModel = 7 | (1 << 26) | (1 << 30);
    private const int RemoveCache = 9 | (2 << 26) | (1 << 30);
    private const int RegisterX29 = 1;
    private const int RegisterX30 = 2;
    private const int RegisterNzcv = 3;
    private const int RegisterSp = 4;
    private const int RegisterQ0 = 104;
    private const int RegisterX0 = 199;
    private const int RegisterPc = 260;
    private const int RegisterCpacr = 261;

    private readonly nint _engine;
    private readonly int* _registers = (int*)NativeMemory.AllocZeroed(Arm64State.RegisterCount, sizeof(int));
    private readonly void** _pointers = (void**)NativeMemory.AllocZeroed(Arm64State.RegisterCount, (nuint)sizeof(void*));
    private readonly Arm64State* _state = (Arm64State*)NativeMemory.AllocZeroed((nuint)sizeof(Arm64State));
    private readonly List<nint> _blocks = [];

    public UnicornMachine()
    {
        Check(uc_open(ArchitectureArm64, 0, out _engine));
        Check(uc_ctl(_engine, SetCpuModel, CpuMax, 0));
        for (int i = 0; i < Arm64State.WordCount; i++)
        {
            _registers[i] = i switch
            {
                29 => RegisterX29,
                30 => RegisterX30,
                31 => RegisterSp,
                32 => RegisterNzcv,
                33 => RegisterPc,
                _ => RegisterX0 + i,
            };
            _pointers[i] = _state->Words + i;
        }

        for (int i = 0; i < Arm64State.VectorCount; i++)
        {
            _registers[Arm64State.WordCount + i] = RegisterQ0 + i;
            _pointers[Arm64State.WordCount + i] = _state->Vectors + (i * 2);
        }

        ulong enabled = 3 << 20;
        Check(uc_reg_write(_engine, RegisterCpacr, &enabled));
    }

    /// <summary>Why the oracle is missing, or null.</summary>
    public static string? WhyMissing { get; } =
        NativeLibrary.TryLoad(Library, out _) ? null : $"{Library} is not installed: eng/needs.sh installs it.";

    /// <summary>Maps new memory, code or data; the bytes are seen by both sides.</summary>
    public Span<byte> Map(ulong address, int length, bool isCode)
    {
        void* block = NativeMemory.AlignedAlloc((nuint)length, 4096);
        _blocks.Add((nint)block);
        Span<byte> bytes = new(block, length);
        bytes.Clear();
        Check(uc_mem_map_ptr(_engine, address, (nuint)length, isCode ? ReadExecute : ReadWrite, block));
        return bytes;
    }

    /// <summary>Code at an address was written to.</summary>
    public void Changed(ulong address, int length) => Check(uc_ctl(_engine, RemoveCache, (nint)address, (nint)(address + (ulong)length)));

    /// <summary>Executes one instruction; gives Unicorn's error number.</summary>
    public int Step(ref Arm64State state, ulong pc)
    {
        *_state = state;
        _state->Words[33] = pc;
        Check(uc_reg_write_batch(_engine, _registers, _pointers, Arm64State.RegisterCount));
        int error = uc_emu_start(_engine, pc, ulong.MaxValue, 0, 1);
        Check(uc_reg_read_batch(_engine, _registers, _pointers, Arm64State.RegisterCount));
        state = *_state;
        return error;
    }

    /// <summary>Executes from the program counter of the state to an address; gives Unicorn's error number.</summary>
    public int Run(ref Arm64State state, ulong until)
    {
        *_state = state;
        Check(uc_reg_write_batch(_engine, _registers, _pointers, Arm64State.RegisterCount));
        int error = uc_emu_start(_engine, state.Pc, until, 0, 0);
        Check(uc_reg_read_batch(_engine, _registers, _pointers, Arm64State.RegisterCount));
        state = *_state;
        return error;
    }

    public void Dispose()
    {
        Check(uc_close(_engine));
        foreach (nint block in _blocks)
        {
            NativeMemory.AlignedFree((void*)block);
        }

        NativeMemory.Free(_registers);
        NativeMemory.Free(_pointers);
        NativeMemory.Free(_state);
    }

    private static void Check(int error)
    {
        if (error != 0)
        {
            throw new InvalidOperationException($"Unicorn says {error}.");
        }
    }

    [LibraryImport(Library)]
    private static partial int uc_open(int architecture, int mode, out nint engine);

    [LibraryImport(Library)]
    private static partial int uc_close(nint engine);

    /// <summary>Variadic, which makes no difference for integers.</summary>
    [LibraryImport(Library)]
    private static partial int uc_ctl(nint engine, int control, nint first, nint second);

    [LibraryImport(Library)]
    private static partial int uc_mem_map_ptr(nint engine, ulong address, nuint length, int protection, void* memory);

    [LibraryImport(Library)]
    private static partial int uc_reg_write(nint engine, int register, void* value);

    [LibraryImport(Library)]
    private static partial int uc_reg_write_batch(nint engine, int* registers, void** values, int count);

    [LibraryImport(Library)]
    private static partial int uc_reg_read_batch(nint engine, int* registers, void** values, int count);

    [LibraryImport(Library)]
    private static partial int uc_emu_start(nint engine, ulong begin, ulong until, ulong timeout, nuint count);
}

/// <summary>The registers of the machine: x0 to x30, sp, the flags, pc; q0 to q31.</summary>
internal unsafe struct Arm64State
{
    public const int WordCount = 34;
    public const int VectorCount = 32;
    public const int RegisterCount = WordCount + VectorCount;

    public fixed ulong Words[WordCount];
    public fixed ulong Vectors[VectorCount * 2];

    public ulong Pc
    {
        get => Words[33];
        set => Words[33] = value;
    }

    /// <summary>As the kernel would show them.</summary>
    public RegisterSet ToRegisterSet()
    {
        RegisterSet set = new(Architecture.Arm64);
        for (int i = 0; i <= (int)Arm64Register.Sp; i++)
        {
            set[(Arm64Register)i] = Words[i];
        }

        set[Arm64Register.Pstate] = Words[32];
        set[Arm64Register.Pc] = Words[33];
        return set;
    }

    /// <summary>Takes general registers over.</summary>
    public void Take(in RegisterSet set)
    {
        RegisterSet copy = set;
        for (int i = 0; i <= (int)Arm64Register.Sp; i++)
        {
            Words[i] = copy[(Arm64Register)i];
        }

        Words[32] = copy[Arm64Register.Pstate];
        Words[33] = copy[Arm64Register.Pc];
    }

    /// <summary>What differs, by name; empty if nothing does.</summary>
    public string DifferenceFrom(in Arm64State other)
    {
        List<string> found = [];
        for (int i = 0; i < WordCount; i++)
        {
            if (Words[i] != other.Words[i])
            {
                found.Add($"{(i < 31 ? $"x{i}" : i == 31 ? "sp" : i == 32 ? "nzcv" : "pc")} {Words[i]:x} not {other.Words[i]:x}");
            }
        }

        for (int i = 0; i < VectorCount * 2; i++)
        {
            if (Vectors[i] != other.Vectors[i])
            {
                found.Add($"q{i / 2} {Vectors[i]:x} not {other.Vectors[i]:x}");
            }
        }

        return string.Join(", ", found);
    }
}

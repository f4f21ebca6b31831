using System.Buffers.Binary;
using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using FastTrap.Isa;

namespace FastTrap.Benchmarks;

/// <summary>Decoding and emulating single arm64 instructions, without a kernel, on whatever machine.</summary>
[MemoryDiagnoser]
public class Arm64EmulationBenchmarks
{
    private readonly InstructionSet _instructions = InstructionSet.For(Architecture.Arm64);
    private readonly PlainMemory _memory = new();
    private readonly byte[] _bytes = new byte[sizeof(uint)];
    private DisplacedInstruction _instruction;
    private RegisterSet _registers = new(Architecture.Arm64);

    [Params("stp x29, x30, [sp, #-16]!", "bti c", "sub sp, sp, #32", "cmp x1, x2", "cbz x0", "bl", "ret")]
    public string Instruction { get; set; } = "";

    [GlobalSetup]
    public void Prepare()
    {
        uint word = Instruction switch
        {
            "stp x29, x30, [sp, #-16]!" => 0xa9bf_7bfd,
            "bti c" => 0xd503_245f,
            "sub sp, sp, #32" => 0xd100_83ff,
            "cmp x1, x2" => 0xeb02_003f,
            "cbz x0" => 0xb400_0040,
            "bl" => 0x9400_0100,
            _ => 0xd65f_03c0,
        };
        BinaryPrimitives.WriteUInt32LittleEndian(_bytes, word);
        if (!_instructions.TryDecode(_bytes, 0x1000, out _instruction, out ProbeRefusal reason) || _instruction.Kind != DisplacedKind.Emulated)
        {
            throw new InvalidOperationException($"{Instruction} is not emulated: {reason}.");
        }
    }

    [Benchmark]
    public bool Decode() => _instructions.TryDecode(_bytes, 0x1000, out _, out _);

    [Benchmark]
    public ulong Emulate()
    {
        _registers[Arm64Register.Sp] = 0x7000;
        _instructions.Emulate(_instruction, ref _registers, _memory, out ulong fault);
        return fault;
    }
}

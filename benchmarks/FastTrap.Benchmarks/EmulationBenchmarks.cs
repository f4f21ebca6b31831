using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using FastTrap.Isa;

namespace FastTrap.Benchmarks;

/// <summary>Decoding and emulating single instructions, without a kernel.</summary>
[MemoryDiagnoser]
public class EmulationBenchmarks
{
    private readonly InstructionSet _instructions = InstructionSet.For(Architecture.X64);
    private readonly PlainMemory _memory = new();
    private byte[] _bytes = [];
    private DisplacedInstruction _instruction;
    private RegisterSet _registers = new(Architecture.X64);

    [Params("push rbp", "nop5", "sub rsp, 24", "mov rbp, rsp", "ret")]
    public string Instruction { get; set; } = "";

    [GlobalSetup]
    public void Prepare()
    {
        byte[] code = Instruction switch
        {
            "push rbp" => [0x55],
            "nop5" => [0x0f, 0x1f, 0x44, 0x00, 0x00],
            "sub rsp, 24" => [0x48, 0x83, 0xec, 0x18],
            "mov rbp, rsp" => [0x48, 0x89, 0xe5],
            _ => [0xc3],
        };
        _bytes = [.. code, .. Enumerable.Repeat((byte)0x90, _instructions.MaxInstructionLength)];
        if (!_instructions.TryDecode(_bytes.AsSpan(0, _instructions.MaxInstructionLength), 0x1000, out _instruction, out ProbeRefusal reason))
        {
            throw new InvalidOperationException($"{Instruction} is refused: {reason}.");
        }
    }

    [Benchmark]
    public bool Decode() => _instructions.TryDecode(_bytes.AsSpan(0, _instructions.MaxInstructionLength), 0x1000, out _, out _);

    [Benchmark]
    public ulong Emulate()
    {
        _registers[X64Register.Rsp] = 0x7000;
        _instructions.Emulate(_instruction, ref _registers, _memory, out ulong fault);
        return fault;
    }
}

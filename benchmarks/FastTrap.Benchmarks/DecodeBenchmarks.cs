using System.Buffers.Binary;
using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using FastTrap.Isa;

namespace FastTrap.Benchmarks;

/// <summary>Decoding and classifying what stands in a C library, one instruction after the other; the time is that of one.</summary>
[MemoryDiagnoser]
public class DecodeBenchmarks
{
    private const int Count = 20_000;
    private const int FirstFunctions = 0x4000;
    private readonly int[] _offsets = new int[Count];
    private InstructionSet _instructions = null!;
    private byte[] _code = [];

    [Params(Architecture.X64, Architecture.Arm64)]
    public Architecture Architecture { get; set; }

    [GlobalSetup]
    public void Prepare()
    {
        _instructions = InstructionSet.For(Architecture);
        _code = ReadCode(Architecture == Architecture.Arm64 ? "/usr/aarch64-linux-gnu/lib/libc.so.6" : "/usr/lib/x86_64-linux-gnu/libc.so.6");
        int offset = FirstFunctions;
        for (int i = 0; i < Count;)
        {
            // What cannot be decoded is data, or padding.
            if (_instructions.TryDecode(Window(offset), (ulong)offset, out DisplacedInstruction instruction, out _))
            {
                _offsets[i++] = offset;
                offset += instruction.Length;
            }
            else
            {
                offset += Architecture == Architecture.Arm64 ? sizeof(uint) : 1;
            }
        }
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public int DecodeAndClassify()
    {
        int emulated = 0;
        foreach (int offset in _offsets)
        {
            _instructions.TryDecode(Window(offset), (ulong)offset, out DisplacedInstruction instruction, out _);
            emulated += instruction.Kind == DisplacedKind.Emulated ? 1 : 0;
        }

        return emulated;
    }

    private ReadOnlySpan<byte> Window(int offset) => _code.AsSpan(offset, _instructions.MaxInstructionLength);

    /// <summary>The executable segment of a file.</summary>
    private static byte[] ReadCode(string path)
    {
        byte[] file = File.ReadAllBytes(path);
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(file.AsSpan(32)); // e_phoff
        for (int left = BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(56)); left > 0; left--, header += 56)
        {
            ReadOnlySpan<byte> segment = file.AsSpan(header, 56); // Elf64_Phdr
            if (BinaryPrimitives.ReadInt32LittleEndian(segment) == 1 && (segment[4] & 1) != 0)
            {
                int start = (int)BinaryPrimitives.ReadInt64LittleEndian(segment[8..]);
                return file[start..(start + (int)BinaryPrimitives.ReadInt64LittleEndian(segment[32..]))];
            }
        }

        throw new InvalidOperationException($"{path} has no code.");
    }
}

using System.Runtime.InteropServices;
using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>The target <c>instructions</c>, attached to: its code, its inputs, and probes on any of its instructions, named or not.</summary>
internal sealed class DifferentialTarget : IAsyncDisposable
{
    private static readonly ProbeOptions s_countOnly = new() { Buffered = false };
    private readonly Tracer _tracer = new();
    private readonly TargetProcess _target;
    private TracedProcess? _process;
    private Proc? _proc;
    private int _serial;

    private DifferentialTarget(TargetProcess target, string sizes)
    {
        _target = target;
        int[] numbers = [.. sizes.Split(' ').Skip(1).Select(int.Parse)];
        Assert.That(numbers[0], Is.EqualTo(Marshal.SizeOf<CaseInput>()), "struct input");
        ResultLength = numbers[1];
        MaximumInputs = numbers[2];
        MaximumDifferences = numbers[3];
    }

    public int ResultLength { get; }

    public int MaximumInputs { get; }

    public int MaximumDifferences { get; }

    /// <summary>Starts the target and attaches; skips the test where the processor lacks what the harness itself needs.</summary>
    public static async Task<DifferentialTarget> StartAsync(bool isFar)
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("The oracle is an x86-64 processor, and this machine has none.");
        }

        TargetProcess process = TargetProcess.Start(TargetBuilder.Build("instructions"), isFar ? ["far"] : []);
        DifferentialTarget? made = null;
        try
        {
            string first = process.ReadLine() ?? "";
            if (first.StartsWith("unable", StringComparison.Ordinal))
            {
                Assert.Ignore($"The harness cannot run on this processor: {first}.");
            }

            made = new DifferentialTarget(process, first);
            process.WaitReady();
            TracedProcess traced = await made._tracer.AttachAsync(process.ProcessId);

            // Any probe makes the engine's side of the process.
            ProbeEnabling enabling = await traced.EnableAsync("a.out:main:entry", s_countOnly);
            made._process = traced;
            made._proc = enabling.Proc;
            await enabling.DisposeAsync();
            return made;
        }
        catch
        {
            await (made?._tracer.DisposeAsync() ?? ValueTask.CompletedTask);
            process.Dispose();
            throw;
        }
    }

    public void Write(ulong address, ReadOnlySpan<byte> bytes) => Assert.That(_process!.TryWriteMemory(address, bytes), Is.True, $"writing {address:x}");

    public void Read(ulong address, Span<byte> bytes) => Assert.That(_process!.ReadMemory(address, bytes), Is.EqualTo(bytes.Length), $"reading {address:x}");

    /// <summary>Probes on instructions that no symbol names. With <paramref name="after"/>, the engine waits for the effects of each.</summary>
    public async Task<ProbeEnabling> EnableAsync(IReadOnlyList<DisplacedInstruction> instructions, bool after)
    {
        ProbeEnabling enabling = new(_process!, _proc!, "instructions", s_countOnly, []);
        List<ProbeSpec> specs = [];
        foreach (DisplacedInstruction instruction in instructions)
        {
            specs.Add(new ProbeSpec
            {
                Module = "code",
                Function = $"case{_serial++}",
                Name = after ? "return" : "0",
                Kind = after ? ProbeKind.Return : ProbeKind.Offset,
                FunctionAddress = instruction.Address,

                // Nothing is in a function of no length, so that each after-probe fires.
                FunctionLength = 0,
                Instructions = [instruction],
            });
        }

        await _proc!.Process.Thread.RunSlicedAsync(_proc.Process, _proc.Enable([(enabling, specs)]));
        return enabling;
    }

    public void RunNative(int count)
    {
        _target.SendLine($"native 0 {count}");
        _target.ReadCount("native");
    }

    /// <summary>Runs the inputs again; gives the indices of those whose results differ, at most <see cref="MaximumDifferences"/>, and how many there are.</summary>
    public (List<int> Shown, long Count) RunProbed(int count)
    {
        _target.SendLine($"probed 0 {count}");
        List<int> shown = [];
        while (true)
        {
            string line = _target.ReadLine() ?? throw new EndOfStreamException("The target ended while it was probed: " + _target.Errors);
            if (line.StartsWith("different ", StringComparison.Ordinal))
            {
                shown.Add(int.Parse(line.AsSpan(10)));
            }
            else if (line.StartsWith("count differences ", StringComparison.Ordinal))
            {
                return (shown, long.Parse(line.AsSpan(18)));
            }
        }
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, ulong address, out DisplacedInstruction instruction, out ProbeRefusal reason) =>
        X64InstructionSet.Instance.TryDecode(bytes, address, out instruction, out reason);

    public async ValueTask DisposeAsync()
    {
        await _tracer.DisposeAsync();
        _target.Dispose();
    }
}

using System.Runtime.InteropServices;
using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Programs;
using FastTrap.Tests.TestKit;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>A case destroyed its target, or what the target compares with.</summary>
internal sealed class DifferentialTargetLostException(string message, Exception? inner) : Exception(message, inner);

/// <summary>The target <c>instructions</c>, attached to: its code, its inputs, and probes on any of its instructions, named or not.</summary>
internal sealed class DifferentialTarget : IAsyncDisposable
{
    private static readonly ProbeOptions s_countOnly = new() { Buffered = false };
    private readonly Tracer _tracer = new();
    private readonly TargetProcess _target;
    private readonly ulong _inputs;
    private readonly ulong _results;
    private readonly ulong _scratch;
    private readonly SafeFileHandle _progress;
    private readonly SafeFileHandle _memory;
    private TracedProcess? _process;
    private Proc? _proc;
    private int _serial;

    private DifferentialTarget(TargetProcess target, string sizes)
    {
        _target = target;
        ulong[] places = [.. target.ReadLineStarting("places ").Split(' ').Skip(1).Select(ulong.Parse)];
        (_inputs, _results, _scratch) = (places[0], places[1], places[2]);
        _progress = File.OpenHandle($"/proc/{target.ProcessId}/fd/{places[3]}", FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        _memory = File.OpenHandle($"/proc/{target.ProcessId}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        int[] numbers = [.. sizes.Split(' ').Skip(1).Select(int.Parse)];
        Assert.That(numbers[0], Is.EqualTo(Marshal.SizeOf<CaseInput>()), "struct input");
        ResultLength = numbers[1];
        MaximumInputs = numbers[2];
        MaximumDifferences = numbers[3];
    }

    public int ResultLength { get; }

    public int MaximumInputs { get; }

    public int MaximumDifferences { get; }

    /// <summary>The index of the case that runs, or ran last; still known when the target has died of it.</summary>
    public int Current
    {
        get
        {
            Span<byte> index = stackalloc byte[sizeof(ulong)];
            Assert.That(RandomAccess.Read(_progress, index, 0), Is.EqualTo(index.Length));
            return (int)MemoryMarshal.Read<ulong>(index);
        }
    }

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

    /// <summary>Code is not writable to the cases.</summary>
    public void WriteCode(ulong address, ReadOnlySpan<byte> bytes) => RandomAccess.Write(_memory, bytes, (long)address);

    public void WriteInputs(List<CaseInput> inputs)
    {
        Assert.That(inputs, Has.Count.AtMost(MaximumInputs));
        Assert.That(_process!.TryWriteMemory(_inputs, MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(inputs))), Is.True);
    }

    /// <summary>What an input left natively: as much of it as is asked for.</summary>
    public void ReadResult(int input, Span<byte> result) => Read(_results + ((ulong)input * (ulong)ResultLength), result);

    /// <summary>What an input left when probed: by its place in <see cref="RunProbed"/>'s list.</summary>
    public void ReadDifferent(int shown, Span<byte> result) => Read(_scratch + ((ulong)(shown + 1) * (ulong)ResultLength), result);

    private void Read(ulong address, Span<byte> bytes) => Assert.That(_process!.ReadMemory(address, bytes), Is.EqualTo(bytes.Length), $"reading {address:x}");

    /// <summary>Probes on instructions that no symbol names.</summary>
    public async Task<ProbeEnabling> EnableAsync(IEnumerable<ProbeSpec> specs, QueryProgram? program)
    {
        ProbeEnabling enabling = new(_process!, _proc!, "instructions", program is null ? s_countOnly : new ProbeOptions { Buffered = false, Program = program }, []);
        await _proc!.Process.Thread.RunSlicedAsync(_proc.Process, _proc.Enable([(enabling, [.. specs])]));
        return enabling;
    }

    /// <summary>A name that no other probe has.</summary>
    public string NextName() => $"case{_serial++}";

    /// <summary>Whether an address leads into code, by a jump or by a trap that stays.</summary>
    public bool IsCode(ulong address, ProbeMechanism mechanism) =>
        _proc!.Jump.Index.FindStart(address) is { } site
        && (mechanism == ProbeMechanism.InProcessTrap ? site is { IsTrap: true, State: JumpState.Leading, Demotion: null } : site.State == JumpState.Armed);

    /// <exception cref="DifferentialTargetLostException">The target is none any more.</exception>
    public void RunNative(int count) => Run($"native {count}", "count native ", []);

    /// <summary>Runs the inputs again; gives the indices of those whose results differ, at most <see cref="MaximumDifferences"/>, and how many there are.</summary>
    /// <exception cref="DifferentialTargetLostException">The target is none any more.</exception>
    public (List<int> Shown, long Count) RunProbed(int count)
    {
        List<int> shown = [];
        return (shown, Run($"probed {count}", "count differences ", shown));
    }

    private long Run(string command, string answer, List<int> shown)
    {
        try
        {
            _target.SendLine(command);
            while (true)
            {
                string line = _target.ReadLine() ?? throw new DifferentialTargetLostException("the target ended", null);
                if (line.StartsWith("different ", StringComparison.Ordinal))
                {
                    shown.Add(int.Parse(line.AsSpan(10)));
                }
                else if (line.StartsWith(answer, StringComparison.Ordinal))
                {
                    return long.Parse(line.AsSpan(answer.Length));
                }
                else
                {
                    throw new DifferentialTargetLostException($"the target says '{line}'", null);
                }
            }
        }
        catch (TimeoutException e)
        {
            throw new DifferentialTargetLostException("the target does not answer", e);
        }
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, ulong address, out DisplacedInstruction instruction, out ProbeRefusal reason) =>
        X64InstructionSet.Instance.TryDecode(bytes, address, out instruction, out reason);

    public async ValueTask DisposeAsync()
    {
        await _tracer.DisposeAsync();
        _target.Dispose();
        _progress.Dispose();
        _memory.Dispose();
    }
}

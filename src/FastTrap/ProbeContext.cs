using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Engine;

namespace FastTrap;

/// <summary>
/// A hit while it happens: the target's thread is stopped at the probe and its registers and memory may be read and written.
/// Valid during the call only, on the control thread only.
/// </summary>
public readonly ref struct ProbeContext
{
    private readonly ref RegisterSet _registers;
    private readonly HitFrame _frame;
    private readonly EnabledProbe _enabled;

    internal ProbeContext(EnabledProbe enabled, HitFrame frame, ref RegisterSet registers)
    {
        _enabled = enabled;
        _frame = frame;
        _registers = ref registers;
    }

    /// <summary>The probe.</summary>
    public Probe Probe => _enabled.Probe;

    /// <summary>The enabling whose handler this is.</summary>
    public ProbeEnabling Enabling => _enabled.Enabling;

    /// <summary>The process.</summary>
    public int ProcessId => _frame.Proc.ProcessId;

    /// <summary>The kernel's id of the thread.</summary>
    public int ThreadId => _frame.Task.ThreadId;

    /// <summary>When the tracer saw the hit: nanoseconds of CLOCK_MONOTONIC.</summary>
    public long TimestampNs => _frame.TimestampNs;

    /// <summary>The address of the probed instruction; of a return probe, of the instruction by which the function was left.</summary>
    public ulong ProgramCounter => _frame.SiteAddress;

    /// <summary>
    /// The thread's registers: before the instruction (entry and offset probes), after it (return probes). Changes are written back; a changed
    /// program counter sends the thread there instead of executing the probed instruction.
    /// </summary>
    public ref RegisterSet Registers => ref _registers;

    /// <summary>The return value (<c>rax</c>, <c>x0</c>) as it stands in the registers; meaningful at return probes.</summary>
    public ulong ReturnValue => _registers.ReturnValue;

    /// <summary>
    /// Integer or pointer argument <paramref name="index"/>, from 0, as it is at the function's first instruction; from the seventh on (x86-64) it is read
    /// from the stack. Of a static probe: the argument that it declares, as <see cref="GetArgumentKind"/> says. Of a return probe: 0 is the offset of the return site in the function in bytes, 1 the return value, 2 the second return register.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Negative, or more than 2 at a return probe, or more than a static probe declares.</exception>
    /// <exception cref="FastTrapException">It could not be read.</exception>
    public ulong GetArgument(int index)
    {
        if (TryGetArgument(index, out ulong value))
        {
            return value;
        }

        if (Probe.Kind == ProbeKind.Return)
        {
            throw new ArgumentOutOfRangeException(nameof(index), index, "A return probe has arguments 0 (offset), 1 and 2 (return values).");
        }

        if (Probe.Kind == ProbeKind.Static)
        {
            Usdt.UsdtArgument[] arguments = Probe.ArgumentsAt(_frame.SiteAddress);
            throw index >= arguments.Length
                ? new ArgumentOutOfRangeException(nameof(index), index, $"{Probe} has {arguments.Length} arguments.")
                : new FastTrapException(
                    FastTrapError.MemoryAccess, $"Argument {index} of {Probe} could not be read ({arguments[index].Location}); ask with TryGetArgument.", ProcessId,
                    address: _frame.SiteAddress);
        }

        throw new FastTrapException(
            FastTrapError.MemoryAccess, $"Argument {index} of {Probe} could not be read from the stack.", ProcessId, address: _registers.StackPointer);
    }

    /// <summary>As <see cref="GetArgument"/>; false where it would throw for what was read.</summary>
    public bool TryGetArgument(int index, out ulong value) => _frame.Proc.TryGetArgument(_frame, _registers, Probe, index, out value);

    /// <summary>What argument <paramref name="index"/>, from 0, is. Arguments of functions are taken for unsigned integers.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Negative.</exception>
    public ArgumentKind GetArgumentKind(int index) => Probe.GetArgumentKind(_frame.SiteAddress, index);

    /// <summary>A floating-point argument of a static probe; false if it is none or cannot be read.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Negative.</exception>
    public bool TryGetArgumentDouble(int index, out double value)
    {
        bool isRead = TryGetArgument(index, out ulong bits) && GetArgumentKind(index) == ArgumentKind.Floating;
        value = isRead ? BitConverter.UInt64BitsToDouble(bits) : 0;
        return isRead;
    }

    /// <summary>Reads the text that an argument points to, as <see cref="TryReadString"/> does. False if the argument or the text cannot be read.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative, or <paramref name="maximumLength"/> is out of range.</exception>
    public bool TryGetArgumentString(int index, int maximumLength, [NotNullWhen(true)] out string? text)
    {
        text = null;
        return TryGetArgument(index, out ulong address) && TryReadString(address, maximumLength, out text);
    }

    /// <summary>
    /// Reads the bytes of a static probe's argument as they are, the lowest first: all of a vector. Returns the bytes read, fewer where the argument is shorter; 0 if it
    /// cannot be read, or the probe is not static.
    /// </summary>
    public int ReadArgument(int index, Span<byte> buffer) => _frame.Proc.ReadArgument(_frame, _registers, Probe, index, buffer);

    internal void Describe(ref HitRecord record)
    {
        record.Source = _enabled;
        record.ProcessId = ProcessId;
        record.ThreadId = ThreadId;
        record.TimestampNs = TimestampNs;
        record.ProgramCounter = ProgramCounter;
        record.ArgumentCount = 0;
    }

    /// <summary>Reads target memory into <paramref name="buffer"/>. Returns the bytes read, fewer where memory ends, 0 if none. Probes are not seen in text.</summary>
    public int Read(ulong address, Span<byte> buffer)
    {
        int read = _frame.Proc.Process.Platform.ReadMemory(ThreadId, address, buffer);
        if (read <= 0)
        {
            return 0;
        }

        _frame.Proc.Unmask(_frame.Proc.Table, address, buffer[..read]);
        Control.ControlBreakpointTable.Unmask(_frame.Proc.Process.ControlBreakpoints.Current, address, buffer[..read]);
        return read;
    }

    /// <summary>Reads one value, little-endian; false if not all of it could be read.</summary>
    public bool TryRead<T>(ulong address, out T value)
        where T : unmanaged
    {
        value = default;
        Span<byte> bytes = MemoryMarshal.AsBytes(new Span<T>(ref value));
        return Read(address, bytes) == bytes.Length;
    }

    /// <summary>
    /// Reads a zero-terminated UTF-8 string of at most <paramref name="maximumLength"/> bytes (1 to 65,536); a longer one is cut. Invalid bytes become U+FFFD.
    /// False if the address cannot be read. Allocates the string.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="maximumLength"/> is out of range.</exception>
    public bool TryReadString(ulong address, int maximumLength, [NotNullWhen(true)] out string? text)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maximumLength, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(maximumLength, 65_536);
        byte[]? rented = null;
        Span<byte> buffer = maximumLength <= 512
            ? stackalloc byte[512]
            : (rented = System.Buffers.ArrayPool<byte>.Shared.Rent(maximumLength));
        int read = Read(address, buffer[..maximumLength]);
        int end = buffer[..read].IndexOf((byte)0);
        text = read == 0 ? null : Encoding.UTF8.GetString(buffer[..(end < 0 ? read : end)]);
        if (rented is not null)
        {
            System.Buffers.ArrayPool<byte>.Shared.Return(rented);
        }

        return text is not null;
    }

    /// <summary>Writes target data memory; false if not all of it could be written. Text cannot be written with this.</summary>
    public bool TryWrite(ulong address, ReadOnlySpan<byte> data) =>
        _frame.Proc.Process.Platform.WriteMemory(ThreadId, address, data) == data.Length;

    /// <summary>Writes one value, little-endian; false if not all of it could be written.</summary>
    public bool TryWrite<T>(ulong address, T value)
        where T : unmanaged => TryWrite(address, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));

    /// <summary>
    /// Walks the user stack by frame pointers: <paramref name="frames"/>[0] is the program counter, then return addresses, innermost first. Code without frame
    /// pointers hides its callers. Returns how many were found. At an entry probe the caller is found though no frame stands yet.
    /// </summary>
    public int GetUserStack(Span<ulong> frames) => Probes.FrameWalker.Walk(this, _frame.SiteAddress, frames);
}

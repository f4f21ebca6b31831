using System.Runtime.CompilerServices;

namespace FastTrap.Native;

/// <summary>
/// /proc/PID/task/TID/syscall (proc_pid_syscall(5)): what a thread is blocked in. Nothing but a blocked or stopped thread has one.
/// </summary>
internal readonly struct ProcSystemCall
{
    [InlineArray(6)]
    private struct ArgumentBuffer
    {
        private ulong _first;
    }

    private readonly ArgumentBuffer _arguments;

    private ProcSystemCall(bool isRunning, long number, in ArgumentBuffer arguments, ulong stackPointer, ulong programCounter)
    {
        IsRunning = isRunning;
        Number = number;
        _arguments = arguments;
        StackPointer = stackPointer;
        ProgramCounter = programCounter;
    }

    /// <summary>The thread runs, or is about to; nothing else is known.</summary>
    public bool IsRunning { get; }

    /// <summary>The system call's number, or -1 when it is blocked outside one.</summary>
    public long Number { get; }

    public ulong StackPointer { get; }

    public ulong ProgramCounter { get; }

    /// <summary>Argument <paramref name="index"/>, 0 to 5.</summary>
    public ulong GetArgument(int index) => _arguments[index];

    public static bool TryRead(IPlatform platform, int processId, int threadId, out ProcSystemCall call, out Errno error)
    {
        call = default;
        byte[]? text = platform.ReadProcFile($"/proc/{processId}/task/{threadId}/syscall", out error);
        if (text is null)
        {
            return false;
        }

        if (!TryParse(text, out call))
        {
            error = Errno.EINVAL;
            return false;
        }

        return true;
    }

    public static bool TryParse(ReadOnlySpan<byte> text, out ProcSystemCall call)
    {
        call = default;
        ReadOnlySpan<byte> rest = text.TrimEnd((byte)'\n');
        ArgumentBuffer arguments = default;
        if (!ProcText.TryTakeWord(ref rest, out ReadOnlySpan<byte> word))
        {
            return false;
        }

        if (word.SequenceEqual("running"u8))
        {
            call = new ProcSystemCall(true, -1, in arguments, 0, 0);
            return true;
        }

        if (!ProcText.TryParse(word, out long number))
        {
            return false;
        }

        if (number != -1)
        {
            for (int i = 0; i < 6; i++)
            {
                if (!TryTakeHex(ref rest, out ulong argument))
                {
                    return false;
                }

                arguments[i] = argument;
            }
        }

        if (!TryTakeHex(ref rest, out ulong stackPointer) || !TryTakeHex(ref rest, out ulong programCounter))
        {
            return false;
        }

        call = new ProcSystemCall(false, number, in arguments, stackPointer, programCounter);
        return true;
    }

    private static bool TryTakeHex(ref ReadOnlySpan<byte> rest, out ulong value)
    {
        value = 0;
        return ProcText.TryTakeWord(ref rest, out ReadOnlySpan<byte> word) && ProcText.TryParseHex(word, out value);
    }
}

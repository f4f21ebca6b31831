using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>
/// A native_target in its exec stop, its input a FIFO that the test writes to, its output a file. Used on one thread; Dispose ends and
/// reaps it.
/// </summary>
internal sealed unsafe class SpawnedTarget : IDisposable
{
    private readonly string _directory;
    private readonly FileStream _input;

    public SpawnedTarget(params string[] arguments)
    {
        _directory = Directory.CreateTempSubdirectory("native-test-").FullName;
        string fifo = Path.Combine(_directory, "in");
        nint native = Marshal.StringToCoTaskMemUTF8(fifo);
        Assert.That(LibC.mkfifo((byte*)native, 0x180), Is.Zero);
        Marshal.FreeCoTaskMem(native);
        _input = new FileStream(fifo, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        string program = CCompiler.Build("native_target.c");
        Errno error = Platform.SpawnSeized(
            new SpawnRequest
            {
                Path = program,
                Arguments = [program, .. arguments],
                StandardInput = fifo,
                StandardOutput = OutputPath,
                StandardError = OutputPath,
            },
            PtraceOptions.TraceSysGood | PtraceOptions.ExitKill,
            out int pid);
        Assert.That(error, Is.EqualTo(Errno.None));
        Pid = pid;
    }

    public static LinuxPlatform Platform => LinuxPlatform.Instance;

    public int Pid { get; private set; }

    public string OutputPath => Path.Combine(_directory, "out");

    public string Output => File.ReadAllText(OutputPath);

    /// <summary>Runs a test on a thread of its own: all ptrace requests come from the thread which attached.</summary>
    public static void OnThread(Action action)
    {
        ExceptionDispatchInfo? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        });
        thread.Start();
        thread.Join();
        failure?.Throw();
    }

    public void WriteInput(string text) => _input.Write(System.Text.Encoding.ASCII.GetBytes(text));

    /// <summary>Lets it run until it has printed "ready" and sleeps in the given system call.</summary>
    public void RunUntilBlockedIn(params long[] systemCalls)
    {
        Assert.That(Platform.Continue(Pid, 0), Is.EqualTo(Errno.None));
        Until.True(() => Output.StartsWith("ready", StringComparison.Ordinal) && IsBlockedIn(systemCalls), "the target blocks");
    }

    public bool IsBlockedIn(params long[] systemCalls) =>
        ProcSystemCall.TryRead(Platform, Pid, Pid, out ProcSystemCall call, out _) && systemCalls.Contains(call.Number)
        && ProcStat.TryRead(Platform, Pid, out ProcStat stat, out _) && stat.State == 'S';

    public WaitStatus Stop()
    {
        Assert.That(Platform.Interrupt(Pid), Is.EqualTo(Errno.None));
        return Next();
    }

    public WaitStatus Next()
    {
        int id;
        WaitStatus status;
        while ((id = Platform.Wait(Pid, block: true, out status)) == -(int)Errno.EINTR)
        {
        }

        Assert.That(id, Is.EqualTo(Pid));
        if (!status.Stopped)
        {
            Pid = 0;
        }

        return status;
    }

    /// <summary>Goes on, delivering signals, to the end.</summary>
    public WaitStatus RunToEnd(int signal = 0)
    {
        while (true)
        {
            Assert.That(Platform.Continue(Pid, signal), Is.EqualTo(Errno.None));
            WaitStatus status = Next();
            if (!status.Stopped)
            {
                return status;
            }

            signal = status.Event == PtraceEvent.None ? status.StopSignal : 0;
        }
    }

    public RegisterSet Registers()
    {
        RegisterSet registers = new(RuntimeInformation.ProcessArchitecture);
        Assert.That(Platform.GetRegisters(Pid, ref registers), Is.EqualTo(Errno.None));
        return registers;
    }

    public RemoteThread Remote()
    {
        Assert.That(SystemCallInstruction.Find(Platform, Pid, RuntimeInformation.ProcessArchitecture, out ulong address), Is.EqualTo(Errno.None));
        return new RemoteThread(Pid, Pid, RuntimeInformation.ProcessArchitecture, address);
    }

    public void Dispose()
    {
        if (Pid != 0)
        {
            Platform.Kill(Pid, Signal.SIGKILL);
            while (Pid != 0)
            {
                Next();
                if (Pid != 0)
                {
                    Platform.Continue(Pid, 0);
                }
            }
        }

        _input.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}

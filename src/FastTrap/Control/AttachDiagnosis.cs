using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Says why a process cannot be traced, and what to do. Looks before anything is touched, and again after a refusal.</summary>
internal static class AttachDiagnosis
{
    private const ushort Machine386 = 3;
    private const ushort MachineArm = 40;
    private const ushort MachineX64 = 62;
    private const ushort MachineArm64 = 183;

    /// <summary>Looks at a process before an attach, or before it is only read, which may be traced by others; returns its architecture.</summary>
    /// <exception cref="FastTrapException">It cannot be traced, or not read.</exception>
    public static Architecture Inspect(IPlatform platform, int processId, bool isReadOnly = false)
    {
        if (!ProcStatus.TryRead(platform, processId, out ProcStatus? status, out _))
        {
            throw NoSuchProcess(processId);
        }

        if (status!.Tgid != processId)
        {
            throw new FastTrapException(
                FastTrapError.NoSuchProcess,
                $"{processId} is a thread of process {status.Tgid} ({status.Name}); give the process's id, {status.Tgid}.", processId);
        }

        if (status.Tgid == platform.CurrentProcessId && !isReadOnly)
        {
            throw new FastTrapException(
                FastTrapError.PermissionDenied, "A process cannot trace itself; run the tracer as a process of its own.", processId);
        }

        List<int> threads = [];
        _ = platform.ListProcIds($"/proc/{processId}/task", threads);
        if (status.State is 'Z' or 'X' && threads.Count <= 1)
        {
            throw new FastTrapException(
                FastTrapError.Zombie,
                $"Process {processId} ({status.Name}) has ended and waits for its parent, process {status.PPid}, to collect it (a zombie); there is nothing left to probe.",
                processId);
        }

        if (status.State is 'Z' or 'X')
        {
            throw new FastTrapException(
                FastTrapError.Zombie,
                $"The main thread of process {processId} ({status.Name}) has ended while others go on, and Linux shows the memory of such a process under its main thread's id no more; FastTrap cannot probe it.",
                processId);
        }

        if (status.IsKernelThread)
        {
            throw new FastTrapException(
                FastTrapError.KernelThread,
                $"{processId} ({status.Name}) is a thread of the kernel; it has no user code. Probe the kernel with perf or bpftrace.", processId);
        }

        int tracer = threads.Select(id => ProcStatus.TryRead(platform, id, out ProcStatus? s, out _) ? s!.TracerPid : 0).FirstOrDefault(t => t != 0);
        if (tracer != 0 && !isReadOnly)
        {
            throw AlreadyTraced(platform, processId, tracer);
        }

        return ReadArchitecture(platform, processId);
    }

    /// <summary>The architecture of the program a process executes.</summary>
    public static Architecture ReadArchitecture(IPlatform platform, int processId)
    {
        string path = $"/proc/{processId}/exe";
        Errno error = platform.OpenFile(path, out TargetFile? file);
        if (error is Errno.EACCES or Errno.EPERM)
        {
            throw Denied(platform, processId, error);
        }

        if (error != Errno.None || file is null)
        {
            throw Ended(processId);
        }

        using (file)
        {
            Span<byte> header = stackalloc byte[20];
            if (file.Read(0, header) != header.Length || !header.StartsWith("\u007fELF"u8))
            {
                throw new FastTrapException(FastTrapError.InvalidFile, $"The program of process {processId} is no ELF file.", processId);
            }

            ushort machine = MemoryMarshal.Read<ushort>(header[18..]);
            bool is64 = header[4] == 2;
            return machine switch
            {
                MachineX64 when is64 && platform.Architecture == Architecture.X64 => Architecture.X64,
                MachineArm64 when is64 && platform.Architecture == Architecture.Arm64 => Architecture.Arm64,
                MachineX64 when !is64 => throw Unsupported(processId, "an x32 program (64-bit registers, 32-bit pointers)"),
                MachineX64 => throw Unsupported(processId, "an x86-64 program"),
                Machine386 => throw Unsupported(processId, "a 32-bit x86 program"),
                MachineArm => throw Unsupported(processId, "a 32-bit ARM program"),
                MachineArm64 => throw Unsupported(processId, "an arm64 program"),
                _ => throw Unsupported(processId, $"a program for ELF machine {machine}"),
            };
        }
    }

    public static FastTrapException NoSuchProcess(int processId) =>
        new(FastTrapError.NoSuchProcess, $"There is no process {processId}; it may have ended. See 'ps -e' for those that run.", processId, (int)Errno.ESRCH);

    public static FastTrapException Ended(int processId) =>
        new(FastTrapError.ProcessEnded, $"Process {processId} ended while it was being attached.", processId, (int)Errno.ESRCH);

    public static FastTrapException CannotStart(string path, Errno error) => error switch
    {
        Errno.ENOENT => new FastTrapException(
            FastTrapError.CannotStart, $"'{path}' cannot be started: there is no such file, or its interpreter or the working directory is missing.", errorNumber: (int)error),
        Errno.EACCES => new FastTrapException(
            FastTrapError.CannotStart, $"'{path}' cannot be started: it is not executable for this user; see 'ls -l', and whether its file system is mounted noexec.", errorNumber: (int)error),
        Errno.ENOEXEC => new FastTrapException(
            FastTrapError.CannotStart, $"'{path}' cannot be started: it is no program and no script with a '#!' line; start it through its interpreter.", errorNumber: (int)error),
        _ => new FastTrapException(FastTrapError.CannotStart, $"'{path}' cannot be started ({error}).", errorNumber: (int)error),
    };

    /// <summary>Explains a refused PTRACE_SEIZE.</summary>
    public static FastTrapException SeizeFailed(IPlatform platform, int processId, Errno error)
    {
        if (!ProcStatus.TryRead(platform, processId, out ProcStatus? status, out _))
        {
            return Ended(processId);
        }

        if (status!.TracerPid != 0)
        {
            return AlreadyTraced(platform, processId, status.TracerPid);
        }

        return error is Errno.EPERM or Errno.EACCES
            ? Denied(platform, processId, error)
            : new FastTrapException(FastTrapError.KernelRefused, $"Process {processId} cannot be traced ({error}).", processId, (int)error);
    }

    private static FastTrapException Unsupported(int processId, string what) =>
        new(FastTrapError.UnsupportedArchitecture, $"Process {processId} is {what}; FastTrap probes 64-bit programs of x86-64 and arm64, each on a machine of its own kind.", processId);

    private static FastTrapException AlreadyTraced(IPlatform platform, int processId, int tracer)
    {
        string name = ProcStatus.TryRead(platform, tracer, out ProcStatus? status, out _) ? $" ({status!.Name})" : "";
        return new FastTrapException(
            FastTrapError.AlreadyTraced,
            $"Process {processId} is traced by process {tracer}{name} already, and Linux allows one tracer. Detach that one first.", processId, (int)Errno.EPERM);
    }

    private static FastTrapException Denied(IPlatform platform, int processId, Errno error)
    {
        StringBuilder message = new();
        message.Append(CultureInfo.InvariantCulture, $"Process {processId} may not be traced by this user. ");
        _ = ProcStatus.TryRead(platform, processId, out ProcStatus? target, out _);
        _ = ProcStatus.TryRead(platform, platform.CurrentProcessId, out ProcStatus? self, out _);
        string? scope = platform.ReadProcFile("/proc/sys/kernel/yama/ptrace_scope", out _) is { } bytes ? Encoding.ASCII.GetString(bytes).Trim() : null;
        if (target?.EffectiveUid != self?.EffectiveUid)
        {
            message.Append(CultureInfo.InvariantCulture, $"It belongs to user {target?.EffectiveUid}, the tracer to user {self?.EffectiveUid}: run the tracer as that user, or as root, or give it CAP_SYS_PTRACE.");
        }
        else if (scope is "1" or "2" or "3")
        {
            message.Append(CultureInfo.InvariantCulture, $"/proc/sys/kernel/yama/ptrace_scope is {scope}: ");
            message.Append(scope switch
            {
                "1" => "only descendants may be traced. Create the process instead of attaching to it, set it to 0 (as root: sysctl kernel.yama.ptrace_scope=0), or give the tracer CAP_SYS_PTRACE.",
                "2" => "only processes with CAP_SYS_PTRACE may trace. Run the tracer as root, or give it that capability.",
                _ => "nobody may trace until the next boot.",
            });
        }
        else
        {
            message.Append("It runs as the same user, so it has made itself unreadable (a set-user-id program, file capabilities, or prctl PR_SET_DUMPABLE 0), or a container or security module forbids ptrace: run the tracer as root, or give it CAP_SYS_PTRACE.");
        }

        return new FastTrapException(FastTrapError.PermissionDenied, message.ToString(), processId, (int)error);
    }
}

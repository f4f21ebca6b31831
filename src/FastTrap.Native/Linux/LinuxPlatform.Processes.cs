using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>Signals and what is known of processes.</summary>
internal sealed unsafe partial class LinuxPlatform
{
    private const int MaximalCpu = 8192;

    public Errno Kill(int processId, int signal) => Check(LibC.kill(processId, signal));

    public Errno SignalThread(int processId, int threadId, int signal) => Check(SystemCall(s_numbers.TgKill, processId, threadId, signal));

    public Errno QueueSignal(int processId, int threadId, in SignalInfo info)
    {
        fixed (SignalInfo* pointer = &info)
        {
            return Check(SystemCall(s_numbers.RtTgSigQueueInfo, processId, threadId, info.si_signo, (nint)pointer));
        }
    }

    public Errno OpenProcessDescriptor(int processId, out SafeHandle? descriptor)
    {
        // The kernel opens it close-on-exec.
        nint fd = SystemCall(s_numbers.PidFdOpen, processId);
        descriptor = fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true);
        return Check(fd);
    }

    public bool HasEnded(SafeHandle processDescriptor)
    {
        bool referenced = false;
        try
        {
            processDescriptor.DangerousAddRef(ref referenced);
            PollDescriptor poll = new() { fd = (int)processDescriptor.DangerousGetHandle(), events = LibC.POLLIN };
            int ready;
            do
            {
                ready = LibC.poll(&poll, 1, 0);
            }
            while (ready < 0 && LibC.LastError == Errno.EINTR);

            return ready > 0 && (poll.revents & LibC.POLLIN) != 0;
        }
        finally
        {
            if (referenced)
            {
                processDescriptor.DangerousRelease();
            }
        }
    }

    public bool? SharesAddressSpace(int processId, int otherProcessId)
    {
        nint order = SystemCall(s_numbers.Kcmp, processId, otherProcessId, LibC.KCMP_VM);
        return order < 0 ? null : order == 0;
    }

    public Errno SetAffinity(int threadId, ReadOnlySpan<int> cpus)
    {
        byte* mask = stackalloc byte[MaximalCpu / 8];
        Span<byte> bits = new(mask, MaximalCpu / 8);
        bits.Fill(cpus.IsEmpty ? (byte)0xff : (byte)0);
        foreach (int cpu in cpus)
        {
            if (cpu is < 0 or >= MaximalCpu)
            {
                return Errno.EINVAL;
            }

            bits[cpu / 8] |= (byte)(1 << (cpu % 8));
        }

        return Check(LibC.sched_setaffinity(threadId, MaximalCpu / 8, mask));
    }

    public Errno SetUrgent(bool isUrgent)
    {
        const int Urgent = -10;
        SchedulingAttributes attributes = default;
        Errno error = Check(SystemCall(s_numbers.SchedGetAttr, 0, (nint)(&attributes), sizeof(SchedulingAttributes)));
        if (error != Errno.None)
        {
            return error;
        }

        if (attributes.sched_policy != LibC.SCHED_OTHER || attributes.sched_nice != (isUrgent ? 0 : Urgent))
        {
            return Errno.EPERM;
        }

        attributes.sched_nice = isUrgent ? Urgent : 0;
        attributes.sched_flags |= LibC.SCHED_FLAG_RESET_ON_FORK;

        // Since Linux 6.12 it tells the scheduler's slice, which would be taken for a wish.
        attributes.sched_runtime = 0;
        return Check(SystemCall(s_numbers.SchedSetAttr, 0, (nint)(&attributes)));
    }

    public Errno SpawnSeized(SpawnRequest request, PtraceOptions options, out int processId) =>
        SeizedSpawn.Run(this, request, options, out processId);
}

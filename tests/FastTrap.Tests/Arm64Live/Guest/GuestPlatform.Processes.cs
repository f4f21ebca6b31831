using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Native;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>Signals, and what is known of the guest's processes.</summary>
internal sealed partial class GuestPlatform
{
    private const int SYS_ppoll = 73;
    private const int SYS_sched_setaffinity = 122;
    private const int SYS_kill = 129;
    private const int SYS_tgkill = 131;
    private const int SYS_rt_tgsigqueueinfo = 240;
    private const int SYS_kcmp = 272;
    private const int SYS_pidfd_open = 434;

    /// <summary>The signal for which the proxy has a handler that does nothing.</summary>
    private const int WakeSignal = 63;

    public Errno WakeThread(int threadId) => SignalThread(CurrentProcessId, threadId, WakeSignal);

    public Errno SetAffinity(int threadId, ReadOnlySpan<int> cpus)
    {
        ulong mask = cpus.IsEmpty ? ulong.MaxValue : 0;
        foreach (int cpu in cpus)
        {
            mask |= 1UL << cpu;
        }

        GuestChannel channel = link.OfThread;
        return Check(channel.Begin().Write(0, Words(mask)).Call(SYS_sched_setaffinity, (ulong)threadId, sizeof(ulong), channel.Address(0)).Exchange().TakeResult());
    }

    /// <summary>Whose thread it is, in the guest, there is nobody to tell.</summary>
    public Errno SetUrgent(bool isUrgent) => Errno.EPERM;

    public Errno Kill(int processId, int signal) => Check(Call(SYS_kill, (ulong)processId, (ulong)signal));

    public Errno SignalThread(int processId, int threadId, int signal) => Check(Call(SYS_tgkill, (ulong)processId, (ulong)threadId, (ulong)signal));

    public Errno QueueSignal(int processId, int threadId, in SignalInfo info)
    {
        GuestChannel channel = link.OfThread;
        return Check(channel.Begin()
            .Write(0, MemoryMarshal.AsBytes(new ReadOnlySpan<SignalInfo>(in info)))
            .Call(SYS_rt_tgsigqueueinfo, (ulong)processId, (ulong)threadId, (ulong)info.si_signo, channel.Address(0))
            .Exchange().TakeResult());
    }

    public Errno OpenProcessDescriptor(int processId, out SafeHandle? descriptor)
    {
        long opened = Call(SYS_pidfd_open, (ulong)processId, 0);
        descriptor = opened < 0 ? null : new GuestDescriptor(this, opened);
        return Check(opened);
    }

    public bool HasEnded(SafeHandle processDescriptor) => IsReadable((int)processDescriptor.DangerousGetHandle(), link.OfThread, milliseconds: 0);

    public bool? SharesAddressSpace(int processId, int otherProcessId)
    {
        const ulong KCMP_VM = 1;
        long order = Call(SYS_kcmp, (ulong)processId, (ulong)otherProcessId, KCMP_VM, 0, 0);
        return order < 0 ? null : order == 0;
    }

    /// <summary>The proxy makes the child and seizes it between the fork and the exec. The tracer's environment and directory are the guest's.</summary>
    public Errno SpawnSeized(SpawnRequest request, PtraceOptions options, out int processId)
    {
        long id = Start(
            link.OfThread, request.Path, request.Arguments, request.Environment, request.WorkingDirectory,
            [request.StandardInput, request.StandardOutput, request.StandardError], options, out _);
        processId = (int)Math.Max(id, 0);
        return Check(id);
    }

    /// <summary>Starts a program with pipes as its streams and a socket as descriptor 3; gives the other ends.</summary>
    public static long StartWithPipes(GuestChannel channel, string path, IReadOnlyList<string> arguments, out int[] descriptors) =>
        Start(channel, path, arguments, null, null, [null, null, null], null, out descriptors);

    /// <summary>Whether a descriptor can be read, or its other end is closed, within a time.</summary>
    public static bool IsReadable(int descriptor, GuestChannel channel, int milliseconds)
    {
        const ulong POLLIN = 1;
        return channel.Begin()
            .Write(0, Words((uint)descriptor | (POLLIN << 32), (ulong)milliseconds / 1000, (ulong)milliseconds % 1000 * 1_000_000))
            .Call(SYS_ppoll, channel.Address(0), 1, channel.Address(sizeof(ulong)), 0, 0)
            .Exchange().TakeResult() > 0;
    }

    private static long Start(
        GuestChannel channel,
        string path,
        IReadOnlyList<string> arguments,
        IReadOnlyList<string>? environment,
        string? directory,
        string?[] files,
        PtraceOptions? seized,
        out int[] descriptors)
    {
        if (arguments.Any(a => a.Length == 0))
        {
            throw new ArgumentException("The proxy takes no empty arguments.", nameof(arguments));
        }

        string[] texts = [path, directory ?? "", .. files.Select(f => f ?? ""), .. arguments, "", .. environment ?? ["PATH=/t"], ""];
        channel.Begin()
            .Write(0, Encoding.UTF8.GetBytes(string.Concat(texts.Select(t => t + '\0'))))
            .StartProgram(0, seized is not null, (uint)(seized ?? 0))
            .Exchange();
        long id = channel.TakeResult();
        descriptors = new int[4];
        for (int i = 0; i < descriptors.Length; i++)
        {
            descriptors[i] = (int)channel.TakeResult();
        }

        return id;
    }
}

using FastTrap.Native;

namespace FastTrap.Tests.Faults;

/// <summary>Which methods can fail in which ways in real life.</summary>
internal static class FaultPoints
{
    /// <summary>Ptrace requests on a stopped thread fail only if it dies.</summary>
    private static readonly string[] s_ptrace =
    [
        nameof(IPlatform.Interrupt), nameof(IPlatform.Continue), nameof(IPlatform.ContinueToSystemCall), nameof(IPlatform.Detach),
        nameof(IPlatform.GetRegisters), nameof(IPlatform.SetRegisters), nameof(IPlatform.SetChangedRegisters),
        nameof(IPlatform.GetSignalInfo), nameof(IPlatform.GetSignalMask),
        nameof(IPlatform.SetSignalMask), nameof(IPlatform.GetEventMessage), nameof(IPlatform.Listen),
    ];

    /// <summary>What fails with an errno while the target lives on.</summary>
    private static readonly (string Method, Errno Error)[] s_errors =
    [
        (nameof(IPlatform.Seize), Errno.EPERM),
        (nameof(IPlatform.Seize), Errno.ESRCH),
        (nameof(IPlatform.ReadMemory), Errno.EFAULT),
        (nameof(IPlatform.WriteMemory), Errno.EFAULT),
        (nameof(IPlatform.ReadMemoryBatch), Errno.ENOMEM),
        (nameof(IPlatform.OpenMemory), Errno.EMFILE),
        (nameof(IPlatform.WriteCode), Errno.EIO),
        (nameof(IPlatform.ReadCode), Errno.EIO),
        (nameof(IPlatform.ReadProcFile), Errno.EMFILE),
        (nameof(IPlatform.ReadLink), Errno.EACCES),
        (nameof(IPlatform.ListProcIds), Errno.EMFILE),
        (nameof(IPlatform.OpenFile), Errno.EMFILE),
        (nameof(IPlatform.Wait), Errno.EINTR),
        (nameof(IPlatform.WakeThread), Errno.EAGAIN),
        (nameof(IPlatform.WakeThread), Errno.EBUSY),
        (nameof(IPlatform.Kill), Errno.EPERM),
        (nameof(IPlatform.SignalThread), Errno.EAGAIN),
        (nameof(IPlatform.QueueSignal), Errno.EAGAIN),
        (nameof(IPlatform.SharesAddressSpace), Errno.ENOSYS),
        (nameof(IPlatform.SpawnSeized), Errno.EAGAIN),
        (nameof(IPlatform.SetAffinity), Errno.EINVAL),
        (nameof(IPlatform.SetUrgent), Errno.EPERM),
    ];

    private static readonly string[] s_short =
    [
        nameof(IPlatform.ReadMemory), nameof(IPlatform.WriteMemory), nameof(IPlatform.ReadCode), nameof(IPlatform.WriteCode),
    ];

    /// <summary>All faults, each at its first call.</summary>
    public static IEnumerable<Fault> All =>
        s_errors.Select(e => new Fault(e.Method, FaultKind.Error, e.Error, 1))
            .Concat(s_short.Select(m => new Fault(m, FaultKind.Short, Errno.None, 1)))
            .Concat(s_ptrace.Concat(s_errors.Select(e => e.Method)).Distinct().SelectMany(m => new[]
            {
                new Fault(m, FaultKind.KillBefore, Errno.None, 1),
                new Fault(m, FaultKind.KillAfter, Errno.None, 1),
            }));
}

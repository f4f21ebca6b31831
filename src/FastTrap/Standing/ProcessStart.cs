using System.Diagnostics.CodeAnalysis;
using FastTrap.Control;
using FastTrap.Engine;

namespace FastTrap;

/// <summary>
/// Listens to a process until there is a <see cref="TracedProcess"/> for it, which a child that is born before the start is complete makes necessary at once. Control thread, but for
/// <see cref="Abandon"/>.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "The process belongs to its user.")]
internal sealed class ProcessStart(Roster roster, TracerCore core, bool killOnDispose) : IProcessObserver
{
    private TracedProcess? _process;

    /// <summary>Whether the tracer took it; false when it was disposed meanwhile.</summary>
    public bool IsAdded { get; private set; }

    public TracedProcess GetProcess(ProcessHandle handle)
    {
        if (_process is null)
        {
            _process = new TracedProcess(roster, core, handle, killOnDispose);
            IsAdded = roster.TryAdd(_process);
            roster.Publish(new ProcessEvent(ProcessEventKind.Joined, _process, ProcessEvents.Now) { Path = _process.ExecutablePath });
        }

        return _process;
    }

    /// <summary>The start failed; control has let go of everything.</summary>
    public void Abandon() => _process?.Abandon();

    public void OnForked(ProcessHandle parent, ProcessHandle child) => GetProcess(parent).Observed.OnForked(parent, child);

    public void OnExecuted(ProcessHandle process) => GetProcess(process).Observed.OnExecuted(process);

    public void OnLinkerActivity(ProcessHandle process, TracedTask task) => GetProcess(process).Observed.OnLinkerActivity(process, task);

    public void OnEnded(ProcessHandle process, ProcessExit exit) => _process?.Observed.OnEnded(process, exit);
}

using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Gives each thread of the targets its turn.</summary>
/// <remarks>
/// The kernel looks for a report in the order of its own list, where the thread that was attached last comes first. A few threads which hit probes without end
/// would be answered for ever, and those behind them never. So after some reports the threads that had none are asked by name.
/// </remarks>
internal sealed partial class ControlThread
{
    /// <summary>Reports for each thread between two rounds: enough that asking those which merely sleep costs little.</summary>
    private const int ReportsPerTask = 2;

    private const int LeastReports = 16;

    private readonly List<int> _waiting = [];
    private int _round;
    private int _reportsInRound;
    private bool _takesTurns;

    /// <summary>To be called after each report that was handled.</summary>
    private void TakeTurns()
    {
        if (_takesTurns || ++_reportsInRound < LeastReports + (ReportsPerTask * _tasks.Count))
        {
            return;
        }

        _takesTurns = true;
        _reportsInRound = 0;
        foreach ((int id, TracedTask task) in _tasks)
        {
            if (task.LastRound != _round && task.State != TaskState.Stopped)
            {
                _waiting.Add(id);
            }
        }

        // New threads that were announced and stand at their first stop: one that was made later is answered before them.
        foreach ((int id, _) in _awaited)
        {
            _waiting.Add(id);
        }

        _round++;
        foreach (int id in _waiting)
        {
            if (Take(id, block: false, out WaitStatus status) == id)
            {
                OnReport(id, status);
            }
        }

        _waiting.Clear();
        _takesTurns = false;
    }
}

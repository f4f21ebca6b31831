using FastTrap.Engine;
using FastTrap.Native;

namespace FastTrap;

/// <summary>What queries cost a process, by looking.</summary>
public sealed partial class TracedProcess
{
    /// <summary>
    /// Looks once at what each thread executes. Of many looks, <c>InQueryCode / Running</c> is the share of its processor time which the process spends on hits by <see cref="ProbeMechanism.Jump"/>; times the processor time, by the
    /// number of hits, it is what one of them costs. Threads that run are interrupted for it, for some microseconds each; those that sleep are left alone.
    /// </summary>
    /// <exception cref="FastTrapException">The process has ended, was detached from, or has a thread that could not be looked at in time.</exception>
    public async Task<ThreadLook> LookAtThreadsAsync()
    {
        RequireAlive();
        ThreadLook look = default;
        await _handle.Thread.RunSlicedAsync(_handle, Look()).ConfigureAwait(false);
        return look;

        IEnumerator<bool> Look()
        {
            TimeSpan time = ProcStat.TryRead(_core.Platform, ProcessId, out ProcStat stat, out _) ? stat.ProcessorTime : default;
            if (Image.ProcOrNull is { } proc)
            {
                CodeVisit visit = new(proc);
                if (!_handle.Thread.Visit(_handle, visit))
                {
                    throw new FastTrapException(FastTrapError.KernelRefused, $"Not all threads of process {ProcessId} could be looked at in time; try it again.", ProcessId);
                }

                look = new ThreadLook(visit.Running, visit.InCode, time);
            }
            else
            {
                look = new ThreadLook(0, 0, time);
            }

            yield break;
        }
    }
}

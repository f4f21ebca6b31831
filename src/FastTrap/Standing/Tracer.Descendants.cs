using FastTrap.Native;

namespace FastTrap;

/// <summary>Attaching to a tree of processes that runs already.</summary>
public sealed partial class Tracer
{
    /// <summary>Attaches to all descendants, until a look finds none that is new. What they fork meanwhile is found by the next look, or followed.</summary>
    private async Task AttachDescendantsAsync(TracedProcess root, AttachOptions options, CancellationToken cancellationToken)
    {
        List<TracedProcess> attached = [root];
        AttachOptions alone = new() { FollowChildren = options.FollowChildren };
        try
        {
            // A tracer that was started by what it traces, as from a shell, is no part of the tree: no process can trace itself.
            HashSet<int> known = [Environment.ProcessId];
            bool found = true;
            while (found)
            {
                cancellationToken.ThrowIfCancellationRequested();
                found = false;
                known.UnionWith(Processes.Select(p => p.ProcessId));
                foreach (int id in FindDescendants(root.ProcessId).Where(known.Add))
                {
                    if (await TryAttachDescendantAsync(root, id, alone, cancellationToken).ConfigureAwait(false) is { } process)
                    {
                        attached.Add(process);
                    }

                    found = true;
                }
            }
        }
        catch
        {
            await Task.WhenAll(attached.Select(p => p.DisposeAsync().AsTask())).ConfigureAwait(false);
            throw;
        }
    }

    private async Task<TracedProcess?> TryAttachDescendantAsync(TracedProcess root, int id, AttachOptions options, CancellationToken cancellationToken)
    {
        try
        {
            return await AttachAsync(id, options, cancellationToken).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.NoSuchProcess or FastTrapError.Zombie or FastTrapError.ProcessEnded)
        {
            return null;
        }
        catch (FastTrapException e) when (e.Error == FastTrapError.AlreadyTraced && Processes.Any(p => p.ProcessId == id))
        {
            // Forked by one that is followed since the look.
            return null;
        }
        catch (FastTrapException e)
        {
            root.AddRefusedDescendant(e);
            return null;
        }
    }

    private List<int> FindDescendants(int rootId)
    {
        List<int> ids = [];
        _core.Platform.ListProcIds("/proc", ids);
        Dictionary<int, int> parents = [];
        foreach (int id in ids)
        {
            if (ProcStat.TryRead(_core.Platform, id, out ProcStat stat, out _) && stat.State is not 'Z' and not 'X')
            {
                parents[id] = stat.ParentProcessId;
            }
        }

        return [.. parents.Keys.Where(IsDescendant).Order()];

        bool IsDescendant(int id)
        {
            // Ids may be given anew between two reads: the length of a way is bounded.
            for (int steps = 0; steps <= parents.Count && parents.TryGetValue(id, out int parent); steps++)
            {
                if (parent == rootId)
                {
                    return true;
                }

                id = parent;
            }

            return false;
        }
    }
}

using System.Globalization;
using FastTrap.Control;
using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;
using FastTrap.Probes;
using Architecture = System.Runtime.InteropServices.Architecture;

namespace FastTrap;

/// <summary>What a process does for standing enablings, and what it tells its tracer.</summary>
public sealed partial class TracedProcess
{
    /// <summary>The last of the changes that are made one after another: each waits for the one before it. None of them fails.</summary>
    private Task _changes = Task.CompletedTask;

    private volatile FastTrapException[] _refusedDescendants = [];

    /// <summary>Descendants that could not be attached to with it (<see cref="AttachOptions.IncludeDescendants"/>), each with the reason.</summary>
    public IReadOnlyList<FastTrapException> RefusedDescendants => _refusedDescendants;

    internal string ProcessIdText { get; }

    internal bool IsOnControlThread => _handle.Thread.IsCurrent;

    internal void AddRefusedDescendant(FastTrapException refusal)
    {
        using (_gate.Enter())
        {
            _refusedDescendants = [.. _refusedDescendants, refusal];
        }
    }

    /// <summary>Enables what stands and is not enabled yet, after the changes that are under way. Any thread.</summary>
    internal Task BringUpToDateAsync() => Change(Image, null);

    /// <summary>Enables what a standing enabling matches in modules that it has not seen. One call after another.</summary>
    internal async Task EnableMemberAsync(StandingEnabling standing, StandingMember member)
    {
        RequireAlive();
        ProbeMatcher matcher = member.Image.Matcher;
        MatchResult match = matcher.Match(standing.Description, refresh: true, CancellationToken.None, member.Seen);
        int failures = match.Failures.Count;
        member.Image.Dof.Match(member.Image.GetProc, standing.Description, match);
        standing.AddFailures(match.Failures.Skip(failures).Except(standing.Failures));
        if (member.Image.IsOver)
        {
            return;
        }

        // What was unloaded, or ended, during the look is no failure.
        standing.AddFailures(match.Failures.Where(f => matcher.IsCode(f.Address)));
        if (standing.Options.AfterInstruction)
        {
            match.FireAfter(standing.Description, ProcessId);
        }

        if (match.Specs.Count == 0)
        {
            return;
        }

        RequireNoShadowStack();
        Proc proc = member.Image.GetProc();
        ProbeEnabling enabling;
        if (member.Enabling is { } existing)
        {
            enabling = existing;
        }
        else
        {
            ProbeOptions options = standing.Consumer?.OptionsFor(this, member.Image) ?? standing.Options;
            enabling = new ProbeEnabling(this, proc, standing.Description, options, [], standing);
            using (_gate.Enter())
            {
                if (_disposal is not null)
                {
                    return;
                }

                _enablings.Add(enabling);
            }

            standing.Consumer?.OnMade(member.Image, enabling);
            member.Enabling = enabling;
        }

        IReadOnlyList<ProbeSpec> specs = match.Specs;
        if (MayJump(enabling.Program))
        {
            Task rehearsal = Rehearsal.RunAsync(_core.Logger);
            specs = matcher.FindWindows(specs, CancellationToken.None);
            await rehearsal.ConfigureAwait(false);
        }

        try
        {
            await _handle.Thread.RunSlicedAsync(_handle, Enable(member.Image, proc, [(enabling, specs)])).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            standing.Consumer?.OnLeft(member.Image);
            throw;
        }

        if (standing.Consumer is { } consumer)
        {
            await consumer.OnEnabledAsync(member.Image).ConfigureAwait(false);
        }
    }

    /// <summary>A followed process is over.</summary>
    private void Forget()
    {
        using (_gate.Enter())
        {
            _references = 0;
            _ = CloseLocked(ReleaseKind.Run);
        }
    }

    private Task Change(ProcessImage image, TracedTask? held)
    {
        using (_gate.Enter())
        {
            return _changes = ChangeAfterAsync(_changes, image, held);
        }
    }

    /// <summary>Never on the control thread, which must serve what is enabled.</summary>
    private async Task ChangeAfterAsync(Task previous, ProcessImage image, TracedTask? held)
    {
        await previous.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        IReadOnlyList<StandingEnabling> all = _roster.Standing;
        FastTrapException? problem = all.Count != 0 ? await WatchLinkerAsync().ConfigureAwait(false) : null;
        foreach (StandingEnabling standing in all)
        {
            if (problem is not null)
            {
                standing.AddProcessFailure(problem);
            }

            if (image == Image && !_handle.IsOver)
            {
                await standing.JoinAsync(this, image).ConfigureAwait(false);
            }
        }

        if (held is not null)
        {
            await ReleaseAsync(held).ConfigureAwait(false);
        }
    }

    /// <summary>Follows children from now on, if it does not already.</summary>
    internal async Task FollowAsync(bool follow)
    {
        if (follow)
        {
            await _handle.Thread.InvokeAsync(_handle, () => _handle.FollowsChildren = true).ConfigureAwait(false);
        }
    }

    /// <summary>Before anything is matched, so that no library comes between the two. Returns why not, or null.</summary>
    private async Task<FastTrapException?> WatchLinkerAsync()
    {
        try
        {
            await _handle.Thread.InvokeAsync(_handle, () => _handle.Thread.WatchLinker(_handle)).ConfigureAwait(false);
            return null;
        }
        catch (FastTrapException e)
        {
            // If it has ended nothing is enabled in it any more.
            return e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached ? null : e;
        }
    }

    /// <summary>Nothing stands any more: the linker is watched as long as something is enabled.</summary>
    internal async Task UnwatchLinkerAsync()
    {
        try
        {
            await _handle.Thread.InvokeAsync(_handle, () =>
            {
                _handle.KeepsLinkerWatch = _roster.Standing.Count != 0;
                if (Image.ProcOrNull is not { IsInUse: true })
                {
                    ControlThread.UnwatchLinker(_handle);
                }

                return true;
            }).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // Gone, and the watch with it.
        }
    }

    private async Task ReleaseAsync(TracedTask task)
    {
        try
        {
            await _handle.Thread.InvokeAsync(_handle, () =>
            {
                _handle.Thread.Release(task);
                return true;
            }).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // Nobody is held any more.
        }
    }

    /// <summary>What control tells: on the control thread, one after another.</summary>
    private sealed class Observer(TracedProcess process) : IProcessObserver
    {
        public void OnForked(ProcessHandle parent, ProcessHandle child)
        {
            // Held by control, until the change is made.
            TracedProcess followed = new(process._roster, process._core, child, killOnDispose: false) { IsFollowed = true };
            process._roster.AddChild(followed);
            process._roster.Publish(new ProcessEvent(ProcessEventKind.Forked, followed, ProcessEvents.Now) { ParentProcessId = parent.ProcessId });
            _ = followed.Change(followed.Image, child.Leader);
        }

        public void OnExecuted(ProcessHandle handle)
        {
            ProcessImage old = process.Image;
            old.Retire();
            ProcessImage image = new(process._core, handle);
            Volatile.Write(ref process._image, image);
            Interlocked.Increment(ref process._executions);
            process._executablePath = process.ReadExecutablePath();
            IReadOnlyList<StandingEnabling> standing = process._roster.Standing;
            foreach (StandingEnabling enabling in standing)
            {
                enabling.Leave(old);
            }

            process._roster.Publish(new ProcessEvent(ProcessEventKind.Executed, process, ProcessEvents.Now) { Path = process.ExecutablePath });
            Hold(image, handle.Leader!, standing);
        }

        public void OnLinkerActivity(ProcessHandle handle, TracedTask task)
        {
            bool hasLoaded = false;
            foreach (LinkerEvent change in handle.Linker?.Events ?? [])
            {
                bool isLoaded = change.Kind == LinkerEventKind.Added;
                hasLoaded |= isLoaded;
                if (!isLoaded && process._roster.Standing.Count != 0)
                {
                    process.Image.Matcher.OnUnloaded(change.Object.Start, change.Object.Length);
                }

                process._roster.Publish(new ProcessEvent(
                    isLoaded ? ProcessEventKind.ModuleLoaded : ProcessEventKind.ModuleUnloaded, process, ProcessEvents.Now) { Path = change.Path });
            }

            if (hasLoaded)
            {
                Hold(process.Image, task, process._roster.Standing);
            }
        }

        public void OnEnded(ProcessHandle handle, ProcessExit exit)
        {
            process.Image.Retire();
            foreach (StandingEnabling enabling in process._roster.Standing)
            {
                enabling.Leave(process.Image);
            }

            process._roster.Publish(new ProcessEvent(ProcessEventKind.Ended, process, ProcessEvents.Now) { Exit = exit });
            if (process.IsFollowed)
            {
                // Nobody asked for it by name, so nobody has to dispose it. Its work is done: this only forgets it.
                process.Forget();
            }
        }

        private void Hold(ProcessImage image, TracedTask task, IReadOnlyList<StandingEnabling> standing)
        {
            if (standing.Count != 0)
            {
                task.Hold();
                _ = process.Change(image, task);
            }
        }
    }
}

using FastTrap.Control;
using FastTrap.Engine;
using FastTrap.Native;

namespace FastTrap.Tests.Control;

/// <summary>A process and all that come from it, on one control thread, with a book of what the observer was told.</summary>
/// <remarks>Thread-safe: the control thread writes the book under the gate, the test reads copies.</remarks>
internal sealed class ProcessTree : IProcessObserver, IAsyncDisposable
{
    private readonly object _gate = new();
    private readonly Dictionary<ProcessHandle, List<string>> _lives = [];
    private readonly List<Task> _releases = [];

    private ProcessTree(TracerOptions? options, IPlatform? platform = null)
    {
        Core = new TracerCore(platform ?? LinuxPlatform.Instance, options ?? new TracerOptions());
        Thread = new ControlThread(Core.Platform, Core.Options, Core.Logger);
    }

    public TracerCore Core { get; }

    public ControlThread Thread { get; }

    public ProcessHandle Root { get; private set; } = null!;

    /// <summary>Done, on a thread of the pool, with each child while it stands at its start.</summary>
    public Func<ProcessHandle, Task>? Prepare { get; set; }

    /// <summary>What was told of each process, in order: <c>forked</c>, <c>executed</c>, <c>ended Exited 3</c> ...</summary>
    public IReadOnlyList<(ProcessHandle Process, string[] Life)> Lives
    {
        get
        {
            lock (_gate)
            {
                return [.. _lives.Select(pair => (pair.Key, pair.Value.ToArray()))];
            }
        }
    }

    public IEnumerable<(ProcessHandle Process, string[] Life)> Children => Lives.Where(life => life.Process != Root);

    public static async Task<ProcessTree> AttachAsync(int processId, TracerOptions? options = null, bool followsChildren = true, IPlatform? platform = null)
    {
        ProcessTree tree = new(options, platform);
        tree.Root = await tree.Thread.InvokeAsync(() => tree.Thread.Attach(processId, tree, followsChildren));
        return tree;
    }

    public static async Task<ProcessTree> CreateAsync(string path, IReadOnlyList<string> arguments, CreateOptions create, TracerOptions? options = null)
    {
        ProcessTree tree = new(options);
        SpawnRequest request = ProgramSearch.MakeRequest(LinuxPlatform.Instance, path, arguments, create);
        tree.Root = await tree.Thread.InvokeAsync(() => tree.Thread.Create(request, create.StopAt, tree, followsChildren: true));
        return tree;
    }

    public Task ResumeAsync() => Thread.InvokeAsync(Root, () =>
    {
        Thread.ResumeHeld(Root);
        return true;
    });

    /// <summary>The process with an id, once it was announced.</summary>
    public ProcessHandle Find(int processId) => Lives.Single(life => life.Process.ProcessId == processId).Process;

    void IProcessObserver.OnForked(ProcessHandle parent, ProcessHandle child)
    {
        Assert.That(child.Parent, Is.SameAs(parent));
        Note(child, "forked");
        TracedTask leader = child.Leader!;
        lock (_gate)
        {
            _releases.Add(Task.Run(async () =>
            {
                if (Prepare is { } prepare)
                {
                    await prepare(child);
                }

                try
                {
                    await Thread.InvokeAsync(child, () =>
                    {
                        Thread.Release(leader);
                        return true;
                    });
                }
                catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
                {
                    // Killed while it stood.
                }
            }));
        }
    }

    void IProcessObserver.OnExecuted(ProcessHandle process) => Note(process, "executed");

    void IProcessObserver.OnLinkerActivity(ProcessHandle process, TracedTask task) => Note(process, "linker");

    void IProcessObserver.OnEnded(ProcessHandle process, ProcessExit exit) => Note(process, $"ended {exit.Kind} {exit.ShellExitCode}");

    public async ValueTask DisposeAsync()
    {
        foreach ((ProcessHandle process, _) in Lives)
        {
            process.AnnounceRelease();
        }

        Root.AnnounceRelease();
        await Task.WhenAll(Lives.Select(life => life.Process).Append(Root).Distinct().Select(process => Thread.ReleaseAsync(process, ReleaseKind.Run)));
        Task[] releases;
        lock (_gate)
        {
            releases = [.. _releases];
        }

        await Task.WhenAll(releases);
    }

    private void Note(ProcessHandle process, string what)
    {
        lock (_gate)
        {
            if (!_lives.TryGetValue(process, out List<string>? life))
            {
                _lives.Add(process, life = []);
            }

            life.Add(what);
        }
    }
}

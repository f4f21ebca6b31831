using FastTrap.Control;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live.Linker;

/// <summary>What tests of the run-time linker's watch share: a target with libraries of its own, and an observer.</summary>
public abstract class LinkerTest : LiveTest
{
    /// <summary>Copies of the plugin under names of their own: <c>libplugin0.so</c> and so on.</summary>
    internal static string[] CopyPlugins(PrivateDirectory directory, int count, string? built = null)
    {
        string plugin = built ?? TargetBuilder.BuildLibrary("plugin");
        return [.. Enumerable.Range(0, count).Select(i =>
        {
            string path = directory[$"libplugin{i}.so"];
            File.Copy(plugin, path);
            return path;
        })];
    }

    internal static TargetProcess StartDlopens(IReadOnlyList<string> plugins) => TargetProcess.StartTarget("dlopens", null, plugins);

    /// <summary>Begins to watch the linker, with an observer.</summary>
    internal static async Task<LinkerWatch> WatchAsync(TracedProcess process, IProcessObserver observer)
    {
        ProcessHandle handle = process.Handle;
        return await handle.Thread.InvokeAsync(() =>
        {
            handle.Observer = observer;
            return handle.Thread.WatchLinker(handle);
        });
    }

    /// <summary>Sends a command and waits until it is done.</summary>
    internal static void Do(TargetProcess target, string command)
    {
        target.SendLine(command);
        target.ReadLineStarting("done " + command.Split(' ')[0]);
    }

    /// <summary>Ends the target, which must be content with how it was treated.</summary>
    internal static void Quit(TargetProcess target)
    {
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>The bytes which the target really has at an address, traps included.</summary>
    internal static byte ReadRaw(int processId, ulong address)
    {
        using FileStream memory = new($"/proc/{processId}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        byte[] one = new byte[1];
        Assert.That(RandomAccess.Read(memory.SafeFileHandle, one, (long)address), Is.EqualTo(1));
        return one[0];
    }

    /// <summary>Keeps what it is told, and may do something with the thread held meanwhile.</summary>
    internal sealed class Recorder(Func<IReadOnlyList<LinkerEvent>, Task>? whileHeld = null) : IProcessObserver
    {
        private readonly List<LinkerEvent> _events = [];

        /// <summary>What went wrong while a thread was held.</summary>
        public Exception? Failure { get; private set; }

        public IReadOnlyList<LinkerEvent> Events
        {
            get
            {
                lock (_events)
                {
                    return [.. _events];
                }
            }
        }

        public int Count(LinkerEventKind kind, string path) => Events.Count(e => e.Kind == kind && e.Path == path);

        public void OnForked(ProcessHandle parent, ProcessHandle child)
        {
        }

        public void OnExecuted(ProcessHandle process)
        {
        }

        public void OnEnded(ProcessHandle process, ProcessExit exit)
        {
        }

        public void OnLinkerActivity(ProcessHandle process, TracedTask task)
        {
            LinkerEvent[] events = [.. process.Linker!.Events];
            lock (_events)
            {
                _events.AddRange(events);
            }

            if (whileHeld is null)
            {
                return;
            }

            task.Hold();
            _ = Task.Run(async () =>
            {
                try
                {
                    await whileHeld(events);
                }
                catch (Exception e)
                {
                    Failure = e;
                }

                await process.Thread.InvokeAsync(() =>
                {
                    process.Thread.Release(task);
                    return true;
                });
            });
        }
    }
}

using System.Globalization;
using FastTrap.Control;
using FastTrap.Native;
using FastTrap.Programs.Shared;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>A running <c>lanes</c>, attached to, with a region that it writes.</summary>
internal sealed class SharedTarget : IAsyncDisposable
{
    private readonly Tracer _tracer;

    private SharedTarget(TargetProcess target, Tracer tracer, ProcessHandle handle, SharedRegion region)
    {
        Target = target;
        _tracer = tracer;
        Handle = handle;
        Region = region;
    }

    public TargetProcess Target { get; }

    public ProcessHandle Handle { get; }

    public SharedRegion Region { get; }

    /// <summary>Starts it, makes a region in it and tells it where.</summary>
    public static async Task<SharedTarget> StartAsync(LaneLayout layout, params ulong[] counters)
    {
        TargetProcess target = TargetProcess.StartTarget("lanes");
        Tracer tracer = new();
        ProcessHandle handle = (await tracer.AttachAsync(target.ProcessId)).Handle;
        (SharedRegion? region, SharedMemoryFailure failure) = await BorrowAsync(handle, task =>
            SharedRegion.TryCreate(handle, task, layout, counters, out SharedRegion? made, out SharedMemoryFailure why) ? (made, why) : (null, why));
        Assert.That(region, Is.Not.Null, failure.ToString());
        target.SendLine(string.Create(CultureInfo.InvariantCulture, $"region {region!.Address:x}"));
        Assert.That(target.ReadLineStarting("region "), Is.EqualTo($"region {layout.LaneCount} {layout.LaneStride} {layout.RingLength}"));
        return new SharedTarget(target, tracer, handle, region);
    }

    /// <summary>Does something on the control thread, with a stopped thread of the target.</summary>
    public static Task<T> BorrowAsync<T>(ProcessHandle handle, Func<TracedTask, T> action) => handle.Thread.InvokeAsync(handle, () =>
    {
        T result = default!;
        Assert.That(handle.Thread.TryBorrow(handle, task => result = action(task)));
        return result;
    });

    /// <summary>Reads the lines of a run's end: for each thread what it says that it has written and dropped, and the sum over what it has written.</summary>
    public List<LaneReport> ReadReports()
    {
        List<LaneReport> reports = [];
        while (Target.ReadLine() is { } line && line != "done")
        {
            string[] words = line.Split(' ');
            Assert.That(words[0], Is.EqualTo("lane"), line);
            reports.Add(new LaneReport(Number(words[3]), Number(words[5]), Number(words[7])));
        }

        return reports;
    }

    /// <summary>Ends it as it should end.</summary>
    public void End()
    {
        Target.SendLine("end");
        Assert.That(Target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    public async ValueTask DisposeAsync()
    {
        await _tracer.DisposeAsync();
        Target.Dispose();
        Region.Dispose();
    }

    private static ulong Number(string text) => ulong.Parse(text, CultureInfo.InvariantCulture);
}

/// <summary>What a writer says of itself.</summary>
internal readonly record struct LaneReport(ulong Written, ulong Dropped, ulong Sum);

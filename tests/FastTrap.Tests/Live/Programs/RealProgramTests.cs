using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>
/// Programs which nobody wrote for this, probed while they are busy: hundreds of functions, and every <c>malloc</c> and <c>free</c>. Counts are compared with
/// the program's own, with a preloaded library's, and as root with the kernel's uprobes.
/// </summary>
[TestFixture]
public sealed class RealProgramTests : LiveTest
{
    private const int Parents = 321;

    // Blocks above 512 bytes come from malloc, not from Python's own allocator.
    private static readonly string s_pythonScript = $$"""
        import zlib, math, json, re, collections
        def work():
            total = 0
            for i in range({{Parents}}):
                total += os.getppid() > 0
                block = bytearray(1000 + i)
                block[i] = i & 255
                total = zlib.crc32(bytes(block), total)
            words = collections.Counter(re.findall("[a-z]+", ("the quick brown fox %s " * 40) % (("jumps",) * 40)))
            text = json.dumps({"words": words, "sines": [round(math.sin(n), 9) for n in range(50)], "big": str(3 ** 400)}, sort_keys=True)
            keep = {str(n): [n] * (n % 100) for n in range(300)}
            return total, text, sum(len(v) for v in keep.values())
        ready()
        wait()
        print("result", *work(), flush=True)
        wait()
        print("after", *work(), flush=True)
        wait()
        sys.exit(7)
        """;

    [Test]
    public async Task PythonIsCountedAndDoesNotNotice()
    {
        IReadOnlyList<string> alone;
        using (TargetProcess untouched = RealPrograms.StartPython(s_pythonScript))
        {
            alone = Finish(untouched, work: true);
        }

        using TargetProcess python = RealPrograms.StartPython(s_pythonScript, new TargetStart { Environment = PreloadCounts.Environment });
        WaitUntilItReads(python);
        PreloadCounts before = PreloadCounts.Read(python.ProcessId);
        TracedProcess process = await Tracer.AttachAsync(python.ProcessId);
        IReadOnlyList<ProbeEnabling> counted = await EnableMallocAndFree(process, "libc.so.6");
        ProbeEnabling getppid = await process.EnableAsync("libc.so.6:getppid:entry", CountOnly);
        ProbeEnabling many = await process.EnableAsync("a.out:Py[BDELOTU]*:entry", CountOnly);
        ProbeEnabling returns = await process.EnableAsync("a.out:PyLong_*:return", CountOnly);
        Assert.That(many.Probes, Has.Count.GreaterThan(300));

        python.SendLine("go");
        python.ReadLineStarting("result ");
        WaitUntilItReads(python);
        PreloadCounts own = PreloadCounts.Read(python.ProcessId) - before;
        await process.DisposeAsync();

        Assert.That(own.Mallocs, Is.GreaterThan(Parents));
        Assert.That(new PreloadCounts(counted[0].HitCount, counted[1].HitCount), Is.EqualTo(own));
        Assert.That(getppid.HitCount, Is.EqualTo(Parents));
        Assert.That(many.HitCount, Is.GreaterThan(1000));
        Assert.That(returns.HitCount, Is.GreaterThan(100));
        TextCheck.AssertClean(python.ProcessId);
        Assert.That(Finish(python, work: false), Is.EqualTo(alone));
    }

    [Test]
    public async Task ThreadedProgramIsCountedAndDoesNotNotice()
    {
        string[] arguments = ["6", "150"];
        IReadOnlyList<string> alone = RunAlone("threadedcpp", null, arguments);
        using TargetProcess target = TargetProcess.StartTarget("threadedcpp", null, arguments, new TargetStart { Environment = PreloadCounts.Environment });
        WaitUntilItReads(target);
        PreloadCounts before = PreloadCounts.Read(target.ProcessId);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        IReadOnlyList<ProbeEnabling> counted = await EnableMallocAndFree(process, "libpreload_count.so");
        IReadOnlyList<ProbeEnabling> inside = await EnableMallocAndFree(process, "libc.so.6");
        ProbeEnabling many = await process.EnableAsync("libstdc++.so.6:*:entry", CountOnly);
        ProbeEnabling guarded = await process.EnableAsync("a.out:_Z7guardedl:return", CountOnly);
        ProbeEnabling through = await process.EnableAsync("a.out:_Z7throughli:entry", CountOnly);
        ProbeEnabling cleaner = await process.EnableAsync("a.out:Cleaner::~Cleaner*:entry", CountOnly);
        Assert.That(many.Probes, Has.Count.GreaterThan(1000));

        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        WaitUntilItReads(target);
        PreloadCounts own = PreloadCounts.Read(target.ProcessId) - before;
        await process.DisposeAsync();

        Assert.That(own.Mallocs, Is.GreaterThan(1000));
        Assert.That(new PreloadCounts(counted[0].HitCount, counted[1].HitCount), Is.EqualTo(own));

        // A thread that ends gives back its cache inside libc, unseen by the preloaded library.
        Assert.That(inside[0].HitCount, Is.EqualTo(own.Mallocs));
        Assert.That(inside[1].HitCount, Is.GreaterThanOrEqualTo(own.Frees));
        Assert.That(guarded.HitCount, Is.EqualTo(target.GetCount("guarded")));
        Assert.That(through.HitCount, Is.EqualTo(target.GetCount("through")));
        Assert.That(cleaner.HitCount, Is.EqualTo(target.GetCount("~Cleaner")));
        Assert.That(many.HitCount, Is.GreaterThan(1000));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        Assert.That(Comparable(target.Lines), Is.EqualTo(alone));
    }

    [Test]
    public async Task RedisIsCountedAndDoesNotNotice()
    {
        const int Requests = 1500;
        using RedisServer server = RedisServer.Start(environment: PreloadCounts.Environment);
        server.Send("config", "resetstat");
        long commandsBefore = server.Statistic("total_commands_processed");
        TracedProcess process = await Tracer.AttachAsync(server.ProcessId);

        // Its timers allocate at any time, so that it stands still while counting begins and ends.
        server.Freeze();
        PreloadCounts before = PreloadCounts.Read(server.ProcessId);
        IReadOnlyList<ProbeEnabling> counted = await EnableMallocAndFree(process, "libjemalloc.so.2");
        ProbeEnabling set = await process.EnableAsync("a.out:setCommand:entry", CountOnly);
        ProbeEnabling get = await process.EnableAsync("a.out:getCommand:return", CountOnly);
        ProbeEnabling calls = await process.EnableAsync("a.out:call:entry", CountOnly);
        ProbeEnabling many = await process.EnableAsync("a.out:[a-e]*:entry", CountOnly);
        Assert.That(many.Probes, Has.Count.GreaterThan(500));
        server.Thaw();

        string output = server.Bench("-n", $"{Requests}", "-c", "5", "-t", "set,get", "-q");
        long setCalls = server.CallsOf("set");
        long getCalls = server.CallsOf("get");
        long commands = server.Statistic("total_commands_processed") - commandsBefore;
        server.Freeze();
        PreloadCounts own = PreloadCounts.Read(server.ProcessId) - before;
        PreloadCounts seen = new(counted[0].HitCount, counted[1].HitCount);
        long callHits = calls.HitCount;
        await process.DisposeAsync();
        server.Thaw();

        Assert.That(output, Does.Contain("requests per second"));
        Assert.That((setCalls, getCalls), Is.EqualTo(((long)Requests, (long)Requests)));
        Assert.That((set.HitCount, get.HitCount), Is.EqualTo((setCalls, getCalls)));

        // Each INFO is in the number of the next one: the first, before, and not the last.
        Assert.That(callHits, Is.EqualTo(commands));
        Assert.That(own.Mallocs, Is.GreaterThan(Requests));
        Assert.That(seen, Is.EqualTo(own));
        TextCheck.AssertClean(server.ProcessId);
        Assert.That(server.Send("ping"), Is.EqualTo("PONG"));
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task RedisIsCountedAsTheKernelCounts()
    {
        using RedisServer server = RedisServer.Start();
        string jemalloc = File.ReadLines($"/proc/{server.ProcessId}/maps").First(line => line.Contains("libjemalloc", StringComparison.Ordinal)).Split(' ')[^1];
        TracedProcess process = await Tracer.AttachAsync(server.ProcessId);
        server.Freeze();
        long kernel;
        long ours;
        using (UprobeOracle oracle = UprobeOracle.Attach(server.ProcessId, jemalloc, "malloc", UprobeSite.SecondInstruction))
        {
            ProbeEnabling malloc = await process.EnableAsync("libjemalloc.so.2:malloc:entry", CountOnly);
            server.Thaw();
            server.Bench("-n", "1000", "-c", "4", "-t", "lpush,hset", "-q");
            server.Freeze();
            kernel = oracle.Count;
            ours = malloc.HitCount;
            await process.DisposeAsync();
        }

        server.Thaw();
        // The stop may have come between the function's first instruction, which is ours, and its second, which is the kernel's.
        Assert.That(ours, Is.EqualTo(kernel).Within(1).And.GreaterThan(1000));
        TextCheck.AssertClean(server.ProcessId);
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));
    }

    /// <summary>The entries of malloc and free.</summary>
    private static async Task<IReadOnlyList<ProbeEnabling>> EnableMallocAndFree(TracedProcess process, string module) =>
        await process.EnableAsync([new ProbeRequest($"{module}:malloc:entry", CountOnly), new ProbeRequest($"{module}:free:entry", CountOnly)]);

    /// <summary>Waits until the main thread waits for its input, so that no count of its own changes any more.</summary>
    private static void WaitUntilItReads(TargetProcess target)
    {
        // System call 0 (read) of descriptor 0.
        WaitUntil(
            () => File.ReadAllText($"/proc/{target.ProcessId}/syscall").StartsWith("0 0x0 ", StringComparison.Ordinal), "the program to read its input");
    }

    private static List<string> Finish(TargetProcess python, bool work)
    {
        if (work)
        {
            python.SendLine("go");
        }

        python.SendLine("more");
        python.SendLine("end");
        Assert.That(python.WaitForExit(), Is.EqualTo(new TargetExit(7, 0)), python.Errors);
        return [.. Comparable(python.Lines)];
    }
}

using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Usdt.Publish;

/// <summary>Published probes traced by this library.</summary>
public sealed class OwnTracerTests : LiveTest
{
    [Test]
    public async Task FunctionsOfTheImage_AreProbedLikeOthers()
    {
        using PublishingProcess process = new("netself");
        await using TracedProcess traced = await Tracer.AttachAsync(process.ProcessId);
        long first = 0;
        long second = 0;
        await using ProbeEnabling enabling = await traced.EnableAsync("*usdt-netself:netself_tick:entry", new ProbeOptions
        {
            Buffered = false,
            OnHit = (in ProbeContext hit) =>
            {
                first += (long)hit.GetArgument(0);
                second += (int)hit.GetArgument(1);
            },
        });
        process.WriteSemaphore("tick", 1);
        Assert.That(process.Ask("fire 100"), Is.EqualTo("count tick 100"));
        process.WriteSemaphore("tick", 0);
        process.Ask("fire 100");
        Assert.That((enabling.HitCount, first, second), Is.EqualTo((100, 5050, -5050)));
    }

    [Test]
    public async Task AThreadThatStandsAtAProbe_HoldsUpNoGarbageCollection()
    {
        using PublishingProcess process = new("netstop");
        await using TracedProcess traced = await Tracer.AttachAsync(process.ProcessId);
        using ManualResetEventSlim hit = new();
        using ManualResetEventSlim goOn = new();
        await using ProbeEnabling enabling = await traced.EnableAsync("*usdt-netstop:netstop_tick:entry", new ProbeOptions
        {
            Buffered = false,
            OnHit = (in ProbeContext _) =>
            {
                hit.Set();
                goOn.Wait();
            },
        });
        try
        {
            process.WriteSemaphore("tick", 1);
            process.Ask("behind");
            Assert.That(hit.Wait(Patience));

            // Handlers run on the control thread: it serves no other thread of the target now, but those run on.
            Assert.That(process.Ask("collect"), Is.EqualTo("done"));
        }
        finally
        {
            goOn.Set();
        }
    }

    [Test]
    public async Task StaticProbes_AreFoundByTheirNames()
    {
        using PublishingProcess process = new("netname");
        await using TracedProcess traced = await Tracer.AttachAsync(process.ProcessId);
        List<string?> texts = [];
        await using ProbeEnabling ticks = await traced.EnableAsync("netname*:::tick", CountOnly);
        await using ProbeEnabling requests = await traced.EnableAsync("netname*:::request-start", new ProbeOptions
        {
            Buffered = false,
            OnHit = (in ProbeContext hit) => texts.Add(hit.TryReadString(hit.GetArgument(0), 100, out string? text) ? $"{text} {hit.GetArgument(1)} {hit.GetArgument(2)}" : null),
        });
        Assert.That(process.Ask("enabled"), Is.EqualTo("enabled True False"));
        Assert.That(process.Ask("threads 8 200"), Is.EqualTo("count tick 1600"));
        process.Ask("text grüße");
        Assert.That(ticks.HitCount, Is.EqualTo(1600));
        Assert.That(texts, Is.EqualTo(new[] { "grüße 200 65000" }));
        await ticks.DisposeAsync();
        Assert.That(process.Ask("enabled"), Is.EqualTo("enabled False False"));
    }

    [Test]
    public async Task TheModuleIsWrittenWithoutAColon()
    {
        using PublishingProcess process = new("netcolon");
        await using TracedProcess traced = await Tracer.AttachAsync(process.ProcessId);
        IReadOnlyList<ProbeInfo> probes = await traced.ListAsync("netcolon*:usdt-netcolon::request-start");
        Assert.That(probes.Select(p => p.ToString()), Is.EqualTo(new[] { $"netcolon{process.ProcessId}:usdt-netcolon:netcolon_request__start:request-start" }));
        await using ProbeEnabling enabling = await traced.EnableAsync(probes[0].ToString(), CountOnly);
        process.Ask("text x");
        Assert.That(enabling.HitCount, Is.EqualTo(1));
    }

    /// <summary>The same probe, one tool after the other (a uprobe and a trap of ours exclude each other at one address), and two probes at the same time.</summary>
    [Test]
    public async Task BpftraceCountsTheSame()
    {
        Bpftrace.Require();
        using PublishingProcess process = new("netboth");
        const string Script = "usdt:*:netboth:tick { if (arg0 == 0) { printf(\"armed\\n\"); } else { @n = count(); @sum = sum(arg0); } }";
        IReadOnlyList<string> theirs;
        using (Bpftrace tool = Bpftrace.Start(process, Script, "armed"))
        {
            process.Ask("fire 2000");
            theirs = tool.Finish();
        }

        process.WaitUntilEnabled(false);
        long sum = 0;
        await using TracedProcess traced = await Tracer.AttachAsync(process.ProcessId);
        ProbeEnabling ours = await traced.EnableAsync("netboth*:::tick", new ProbeOptions { Buffered = false, OnHit = (in ProbeContext c) => sum += (long)c.GetArgument(0) });
        process.Ask("fire 2000");
        await ours.DisposeAsync();
        Assert.That(ours.HitCount, Is.EqualTo(2000));
        Assert.That(sum, Is.EqualTo((2001L + 4000) * 1000));
        Assert.That(theirs, Does.Contain("@n: 2000").And.Contains("@sum: 2001000"));

        // At the same time: a pair is fired in turn, each seen by one of the two.
        ProbeEnabling requests = await traced.EnableAsync("netboth*:::request-start", CountOnly);
        using (Bpftrace tool = Bpftrace.Start(process, Script, "armed"))
        {
            long before = requests.HitCount;
            process.Ask("pairs 1000");
            theirs = tool.Finish();
            Assert.That(requests.HitCount - before, Is.EqualTo(1000));
        }

        Assert.That(theirs, Does.Contain("@n: 1000"));
    }
}

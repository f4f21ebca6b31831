using System.Globalization;
using FastTrap.Native;
using FastTrap.Tests.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Where control threads run, by what the kernel says of them.</summary>
[TestFixture]
public sealed class AffinityTests : LiveTest
{
    [TestCase(ControlThreadAffinity.FollowTarget)]
    [TestCase(ControlThreadAffinity.Inherit)]
    public async Task TheControlThreadGoesToTheCpuOfTheTarget(ControlThreadAffinity affinity)
    {
        string all = AllowedCpus("/proc/thread-self");
        string last = all.Split(',', '-')[^1];
        if (all == last)
        {
            Assert.Ignore("Needs two CPUs.");
        }

        string first = all.Split(',', '-')[0];
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["1"]);
        await using Tracer tracer = new(new TracerOptions { Affinity = affinity });
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);
        string seen = "";
        string control = "";
        int hits = 0;
        await process.EnableAsync("a.out:hot:entry", new ProbeOptions
        {
            OnHit = (in ProbeContext _) =>
            {
                control = Path.GetFileName(new FileInfo("/proc/thread-self").LinkTarget)!;
                seen = ++hits % 100 == 0 ? AllowedCpus("/proc/thread-self") : seen;
            },
        });
        foreach (string cpu in new[] { last, first })
        {
            foreach (string task in Directory.GetDirectories($"/proc/{target.ProcessId}/task"))
            {
                Pin(int.Parse(Path.GetFileName(task), CultureInfo.InvariantCulture), int.Parse(cpu, CultureInfo.InvariantCulture));
            }

            string expected = affinity == ControlThreadAffinity.FollowTarget ? cpu : all;
            WaitUntil(
                () =>
                {
                    target.SendLine("go 2000");
                    target.ReadCount("hot");
                    return Volatile.Read(ref seen) == expected;
                },
                $"to be allowed {expected}; last: {seen}");
        }

        // What others order is done on all CPUs.
        await process.EnableAsync("a.out:once:entry", CountOnly);
        Assert.That(AllowedCpus($"/proc/self/task/{control}"), Is.EqualTo(all));
    }

    [Test]
    public async Task TheControlThreadGoesAheadOfOthersWhereItMayAndOnlyWhileThreadsAreVisited()
    {
        const int Urgent = -10;
        const int MostRounds = 200;
        bool mayBeUrgent = ThreadNice.MayBeUrgent;
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("run");
        target.ReadLineStarting("running");
        int[] before = [.. ThreadNice.OfAll().Values.Distinct()];
        bool isOver = false;
        bool wasUrgent = false;
        Thread observer = new(() =>
        {
            while (!Volatile.Read(ref isOver))
            {
                Volatile.Write(ref wasUrgent, Volatile.Read(ref wasUrgent) || ThreadNice.OfAll().ContainsValue(Urgent));
            }
        }) { IsBackground = true };
        observer.Start();
        int rounds = 0;
        try
        {
            while (rounds++ < (mayBeUrgent ? MostRounds : 2) && !Volatile.Read(ref wasUrgent))
            {
                ProbeSum sum = await process.On("libc.so.6:*:entry").Count().EnableAsync();
                await sum.DisposeAsync();
            }
        }
        finally
        {
            Volatile.Write(ref isOver, true);
            observer.Join();
        }

        Assert.That(wasUrgent, Is.EqualTo(mayBeUrgent), $"{rounds} rounds");

        // In a hit it is as it was.
        int inHit = int.MinValue;
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", new ProbeOptions { OnHit = (in ProbeContext _) => inHit = ThreadNice.Own });
        WaitUntil(() => Volatile.Read(ref inHit) != int.MinValue, "a hit");
        int nice = Volatile.Read(ref inHit);
        await enabling.DisposeAsync();
        Assert.That(nice, Is.EqualTo(ThreadNice.Own));
        Assert.That(ThreadNice.OfAll().Values.Distinct(), Is.SubsetOf(before), "Nobody stays ahead.");
        target.SendLine("stop");
        target.ReadCount("hot");
        foreach (string task in Directory.GetDirectories($"/proc/{target.ProcessId}/task"))
        {
            Assert.That(ThreadNice.Read(task), Is.EqualTo(ThreadNice.Own), "The target is not touched.");
        }
    }

    private static string AllowedCpus(string directory) =>
        File.ReadLines($"{directory}/status").First(line => line.StartsWith("Cpus_allowed_list:", StringComparison.Ordinal)).Split('\t')[1];

    private static void Pin(int thread, int cpu) => Assert.That(LinuxPlatform.Instance.SetAffinity(thread, [cpu]), Is.EqualTo(Errno.None));
}

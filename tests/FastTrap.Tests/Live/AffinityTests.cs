using System.Globalization;
using FastTrap.Native;
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

    private static string AllowedCpus(string directory) =>
        File.ReadLines($"{directory}/status").First(line => line.StartsWith("Cpus_allowed_list:", StringComparison.Ordinal)).Split('\t')[1];

    private static void Pin(int thread, int cpu) => Assert.That(LinuxPlatform.Instance.SetAffinity(thread, [cpu]), Is.EqualTo(Errno.None));
}

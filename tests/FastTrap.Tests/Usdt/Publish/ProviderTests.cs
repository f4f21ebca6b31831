using System.Runtime.InteropServices;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Usdt.Publish;

/// <summary>What providers refuse, and their life, in this process.</summary>
[TestFixture, Parallelizable(ParallelScope.All)]
public sealed class ProviderTests
{
    [TestCase("")]
    [TestCase("a b")]
    [TestCase("a:b")]
    [TestCase("a*")]
    [TestCase("ä")]
    [TestCase("a\0b")]
    [TestCase("a\nb")]
    [TestCase("a/b")]
    [TestCase("1a")]
    [TestCase("pid")]
    [TestCase("a1", Description = "A process's id follows.")]
    public void ProviderNames_WhichNoToolCouldSay_AreRefused(string name) =>
        Assert.That(() => new UsdtProvider(name), Throws.InstanceOf<ArgumentException>().With.Property("ParamName").EqualTo("name"));

    [Test]
    public void Names_HaveALongestLength()
    {
        using UsdtProvider longest = new(new string('p', 53));
        longest.DefineProbe(new string('n', 63));
        longest.DefineProbe(new string('-', 31) + "x");
        Assert.Throws<ArgumentException>(() => longest.DefineProbe(new string('n', 64)));
        Assert.Throws<ArgumentException>(() => longest.DefineProbe(new string('-', 32)));
        Assert.Throws<ArgumentException>(() => new UsdtProvider(new string('p', 54)).Dispose());
    }

    [Test]
    public void ProbesOfOneName_AreRefused_AHyphenBeingTwoUnderscores()
    {
        using UsdtProvider provider = new("once");
        provider.DefineProbe("query-start");
        Assert.Throws<ArgumentException>(() => provider.DefineProbe<int>("query__start"));
        Assert.Throws<ArgumentException>(() => provider.DefineProbe("a:b"));
        Assert.Throws<ArgumentNullException>(() => provider.DefineProbe(null!));
    }

    [Test]
    public void TypesWithoutARegister_AreRefused()
    {
        using UsdtProvider provider = new("types");
        Assert.Throws<ArgumentException>(() => provider.DefineProbe<decimal>("a"));
        Assert.Throws<ArgumentException>(() => provider.DefineProbe<int, object>("a"));
        Assert.Throws<ArgumentException>(() => provider.DefineProbe<DayOfWeek>("a"));
        Assert.DoesNotThrow(() => provider.DefineProbe<string, nuint>("a"));
    }

    [Test]
    public void LifeOfAProvider()
    {
        UsdtProvider provider = new("life-of");
        Assert.Throws<InvalidOperationException>(() => provider.Publish());
        UsdtProbe<string, double> probe = provider.DefineProbe<string, double>("p");
        probe.Fire("not published", 1);
        Assert.That((probe.IsEnabled, provider.IsPublished, provider.ImagePath, probe.ToString()), Is.EqualTo((false, false, (string?)null, "life-of:p")));
        provider.Publish();
        Assert.That((probe.IsEnabled, provider.IsPublished), Is.EqualTo((false, true)));
        Assert.That(File.Exists(provider.ImagePath));
        Assert.Throws<InvalidOperationException>(() => provider.Publish());
        Assert.Throws<InvalidOperationException>(() => provider.DefineProbe("late"));
        probe.Fire("published", 2);
        provider.Dispose();
        provider.Dispose();
        probe.Fire("disposed", 3);
        Assert.That((probe.IsEnabled, provider.IsPublished, provider.ImagePath), Is.EqualTo((false, false, (string?)null)));
        Assert.Throws<ObjectDisposedException>(() => provider.DefineProbe("late"));
        Assert.Throws<ObjectDisposedException>(() => provider.Publish());
    }

    [Test]
    public void APathThatCannotBe_IsRefusedWithAReason_AndTheProviderCanStillBePublished()
    {
        using UsdtProvider provider = new("elsewhere");
        provider.DefineProbe("p");
        Assert.Throws<ArgumentException>(() => provider.Publish(" "));
        Assert.Throws<ArgumentException>(() => provider.Publish("/tmp/a\0b"));
        FastTrapException exists = Assert.Throws<FastTrapException>(() => provider.Publish("/proc/self/status"))!;
        Assert.That(exists.Message, Does.EndWith("give a path where no file is."));
        FastTrapException nowhere = Assert.Throws<FastTrapException>(() => provider.Publish("/nowhere/at/all.so"))!;
        Assert.That((nowhere.Error, nowhere.ErrorNumber), Is.EqualTo((FastTrapError.KernelRefused, 2)));
        provider.Publish();
        Assert.That(provider.IsPublished);
    }

    [Test]
    public void AnImage_IsNotTakenForOneThatHadItsNameBefore()
    {
        // Descriptors and paths are used again while the disposed provider's image is still loaded.
        using PrivateDirectory directory = new("names");
        string file = directory["probes.so"];
        List<UsdtProvider> kept = [];
        foreach (string? path in new[] { null, file })
        {
            List<int> lengths = [];
            for (int i = 0; i < 20; i++)
            {
                UsdtProvider provider = new($"again-{(char)('a' + i)}");
                for (int probe = 0; probe <= i; probe++)
                {
                    provider.DefineProbe($"p{probe}");
                }

                provider.Publish(path);
                lengths.Add(provider.ImagePath!.Length - (path ?? "").Length);
                nint library = NativeLibrary.Load(provider.ImagePath!);
                Assert.That(NativeLibrary.TryGetExport(library, $"again__{(char)('a' + i)}_p{i}", out _), $"{i} {provider.ImagePath}");
                NativeLibrary.Free(library);
                provider.Dispose();
                kept.Add(provider);
            }

            Assert.That(lengths.Max() - lengths.Min(), Is.LessThan(12), "the names of many are not much longer");
        }

        GC.KeepAlive(kept);
    }

    [Test]
    public void ManyThreads_PublishOneProvider_OneSucceeds()
    {
        using UsdtProvider provider = new("raced");
        UsdtProbe<int> probe = provider.DefineProbe<int>("p");
        int succeeded = 0;
        Parallel.For(0, 8, _ =>
        {
            try
            {
                provider.Publish();
                Interlocked.Increment(ref succeeded);
            }
            catch (InvalidOperationException)
            {
                probe.Fire(1);
            }
        });
        Assert.That(succeeded, Is.EqualTo(1));
    }

    [Test]
    public void DisposingWhileOthersFire_UnmapsNothingUnderThem()
    {
        // A use after unmapping would be a segmentation fault of the test process.
        for (int round = 0; round < 20; round++)
        {
            UsdtProvider provider = new("storm");
            UsdtProbe<long, string> probe = provider.DefineProbe<long, string>("p");
            using Barrier barrier = new(4);
            Thread[] threads = [.. Enumerable.Range(0, 3).Select(_ => new Thread(() =>
            {
                barrier.SignalAndWait();
                for (int i = 0; i < 20_000; i++)
                {
                    probe.Fire(i, "x");
                    Assert.That(probe.IsEnabled, Is.False);
                }
            }))];
            Array.ForEach(threads, thread => thread.Start());
            provider.Publish();
            barrier.SignalAndWait();
            provider.Dispose();
            GC.Collect();
            GC.WaitForPendingFinalizers();
            Array.ForEach(threads, thread => thread.Join());
        }
    }

    [Test, NonParallelizable]
    public void AnUnobservedProbe_AllocatesNothing()
    {
        using UsdtProvider provider = new("quiet");
        UsdtProbe<long, string> probe = provider.DefineProbe<long, string>("p");
        provider.Publish();
        probe.Fire(1, "warm");
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 10_000; i++)
        {
            probe.Fire(i, "text");
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }
}

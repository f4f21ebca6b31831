using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Functions that are not plainly in a file's symbol table: JIT code, the vdso, indirect functions, C++ names.</summary>
[TestFixture]
public sealed class ModuleTests : LiveTest
{
    [TestCase("[jit]:*Jit::first*:entry")]
    [TestCase("jit:*first*:return")]
    [TestCase("jit:*first*:*")]
    public async Task JitCodeIsProbedByItsPerfMapName(string description)
    {
        using TargetProcess target = TargetProcess.StartTarget("jit", null, ["200"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling first = await process.EnableAsync(description, CountOnly);
        target.SendLine("go");
        Assert.That(target.ReadCount("made"), Is.EqualTo(200));
        Assert.That(first.GetHitCount(first.Probes[0]), Is.EqualTo(200));
        target.SendLine("again");
        target.ReadLineStarting("again");
        ProbeEnabling second = await process.EnableAsync("jit:*second*:entry", CountOnly);
        target.SendLine("go");
        Assert.That(target.ReadCount("made"), Is.EqualTo(400));
        Assert.That((first.GetHitCount(first.Probes[0]), second.HitCount), Is.EqualTo((200L, 200L)));
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task VdsoIsProbed()
    {
        const string Script = "import time\nready()\nwait()\nfor i in range(500): time.clock_gettime(time.CLOCK_MONOTONIC)\nprint('done', flush=True)\nwait()\n";
        using TargetProcess target = RealPrograms.StartPython(Script);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling vdso = await process.EnableAsync("[vdso]:*clock_gettime:entry", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("done");
        await process.DisposeAsync();
        Assert.That(vdso.HitCount, Is.GreaterThanOrEqualTo(500));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), target.Errors);
    }

    [Test]
    public async Task IndirectFunctionIsProbedWhereItIsImplemented()
    {
        const string Script = "ready()\nwait()\nb = bytes(100000)\nfor i in range(300): bytearray(b)\nprint('done', flush=True)\nwait()\n";
        using TargetProcess target = RealPrograms.StartPython(Script);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling copy = await process.EnableAsync("libc.so.6:memcpy:entry", new ProbeOptions { Predicate = static (in ProbeContext c) => c.GetArgument(2) == 100000 });
        target.SendLine("go");
        target.ReadLineStarting("done");
        await process.DisposeAsync();
        Assert.That(copy.HitCount, Is.EqualTo(300));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), target.Errors);
    }

    [Test]
    public async Task CxxNamesMatchAsPeopleWriteThem()
    {
        using TargetProcess target = TargetProcess.StartTarget("threadedcpp", null, ["2", "5"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling cleaner = await process.EnableAsync("pid*:a.out:Cleaner::~Cleaner:entry", CountOnly);
        ProbeEnabling guarded = await process.EnableAsync("a.out:guarded(long):entry", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(cleaner.HitCount, Is.EqualTo(target.GetCount("~Cleaner")));
        Assert.That(guarded.HitCount, Is.EqualTo(target.GetCount("guarded")));
        Assert.That(guarded.Probes[0].DisplayFunction, Is.EqualTo("guarded(long)"));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task HitPathAllocatesNothing()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["4"]);

        // Following the target's CPU reads a file of /proc now and then, never more than once in a millisecond.
        await using Tracer tracer = new(new TracerOptions { Affinity = ControlThreadAffinity.Inherit });
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);
        long[] allocated = new long[5];
        ProbeOptions options = new()
        {
            Predicate = static (in ProbeContext c) => c.GetArgument(0) < ulong.MaxValue,
            OnHit = (in ProbeContext c) =>
            {
                // Reading the counter allocates nothing.
                long count = c.Enabling.HitCount;
                if (count % 1000 == 0 && count / 1000 <= allocated.Length)
                {
                    allocated[(count / 1000) - 1] = GC.GetAllocatedBytesForCurrentThread();
                }
            },
            Buffered = true,
            StackDepth = 4,
        };
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:*", options);
        target.SendLine("go 1000");
        target.ReadCount("hot");
        await enabling.DisposeAsync();
        Assert.That(enabling.HitCount, Is.GreaterThan(5000));

        // The first hits map a slot, and the runtime allocates now and then for code it compiles anew: what each hit allocated would be in every thousand.
        Assert.That(allocated.Zip(allocated.Skip(1), (earlier, later) => later - earlier), Has.Some.Zero);
    }
}

using System.Runtime.InteropServices;
using FastTrap.Control;
using FastTrap.Engine.Mechanisms;
using FastTrap.Native;
using FastTrap.Programs.Shared;
using FastTrap.Tests.Faults;
using FastTrap.Tests.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>Memory shared with a target: how it is mapped, by <c>/proc/PID/maps</c>, and that whatever fails on the way leaves nothing behind.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class SharedMemoryTests
{
    private const int MaximumCalls = 400;

    private static readonly SharedMemoryRequest s_data = new("fasttrap.data", 0x20000, IsCode: false, LaneLayout.GuardLength);

    /// <summary>What tests before left to the garbage collector, by inode.</summary>
    private static readonly HashSet<ulong> s_before = [];

    [SetUp]
    public void SetUp()
    {
        s_before.Clear();
        s_before.UnionWith(Regions(Environment.ProcessId).Where(r => r.Path.Contains("memfd:fasttrap.", StringComparison.Ordinal)).Select(r => r.Inode));
    }

    [Test]
    public async Task CodeIsNearTheModuleAndNeverWritableAndExecutable()
    {
        using TargetProcess target = TargetProcess.StartTarget("lanes");
        await using Tracer tracer = new();
        ProcessHandle handle = (await tracer.AttachAsync(target.ProcessId)).Handle;
        ulong libc = Regions(target.ProcessId).First(r => r.Path.Contains("libc", StringComparison.Ordinal)).Start;
        CodeRegion code = await SharedTarget.BorrowAsync(handle, task =>
        {
            Assert.That(CodeRegion.TryCreate(handle, task, libc, RemoteMemoryMap.NearReach, 2 * CodeRegion.Alignment, out CodeRegion? region, out SharedMemoryFailure failure), failure.ToString());
            return region!;
        });
        Assert.That(Math.Max(code.Address + (ulong)code.Length, libc) - Math.Min(code.Address, libc), Is.LessThan(1UL << 31));
        MemoryRegion there = Regions(target.ProcessId).Single(r => r.Path.Contains(CodeRegion.Name, StringComparison.Ordinal));
        Assert.That((there.Start, there.End, there.Access), Is.EqualTo((code.Address, code.Address + (ulong)code.Length, MemoryAccess.Read | MemoryAccess.Execute | MemoryAccess.Shared)));
        MemoryRegion here = Regions(Environment.ProcessId).Single(r => r.Path.Contains(CodeRegion.Name, StringComparison.Ordinal) && !s_before.Contains(r.Inode));
        Assert.That(here.Access, Is.EqualTo(MemoryAccess.Read | MemoryAccess.Write | MemoryAccess.Shared));
        Assert.That(Files(target.ProcessId), Is.Empty, "the target has closed it");

        byte[] written = [.. Enumerable.Range(0, 200).Select(i => (byte)i)];
        code.Write(code.Address + (ulong)code.Length - 200, written);
        byte[] seen = new byte[200];
        Assert.That(handle.Platform.ReadMemory(target.ProcessId, code.Address + (ulong)code.Length - 200, seen), Is.EqualTo(200));
        Assert.That(seen, Is.EqualTo(written));
        Assert.Throws<ArgumentOutOfRangeException>(() => code.Write(code.Address, written), "the header");
        Assert.Throws<ArgumentOutOfRangeException>(() => code.Write(code.Address + (ulong)code.Length - 199, written));

        Assert.That(await SharedTarget.BorrowAsync(handle, task => code.Remove(handle, task)), Is.EqualTo(Errno.None));
        code.Dispose();
        Assert.That(Ours(target.ProcessId).Concat(Ours(Environment.ProcessId)), Is.Empty);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task UnderSeccompNothingIsTried()
    {
        using TargetProcess target = TargetProcess.StartTarget("lanes");
        target.SendLine("seccomp");
        target.ReadLineStarting("done");
        await using Tracer tracer = new();
        ProcessHandle handle = (await tracer.AttachAsync(target.ProcessId)).Handle;
        (SharedMemoryFailure data, SharedMemoryFailure code) = await SharedTarget.BorrowAsync(handle, task =>
        {
            Assert.That(SharedRegion.TryCreate(handle, task, new LaneLayout(8), [], out _, out SharedMemoryFailure first), Is.False);
            Assert.That(CodeRegion.TryCreate(handle, task, 0x400000, RemoteMemoryMap.NearReach, CodeRegion.Alignment, out _, out SharedMemoryFailure second), Is.False);
            return (first, second);
        });
        Assert.That((data.Problem, code.Problem), Is.EqualTo((SharedMemoryProblem.Seccomp, SharedMemoryProblem.Seccomp)));
        Assert.That(data.Describe(), Does.Contain("seccomp"));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public void WithoutRoomNearbyItIsRefused() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("environment");
        Assert.That(Create(target, SpawnedTarget.Platform, s_data with { Near = 0x1000, Reach = 0x10000 }, out _).Problem, Is.EqualTo(SharedMemoryProblem.NoRoom));
        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
    });

    /// <summary>Each call of the platform fails in turn, as it might in life.</summary>
    [TestCase(false)]
    [TestCase(true)]
    public void WhateverFailsHalfWayNothingIsLeft(bool isCode) => SpawnedTarget.OnThread(() =>
    {
        (string Method, Errno Error)[] points =
        [
            (nameof(IPlatform.OpenMemory), Errno.EMFILE), (nameof(IPlatform.WriteCode), Errno.EIO), (nameof(IPlatform.MapMemoryFile), Errno.ENOMEM), (nameof(IPlatform.MapMemoryFile), Errno.EBADF),
            (nameof(IPlatform.ReadMemory), Errno.EFAULT), (nameof(IPlatform.ReadLink), Errno.EACCES), (nameof(IPlatform.ReadProcFile), Errno.EMFILE),
        ];
        SharedMemoryRequest request = isCode ? new SharedMemoryRequest("fasttrap.code", 0x10000, IsCode: true, 0, 0x4000_0000, RemoteMemoryMap.NearReach) : s_data;
        using SpawnedTarget target = new("environment");

        // The first call takes it out of the exec stop, in which its registers are those of the kernel.
        RemoteSystemCall.Invoke(SpawnedTarget.Platform, target.Remote(), SystemCallNumbers.Of(RuntimeInformation.ProcessArchitecture).GetPid, [], []);
        RegisterSet before = target.Registers();
        Dictionary<SharedMemoryProblem, int> problems = [];
        foreach ((string method, Errno error) in points)
        {
            foreach (FaultKind kind in method == nameof(IPlatform.WriteCode) ? new[] { FaultKind.Error, FaultKind.Short } : [FaultKind.Error])
            {
                for (int call = 1; call <= MaximumCalls; call++)
                {
                    FaultyPlatform platform = new();
                    platform.Set(new Fault(method, kind, error, call), target.Pid);
                    SharedMemoryFailure failure = Create(target, platform, request, out SharedMemory? memory);
                    platform.Set(null, 0);
                    if (!platform.IsReached)
                    {
                        Assert.That(failure.Problem, Is.EqualTo(SharedMemoryProblem.None));
                        Assert.That(call, Is.GreaterThan(1).Or.EqualTo(method == nameof(IPlatform.ReadProcFile) ? 1 : 0), $"{method} is not called");
                        memory!.Dispose();
                        RemoteUnmap(target, request);
                        break;
                    }

                    problems[failure.Problem] = problems.GetValueOrDefault(failure.Problem) + 1;
                    if (failure.Problem == SharedMemoryProblem.None)
                    {
                        // What failed was not needed, or was done again.
                        memory!.Dispose();
                        RemoteUnmap(target, request);
                    }

                    Assert.That(failure.LeftLength, Is.Zero, $"{method} {call}: {failure}");
                    Assert.That(Ours(target.Pid).Concat(Ours(Environment.ProcessId)), Is.Empty, $"{method} {call}: {failure}");
                    Assert.That(Files(target.Pid), Is.Empty, $"{method} {call}: {failure}");
                    Assert.That(target.Registers().Words.ToArray(), Is.EqualTo(before.Words.ToArray()), $"{method} {call}");
                }
            }
        }

        TestContext.Out.WriteLine(string.Join(", ", problems.Select(p => $"{p.Key} {p.Value}")));
        Assert.That(problems.Keys, Is.SupersetOf(new[] { SharedMemoryProblem.NotMappedHere, SharedMemoryProblem.NotShared, SharedMemoryProblem.NotMappedThere, SharedMemoryProblem.NoFile }));
        Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
    });

    [Test]
    public void DeathOnTheWayIsReported() => SpawnedTarget.OnThread(() =>
    {
        for (int call = 1; call <= 30; call += 3)
        {
            using SpawnedTarget target = new("environment");
            FaultyPlatform platform = new();
            platform.Set(new Fault(nameof(IPlatform.ContinueToSystemCall), FaultKind.KillBefore, Errno.None, call), target.Pid);
            SharedMemoryFailure failure = Create(target, platform, s_data, out SharedMemory? memory);
            if (platform.IsReached)
            {
                Assert.That((failure.Problem, memory), Is.EqualTo((SharedMemoryProblem.ThreadEnded, (SharedMemory?)null)), $"{call}");
            }
            else
            {
                Assert.That(call, Is.GreaterThan(6));
                memory!.Dispose();
            }

            platform.Set(null, 0);
        }

        Assert.That(Ours(Environment.ProcessId), Is.Empty);
    });

    private static SharedMemoryFailure Create(SpawnedTarget target, IPlatform platform, in SharedMemoryRequest request, out SharedMemory? memory) =>
        RemoteSharedMemory.Create(platform, target.Remote(), request, "0123456789abcdef"u8, [], out _, out memory, out _);

    private static void RemoteUnmap(SpawnedTarget target, SharedMemoryRequest request)
    {
        MemoryRegion region = Regions(target.Pid).Single(r => r.Path.Contains(request.Name, StringComparison.Ordinal));
        Assert.That(RemoteMemoryMap.Unmap(SpawnedTarget.Platform, target.Remote(), region.Start, request.TargetLength, [], out _), Is.EqualTo(Errno.None));
    }

    private static List<MemoryRegion> Regions(int processId)
    {
        Assert.That(ProcMaps.TryRead(LinuxPlatform.Instance, processId, out List<MemoryRegion> regions, out _));
        return regions;
    }

    /// <summary>What of ours is mapped: the files, and the reservation, which is private, has no name and may only be read.</summary>
    private static IEnumerable<string> Ours(int processId) =>
        Regions(processId).Where(r => (r.Path.Contains("memfd:fasttrap.", StringComparison.Ordinal) && !(processId == Environment.ProcessId && s_before.Contains(r.Inode))) || (processId != Environment.ProcessId && r.Path.Length == 0 && r.Access == MemoryAccess.Read))
            .Select(r => r.ToString());

    private static IEnumerable<string> Files(int processId) =>
        Directory.GetFiles($"/proc/{processId}/fd").Select(f => new FileInfo(f).LinkTarget ?? "").Where(l => l.Contains("memfd", StringComparison.Ordinal));
}

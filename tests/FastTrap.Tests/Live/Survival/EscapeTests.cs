using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Native;
using FastTrap.Tests.Faults;
using FastTrap.Tests.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>A tracer dies between any two of its requests while a thread of the target makes a system call for it: the thread goes on as if nothing had been.</summary>
[TestFixture]
public sealed class EscapeTests : LiveTest
{
    private static readonly SystemCallNumbers s_numbers = SystemCallNumbers.Of(RuntimeInformation.ProcessArchitecture);

    [TestCase("")]
    [TestCase("-static")]
    public void EveryThreadComesBackFromARemoteCallWhenTheTracerDies(string flags)
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor", new TargetVariant(Flags: flags));
        Assert.That(EscapeRoute.TryFind(LinuxPlatform.Instance, target.ProcessId, out EscapeRoute route), Is.True);
        int[] threads = [.. Directory.GetDirectories($"/proc/{target.ProcessId}/task").Select(d => int.Parse(Path.GetFileName(d), CultureInfo.InvariantCulture))];
        int[] deaths = new int[threads.Length];
        for (int i = 0; i < threads.Length; i++)
        {
            ulong mask = ReadMask(target.ProcessId, threads[i]);
            int calls = 1;
            while (Dies(target.ProcessId, threads[i], route, calls))
            {
                Assert.That(target.ReadState(), Is.Not.Null.And.Not.EqualTo('Z'), $"dead after {calls} requests");
                calls++;
                deaths[i]++;
            }

            Assert.That(ReadMask(target.ProcessId, threads[i]), Is.EqualTo(mask));
            target.SendLine("phase");
            target.ReadLineStarting("phase ");
        }

        TestContext.Out.WriteLine($"deaths: {string.Join(' ', deaths)}");
        Assert.That(deaths, Is.All.GreaterThan(15));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    /// <summary>False if it lived to the end of the call.</summary>
    private static bool Dies(int processId, int threadId, EscapeRoute route, int calls)
    {
        bool dies = false;
        SpawnedTarget.OnThread(() =>
        {
            FaultyPlatform platform = new();
            Assert.That(platform.Seize(threadId, PtraceOptions.TraceSysGood), Is.EqualTo(Errno.None));
            Assert.That(platform.Interrupt(threadId), Is.EqualTo(Errno.None));
            Assert.That(platform.Wait(threadId, block: true, out WaitStatus status), Is.EqualTo(threadId));
            Assert.That(status.Event is PtraceEvent.Stop or PtraceEvent.None, Is.True);
            RemoteThread thread = new(processId, threadId, RuntimeInformation.ProcessArchitecture, route.CallAddress, route);
            try
            {
                platform.DieAfter(calls);
                List<SignalInfo> held = [];
                RemoteResult result = RemoteSystemCall.Invoke(platform, in thread, s_numbers.GetPid, [], held);
                platform.DieAfter(0);
                Assert.That((result.Error, result.Value), Is.EqualTo((Errno.None, (long)processId)));
            }
            catch (OperationCanceledException)
            {
                // The end of this thread is the end of the tracer for the kernel.
                dies = true;
            }
        });
        WaitUntil(() => ReadStatus(processId, threadId, "TracerPid") == "0", "the kernel lets go of the thread");
        return dies;
    }

    private static ulong ReadMask(int processId, int threadId) => ulong.Parse(ReadStatus(processId, threadId, "SigBlk"), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static string ReadStatus(int processId, int threadId, string name) =>
        File.ReadLines($"/proc/{processId}/task/{threadId}/status").First(l => l.StartsWith(name + ":", StringComparison.Ordinal))[(name.Length + 1)..].Trim();
}

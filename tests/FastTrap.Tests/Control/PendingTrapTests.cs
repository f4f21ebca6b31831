using System.Runtime.InteropServices;
using FastTrap.Control;
using FastTrap.Native;
using FastTrap.Tests.Symbols;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Control;

/// <summary>Which threads have executed a trap, by what the kernel tells of them: one that has not, and is not moved out of a window, executes the middle of a jump.</summary>
[TestFixture, Parallelizable]
public sealed class PendingTrapTests
{
    private const int ThreadId = 4711;

    [TestCase("0000000000000010", "0000000000000000", -1, true, TestName = "ATrapThatWaits")]
    [TestCase("0000000000000000", "0000000000000000", -1, false, TestName = "NothingWaits")]
    [TestCase("0000000000000800", "0000000000000000", -1, false, TestName = "AnotherSignalWaits")]
    [TestCase("0000000000000010", "0000000000000010", -1, false, TestName = "ASignalWasSentToAThreadThatBlocksIt")]
    [TestCase("0000000000000010", "0000000000000000", 230, false, TestName = "ASignalWasSentToAThreadInASystemCall")]
    public void IsBehindATrap(string pending, string blocked, int systemCall, bool expected)
    {
        using PrivateDirectory directory = new("pending");
        File.WriteAllText(directory["status"], $"Name:\tx\nState:\tt (tracing stop)\nSigPnd:\t{pending}\nShdPnd:\t0000000000000010\nSigBlk:\t{blocked}\n");
        FilePlatform platform = new() { Redirects = { [$"/proc/{ThreadId}/status"] = directory["status"] } };
        RegisterSet registers = new(Architecture.X64);
        registers[X64Register.OrigRax] = unchecked((ulong)systemCall);
        Assert.That(PendingTrap.IsBehind(platform, ThreadId, in registers), Is.EqualTo(expected));
    }
}

using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Texts and user stacks in records, by code in the target and by the tracer: the same.</summary>
[TestFixture]
public sealed class JumpRecordTests : LiveTest
{
    private const int Rounds = 20;

    [Test]
    public async Task StacksAreThoseThatTheTracerWalks()
    {
        using TargetProcess target = TargetProcess.StartTarget("latencies", new TargetVariant(Optimization: 0, Flags: "-pthread"), ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        foreach (string name in (string[])["a.out:timed_leaf:entry", "a.out:timed_leaf:return"])
        {
            Dictionary<string, int> byTracer = await StacksAsync(process, target, name, ProbeMechanism.Breakpoint);
            Dictionary<string, int> byCode = await StacksAsync(process, target, name, ProbeMechanism.Jump);
            Assert.That(byCode, Is.EquivalentTo(byTracer));
            Assert.That(byCode.Keys.Max(k => k.Split(' ').Length), Is.EqualTo(12), "recursions are deeper than what was asked for");
        }

        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task TextsAreThoseThatWereWritten()
    {
        using TargetProcess target = TargetProcess.StartTarget("execs", null, ["1"]);
        target.SendLine("leader");
        target.ReadLineStarting("second ");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var written = await process.On("libc.so.6:write:entry").WithMechanism(ProbeMechanism.Jump)
            .Record(c => new { Text = c.ReadString(c.Arg(1), 7), Bad = c.ReadString(c.Arg(0), 100), Stack = c.Stack(2), Length = c.Arg(2) }).EnableAsync();
        Assert.That(written.Mechanisms.Jump, Is.EqualTo(1));
        target.SendAndReadCount("go 20", "hot");
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(7, 0)), string.Join('\n', target.Lines));
        List<string?> texts = [];
        await foreach (var record in written.ReadAllAsync())
        {
            Assert.That((record.IsComplete, record.Value.Bad, record.Value.Stack.Length), Is.EqualTo((false, (string?)null, 2)));
            texts.Add(record.Value.Text![..Math.Min(7, (int)record.Value.Length)]);
        }

        Assert.That(texts, Is.EqualTo(new[] { "count h", "exit 7\n" }));
    }

    private static async Task<Dictionary<string, int>> StacksAsync(TracedProcess process, TargetProcess target, string name, ProbeMechanism mechanism)
    {
        var records = await process.On(name).WithMechanism(mechanism).Record(c => new { Stack = c.Stack(12), c.ThreadId }).EnableAsync();
        Assert.That(records.Mechanisms.Jump, Is.EqualTo(mechanism == ProbeMechanism.Jump ? 1 : 0), string.Join("; ", records.Mechanisms.Reasons.Keys));
        target.SendLine($"go {Rounds}");
        target.ReadLineStarting("enter ");
        await records.DisposeAsync();
        Dictionary<string, int> stacks = [];
        await foreach (var record in records.ReadAllAsync())
        {
            string stack = string.Join(' ', record.Value.Stack.Select(f => $"{f:x}"));
            stacks[stack] = stacks.GetValueOrDefault(stack) + 1;
        }

        return stacks;
    }
}

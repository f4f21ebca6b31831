using System.Text.Json;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Tool;

/// <summary>The command line tool as its users meet it: a process with a command line, two streams and an exit code.</summary>
[TestFixture, NonParallelizable]
public sealed class ToolTests
{
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(1);

    [Test]
    public void CountOfACommandIsItsTruthAndItsExitCodeIsPassedOn()
    {
        using PrivateDirectory directory = new("tool");
        string target = TargetBuilder.Build("calls");
        Dictionary<string, string> environment = new() { ["TARGET_NOWAIT"] = "1" };
        CommandResult result = Command.Run(
            Tool, ["count", "--json", "-o", directory["counts"], "-c", $"'{target}' 4 100 37", "a.out:args*:entry", "a.out:recurse:return"], s_timeout, environment);
        Assert.That(result.ExitCode, Is.EqualTo(37), result.Error);
        Dictionary<string, long> truth = result.Output.Split('\n').Where(line => line.StartsWith("count ", StringComparison.Ordinal))
            .Select(line => line.Split(' ')).ToDictionary(words => words[1], words => long.Parse(words[2]));
        Dictionary<string, long> counts = File.ReadAllLines(directory["counts"]).Select(line => JsonDocument.Parse(line).RootElement)
            .ToDictionary(row => row.GetProperty("probe").GetString()!.Split(':')[2], row => row.GetProperty("count").GetInt64());
        Assert.That(counts, Has.Count.EqualTo(12));
        foreach ((string function, long count) in counts)
        {
            Assert.That(count, Is.EqualTo(truth[function]), function);
        }
    }

    [TestCase("auto", "jump")]
    [TestCase("jump", "jump")]
    [TestCase("breakpoint", "breakpoint")]
    public void CountByAMechanismIsTheTruthAndSaysWhatItCost(string mechanism, string had)
    {
        using PrivateDirectory directory = new("tool");
        string target = TargetBuilder.Build("calls");
        Dictionary<string, string> environment = new() { ["TARGET_NOWAIT"] = "1" };
        CommandResult result = Command.Run(
            Tool, ["count", "--json", "-v", "--mechanism", mechanism, "-o", directory["counts"], "-c", $"'{target}' 4 100 37", "a.out:recurse:entry"], s_timeout, environment);
        Assert.That(result.ExitCode, Is.EqualTo(37), result.Error);
        long truth = long.Parse(result.Output.Split('\n').Single(line => line.StartsWith("count recurse ", StringComparison.Ordinal)).Split(' ')[2]);
        JsonElement row = JsonDocument.Parse(File.ReadAllText(directory["counts"])).RootElement;
        Assert.That(row.GetProperty("count").GetInt64(), Is.EqualTo(truth));
        Assert.That(row.GetProperty("probe").GetString(), Does.EndWith(":recurse:entry"));
        Assert.That(result.Error, Does.Contain($"fasttrap: 1 instruction by {had}, {truth} hits\n"));
        Assert.That(result.Error, Does.Match(had == "jump" ? "a hit costs by jump [0-9.]+ ns predicted" : "a hit costs by breakpoint [0-9.]+ [num]?s predicted, [0-9.]+ [num]?s measured"));
    }

    [Test]
    public void SigtermPrintsWhatWasGatheredAndTheTargetGoesOn()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        
        // By breakpoints all stand at one moment, which can be waited for.
        using TargetProcess tool = TargetProcess.Start(Tool, ["trace", "--json", "--mechanism", "breakpoint", "-p", $"{target.ProcessId}", "a.out:hot:entry", "a.out:hot:return"]);
        TextCheck.WaitForProbes(target, tool);

        Assert.That(target.SendAndReadCount("go 5", "hot"), Is.EqualTo(10));
        for (int i = 0; i < 20; i++)
        {
            JsonElement hit = JsonDocument.Parse(tool.ReadLine()!).RootElement;
            Assert.That(hit.GetProperty("timeNs").GetInt64(), Is.Positive);
            Assert.That(hit.TryGetProperty("returnValue", out _), Is.EqualTo(hit.GetProperty("probe").GetString()!.EndsWith(":return", StringComparison.Ordinal)));
        }

        tool.Signal(Posix.SIGTERM);
        Assert.That(tool.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => tool.Errors);
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(target.SendAndReadCount("go 3", "hot"), Is.EqualTo(6));
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public void CleanRemovesWhatAKilledToolHasLeft()
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        using TargetProcess tool = TargetProcess.Start(Tool, ["count", "--mechanism", "jump", "-p", $"{target.ProcessId}", "a.out:plain:entry", "a.out:mix:entry"]);
        TextCheck.WaitForProbes(target, tool);
        KillTests.AssertGoesOn(target);
        Assert.That(tool.Signal(9), Is.True, () => tool.Errors);
        Assert.That(tool.WaitForExit(), Is.EqualTo(new TargetExit(0, 9)));
        Assert.That(TextCheck.Compare(target.ProcessId), Is.Not.Empty);
        KillTests.AssertGoesOn(target);
        CommandResult clean = Command.Run(Tool, ["clean", "-p", $"{target.ProcessId}"], s_timeout);
        Assert.That(clean.ExitCode, Is.Zero, clean.Error);
        Assert.That(clean.Output, Does.Match($"^{target.ProcessId}: [1-9][0-9]* probes and [1-9][0-9]* mappings of process {tool.ProcessId} removed\n$"));
        KillTests.AssertClean(target);
        KillTests.AssertGoesOn(target);
        clean = Command.Run(Tool, ["clean", "-p", $"{target.ProcessId}"], s_timeout);
        Assert.That((clean.ExitCode, clean.Output), Is.EqualTo((0, $"{target.ProcessId}: nothing was left in it\n")), clean.Error);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    /// <summary>Entries and returns come by two queries, from several threads; by jumps they come later than they are, by breakpoints at once.</summary>
    [TestCase("auto", true)]
    [TestCase("breakpoint", true)]
    [TestCase("jump", false)]
    public void TraceIsInTheOrderOfTimes(string mechanism, bool withReturns)
    {
        const int Calls = 2000;
        using PrivateDirectory directory = new("tool");
        string[] descriptions = withReturns ? ["a.out:hot:entry", "a.out:hot:return"] : ["a.out:hot:entry"];
        using TargetProcess tool = TargetProcess.Start(
            Tool, ["trace", "--json", "--mechanism", mechanism, "--args", "1", "-o", directory["trace"], "-c", $"'{TargetBuilder.Build("threads")}' 2", .. descriptions]);
        Assert.That(tool.SendAndReadCount($"go {Calls}", "hot"), Is.EqualTo(2 * Calls));
        tool.SendLine("quit");
        Assert.That(tool.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => tool.Errors);
        Assert.That(tool.Errors, Does.Not.Contain("lost").And.Contain($"by {(mechanism == "auto" ? "jump" : mechanism)} "));
        JsonElement[] hits = [.. File.ReadAllLines(directory["trace"]).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.That(hits.Select(hit => hit.GetProperty("timeNs").GetInt64()), Is.Ordered);
        ILookup<int, JsonElement> threads = hits.ToLookup(hit => hit.GetProperty("tid").GetInt32());
        Assert.That(threads, Has.Count.EqualTo(2));
        foreach (IGrouping<int, JsonElement> thread in threads)
        {
            // Two within the resolution of the processor's counter have the same time, and no order.
            Assert.That(
                thread.Select(hit => (Time: hit.GetProperty("timeNs").GetInt64(), Number: hit.TryGetProperty("args", out JsonElement args) ? 2 * args[0].GetInt32() : hit.GetProperty("returnValue").GetInt32()))
                    .OrderBy(hit => hit.Time).ThenBy(hit => hit.Number).Select(hit => hit.Number),
                Is.EqualTo(Enumerable.Range(0, 2 * Calls).Where(i => withReturns || i % 2 == 0)));
        }
    }

    /// <summary>What every instruction of a large part of libc needs takes a while.</summary>
    [Test]
    public void AnInterruptWhileEnablingIsToldAsOne()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        using TargetProcess tool = TargetProcess.Start(Tool, ["count", "--mechanism", "breakpoint", "-p", $"{target.ProcessId}", "libc.so.6:[a-h]*:*", "libc.so.6:[a-h]*:return", "libc.so.6:*:entry"]);
        while (tool.Exit is null && !tool.Errors.Contains("enabling probes", StringComparison.Ordinal))
        {
            tool.TryWaitForExit(TimeSpan.FromMilliseconds(10));
        }

        tool.Signal(Posix.SIGINT);
        TargetExit exit = tool.WaitForExit();
        Assert.That(exit.Signal, Is.Zero);
        Assert.That(exit.Code, Is.Zero.Or.EqualTo(1));
        Assert.That(tool.Errors, Does.Not.Contain("detached").And.Contain(exit.Code == 1 ? "interrupted before the probes were enabled" : "hit"));
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public void ListAndCountSayTheSameOfWhatIsNotThere()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        string[] of = ["-p", $"{target.ProcessId}", "libnothing.so:hot:entry"];
        CommandResult list = Command.Run(Tool, ["list", .. of], s_timeout);
        CommandResult count = Command.Run(Tool, ["count", .. of], s_timeout);
        Assert.That((list.ExitCode, count.ExitCode), Is.EqualTo((1, 1)));
        Assert.That(list.Error, Is.EqualTo(count.Error).And.Contain("no module 'libnothing.so' is loaded").And.Contain("fasttrap -f"));
    }

    [Test]
    public void StaticProbesAreListedAndTracedWithTheirArguments()
    {
        CommandResult list = Command.Run(Tool, ["list", TargetBuilder.Build("usdt"), "fasttrap_test:::constants"], s_timeout);
        Assert.That(list.Output, Does.Match("^[0-9a-f]{16}  fasttrap_test:usdt:constants:constants  \\(arg0: int32 signed @ -5, arg1: int64 unsigned @ "), list.Error);
        using TargetProcess target = TargetProcess.StartTarget("usdt");

        // By breakpoints all stand at one moment, which can be waited for.
        using TargetProcess tool = TargetProcess.Start(
            Tool, ["trace", "--mechanism", "breakpoint", "-p", $"{target.ProcessId}", "fasttrap_test*:::strings", "fasttrap_test*:::floats", "fasttrap_test*:::unreadable"]);
        TextCheck.WaitForProbes(target, tool);

        target.SendLine("args 2");
        target.ReadLineStarting("checksum");
        string[] lines = [.. Enumerable.Range(0, 6).Select(_ => tool.ReadLine()!.Split("usdt:")[1])];
        Assert.That(lines, Is.EqualTo(new[]
        {
            "floats:floats(-3, -1, 9, -3, -3)", "strings:strings(\"first text\", 0)", "unreadable:unreadable(?, ?, ?, ?, 0, ?)",
            "floats:floats(-1.75, -0.875, 3.0625, -2.625, -1.75)", lines[4], "unreadable:unreadable(?, ?, ?, ?, 1, ?)",
        }));
        Assert.That(lines[4], Does.Match("^strings:strings\\(0x[0-9a-f]+, 1\\)$"), "an empty text is shown as its address");
        tool.Signal(Posix.SIGTERM);
        Assert.That(tool.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => tool.Errors);
        TextCheck.AssertClean(target.ProcessId);
    }

    /// <summary>The program says what its probes have; those whose operands are all in registers are jumps, unless asked otherwise, and those whose memory must be read are if asked.</summary>
    [TestCase("auto")]
    [TestCase("jump")]
    [TestCase("breakpoint")]
    public void StaticProbesHaveTheirArgumentsByEachMechanism(string mechanism)
    {
        const int Rounds = 3;
        string[] inRegisters = ["sizes-of-registers", "names-of-parts", "names-without-size", "names-narrow", "constants"];
        string[] inMemory = ["sizes-in-memory", "addresses-indexed", "addresses-scaled", "addresses-global", "segments", "floats", "elsewhere"];
        using PrivateDirectory directory = new("tool");
        using TargetProcess tool = TargetProcess.Start(
            Tool,
            [
                "trace", "-v", "--json", "--args", "12", "--mechanism", mechanism, "-o", directory["trace"], "-c", $"'{TargetBuilder.Build("usdt")}'",
                "fasttrap_test*:::sizes-*", "fasttrap_test*:::strings", "fasttrap_test*:::unreadable",
                .. inRegisters.Concat(inMemory).Where(name => !name.StartsWith("sizes", StringComparison.Ordinal)).Select(name => $"fasttrap_test*:::{name}"),
            ]);
        tool.SendLine($"args {Rounds}");
        tool.ReadLineStarting("checksum");
        tool.SendLine("quit");
        Assert.That(tool.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => tool.Errors);
        ILookup<string, JsonElement> hits = File.ReadAllLines(directory["trace"]).Select(line => JsonDocument.Parse(line).RootElement)
            .ToLookup(hit => hit.GetProperty("probe").GetString()!.Split(':')[3]);
        foreach (string name in inRegisters.Concat(inMemory))
        {
            Assert.That(
                hits[name].Select(hit => string.Join(' ', hit.GetProperty("args").EnumerateArray().Select(argument => name == "floats" ? Bits(argument) : Hexadecimal(argument)))),
                Is.EqualTo(tool.Lines.Where(line => line.StartsWith($"hit {name} ", StringComparison.Ordinal)).Select(line => line.Split(' ', 3)[2])), name);
            Assert.That(hits[name].Count(), Is.EqualTo(Rounds), name);
        }

        Assert.That(hits["strings"].Select(hit => hit.GetProperty("texts")[0].GetString() ?? ""), Is.EqualTo(tool.Lines.Where(line => line.StartsWith("text ", StringComparison.Ordinal)).Select(line => line[5..])));
        Assert.That(
            hits["unreadable"].Select(hit => string.Join(' ', hit.GetProperty("args").EnumerateArray().Select(argument => argument.ValueKind == JsonValueKind.Null ? "?" : Hexadecimal(argument)))),
            Is.EqualTo(Enumerable.Range(0, Rounds).Select(i => $"? ? ? ? {i} ? ?")));
        string cost = tool.Errors.Split('\n').Single(line => line.Contains("a hit costs", StringComparison.Ordinal));
        Assert.That(cost.Contains("by jump", StringComparison.Ordinal), Is.EqualTo(mechanism != "breakpoint"), cost);
        if (mechanism == "auto")
        {
            // Left to themselves "unreadable" and "strings", which has a null pointer, become breakpoints when a load has faulted, before the end or not.
            string[] stops = [.. tool.Errors.Split('\n').Where(line => line.Contains(" by breakpoint, ", StringComparison.Ordinal))];
            Assert.That(stops, Is.Empty.Or.All.Matches("^fasttrap: (1 instruction|2 instructions) by "), tool.Errors);
        }
        else
        {
            Assert.That(cost.Contains("by breakpoint", StringComparison.Ordinal), Is.EqualTo(mechanism == "breakpoint"), cost);
        }

        // As the program prints them: floating-point numbers by their bits.
        static string Bits(JsonElement argument) => $"{BitConverter.DoubleToUInt64Bits(argument.GetDouble()):x}";

        static string Hexadecimal(JsonElement argument) => argument.TryGetUInt64(out ulong positive) ? $"{positive:x}" : $"{argument.GetInt64():x}";
    }

    [Test]
    public void ListOfAFileNeedsNoProcess()
    {
        CommandResult result = Command.Run(Tool, ["list", TargetBuilder.Build("calls"), ":recurse:entry"], s_timeout);
        Assert.That(result.ExitCode, Is.Zero, result.Error);
        ulong address = ElfTools.Function(TargetBuilder.Build("calls"), "recurse").Address;
        Assert.That(result.Output, Is.EqualTo($"{address:x16}  pid:calls:recurse:entry\n"));
    }

    [Test]
    public void ResultsGoBehindWhatAFileHoldsAlready()
    {
        string target = TargetBuilder.Build("calls");
        string command = $"echo before; '{Tool}' list '{target}' :recurse:entry; '{Tool}' list '{target}' :main:entry; echo after";
        CommandResult result = Command.Run("/bin/sh", ["-c", command], s_timeout);
        Assert.That(
            result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split("  ")[^1]),
            Is.EqualTo(new[] { "before", "pid:calls:recurse:entry", "pid:calls:main:entry", "after" }), result.Error);
    }

    [Test]
    public void FollowSeesChildrenAndWhatTheyExecute()
    {
        using PrivateDirectory directory = new("tool");
        const string Command3 = "/bin/sh -c '/bin/echo a; /bin/echo b; exit 3'";
        CommandResult trace = Command.Run(
            Tool, ["trace", "-f", "--json", "-o", directory["trace"], "-c", Command3, "libc.so.6:_exit:entry", "libc.so.6:_exi?:entry"], s_timeout);
        Assert.That((trace.ExitCode, trace.Output), Is.EqualTo((3, "a\nb\n")), trace.Error);
        JsonElement[] hits = [.. File.ReadAllLines(directory["trace"]).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.That(hits.Select(hit => hit.GetProperty("pid").GetInt32()).Distinct().Count(), Is.EqualTo(3));
        Assert.That(hits, Has.Length.EqualTo(3), "each hit once, though both descriptions match");
        Assert.That(trace.Error, Does.Not.Contain("executed another program"));
        CommandResult count = Command.Run(Tool, ["count", "-f", "-o", directory["count"], "-c", Command3, "libc.so.6:_exit:entry"], s_timeout);
        Assert.That((count.ExitCode, File.ReadAllText(directory["count"])), Is.EqualTo((3, "           3  pid:libc.so.6:_exit:entry\n")), count.Error);
        Assert.That(Command.Run(Tool, ["list", "-f", "-p", "1"], s_timeout).ExitCode, Is.EqualTo(2));
    }

    [Test]
    public void FollowIncludesTheDescendantsOfARunningProcess()
    {
        using PrivateDirectory directory = new("tool");
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        target.SendLine("inner");
        using TargetProcess tool = TargetProcess.Start(Tool, ["count", "-f", "-o", directory["count"], "-p", $"{target.ProcessId}", "fasttrap_test*:::guarded"]);
        TextCheck.WaitForProbes(target, tool);
        while (target.SendAndReadCount("semaphores", "semaphore") == 0 && tool.Exit is null)
        {
            // The child takes the commands; it is probed after its parent.
            tool.TryWaitForExit(TimeSpan.FromMilliseconds(10));
        }

        Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.EqualTo(1));
        Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.EqualTo(10));
        tool.Signal(Posix.SIGTERM);
        Assert.That(tool.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => tool.Errors);
        Assert.That(File.ReadAllText(directory["count"]), Is.EqualTo("          10  fasttrap_test:usdt:guarded:guarded\n"));
        Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.Zero);
        target.SendLine("quit");
        Assert.That(target.ReadCount("inner"), Is.Zero);
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public void FollowOfOnesOwnShellLeavesTheToolOut()
    {
        CommandResult result = Command.Run("/bin/sh", ["-c", $"'{Tool}' count -f -d 0.1 -p $$ libc.so.6:nosuch:entry; echo code $?"], s_timeout);
        Assert.That(result.Output, Is.EqualTo("code 0\n"), result.Error);
    }

    [Test]
    public void OfSeveralProcessesOneThatDoesNotExistIsLeftOut()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        CommandResult result = Command.Run(Tool, ["count", "--all", "-d", "0.1", "-p", "2147483647", "-p", $"{target.ProcessId}", "a.out:hot:entry"], s_timeout);
        Assert.That(result.ExitCode, Is.Zero, result.Error);
        Assert.That(result.Error, Does.Contain("left out").And.Contain("2147483647"));
        Assert.That(result.Output, Does.Contain($"pid{target.ProcessId}:threads:hot:entry"));
    }

    [TestCase("latency")]
    [TestCase("stack")]
    public void ACallThatSeveralDescriptionsMatchCountsOnce(string verb)
    {
        string target = TargetBuilder.Build("calls");
        Dictionary<string, string> environment = new() { ["TARGET_NOWAIT"] = "1" };
        using PrivateDirectory directory = new("tool");
        long Count(params string[] descriptions)
        {
            string path = directory["counts"];
            CommandResult result = Command.Run(Tool, [verb, "--json", "-o", path, "-c", $"'{target}' 4 100 37", .. descriptions], s_timeout, environment);
            Assert.That(result.ExitCode, Is.EqualTo(37), result.Error);
            return File.ReadAllLines(path).Sum(line => JsonDocument.Parse(line).RootElement.GetProperty("count").GetInt64());
        }

        long once = Count("a.out:recurse:entry");
        Assert.That(once, Is.Positive);
        Assert.That(Count("a.out:recurse:entry", "a.out:recurs?:entry"), Is.EqualTo(once));
    }

    [Test]
    public void AFunctionsNameAloneIsToldHowToBeWritten()
    {
        CommandResult result = Command.Run(Tool, ["count", "-c", "/bin/sh -c 'exit 3'", "malloc"], s_timeout);
        Assert.That(result.ExitCode, Is.EqualTo(1));
        Assert.That(result.Error, Does.Contain("'malloc:entry'"));
    }

    [Test]
    public void AProgramThatExecutesAnotherIsToldOf()
    {
        CommandResult result = Command.Run(Tool, ["count", "-c", "/bin/sh -c 'exec /bin/sh -c \"exit 3\"'", "libc.so.6:*alloc:entry"], s_timeout);
        Assert.That(result.ExitCode, Is.EqualTo(3), result.Error);
        Assert.That(result.Error, Does.Contain("executed another program"));
        result = Command.Run(Tool, ["count", "-c", "/bin/sh -c 'exit 3'", "libc.so.6:*alloc:entry"], s_timeout);
        Assert.That(result.ExitCode, Is.EqualTo(3), result.Error);
        Assert.That(result.Error, Does.Not.Contain("executed another program"));
    }

    [Test]
    public void AStandardErrorThatTakesNothingIsAFailureAndNoCrash()
    {
        string target = TargetBuilder.Build("calls");
        Dictionary<string, string> environment = new() { ["TARGET_NOWAIT"] = "1" };
        CommandResult result = Command.Run(
            "/bin/sh", ["-c", $"'{Tool}' count -c \"'{target}' 4 100 37\" a.out:recurse:entry 2>/dev/full"], s_timeout, environment);
        Assert.That(result.ExitCode, Is.EqualTo(1));
        Assert.That(result.Output, Does.Contain("count "), "the command's own lines");
    }

    [Test]
    public void AReaderThatGoesEndsTheTraceAndTheTargetIsClean()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        using TargetProcess tool = TargetProcess.Start(
            "/bin/sh", ["-c", $"('{Tool}' trace -p {target.ProcessId} a.out:hot:entry; echo code $? >&2) | head -1"]);
        TextCheck.WaitForProbes(target, tool);
        Assert.That(target.SendAndReadCount("go 5", "hot"), Is.EqualTo(10));
        Assert.That(tool.ReadLine(), Does.Contain(":hot:entry("));

        // What is written before the reader has gone is no error yet.
        for (int i = 0; i < 10_000 && !tool.TryWaitForExit(TimeSpan.FromMilliseconds(10)); i++)
        {
            target.SendAndReadCount("go 1", "hot");
        }

        Assert.That(tool.Errors.Split('\n').Where(line => !line.StartsWith("fasttrap: enabling", StringComparison.Ordinal)), Is.EqualTo(new[] { "code 1", "" }));
        TextCheck.AssertClean(target.ProcessId);
    }

    [TestCase(2, "trace", "x:entry")]
    [TestCase(2, "fly")]
    [TestCase(2, "count", "-p", "none", "x:entry")]
    [TestCase(2, "count", "-c", "'open", "x:entry")]
    [TestCase(1, "count", "-p", "2147483647", "x:entry")]
    [TestCase(0, "--help")]
    [TestCase(0, "count", "-p", "1", "--help")]
    public void ExitCodesTellUsageFromFailure(int code, params string[] arguments)
    {
        CommandResult result = Command.Run(Tool, arguments, s_timeout);
        Assert.That(result.ExitCode, Is.EqualTo(code), result.Error);
        Assert.That(code == 0 ? result.Output : result.Error, Does.StartWith("fasttrap: "));
    }

    /// <summary>Built with the tests, in the same configuration.</summary>
    internal static string Tool
    {
        get
        {
            DirectoryInfo framework = new(AppContext.BaseDirectory.TrimEnd('/'));
            string root = framework.Parent!.Parent!.Parent!.Parent!.Parent!.FullName;
            return Path.Combine(root, "samples", "fasttrap", "bin", framework.Parent.Name, framework.Name, "fasttrap");
        }
    }
}

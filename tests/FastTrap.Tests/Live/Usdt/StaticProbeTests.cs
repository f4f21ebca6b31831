using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Static probes of a program that prints the value of every argument itself.</summary>
[TestFixture]
public sealed class StaticProbeTests : LiveTest
{
    private const int Rounds = 20;

    private static IEnumerable<object> Variants => TargetVariant.All;

    [TestCaseSource(nameof(Variants))]
    public async Task ArgumentsOfEveryFormAreWhatTheProgramPrints(object variantObject)
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt", (TargetVariant)variantObject);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(
            "fasttrap_test*:a.out::*", new ProbeOptions { ArgumentCount = 12, StringArguments = [0], StringLength = 32, BufferCapacity = 4096 });
        Assert.That(enabling.Failures, Is.Empty);
        target.SendLine($"args {Rounds}");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();

        List<string> seen = [];
        List<string> texts = [];
        await foreach (ProbeHit hit in enabling.ReadAllAsync())
        {
            if (hit.Probe.Name == "strings")
            {
                texts.Add($"text {hit.GetArgumentString(0)}");
                Assert.That(hit.GetArgumentString(1), Is.Null);
            }
            else if (hit.Probe.Name is not ("vectors" or "wide-vector"))
            {
                int[] readable = [.. Enumerable.Range(0, hit.Arguments.Count).Where(hit.Arguments.IsReadable)];
                Assert.That(readable, Has.Length.EqualTo(hit.Probe.Name == "unreadable" ? 1 : hit.Arguments.Count), hit.Probe.ToString());
                seen.Add($"hit {hit.Probe.Name} {string.Join(' ', readable.Select(i => hit.Arguments[i].ToString("x", CultureInfo.InvariantCulture)))}");
            }
        }

        Assert.That(seen, Has.Count.GreaterThan(Rounds * 13));
        Assert.That(seen, Is.EqualTo(target.Lines.Where(line => line.StartsWith("hit ", StringComparison.Ordinal))));
        Assert.That(texts, Is.EqualTo(target.Lines.Where(line => line.StartsWith("text", StringComparison.Ordinal))));
        Assert.That(enabling.LostHits, Is.Zero);
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task VectorsDoublesAndKindsAreSeenByHandlers()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<string> vectors = [];
        List<string> doubles = [];
        List<string> texts = [];
        ProbeOptions options = new()
        {
            OnHit = (in ProbeContext context) =>
            {
                switch (context.Probe.Name)
                {
                    case "vectors":
                        Span<byte> bytes = stackalloc byte[48];
                        Assert.That(context.ReadArgument(0, bytes), Is.EqualTo(16));
                        Assert.That(context.ReadArgument(1, bytes[16..]), Is.EqualTo(16));
                        Assert.That(context.ReadArgument(2, bytes[32..]), Is.EqualTo(16));
                        Assert.That(context.GetArgumentKind(1), Is.EqualTo(ArgumentKind.Vector));
                        Assert.That(context.GetArgument(1), Is.EqualTo(context.GetArgument(3)));
                        vectors.Add("vector " + Words(bytes));
                        break;
                    case "wide-vector":
                        Span<byte> wide = stackalloc byte[32];
                        Assert.That(context.ReadArgument(0, wide), Is.EqualTo(32));
                        vectors.Add("wide " + Words(wide));
                        break;
                    case "floats":
                        Assert.That(context.TryGetArgumentDouble(0, out double first), Is.True);
                        Assert.That(context.TryGetArgumentDouble(1, out double second), Is.True);
                        Assert.That(context.TryGetArgumentDouble(2, out double third), Is.True);
                        doubles.Add(string.Create(CultureInfo.InvariantCulture, $"{first} {second} {third}"));
                        break;
                    case "strings":
                        Assert.That(context.TryGetArgumentString(0, 5, out string? text), Is.True);
                        Assert.That(context.TryGetArgumentDouble(0, out _), Is.False);
                        Assert.That(context.GetArgumentKind(1), Is.EqualTo(ArgumentKind.Signed));
                        texts.Add(text!);
                        break;
                    case "unreadable":
                        Assert.That(context.GetArgumentKind(0), Is.EqualTo(ArgumentKind.Unreadable));
                        Assert.That(context.TryGetArgument(0, out _) || context.TryGetArgument(6, out _) || context.TryGetArgument(7, out _), Is.False);
                        Assert.That(context.TryGetArgument(4, out _), Is.True);
                        break;
                }
            },
        };
        ProbeEnabling enabling = await process.EnableAsync("fasttrap_test*:::*", options);
        target.SendLine("args 3");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(enabling.LastHandlerException, Is.Null);
        Assert.That(vectors, Is.EqualTo(target.Lines.Where(line => line.StartsWith("vector ", StringComparison.Ordinal) || line.StartsWith("wide ", StringComparison.Ordinal))));
        Assert.That(vectors, Is.Not.Empty);
        Assert.That(doubles, Is.EqualTo(new[] { "-3 -1 9", "-1.75 -0.875 3.0625", "-0.5 -0.75 0.25" }));
        Assert.That(texts, Is.EqualTo(new[] { "first", "", "third" }));
    }

    [Test]
    public async Task ProbesAreListedWithFunctionsSitesAndArguments()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        string provider = $"fasttrap_test{target.ProcessId}";
        IReadOnlyList<ProbeInfo> inlined = await process.ListAsync("fasttrap_test*:::inlined");
        Assert.That(inlined.Select(p => (p.ToString(), p.SiteCount)), Is.EquivalentTo(new[]
        {
            ($"{provider}:usdt:inlined_one:inlined", 2), ($"{provider}:usdt:inlined_two:inlined", 1),
        }));
        ProbeInfo strings = (await process.ListAsync("*:::strings")).Single();
        Assert.That(strings.Arguments.Select(a => $"arg{a.Index}: {a.NativeType} {a.TranslatedType}"), Is.EqualTo(new[] { "arg0: int64 unsigned uint64_t", "arg1: int32 signed int32_t" }));
        Assert.That(strings.Arguments.Select(a => a.Location), Is.All.Match("^r[a-z0-9]+$"));
        ProbeInfo unreadable = (await process.ListAsync(":::unreadable")).Single();
        Assert.That(unreadable.Arguments.Select(a => a.Location), Is.EqualTo(new[]
        {
            "unreadable: 'gar!bage' is not understood",
            "unreadable: the register '%st(1)' is unknown, or cannot be read",
            "unreadable: the symbol 'no_such_symbol' is not in the file's symbol table",
            "unreadable: no value has the size '3'",
            unreadable.Arguments[4].Location,
            "unreadable: the relocation 'GOTPCREL' cannot be followed",
            unreadable.Arguments[6].Location,
        }));

        // Both spellings, in each part a pattern; the two families of probes apart.
        Assert.That((await process.ListAsync($"{provider}:*:sizes:sizes__of__registers")).Single().Name, Is.EqualTo("sizes-of-registers"));
        Assert.That(await process.ListAsync("*test*:us?t:si*:sizes-*"), Has.Count.EqualTo(2));
        Assert.That(await process.ListAsync("pid*:::strings"), Is.Empty);
        Assert.That((await process.ListAsync(":a.out:strings:")).Select(p => p.Provider).Distinct(), Is.EquivalentTo(new[] { $"pid{target.ProcessId}", provider }));
        Assert.That((await process.ListAsync("pid*:a.out:strings:")).Select(p => p.Provider).Distinct(), Is.EqualTo(new[] { $"pid{target.ProcessId}" }));
        Assert.That(Tracer.ListFile(target.Path, "fasttrap_test:::strings").Single().Address + 1, Is.GreaterThan(1));
        FastTrapException none = Assert.ThrowsAsync<FastTrapException>(() => process.EnableAsync("postgresql*:::query-start"))!;
        Assert.That(none.Message, Does.Contain(provider));
        none = Assert.ThrowsAsync<FastTrapException>(() => process.EnableAsync("fasttrap_test*:::nothing"))!;
        Assert.That(none.Message, Does.Contain("sizes-of-registers"));
        TextCheck.AssertClean(target.ProcessId);
    }

    [TestCaseSource(nameof(Variants))]
    public async Task SitesAtHardPlacesCountExactly(object variantObject)
    {
        using TargetProcess target = TargetProcess.StartTarget("usdtsites", (TargetVariant)variantObject);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("fasttrap_sites*:::", new ProbeOptions { BufferCapacity = 1 << 14 });
        Assert.That(enabling.Failures, Is.Empty);
        target.SendLine("go 50");
        target.ReadLineStarting("checksum ");
        await enabling.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("go 5");
        target.ReadLineStarting("checksum ");
        Dictionary<string, long> counts = enabling.Probes.ToDictionary(p => p.Name, enabling.GetHitCount);
        Dictionary<string, long> truth = target.Lines.TakeWhile(line => !line.StartsWith("checksum", StringComparison.Ordinal))
            .Where(line => line.StartsWith("count ", StringComparison.Ordinal)).Select(line => line.Split(' '))
            .ToDictionary(words => words[1], words => long.Parse(words[2], CultureInfo.InvariantCulture));
        Assert.That(counts, Is.EquivalentTo(truth));
        Dictionary<string, int> next = [];
        await foreach (ProbeHit hit in enabling.ReadAllAsync())
        {
            int n = next.GetValueOrDefault(hit.Probe.Name);
            next[hit.Probe.Name] = n + 1;
            long[] expected = hit.Probe.Name switch
            {
                "last-return" => [n + 3],
                "last-nop" => [n + 5],
                "loop-on" => [3 - (n % 3), n / 3],
                "loop-before" => [3, n],
                "relative" => [n, 40],
                "straddle-nop" or "straddle-add" or "unnamed" => [n],
                _ => [],
            };
            Assert.That(expected.Select((value, i) => (long)hit.Arguments[i] == value), Is.All.True, hit.Probe.Name);
        }

        Assert.That(enabling.Probes.Single(p => p.Name == "unnamed").Function, Is.Empty);
        Assert.That(enabling.Probes.Select(p => p.Kind), Is.All.EqualTo(ProbeKind.Static));
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task OneInstructionServesStaticAndFunctionProbes()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdtsites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling a = await process.EnableAsync("fasttrap_sites*:::two-a", CountOnly);
        ProbeEnabling b = await process.EnableAsync("fasttrap_sites*:::two__b", CountOnly);
        ProbeEnabling entry = await process.EnableAsync("pid*:a.out:two_at_once:entry", CountOnly);
        target.SendLine("go 10");
        target.ReadLineStarting("checksum ");
        await a.DisposeAsync();
        target.SendLine("go 10");
        target.ReadLineStarting("checksum ");
        await entry.DisposeAsync();
        target.SendLine("go 10");
        target.ReadLineStarting("checksum ");
        await b.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Assert.That((a.HitCount, entry.HitCount, b.HitCount), Is.EqualTo((20L, 40L, 60L)));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    private static string Words(ReadOnlySpan<byte> bytes) =>
        string.Join(' ', MemoryMarshal.Cast<byte, ulong>(bytes).ToArray().Select(word => word.ToString("x", CultureInfo.InvariantCulture)));
}

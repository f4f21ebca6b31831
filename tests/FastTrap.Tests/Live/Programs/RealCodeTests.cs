using System.Runtime.InteropServices;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Every instruction of code that nobody wrote for this: what it computes is what it computed before, bit by bit.</summary>
[TestFixture]
public sealed class RealCodeTests : LiveTest
{
    private const string GoSource = """
        package main

        import ("bufio"; "fmt"; "os"; "sort"; "strings")

        //go:noinline
        func Grow(n int) int {
            var room [64]int
            room[n%64] = n
            if n == 0 { return 1 }
            return Grow(n-1) + room[n%64]%3
        }

        //go:noinline
        func Fold(text string) (sum uint64) {
            defer func() { if recover() != nil { sum++ } }()
            for i, c := range text { sum = sum*31 + uint64(c) + uint64(i) }
            parts := strings.Split(text, " ")
            sort.Strings(parts)
            for _, p := range parts { for j := range p { sum ^= uint64(p[j]) << (uint(j) % 57) } }
            var nothing []int
            return sum + uint64(nothing[len(parts)])
        }

        func main() {
            input := bufio.NewScanner(os.Stdin)
            fmt.Println("ready", os.Getpid())
            for input.Scan() {
                if input.Text() == "end" { return }
                depth := 300
                fmt.Sscanf(input.Text(), "go %d", &depth)
                results := make(chan int)
                for g := 0; g < 4; g++ { go func(g int) { results <- Grow(depth + g) }(g) }
                total := 0
                for g := 0; g < 4; g++ { total += <-results }
                fmt.Println("result", total, Fold("the quick brown fox jumps over the lazy dog"))
                fmt.Println("done")
            }
        }
        """;

    private const string WithoutShaInstructions = ":~0x20000000";
    private const string Avx2 = ":~0xf0230000";
    private const string Avx = ":~0xf0230020";
    private const string Ssse3 = "~0x1200000200000000:~0xf0230020";

    private static readonly string[] s_hashes =
        ["a.out:*sha256_block*:*", "a.out:*sha512_block*:*", "a.out:*sha1_block*:*", "a.out:*md5_block*:*", "a.out:*[kK]eccak*:*", "a.out:SHA3_*:*", "a.out:blake2s*:*"];

    private static readonly string[] s_ciphers =
        ["a.out:*aes*:*", "a.out:*gcm*:*", "a.out:*ghash*:*", "a.out:*[cC]ha[cC]ha20*:*", "a.out:*[pP]oly1305*:*", "a.out:Camellia*:*"];

    private static readonly string[] s_numbers = ["a.out:bn_*:*", "a.out:BN_*:*"];

    private static readonly string[] s_zlib =
        ["a.out:*inflate*:*", "a.out:*deflate*:*", "a.out:longest_match:*", "a.out:*crc32*:*", "a.out:*adler32*:*", "a.out:*_tr_*:*"];

    [Test]
    public Task HashesOfOpenSsl() => CompareCrypto(160, "", s_hashes);

    [Test]
    public Task CiphersOfOpenSsl() => CompareCrypto(300, "", s_ciphers);

    [Test]
    public Task BigNumbersOfOpenSsl() => CompareCrypto(160, "", s_numbers);

    [Test]
    public Task Zlib() => CompareCrypto(500, "", s_zlib);

    /// <summary>With enough bytes for the widest code, and with that for lesser processors.</summary>
    [TestCase("")]
    [TestCase(WithoutShaInstructions)]
    [TestCase(Avx2)]
    [TestCase(Avx)]
    [TestCase(Ssse3)]
    [Explicit("Hundreds of thousands of hits each.")]
    public Task OpenSslAndZlib(string capabilities) => CompareCrypto(1300, capabilities, [.. s_hashes, .. s_ciphers, .. s_numbers, .. s_zlib]);

    [TestCase(5, "a.out:*sort*:*", "libstdc++.so.6:_ZNS[io]*:*", "libstdc++.so.6:std::num_*<char*:*", "libstdc++.so.6:std::__cxx11::basic_string<char*:*")]
    [TestCase(40, "libstdc++.so.6:std::*char*:*", "libstdc++.so.6:std::_*:*", "libstdc++.so.6:std::locale*:*", "a.out:*:*", Explicit = true, Reason = "Hundreds of thousands of hits.")]
    public async Task TextsOfTheCppLibrary(int count, params string[] descriptions)
    {
        using TargetProcess target = TargetProcess.StartTarget("texts");
        await AssertSameProbed(target, $"go {count}", descriptions);
    }

    [Test]
    public async Task CompiledDotNetMethods()
    {
        string dotnet = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));

        // Without the second, code lies in shared mappings, which nobody but the runtime can write.
        Dictionary<string, string> environment = new()
        {
            ["DOTNET_PerfMapEnabled"] = "1", ["DOTNET_EnableWriteXorExecute"] = "0", ["DOTNET_DbgEnableMiniDump"] = "0", ["DOTNET_EnableDiagnostics"] = "0",
        };
        using TargetProcess target = TargetProcess.Start(
            dotnet, ["exec", Path.Combine(AppContext.BaseDirectory, "FastTrap.Tests.dll"), "compute"], new TargetStart { Environment = environment });
        try
        {
            target.WaitReady();
            await AssertSameProbed(target, "go", "[jit]:*ManagedWork::Hot*:*");
        }
        finally
        {
            File.Delete($"/tmp/perf-{target.ProcessId}.map");
            File.Delete($"/tmp/perfinfo-{target.ProcessId}.map");
        }
    }

    [TestCase("a.out:main.Grow:return", "a.out:main.Fold:return")]
    [TestCase("a.out:main.Grow:*", "a.out:main.Fold:*", "a.out:strings.*:*")]
    [TestCase("a.out:runtime.newstack:*", "a.out:runtime.copystack:return", "a.out:runtime.gopanic:*")]
    public async Task GoProgram(params string[] descriptions)
    {
        using PrivateDirectory directory = new("go");
        using TargetProcess target = StartGo(directory);
        await AssertSameProbed(target, "go", descriptions);
    }

    /// <summary>Each return of a recursion is one hit, although the stacks are copied to larger places all the while.</summary>
    [Test]
    public async Task GoReturnsAreCountedWhileStacksGrow()
    {
        const int Depth = 3000;
        using PrivateDirectory directory = new("go");
        using TargetProcess target = StartGo(directory);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling entries = await process.EnableAsync("a.out:main.Grow:entry", CountOnly);
        ProbeEnabling returns = await process.EnableAsync("a.out:main.Grow:return", CountOnly);
        ProbeEnabling copies = await process.EnableAsync("a.out:runtime.copystack:entry", CountOnly);
        ProbeEnabling restarts = await process.EnableAsync("a.out:runtime.newstack:entry", CountOnly);
        string[] probed = Work(target, $"go {Depth}");
        await process.DisposeAsync();

        // Four goroutines, from depths of n to n + 3 down to nothing. A function which needs a larger stack begins again.
        Assert.That(returns.HitCount, Is.EqualTo((4 * (Depth + 1)) + 6));
        Assert.That(copies.HitCount, Is.GreaterThan(20));
        Assert.That(entries.HitCount, Is.GreaterThan(returns.HitCount).And.LessThanOrEqualTo(returns.HitCount + restarts.HitCount));
        Assert.That(Work(target, $"go {Depth}"), Is.EqualTo(probed));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    private static TargetProcess StartGo(PrivateDirectory directory)
    {
        string go = RealPrograms.Require("go");
        File.WriteAllText(directory["main.go"], GoSource);
        CommandResult built = Command.Run(
            "/usr/bin/env", ["GOCACHE=" + directory["cache"], "GO111MODULE=off", "HOME=" + directory.FullPath, go, "build", "-o", directory["program"], directory["main.go"]],
            TimeSpan.FromMinutes(2));
        Assert.That(built.ExitCode, Is.Zero, built.Error);
        TargetProcess target = TargetProcess.Start(directory["program"], []);
        target.WaitReady();
        return target;
    }

    private async Task CompareCrypto(int bytes, string capabilities, params string[] descriptions)
    {
        if (!Array.Exists(Directory.GetDirectories("/usr/lib"), d => File.Exists(Path.Combine(d, "libcrypto.a")) && File.Exists(Path.Combine(d, "libz.a"))))
        {
            Assert.Ignore("libcrypto.a and libz.a are not installed (libssl-dev, zlib1g-dev).");
        }

        Dictionary<string, string> environment = new() { ["OPENSSL_ia32cap"] = capabilities };
        using TargetProcess target = TargetProcess.StartTarget(
            "crypto", new TargetVariant(Flags: "-l:libz.a -l:libcrypto.a"), null, capabilities.Length == 0 ? null : new TargetStart { Environment = environment });
        await AssertSameProbed(target, $"go {bytes}", descriptions);
    }

    /// <summary>What the target prints for a line of input, alone, probed, and alone again.</summary>
    private async Task AssertSameProbed(TargetProcess target, string command, params string[] descriptions)
    {
        string[] alone = Work(target, command);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<ProbeEnabling> enablings = [];
        foreach (string description in descriptions)
        {
            enablings.Add(await process.EnableAsync(description, CountOnly));
        }

        string[] probed = Work(target, command);
        foreach (ProbeEnabling enabling in enablings)
        {
            Describe(enabling);
        }

        await process.DisposeAsync();
        Assert.That(probed, Is.EqualTo(alone));
        Assert.That(enablings.Select(e => e.HitCount), Is.All.Positive);
        Assert.That(Work(target, command), Is.EqualTo(alone));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    private static void Describe(ProbeEnabling enabling)
    {
        string[] hit = [.. enabling.Probes.Where(p => enabling.GetHitCount(p) > 0).Select(p => p.Function).Distinct()];
        string[] refused = [.. enabling.Failures.GroupBy(f => f.Refusal).Select(g => $"{g.Key} {g.Count()}")];
        TestContext.Out.WriteLine($"{enabling.Description}: {enabling.Probes.Count} probes, {enabling.HitCount} hits in {string.Join(' ', hit)}; refused: {string.Join(' ', refused)}");
    }

    private static string[] Work(TargetProcess target, string command)
    {
        int before = target.Lines.Count;
        target.SendLine(command);
        target.ReadLineStarting("done");
        return [.. target.Lines.Skip(before)];
    }
}

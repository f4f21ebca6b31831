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
                results := make(chan int)
                for g := 0; g < 4; g++ { go func(g int) { results <- Grow(300 + g) }(g) }
                total := 0
                for g := 0; g < 4; g++ { total += <-results }
                fmt.Println("result", total, Fold("the quick brown fox jumps over the lazy dog"))
                fmt.Println("done")
            }
        }
        """;

    [TestCase("a.out:*sha256_block*:*", "a.out:*sha512_block*:*", "a.out:*sha1_block*:*", "a.out:*md5_block*:*", "a.out:*keccak*:*", "a.out:blake2s*:*")]
    [TestCase("a.out:*aes*:*", "a.out:*gcm*:*", "a.out:*ghash*:*", "a.out:*[cC]ha[cC]ha20*:*", "a.out:*poly1305*:*", "a.out:Camellia*:*")]
    [TestCase("a.out:bn_*:*", "a.out:BN_*:*")]
    [TestCase("a.out:*inflate*:*", "a.out:*deflate*:*", "a.out:longest_match:*", "a.out:*crc32*:*", "a.out:*adler32*:*", "a.out:*_tr_*:*")]
    [Explicit("Hundreds of thousands of hits: a minute and more on a small machine.")]
    public async Task OpenSslAndZlib(params string[] descriptions)
    {
        if (!Array.Exists(Directory.GetDirectories("/usr/lib"), d => File.Exists(Path.Combine(d, "libcrypto.a")) && File.Exists(Path.Combine(d, "libz.a"))))
        {
            Assert.Ignore("libcrypto.a and libz.a are not installed (libssl-dev, zlib1g-dev).");
        }

        string[] used =
        [
            "EVP_Digest", "EVP_get_digestbyname", "EVP_get_cipherbyname", "EVP_CIPHER_CTX_new", "EVP_CIPHER_CTX_free", "EVP_CIPHER_CTX_ctrl", "EVP_EncryptInit_ex",
            "EVP_EncryptUpdate", "EVP_EncryptFinal_ex", "BN_CTX_new", "BN_CTX_free", "BN_bin2bn", "BN_new", "BN_free", "BN_set_bit", "BN_mod_exp", "BN_bn2binpad",
            "compress2", "uncompress", "crc32", "adler32",
        ];
        TargetVariant variant = new(Flags: string.Join(' ', used.Select(name => "-Wl,-u," + name)) + " -l:libz.a -l:libcrypto.a");
        using TargetProcess target = TargetProcess.StartTarget("crypto", variant);
        await AssertSameProbed(target, descriptions);
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
        target.WaitReady();
        await AssertSameProbed(target, "[jit]:*ManagedWork::Hot*:*");
        File.Delete($"/tmp/perf-{target.ProcessId}.map");
        File.Delete($"/tmp/perfinfo-{target.ProcessId}.map");
    }

    [TestCase("a.out:main.Grow:return", "a.out:main.Fold:return")]
    [TestCase("a.out:main.Grow:*", "a.out:main.Fold:*", "a.out:strings.*:*")]
    [TestCase("a.out:runtime.newstack:*", "a.out:runtime.copystack:return", "a.out:runtime.gopanic:*")]
    public async Task GoProgram(params string[] descriptions)
    {
        string go = RealPrograms.Require("go");
        using PrivateDirectory directory = new("go");
        File.WriteAllText(directory["main.go"], GoSource);
        CommandResult built = Command.Run(
            "/usr/bin/env", ["GOCACHE=" + directory["cache"], "GO111MODULE=off", "HOME=" + directory.FullPath, go, "build", "-o", directory["program"], directory["main.go"]],
            TimeSpan.FromMinutes(2));
        Assert.That(built.ExitCode, Is.Zero, built.Error);
        using TargetProcess target = TargetProcess.Start(directory["program"], []);
        target.WaitReady();
        await AssertSameProbed(target, descriptions);
    }

    /// <summary>What the target prints for a line of input, alone, probed, and alone again.</summary>
    private async Task AssertSameProbed(TargetProcess target, params string[] descriptions)
    {
        string[] alone = Work(target);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<ProbeEnabling> enablings = [];
        foreach (string description in descriptions)
        {
            enablings.Add(await process.EnableAsync(description, CountOnly));
        }

        string[] probed = Work(target);
        TestContext.Out.WriteLine(string.Join('\n', enablings.Select(
            e => $"{e.Description}: {e.Probes.Count} probes, {e.HitCount} hits, refused: {string.Join(' ', e.Failures.GroupBy(f => f.Refusal).Select(g => $"{g.Key} {g.Count()}"))}")));
        await process.DisposeAsync();
        Assert.That(probed, Is.EqualTo(alone));
        Assert.That(enablings.Sum(e => e.HitCount), Is.GreaterThan(100));
        Assert.That(Work(target), Is.EqualTo(alone));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    private static string[] Work(TargetProcess target)
    {
        int before = target.Lines.Count;
        target.SendLine("go");
        target.ReadLineStarting("done");
        return [.. target.Lines.Skip(before)];
    }
}

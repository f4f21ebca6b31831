using System.Diagnostics;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Isa.Windows;

/// <summary>For how many instructions of real programs there is a window.</summary>
[TestFixture]
internal sealed class WindowStatisticsTests
{
    [TestCase("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6")]
    [TestCase("bash", "/usr/bin/bash")]
    public void NearlyAllHaveOne(string name, string path)
    {
        if (!File.Exists(path))
        {
            Assert.Ignore($"{path} is not on this machine.");
        }

        Shares shares = Count(path);
        TestContext.Out.WriteLine($"{name}: {shares}");
        Assert.That(shares.Entries.Near + shares.Entries.Short, Is.GreaterThan(0.998 * shares.Entries.All));
        Assert.That(shares.Returns.Near, Is.GreaterThan(0.83 * shares.Returns.All));
        Assert.That(shares.Returns.Near + shares.Returns.Short, Is.GreaterThan(0.97 * shares.Returns.All));
        Assert.That(shares.All.Near, Is.GreaterThan(0.95 * shares.All.All));
    }

    [Explicit("prints measurements")]
    [TestCase("/lib/x86_64-linux-gnu/libc.so.6")]
    [TestCase("/usr/bin/bash")]
    [TestCase("/usr/lib/x86_64-linux-gnu/libstdc++.so.6")]
    [TestCase("/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so")]
    [TestCase("/usr/lib/jvm/temurin-25-jdk-amd64/lib/server/libjvm.so")]
    [TestCase("/usr/lib/postgresql/15/bin/postgres")]
    [TestCase("/usr/lib/x86_64-linux-gnu/libssl.so.3")]
    [TestCase("/usr/lib/x86_64-linux-gnu/libcrypto.so.3")]
    public void Measure(string path)
    {
        if (!File.Exists(path))
        {
            Assert.Ignore($"{path} is not on this machine.");
        }

        for (int round = 0; round < 3; round++)
        {
            Shares shares = Count(path);
            TestContext.Out.WriteLine($"{path}: {shares}");
        }
    }

    private static Shares Count(string path)
    {
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        ModuleImage image = new(elf, new DebugFileLocator(new FilePlatform(), "", path));
        _ = image.Symbols;
        Stopwatch watch = Stopwatch.StartNew();
        _ = image.Unwind;
        double unwind = watch.Elapsed.TotalMilliseconds;
        watch.Restart();
        CodeFlow flow = ModuleFlow.Read(image);
        double analysis = watch.Elapsed.TotalMilliseconds;

        WindowClaims claims = new(flow);
        Shares shares = new() { Flow = flow, UnwindMs = unwind, AnalysisMs = analysis };
        List<ulong> entries = [];
        List<ulong> returns = [];
        List<ulong> all = [];
        FunctionScan scan = new();
        for (int i = 0; i < image.Unwind.Count; i++)
        {
            (ulong start, ulong length, bool isContinuation) = image.Unwind.GetRange(i);
            if (start - flow.Address >= (ulong)flow.Length || !X64InstructionSet.Instance.TryScanFunction(flow.Code.Slice((int)(start - flow.Address), (int)length), start, scan, out _))
            {
                shares.NotScanned++;
                continue;
            }

            if (!isContinuation)
            {
                entries.Add(start);
            }

            foreach (ReturnSite site in scan.ReturnSites)
            {
                if (site.Kind == ReturnSiteKind.Return)
                {
                    returns.Add(start + (ulong)site.Offset);
                }
            }

            foreach (int offset in scan.InstructionOffsets)
            {
                if (!flow.Padding[(int)(start - flow.Address) + offset])
                {
                    all.Add(start + (ulong)offset);
                }
            }
        }

        watch.Restart();
        shares.Entries = Find(flow, entries, claims, shares.EntryRefusals);
        shares.EntriesMs = watch.Elapsed.TotalMilliseconds;
        watch.Restart();
        shares.Returns = Find(flow, returns, new WindowClaims(flow), shares.ReturnRefusals);
        shares.ReturnsMs = watch.Elapsed.TotalMilliseconds;
        shares.All = Find(flow, all, null, shares.AllRefusals);
        return shares;
    }

    private static (int All, int Near, int Short) Find(CodeFlow flow, List<ulong> addresses, WindowClaims? claims, Dictionary<WindowRefusal, int> refusals)
    {
        int near = 0;
        int shorts = 0;
        foreach (ulong address in addresses)
        {
            if (!flow.TryFindWindow(address, claims, out PatchWindow window, out WindowRefusal refusal))
            {
                refusals[refusal] = refusals.GetValueOrDefault(refusal) + 1;
                continue;
            }

            claims?.Add(window);
            near += window.Kind == WindowKind.Near ? 1 : 0;
            shorts += window.Kind == WindowKind.Short ? 1 : 0;
        }

        return (addresses.Count, near, shorts);
    }

    private sealed class Shares
    {
        public required CodeFlow Flow { get; init; }

        public double UnwindMs { get; init; }

        public double AnalysisMs { get; init; }

        public double EntriesMs { get; set; }

        public double ReturnsMs { get; set; }

        public int NotScanned { get; set; }

        public (int All, int Near, int Short) Entries { get; set; }

        public (int All, int Near, int Short) Returns { get; set; }

        public (int All, int Near, int Short) All { get; set; }

        public Dictionary<WindowRefusal, int> EntryRefusals { get; } = [];

        public Dictionary<WindowRefusal, int> ReturnRefusals { get; } = [];

        public Dictionary<WindowRefusal, int> AllRefusals { get; } = [];

        public override string ToString()
        {
            int undecodable = 0;
            int unknown = 0;
            for (int i = 0; i < Flow.UnitCount; i++)
            {
                undecodable += (Flow.GetUnit(i).Traits & CodeTraits.NotDecodable) != 0 ? 1 : 0;
                unknown += (Flow.GetUnit(i).Traits & CodeTraits.HasUnknownTargets) != 0 ? 1 : 0;
            }

            return $"{Flow.Length >> 10} KiB, {Flow.UnitCount} units ({undecodable} undecodable, {unknown} with unknown targets), {Flow.JumpTables} tables, {Flow.UnknownJumps} unknown jumps, {NotScanned} not scanned\n"
                + $"  unwind {UnwindMs:f1} ms, analysis {AnalysisMs:f1} ms, entries {EntriesMs:f1} ms, returns {ReturnsMs:f1} ms\n"
                + $"  entries {Text(Entries)} {Text(EntryRefusals)}\n  returns {Text(Returns)} {Text(ReturnRefusals)}\n  all {Text(All)} {Text(AllRefusals)}";
        }

        private static string Text((int All, int Near, int Short) count) =>
            $"{count.All}: near {100.0 * count.Near / count.All:f2} %, with islands {100.0 * (count.Near + count.Short) / count.All:f2} %";

        private static string Text(Dictionary<WindowRefusal, int> refusals) => string.Join(", ", refusals.OrderByDescending(r => r.Value).Select(r => $"{r.Key} {r.Value}"));
    }
}

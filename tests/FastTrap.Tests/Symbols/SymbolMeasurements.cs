using System.Diagnostics;
using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Numbers for people, not assertions: run by name, in Release.</summary>
[TestFixture]
[Explicit("prints measurements")]
public sealed class SymbolMeasurements
{
    [TestCase("/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so")]
    [TestCase("/usr/lib/jvm/temurin-25-jdk-amd64/lib/server/libjvm.so")]
    [TestCase("/lib/x86_64-linux-gnu/libc.so.6")]
    public void LoadAndMatch(string path)
    {
        Dictionary<string, double> best = [];
        void Measure(string what, Action action)
        {
            Stopwatch watch = Stopwatch.StartNew();
            action();
            best[what] = Math.Min(best.GetValueOrDefault(what, double.MaxValue), watch.Elapsed.TotalMilliseconds);
        }

        for (int round = 0; round < 12; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
            ModuleImage image = new(elf, new DebugFileLocator(new FilePlatform(), "", path));
            Stopwatch first = Stopwatch.StartNew();
            Measure("load", () => _ = image.Symbols);
            double ms = first.Elapsed.TotalMilliseconds;
            if (round == 0)
            {
                TestContext.Out.WriteLine($"{path}: {image.Symbols.Count} symbols, first time {ms:f1} ms, {(GC.GetAllocatedBytesForCurrentThread() - before) / 1e6:f1} MB");
            }

            SymbolTable table = image.Symbols;
            List<int> found = new(table.Count);
            foreach (string pattern in new[] { "", "*alloc*", "_ZN*Thread*", "*[A-C]?ompile*", "*v", "?*a*b*c*" })
            {
                found.Clear();
                Measure($"'{pattern}'", () => table.Match(new Glob(pattern), found));
            }

            Measure("name index", () => table.Find("malloc"));
            Measure("unwind", () => _ = image.Unwind);
            Measure("demangle", () => table.GetDemangledName(0));
            found.Clear();
            Measure("'Thread::*' demangled", () => table.Match(new Glob("Thread::*"), found, useDemangled: true));
            Measure("'*' demangled", () => table.Match(new Glob("*e*::*"), found, useDemangled: true));
        }

        TestContext.Out.WriteLine("measured, best of 12, ms: " + string.Join("; ", best.Select(b => $"{b.Key} {b.Value:f2}")));
    }
}

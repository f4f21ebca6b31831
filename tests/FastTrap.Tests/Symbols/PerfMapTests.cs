using System.Text;
using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Perf map files: parsing, growth, reuse of memory, bounds.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class PerfMapTests
{
    [Test]
    public void Lines_BecomeFunctions_AndLaterLinesWin()
    {
        (string path, PerfMap map) = Create("7f0000001000 100 void A::f() [Tier0]\n7f0000002000 80 second\n");
        Assert.That(map.Refresh());
        Assert.That(List(map), Is.EqualTo(new[] { "7f0000001000 100 void A::f() [Tier0]", "7f0000002000 80 second" }));
        Assert.That(map.Symbols.FindContaining(0x7f00000010ff), Is.Zero);
        Assert.That(map.Symbols.FindContaining(0x7f0000001100), Is.EqualTo(-1));

        Assert.That(map.Refresh(), Is.False, "nothing was added");
        File.AppendAllText(path, "7f00000010f0 20 third\n0x7f0000003000 0x10 fourth\n7f0000004000 10 unfini");
        Assert.That(map.Refresh());
        Assert.That(List(map), Is.EqualTo(new[] { "7f00000010f0 20 third", "7f0000002000 80 second", "7f0000003000 10 fourth" }));
        File.AppendAllText(path, "shed\nnonsense\n\nzz 10 x\n10 0 empty\nffffffffffffffff 10 wraps\n");
        Assert.That(map.Refresh());
        Assert.That(map.Symbols.GetName(map.Symbols.FindContaining(0x7f0000004008)), Is.EqualTo("unfinished"));
        Assert.That(map.SkippedLines, Is.EqualTo(4));

        File.WriteAllText(path, "1000 10 anew\n");
        Assert.That(map.Refresh());
        Assert.That(List(map), Is.EqualTo(new[] { "1000 10 anew" }));
        File.Delete(path);
        Assert.That(map.Refresh(), Is.False);
        Assert.That(List(map), Has.Count.EqualTo(1));
    }

    [Test]
    public void RandomOverlaps_LeaveWhatNoLaterLineTouches()
    {
        Random random = new(3);
        for (int round = 0; round < 200; round++)
        {
            List<(ulong Start, ulong Size)> lines = [];
            StringBuilder text = new();
            for (int i = 0; i < 60; i++)
            {
                lines.Add(((ulong)random.Next(0, 500), (ulong)random.Next(1, 30)));
                text.Append(System.Globalization.CultureInfo.InvariantCulture, $"{lines[i].Start:x} {lines[i].Size:x} f{i}\n");
            }

            (_, PerfMap map) = Create(text.ToString());
            map.Refresh();
            IEnumerable<string> expected = Enumerable.Range(0, lines.Count)
                .Where(i => !lines[(i + 1)..].Exists(l => l.Start < lines[i].Start + lines[i].Size && lines[i].Start < l.Start + l.Size))
                .OrderBy(i => lines[i].Start).Select(i => $"{lines[i].Start:x} {lines[i].Size:x} f{i}");
            Assert.That(List(map), Is.EqualTo(expected));
        }
    }

    [Test]
    public void BigFile_IsReadInBlocks_AndCutAtTheLimit()
    {
        string text = string.Concat(Enumerable.Range(0, 60_000).Select(i => $"{0x1000 + (i * 16):x} 10 function number {i} of many\n"));
        (string path, PerfMap map) = Create(text);
        Assert.That(map.Refresh());
        Assert.That(map.Symbols.Count, Is.EqualTo(60_000));
        List<int> found = [];
        Assert.That(map.Symbols.Match(new Glob("*number 5?999*"), found), Is.EqualTo(10));

        PerfMap few = new(new FilePlatform(), path, new ElfLimits { MaxPerfMapEntries = 100 });
        Assert.That(few.Refresh() && few.IsCutShort && few.Symbols.Count == 100);
        PerfMap small = new(new FilePlatform(), path, new ElfLimits { MaxPerfMapBytes = 1000 });
        Assert.That(small.Refresh() && small.IsCutShort);
        Assert.That(small.Symbols.Count, Is.InRange(10, 40));
    }

    [Test]
    public void Path_IsTheTargetsOwn()
    {
        string status = Tool.NewPath("status");
        File.WriteAllText(status, "Name:\tx\nPid:\t42\nNSpid:\t42\t7\n");
        FilePlatform platform = new() { Redirects = { ["/proc/42/status"] = status, ["/proc/42/root/tmp/perf-7.map"] = status } };
        Assert.That(PerfMap.PathFor(platform, 42), Is.EqualTo("/proc/42/root/tmp/perf-7.map"));
        Assert.That(PerfMap.PathFor(new FilePlatform(), Environment.ProcessId), Is.EqualTo($"/proc/{Environment.ProcessId}/root/tmp/perf-{Environment.ProcessId}.map"));
    }

    [Test]
    public void JitCode_IsAModule()
    {
        (_, PerfMap map) = Create("1000 10 jitted\n");
        map.Refresh();
        ModuleMap modules = ModuleMap.Create([], new ModuleOpener(new FilePlatform(), int.MaxValue, new SymbolCache(), null), null, map);
        Module jit = modules.Find(0x1008)!;
        Assert.That((jit.Name, jit.IsJit, jit.LoadBias), Is.EqualTo(("[jit]", true, 0ul)));
        Assert.That(modules.Match(new ModulePattern("[jit]")).Single(), Is.SameAs(jit));
        Assert.That(modules.Match(new ModulePattern("jit")).Single(), Is.SameAs(jit));
        Assert.That(jit.FindFunction(0x1008, out SymbolTable symbols), Is.Zero);
        Assert.That(symbols.GetName(0), Is.EqualTo("jitted"));
    }

    private static (string Path, PerfMap Map) Create(string text)
    {
        string path = Tool.NewPath("perf-1.map");
        File.WriteAllText(path, text);
        return (path, new PerfMap(new FilePlatform(), path));
    }

    private static List<string> List(PerfMap map) =>
        [.. Enumerable.Range(0, map.Symbols.Count).Select(i => $"{map.Symbols.GetAddress(i):x} {map.Symbols.GetSize(i):x} {map.Symbols.GetName(i)}")];
}

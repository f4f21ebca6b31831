using System.Text.RegularExpressions;
using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Unwind ranges against readelf's, and split-off parts against the symbols which name them.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class EhFrameTests
{
    private static readonly string[] s_files = SystemFiles.All;

    [TestCaseSource(nameof(s_files))]
    public void Ranges_AreThoseOfReadelf(string name)
    {
        string path = SystemFiles.Find(name);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        EhFrame frame = EhFrame.Read(elf);
        string[] expected = Regex.Matches(Tool.Run("readelf", "-wNF", path), "FDE cie=[0-9a-f]+ pc=([0-9a-f]+)\\.\\.([0-9a-f]+)")
            .Select(m => (Start: Convert.ToUInt64(m.Groups[1].Value, 16), End: Convert.ToUInt64(m.Groups[2].Value, 16)))
            .Where(r => r.End > r.Start).Order().Select(r => $"{r.Start:x} {r.End - r.Start:x}").ToArray();
        Assert.That(expected, Has.Length.GreaterThan(5));
        string[] actual = Enumerable.Range(0, frame.Count).Select(frame.GetRange).Select(r => $"{r.Start:x} {r.Length:x}").ToArray();
        Assert.That(actual, Is.EqualTo(expected));
        for (int i = 0; i < frame.Count; i += 97)
        {
            (ulong start, ulong length, bool isContinuation) = frame.GetRange(i);
            Assert.That(frame.TryFindRange(start + length - 1, out ulong foundStart, out ulong foundLength, out bool found));
            Assert.That((foundStart, foundLength, found), Is.EqualTo((start, length, isContinuation)));
        }
    }

    [TestCaseSource(nameof(s_files))]
    public void NoFunctionStart_LooksLikeASplitOffPart(string name)
    {
        string path = SystemFiles.Find(name);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable symbols = new ModuleImage(elf, new DebugFileLocator(new FilePlatform(), "", path)).Symbols;
        EhFrame frame = EhFrame.Read(elf);
        List<string> wrong = [];
        int checkedCount = 0;
        for (int i = 0; i < symbols.Count; i++)
        {
            if ((symbols.GetFlags(i) & SymbolFlags.ColdPart) == 0
                && frame.TryFindRange(symbols.GetAddress(i), out ulong start, out _, out bool isContinuation) && start == symbols.GetAddress(i))
            {
                checkedCount++;
                // The lazy binding stub is entered with two words pushed by the linkage table.
                if (isContinuation && !symbols.GetName(i).StartsWith("_dl_runtime_", StringComparison.Ordinal))
                {
                    wrong.Add(symbols.GetName(i));
                }
            }
        }

        Assert.That(checkedCount, Is.GreaterThan(5));
        Assert.That(wrong, Is.Empty);
    }

    [Test]
    public void ColdPart_IsAContinuation_AndTheSymbolsSayWhose()
    {
        string path = Tool.Compile("cold.c", SplitProgram, "-O2", "-freorder-blocks-and-partition");
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable symbols = ElfSymbolReader.Read(elf);
        int function = symbols.Find("work");
        int cold = symbols.Find("work.cold");
        Assert.That(function, Is.GreaterThanOrEqualTo(0));
        Assert.That(cold, Is.GreaterThanOrEqualTo(0), "gcc made no cold part");
        Assert.That(symbols.GetFlags(cold) & SymbolFlags.ColdPart, Is.Not.EqualTo(SymbolFlags.None));
        Assert.That(symbols.TryGetColdPart(function, out ulong start, out ulong length));
        Assert.That((start, length), Is.EqualTo((symbols.GetAddress(cold), symbols.GetSize(cold))));
        Assert.That(symbols.TryGetColdPart(symbols.Find("main"), out _, out _), Is.False);
        Assert.That(symbols.TryGetColdPart(cold, out _, out _), Is.False);

        // The stripped program says it too, without a name.
        string stripped = Tool.StripCopy(path);
        using ElfFile bare = ElfFile.Open(new DiskFile(stripped), stripped);
        EhFrame frame = EhFrame.Read(bare);
        Assert.That(frame.TryFindRange(start, out ulong rangeStart, out ulong rangeLength, out bool isContinuation));
        Assert.That((rangeStart, rangeLength, isContinuation), Is.EqualTo((start, length, true)));
        Assert.That(frame.TryFindRange(symbols.GetAddress(function), out rangeStart, out rangeLength, out isContinuation));
        Assert.That((rangeStart, rangeLength, isContinuation), Is.EqualTo((symbols.GetAddress(function), symbols.GetSize(function), false)));
    }

    [Test]
    public void StaticFunctionsOfOneName_EachGetTheirOwnColdPart()
    {
        string first = Tool.Compile("a.o", SplitProgram.Replace("__attribute__((noipa)) int work", "static __attribute__((noipa)) int work", StringComparison.Ordinal), "-O2", "-c");
        string second = Tool.Compile(
            "b.o", SplitProgram.Replace("__attribute__((noipa)) int work", "static __attribute__((noipa)) int work", StringComparison.Ordinal).Replace("int main", "int other", StringComparison.Ordinal), "-O2", "-c");
        string path = Tool.NewPath("both");
        Tool.Run("gcc", "-O2", "-o", path, first, second);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable symbols = ElfSymbolReader.Read(elf);
        List<int> functions = [];
        List<int> cold = [];
        Assert.That(symbols.FindAll("work", functions), Is.EqualTo(2));
        Assert.That(symbols.FindAll("work.cold", cold), Is.EqualTo(2));
        Assert.That(symbols.TryGetColdPart(functions[0], out ulong firstStart, out _));
        Assert.That(symbols.TryGetColdPart(functions[1], out ulong secondStart, out _));

        // The linker keeps the order of the files in both sections.
        Assert.That(new[] { firstStart, secondStart }, Is.EqualTo(cold.Select(symbols.GetAddress)));
    }

    [Test]
    public void MostColdPartsOfLibcAndOfTheJvm_AreContinuations()
    {
        foreach (string name in new[] { SystemFiles.Libc, "jvm" })
        {
            string path = SystemFiles.Find(name);
            using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
            SymbolTable symbols = new ModuleImage(elf, new DebugFileLocator(new FilePlatform(), "", path)).Symbols;
            EhFrame frame = EhFrame.Read(elf);
            int total = 0;
            int recognised = 0;
            for (int i = 0; i < symbols.Count; i++)
            {
                if ((symbols.GetFlags(i) & SymbolFlags.ColdPart) != 0
                    && frame.TryFindRange(symbols.GetAddress(i), out ulong start, out _, out bool isContinuation) && start == symbols.GetAddress(i))
                {
                    total++;
                    recognised += isContinuation ? 1 : 0;
                }
            }

            TestContext.Out.WriteLine($"{name}: {recognised} of {total} cold parts");
            Assert.That(recognised, Is.GreaterThanOrEqualTo(total / 2));
        }
    }

    private const string SplitProgram = """
        #include <stdio.h>
        #include <stdlib.h>
        __attribute__((cold, noinline)) static void report(const char *what, int a, int b) { fprintf(stderr, "%s %d %d\n", what, a, b); }
        __attribute__((noipa)) int work(int *values, int count)
        {
            int buffer[64]; int sum = 0;
            for (int i = 0; i < count; i++) {
                buffer[i & 63] = values[i] + sum;
                if (__builtin_expect(values[i] < 0, 0)) { report("negative", i, values[i]); report("sum", sum, buffer[3]); abort(); }
                sum += atoi("3") + buffer[(i * 7) & 63];
            }
            return sum;
        }
        int main(int argc, char **argv) { int v[4] = {1, 2, argc, 4}; (void)argv; return work(v, 4) & 1; }
        """;
}

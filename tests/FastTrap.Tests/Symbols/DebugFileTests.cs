using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Separate debug files: where they are looked for, and which are believed.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class DebugFileTests
{
    private const string Source = """
        #include <stdlib.h>
        static __attribute__((noinline)) int hidden_function(int x) { return atoi("7") + x; }
        int main(int argc, char **argv) { (void)argv; return hidden_function(argc); }
        """;

    [Test]
    public void Libc_GetsItsLocalFunctionsByBuildId()
    {
        string path = SystemFiles.Find(SystemFiles.Libc);
        FilePlatform platform = new();
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        ModuleImage image = new(elf, new DebugFileLocator(platform, "", path));
        SymbolTable symbols = image.Symbols;
        if (image.DebugFilePath == null)
        {
            Assert.Ignore("the debug package of libc is not installed");
        }

        string id = Convert.ToHexStringLower(elf.BuildId);
        Assert.That(image.DebugFilePath, Is.EqualTo($"/usr/lib/debug/.build-id/{id[..2]}/{id[2..]}.debug"));
        Assert.That(image.IsStripped, Is.False);
        HashSet<string> expected = [.. Tool.Run("nm", "--defined-only", image.DebugFilePath!).Split('\n').Where(l => l[17] is 't' or 'T' or 'i' or 'W').Select(l => l[19..].Split('@')[0])];
        HashSet<string> actual = [.. Enumerable.Range(0, symbols.Count).Select(symbols.GetName)];

        // nm also lists labels in code that are no functions, and data with weak names.
        Assert.That(actual.Except(expected).Take(5), Is.Empty);
        Assert.That(actual, Has.Count.GreaterThan(expected.Count * 9 / 10));
        Assert.That(symbols.Find("__memcpy_avx_unaligned_erms"), Is.GreaterThanOrEqualTo(0));
        int memcpy = symbols.Find("memcpy@@GLIBC_2.14");
        Assert.That(symbols.GetFlags(memcpy), Is.EqualTo(SymbolFlags.Global | SymbolFlags.Ifunc | SymbolFlags.Dynamic | SymbolFlags.DefaultVersion));
    }

    [TestCase("{0}/app/program.debug", false)]
    [TestCase("{0}/app/.debug/program.debug", false)]
    [TestCase("{0}/usr/lib/debug/app/program.debug", false)]
    [TestCase("{0}/usr/lib/debug/.build-id/{1}", true)]
    public void OwnProgram_FindsItsDebugFile(string place, bool hasBuildId)
    {
        (string program, string debug) = Build(hasBuildId);
        Assert.That(Read(program, place, debug, hasBuildId).Symbols.Find("hidden_function"), Is.GreaterThanOrEqualTo(0));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void DebugFileOfAnotherBuild_IsNotBelieved(bool hasBuildId)
    {
        (string program, _) = Build(hasBuildId);
        (_, string debug) = Build(hasBuildId, "-O2");
        ModuleImage image = Read(program, hasBuildId ? "{0}/usr/lib/debug/.build-id/{1}" : "{0}/app/program.debug", debug, hasBuildId);
        Assert.That(image.Symbols.Find("hidden_function"), Is.EqualTo(-1));
        Assert.That(image.DebugFilePath, Is.Null);
        Assert.That(image.IsStripped);
    }

    [Test]
    public void BrokenDebugFile_CostsNothing()
    {
        (string program, string debug) = Build(true);
        byte[] bytes = File.ReadAllBytes(debug);
        using ElfFile elf = ElfFile.Open(new DiskFile(bytes), debug);
        Assert.That(elf.TryGetSection(ElfSection.SymbolTable, out ElfSection table));
        int header = (int)BitConverter.ToUInt64(bytes, 40) + (elf.Sections.IndexOf(table) * 64);
        BitConverter.TryWriteBytes(bytes.AsSpan(header + 24), 0x7fffffffffffUL);
        File.WriteAllBytes(debug, bytes);
        ModuleImage image = Read(program, "{0}/usr/lib/debug/.build-id/{1}", debug, true);
        Assert.That(image.Symbols, Is.Not.Null);
        Assert.That(image.DebugFailure!.Problem, Is.EqualTo(ElfProblem.Truncated));
    }

    [Test]
    public void Failure_IsKept()
    {
        byte[] bytes = File.ReadAllBytes(Tool.Compile("program.c", Source));
        using ElfFile good = ElfFile.Open(new DiskFile(bytes), "x");
        Assert.That(good.TryGetSection(ElfSection.SymbolTable, out ElfSection table));
        int header = (int)BitConverter.ToUInt64(bytes, 40) + (good.Sections.IndexOf(table) * 64);
        BitConverter.TryWriteBytes(bytes.AsSpan(header + 32), ulong.MaxValue);
        using ElfFile elf = ElfFile.Open(new DiskFile(bytes), "x");
        ModuleImage image = new(elf);
        ElfFormatException first = Assert.Throws<ElfFormatException>(() => _ = image.Symbols)!;
        Assert.That(Assert.Throws<ElfFormatException>(() => _ = image.Symbols), Is.SameAs(first));
    }

    [Test]
    public void AssemblyWithoutSizes_GetsGuesses_WhichUnwindRangesReplace()
    {
        const string Assembly = """
            asm(".text\n.globl one\n.type one,@function\none: nop\nnop\nret\n.globl two\n.type two,@function\ntwo: .cfi_startproc\nret\n.cfi_endproc\nnop\nnop\nnop\n"
                ".globl three\n.type three,@function\nthree: ret\n.size three,1\n.globl label\nlabel: ret\n.globl entry\nentry: ret\n.size entry,1\n");
            int main(void) { return 0; }
            """;
        string path = Tool.Compile("asm.c", Assembly);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        ModuleImage image = new(elf);
        SymbolTable symbols = image.Symbols;
        Assert.That(symbols.GetSize(symbols.Find("one")), Is.EqualTo(3));
        Assert.That(symbols.GetFlags(symbols.Find("one")) & SymbolFlags.SizeIsGuessed, Is.Not.EqualTo(SymbolFlags.None));
        Assert.That(image.TryGetExtent(symbols.Find("one"), out _, out ulong length), Is.False);
        Assert.That(length, Is.EqualTo(3));
        Assert.That(symbols.GetSize(symbols.Find("two")), Is.EqualTo(4));
        Assert.That(image.TryGetExtent(symbols.Find("two"), out _, out length));
        Assert.That(length, Is.EqualTo(1));
        Assert.That(symbols.GetFlags(symbols.Find("three")), Is.EqualTo(SymbolFlags.Global));
        Assert.That(symbols.Find("label"), Is.EqualTo(-1), "a label is no function");
        Assert.That(symbols.GetFlags(symbols.Find("entry")), Is.EqualTo(SymbolFlags.Global | SymbolFlags.NoType));
    }

    [Test]
    public void Aliases_AreNeighbours_TheUsualNameFirst()
    {
        string path = Tool.Compile("alias.c", """
            int __real_name(int x) { return x; }
            int name(int) __attribute__((alias("__real_name")));
            int weak_name(int) __attribute__((weak, alias("__real_name")));
            static int local_name(int) __attribute__((used, alias("__real_name")));
            int main(void) { return 0; }
            """);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable symbols = ElfSymbolReader.Read(elf);
        (int first, int count) = symbols.GetAliases(symbols.Find("local_name"));
        Assert.That(Enumerable.Range(first, count).Select(symbols.GetName), Is.EqualTo(new[] { "name", "__real_name", "weak_name", "local_name" }));
        Assert.That(symbols.FindContaining(symbols.GetAddress(first) + 1), Is.EqualTo(first));
        Assert.That(symbols.FindAt(symbols.GetAddress(first)), Is.EqualTo(first));
    }

    private static (string Program, string Debug) Build(bool hasBuildId, string optimisation = "-O1")
    {
        string program = Tool.Compile("program.c", Source, hasBuildId ? "-Wl,--build-id=sha1" : "-Wl,--build-id=none", optimisation, "-g");
        string debug = Tool.NewPath("program.debug");
        Tool.Run("objcopy", "--only-keep-debug", program, debug);
        Tool.Run("objcopy", "--strip-all", $"--add-gnu-debuglink={debug}", program);
        return (program, debug);
    }

    /// <summary>Reads a program as /app/program of a root of its own, which holds only the debug file besides.</summary>
    private static ModuleImage Read(string program, string place, string debug, bool hasBuildId)
    {
        string root = Path.GetDirectoryName(Tool.NewPath("x"))!;
        ElfFile elf = ElfFile.Open(new DiskFile(program), program);
        string id = Convert.ToHexStringLower(elf.BuildId);
        Assert.That(id.Length != 0, Is.EqualTo(hasBuildId));
        string target = string.Format(null, place, root, hasBuildId ? $"{id[..2]}/{id[2..]}.debug" : "");
        Directory.CreateDirectory(Path.GetDirectoryName(target)!);
        File.Copy(debug, target);
        return new ModuleImage(elf, new DebugFileLocator(new FilePlatform(), root, "/app/program"));
    }
}

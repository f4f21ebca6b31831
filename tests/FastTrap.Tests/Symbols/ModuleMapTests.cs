using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Modules of running programs against what the programs say of themselves (dl_iterate_phdr, addresses of functions).</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class ModuleMapTests
{
    private const string Program = """
        #define _GNU_SOURCE
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <link.h>
        #include <dlfcn.h>
        #include <sys/auxv.h>
        __attribute__((noinline)) int twice(int x) { return x * 2; }
        static int show(struct dl_phdr_info *info, size_t size, void *data)
        {
            (void)size; (void)data;
            printf("module %lx %s\n", (unsigned long)info->dlpi_addr, info->dlpi_name[0] ? info->dlpi_name : "main");
            return 0;
        }
        int main(int argc, char **argv)
        {
            for (int i = 1; i < argc; i++) {
                void *lib = dlopen(argv[i], RTLD_NOW);
                if (!lib) { fprintf(stderr, "%s\n", dlerror()); return 1; }
                printf("lib%d %lx\n", i, (unsigned long)dlsym(lib, "exported"));
            }
            dl_iterate_phdr(show, 0);
            printf("main %lx\ntwice %lx\n", (unsigned long)main, (unsigned long)twice);
            printf("vdso %lx\n", getauxval(AT_SYSINFO_EHDR));
            puts("ready"); fflush(stdout);
            getchar();
            return 0;
        }
        """;

    private const string Library = "__attribute__((visibility(\"default\"))) int exported(int x) { return x + 1; }";

    [TestCase("-pie", "-fPIE")]
    [TestCase("-no-pie", "-fno-pie")]
    [TestCase("-pie", "-Wl,-z,noseparate-code")]
    [TestCase("-pie", "-Wl,-z,max-page-size=0x200000")]
    [TestCase("-no-pie", "-Wl,-Ttext-segment=0x10000000")]
    [TestCase("-static", "-O1")]
    [TestCase("-static-pie", "-fPIE")]
    public void Biases_AreThoseOfTheDynamicLinker(params string[] options)
    {
        using LiveProgram program = new(Tool.Compile("program.c", Program, options));
        ModuleMap map = program.Map();
        Module main = map.MainExecutable!;
        Assert.That(main.IsMainExecutable);
        Assert.That(main.Name, Is.EqualTo("program"));
        AssertFunction(map, program.Address("main"), "main", main);
        AssertFunction(map, program.Address("twice"), "twice", main);
        int compared = 0;
        foreach ((_, string value) in program.Facts.Where(f => f.Name == "module"))
        {
            string[] words = value.Split(' ');
            ulong bias = Convert.ToUInt64(words[0], 16);
            Module? module = words[1] == "main" ? main
                : words[1].StartsWith("linux-vdso", StringComparison.Ordinal) ? map.Modules.Single(m => m.IsVdso)
                : map.Modules.Single(m => m.Name == Path.GetFileName(words[1]));
            Assert.That(module.TryGetImage(out _, out ModuleFailure failure), failure?.Message);
            Assert.That(module.LoadBias, Is.EqualTo(bias), value);
            compared++;
        }

        Assert.That(compared, Is.GreaterThanOrEqualTo(1));
    }

    [Test]
    public void Vdso_HasItsSymbolsFromMemory()
    {
        using LiveProgram program = new(Tool.Compile("program.c", Program));
        Module vdso = program.Map().Modules.Single(m => m.IsVdso);
        Assert.That(vdso.Start, Is.EqualTo(program.Address("vdso")));
        Assert.That(vdso.TryGetSymbols(out SymbolTable symbols, out ModuleFailure failure), failure?.Message);
        Assert.That(symbols.Find("__vdso_clock_gettime"), Is.GreaterThanOrEqualTo(0));
        Assert.That(vdso.Soname, Is.EqualTo("linux-vdso.so.1"));
        Assert.That(program.Map(readsMemory: false).Modules.Single(m => m.IsVdso).TryGetSymbols(out _, out failure), Is.False);
        Assert.That(failure.Problem, Is.EqualTo(ModuleProblem.Unreadable));
    }

    [Test]
    public void LibraryWithAddressesOfItsOwn_AndTwoCopiesOfOne()
    {
        string moved = Tool.Compile("libmoved.so.2.1", Library, "-shared", "-fPIC", "-Wl,-Ttext-segment=0x400000", "-Wl,-soname,libother.so.7");
        string copy = Tool.NewPath("libcopy.so");
        File.Copy(moved, copy);
        using LiveProgram program = new(Tool.Compile("program.c", Program), moved, copy);
        ModuleMap map = program.Map();
        Module first = map.Find(program.Address("lib1"))!;
        Module second = map.Find(program.Address("lib2"))!;
        Assert.That(first, Is.Not.SameAs(second));
        AssertFunction(map, program.Address("lib1"), "exported", first);
        AssertFunction(map, program.Address("lib2"), "exported", second);
        Assert.That(Names(map, "libother"), Is.EquivalentTo(new[] { first.Name, "libcopy.so" }));
        Assert.That(Names(map, "libother.so.7"), Has.Count.EqualTo(2));
        Assert.That(Names(map, "libcopy"), Is.EqualTo(new[] { "libcopy.so" }));
        Assert.That(Names(map, "libc"), Is.EqualTo(new[] { "libc.so.6" }));
        Assert.That(Names(map, "lib[c]"), Is.EqualTo(new[] { "libc.so.6" }));
        Assert.That(Names(map, "a.out"), Is.EqualTo(new[] { "program" }));
        Assert.That(Names(map, "a.*"), Is.Empty);
        Assert.That(Names(map, "*/libcopy.so"), Is.EqualTo(new[] { "libcopy.so" }));
        Assert.That(Names(map, "/libcopy.so"), Is.Empty);
        Assert.That(Names(map, "[vdso]"), Is.EqualTo(new[] { "[vdso]" }));
        Assert.That(Names(map, ""), Has.Count.EqualTo(map.Modules.Count));
    }

    [Test]
    public void OneFileMappedTwice_IsTwoModules()
    {
        MappedRange[] ranges =
        [
            new(0x1000, 0x2000, 0, false, false, "/lib/x.so", 5, false), new(0x2000, 0x3000, 0x1000, true, false, "/lib/x.so", 5, false),
            new(0x3000, 0x4000, 0x1000, false, false, "/lib/x.so", 5, false), new(0x9000, 0xa000, 0, false, false, "/lib/x.so", 5, false),
            new(0xa000, 0xb000, 0x1000, true, false, "/lib/x.so", 5, false), new(0xc000, 0xd000, 0, false, false, "/data", 6, false),
        ];
        ModuleMap map = ModuleMap.Create(ranges, new ModuleOpener(new FilePlatform(), int.MaxValue, new SymbolCache(), null));
        Assert.That(map.Modules.Select(m => (m.Start, m.End)), Is.EqualTo(new[] { (0x1000ul, 0x4000ul), (0x9000ul, 0xb000ul) }));
        ModuleMap next = ModuleMap.Create(ranges[..3], new ModuleOpener(new FilePlatform(), int.MaxValue, new SymbolCache(), null), map);
        Assert.That(next.Modules.Single(), Is.SameAs(map.Modules[0]), "an unchanged module is taken over");
        Assert.That(map.Modules[0].TryGetSymbols(out _, out ModuleFailure failure), Is.False);
        Assert.That(failure.Problem, Is.EqualTo(ModuleProblem.NotFound));
    }

    [Test]
    public void DeletedProgram_IsReadThroughTheKernel()
    {
        string path = Tool.Compile("program.c", Program);
        string library = Tool.Compile("libgone.so", Library, "-shared", "-fPIC", "-Wl,-soname,libgone.so");
        using LiveProgram program = new(path, library);
        File.Delete(path);
        File.Delete(library);
        ModuleMap map = program.Map();
        Module main = map.MainExecutable!;
        Assert.That(main.IsDeleted);
        Assert.That((main.Name, main.Path), Is.EqualTo(("program", path)));
        AssertFunction(map, program.Address("main"), "main", main);

        FilePlatform denied = new() { Denied = { $"/proc/{program.Id}/map_files" } };
        ModuleMap unprivileged = program.Map(denied);
        AssertFunction(unprivileged, program.Address("main"), "main", unprivileged.MainExecutable!);
        Module gone = unprivileged.Find(program.Address("lib1"))!;
        Assert.That(gone.Name, Is.EqualTo("libgone"));
        Assert.That(gone.TryGetSymbols(out _, out ModuleFailure failure), Is.False);
        Assert.That(failure.Problem, Is.EqualTo(ModuleProblem.Deleted));
        if (Environment.UserName == "root")
        {
            AssertFunction(map, program.Address("lib1"), "exported", map.Find(program.Address("lib1"))!);
        }
    }

    [Test]
    public void ReplacedLibrary_IsRefused_UnlessItsContentsAreTheSame()
    {
        string library = Tool.Compile("libx.so", Library, "-shared", "-fPIC");
        byte[] original = File.ReadAllBytes(library);
        string other = Tool.Compile("libx.so", Library.Replace("x + 1", "x * 77", StringComparison.Ordinal), "-shared", "-fPIC");
        using LiveProgram program = new(Tool.Compile("program.c", Program), library);
        FilePlatform platform = new() { Denied = { $"/proc/{program.Id}/map_files" } };
        File.Delete(library);
        File.Copy(other, library);
        Assert.That(program.Map(platform).Find(program.Address("lib1"))!.TryGetSymbols(out _, out ModuleFailure failure), Is.False);
        Assert.That(failure.Problem, Is.EqualTo(ModuleProblem.Deleted));
        File.Delete(library);
        File.WriteAllBytes(library, original);
        ModuleMap map = program.Map(platform);
        AssertFunction(map, program.Address("lib1"), "exported", map.Find(program.Address("lib1"))!);
        Assert.That(program.Map(platform, readsMemory: false).Find(program.Address("lib1"))!.TryGetSymbols(out _, out _), Is.False);
    }

    [Test]
    public void UnreadableFile_AndFileThatIsNoElf_SayWhy()
    {
        using LiveProgram program = new(Tool.Compile("program.c", Program));
        FilePlatform platform = new() { Denied = { $"/proc/{program.Id}/" } };
        Module main = program.Map(platform).MainExecutable!;
        Assert.That(main.TryGetImage(out _, out ModuleFailure failure), Is.False);
        Assert.That(failure.Problem, Is.EqualTo(ModuleProblem.PermissionDenied));

        string text = Tool.NewPath("text");
        File.WriteAllText(text, "no program");
        MappedRange range = new(0x1000, 0x2000, 0, true, false, text, new DiskFile(text).Identity.Inode, false);
        Module bad = ModuleMap.Create([range], new ModuleOpener(new FilePlatform(), Environment.ProcessId, new SymbolCache(), null)).Modules.Single();
        Assert.That(bad.TryGetSymbols(out _, out failure), Is.False);
        Assert.That((failure.Problem, failure.Format), Is.EqualTo((ModuleProblem.BadFormat, ElfProblem.NotElf)));
    }

    [Test]
    public void ThisProcess_WithItsRuntimeAndItsJit_IsUnderstood()
    {
        ModuleMap map = ModuleMap.Create(LiveProgram.Mappings(Environment.ProcessId), new ModuleOpener(new FilePlatform(), Environment.ProcessId, new SymbolCache(), null));
        Assert.That(map.MainExecutable, Is.Not.Null);
        foreach ((string library, string[] functions) in new[]
        {
            ("libc.so.6", new[] { "malloc", "qsort", "fopen", "pthread_create" }),
            ("libstdc++.so.6", ["__cxa_demangle", "_Znwm"]),
            ("libm.so.6", ["cbrt", "hypot"]),
        })
        {
            nint handle = System.Runtime.InteropServices.NativeLibrary.Load(library);
            map = ModuleMap.Create(LiveProgram.Mappings(Environment.ProcessId), new ModuleOpener(new FilePlatform(), Environment.ProcessId, new SymbolCache(), null), map);
            foreach (string function in functions)
            {
                ulong address = (ulong)System.Runtime.InteropServices.NativeLibrary.GetExport(handle, function);
                Module module = map.Find(address)!;
                Assert.That(new ModulePattern(library).IsMatch(module), module.Path);
                int index = module.FindFunction(address, out SymbolTable symbols);
                (int first, int count) = symbols.GetAliases(index);
                Assert.That(Enumerable.Range(first, count).Select(symbols.GetName), Does.Contain(function));
            }
        }

        foreach (Module module in map.Modules.Where(m => m.Name.EndsWith(".so", StringComparison.Ordinal)))
        {
            Assert.That(module.TryGetSymbols(out _, out ModuleFailure failure), failure?.Message);
        }
    }

    [Test]
    public void Cache_SharesImagesBetweenProcesses_AndForgetsTheOldest()
    {
        string path = Tool.Compile("program.c", Program);
        SymbolCache cache = new();
        FilePlatform platform = new();
        using LiveProgram first = new(path);
        using LiveProgram second = new(path);
        Assert.That(first.Map(platform, cache).MainExecutable!.TryGetImage(out ModuleImage image, out _));
        Assert.That(second.Map(platform, cache).MainExecutable!.TryGetImage(out ModuleImage again, out _));
        Assert.That(again, Is.SameAs(image));
        Assert.That(second.Map(platform, cache).MainExecutable!.LoadBias, Is.EqualTo(second.Address("main") - image.Symbols.GetAddress(image.Symbols.Find("main"))));

        SymbolCache small = new(2);
        FastTrap.Native.FileIdentity Key(ulong inode) => new(1, inode, 0, 0);
        small.GetOrAdd(Key(1), image);
        small.GetOrAdd(Key(2), image);
        Assert.That(small.TryGet(Key(1), out _));
        small.GetOrAdd(Key(3), image);
        Assert.That(small.Count, Is.EqualTo(2));
        Assert.That(small.TryGet(Key(2), out _), Is.False);
        Assert.That(small.TryGet(Key(1), out _) && small.TryGet(Key(3), out _));
    }

    private static void AssertFunction(ModuleMap map, ulong address, string name, Module module)
    {
        Assert.That(map.Find(address), Is.SameAs(module));
        Assert.That(module.TryGetSymbols(out _, out ModuleFailure failure), failure?.Message);
        int function = module.FindFunction(address, out SymbolTable symbols);
        Assert.That(function, Is.GreaterThanOrEqualTo(0), name);
        Assert.That(symbols.GetName(function), Is.EqualTo(name));
        Assert.That(symbols.GetAddress(function) + module.LoadBias, Is.EqualTo(address));
    }

    private static List<string> Names(ModuleMap map, string pattern) => [.. map.Match(new ModulePattern(pattern)).Select(m => m.Name)];
}

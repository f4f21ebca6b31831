using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Implementations of IFUNCs against the addresses which the running program itself got.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class IfuncResolverTests
{
    private const string Program = """
        #include <stdio.h>
        #include <string.h>
        int slow(int x) { return x + 1; }
        int fast(int x) { return x + 2; }
        static int (*pick(void))(int) { return fast; }
        int compute(int) __attribute__((ifunc("pick")));
        int call(int x) { return compute(x); }
        int main(int argc, char **argv)
        {
            char a[64], b[64]; memset(a, argc, 64); memcpy(b, a, (size_t)argc); (void)argv;
            printf("result %x\nfast %lx\nslow %lx\n", call(0), (unsigned long)fast, (unsigned long)slow);
        #ifndef STATIC
            void *(*volatile copy)(void *, const void *, size_t) = memcpy; printf("memcpy %lx\n", (unsigned long)copy);
        #endif
            puts("ready"); fflush(stdout); getchar();
            return b[0] == 99;
        }
        """;

    [TestCase("-pie", "-fPIE")]
    [TestCase("-no-pie", "-fno-pie")]
    [TestCase("-pie", "-Wl,-z,now")]
    [TestCase("-pie", "-Wl,-z,lazy")]
    [TestCase("-static", "-DSTATIC")]
    [TestCase("-static-pie", "-DSTATIC")]
    public void ProgramsOwnIfunc_LeadsToWhatItsResolverPicked(params string[] options)
    {
        using LiveProgram program = new(Tool.Compile("ifunc.c", Program, options));
        Assert.That(program.Address("result"), Is.EqualTo(2));
        ModuleMap map = program.Map();
        Assert.That(map.MainExecutable!.TryGetSymbols(out SymbolTable symbols, out _));
        int function = symbols.Find("compute");
        Assert.That(symbols.GetFlags(function) & SymbolFlags.Ifunc, Is.Not.EqualTo(SymbolFlags.None));
        List<ulong> found = [];
        IfuncResolver.FindImplementations(map.MainExecutable, function, map.Modules, program.ReadMemory, found);
        Assert.That(found, Is.EqualTo(new[] { program.Address("fast") }));
    }

    [Test]
    public void Memcpy_IsFoundInTheSlotsOfItsCallers()
    {
        // A position-independent program takes memcpy's address from a slot of its own; that is the oracle.
        using LiveProgram program = new(Tool.Compile("ifunc.c", Program, "-pie", "-fPIE", "-fno-builtin"));
        ModuleMap map = program.Map();
        Module libc = map.Modules.Single(m => m.Name == "libc.so.6");
        Assert.That(libc.TryGetSymbols(out SymbolTable symbols, out ModuleFailure failure), failure?.Message);
        int function = symbols.Find("memcpy@@GLIBC_2.14");
        Assert.That(symbols.GetFlags(function) & SymbolFlags.Ifunc, Is.Not.EqualTo(SymbolFlags.None));
        List<ulong> found = [];
        IfuncResolver.FindImplementations(libc, function, map.Modules, program.ReadMemory, found);
        Assert.That(found, Does.Contain(program.Address("memcpy")));
        Assert.That(found, Has.Count.LessThanOrEqualTo(2));
    }
}

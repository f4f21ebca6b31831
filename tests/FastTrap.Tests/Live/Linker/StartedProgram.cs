using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live.Linker;

/// <summary>A small program with a library, both of which say when they run, built in one of many ways.</summary>
internal sealed class StartedProgram
{
    private const string Library = """
        #include <unistd.h>
        __attribute__((noipa, used)) int library_called(int a) { return a + 1; }
        __attribute__((constructor)) static void begin(void) { library_called(1); write(1, "L", 1); }
        """;

    private const string Program = """
        #include <stdlib.h>
        #include <unistd.h>
        int library_called(int a);
        __attribute__((noipa, used)) void program_called(void) { write(1, "P", 1); if (getenv("ENDS_EARLY")) _exit(3); }
        __attribute__((constructor)) static void begin(void) { program_called(); }
        int main(int argc, char **argv) { (void)argv; write(1, "M", 1); return library_called(4) + argc - 1; }
        """;

    private const string Bare = """
        __attribute__((noreturn)) void _start(void) { __asm__ volatile("mov $60, %eax; mov $5, %edi; syscall"); __builtin_unreachable(); }
        """;

    private StartedProgram(string path, params string[] arguments)
    {
        Path = path;
        Arguments = arguments;
    }

    public string Path { get; }

    public IReadOnlyList<string> Arguments { get; }

    /// <summary>Builds it; the test is skipped where a compiler is missing. The ways are words such as <c>musl</c>, <c>stripped</c>, <c>linker</c>.</summary>
    public static StartedProgram Build(PrivateDirectory directory, string ways)
    {
        HashSet<string> way = [.. ways.Split(' ')];
        bool isMusl = way.Contains("musl");
        string? compiler = Command.Find(isMusl ? "musl-gcc" : "gcc");
        Assume.That(compiler, Is.Not.Null, isMusl ? "musl-tools is not installed." : "gcc is not installed.");
        bool isStatic = way.Contains("static") || way.Contains("static-pie");
        string program = directory["program"];
        if (way.Contains("bare"))
        {
            File.WriteAllText(directory["program.c"], Bare);
            Compile("-static", "-nostdlib", "-o", program, directory["program.c"]);
            return new StartedProgram(program);
        }

        File.WriteAllText(directory["library.c"], Library);
        File.WriteAllText(directory["program.c"], Program);
        List<string> link =
        [
            way.Contains("static-pie") ? "-static-pie" : way.Contains("static") ? "-static" : way.Contains("fixed") ? "-no-pie" : "-pie",
            way.Contains("fixed") || way.Contains("static") ? "-fno-pie" : "-fPIE",
        ];
        if (way.Contains("stripped"))
        {
            link.Add("-s");
        }

        if (isStatic)
        {
            Compile([.. link, "-o", program, directory["program.c"], directory["library.c"]]);
        }
        else
        {
            Compile("-shared", "-fPIC", "-o", directory["liblibrary.so"], directory["library.c"]);
            Compile([.. link, "-o", program, directory["program.c"], directory["liblibrary.so"]]);
        }

        return way.Contains("linker") ? new StartedProgram(isMusl ? "/lib/ld-musl-x86_64.so.1" : "/lib64/ld-linux-x86-64.so.2", program) : new StartedProgram(program);

        void Compile(params string[] arguments)
        {
            CommandResult result = Command.Run(compiler!, ["-O1", "-w", .. arguments], TimeSpan.FromMinutes(1));
            Assert.That(result.ExitCode, Is.Zero, result.Error);
        }
    }
}

using System.Collections.Concurrent;
using System.Diagnostics;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>Builds the C programs of tests/targets once per test run. The programs are never started here: only the compiler is.</summary>
internal static class CCompiler
{
    private static readonly ConcurrentDictionary<string, Lazy<string>> s_built = new();

    /// <summary>The program's path, built with the native compiler.</summary>
    public static string Build(string source, params string[] options) =>
        s_built.GetOrAdd(
            string.Join(' ', [source, .. options]),
            key => new Lazy<string>(() => Compile("gcc", source, Path.Combine(OutputDirectory(), $"{Path.GetFileNameWithoutExtension(source)}-{s_built.Count}"), options)))
            .Value;

    public static string Compile(string compiler, string source, string output, params string[] options)
    {
        string text = Run(compiler, [Path.Combine(SourceDirectory(), source), "-o", output, "-Wall", "-Werror", "-pthread", .. options], out int exitCode);
        Assert.That(exitCode, Is.Zero, text);
        return output;
    }

    public static bool Exists(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(':').Any(directory => File.Exists(Path.Combine(directory, program)));

    /// <summary>Runs a program which is not traced, and returns what it wrote.</summary>
    public static string Run(string program, IEnumerable<string> arguments, out int exitCode)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        exitCode = process.ExitCode;
        return output + errors.GetAwaiter().GetResult();
    }

    public static string OutputDirectory() => Directory.CreateDirectory(Path.Combine(TestContext.CurrentContext.TestDirectory, "targets")).FullName;

    private static string SourceDirectory()
    {
        for (string? directory = TestContext.CurrentContext.TestDirectory; directory is not null; directory = Path.GetDirectoryName(directory))
        {
            string candidate = Path.Combine(directory, "tests", "targets");
            if (Directory.Exists(candidate))
            {
                return candidate;
            }
        }

        throw new DirectoryNotFoundException("tests/targets was not found above the test assembly.");
    }
}

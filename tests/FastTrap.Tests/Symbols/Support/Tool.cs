using System.Diagnostics;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Runs programs whose output is an oracle, and compilers. Nothing that it starts is ever traced.</summary>
internal static class Tool
{
    private static readonly string s_directory = Directory.CreateTempSubdirectory("fasttrap-symbols-").FullName;

    /// <summary>Where this run's programs are built; removed when the tests end.</summary>
    public static string WorkDirectory => s_directory;

    /// <summary>Runs a program and returns its standard output; fails the test when it does not succeed.</summary>
    public static string Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero, $"{program} {string.Join(' ', arguments)}: {errors.Result}");
        return output.TrimEnd('\n');
    }

    /// <summary>Compiles a source text with gcc (or g++ for .cpp) and returns the program's path.</summary>
    public static string Compile(string name, string source, params string[] options)
    {
        bool isCpp = name.EndsWith(".cpp", StringComparison.Ordinal);
        string sourcePath = NewPath(isCpp ? "source.cpp" : "source.c");
        File.WriteAllText(sourcePath, source);
        string output = Path.Combine(s_directory, $"{Guid.NewGuid():N}", Path.GetFileNameWithoutExtension(name));
        Directory.CreateDirectory(Path.GetDirectoryName(output)!);
        Run(isCpp ? "g++" : "gcc", [sourcePath, "-o", output, .. options]);
        return output;
    }

    /// <summary>A stripped copy of a program.</summary>
    public static string StripCopy(string path)
    {
        string copy = NewPath(Path.GetFileName(path));
        Run("strip", "-o", copy, path);
        return copy;
    }

    /// <summary>A path for a file of this name in a directory of its own.</summary>
    public static string NewPath(string name) => Path.Combine(Directory.CreateDirectory(Path.Combine(s_directory, $"{Guid.NewGuid():N}")).FullName, name);
}

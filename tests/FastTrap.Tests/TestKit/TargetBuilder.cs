using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace FastTrap.Tests.TestKit;

/// <summary>Builds the programs of <c>tests/targets</c> when they are asked for, once per user, source and variant.</summary>
/// <remarks>
/// Thread-safe, and safe between processes: a program is built under a name of its own and then renamed into place, so that whoever comes second
/// finds it whole. Results stay in a directory of the user's for the next run; a change of the sources is a new directory.
/// </remarks>
internal static class TargetBuilder
{
    private static readonly ConcurrentDictionary<(string Name, TargetVariant Variant), Lazy<string>> s_built = new();
    private static readonly Lazy<string> s_directory = new(MakeDirectory);

    /// <summary>Where the sources are: copied beside the test assembly.</summary>
    public static string SourceDirectory => Path.Combine(AppContext.BaseDirectory, "targets");

    /// <summary>The path of a built target: <c>calls</c>, <c>threads</c> and so on, the source's name without its extension.</summary>
    public static string Build(string name, TargetVariant? variant = null) =>
        s_built.GetOrAdd((name, variant ?? TargetVariant.Default), static key => new Lazy<string>(() => Compile(key.Name, key.Variant, shared: false))).Value;

    /// <summary>The path of a built shared library, for example <c>preload_count</c>.</summary>
    public static string BuildLibrary(string name, TargetVariant? variant = null) =>
        s_built.GetOrAdd((name + ".so", variant ?? TargetVariant.Default), static key => new Lazy<string>(() => Compile(key.Name[..^3], key.Variant, shared: true))).Value;

    private static string Compile(string name, TargetVariant variant, bool shared)
    {
        string source = Path.Combine(SourceDirectory, name + ".c");
        bool isCpp = !File.Exists(source);
        if (isCpp)
        {
            source = Path.Combine(SourceDirectory, name + ".cpp");
        }

        if (!File.Exists(source))
        {
            throw new FileNotFoundException($"There is no target '{name}' in tests/targets.", source);
        }

        string label = string.Concat(variant.ToString().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '_'));
        string directory = Path.Combine(s_directory.Value, label);
        Directory.CreateDirectory(directory);
        string result = Path.Combine(directory, shared ? $"lib{name}.so" : name);
        if (File.Exists(result))
        {
            return result;
        }

        string building = $"{result}.{Environment.ProcessId}.{Guid.NewGuid():N}";
        List<string> arguments = [$"-O{variant.Optimization}", "-g", "-Wall", "-Wextra", "-pthread", isCpp ? "-std=c++17" : "-std=gnu11"];
        arguments.AddRange(shared ? ["-shared", "-fPIC"] : LinkFlags(variant.Link));

        // Libraries behind what needs them.
        ILookup<bool, string> flags = variant.Flags.Split(' ', StringSplitOptions.RemoveEmptyEntries).ToLookup(f => f.StartsWith("-l", StringComparison.Ordinal));
        arguments.AddRange([.. flags[false], "-o", building, source, .. flags[true], "-lm"]);
        string compilerName = variant.Toolchain + (isCpp ? "g++" : "gcc");
        string compiler = Command.Find(compilerName) ?? throw new InvalidOperationException($"{compilerName} is not installed; the native targets of the tests need it.");
        CommandResult outcome = Command.Run(compiler, arguments, TimeSpan.FromMinutes(2));
        if (outcome.ExitCode != 0)
        {
            File.Delete(building);
            throw new InvalidOperationException($"{compiler} {string.Join(' ', arguments)} failed:\n{outcome.Error}");
        }

        File.Move(building, result, overwrite: true);
        return result;
    }

    private static string[] LinkFlags(TargetLink link) => link switch
    {
        TargetLink.Pie => ["-fPIE", "-pie"],
        TargetLink.NoPie => ["-fno-pie", "-no-pie"],
        _ => ["-fno-pie", "-no-pie", "-static"],
    };

    private static string MakeDirectory()
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string file in Directory.GetFiles(SourceDirectory).Order(StringComparer.Ordinal))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(Path.GetFileName(file)));
            hash.AppendData(File.ReadAllBytes(file));
        }

        string key = Convert.ToHexStringLower(hash.GetHashAndReset())[..16];
        string path = Path.Combine(Path.GetTempPath(), $"fasttrap-targets-{Posix.geteuid()}", key);
        Directory.CreateDirectory(path);
        return path;
    }
}

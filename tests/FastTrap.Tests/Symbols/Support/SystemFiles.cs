using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Real programs and libraries of the machine that tests read. A file that is absent makes its test be skipped with a reason.</summary>
internal static class SystemFiles
{
    public const string Libc = "/lib/x86_64-linux-gnu/libc.so.6";
    public const string Libstdcxx = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6";

    public static readonly string[] All = [Libc, Libstdcxx, "jvm", "postgres", "python3", "ld.so", "arm64"];

    public static string Find(string name)
    {
        string? path = name switch
        {
            "jvm" => Directory.Exists("/usr/lib/jvm")
                ? Directory.EnumerateFiles("/usr/lib/jvm", "libjvm.so", SearchOption.AllDirectories).Order(StringComparer.Ordinal).LastOrDefault()
                : null,
            "postgres" => First("/usr/local/bin/postgres", "/usr/lib/postgresql/15/bin/postgres"),
            "python3" => First("/usr/bin/python3"),
            "arm64" => First(Environment.GetEnvironmentVariable("FASTTRAP_ARM64_LIBC") ?? "/usr/aarch64-linux-gnu/lib/libc.so.6"),
            "ld.so" => First("/lib64/ld-linux-x86-64.so.2"),
            _ => First(name),
        };
        if (path == null)
        {
            Assert.Ignore($"{name} is not installed on this machine");
        }

        return path!;
    }

    private static string? First(params string[] paths) => paths.FirstOrDefault(File.Exists);
}

using System.Text.RegularExpressions;

namespace FastTrap.Tests.House;

/// <summary>The files of this repository, found from where the tests run.</summary>
internal static partial class SourceTree
{
    private static readonly Lazy<string> s_root = new(FindRoot);

    /// <summary>Where <c>FastTrap.sln</c> is; skips the test when it runs without its sources.</summary>
    public static string Root => s_root.Value.Length != 0 ? s_root.Value : Skip();

    /// <summary>C# files below a folder, by their path from the root, with comments taken out of the text.</summary>
    public static IEnumerable<(string Path, string[] Lines)> Files(string folder)
    {
        string start = Path.Combine(Root, folder);
        string[] found = [.. Directory.GetFiles(start, "*.cs", SearchOption.AllDirectories).Where(IsSource).Order(StringComparer.Ordinal)];
        Assert.That(found, Is.Not.Empty, folder);
        return found.Select(path => (Path.GetRelativePath(Root, path), File.ReadAllLines(path).Select(line => Comment().Replace(line, "")).ToArray()));
    }

    /// <summary>Folders below a folder, itself included, with how many files each holds.</summary>
    public static IEnumerable<(string Path, int Count)> Folders(string folder) =>
        Directory.GetDirectories(Path.Combine(Root, folder), "*", SearchOption.AllDirectories)
            .Append(Path.Combine(Root, folder))
            .Where(IsSource)
            .Select(path => (Path.GetRelativePath(Root, path), Directory.GetFiles(path).Length));

    private static bool IsSource(string path) =>
        !Path.GetRelativePath(Root, path).Split('/').Any(part => part is "bin" or "obj" or "BenchmarkDotNet.Artifacts" or "TestResults");

    private static string FindRoot()
    {
        DirectoryInfo? directory = new(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "FastTrap.sln")))
        {
            directory = directory.Parent;
        }

        return directory?.FullName ?? "";
    }

    private static string Skip()
    {
        Assert.Ignore("The sources are not here.");
        return "";
    }

    [GeneratedRegex("(^|\\s)//.*$")]
    private static partial Regex Comment();
}

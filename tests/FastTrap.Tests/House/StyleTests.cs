using System.Text.RegularExpressions;

namespace FastTrap.Tests.House;

/// <summary>What the house style says that a machine can see.</summary>
[TestFixture, Parallelizable]
public sealed partial class StyleTests
{
    private const int MaximumLines = 500;
    private const int MaximumFilesOfAFolder = 14;

    /// <summary>Folders which are larger for now, with the size that they must not outgrow.</summary>
    private static readonly Dictionary<string, int> s_largeFolders = new();

    [Test]
    public void FilesAreShort() =>
        Assert.That(
            Everything.Where(file => file.Lines.Length > MaximumLines).Select(file => $"{file.Path}: {file.Lines.Length} lines"),
            Is.Empty, $"A file has at most {MaximumLines} lines, better 400: split it by concern.");

    [Test]
    public void FoldersAreSmall() =>
        Assert.That(
            new[] { "src", "samples", "benchmarks", "tests/FastTrap.Tests" }.SelectMany(SourceTree.Folders)
                .Where(folder => folder.Count > s_largeFolders.GetValueOrDefault(folder.Path, MaximumFilesOfAFolder))
                .Select(folder => $"{folder.Path}: {folder.Count} files"),
            Is.Empty, $"A folder holds about 12 files, at most {MaximumFilesOfAFolder}: split it by concern.");

    [Test]
    public void TestsWaitForConditionsNotForTime() =>
        Assert.That(
            Find(SourceTree.Files("tests/FastTrap.Tests"), Sleep()), Is.Empty, "Wait for what must happen; the target says it, or /proc shows it.");

    [Test]
    public void NamesSayWhatTheThingIs() =>
        Assert.That(Find(SourceTree.Files("src").Concat(SourceTree.Files("samples")), VagueType()), Is.Empty);

    [Test]
    public void ErrorsAreNotSwallowed() =>
        Assert.That(
            Everything.Select(file => file.Path).Where(path => EmptyCatch().IsMatch(File.ReadAllText(Path.Combine(SourceTree.Root, path)))),
            Is.Empty, "Do something about the error, or say in the handler why nothing is to be done.");

    [Test]
    public void NothingIsLeftForLater()
    {
        string[] marks = ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Exception"];
        string[] found = [.. new[] { "src", "samples", "tests/FastTrap.Tests", "benchmarks" }
            .SelectMany(folder => SourceTree.Files(folder).Select(file => file.Path))
            .Where(path => marks.Any(mark => File.ReadAllText(Path.Combine(SourceTree.Root, path)).Contains(mark, StringComparison.Ordinal)))];
        Assert.That(found, Is.Empty);
    }

    private static IEnumerable<(string Path, string[] Lines)> Everything =>
        new[] { "src", "samples", "tests/FastTrap.Tests", "benchmarks" }.SelectMany(folder => SourceTree.Files(folder));

    private static IEnumerable<string> Find(IEnumerable<(string Path, string[] Lines)> files, Regex pattern) =>
        files.SelectMany(file => pattern.Matches(string.Join('\n', file.Lines)).Select(match => $"{file.Path}: {match.Value.Trim()}"));

    [GeneratedRegex(@"Thread\.Sleep\(|Task\.Delay\(")]
    private static partial Regex Sleep();

    [GeneratedRegex(@"\b(class|struct|interface|record) \w*(Helper|Manager|Util|Utils|Impl)\b")]
    private static partial Regex VagueType();

    [GeneratedRegex(@"\bcatch\b[^{;]*\{\s*\}")]
    private static partial Regex EmptyCatch();
}

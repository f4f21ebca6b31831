using System.Text.RegularExpressions;

namespace FastTrap.Tests.House;

/// <summary>The source keeps to the layers of <c>docs/architecture.md</c>.</summary>
[TestFixture, Parallelizable]
public sealed partial class LayerTests
{
    /// <summary>Layers from the lowest; each may use those before it. The public face, above all, is not listed.</summary>
    private static readonly string[] s_layers = ["Native", "Isa", "Symbols", "Usdt", "Control", "Engine", "Probes", "Programs"];

    /// <summary>What breaks a rule knowingly: each must still do so, or its line goes.</summary>
    private static readonly string[] s_exceptions =
    [
        // It puts an image's two halves together, the engine's and the matcher's.
        "src/FastTrap/Engine/ProcessImage.cs: Engine uses Probes",

        // A held signal and a fault change places in the middle of a stop which only the engine understands.
        "src/FastTrap/Engine/Proc.Hits.cs: ptrace by SetSignalMask",
    ];

    [Test]
    public void ImportsPointDown()
    {
        List<string> wrong = [];
        int seen = 0;
        foreach ((string path, string[] lines) in SourceTree.Files("src/FastTrap"))
        {
            int layer = Array.IndexOf(s_layers, path.Split('/')[2]);
            foreach (string used in lines.SelectMany(line => LayerName().Matches(line)).Select(match => match.Groups["layer"].Value).Distinct())
            {
                seen++;
                if (layer >= 0 && Array.IndexOf(s_layers, used) > layer)
                {
                    wrong.Add($"{path}: {s_layers[layer]} uses {used}");
                }
            }
        }

        Assert.That(seen, Is.GreaterThan(50), "The pattern finds no imports any more.");
        Assert.That(wrong, Is.EquivalentTo(s_exceptions.Where(text => text.Contains(" uses ", StringComparison.Ordinal))));
    }

    [Test]
    public void NamespacesAreThoseOfTheFolders()
    {
        foreach ((string path, string[] lines) in SourceTree.Files("src/FastTrap"))
        {
            string folder = path.Split('/')[2];
            string space = lines.First(line => line.StartsWith("namespace ", StringComparison.Ordinal));
            string[] allowed = s_layers.Contains(folder) ? [$"namespace FastTrap.{folder}", "namespace FastTrap;"] : ["namespace FastTrap;"];
            Assert.That(allowed.Any(prefix => space.StartsWith(prefix, StringComparison.Ordinal)), $"{path}: {space}");
        }
    }

    [Test]
    public void OnlyThePlatformCallsNativeCode() =>
        Assert.That(
            Lines("src", "samples").Where(line => Import().IsMatch(line.Text) && !line.Path.StartsWith("src/FastTrap.Native/", StringComparison.Ordinal))
                .Select(line => line.Path),
            Is.Empty);

    [Test]
    public void OnlyThePlatformReadsFilesAndStartsProcesses() =>
        Assert.That(
            Lines("src/FastTrap").Where(line => Outside().IsMatch(line.Text)).Select(line => $"{line.Path}: {line.Text.Trim()}"),
            Is.Empty);

    [Test]
    public void OnlyControlAsksForPtrace()
    {
        (string Path, string Text)[] requests = [.. Lines("src/FastTrap").Where(line => PtraceCall().IsMatch(line.Text))];
        Assert.That(requests.Count(line => line.Path.Contains("/Control/", StringComparison.Ordinal)), Is.GreaterThan(20), "The pattern finds no requests any more.");
        Assert.That(
            requests.Where(line => !line.Path.Contains("/Control/", StringComparison.Ordinal)).Select(line => $"{line.Path}: ptrace by {PtraceCall().Match(line.Text).Groups["name"].Value}"),
            Is.EquivalentTo(s_exceptions.Where(text => text.Contains(" ptrace ", StringComparison.Ordinal))));
    }

    [Test]
    public void NobodyButThePlatformAsksForItsOwnArchitecture() =>
        Assert.That(
            Lines("src/FastTrap").Where(line => line.Text.Contains("RuntimeInformation", StringComparison.Ordinal)).Select(line => $"{line.Path}: {line.Text.Trim()}"),
            Is.Empty);

    private static IEnumerable<(string Path, string Text)> Lines(params string[] folders) =>
        folders.SelectMany(SourceTree.Files).SelectMany(file => file.Lines.Select(line => (file.Path, line)));

    [GeneratedRegex(@"(using (static )?FastTrap\.(?<layer>Native|Isa|Symbols|Usdt|Control|Engine|Probes)[.;])|((?<![\w.])(?<!namespace )(FastTrap\.)?(?<layer>Native|Isa|Symbols|Usdt|Control|Engine|Probes)\.[A-Z])")]
    private static partial Regex LayerName();

    [GeneratedRegex(@"\b(LibraryImport|DllImport)\b")]
    private static partial Regex Import();

    [GeneratedRegex(@"(?<!\w)(File|Directory|FileStream|Process)\.(Open|Read|Exists|Get|Enumerate|Start|Create)|new FileStream|System\.Diagnostics\.Process")]
    private static partial Regex Outside();

    [GeneratedRegex(@"[Pp]latform\.(?<name>Seize|Interrupt|Listen|Continue|ContinueToSystemCall|SingleStep|Detach|[GS]etRegisters|SetChangedRegisters|[GS]etRegisterSet|[GS]etSignalInfo|[GS]etSignalMask|GetEventMessage|Wait|SpawnSeized)\(")]
    private static partial Regex PtraceCall();
}

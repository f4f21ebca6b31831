using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using FastTrap.Tests.TestKit;
using FastTrap.Usdt;

namespace FastTrap.Tests.Usdt;

/// <summary>Notes of the files that this machine has, as binutils read them, and every argument of them.</summary>
[TestFixture]
public sealed class UsdtCorpusTests
{
    /// <summary>More folders for the test of everything, separated by colons: packages that were unpacked for it.</summary>
    private const string FoldersVariable = "FASTTRAP_USDT_FOLDERS";

    private static readonly string[] s_usual =
    [
        "/usr/bin/python3", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib/aarch64-linux-gnu/libstdc++.so.6", "/usr/bin/gcc",
    ];

    [TestCaseSource(nameof(s_usual))]
    public void NotesAreThoseThatReadelfShows(string path)
    {
        if (!File.Exists(path))
        {
            Assert.Ignore($"There is no {path}.");
        }

        Compare(path, out int notes, out List<string> unreadable);
        TestContext.Out.WriteLine($"{path}: {notes} notes, unreadable: {string.Join("; ", unreadable)}");
        Assert.That(unreadable, Is.Empty);
    }

    [Test, Explicit("Reads every file of the system's folders.")]
    public void EveryNoteOfTheSystemParses()
    {
        int files = 0;
        int all = 0;
        Dictionary<string, int> reasons = [];
        string[] folders =
        [
            "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", .. Environment.GetEnvironmentVariable(FoldersVariable)?.Split(':') ?? [],
        ];
        EnumerationOptions options = new() { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = true };
        foreach (string path in folders.Where(Directory.Exists).SelectMany(folder => Directory.EnumerateFiles(folder, "*", options)))
        {
            if (HasNotes(path))
            {
                Compare(path, out int notes, out List<string> unreadable);
                files++;
                all += notes;
                foreach (string reason in unreadable)
                {
                    reasons[reason] = reasons.GetValueOrDefault(reason) + 1;
                }

                TestContext.Out.WriteLine($"{notes,6}  {path}");
            }
        }

        TestContext.Out.WriteLine($"{files} files, {all} notes; unreadable: {string.Join("; ", reasons.Select(pair => $"{pair.Key} ({pair.Value})"))}");
        Assert.That(files, Is.GreaterThan(5));
        Assert.That(reasons.Keys, Is.All.Contains("symbol"), "Only what needs a symbol that was stripped may be unreadable.");
    }

    private static bool HasNotes(string path)
    {
        try
        {
            using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
            return elf.TryGetSection(".note.stapsdt"u8, out ElfSection section) && section.Type == ElfSection.Note;
        }
        catch (ElfFormatException)
        {
            // Another class or machine, or no program at all.
            return false;
        }
    }

    private static void Compare(string path, out int notes, out List<string> unreadable)
    {
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        UsdtNotes read = UsdtNotes.Read(elf);
        Assert.That(read.Problems, Is.Empty, path);
        ElfSection moved = default;
        ElfStaticProbe[] truth = [.. ElfTools.StaticProbes(path)];
        Assert.That(
            read.All.Select(note => new ElfStaticProbe(note.Provider, note.Name, note.Address, note.SemaphoreAddress, note.Arguments)), Is.EqualTo(truth), path);
        Assert.That(elf.TryGetSection(".stapsdt.base"u8, out moved), Is.True);
        UsdtSymbols symbols = new(elf, 0);
        notes = truth.Length;
        unreadable = [];
        foreach (UsdtNote note in read.All)
        {
            UsdtArgument[] arguments = UsdtArgumentParser.Parse(note.Arguments, elf.Machine, symbols);
            Assert.That(arguments, Has.Length.EqualTo(note.Arguments.Split('@').Length - 1), $"{path}: {note.Arguments}");
            unreadable.AddRange(arguments.Where(a => a.Kind == ArgumentKind.Unreadable).Select(a => a.Location));
        }
    }
}

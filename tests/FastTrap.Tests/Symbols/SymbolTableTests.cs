using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Symbol tables of real files against binutils' reading of them.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class SymbolTableTests
{
    private static readonly string[] s_files = SystemFiles.All;

    [TestCaseSource(nameof(s_files))]
    public void Functions_AreThoseOfReadelf(string name)
    {
        string path = SystemFiles.Find(name);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable table = ElfSymbolReader.Read(elf);

        HashSet<(ulong, string)> actual = [];
        for (int i = 0; i < table.Count; i++)
        {
            Assert.That(actual.Add((table.GetAddress(i), table.GetFullName(i))), $"{table.GetFullName(i)} twice at {table.GetAddress(i):x}");
        }

        (HashSet<(ulong Address, string Name)> expected, Dictionary<(ulong, string), ulong> sizes) = ReadelfFunctions(path);
        Assert.That(expected, Has.Count.GreaterThan(20));

        // A name which .symtab has without its version is merged with the versioned one.
        HashSet<(ulong, string)> versioned = [.. expected.Where(e => e.Name.Contains('@', StringComparison.Ordinal)).Select(e => (e.Address, e.Name.Split('@')[0]))];
        expected.RemoveWhere(versioned.Contains);
        Assert.That(actual.Except(expected).Take(5), Is.Empty);
        Assert.That(expected.Except(actual).Take(5), Is.Empty);

        int compared = 0;
        for (int i = 0; i < table.Count; i++)
        {
            if ((table.GetFlags(i) & SymbolFlags.SizeIsGuessed) == 0 && sizes.TryGetValue((table.GetAddress(i), table.GetFullName(i)), out ulong size))
            {
                Assert.That(table.GetSize(i), Is.EqualTo(size), table.GetFullName(i));
                compared++;
            }
        }

        Assert.That(compared, Is.GreaterThan(10));
    }

    [TestCaseSource(nameof(s_files))]
    public void EveryFunction_IsFoundByAddressAndName(string name)
    {
        string path = SystemFiles.Find(name);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable table = ElfSymbolReader.Read(elf);
        List<int> found = [];
        int step = Math.Max(1, table.Count / 3000);
        for (int i = 0; i < table.Count; i += step)
        {
            found.Clear();
            table.FindAll(table.GetFullName(i), found);
            Assert.That(found, Does.Contain(i), table.GetFullName(i));
            found.Clear();
            table.Match(new Glob(table.GetName(i)), found);
            Assert.That(found, Does.Contain(i));
            if (table.GetSize(i) == 0)
            {
                continue;
            }

            // Brute force is the oracle: the innermost function is the last one to begin before the address.
            ulong address = table.GetAddress(i) + (table.GetSize(i) / 2);
            int expected = -1;
            for (int j = Math.Max(0, i - 200); j < table.Count && table.GetAddress(j) <= address; j++)
            {
                expected = address - table.GetAddress(j) < table.GetSize(j) && (expected < 0 || table.GetAddress(j) != table.GetAddress(expected)) ? j : expected;
            }

            int actual = table.FindContaining(address);
            Assert.That(table.GetAddress(actual), Is.EqualTo(table.GetAddress(expected)), table.GetFullName(i));
            Assert.That(table.GetAliases(actual).First, Is.EqualTo(actual));
        }
    }

    /// <summary>All function symbols of both tables as readelf prints them.</summary>
    private static (HashSet<(ulong Address, string Name)> Names, Dictionary<(ulong, string), ulong> Sizes) ReadelfFunctions(string path)
    {
        HashSet<(ulong, string)> names = [];
        Dictionary<(ulong, string), ulong> sizes = [];
        foreach (string line in Tool.Run("readelf", "-sW", path).Split('\n'))
        {
            // "   Num:    Value          Size Type    Bind   Vis      Ndx Name"
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length < 8 || !fields[0].EndsWith(':') || fields[3] is not ("FUNC" or "IFUNC") || fields[6] == "UND")
            {
                continue;
            }

            ulong address = Convert.ToUInt64(fields[1], 16);
            ulong size = fields[2].StartsWith("0x", StringComparison.Ordinal) ? Convert.ToUInt64(fields[2], 16) : ulong.Parse(fields[2], null);
            names.Add((address, fields[7]));
            sizes[(address, fields[7])] = Math.Max(size, sizes.GetValueOrDefault((address, fields[7])));
        }

        return (names, sizes);
    }
}

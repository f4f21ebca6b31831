using System.Buffers.Binary;
using System.Text.RegularExpressions;
using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Headers of real and compiled files against readelf.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class ElfFileTests
{
    private const string Program = """
        #include <stdio.h>
        __attribute__((noinline)) int twice(int x) { return x * 2; }
        int main(int argc, char **argv) { (void)argv; printf("%d\n", twice(argc)); return 0; }
        """;

    private static readonly string[] s_files = SystemFiles.All;

    private static readonly string[][] s_options =
    [
        ["-pie", "-fPIE"], ["-no-pie"], ["-static"], ["-static-pie"], ["-pie", "-s"], ["-shared", "-fPIC", "-Wl,-soname,libtwice.so.1"],
    ];

    [TestCaseSource(nameof(s_files))]
    public void RealFile_ReadsAsReadelfReadsIt(string name) => CompareWithReadelf(SystemFiles.Find(name));

    [TestCaseSource(nameof(s_options))]
    public void CompiledFile_ReadsAsReadelfReadsIt(params string[] options)
    {
        string path = Tool.Compile("program.c", Program, options);
        CompareWithReadelf(path);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        Assert.That(elf.IsPie, Is.EqualTo(options[0] is "-pie" or "-static-pie"));
    }

    [TestCase("gnu")]
    [TestCase("sysv")]
    [TestCase("both")]
    public void WithoutSectionHeaders_DynamicSymbolsComeFromTheHashTable(string style)
    {
        string path = Tool.Compile("lib.c", Program, "-shared", "-fPIC", $"-Wl,--hash-style={style}");
        byte[] bytes = File.ReadAllBytes(path);
        using ElfFile whole = ElfFile.Open(new DiskFile(Tool.StripCopy(path)), path);
        bytes.AsSpan(40, 8).Clear();
        bytes.AsSpan(60, 4).Clear();
        using ElfFile bare = ElfFile.Open(new DiskFile(bytes), "bare");
        Assert.That(bare.Sections.Length, Is.Zero);
        AssertSame(ElfSymbolReader.Read(whole), ElfSymbolReader.Read(bare), 2);
        Assert.That(Convert.ToHexString(bare.BuildId), Is.EqualTo(Convert.ToHexString(whole.BuildId)).And.Not.Empty);
    }

    [Test]
    public void WithoutSectionHeaders_LibcKeepsItsVersions()
    {
        string path = SystemFiles.Find(SystemFiles.Libc);
        byte[] bytes = File.ReadAllBytes(path);
        using ElfFile whole = ElfFile.Open(new DiskFile(path), path);
        bytes.AsSpan(40, 8).Clear();
        using ElfFile bare = ElfFile.Open(new DiskFile(bytes), "bare");
        SymbolTable table = ElfSymbolReader.Read(bare);
        AssertSame(ElfSymbolReader.Read(whole), table, 2000);
        Assert.That(table.Find("memcpy@@GLIBC_2.14"), Is.GreaterThanOrEqualTo(0));
        Assert.That(table.Find("memcpy@GLIBC_2.2.5"), Is.GreaterThanOrEqualTo(0));
        Assert.That(EhFrame.Read(bare).Count, Is.EqualTo(EhFrame.Read(whole).Count).And.GreaterThan(2000));
    }

    [TestCase("not an elf", nameof(ElfProblem.NotElf))]
    [TestCase("", nameof(ElfProblem.NotElf))]
    [TestCase("\u007fELF\u0001\u0001", nameof(ElfProblem.Truncated))]
    public void OtherBytes_AreRefusedWithTheReason(string text, string problem)
    {
        byte[] bytes = System.Text.Encoding.Latin1.GetBytes(text);
        ElfFormatException thrown = Assert.Throws<ElfFormatException>(() => ElfFile.Open(new DiskFile(bytes), "some/file"))!;
        Assert.That(thrown.Problem, Is.EqualTo(Enum.Parse<ElfProblem>(problem)));
        Assert.That(thrown.Message, Does.StartWith("some/file: "));
    }

    [TestCase(4, 1, nameof(ElfProblem.Elf32))]
    [TestCase(5, 2, nameof(ElfProblem.BigEndian))]
    [TestCase(18, 3, nameof(ElfProblem.UnsupportedMachine))]
    [TestCase(54, 32, nameof(ElfProblem.Malformed))]
    [TestCase(33, 0xff, nameof(ElfProblem.Truncated))]
    public void OtherKindsOfElf_AreRefusedWithTheReason(int offset, int value, string problem)
    {
        byte[] bytes = File.ReadAllBytes(Tool.Compile("program.c", Program));
        bytes[offset] = (byte)value;
        bytes[offset + 1] = offset == 33 ? (byte)0xff : bytes[offset + 1];
        Assert.That(Assert.Throws<ElfFormatException>(() => ElfFile.Open(new DiskFile(bytes), "x"))!.Problem, Is.EqualTo(Enum.Parse<ElfProblem>(problem)));
    }

    [Test]
    public void Arm64Header_IsRecognised()
    {
        byte[] bytes = File.ReadAllBytes(Tool.Compile("program.c", Program));
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(18), 183);
        using ElfFile elf = ElfFile.Open(new DiskFile(bytes), "x");
        Assert.That(elf.Machine, Is.EqualTo(ElfMachine.Arm64));
    }

    [Test]
    public void Crc_IsTheOneOfBinutils()
    {
        // "123456789" is the check value of every catalogue of checksums.
        Assert.That(Crc32.Append(0, "123456789"u8), Is.EqualTo(0xcbf43926));
        Assert.That(Crc32.Append(Crc32.Append(0, "1234"u8), "56789"u8), Is.EqualTo(0xcbf43926));
    }

    private static void CompareWithReadelf(string path)
    {
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        string headers = Tool.Run("readelf", "-hlWnd", path);
        Assert.That(elf.EntryPoint, Is.EqualTo(Convert.ToUInt64(Regex.Match(headers, "Entry point address: +0x([0-9a-f]+)").Groups[1].Value, 16)));
        Assert.That(elf.Type, Is.EqualTo(headers.Contains("Type:                              EXEC", StringComparison.Ordinal) ? ElfType.Executable : ElfType.Dynamic));
        string interpreter = Regex.Match(headers, "Requesting program interpreter: (.*)]").Groups[1].Value;
        Assert.That(elf.Interpreter ?? "", Is.EqualTo(interpreter));
        Assert.That(elf.Soname ?? "", Is.EqualTo(Regex.Match(headers, @"Library soname: \[(.*)\]").Groups[1].Value));
        Assert.That(Convert.ToHexStringLower(elf.BuildId), Is.EqualTo(Regex.Match(headers, "Build ID: ([0-9a-f]+)").Groups[1].Value));
        string[] expected = Regex.Matches(headers, "^  LOAD +0x([0-9a-f]+) 0x([0-9a-f]+) 0x[0-9a-f]+ 0x([0-9a-f]+) 0x([0-9a-f]+) (...)", RegexOptions.Multiline)
            .Select(m => $"{Convert.ToUInt64(m.Groups[1].Value, 16):x} {Convert.ToUInt64(m.Groups[2].Value, 16):x} {Convert.ToUInt64(m.Groups[3].Value, 16):x} "
                + $"{Convert.ToUInt64(m.Groups[4].Value, 16):x} {m.Groups[5].Value.Contains('E', StringComparison.Ordinal)}").ToArray();
        string[] actual = elf.Segments.ToArray().Where(s => s.Type == ElfSegment.Load)
            .Select(s => $"{s.FileOffset:x} {s.Address:x} {s.FileSize:x} {s.MemorySize:x} {s.IsExecutable}").ToArray();
        Assert.That(actual, Is.EqualTo(expected).And.Not.Empty);
        MatchCollection sections = Regex.Matches(Tool.Run("readelf", "-SW", path), @"^  \[ *\d+\] (\S+) +\S+ +([0-9a-f]{16}) ([0-9a-f]+) ([0-9a-f]+)", RegexOptions.Multiline);
        Assert.That(sections, Is.Not.Empty);
        foreach (Match match in sections)
        {
            bool isFound = elf.TryGetSection(System.Text.Encoding.UTF8.GetBytes(match.Groups[1].Value), out ElfSection section);
            Assert.That(isFound, match.Groups[1].Value);
            Assert.That($"{section.Address:x16} {section.FileOffset:x6} {section.Size:x6}", Is.EqualTo($"{match.Groups[2].Value} {match.Groups[3].Value} {match.Groups[4].Value}"));
        }
    }

    private static void AssertSame(SymbolTable expected, SymbolTable actual, int atLeast)
    {
        Assert.That(actual.Count, Is.EqualTo(expected.Count).And.GreaterThanOrEqualTo(atLeast));
        for (int i = 0; i < actual.Count; i++)
        {
            Assert.That(actual.GetFullName(i), Is.EqualTo(expected.GetFullName(i)));
            Assert.That(actual.GetAddress(i), Is.EqualTo(expected.GetAddress(i)));
        }
    }
}

using System.Buffers.Binary;
using System.Text;
using FastTrap.Native;
using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Thousands of damaged files: nothing but <see cref="ElfFormatException"/> comes out, and reading stays in proportion to the file.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class HostileBytesTests
{
    private const string Source = """
        #ifdef STATIC
        static __attribute__((noinline)) int atoi(const char *text) { return text[0]; }
        #else
        #include <stdlib.h>
        #endif
        static __attribute__((noinline)) int inner(int x) { return atoi("7") + x; }
        static int (*pick(void))(int) { return inner; }
        int compute(int) __attribute__((ifunc("pick")));
        int outer(int argc) { return compute(argc) + inner(argc); }
        """;

    private static readonly ulong[] s_values = [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, ulong.MaxValue, ulong.MaxValue - 7];

    private static readonly ElfLimits s_limits = new() { MaxSymbols = 10_000, MaxNameBytes = 1 << 20, MaxTableBytes = 1 << 22 };

    [TestCase(1, "library")]
    [TestCase(2, "stripped")]
    [TestCase(3, "no sections")]
    [TestCase(4, "static")]
    public void DamagedElf_ThrowsItsOneException(int seed, string kind)
    {
        byte[] original = Original(kind);
        using ElfFile good = ElfFile.Open(new DiskFile(original), "good");
        (int Start, int Length)[] targets = Targets(good, original.Length);
        Random random = new(seed);
        int accepted = 0;
        int refused = 0;
        for (int round = 0; round < 4000; round++)
        {
            byte[] bytes = (byte[])original.Clone();
            int changes = random.Next(1, 6);
            for (int i = 0; i < changes; i++)
            {
                (int start, int length) = targets[random.Next(targets.Length)];
                Damage(bytes, start + random.Next(length), random);
            }

            if (random.Next(8) == 0)
            {
                bytes = bytes[..random.Next(bytes.Length)];
            }

            if (Survives(bytes))
            {
                accepted++;
            }
            else
            {
                refused++;
            }
        }

        // Both outcomes must occur, or the damage is too mild or too crude to test anything.
        Assert.That((accepted, refused), Is.EqualTo((Math.Max(accepted, 100), Math.Max(refused, 100))));
    }

    [Test]
    public void DamagedLibc_ThrowsItsOneException()
    {
        // Versions and real unwind tables; fewer rounds, since it is large.
        byte[] original = File.ReadAllBytes(SystemFiles.Find(SystemFiles.Libc));
        using ElfFile good = ElfFile.Open(new DiskFile(original), "good");
        (int Start, int Length)[] targets = Targets(good, original.Length);
        Random random = new(9);
        int accepted = 0;
        for (int round = 0; round < 120; round++)
        {
            byte[] bytes = (byte[])original.Clone();
            for (int i = 0; i < 4; i++)
            {
                (int start, int length) = targets[random.Next(targets.Length)];
                Damage(bytes, start + random.Next(length), random);
            }

            accepted += Survives(bytes, ElfLimits.Default) ? 1 : 0;
        }

        Assert.That(accepted, Is.GreaterThan(5));
    }

    [Test]
    public void RandomUnwindTables_ThrowTheOneException()
    {
        byte[] original = Original("library");
        using ElfFile good = ElfFile.Open(new DiskFile(original), "good");
        Assert.That(good.TryGetSection(".eh_frame"u8, out ElfSection section));
        Random random = new(4);
        int ranges = 0;
        for (int round = 0; round < 5000; round++)
        {
            byte[] bytes = (byte[])original.Clone();
            Span<byte> table = bytes.AsSpan((int)section.FileOffset, (int)section.Size);
            for (int i = random.Next(1, 10); i > 0; i--)
            {
                table[random.Next(table.Length)] = (byte)random.Next(256);
            }

            try
            {
                using ElfFile elf = ElfFile.Open(new DiskFile(bytes), "x");
                EhFrame frame = EhFrame.Read(elf);
                ranges += frame.Count;
                for (int i = 0; i < frame.Count; i++)
                {
                    (ulong start, ulong length, _) = frame.GetRange(i);
                    Assert.That(elf.TryGetExecutableSegment(start, out ElfSegment segment) && length <= segment.MemorySize);
                    frame.TryFindRange((ulong)random.NextInt64(), out _, out _, out _);
                }
            }
            catch (ElfFormatException)
            {
                continue;
            }
        }

        Assert.That(ranges, Is.GreaterThan(1000));
    }

    [Test]
    public void RandomPerfMaps_ThrowNothing()
    {
        Random random = new(6);
        string path = Tool.NewPath("perf-1.map");
        byte[] alphabet = Encoding.UTF8.GetBytes("0123456789abcdefgx  \n\n\t:*@\0é");
        for (int round = 0; round < 500; round++)
        {
            byte[] bytes = random.GetItems(alphabet, random.Next(2000));
            File.WriteAllBytes(path, bytes);
            PerfMap map = new(new FilePlatform(), path, s_limits);
            map.Refresh();
            Exercise(map.Symbols, random);
        }
    }

    [Test]
    public void ManySymbolsWithOneHugeName_AreRefused()
    {
        byte[] bytes = Original("library");
        using ElfFile good = ElfFile.Open(new DiskFile(bytes), "good");
        Assert.That(good.TryGetSection(ElfSection.SymbolTable, out ElfSection table));
        ElfSection strings = good.Sections[(int)table.Link];
        const int Count = 9000;
        const int NameBytes = 60_000;
        byte[] hostile = new byte[bytes.Length + (Count * 24) + NameBytes + 1];
        bytes.CopyTo(hostile, 0);
        int sections = (int)BitConverter.ToUInt64(bytes, 40);
        int tableHeader = sections + (good.Sections.IndexOf(table) * 64);
        int stringsHeader = sections + ((int)table.Link * 64);
        Write(tableHeader + 24, (ulong)bytes.Length);
        Write(tableHeader + 32, Count * 24);
        Write(stringsHeader + 24, (ulong)(bytes.Length + (Count * 24)));
        Write(stringsHeader + 32, NameBytes + 1);
        hostile.AsSpan(bytes.Length + (Count * 24), NameBytes).Fill((byte)'a');
        ulong code = good.Segments.ToArray().First(s => s.Type == ElfSegment.Load && s.IsExecutable).Address;
        for (int i = 0; i < Count; i++)
        {
            int symbol = bytes.Length + (i * 24);
            hostile[symbol + 4] = 0x12;
            hostile[symbol + 6] = 1;
            Write(symbol + 8, code);
            Write(symbol + 16, 1);
        }

        using ElfFile elf = ElfFile.Open(new DiskFile(hostile), "x", s_limits);
        Assert.That(Assert.Throws<ElfFormatException>(() => ElfSymbolReader.Read(elf))!.Problem, Is.EqualTo(ElfProblem.LimitExceeded));
        Assert.That(strings.Size, Is.Not.Zero);

        void Write(int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(hostile.AsSpan(offset), value);
    }

    private static byte[] Original(string kind)
    {
        string[] options = kind == "static" ? ["-nostdlib", "-static", "-no-pie", "-Wl,-e,outer", "-DSTATIC"] : ["-shared", "-fPIC", "-O2"];
        string path = Tool.Compile("lib", Source, options);
        byte[] bytes = File.ReadAllBytes(kind == "stripped" ? Tool.StripCopy(path) : path);
        if (kind == "no sections")
        {
            bytes.AsSpan(40, 8).Clear();
        }

        return bytes;
    }

    /// <summary>The parts of the file that are parsed: random damage elsewhere would test nothing.</summary>
    private static (int Start, int Length)[] Targets(ElfFile elf, int length)
    {
        List<(int, int)> targets = [(0, 64), (64, elf.Segments.Length * 56), (0, length)];
        byte[] header = new byte[64];
        elf.ReadExactly(0, header, "");
        int sections = (int)BitConverter.ToUInt64(header, 40);
        if (sections != 0)
        {
            targets.Add((sections, elf.Sections.Length * 64));
        }

        targets.AddRange(elf.Segments.ToArray().Where(s => s.Type is ElfSegment.Dynamic or ElfSegment.Note or ElfSegment.EhFrameHeader && s.FileSize != 0)
            .Select(s => ((int)s.FileOffset, (int)s.FileSize)));
        targets.AddRange(elf.Sections.ToArray().Where(s => s.Size != 0 && s.Type is not (0 or 1 or ElfSection.NoBits)).Select(s => ((int)s.FileOffset, (int)s.Size)));
        return [.. targets];
    }

    private static void Damage(byte[] bytes, int offset, Random random)
    {
        Span<byte> rest = bytes.AsSpan(offset);
        switch (random.Next(4))
        {
            case 0:
                rest[0] = (byte)random.Next(256);
                break;
            case 1 when rest.Length >= 4:
                BinaryPrimitives.WriteUInt32LittleEndian(rest, (uint)s_values[random.Next(s_values.Length)]);
                break;
            case 2 when rest.Length >= 16:
                // Fields of tables stand at multiples of eight.
                BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(offset & ~7), s_values[random.Next(s_values.Length)]);
                break;
            default:
                rest[0] ^= (byte)(1 << random.Next(8));
                break;
        }
    }

    private static bool Survives(byte[] bytes, ElfLimits? limits = null)
    {
        DiskFile file = new(bytes);
        Random random = new(1);
        bool isWhole = true;
        try
        {
            using ElfFile elf = ElfFile.Open(file, "damaged", limits ?? s_limits);
            ModuleImage image = new(elf, new DebugFileLocator(new FilePlatform(), "", "/nowhere/damaged"));
            isWhole &= Try(() => _ = elf.Interpreter);
            isWhole &= Try(() => _ = elf.Soname);
            isWhole &= Try(() => _ = elf.DebugLinkName);
            isWhole &= Try(() => _ = elf.BuildId.Length);
            isWhole &= Try(() => _ = elf.IsPie);
            isWhole &= Try(() => Exercise(image.Symbols, random));
            isWhole &= Try(() => _ = image.Unwind.Count);
            isWhole &= Try(() => _ = image.Imports.Entries.Count);
        }
        catch (ElfFormatException)
        {
            isWhole = false;
        }

        Assert.That(file.BytesRead, Is.LessThanOrEqualTo((bytes.Length * 40L) + 65_536), "work in proportion to the file");
        return isWhole;
    }

    private static bool Try(Action action)
    {
        try
        {
            action();
            return true;
        }
        catch (ElfFormatException)
        {
            return false;
        }
    }

    private static void Exercise(SymbolTable table, Random random)
    {
        List<int> found = [];
        table.Match(new Glob("*a?*"), found);
        for (int i = 0; i < table.Count; i += Math.Max(1, table.Count / 50))
        {
            Assert.That(table.FindNext(table.GetNameUtf8(i), -1), Is.Not.Negative);
            table.FindAll(table.GetFullName(i), found);
            table.FindContaining(table.GetAddress(i) + (ulong)random.Next(100));
            table.TryGetColdPart(i, out _, out _);
            _ = table.GetDemangledName(i);
            _ = table.GetFullName(i);
        }

        table.FindContaining((ulong)random.NextInt64());
    }
}

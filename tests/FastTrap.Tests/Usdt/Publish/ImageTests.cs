using System.Buffers.Binary;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using FastTrap.Tests.TestKit;
using FastTrap.Usdt;

namespace FastTrap.Tests.Usdt.Publish;

/// <summary>Images as binutils and our own reader see them; nothing is loaded.</summary>
[TestFixture, Parallelizable(ParallelScope.All)]
public sealed class ImageTests
{
    private static readonly ImageProbe[] s_probes =
    [
        new("tick", "-8@%rdi -4@%esi"),
        new("request__start", "8@%rdi 1@%sil 2@%dx"),
        new("bare", ""),
    ];

    [TestCase(62)]
    [TestCase(183)]
    public void Readelf_FindsNothingToWarnOf(int machine)
    {
        using PrivateDirectory directory = new("image");
        string path = Write(directory, (ElfMachine)machine, s_probes, out _);
        string readelf = Require("readelf");
        foreach (string option in new[] { "-hW", "-lW", "-SW", "-nW", "-sW", "-dW", "--histogram", "-W" + "a" })
        {
            CommandResult result = Command.Run(readelf, [option, path], TimeSpan.FromMinutes(1));
            Assert.That((result.ExitCode, result.Error), Is.EqualTo((0, "")), option);
            Assert.That(result.Output, Does.Not.Contain("arning").And.Not.Contains("corrupt").And.Not.Contains("<unknown>"), option);
        }
    }

    [TestCase(62)]
    [TestCase(183)]
    public void Notes_AreWhatReadelfSays(int machine)
    {
        using PrivateDirectory directory = new("image");
        string path = Write(directory, (ElfMachine)machine, s_probes, out ImageLayout layout);
        string notes = Command.Run(Require("readelf"), ["-nW", path], TimeSpan.FromMinutes(1)).Output;
        string[] lines = [.. notes.Split('\n').Select(line => line.Trim())];
        for (int i = 0; i < s_probes.Length; i++)
        {
            int at = Array.IndexOf(lines, $"Name: {s_probes[i].Name}");
            Assert.That(at, Is.Positive);
            Assert.That(lines[at - 1], Does.EndWith("Provider: prov"));
            Assert.That(lines[at + 1], Is.EqualTo($"Location: 0x{layout.Functions[i]:x16}, Base: 0x{layout.Base:x16}, Semaphore: 0x{layout.Semaphores[i]:x16}"));
            Assert.That(lines[at + 2], Is.EqualTo($"Arguments: {s_probes[i].Arguments}".TrimEnd()));
        }
    }

    [TestCase(62)]
    [TestCase(183)]
    public void OurReader_FindsSymbolsWhereTheLayoutSays(int machine)
    {
        byte[] bytes = ImageWriter.Make((ElfMachine)machine, "prov", s_probes, out ImageLayout layout);
        using ElfFile elf = ElfFile.Open(new DiskFile(bytes), "image");
        Assert.That(elf.Machine, Is.EqualTo((ElfMachine)machine));
        Assert.That(elf.BuildId.Length, Is.EqualTo(20));
        ElfSegment text = elf.Segments.ToArray().Single(segment => segment.Type == ElfSegment.Load && segment.IsExecutable);
        uint[] stub = machine == 62 ? [0xccccc390] : [0xd503201f, 0xd65f03c0];
        foreach (ulong function in layout.Functions)
        {
            Span<byte> code = bytes.AsSpan((int)(function - text.Address + text.FileOffset));
            for (int i = 0; i < stub.Length; i++)
            {
                Assert.That(BinaryPrimitives.ReadUInt32LittleEndian(code[(i * 4)..]), Is.EqualTo(stub[i]));
            }
        }

        ElfSegment[] loaded = [.. elf.Segments.ToArray().Where(segment => segment.Type == ElfSegment.Load)];
        int pages = machine == 62 ? 0x1000 : 0x10000;
        for (int i = 0; i < loaded.Length; i++)
        {
            Assert.That(loaded[i].Address, Is.EqualTo(loaded[i].FileOffset), "perf takes the one for the other.");
            Assert.That(i == 0 || loaded[i].Address / (ulong)pages > (loaded[i - 1].Address + loaded[i - 1].MemorySize - 1) / (ulong)pages, "segments share a page");
        }

        foreach (ulong semaphore in layout.Semaphores)
        {
            Assert.That(loaded[2].Contains(semaphore) && semaphore % 2 == 0);
        }
    }

    [Test]
    public void ThousandsOfProbes_HaveSymbolsThatTheLinkerFinds()
    {
        // The dynamic linker's own look-up is the oracle for the hash table: each name, as a fresh process's dlsym sees it.
        using PrivateDirectory directory = new("image");
        ImageProbe[] probes = [.. Enumerable.Range(0, 3000).Select(i => new ImageProbe($"p{i * 7919}", "8@%rdi"))];
        string path = Write(directory, ElfMachine.X64, probes, out ImageLayout layout);
        string nm = Command.Run(Require("nm"), ["-D", path], TimeSpan.FromMinutes(1)).Output;
        Assert.That(nm.Split('\n').Count(line => line.Contains(" T prov_p", StringComparison.Ordinal)), Is.EqualTo(3000));
        if (System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture != System.Runtime.InteropServices.Architecture.X64)
        {
            Assert.Ignore("The image is for x86-64.");
        }

        nint library = System.Runtime.InteropServices.NativeLibrary.Load(path);
        try
        {
            nint start = System.Runtime.InteropServices.NativeLibrary.GetExport(library, ImageWriter.BaseSymbol) - (nint)layout.Base;
            for (int i = 0; i < probes.Length; i++)
            {
                nint function = System.Runtime.InteropServices.NativeLibrary.GetExport(library, $"prov_{probes[i].Name}");
                Assert.That((ulong)(function - start), Is.EqualTo(layout.Functions[i]));
            }

            Assert.That(System.Runtime.InteropServices.NativeLibrary.TryGetExport(library, "prov_none", out _), Is.False);
        }
        finally
        {
            System.Runtime.InteropServices.NativeLibrary.Free(library);
        }
    }

    [TestCase(62, "-8@%rdi 8f@%xmm0 1@%sil -4@%edx 4f@%xmm1 2@%cx")]
    [TestCase(183, "-8@x0 8f@d0 1@x1 -4@x2 4f@s1 2@x3")]
    public void Arguments_TakeRegistersOfTheirKindInOrder(int machine, string expected)
    {
        ArgumentType[] types =
        [
            ArgumentType.Of<long>(), ArgumentType.Of<double>(), ArgumentType.Of<bool>(), ArgumentType.Of<int>(), ArgumentType.Of<float>(), ArgumentType.Of<char>(),
        ];
        Assert.That(ArgumentType.Describe((ElfMachine)machine, types), Is.EqualTo(expected));
    }

    private static string Write(PrivateDirectory directory, ElfMachine machine, ImageProbe[] probes, out ImageLayout layout)
    {
        string path = directory["image.so"];
        File.WriteAllBytes(path, ImageWriter.Make(machine, "prov", probes, out layout));
        return path;
    }

    private static string Require(string tool)
    {
        string? path = Command.Find(tool);
        if (path is null)
        {
            Assert.Ignore($"{tool} (binutils) is not installed.");
        }

        return path!;
    }
}

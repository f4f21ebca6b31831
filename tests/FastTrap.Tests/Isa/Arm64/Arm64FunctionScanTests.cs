using System.Buffers.Binary;
using FastTrap.Isa;
using FastTrap.Isa.Arm64;
using FastTrap.Probes;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>The sweep over functions, against objdump on real libraries and on made-up code.</summary>
[TestFixture]
internal sealed class Arm64FunctionScanTests
{
    private const ulong Start = 0x401000;
    private const uint Nop = 0xd503_201f;
    private const uint Ret = 0xd65f_03c0;

    [TestCase("/usr/aarch64-linux-gnu/lib/libc.so.6", 2000)]
    [TestCase("/usr/aarch64-linux-gnu/lib/libstdc++.so.6", 3000)]
    public void RealFunctionsAreObjdumps(string path, int atLeast)
    {
        if (!File.Exists(path))
        {
            Assert.Ignore($"There is no {path}: eng/needs.sh installs it.");
        }

        NativeText text = new(path);
        List<(ulong Address, int Length)> functions = text.Functions;
        Assert.That(functions, Has.Count.GreaterThan(atLeast));
        Dictionary<ulong, Arm64Line> listing = Arm64Listing.OfFile(path, functions[0].Address, functions[^1].Address + (ulong)functions[^1].Length);
        FunctionScan scan = new();
        Dictionary<string, int> kinds = [];
        List<string> refused = [];
        int instructions = 0;
        int exclusive = 0;
        foreach ((ulong address, int length) in functions)
        {
            if (!Arm64InstructionSet.Instance.TryScanFunction(text.Bytes(address, length), address, scan, out ProbeRefusal reason))
            {
                Assert.That(reason, Is.EqualTo(ProbeRefusal.NotDecodable));
                refused.Add($"{address:x}");
                continue;
            }

            List<ulong> expected = [.. Enumerable.Range(0, length / 4).Select(i => address + ((ulong)i * 4))];
            Assert.That(scan.InstructionOffsets.Select(o => address + (ulong)o), Is.EqualTo(expected), $"{address:x}");
            Assert.That(expected.All(a => listing[a].Mnemonic is not (".inst" or "udf")), $"{address:x}");
            Assert.That(
                Sites(scan, address, ReturnSiteKind.Return), Is.EqualTo(expected.Where(a => listing[a].Mnemonic is "ret" or "retaa" or "retab")), $"{address:x}");
            Assert.That(Sites(scan, address, ReturnSiteKind.MaybeLeaves), Is.EqualTo(expected.Where(a => listing[a].Mnemonic is "br")), $"{address:x}");
            List<ulong> exits = [.. expected.Where(a => IsJump(listing[a].Mnemonic) && Arm64Listing.TargetOf(listing[a]) - address >= (ulong)length)];
            Assert.That(
                scan.ReturnSites.Where(s => s.Target != 0).Select(s => (address + (ulong)s.Offset, s.Target)),
                Is.EqualTo(exits.Select(a => (a, Arm64Listing.TargetOf(listing[a])))), $"{address:x}");
            instructions += expected.Count;
            exclusive += scan.ExclusiveOffsets.Count;
            AddKind(kinds, "entry", text.Bytes(address, 4), address);
            foreach (ReturnSite site in scan.ReturnSites)
            {
                AddKind(kinds, "return", text.Bytes(address + (ulong)site.Offset, 4), address + (ulong)site.Offset);
            }

            foreach (ulong at in expected)
            {
                AddKind(kinds, "any", text.Bytes(at, 4), at);
            }
        }

        TestContext.Out.WriteLine(
            $"{functions.Count} functions, {instructions} instructions, {exclusive} in exclusive sequences, not decodable: {string.Join(" ", refused)}; "
            + string.Join(", ", kinds.OrderBy(k => k.Key, StringComparer.Ordinal).Select(k => $"{k.Key} {k.Value}")));
        Assert.That(refused, Has.Count.LessThan(functions.Count / 100));
        Assert.That(kinds.Keys, Has.None.StartsWith("return Refused").And.None.StartsWith("entry Refused"));
    }

    [Test]
    public void EverySiteWhereAFunctionMayBeLeftIsFound()
    {
        // cbz x0,+8; ret; b out; b.ne out; br x1; tbz w0,#0,-5 words; bl out; retaa; braa x0,x1; b back to the start; adr x0,start; brk
        FunctionScan scan = Scan(
            0xb400_0040, Ret, 0x1400_0100, 0x5400_1001, 0xd61f_0020, 0x3607_ff60, 0x9400_0100, 0xd65f_0bff, 0xd71f_0801, 0x17ff_fff7, 0x10ff_fec0, 0xd420_0000);
        Assert.That(scan.InstructionOffsets, Is.EqualTo(Enumerable.Range(0, 12).Select(i => i * 4)));
        Assert.That(scan.ReturnSites, Is.EqualTo(new ReturnSite[]
        {
            new(4, ReturnSiteKind.Return, 0),
            new(8, ReturnSiteKind.Exit, Start + 8 + 0x400),
            new(12, ReturnSiteKind.ConditionalExit, Start + 12 + 0x200),
            new(16, ReturnSiteKind.MaybeLeaves, 0),
            new(20, ReturnSiteKind.ConditionalExit, Start),
            new(28, ReturnSiteKind.Return, 0),
            new(32, ReturnSiteKind.MaybeLeaves, 0),
        }).Or.EqualTo(new ReturnSite[]
        {
            new(4, ReturnSiteKind.Return, 0),
            new(8, ReturnSiteKind.Exit, Start + 8 + 0x400),
            new(12, ReturnSiteKind.ConditionalExit, Start + 12 + 0x200),
            new(16, ReturnSiteKind.MaybeLeaves, 0),
            new(28, ReturnSiteKind.Return, 0),
            new(32, ReturnSiteKind.MaybeLeaves, 0),
        }));
    }

    [Test]
    public void ALiteralPoolIsSkipped()
    {
        // ldr x0,pool; ret; pool: 8 bytes which are no instructions; ldr q0 further on.
        FunctionScan scan = Scan(0x5800_0040, Ret, 0x0000_0000, 0xffff_ffff);
        Assert.That(scan.InstructionOffsets, Is.EqualTo(new[] { 0, 4 }));
        Assert.That(scan.ReturnSites, Is.EqualTo(new[] { new ReturnSite(4, ReturnSiteKind.Return, 0) }));
        scan = Scan(0x9c00_0040, Ret, 0, 0, 0, 0, Nop, Ret);
        Assert.That(scan.InstructionOffsets, Is.EqualTo(new[] { 0, 4, 24, 28 }));

        // ldr x0,pool; ret; nop, to align it; pool.
        scan = Scan(0x5800_0060, Ret, Nop, 0x0000_0000, 0xffff_ffff);
        Assert.That(scan.InstructionOffsets, Is.EqualTo(new[] { 0, 4, 8 }));
    }

    [TestCase(0x5800_0040u, Nop, 0x1234u, 0u, TestName = "control runs into a literal")]
    [TestCase(0x5800_0020u, Ret, 0u, Ret, TestName = "a literal overlaps the next instruction and the one behind")]
    [TestCase(0x1400_0003u, 0x5800_0040u, Ret, 0x0000_0001u, TestName = "a branch into a literal")]
    [TestCase(Nop, 0x58ff_ffe0u, Ret, Nop, TestName = "an instruction is loaded as a literal")]
    [TestCase(Ret, 0u, 0u, 0u, TestName = "zeros that nobody loads")]
    [TestCase(Ret, 0x0200_0000u, Nop, Nop, TestName = "a word that is no instruction")]
    [TestCase(0x3000_0020u, Ret, Nop, Nop, TestName = "an address within an instruction")]
    public void DataInAFunctionIsNotDecodable(uint first, uint second, uint third, uint fourth)
    {
        FunctionScan scan = new();
        Assert.That(Arm64InstructionSet.Instance.TryScanFunction(Bytes(first, second, third, fourth), Start, scan, out ProbeRefusal reason), Is.False);
        Assert.That(reason, Is.EqualTo(ProbeRefusal.NotDecodable));
        Assert.That(scan.InstructionOffsets, Is.Empty);
        Assert.That(scan.ReturnSites, Is.Empty);
    }

    [Test]
    public void WhatLiesBetweenLoadAndStoreExclusiveIsKnown()
    {
        // mov; 1: ldaxr w1,[x0]; cmp w1,w2; b.ne 2f; stlxr w3,w4,[x0]; cbnz w3,1b; 2: ret
        uint[] swap = [0xd280_0000, 0x885f_fc01, 0x6b02_003f, 0x5400_0061, 0x8803_fc04, 0x35ff_ff83, Ret];
        FunctionScan scan = Scan(swap);
        Assert.That(scan.ExclusiveOffsets, Is.EqualTo(new[] { 8, 12 }));

        // A wait for a change has a load alone: ldaxr; cbz; wfe; b back.
        Assert.That(Scan(0x885f_fc01, 0x3500_0061, 0xd503_205f, 0x17ff_fffd, Ret).ExclusiveOffsets, Is.Empty);

        // A way out past clrex, laid between the two: ldxr; cbz 1f; clrex; ret; 1: stxr; ret.
        Assert.That(Scan(0x885f_7c01, 0x3400_0061, 0xd503_3f5f, Ret, 0x8803_7c04, Ret).ExclusiveOffsets, Is.EqualTo(new[] { 4 }));

        // The store before the load by address: b 2f; 1: stxr; ret; 2: ldxr; nop; b 1b.
        Assert.That(Scan(0x1400_0003, 0x8803_7c04, Ret, 0x885f_7c01, Nop, 0x17ff_fffc).ExclusiveOffsets, Is.EqualTo(new[] { 16, 20 }));
    }

    [Test]
    public void ProbesInAnExclusiveSequenceAreRefused()
    {
        byte[] code = Bytes(0xd280_0000, 0x885f_fc01, 0x6b02_003f, 0x5400_0061, 0x8803_fc04, 0x35ff_ff83, Ret);
        FunctionCode function = new(Arm64InstructionSet.Instance, new CodeWindow((address, buffer) => Read(code, address, buffer)));
        Assert.That(function.TryScan(new FunctionExtent(Start, (ulong)code.Length, 0, 0), null, out _), Is.True);
        ProbeRefusal[] expected =
        [
            ProbeRefusal.None, ProbeRefusal.ExclusiveSequence, ProbeRefusal.ExclusiveSequence, ProbeRefusal.ExclusiveSequence, ProbeRefusal.ExclusiveSequence,
            ProbeRefusal.None, ProbeRefusal.None,
        ];
        for (int i = 0; i < expected.Length; i++)
        {
            bool isPossible = function.TryDecode(Start + ((ulong)i * 4), out _, out ProbeRefusal refusal);
            Assert.That(refusal, Is.EqualTo(expected[i]), $"word {i}");
            Assert.That(isPossible, Is.EqualTo(refusal == ProbeRefusal.None));
        }
    }

    [Test]
    public void ExtentsThatAreNotWholeWordsAreNotDecodable()
    {
        FunctionScan scan = new();
        Assert.That(Arm64InstructionSet.Instance.TryScanFunction(Bytes(Ret).AsSpan(0, 3), Start, scan, out _), Is.False);
        Assert.That(Arm64InstructionSet.Instance.TryScanFunction(Bytes(Ret), Start + 2, scan, out _), Is.False);
    }

    private static int Read(byte[] code, ulong address, Span<byte> buffer)
    {
        int offset = (int)(address - Start);
        int length = Math.Min(buffer.Length, code.Length - offset);
        code.AsSpan(offset, length).CopyTo(buffer);
        return length;
    }

    private static bool IsJump(string mnemonic) => mnemonic is "b" or "cbz" or "cbnz" or "tbz" or "tbnz" or ['b', '.', ..];

    private static IEnumerable<ulong> Sites(FunctionScan scan, ulong address, ReturnSiteKind kind) =>
        scan.ReturnSites.Where(s => s.Kind == kind).Select(s => address + (ulong)s.Offset);

    private static void AddKind(Dictionary<string, int> kinds, string what, ReadOnlySpan<byte> bytes, ulong address)
    {
        bool isPossible = Arm64InstructionSet.Instance.TryDecode(bytes, address, out DisplacedInstruction instruction, out ProbeRefusal refusal);
        string key = $"{what} {instruction.Kind}{(isPossible ? "" : $" {refusal}")}";
        kinds[key] = kinds.GetValueOrDefault(key) + 1;
    }

    private static FunctionScan Scan(params ReadOnlySpan<uint> words)
    {
        FunctionScan scan = new();
        Assert.That(Arm64InstructionSet.Instance.TryScanFunction(Bytes(words), Start, scan, out ProbeRefusal reason), Is.True, reason.ToString());
        return scan;
    }

    private static byte[] Bytes(params ReadOnlySpan<uint> words)
    {
        byte[] bytes = new byte[words.Length * sizeof(uint)];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(i * sizeof(uint)), words[i]);
        }

        return bytes;
    }
}

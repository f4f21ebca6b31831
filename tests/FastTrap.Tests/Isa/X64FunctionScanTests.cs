using FastTrap.Isa;
using FastTrap.Isa.X64;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>The sweep over functions, against objdump on real libraries and on made-up code.</summary>
[TestFixture]
internal sealed class X64FunctionScanTests
{
    private const ulong Start = 0x401000;

    [TestCase("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6")]
    [TestCase("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/lib64/libstdc++.so.6", "/usr/lib/libstdc++.so.6")]
    public void OffsetsAndReturnsAreObjdumps(params string[] candidates)
    {
        string? path = NativeText.Find(candidates);
        if (path is null)
        {
            Assert.Ignore($"None of these is on this machine: {string.Join(", ", candidates)}.");
        }

        NativeText text = new(path);
        Assert.That(text.Functions, Has.Count.GreaterThan(1000));
        FunctionScan scan = new();
        int compared = 0;
        int refused = 0;
        int returns = 0;
        for (int part = 1; part < 4; part++)
        {
            int first = text.Functions.Count * part / 4;
            List<(ulong Address, int Length)> functions = text.Functions.GetRange(first, Math.Min(250, text.Functions.Count - first));
            Dictionary<ulong, string> listing = text.Disassemble(functions[0].Address, functions[^1].Address + (ulong)functions[^1].Length)
                .ToDictionary(i => i.Address, i => i.Text);
            foreach ((ulong address, int length) in functions)
            {
                List<ulong> expected = [.. Enumerable.Range(0, length).Select(i => address + (ulong)i).Where(listing.ContainsKey)];
                bool scanned = X64InstructionSet.Instance.TryScanFunction(text.Bytes(address, length), address, scan, out ProbeRefusal reason);
                if (!scanned)
                {
                    Assert.That(reason, Is.EqualTo(ProbeRefusal.NotDecodable));
                    refused++;
                    continue;
                }

                if (expected.Exists(a => listing[a].StartsWith('f') && text.Bytes(a, 1)[0] == 0x9b))
                {
                    continue;   // objdump writes wait and what follows as one instruction.
                }

                Assert.That(scan.InstructionOffsets.Select(o => address + (ulong)o), Is.EqualTo(expected), $"{address:x}");
                List<ulong> expectedReturns = [.. expected.Where(a => IsReturn(listing[a]))];
                Assert.That(
                    scan.ReturnSites.Where(s => s.Kind == ReturnSiteKind.Return).Select(s => address + (ulong)s.Offset), Is.EqualTo(expectedReturns), $"{address:x}");
                List<ulong> expectedExits = [.. expected.Where(a => DirectTarget(listing[a]) is { } target && target - address >= (ulong)length)];
                Assert.That(
                    scan.ReturnSites.Where(s => s.Kind is ReturnSiteKind.Exit or ReturnSiteKind.ConditionalExit).Select(s => address + (ulong)s.Offset),
                    Is.EqualTo(expectedExits), $"{address:x}");
                Assert.That(
                    scan.ReturnSites.Where(s => s.Target != 0).Select(s => s.Target), Is.EqualTo(expectedExits.Select(a => DirectTarget(listing[a])!.Value)));
                List<ulong> expectedIndirect = [.. expected.Where(a => IsIndirectJump(listing[a]))];
                Assert.That(
                    scan.ReturnSites.Where(s => s.Kind == ReturnSiteKind.MaybeLeaves).Select(s => address + (ulong)s.Offset), Is.EqualTo(expectedIndirect), $"{address:x}");
                compared++;
                returns += expectedReturns.Count;
            }
        }

        TestContext.Out.WriteLine($"{compared} functions equal, {returns} returns, {refused} not decodable");
        Assert.That(compared, Is.GreaterThan(600));
        Assert.That(refused, Is.LessThan(15));
    }

    private static bool IsReturn(string text) => text.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries) is [.., "ret"] or [.., "ret", _];

    private static bool IsIndirectJump(string text)
    {
        string[] words = text.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
        int jump = Array.IndexOf(words, "jmp");
        return jump >= 0 && words[jump + 1].Contains('*');
    }

    /// <summary>The target of a direct jump in objdump's words: <c>jne    26b10 &lt;name+0x10&gt;</c>.</summary>
    private static ulong? DirectTarget(string text)
    {
        string[] words = text.Split([' ', '\t', ','], StringSplitOptions.RemoveEmptyEntries);
        int jump = Array.FindIndex(words, w => w is ['j', ..] or ['l', 'o', 'o', 'p', ..]);
        return jump >= 0 && jump + 1 < words.Length && ulong.TryParse(words[jump + 1], System.Globalization.NumberStyles.HexNumber, null, out ulong target)
            ? target
            : null;
    }

    [Test]
    public void EverySiteWhereAFunctionMayBeLeftIsFound()
    {
        // je +2; ret; nop; jmp out; jne out; jmp *%rax; jmp *(%rax); loop out; ret 8; call out; int3
        FunctionScan scan = Scan("7402C390 E900010000 0F8500010000 FFE0 FF20 E27F C20800 E800100000 CC");
        Assert.That(scan.InstructionOffsets, Is.EqualTo(new[] { 0, 2, 3, 4, 9, 15, 17, 19, 21, 24, 29 }));
        Assert.That(scan.ReturnSites, Is.EqualTo(new ReturnSite[]
        {
            new(2, ReturnSiteKind.Return, 0),
            new(4, ReturnSiteKind.Exit, Start + 9 + 0x100),
            new(9, ReturnSiteKind.ConditionalExit, Start + 15 + 0x100),
            new(15, ReturnSiteKind.MaybeLeaves, 0),
            new(17, ReturnSiteKind.MaybeLeaves, 0),
            new(19, ReturnSiteKind.ConditionalExit, Start + 21 + 0x7f),
            new(21, ReturnSiteKind.Return, 0),
        }));
        Assert.That(scan.IsInstruction(9), Is.True);
        Assert.That(scan.IsInstruction(10), Is.False);
    }

    [TestCase("90E8000000", TestName = "the last instruction is cut off")]
    [TestCase("EB01B8C3909090C3", TestName = "a jump into an instruction")]
    [TestCase("C306", TestName = "bytes which are no instruction")]
    public void DataInTextIsNotScanned(string hex)
    {
        FunctionScan scan = new();
        Assert.That(X64InstructionSet.Instance.TryScanFunction(Convert.FromHexString(hex), Start, scan, out ProbeRefusal reason), Is.False);
        Assert.That(reason, Is.EqualTo(ProbeRefusal.NotDecodable));
        Assert.That(scan.InstructionOffsets, Is.Empty);
        Assert.That(scan.ReturnSites, Is.Empty);
    }

    [TestCase("C3CCCCCC")]
    [TestCase("C30F1F00")]
    [TestCase("C3662E0F1F840000000000")]
    [TestCase("7401F00FB110C3", TestName = "a jump past a lock prefix")]
    public void PaddingAndSkippedPrefixesAreNoObstacle(string hex) =>
        Assert.That(Scan(hex).ReturnSites.Count(s => s.Kind == ReturnSiteKind.Return), Is.EqualTo(1));

    [Test, NonParallelizable]
    public void AScanIsReusableAndAllocatesNothing()
    {
        FunctionScan scan = new();
        byte[] code = Convert.FromHexString("7402C390E900010000C3");
        X64InstructionSet.Instance.TryScanFunction(code, Start, scan, out _);
        int sites = scan.ReturnSites.Count;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            X64InstructionSet.Instance.TryScanFunction(code, Start, scan, out _);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        Assert.That(scan.ReturnSites, Has.Count.EqualTo(sites));
    }

    private static FunctionScan Scan(string hex)
    {
        FunctionScan scan = new();
        byte[] code = Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal));
        Assert.That(X64InstructionSet.Instance.TryScanFunction(code, Start, scan, out ProbeRefusal reason), Is.True, reason.ToString());
        return scan;
    }

    /// <summary>Each of the last eight bytes would decode as an instruction: only the reference tells that they are data.</summary>
    [TestCase(new byte[] { 0xf2, 0x0f, 0x10, 0x05, 0x01, 0, 0, 0, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90 }, false)]
    [TestCase(new byte[] { 0x48, 0x8d, 0x05, 0x01, 0, 0, 0, 0xc3, 0x90, 0x90, 0x90, 0x90 }, true)]
    [TestCase(new byte[] { 0x48, 0x8d, 0x05, 0x02, 0, 0, 0, 0xc3, 0x0f, 0x1f, 0x40, 0x00 }, false)]
    public void DataInsideAFunctionIsSeenByTheReferenceToIt(byte[] code, bool isScannable)
    {
        bool scanned = InstructionSet.For(System.Runtime.InteropServices.Architecture.X64).TryScanFunction(code, 0x401000, new FunctionScan(), out ProbeRefusal refusal);
        Assert.That((scanned, refusal), Is.EqualTo((isScannable, isScannable ? ProbeRefusal.None : ProbeRefusal.NotDecodable)));
    }
}

using System.Buffers.Binary;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using Iced.Intel;
using Decoder = Iced.Intel.Decoder;

namespace FastTrap.Tests.Isa.Windows;

/// <summary>What a trampoline consists of: where its jumps lead by another decoder, and what each place in it stands for. What it does is compared with the processor in <c>Differential/</c>.</summary>
[TestFixture]
internal sealed class X64RelocatorTests
{
    private const ulong Start = 0x40_0000;
    private const ulong Near = 0x50_0000;
    private const ulong Far = 0x7f00_0000_0000;
    private static readonly byte[] s_body = [0x90, 0x90, 0x90];

    [TestCase("E8FB0F0000", Near, new[] { 0, 0, 6, 8 })]
    [TestCase("E8FB0F0000", Far, new[] { 0, 0, 6, 8 })]
    [TestCase("FF5008", Near, new[] { 0, 0, 6, 8 })]
    [TestCase("41FFD3", Far, new[] { 0, 0, 6, 8 })]
    public void ACallPushesItsOwnReturnAddressAndIsBegunAnewFromBothPlaces(string call, ulong address, int[] points)
    {
        byte[] bytes = Convert.FromHexString(call);
        X64Relocator code = Move(bytes, address);
        Assert.That(code.Points.Select(p => (p.Offset, p.Original, p.Pushed)), Is.EqualTo(new[] { (points[0], Start, points[1]), (points[2], Start, points[3]) }));
        Instruction push = Decode(code, 0);
        Assert.That((push.Mnemonic, ReadWord(code, push)), Is.EqualTo((Mnemonic.Push, Start + (ulong)bytes.Length)));
        Instruction jump = Decode(code, 6);
        Assert.That(jump.IsJmpNear || jump.IsJmpNearIndirect, Is.True, jump.ToString());
        if (call[..2] == "E8")
        {
            Assert.That(TargetOf(code, jump), Is.EqualTo(Start + 0x1000));
        }
    }

    [TestCase("7510", Near)]
    [TestCase("7510", Far)]
    [TestCase("0F850C000000", Near)]
    [TestCase("0F850C000000", Far)]
    [TestCase("E310", Near)]
    [TestCase("E310", Far)]
    [TestCase("67E30F", Far)]
    [TestCase("E210", Far)]
    public void ABranchLeadsBothWaysToWhereItLed(string branch, ulong address)
    {
        X64Relocator code = Move(Convert.FromHexString(branch), address);
        ulong next = Start + ((ulong)branch.Length / 2);
        Assert.That(Ends(code, 0), Is.EquivalentTo((ulong[])[Start + 0x12, next]));
    }

    [TestCase("7510", Near)]
    [TestCase("7510", Far)]
    [TestCase("0F850C000000", Far)]
    [TestCase("E310", Near)]
    [TestCase("67E30F", Far)]
    public void CodeOfATakenBranchLiesOnItsWayOnly(string branch, ulong address)
    {
        X64Relocator code = new();
        Begin(code, Convert.FromHexString(branch), address);
        Assert.That(code.TryAddBodyIfTaken(s_body, out WindowRefusal refusal), Is.True, $"{refusal}");
        Assert.That(code.TryFinish(out refusal), Is.True, $"{refusal}");
        RelocatedBody body = code.Bodies.Single();
        int program = body.Offset + body.Length - s_body.Length;
        Assert.That(code.Code.Slice(program, s_body.Length).SequenceEqual(s_body), Is.True);
        Assert.That(Ends(code, program), Is.EqualTo(new[] { Start + 0x12 }));
        Assert.That(Ends(code, 0), Is.EquivalentTo((ulong[])[Start + 0x12, Start + ((ulong)branch.Length / 2)]));

        // Whoever is behind the program goes on to the target; in front of it, he is at the branch.
        Assert.That(code.Points.Any(p => p.Offset <= body.Offset + body.Length), Is.False);
        Assert.That(body.Site, Is.EqualTo(Start));
    }

    [TestCase("E210")]
    [TestCase("667510")]
    [TestCase("9090")]
    public void WhatHasNoOppositeIsRefused(string bytes)
    {
        X64Relocator code = new();
        Begin(code, Convert.FromHexString(bytes), Near);
        Assert.That(code.TryAddBodyIfTaken(s_body, out WindowRefusal refusal), Is.False);
        Assert.That(refusal, Is.EqualTo(WindowRefusal.NotMovable));
    }

    [TestCase("FFE0", true)]
    [TestCase("3EFFE0", true)]
    [TestCase("FF6008", true)]
    [TestCase("FF642408", true)]
    [TestCase("FF6424F8", true)]
    [TestCase("64FF2425F8FFFFFF", true)]
    [TestCase("FFE4", false)]
    [TestCase("67FF640808", true)]
    [TestCase("67FF6424F8", false)]
    public void CodeOfAnIndirectJumpReadsTheOperandOnceMoreBelowTheRedZone(string jump, bool isPossible)
    {
        byte[] bytes = Convert.FromHexString(jump);
        X64Relocator code = new();
        Begin(code, bytes, Near);
        Assert.That(code.TryAddBodyIfOutside(s_body, (Start, 64), (Start + 4096, 32), out _), Is.EqualTo(isPossible));
        if (!isPossible)
        {
            return;
        }

        Assert.That(code.TryFinish(out _), Is.True);
        Assert.That(code.Points.Select(p => (p.Original, p.Pushed)), Is.EqualTo(new[] { (Start, 0), (Start, 128), (Start, 0) }));
        Assert.That(code.Code[code.Points[2].Offset..].StartsWith(bytes), Is.True);
        Instruction push = Decode(code, code.Points[1].Offset);
        Decoder decoder = Decoder.Create(64, bytes, Start);
        decoder.Decode(out Instruction original);
        ulong moved = original.MemoryBase == Register.RSP ? 128UL : 0;
        Assert.That((push.Mnemonic, push.MemoryBase, push.MemoryIndex, push.MemoryDisplacement64, push.MemorySegment),
            Is.EqualTo((Mnemonic.Push, original.MemoryBase, original.MemoryIndex, original.MemoryDisplacement64 + moved, original.MemorySegment)));
    }

    [Test]
    public void AnOperandOutOfReachIsRefused()
    {
        X64Relocator code = new();
        Begin(code, Convert.FromHexString("488B0510000000"), Far);
        Assert.That(code.TryFinish(out WindowRefusal refusal), Is.False);
        Assert.That(refusal, Is.EqualTo(WindowRefusal.OutOfReach));
    }

    [Test]
    public void AWindowForTwoInstructionsHoldsBothAndNoTarget()
    {
        // push %rbp; mov %rsp, %rbp; push %rbx; 1: dec %rdi; jne 1b; pop; pop; ret
        byte[] bytes = Convert.FromHexString("554889E55348FFCF75FB5B5DC3");
        CodeFlow flow = CodeFlow.Analyse(bytes, Start, [new CodeRange(Start, (ulong)bytes.Length, false)], [Start], false, (_, _) => 0);
        Assert.That(flow.TryFindWindow(Start, Start + 4, null, out PatchWindow both, out _), Is.True);
        Assert.That((both.Start, both.CodeEnd, both.Site), Is.EqualTo((Start, Start + 5, Start)));

        // The loop's head is a target.
        Assert.That(flow.TryFindWindow(Start + 1, Start + 5, null, out _, out WindowRefusal refusal), Is.False);
        Assert.That(refusal, Is.EqualTo(WindowRefusal.Target));
        Assert.That(flow.TryFindWindow(Start + 4, Start + 1, null, out _, out _), Is.False);
    }

    private static X64Relocator Move(byte[] bytes, ulong address)
    {
        X64Relocator code = new();
        Begin(code, bytes, address);
        Assert.That(code.TryFinish(out WindowRefusal refusal), Is.True, $"{refusal}");
        return code;
    }

    private static void Begin(X64Relocator code, byte[] bytes, ulong address) =>
        code.Begin(new PatchWindow(Start, (byte)Math.Max(bytes.Length, PatchWindow.NearLength), (byte)bytes.Length, Start, WindowKind.Near, 0), bytes, address);

    private static Instruction Decode(X64Relocator code, int offset)
    {
        Decoder decoder = Decoder.Create(64, code.Code[offset..].ToArray(), code.Address + (ulong)offset);
        decoder.Decode(out Instruction instruction);
        return instruction;
    }

    /// <summary>Where control may come from an offset on, once it has left the code.</summary>
    private static HashSet<ulong> Ends(X64Relocator code, int offset)
    {
        HashSet<ulong> ends = [];
        Stack<ulong> ways = new([code.Address + (ulong)offset]);
        HashSet<ulong> seen = [];
        while (ways.TryPop(out ulong at))
        {
            if (at - code.Address >= (ulong)code.Code.Length)
            {
                ends.Add(at);
            }
            else if (seen.Add(at))
            {
                Instruction instruction = Decode(code, (int)(at - code.Address));
                if (instruction.FlowControl is FlowControl.UnconditionalBranch or FlowControl.IndirectBranch)
                {
                    ways.Push(TargetOf(code, instruction));
                    continue;
                }

                ways.Push(instruction.NextIP);
                if (instruction.FlowControl == FlowControl.ConditionalBranch)
                {
                    ways.Push(instruction.NearBranchTarget);
                }
            }
        }

        return ends;
    }

    private static ulong TargetOf(X64Relocator code, in Instruction jump) => jump.IsJmpNearIndirect ? ReadWord(code, jump) : jump.NearBranchTarget;

    private static ulong ReadWord(X64Relocator code, in Instruction instruction) =>
        BinaryPrimitives.ReadUInt64LittleEndian(code.Code[(int)(instruction.IPRelativeMemoryAddress - code.Address)..]);
}

using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Native;
using Iced.Intel;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>Which instructions are emulated, run in slots, or refused and why.</summary>
[TestFixture]
internal sealed class X64ClassifierTests
{
    private const ulong Pc = 0x401000;

    [TestCase("CC", ProbeRefusal.AlreadyBreakpoint)]
    [TestCase("CB", ProbeRefusal.FarTransfer)]
    [TestCase("CA0800", ProbeRefusal.FarTransfer)]
    [TestCase("48CB", ProbeRefusal.FarTransfer)]
    [TestCase("FF1D00000000", ProbeRefusal.FarTransfer)]
    [TestCase("FF28", ProbeRefusal.FarTransfer)]
    [TestCase("CF", ProbeRefusal.InterruptReturn)]
    [TestCase("48CF", ProbeRefusal.InterruptReturn)]
    [TestCase("F30F01EC", ProbeRefusal.InterruptReturn)]
    [TestCase("0F34", ProbeRefusal.FastSystemTransfer)]
    [TestCase("8ED0", ProbeRefusal.MasksTraps)]
    [TestCase("8E10", ProbeRefusal.MasksTraps)]
    [TestCase("668ED0", ProbeRefusal.MasksTraps)]
    [TestCase("66E90000", ProbeRefusal.Truncated)]
    [TestCase("6465FF20", ProbeRefusal.ConflictingSegments)]
    [TestCase("2E64FF10", ProbeRefusal.ConflictingSegments)]
    [TestCase("0600", ProbeRefusal.Undecodable)]
    [TestCase("62", ProbeRefusal.Truncated)]
    [TestCase("D600", ProbeRefusal.Undecodable)]
    [TestCase("0FAE8F", ProbeRefusal.Truncated)]
    [TestCase("E8", ProbeRefusal.Truncated)]
    [TestCase("", ProbeRefusal.Truncated)]
    [TestCase("F0E800000000", ProbeRefusal.Undecodable)]
    [TestCase("6666666666666666666666666666666690", ProbeRefusal.Undecodable)]
    [TestCase("EA0000000000000000", ProbeRefusal.Undecodable)]
    [TestCase("9A0000000000000000", ProbeRefusal.Undecodable)]
    [TestCase("CE00", ProbeRefusal.Undecodable)]
    [TestCase("66C7F80000", ProbeRefusal.OperandSizeBranch)]
    public void Refused(string hex, ProbeRefusal expected)
    {
        bool decoded = X64InstructionSet.Instance.TryDecode(Convert.FromHexString(hex), Pc, out DisplacedInstruction displaced, out ProbeRefusal reason);
        Assert.That(reason, Is.EqualTo(expected));
        Assert.That(decoded, Is.False);
        Assert.That(displaced.Kind, Is.EqualTo(DisplacedKind.Refused));
    }

    [TestCase("0F0B", DisplacedTraits.Faults)]
    [TestCase("0FFF00", DisplacedTraits.Faults)]
    [TestCase("0FB900", DisplacedTraits.Faults)]
    [TestCase("0F05", DisplacedTraits.SystemCall)]
    [TestCase("F3A4", DisplacedTraits.Repeat)]
    [TestCase("F2AE", DisplacedTraits.Repeat)]
    [TestCase("A4", DisplacedTraits.None)]
    [TestCase("C7F800000000", DisplacedTraits.BeginsTransaction)]
    [TestCase("C8100000", DisplacedTraits.None)]
    [TestCase("9C", DisplacedTraits.None)]
    [TestCase("9D", DisplacedTraits.None)]
    [TestCase("F0FF00", DisplacedTraits.None)]
    [TestCase("F0480FC708", DisplacedTraits.None)]
    [TestCase("C5F9EFC0", DisplacedTraits.None)]
    [TestCase("C5FA6F0500000000", DisplacedTraits.PcRelative)]
    [TestCase("8ED8", DisplacedTraits.None)]
    [TestCase("0FA1", DisplacedTraits.None)]
    [TestCase("0FA2", DisplacedTraits.None)]
    [TestCase("0F01D0", DisplacedTraits.None)]
    [TestCase("6465488B00", DisplacedTraits.None)]
    [TestCase("CD80", DisplacedTraits.SystemCall)]
    [TestCase("CD03", DisplacedTraits.None)]
    [TestCase("F1", DisplacedTraits.None)]
    [TestCase("0F35", DisplacedTraits.None)]
    [TestCase("0F07", DisplacedTraits.None)]
    [TestCase("480F07", DisplacedTraits.None)]
    [TestCase("0FAA", DisplacedTraits.None)]
    [TestCase("F4", DisplacedTraits.None)]
    [TestCase("FA", DisplacedTraits.None)]
    [TestCase("FB", DisplacedTraits.None)]
    [TestCase("E460", DisplacedTraits.None)]
    [TestCase("EE", DisplacedTraits.None)]
    [TestCase("F36C", DisplacedTraits.Repeat)]
    [TestCase("0F0110", DisplacedTraits.None)]
    [TestCase("0F20C0", DisplacedTraits.None)]
    [TestCase("0F30", DisplacedTraits.None)]
    [TestCase("0F01F8", DisplacedTraits.None)]
    public void RunInASlot(string hex, DisplacedTraits traits)
    {
        DisplacedInstruction displaced = Decode(hex);
        Assert.That(displaced.Kind, Is.EqualTo(DisplacedKind.Slot));
        Assert.That(displaced.Traits, Is.EqualTo(traits | DisplacedTraits.SlotPossible));
    }

    [TestCase("F3C3", DisplacedTraits.Return | DisplacedTraits.ReadsMemory)]
    [TestCase("F2C3", DisplacedTraits.Return | DisplacedTraits.ReadsMemory)]
    [TestCase("C21000", DisplacedTraits.Return | DisplacedTraits.ReadsMemory)]
    [TestCase("3EFFE0", DisplacedTraits.Branch | DisplacedTraits.Indirect)]
    [TestCase("F2E900000000", DisplacedTraits.Branch)]
    [TestCase("2E7400", DisplacedTraits.Branch | DisplacedTraits.Conditional)]
    [TestCase("677400", DisplacedTraits.Branch | DisplacedTraits.Conditional)]
    [TestCase("666648E800000000", DisplacedTraits.Call | DisplacedTraits.WritesMemory)]
    [TestCase("6648FF1500000000", DisplacedTraits.Call | DisplacedTraits.Indirect | DisplacedTraits.WritesMemory | DisplacedTraits.ReadsMemory | DisplacedTraits.PcRelative)]
    [TestCase("662E0F1F840000000000", DisplacedTraits.SlotPossible)]
    [TestCase("F30F1EFA", DisplacedTraits.SlotPossible)]
    [TestCase("F30F1EFB", DisplacedTraits.SlotPossible)]
    [TestCase("90", DisplacedTraits.SlotPossible)]
    [TestCase("55", DisplacedTraits.SlotPossible | DisplacedTraits.WritesMemory | DisplacedTraits.SlotPreferred)]
    [TestCase("4883EC08", DisplacedTraits.SlotPossible)]
    public void Emulated(string hex, DisplacedTraits traits)
    {
        DisplacedInstruction displaced = Decode(hex);
        Assert.That(displaced.Kind, Is.EqualTo(DisplacedKind.Emulated));
        Assert.That(displaced.Traits, Is.EqualTo(traits));
    }

    [TestCase("66E800000000")]
    [TestCase("66EB00")]
    [TestCase("4866C3")]
    [TestCase("4866E800000000")]
    [TestCase("66C3")]
    [TestCase("667400")]
    [TestCase("66FFE0")]
    [TestCase("66E300")]
    public void BranchesWithAnOperandSizePrefixAreTheProcessors(string hex)
    {
        bool decoded = X64InstructionSet.Instance.TryDecode(Convert.FromHexString(hex), Pc, out DisplacedInstruction displaced, out ProbeRefusal reason);
        Assert.That(decoded, Is.EqualTo(Processor.IgnoresOperandSizeOfBranches));
        Assert.That(reason, Is.EqualTo(decoded ? ProbeRefusal.None : ProbeRefusal.OperandSizeBranch));
        Assert.That(displaced.Kind, Is.EqualTo(decoded ? DisplacedKind.Emulated : DisplacedKind.Refused));
    }

    [Test]
    public void EveryReasonHasAText()
    {
        foreach (ProbeRefusal reason in Enum.GetValues<ProbeRefusal>())
        {
            Assert.That(reason.Describe(), Does.EndWith("."));
        }

        Assert.That(Enum.GetValues<ProbeRefusal>().Select(r => r.Describe()).Distinct().Count(), Is.EqualTo(Enum.GetValues<ProbeRefusal>().Length));
    }

    [Test]
    public void OtherArchitecturesAreRefusedWithAReason() =>
        Assert.That(
            () => InstructionSet.For(System.Runtime.InteropServices.Architecture.S390x),
            Throws.TypeOf<PlatformNotSupportedException>().With.Message.Contains("S390x"));

    [Test]
    public void AnInstructionIsNoMoreThan64Bytes() =>
        Assert.That(System.Runtime.CompilerServices.Unsafe.SizeOf<DisplacedInstruction>(), Is.LessThanOrEqualTo(56));

    private static DisplacedInstruction Decode(string hex)
    {
        bool decoded = X64InstructionSet.Instance.TryDecode(Convert.FromHexString(hex), Pc, out DisplacedInstruction displaced, out ProbeRefusal reason);
        Assert.That(decoded, Is.True, reason.ToString());
        Assert.That((int)displaced.Length, Is.EqualTo(hex.Length / 2));
        return displaced;
    }
}

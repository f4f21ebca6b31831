using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>Room near an address: every answer is checked against the mappings, whatever they are.</summary>
[TestFixture]
internal sealed class AddressGapsTests
{
    private const ulong Length = 0x10000;

    [Test]
    public void BelowTheModuleComesFirst()
    {
        MemoryRegion[] regions = [Region(0x400000, 0x500000), Region(0x600000, 0x700000, "[heap]"), Region(0x7f0000000000, 0x7f0000100000)];
        List<ulong> gaps = AddressGaps.Find(regions, 0x400000, RemoteMemoryMap.NearReach, Length);
        Assert.That(gaps, Is.EqualTo(new ulong[] { 0x3f0000, 0x500000, 0x700000 + AddressGaps.GrowthMargin }));
        gaps = AddressGaps.Find(regions, 0x7f0000000000, RemoteMemoryMap.NearReach, Length);
        Assert.That(gaps, Is.EqualTo(new ulong[] { 0x7f0000000000 - Length, 0x7f0000100000 }));
    }

    [Test]
    public void Arm64HasRoomAbove47Bits()
    {
        const ulong Near = 0xaaaa_aaaa_0000;
        const ulong Reach = 0x700_0000;
        MemoryRegion[] regions = [Region(Near, Near + 0x10000), Region(0xffff_f7ff_0000, 0xffff_f7ff_1000)];
        Assert.That(AddressGaps.Find(regions, Near, Reach, Length), Is.Empty);
        Assert.That(AddressGaps.Find(regions, Near, Reach, Length, AddressGaps.HighestOfArm64), Is.EqualTo(new[] { Near - Length, Near + 0x10000 }));
    }

    [Test]
    public void NoRoomGivesNothing()
    {
        MemoryRegion[] regions = [Region(0x10000, 0x7fff_ffff_f000)];
        Assert.That(AddressGaps.Find(regions, 0x400000, RemoteMemoryMap.NearReach, Length), Is.Empty);
        Assert.That(AddressGaps.Find([], 0x400000, 0x1000, Length), Is.Empty);
        Assert.That(AddressGaps.Find([], ulong.MaxValue, RemoteMemoryMap.NearReach, Length), Is.Empty);
    }

    [Test]
    public void EveryAnswerIsFreeAndWithinReach()
    {
        Random random = new(3);
        int answers = 0;
        for (int round = 0; round < 500; round++)
        {
            List<MemoryRegion> regions = [];
            ulong at = 0x10000;
            while (at < 0x4_0000_0000)
            {
                at += (ulong)random.Next(0, 3) * (ulong)random.Next(0, 0x8000) * 0x1000;
                ulong end = at + ((ulong)random.Next(1, 0x8000) * 0x1000);
                regions.Add(Region(at, end, random.Next(10) switch { 0 => "[heap]", 1 => "[stack]", _ => "" }));
                at = end;
            }

            ulong near = (ulong)random.NextInt64(0, 0x4_0000_0000);
            ulong reach = (ulong)random.NextInt64(0x1000, (long)RemoteMemoryMap.NearReach);
            foreach (ulong gap in AddressGaps.Find(regions, near, reach, Length))
            {
                answers++;
                Assert.That(gap % 0x10000, Is.Zero);
                Assert.That(gap >= AddressGaps.Lowest && gap + Length <= near + reach && gap + reach >= near, $"{gap:x} near {near:x} reach {reach:x}");
                Assert.That(regions.Exists(r => r.Start < gap + Length && r.End > gap), Is.False, "it is free");
            }
        }

        Assert.That(answers, Is.GreaterThan(1000));
    }

    private static MemoryRegion Region(ulong start, ulong end, string path = "") => new(start, end, MemoryAccess.Read, 0, 0, 0, 0, path, false);
}

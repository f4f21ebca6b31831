using System.Buffers.Binary;
using FastTrap.Isa;
using FastTrap.Isa.Arm64;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>
/// No encoding is left out: each is refused, or compared with the oracle by <see cref="Arm64OracleTests"/>, or is of a table which the oracle lacks or executes as
/// a kernel would. Those are compared on a kernel, by <c>arm64_special.c</c>, as far as the guest's processor has them.
/// </summary>
[TestFixture, Parallelizable]
internal sealed class Arm64CoverageTests
{
    private static readonly Arm64Words[] s_withoutOracle =
    [
        new("SVE", 0x1e00_0000, 0x0400_0000),
        new("SME", 0x9e00_0000, 0x8000_0000),
        new("exception generation", 0xff00_0000, 0xd400_0000),
        new("exception return", 0xfee0_0000, 0xd680_0000),
        new("memory copy, memory set", 0x3b20_0c00, 0x1900_0400),
    ];

    private static readonly Arm64Words s_system = new("system", 0xff80_0000, 0xd500_0000);

    [Test]
    public void EveryEncodingIsRefusedOrComparedOrNamed()
    {
        // The first that fits counts.
        Arm64Words[] tables = [.. s_withoutOracle, .. Arm64Words.Emulated, .. Arm64Words.Slotted, s_system];
        int[] counts = new int[tables.Length];
        SortedSet<string> missing = [];
        HashSet<ProbeRefusal> refused = [];
        foreach (uint word in Words())
        {
            int index = Array.FindIndex(tables, t => (word & t.Mask) == t.Value);
            if (!TryDecode(word, out ProbeRefusal reason))
            {
                refused.Add(reason);
            }
            else if (index < 0)
            {
                missing.Add($"{word & 0xffe0_0c00:x8}");
            }
            else
            {
                counts[index]++;
            }
        }

        Assert.That(string.Join(' ', missing.Take(100)), Is.Empty);
        Assert.That(tables.Where((_, i) => counts[i] == 0).Select(t => t.Name), Is.Empty);
        Assert.That(refused, Is.EquivalentTo(new[] { ProbeRefusal.Undecodable, ProbeRefusal.AlreadyBreakpoint, ProbeRefusal.PositionDependent, ProbeRefusal.ExclusiveSequence }));
    }

    /// <summary>
    /// All of bits 31 to 21 and 15 to 10, which tell instructions apart, with registers and the like empty, full and at random; and all system instructions.
    /// </summary>
    private static IEnumerable<uint> Words()
    {
        Random random = new(7);
        for (uint fixedBits = 0; fixedBits < 1 << 17; fixedBits++)
        {
            uint word = (fixedBits >> 6 << 21) | ((fixedBits & 63) << 10);
            for (int fill = 0; fill < 12; fill++)
            {
                uint high = fill % 3 == 0 ? 0 : fill % 3 == 1 ? 31u : (uint)random.Next(32);
                uint low = (fill / 3) switch { 0 => 0, 1 => 0x3ff, 2 => (uint)random.Next(1024), _ => (uint)random.Next(32) << 5 };
                yield return word | (high << 16) | low;
            }
        }

        for (uint operands = 0; operands < 1 << 17; operands++)
        {
            yield return 0xd500_0000 | (operands << 5);
            yield return 0xd500_001f | (operands << 5);
        }
    }

    private static bool TryDecode(uint word, out ProbeRefusal reason)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, word);
        return Arm64InstructionSet.Instance.TryDecode(bytes, 0x1000, out _, out reason);
    }
}

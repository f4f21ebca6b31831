using System.Buffers.Binary;
using FastTrap.Usdt;

namespace FastTrap.Tests.Usdt.Dof;

/// <summary>DOF that is as it must be, and every way in which a field can be wrong.</summary>
[TestFixture, Parallelizable(ParallelScope.All)]
public sealed class DofReaderTests
{
    private static readonly BuiltProbe s_start = new("handle_request", "query-start", 0x1000)
    {
        Offsets = [0x40, 0x10],
        IsEnabledOffsets = [0x8],
        NativeTypes = ["struct request *", "int", "char *"],
        Arguments = [("char *", 2), ("reqinfo_t *", 0), ("struct request *", 0)],
    };

    private static readonly BuiltProbe s_done = new("handle_request", "query-done", 0x1000) { Offsets = [0x90] };

    /// <summary>Where the file of <see cref="Whole"/> has what; the sections are 0 comments, 1 strings, 2 probes, 3 map, 4 offsets, 5 is-enabled, 6 provider, 7 relocations, 8 their header.</summary>
    private static byte[] Whole => new DofBuilder { Relocation = 1 }.Add("shop", s_start, s_done).Build();

    [Test]
    public void Provider_IsReadWithAllThatItSays()
    {
        DofProvider provider = DofReader.Read(Whole, default).Single();
        Assert.That(provider.Name, Is.EqualTo("shop"));
        DofAttribute Part(DofStability name) => new(name, DofStability.Obsolete, DofClass.Group);
        Assert.That(provider.Attributes, Is.EqualTo(new DofProviderAttributes(
            Part(DofStability.Private), Part(DofStability.Obsolete), Part(DofStability.External), Part(DofStability.Unstable), Part(DofStability.Evolving))));
        Assert.That(provider.Probes.Select(probe => $"{probe.Function}:{probe.Name}"), Is.EqualTo(new[] { "handle_request:query-start", "handle_request:query-done" }));
        DofProbe start = provider.Probes[0];
        Assert.That(start.Addresses, Is.EqualTo(new ulong[] { 0x1010, 0x1040 }));
        Assert.That(start.IsEnabledAddresses, Is.EqualTo(new ulong[] { 0x1008 }));
        Assert.That(start.NativeTypes, Is.EqualTo(new[] { "struct request *", "int", "char *" }));
        Assert.That(start.Arguments, Is.EqualTo(new[]
        {
            new DofArgument(0, "char *", "char *", 2), new DofArgument(1, "struct request *", "reqinfo_t *", 0), new DofArgument(2, "struct request *", "struct request *", 0),
        }));
        Assert.That(provider.Probes[1].Addresses, Is.EqualTo(new ulong[] { 0x1090 }));
        Assert.That((provider.Probes[1].IsEnabledAddresses.Count, provider.Probes[1].Arguments.Count), Is.EqualTo((0, 0)));
    }

    [Test]
    public void TheFirstVersion_HasNoIsEnabledProbes()
    {
        byte[] bytes = new DofBuilder { Version = 1 }.Add("old", s_done, s_start with { IsEnabledOffsets = [] }).Build();
        DofProvider provider = DofReader.Read(bytes, default).Single();
        Assert.That(provider.Probes.SelectMany(probe => probe.Addresses), Is.EqualTo(new ulong[] { 0x1090, 0x1010, 0x1040 }));
        Assert.That(provider.Probes.Sum(probe => probe.IsEnabledAddresses.Count), Is.Zero);
    }

    [TestCase(1u, 0x7f0000000000UL, ExpectedResult = 0x7f0000001090UL)]
    [TestCase(1u, 0UL, ExpectedResult = 0x1090UL)]
    public ulong LinkTimeAddresses_AreMovedByTheLoadBase(uint kind, ulong loadBase) =>
        DofReader.Read(new DofBuilder { Relocation = kind }.Add("p", s_done).Build(), new DofPlacement(loadBase, 0x999)).Single().Probes[0].Addresses[0];

    [Test]
    public void AddressesTheLinkerHasMovedAlready_AreNotMovedAgain()
    {
        byte[] bytes = new DofBuilder { Relocation = 1 }.Add("p", s_done with { Address = 0x7f0000001000 }).Build();
        Assert.That(DofReader.Read(bytes, new DofPlacement(0x7f0000000000, 0)).Single().Probes[0].Addresses[0], Is.EqualTo(0x7f0000001090));
    }

    [Test]
    public void AddressesRelativeToTheirPlace_AreCountedFromIt()
    {
        // The function lies 0x5000 bytes before the field that says so.
        byte[] bytes = new DofBuilder { Relocation = 2 }.Add("p", s_done with { Address = unchecked((ulong)-0x5000) }).Build();
        ulong field = SectionOffset(bytes, 2);
        Assert.That(DofReader.Read(bytes, new DofPlacement(1, 0x40_0000)).Single().Probes[0].Addresses[0], Is.EqualTo(0x40_0000 + field - 0x5000 + 0x90));
    }

    [Test]
    public void WithoutRelocations_AddressesAreAsTheyStand() =>
        Assert.That(DofReader.Read(new DofBuilder().Add("p", s_done).Build(), new DofPlacement(0x10_0000, 0x20_0000)).Single().Probes[0].Addresses[0], Is.EqualTo(0x1090));

    [Test]
    public void ASectionOfSeveralObjects_IsReadToItsEnd()
    {
        byte[] first = new DofBuilder { Relocation = 2 }.Add("one", s_done).Add("two", s_start, s_done).Build();
        byte[] second = new DofBuilder { Relocation = 2 }.Add("three", s_done).Build();
        int gap = 8 - (first.Length % 8);
        IReadOnlyList<DofProvider> providers = DofReader.ReadSection([.. first, .. new byte[gap], .. second, .. new byte[24]], new DofPlacement(0, 0x1000));
        Assert.That(providers.Select(provider => $"{provider.Name} {provider.Probes.Count}"), Is.EqualTo(new[] { "one 1", "two 2", "three 1" }));
        Assert.That(providers[2].Probes[0].BaseAddress, Is.EqualTo(0x1000 + (ulong)(first.Length + gap) + SectionOffset(second, 2) + 0x1000));
        Assert.That(DofReader.ReadSection([], default), Is.Empty);
    }

    [TestCase(0, 4, 0x80000000u, nameof(DofProblem.NotDof))]
    [TestCase(4, 1, 1u, nameof(DofProblem.WrongModel))]
    [TestCase(5, 1, 2u, nameof(DofProblem.WrongEncoding))]
    [TestCase(6, 1, 3u, nameof(DofProblem.UnsupportedVersion))]
    [TestCase(6, 1, 0u, nameof(DofProblem.UnsupportedVersion))]
    [TestCase(7, 1, 3u, nameof(DofProblem.UnsupportedVersion))]
    [TestCase(8, 1, 9u, nameof(DofProblem.UnsupportedVersion))]
    [TestCase(15, 1, 1u, nameof(DofProblem.ReservedBits))]
    [TestCase(16, 4, 1u, nameof(DofProblem.ReservedBits))]
    [TestCase(20, 4, 63u, nameof(DofProblem.WrongEntrySize))]
    [TestCase(24, 4, 24u, nameof(DofProblem.WrongEntrySize))]
    [TestCase(24, 4, 36u, nameof(DofProblem.Misaligned))]
    [TestCase(28, 4, 0x10001u, nameof(DofProblem.LimitExceeded))]
    [TestCase(28, 4, 100u, nameof(DofProblem.Truncated))]
    [TestCase(32, 4, 60u, nameof(DofProblem.Misaligned))]
    [TestCase(36, 4, 1u, nameof(DofProblem.Truncated))]
    [TestCase(40, 4, 63u, nameof(DofProblem.Truncated))]
    [TestCase(40, 4, 100_000u, nameof(DofProblem.Truncated))]
    [TestCase(48, 4, 64u, nameof(DofProblem.Truncated))]
    public void AWrongHeader_IsRefused(int offset, int size, uint value, string problem) => AssertRefused(Whole, offset, size, value, problem, -2);

    // Of each section header: type 0, alignment 4, flags 8, entry size 12, offset 16, size 24.
    [TestCase(1, 8, 0u, nameof(DofProblem.NotLoaded), 1)]
    [TestCase(1, 8, 3u, nameof(DofProblem.ReservedBits), 1)]
    [TestCase(2, 4, 3u, nameof(DofProblem.Misaligned), 2)]
    [TestCase(2, 4, 0x8000u, nameof(DofProblem.Misaligned), 2)]
    [TestCase(2, 28, 1u, nameof(DofProblem.Truncated), 2)]
    [TestCase(2, 20, 1u, nameof(DofProblem.Truncated), 2)]
    [TestCase(2, 16, 8u, nameof(DofProblem.Overlap), -2)]
    [TestCase(4, 16, 0u, nameof(DofProblem.Overlap), 4)]
    [TestCase(2, 12, 44u, nameof(DofProblem.WrongEntrySize), 2)]
    [TestCase(2, 12, 0u, nameof(DofProblem.WrongEntrySize), 2)]
    [TestCase(2, 12, 56u, nameof(DofProblem.WrongEntrySize), 2)]
    [TestCase(3, 12, 2u, nameof(DofProblem.WrongEntrySize), 3)]
    [TestCase(4, 12, 8u, nameof(DofProblem.WrongEntrySize), 4)]
    [TestCase(5, 12, 1u, nameof(DofProblem.WrongEntrySize), 5)]
    [TestCase(6, 24, 40u, nameof(DofProblem.Truncated), 6)]
    [TestCase(1, 24, 0u, nameof(DofProblem.BadString), 1)]
    [TestCase(1, 24, 4u, nameof(DofProblem.BadString), 1)]
    [TestCase(2, 0, 17u, nameof(DofProblem.WrongSection), 8)]
    [TestCase(7, 12, 16u, nameof(DofProblem.WrongEntrySize), 7)]
    [TestCase(8, 24, 8u, nameof(DofProblem.Truncated), 8)]
    public void AWrongSectionHeader_IsRefused(int section, int field, uint value, string problem, int named)
    {
        // A target that is no table of probes is none of ours: then it is the provider that finds the wrong type.
        int expected = section == 2 && field == 0 ? 6 : named;
        AssertRefused(Whole, 64 + (section * 32) + field, 4, value, problem, expected);
    }

    // Of the provider: strings 0, probes 4, map 8, offsets 12, name 16, attributes 20 to 36, is-enabled offsets 40.
    [TestCase(6, 0, 4, 2u, nameof(DofProblem.WrongSection), 6)]
    [TestCase(6, 4, 4, 99u, nameof(DofProblem.WrongSection), 6)]
    [TestCase(6, 8, 4, 0u, nameof(DofProblem.WrongSection), 6)]
    [TestCase(6, 12, 4, 0xffffffffu, nameof(DofProblem.WrongSection), 6)]
    [TestCase(6, 16, 4, 0u, nameof(DofProblem.BadName), 1)]
    [TestCase(6, 16, 4, 0xfffffu, nameof(DofProblem.BadString), 1)]
    [TestCase(6, 20, 4, 0x08000000u, nameof(DofProblem.BadAttribute), 6)]
    [TestCase(6, 36, 4, 0x00000600u, nameof(DofProblem.BadAttribute), 6)]
    [TestCase(6, 40, 4, 4u, nameof(DofProblem.WrongSection), 6)]
    [TestCase(6, 40, 4, 0u, nameof(DofProblem.BadIndex), 2)]
    [TestCase(6, 40, 4, 0xffffffffu, nameof(DofProblem.WrongSection), 6)]

    // Of a probe: address 0, function 8, name 12, native types 16, translated 20, map 24, offsets 28, counts 32, 33, 34, is-enabled 36, count 40.
    [TestCase(2, 8, 4, 0xffffu, nameof(DofProblem.BadString), 1)]
    [TestCase(2, 12, 4, 0u, nameof(DofProblem.BadName), 1)]
    [TestCase(2, 16, 4, 0xffffffffu, nameof(DofProblem.BadString), 1)]
    [TestCase(2, 24, 4, 1u, nameof(DofProblem.BadIndex), 2)]
    [TestCase(2, 24, 4, 0xffffffffu, nameof(DofProblem.BadIndex), 2)]
    [TestCase(2, 28, 4, 2u, nameof(DofProblem.BadIndex), 4)]
    [TestCase(2, 28, 4, 0xffffffffu, nameof(DofProblem.BadIndex), 4)]
    [TestCase(2, 32, 1, 1u, nameof(DofProblem.BadIndex), 3)]
    [TestCase(2, 33, 1, 4u, nameof(DofProblem.BadIndex), 2)]
    [TestCase(2, 34, 2, 4u, nameof(DofProblem.BadIndex), 4)]
    [TestCase(2, 36, 4, 1u, nameof(DofProblem.BadIndex), 5)]
    [TestCase(2, 48 + 34, 2, 0u, nameof(DofProblem.BadOffset), 2)]
    [TestCase(2, 4, 4, 0xffffffffu, nameof(DofProblem.BadOffset), 4)]
    [TestCase(3, 0, 1, 3u, nameof(DofProblem.BadIndex), 3)]
    [TestCase(4, 0, 4, 0x10u, nameof(DofProblem.BadOffset), 4)]

    // Of a relocation: kind 4, offset 8; of its header: strings, table, target.
    [TestCase(7, 4, 4, 3u, nameof(DofProblem.BadRelocation), 7)]
    [TestCase(7, 8, 4, 8u, nameof(DofProblem.BadRelocation), 7)]
    [TestCase(7, 12, 4, 1u, nameof(DofProblem.BadRelocation), 7)]
    [TestCase(8, 0, 4, 2u, nameof(DofProblem.WrongSection), 8)]
    [TestCase(8, 4, 4, 2u, nameof(DofProblem.WrongSection), 8)]
    [TestCase(8, 8, 4, 77u, nameof(DofProblem.WrongSection), 8)]
    public void AWrongField_IsRefusedWithItsSection(int section, int field, int size, uint value, string problem, int named)
    {
        byte[] bytes = Whole;
        if (section == 2 && field == 4)
        {
            // The last address there is, and an offset behind it.
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan((int)SectionOffset(bytes, 2)), ulong.MaxValue - 4);
            value = uint.MaxValue;
        }

        AssertRefused(bytes, (int)SectionOffset(bytes, section) + field, size, value, problem, named);
    }

    [TestCase("1shop")]
    [TestCase("sh op")]
    [TestCase("shop*")]
    [TestCase("a\u001b[2J")]
    public void NamesNoProbeCanHave_AreRefused(string name)
    {
        Assert.That(() => DofReader.Read(new DofBuilder().Add(name, s_done).Build(), default), Throws.TypeOf<DofFormatException>());
        Assert.That(() => DofReader.Read(new DofBuilder().Add("p", s_done with { Name = name }).Build(), default), Throws.TypeOf<DofFormatException>());
    }

    [TestCase(63, 127, 63, 127, ExpectedResult = true)]
    [TestCase(64, 127, 63, 127, ExpectedResult = false)]
    [TestCase(63, 128, 63, 127, ExpectedResult = false)]
    [TestCase(63, 127, 64, 127, ExpectedResult = false)]
    [TestCase(63, 127, 63, 128, ExpectedResult = false)]
    public bool Names_HaveTheLengthsThatTheReferenceAllows(int provider, int function, int name, int type)
    {
        BuiltProbe probe = new(new string('f', function), new string('n', name), 1) { NativeTypes = [new string('t', type)] };
        try
        {
            return DofReader.Read(new DofBuilder().Add(new string('p', provider), probe).Build(), default).Single().Probes.Count == 1;
        }
        catch (DofFormatException exception) when (exception.Problem == DofProblem.BadString)
        {
            return false;
        }
    }

    [Test]
    public void EveryShorterFile_IsRefused()
    {
        byte[] whole = Whole;
        for (int length = 0; length < whole.Length; length++)
        {
            Assert.That(() => DofReader.Read(whole.AsSpan(0, length), default), Throws.TypeOf<DofFormatException>(), $"{length} bytes");
        }
    }

    [Test]
    public void TablesReferredToAgainAndAgain_AreRefusedBeforeTheyCostMuch()
    {
        // 2000 probes which all claim the same 5000 offsets would be ten million places out of 120 kilobytes.
        DofBuilder builder = new();
        BuiltProbe[] probes = [.. Enumerable.Range(0, 2000).Select(i => s_done with { Offsets = i == 0 ? [.. Enumerable.Range(0, 5000).Select(o => (uint)o)] : [] })];
        byte[] bytes = builder.Add("p", probes).Build();
        Span<byte> entries = bytes.AsSpan((int)SectionOffset(bytes, 2));
        for (int i = 0; i < probes.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(entries[((i * 48) + 28)..], 0);
            BinaryPrimitives.WriteUInt16LittleEndian(entries[((i * 48) + 34)..], 5000);
        }

        DofFormatException exception = Assert.Throws<DofFormatException>(() => DofReader.Read(bytes, default))!;
        Assert.That(exception.Problem, Is.EqualTo(DofProblem.LimitExceeded));
    }

    [Test]
    public void AnOrdinaryLargeFile_IsNotTakenForAHostileOne()
    {
        BuiltProbe[] probes = [.. Enumerable.Range(0, 3000).Select(i => s_start with { Function = $"function_{i}", Name = $"probe-{i}", Address = (ulong)i * 0x100 })];
        Assert.That(DofReader.Read(new DofBuilder { Relocation = 1 }.Add("p", probes).Build(), new DofPlacement(0x100_0000, 0)).Single().Probes, Has.Count.EqualTo(3000));
    }

    internal static ulong SectionOffset(byte[] bytes, int section) => BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(64 + (section * 32) + 16));

    private static void AssertRefused(byte[] bytes, int offset, int size, uint value, string problem, int section)
    {
        byte[] field = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(field, value);
        field.AsSpan(0, size).CopyTo(bytes.AsSpan(offset));
        DofFormatException exception = Assert.Throws<DofFormatException>(() => DofReader.Read(bytes, default))!;
        Assert.That((exception.Problem.ToString(), section == -2 ? -2 : exception.Section), Is.EqualTo((problem, section)), exception.Message);
    }
}

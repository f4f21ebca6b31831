using System.Buffers.Binary;
using FastTrap.Isa;
using FastTrap.Isa.Arm64;
using FastTrap.Tests.Isa.Arm64;
using NUnit.Framework;

namespace FastTrap.Tests.Isa.Windows;

/// <summary>Random words from random states, in their place and in a trampoline, both on Unicorn: registers, data and where they lead are equal.</summary>
[TestFixture, Parallelizable]
internal sealed unsafe class Arm64RelocatorTests
{
    private const ulong Code = 0x40_0000_0000;
    private const int CodeLength = 4 << 20;
    private const ulong Site = Code + (CodeLength / 2);
    private const ulong Near = Site + 0x8_0000;
    private const ulong Far = Code + 0x600_0000;
    private const ulong Data = 0x50_0000_0000;
    private const int DataLength = 64 << 10;

    [Test]
    public void ATrampolineDoesWhatTheInstructionDoes([Values] bool isFar)
    {
        if (UnicornMachine.WhyMissing is { } reason)
        {
            Assert.Ignore(reason);
        }

        using UnicornMachine machine = new();
        Span<byte> code = machine.Map(Code, CodeLength, true);
        Span<byte> far = machine.Map(Far, 4096, true);
        Span<byte> data = machine.Map(Data, DataLength, false);
        Random random = new(isFar ? 3 : 4);
        random.NextBytes(code);
        byte[] pristine = new byte[DataLength];
        random.NextBytes(pristine);
        ulong trampoline = isFar ? Far : Near;
        Span<byte> place = isFar ? far : code[(int)(Near - Code)..];
        Arm64Relocator relocator = new();
        List<string> wrong = [];
        int compared = 0;
        int refused = 0;
        foreach (Arm64Words words in (Arm64Words[])[.. Arm64Words.Emulated, .. Arm64Words.Slotted])
        {
            for (int i = 0; i < 250; i++)
            {
                uint word = words.Next(random);
                relocator.Begin(word, Site, trampoline);
                if (!relocator.TryFinish(out WindowRefusal refusal))
                {
                    Assert.That(refusal, Is.Not.EqualTo(WindowRefusal.None));
                    refused++;
                    continue;
                }

                Arm64State before = RandomState(random, word);
                BinaryPrimitives.WriteUInt32LittleEndian(code[(int)(Site - Code)..], word);
                machine.Changed(Site, 4);
                pristine.CopyTo(data);
                Arm64State expected = before;
                int error = machine.Step(ref expected, Site);
                byte[] expectedData = data.ToArray();
                pristine.CopyTo(data);
                relocator.Code.CopyTo(place);
                machine.Changed(trampoline, relocator.Code.Length);
                Arm64State actual = before;
                actual.Words[33] = trampoline;
                int movedError = 0;
                bool left = false;
                for (int step = 0; step < 6 && movedError is 0 && !left; step++)
                {
                    movedError = machine.Step(ref actual, actual.Pc);
                    left = actual.Pc - trampoline >= (ulong)relocator.Code.Length;
                }

                if (error != 0 && expected.Pc == Site)
                {
                    // The fault is the instruction's own in both places; where it stands is told by the map.
                    ulong at = actual.Pc;
                    if (movedError == 0 || !relocator.Points.Any(p => p.Offset == (int)(at - trampoline) && p.Original == Site))
                    {
                        wrong.Add($"{words.Name} {word:x8}: error {error}, then {movedError} at {at:x}");
                    }

                    continue;
                }

                compared++;
                string difference = actual.DifferenceFrom(expected);
                if (difference.Length > 0 || !data.SequenceEqual(expectedData))
                {
                    wrong.Add($"{words.Name} {word:x8} {error} {movedError}: {difference}");
                }
            }
        }

        TestContext.Out.WriteLine($"{compared} compared, {refused} refused, {wrong.Count} differ");
        Assert.That(compared, Is.GreaterThan(5000));
        Assert.That(refused, Is.LessThan(compared));
        Assert.That(wrong.Take(20), Is.Empty, $"{wrong.Count} of {compared}");
    }

    private static Arm64State RandomState(Random random, uint word)
    {
        Arm64State state = default;
        for (int i = 0; i <= 31; i++)
        {
            state.Words[i] = random.Next(3) == 0 ? (ulong)random.NextInt64() : Data + (DataLength / 2) + (ulong)(random.Next(-256, 256) * 16);
        }

        // Indirect branches lead to code.
        if ((word & 0xfe00_0000) == 0xd600_0000)
        {
            state.Words[(word >> 5) & 31] = Code + (ulong)random.Next(1000) * 4;
        }

        state.Words[32] = (ulong)random.Next(16) << 28;
        for (int i = 0; i < Arm64State.VectorCount * 2; i++)
        {
            state.Vectors[i] = (ulong)random.NextInt64();
        }

        return state;
    }
}

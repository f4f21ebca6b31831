using System.Globalization;
using FastTrap.Tests.Fuzz;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Probes of a program that describes them by DOF: the program says itself how often it asked and fired.</summary>
[TestFixture]
public sealed class DofProbeTests : LiveTest
{
    private static IEnumerable<object> Variants => TargetVariant.All;

    [TestCaseSource(nameof(Variants))]
    public async Task IsEnabledTestsAreTrueWhileAProbeIsEnabled(object variantObject)
    {
        using TargetProcess target = TargetProcess.StartTarget("dof", (TargetVariant)variantObject);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Assert.That(target.SendAndReadCount("go 10", "fired"), Is.Zero);
        List<string> seen = [];
        ProbeEnabling start = await process.EnableAsync(
            "hand*:::work-start", new ProbeOptions { Buffered = false, OnHit = (in ProbeContext c) => seen.Add($"{c.GetArgument(0)} {Text(c, 1)}") });
        ProbeEnabling plain = await process.EnableAsync("hand*:a.out:plain:*", CountOnly);
        Assert.That(start.Probes.Select(p => p.ToString()), Is.EqualTo(new[] { $"hand{target.ProcessId}:dof:work:work-start" }));
        Assert.That(start.Probes[0].Arguments.Select(a => (a.NativeType, a.TranslatedType, a.NativeIndex)), Is.EqualTo(new[] { ("long", "long", 1), ("char *", "string", 0) }));
        Assert.That(start.Probes[0].Stability.Provider, Is.EqualTo(new StabilityAttributes(StabilityLevel.Evolving, StabilityLevel.Evolving, DependencyClass.Isa)));
        Assert.That(target.SendAndReadCount("go 10", "fired"), Is.EqualTo(10));
        Assert.That((start.HitCount, plain.HitCount), Is.EqualTo((10L, target.ReadCount("plain"))));
        Assert.That(seen.Take(4), Is.EqualTo(new[] { "0 one", "1 two", "2 three", "3 one" }));
        await start.DisposeAsync();
        Assert.That(target.SendAndReadCount("go 10", "fired"), Is.Zero);
        Assert.That((start.HitCount, plain.HitCount), Is.EqualTo((10L, 20L)));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task TheyAreListedAndStandForProgramsToCome()
    {
        StandingEnabling standing = await Tracer.EnableAsync("hand*:::work-start", CountOnly);
        using TargetProcess target = TargetProcess.StartTarget("dof");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        IReadOnlyList<ProbeInfo> list = await process.ListAsync("hand*:::*");
        Assert.That(list.Select(p => (p.Function, p.Name, p.SiteCount)), Is.EquivalentTo(new[] { ("work", "work-start", 2), ("plain", "plain-call", 1) }));
        Assert.That(target.SendAndReadCount("go 20", "fired"), Is.EqualTo(20));
        Assert.That((standing.HitCount, standing.ProcessFailures.Count), Is.EqualTo((20L, 0)));
        await standing.DisposeAsync();
        Assert.That(target.SendAndReadCount("go 20", "fired"), Is.Zero);
    }

    /// <summary>What a program says of itself is not believed: it is refused with a reason, or it is within the module's own code. Nothing else is touched.</summary>
    [Test]
    public async Task HostileDofIsRefusedAndBreaksNothing()
    {
        using TargetProcess target = TargetProcess.StartTarget("dof");
        target.SendLine("dof");
        byte[] good = Convert.FromHexString(target.ReadLineStarting("dof ")["dof ".Length..]);
        Mutator mutator = new(7, [good]);
        int refused = 0;
        int accepted = 0;
        string? nowhere = await EnableAll(Damage(good, 28, [0xff, 0xff, 0, 0]));
        Assert.That(nowhere, Does.Contain("DOF").And.Contain("section"));

        // The address of a probe: into data, and into another module.
        int probes = good.AsSpan().IndexOf("plain-call\0"u8) is var strings && strings > 0 ? BitConverter.ToInt32(good, 64 + 32 + 16) : 0;
        long address = BitConverter.ToInt64(good, probes);
        Assert.That(await EnableAll(Damage(good, probes, BitConverter.GetBytes(address + 0x10_0000))), Does.Contain("outside"));
        for (int i = 0; i < 60; i++)
        {
            byte[] bytes = new byte[good.Length];
            ReadOnlySpan<byte> next = mutator.Next();
            next[..Math.Min(next.Length, bytes.Length)].CopyTo(bytes);
            string? reason = await EnableAll(bytes);
            refused += reason is null ? 0 : 1;
            accepted += reason is null ? 1 : 0;
        }

        Assert.That(refused, Is.GreaterThan(10));
        Assert.That(accepted, Is.LessThan(60));
        Assert.That(await EnableAll(good), Is.Null);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));

        // The reason why nothing was enabled, or null.
        async Task<string?> EnableAll(byte[] dof)
        {
            Assert.That(target.SendAndReadCount(string.Create(CultureInfo.InvariantCulture, $"put 0 {Convert.ToHexString(dof)}"), "put"), Is.EqualTo(dof.Length));
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            string? reason = null;
            await using (ProbeEnabling function = await process.EnableAsync("pid*:a.out:plain:entry", CountOnly))
            {
                try
                {
                    // Mutated places inside the code are not probed for real: an instruction's middle is code, too, as the pid provider's offsets would refuse.
                    ProbeEnabling enabling = await process.EnableAsync("hand*:::*-start", CountOnly);
                    await enabling.DisposeAsync();
                }
                catch (FastTrapException e)
                {
                    Assert.That(e.Error, Is.EqualTo(FastTrapError.NoMatch));
                    reason = e.Message;
                }

                Assert.That(target.SendAndReadCount("go 3", "plain"), Is.EqualTo(3));
                Assert.That(function.HitCount, Is.EqualTo(3));
            }

            await process.DisposeAsync();
            TextCheck.AssertClean(target.ProcessId);
            return reason;
        }
    }

    private static byte[] Damage(byte[] good, int offset, byte[] value)
    {
        byte[] bytes = [.. good];
        value.CopyTo(bytes, offset);
        return bytes;
    }

    private static string? Text(in ProbeContext context, int index) => context.TryGetArgumentString(index, 20, out string? text) ? text : null;
}

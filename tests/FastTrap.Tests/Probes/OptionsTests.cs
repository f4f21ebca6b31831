namespace FastTrap.Tests.Probes;

/// <summary>Settings are refused where they are given, before anything is touched.</summary>
[TestFixture]
public sealed class OptionsTests
{
    [Test]
    public void RangesAreChecked()
    {
        Assert.Multiple(() =>
        {
            Refuses(() => new ProbeOptions { BufferCapacity = 0 });
            Refuses(() => new ProbeOptions { BufferCapacity = 4_194_305 });
            Refuses(() => new ProbeOptions { ArgumentCount = -1 });
            Refuses(() => new ProbeOptions { ArgumentCount = 13 });
            Refuses(() => new ProbeOptions { StringLength = 0 });
            Refuses(() => new ProbeOptions { StringLength = 65_537 });
            Refuses(() => new ProbeOptions { StringArguments = [-1] });
            Refuses(() => new ProbeOptions { StringArguments = [12] });
            Assert.Throws<ArgumentException>(() => new ProbeOptions { StringArguments = [3, 3] });
            Refuses(() => new ProbeOptions { StackDepth = -1 });
            Refuses(() => new ProbeOptions { StackDepth = 513 });
            Refuses(() => new TracerOptions { MaximumTracepoints = 0 });
            Refuses(() => new TracerOptions { MaximumTracepoints = (1 << 24) + 1 });
            Refuses(() => new TracerOptions { SpinMicroseconds = -1 });
            Refuses(() => new TracerOptions { SpinMicroseconds = 10_001 });
            Refuses(() => new TracerOptions { DetachTimeout = TimeSpan.FromMilliseconds(99) });
            Refuses(() => new TracerOptions { DetachTimeout = TimeSpan.FromMinutes(11) });
            Refuses(() => new TracerOptions { DisposeTimeout = TimeSpan.FromMilliseconds(99) });
            Refuses(() => new TracerOptions { DisposeTimeout = TimeSpan.FromMinutes(11) });
            Refuses(() => new TracerOptions { ProviderTableSize = 0 });
            Refuses(() => new TracerOptions { ProviderTableSize = 65_537 });
            Refuses(() => new TracerOptions { ProcTableSize = 0 });
            Refuses(() => new TracerOptions { ProcTableSize = 65_537 });
            Refuses(() => new ProbeOptions { Budget = 0 });
            Refuses(() => new ProbeOptions { Budget = 1.1 });
            Refuses(() => new ProbeOptions { Budget = double.NaN });
            Refuses(() => new ProbeOptions { BudgetAction = (BudgetAction)7 });
        });
    }

    [Test]
    public void BoundsAreAllowed()
    {
        ProbeOptions probe = new() { BufferCapacity = 1 << 22, ArgumentCount = 12, StackDepth = 512, StringLength = 65_536, StringArguments = [0, 11] };
        Assert.That((probe.BufferCapacity, probe.ArgumentCount, probe.StackDepth), Is.EqualTo((1 << 22, 12, 512)));
        Assert.That((new ProbeOptions { Budget = 0.0001 }.Budget, new ProbeOptions { Budget = 1 }.Budget, new ProbeOptions().Budget), Is.EqualTo((0.0001, 1.0, (double?)null)));
        TracerOptions sizes = new() { ProviderTableSize = 65_536, ProcTableSize = 1, DisposeTimeout = TimeSpan.FromMilliseconds(100) };
        Assert.That((sizes.ProviderTableSize, sizes.ProcTableSize), Is.EqualTo((65_536, 1)));
        TracerOptions tracer = new() { MaximumTracepoints = 1 << 24, SpinMicroseconds = 0, DetachTimeout = TimeSpan.FromMinutes(10) };
        Assert.That((tracer.MaximumTracepoints, tracer.SpinMicroseconds, tracer.DetachTimeout), Is.EqualTo((1 << 24, 0, TimeSpan.FromMinutes(10))));
    }

    [Test]
    public void HitsAreBufferedUnlessHandled()
    {
        Assert.That(new ProbeOptions().IsBuffered, Is.True);
        Assert.That(new ProbeOptions { OnHit = static (in ProbeContext _) => { } }.IsBuffered, Is.False);
        Assert.That(new ProbeOptions { OnHit = static (in ProbeContext _) => { }, Buffered = true }.IsBuffered, Is.True);
        Assert.That(new ProbeOptions { Buffered = false }.IsBuffered, Is.False);
    }

    [Test]
    public void ArgumentsOfTheFaceAreChecked()
    {
        Tracer tracer = new();
        Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => tracer.AttachAsync(0));
        Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => tracer.AttachAsync(-5));
        Assert.ThrowsAsync<ArgumentException>(() => tracer.CreateAsync(""));
        Assert.ThrowsAsync<ArgumentException>(() => tracer.CreateAsync("/bin/true", ["a\0b"]));
        Assert.ThrowsAsync<OperationCanceledException>(() => tracer.AttachAsync(1, cancellationToken: new CancellationToken(true)));
        Assert.DoesNotThrowAsync(() => tracer.DisposeAsync().AsTask());
        Assert.ThrowsAsync<ObjectDisposedException>(() => tracer.AttachAsync(1));
    }

    private static void Refuses(Func<object> make) => Assert.Throws<ArgumentOutOfRangeException>(() => make());
}

namespace FastTrap.Tests.Live;

/// <summary>Disposing things at the same time, from several threads.</summary>
[TestFixture]
public sealed class DisposalTests : LiveTest
{
    /// <summary>The disposal of each takes the other's place in a list, so locks held meanwhile would meet in the opposite order.</summary>
    [Test]
    public async Task AnEndedProcessAndItsEnablingMayBeDisposedAtOnce()
    {
        for (int round = 0; round < 100; round++)
        {
            TracedProcess process = await Tracer.CreateAsync("/bin/true");
            ProbeEnabling[] enablings = [.. await process.EnableAsync(
                [.. Enumerable.Repeat(new ProbeRequest("libc.so.6:exit:entry", CountOnly), 8)])];
            await process.ResumeAsync();
            await process.Completion;
            using Barrier barrier = new(enablings.Length + 1);
            Thread[] threads = [.. enablings.Cast<IAsyncDisposable>().Append(process).Select(disposable => new Thread(() =>
            {
                barrier.SignalAndWait();
                disposable.DisposeAsync().AsTask().Wait();
            }) { IsBackground = true })];
            foreach (Thread thread in threads)
            {
                thread.Start();
            }

            Assert.That(threads.All(thread => thread.Join(Patience)), "They wait for each other.");
            Assert.That(enablings.Select(e => e.HitCount), Is.All.EqualTo(1));
        }
    }
}

using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>When a reader that found nothing looks again.</summary>
[TestFixture, Parallelizable]
internal sealed class ReaderPauseTests
{
    private const int Plenty = 10;

    [Test]
    public async Task OnlyPlentyOfRecordsEndTheSleeps()
    {
        ReaderPause pause = new(Plenty);
        int atOnce = 0;
        while (await IsAtOnce(pause))
        {
            atOnce++;
        }

        Assert.That(atOnce, Is.Positive);
        pause.Took(Plenty - 1);
        Assert.That(await IsAtOnce(pause), Is.False);
        pause.Took(Plenty - 1);
        Assert.That(await IsAtOnce(pause), Is.False, "Those before the sleep do not count.");
        pause.Took(1);
        pause.Took(Plenty - 1);
        for (int i = 0; i < atOnce; i++)
        {
            Assert.That(await IsAtOnce(pause), Is.True);
        }

        Assert.That(await IsAtOnce(pause), Is.False);
    }

    private static async Task<bool> IsAtOnce(ReaderPause pause)
    {
        ValueTask wait = pause.WaitAsync(CancellationToken.None);
        bool isAtOnce = wait.IsCompleted;
        await wait;
        return isAtOnce;
    }
}

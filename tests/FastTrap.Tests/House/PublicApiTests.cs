namespace FastTrap.Tests.House;

/// <summary>The public surface is what <c>docs/public-api.txt</c> says: nobody changes it without seeing it.</summary>
[TestFixture, Parallelizable]
public sealed class PublicApiTests
{
    private const string Regenerate = "FASTTRAP_WRITE_PUBLIC_API";

    [Test]
    public void SurfaceIsAsWrittenDown()
    {
        string path = Path.Combine(SourceTree.Root, "docs", "public-api.txt");
        string[] now = [.. PublicApi.Describe(typeof(Tracer).Assembly), "", .. PublicApi.Describe(typeof(RegisterSet).Assembly)];
        if (Environment.GetEnvironmentVariable(Regenerate) == "1")
        {
            File.WriteAllLines(path, now);
        }

        string[] written = File.Exists(path) ? File.ReadAllLines(path) : [];
        Assert.That(
            now.Except(written).Select(line => "+ " + line).Concat(written.Except(now).Select(line => "- " + line)), Is.Empty,
            $"The public surface is not what docs/public-api.txt says. If that is meant, run this test with {Regenerate}=1 and commit the file.");
        Assert.That(now, Is.EqualTo(written), "The same lines in another order.");
    }
}

using FastTrap.Tests.TestKit;

namespace FastTrap.Tests;

/// <summary>After all tests: nothing may be left behind.</summary>
[SetUpFixture]
public sealed class LeftoversCheck
{
    private string[] _before = [];

    [OneTimeSetUp]
    public void Remember() => _before = [.. Leftovers.Find()];

    [OneTimeTearDown]
    public void Look() => Assert.That(Leftovers.Find().Except(_before), Is.Empty, "Tests left something behind.");
}

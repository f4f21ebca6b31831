using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Removes what the tests of this namespace have built, once all of them have ended.</summary>
[SetUpFixture]
public sealed class WorkDirectoryCleanup
{
    [OneTimeTearDown]
    public void Remove() => Directory.Delete(Tool.WorkDirectory, recursive: true);
}

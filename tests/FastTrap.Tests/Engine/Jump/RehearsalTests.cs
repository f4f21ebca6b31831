using FastTrap.Engine.Mechanisms;
using NUnit.Framework;

namespace FastTrap.Tests.Engine;

[TestFixture]
public sealed class RehearsalTests
{
    /// <summary>Enablings wait for it: a method that the runtime would not compile by itself would refuse them all.</summary>
    [Test]
    public async Task EveryMethodThatIsMeantIsCompiled() => await Rehearsal.Task;
}

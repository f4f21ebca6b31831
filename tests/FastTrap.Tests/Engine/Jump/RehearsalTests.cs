using FastTrap.Engine.Mechanisms;
using NUnit.Framework;

namespace FastTrap.Tests.Engine;

[TestFixture]
public sealed class RehearsalTests
{
    /// <summary>A method that the runtime does not compile by itself would leave the rest to their first calls, while threads stand.</summary>
    [TestCaseSource(typeof(Rehearsal), nameof(Rehearsal.Namespaces))]
    public void EveryMethodIsCompiled(string name)
    {
        Assert.That(Rehearsal.TypesIn(name).Sum(Rehearsal.Compile), Is.GreaterThan(30));
    }
}

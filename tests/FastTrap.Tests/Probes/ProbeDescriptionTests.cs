using FastTrap.Probes;

namespace FastTrap.Tests.Probes;

/// <summary>Descriptions, read from the right as DTrace reads them, and the names in them.</summary>
[TestFixture]
public sealed class ProbeDescriptionTests
{
    [TestCase("entry", "", "", "", "entry")]
    [TestCase("malloc:entry", "", "", "malloc", "entry")]
    [TestCase("libc.so.6:malloc:entry", "", "libc.so.6", "malloc", "entry")]
    [TestCase("pid42:libc.so.6:malloc:entry", "pid42", "libc.so.6", "malloc", "entry")]
    [TestCase("pid42:::", "pid42", "", "", "")]
    [TestCase("pid42::malloc:", "pid42", "", "malloc", "")]
    [TestCase("pid42::malloc:entry", "pid42", "", "malloc", "entry")]
    [TestCase(":*alloc*:", "", "", "*alloc*", "")]
    [TestCase(":", "", "", "", "")]
    [TestCase(" pid* : a.out : main : 1f ", "pid*", "a.out", "main", "1f")]
    [TestCase("pid*:[vdso]:*:entry", "pid*", "[vdso]", "*", "entry")]
    [TestCase("pid*:a.out:std::vector<int>::push_back:entry", "pid*", "a.out", "std::vector<int>::push_back", "entry")]
    [TestCase("pid*:a.out:ns::f(ns::g, int):return", "pid*", "a.out", "ns::f(ns::g, int)", "return")]
    [TestCase("pid*:a.out:Foo::~Foo:entry", "pid*", "a.out", "Foo::~Foo", "entry")]
    [TestCase("ns::f:entry", "", "", "ns::f", "entry")]
    [TestCase("*::f:entry", "*", "", "f", "entry")]
    [TestCase("libc::entry", "", "libc", "", "entry")]
    [TestCase("a.out:a::b::c:entry", "", "a.out", "a::b::c", "entry")]
    [TestCase("pid*:a.out:std::*:entry", "pid*", "a.out", "std::*", "entry")]
    public void PartsAreReadFromTheRight(string text, string provider, string module, string function, string name)
    {
        ProbeDescription read = ProbeDescription.Parse(text);
        Assert.That((read.Provider, read.Module, read.Function, read.Name), Is.EqualTo((provider, module, function, name)));
        Assert.That(new ProbeDescription(provider, module, function, name), Is.EqualTo(read));
    }

    [TestCase("")]
    [TestCase("   ")]
    [TestCase(null)]
    [TestCase("a:b:c:d:e")]
    [TestCase("pid*:a.out:[abc:entry")]
    [TestCase("malloc\\:entry\\")]
    public void NonsenseIsRefusedWithASentence(string? text)
    {
        Assert.That(ProbeDescription.TryParse(text, out ProbeDescription? description, out string? error), Is.False);
        Assert.That(description, Is.Null);
        Assert.That(error, Does.EndWith("."));
    }

    [Test]
    public void LongTextIsRefused()
    {
        Assert.Throws<FormatException>(() => ProbeDescription.Parse(new string('a', 4097)));
        Assert.Throws<FormatException>(() => ProbeDescription.Parse(string.Concat(Enumerable.Repeat("::", 2000))));
        Assert.Throws<ArgumentNullException>(() => ProbeDescription.Parse(null!));
    }

    [TestCase("", true, true, true, null)]
    [TestCase("*", true, true, true, null)]
    [TestCase("entry", true, false, false, null)]
    [TestCase("return", false, true, false, null)]
    [TestCase("e*", true, false, true, null)]
    [TestCase("?????", true, false, true, null)]
    [TestCase("0", false, false, false, 0UL)]
    [TestCase("1F", false, false, false, 0x1fUL)]
    [TestCase("0x1f", false, false, false, 0x1fUL)]
    [TestCase("add", false, false, false, 0xaddUL)]
    [TestCase("entr", false, false, false, null)]
    [TestCase("-1", false, false, false, null)]
    [TestCase("10000000000000000", false, false, false, null)]
    public void NameMeansEntryReturnOrOffsets(string text, bool entry, bool returns, bool offsets, ulong? exact)
    {
        NamePattern pattern = new(text);
        Assert.That((pattern.MatchesEntry, pattern.MatchesReturn, pattern.MatchesOffsets, pattern.ExactOffset), Is.EqualTo((entry, returns, offsets, exact)));
        Assert.That(pattern.IsPossible, Is.EqualTo(entry || returns || offsets || exact is not null));
    }

    [Test]
    public void OffsetGlobIsMatchedAgainstTheHexadecimalName()
    {
        NamePattern pattern = new("1?");
        Assert.That(Enumerable.Range(0, 300).Where(i => pattern.IsOffsetMatch(NamePattern.NameOf((ulong)i))), Is.EqualTo(Enumerable.Range(16, 16)));
    }
}

using System.Text;
using System.Text.RegularExpressions;
using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>Name patterns: fixed cases, and random ones against the regular expression that says the same.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class GlobTests
{
    [TestCase("", "anything", true)]
    [TestCase("", "", true)]
    [TestCase("*", "", true)]
    [TestCase("malloc", "malloc", true)]
    [TestCase("malloc", "malloc_", false)]
    [TestCase("malloc", "xmalloc", false)]
    [TestCase("mall*", "malloc", true)]
    [TestCase("mall*", "mall", true)]
    [TestCase("mall*", "xmalloc", false)]
    [TestCase("*lloc", "malloc", true)]
    [TestCase("*lloc", "mallocx", false)]
    [TestCase("*llo*", "malloc", true)]
    [TestCase("*llo*", "free", false)]
    [TestCase("a*a", "a", false)]
    [TestCase("a*a", "aa", true)]
    [TestCase("a**a", "aba", true)]
    [TestCase("?", "", false)]
    [TestCase("?", "é", true)]
    [TestCase("??", "é", false)]
    [TestCase("*?", "日本", true)]
    [TestCase("[a-c]x", "bx", true)]
    [TestCase("[a-c]x", "dx", false)]
    [TestCase("[!a-c]x", "dx", true)]
    [TestCase("[!a-c]x", "ax", false)]
    [TestCase("[]]", "]", true)]
    [TestCase("[!]]", "]", false)]
    [TestCase("[a-]", "-", true)]
    [TestCase("[α-ω]", "λ", true)]
    [TestCase("[α-ω]", "l", false)]
    [TestCase("[abc", "[abc", true)]
    [TestCase("[", "[", true)]
    [TestCase("\\*", "*", true)]
    [TestCase("\\*", "x", false)]
    [TestCase("a\\", "a\\", true)]
    [TestCase("[\\]]", "]", true)]
    [TestCase("*.cold*", "f.cold.3", true)]
    [TestCase("_Z*St6vector*", "_ZNSt6vectorIiE4sizeEv", true)]
    public void Matches_AsWritten(string pattern, string name, bool expected)
    {
        Glob glob = new(pattern);
        Assert.That(glob.IsMatch(name), Is.EqualTo(expected));
        Assert.That(glob.IsMatch(Encoding.UTF8.GetBytes(name)), Is.EqualTo(expected));
    }

    [TestCase("malloc", "malloc")]
    [TestCase("a\\*b", "a*b")]
    [TestCase("a*", null)]
    [TestCase("[a]", null)]
    [TestCase("", null)]
    public void ExactText_IsGivenWithoutWildcards(string pattern, string? expected) => Assert.That(new Glob(pattern).ExactText, Is.EqualTo(expected));

    [Test]
    public void RandomPatterns_MatchWhatTheRegularExpressionMatches()
    {
        Random random = new(7);
        string[] pieces = ["*", "*", "?", "a", "b", "ab", "é", "[a-b]", "[!a]", "\\*", ".", "[é-ü]"];
        string[] letters = ["a", "b", "é", "*", "."];
        int matches = 0;
        for (int round = 0; round < 20_000; round++)
        {
            string[] chosen = random.GetItems(pieces, random.Next(1, 7));
            string name = string.Concat(random.GetItems(letters, random.Next(0, 8)));
            string regex = string.Concat(chosen.Select(p => p switch
            {
                "*" => ".*",
                "?" => ".",
                "\\*" => "\\*",
                "[!a]" => "[^a]",
                _ when p[0] == '[' => p,
                _ => Regex.Escape(p),
            }));
            bool expected = Regex.IsMatch(name, $"^(?:{regex})\\z", RegexOptions.Singleline | RegexOptions.CultureInvariant);
            matches += expected ? 1 : 0;
            Assert.That(new Glob(string.Concat(chosen)).IsMatch(name), Is.EqualTo(expected), $"{string.Concat(chosen)} on {name}");
        }

        Assert.That(matches, Is.GreaterThan(500));
    }

    [Test]
    public void ManyStars_TakeNoExponentialTime()
    {
        Glob glob = new(string.Concat(Enumerable.Repeat("a*", 200)) + "b");
        byte[] name = new byte[20_000];
        name.AsSpan().Fill((byte)'a');
        Assert.That(glob.IsMatch(name), Is.False);
        name[^1] = (byte)'b';
        Assert.That(glob.IsMatch(name), Is.True);
    }

    [Test]
    public void BytesThatAreNotUtf8_CountAsCharacters()
    {
        byte[] name = [0xff, 0xfe, (byte)'a'];
        Assert.That(new Glob("??a").IsMatch(name), Is.True);
        Assert.That(new Glob("?a").IsMatch(name), Is.False);
        Assert.That(new Glob("[!x]?a").IsMatch(name), Is.True);
    }
}

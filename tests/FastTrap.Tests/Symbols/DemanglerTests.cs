using System.Text;
using FastTrap.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Symbols;

/// <summary>C++ names against c++filt, and hostile ones.</summary>
[TestFixture]
[Parallelizable(ParallelScope.All)]
public sealed class DemanglerTests
{
    [SetUp]
    public void RequireLibrary()
    {
        if (!Demangler.IsAvailable)
        {
            Assert.Ignore("libstdc++.so.6 is not installed");
        }
    }

    [Test]
    public void Names_AreThoseOfCxxfilt()
    {
        string path = SystemFiles.Find(SystemFiles.Libstdcxx);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable table = ElfSymbolReader.Read(elf);
        string[] mangled = [.. Enumerable.Range(0, table.Count).Where(i => i % 4 == 0).Select(table.GetName).Distinct()];
        string list = Tool.NewPath("names");
        File.WriteAllLines(list, mangled);
        string[] expected = Tool.Run("sh", "-c", $"c++filt -i < '{list}'").Split('\n');
        int changed = 0;
        for (int i = 0; i < mangled.Length; i++)
        {
            string actual = table.GetDemangledName(table.Find(mangled[i]));
            Assert.That(actual, Is.EqualTo(expected[i]), mangled[i]);
            changed += actual == mangled[i] ? 0 : 1;
        }

        Assert.That(changed, Is.GreaterThan(500));
    }

    [TestCase("void std::swap<int>(int&, int&)", "std::swap<int>")]
    [TestCase("main", "main")]
    [TestCase("a::b::c(int, void (*)(char))", "a::b::c")]
    [TestCase("foo::operator()(int) const", "foo::operator()")]
    [TestCase("operator new(unsigned long)", "operator new")]
    [TestCase("std::basic_string<char> f<g<int (*)(int)> >(h) [clone .cold]", "f<g<int (*)(int)> >")]
    [TestCase("(anonymous namespace)::aide(int)", "(anonymous namespace)::aide")]
    [TestCase("guard variable for (anonymous namespace)::x", "guard variable for (anonymous namespace)::x")]
    [TestCase("foo(int)::{lambda(char)#1}::operator()(char) const", "foo(int)::{lambda(char)#1}::operator()")]
    public void BareName_IsWithoutReturnTypeAndParameters(string name, string expected)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        Demangler.FindBareName(bytes, out int start, out int end);
        string bare = Encoding.UTF8.GetString(bytes.AsSpan(name.StartsWith("guard", StringComparison.Ordinal) ? 0 : start, end - (name.StartsWith("guard", StringComparison.Ordinal) ? 0 : start)));
        Assert.That(bare, Is.EqualTo(expected));
    }

    [TestCase("shop::Cart::add", "shop::Cart::add(int)")]
    [TestCase("shop::Cart::*", "shop::Cart::add(int)|shop::Cart::total() const")]
    [TestCase("shop::Cart::add(int)", "shop::Cart::add(int)")]
    [TestCase("shop::Cart::add(long)", "")]
    [TestCase("shop::most<*", "int shop::most<int>(int, int)")]
    [TestCase("int shop::most<int>(int, int)", "int shop::most<int>(int, int)")]
    [TestCase("*::total", "shop::Cart::total() const")]
    [TestCase("main", "main")]
    public void Patterns_MatchDemangledNames(string pattern, string expected)
    {
        string path = Tool.Compile("shop.cpp", """
            namespace shop {
                struct Cart { int sum; void add(int x); int total() const; };
                __attribute__((noinline)) void Cart::add(int x) { sum += x; }
                __attribute__((noinline)) int Cart::total() const { return sum; }
                template <class T> __attribute__((noinline)) T most(T a, T b) { return a > b ? a : b; }
            }
            int main() { shop::Cart c{1}; c.add(2); return shop::most(c.total(), 3); }
            """);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        SymbolTable table = ElfSymbolReader.Read(elf);
        List<int> found = [];
        table.Match(new Glob(pattern), found, useDemangled: true);
        Assert.That(string.Join('|', found.Select(table.GetDemangledName).Order(StringComparer.Ordinal)), Is.EqualTo(expected));
        found.Clear();
        Assert.That(table.Match(new Glob("_ZN4shop4Cart3addEi"), found), Is.EqualTo(1));
    }

    [Test]
    public void HostileNames_AreRefusedOrSurvived()
    {
        byte[] buffer = new byte[Demangler.MaxDemangledBytes];
        string[] patterns = ["P", "PK", "N1a", "I1aE", "FvP", "A1_", "St6vectorI", "pl1a", "M1a", "XT_", "DpT_", "K", "S_", "lsLi1E", "1aI", "Dv4_", "U1a", "cv", "LZ1av", "dlfp_"];
        foreach (string pattern in patterns)
        {
            foreach (string prefix in new[] { "_Z1f", "_ZN", "_Z1fI", "_Z1fIXpl", "_Z" })
            {
                string name = prefix + string.Concat(Enumerable.Repeat(pattern, 5000 / pattern.Length));
                Assert.That(Demangler.TryDemangle(Encoding.UTF8.GetBytes(name), buffer), Is.Zero, "longer than any name that is tried");
                Demangler.TryDemangle(Encoding.UTF8.GetBytes(name[..4000] + "i"), buffer);
                Demangler.TryDemangle(Encoding.UTF8.GetBytes(name[..400] + "i"), buffer);
            }
        }

        Random random = new(5);
        for (int i = 0; i < 20_000; i++)
        {
            string name = "_Z" + string.Concat(Enumerable.Range(0, random.Next(1, 60)).Select(_ => patterns[random.Next(patterns.Length)]));
            Demangler.TryDemangle(Encoding.UTF8.GetBytes(name), buffer);
        }

        Assert.That(Demangler.TryDemangle("_Z1fPPPPi"), Is.EqualTo("f(int****)"));
        Assert.That(Demangler.TryDemangle("_Znwm"), Is.EqualTo("operator new(unsigned long)"));
        Assert.That(Demangler.TryDemangle("plain"), Is.Null);
    }

    [TestCase(8, true)]
    [TestCase(24, false)]
    [TestCase(60, false)]
    public void NameThatDoublesAtEachLevel_IsRefusedBeforeItFillsTheMemory(int levels, bool isDemangled)
    {
        // A<A<...>, back reference to it>: each level prints the one inside twice.
        const string Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        string name = "1AIiiE";
        for (int i = 0; i < levels; i++)
        {
            int number = i + levels;
            string reference = number < 36 ? $"S{Digits[number]}_" : $"S{Digits[number / 36]}{Digits[number % 36]}_";
            name = $"1AI{name}{reference}E";
        }

        byte[] buffer = new byte[Demangler.MaxDemangledBytes];
        int length = Demangler.TryDemangle(Encoding.UTF8.GetBytes("_Z1f" + name), buffer);
        Assert.That(length, isDemangled ? Is.GreaterThan(256 * 4) : Is.Zero);
    }

    [TestCase("std::*", true)]
    [TestCase("f(int)", true)]
    [TestCase("vector<int>", true)]
    [TestCase("malloc", false)]
    [TestCase("_ZN*", false)]
    public void DemangledPatterns_AreRecognised(string pattern, bool expected) => Assert.That(Demangler.LooksDemangled(pattern), Is.EqualTo(expected));
}

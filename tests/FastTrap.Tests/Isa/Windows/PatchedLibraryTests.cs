using System.Runtime.InteropServices;
using FastTrap.Tests.TestKit;
using NUnit.Framework;

namespace FastTrap.Tests.Isa.Windows;

/// <summary>Whole libraries, nearly every instruction of which was moved into a trampoline, compute what they computed before.</summary>
[TestFixture]
[NonParallelizable]
internal sealed unsafe class PatchedLibraryTests
{
    [Test]
    public void HardFlowIsAsBefore([Values("-fcf-protection=none", "-fcf-protection=full")] string protection, [Values(0, 2)] int optimization)
    {
        RequireX64();
        using PatchedLibrary library = new(TargetBuilder.BuildLibrary("windows", new TargetVariant(Optimization: optimization, Flags: protection)));
        delegate* unmanaged<ulong, ulong> run = (delegate* unmanaged<ulong, ulong>)library.Export("window_run");
        ulong* calls = (ulong*)library.Export("window_calls");
        ulong[] before = [run(1), run(2), run(99)];
        library.Patch();
        TestContext.Out.WriteLine(library);
        *calls = 0;
        Assert.That((ulong[])[run(1), run(2), run(99)], Is.EqualTo(before));
        ulong leaf = library.AddressOf("window_leaf") + (protection.EndsWith("full", StringComparison.Ordinal) ? 4UL : 0);
        Assert.That(*calls, Is.GreaterThan(1000));
        Assert.That(library.CountAt(leaf), Is.EqualTo(*calls), "the program counted its calls itself");
    }

    [Test]
    public void SqliteIsAsBefore()
    {
        RequireX64();
        string path = Require("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0", "/usr/lib64/libsqlite3.so.0");
        using PatchedLibrary library = new(path);
        string before = RunSqlite(library);
        library.Patch();
        TestContext.Out.WriteLine($"{library}; {before}");
        Assert.That(before, Does.Contain("rows"));
        Assert.That(RunSqlite(library), Is.EqualTo(before));
    }

    [Test]
    [Explicit("takes long, and leaves an interpreter in the process")]
    public void PythonIsAsBefore()
    {
        RequireX64();
        string path = Require("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0");
        using PatchedLibrary library = new(path);
        ((delegate* unmanaged<int, void>)library.Export("Py_InitializeEx"))(0);
        long before = RunPython(library);
        library.Patch();
        TestContext.Out.WriteLine($"{library}; {before}");
        Assert.That(before, Is.GreaterThan(0));
        Assert.That(RunPython(library), Is.EqualTo(before));
    }

    private static long RunPython(PatchedLibrary library)
    {
        const string Program =
            "import json, re, hashlib\n"
            + "class A:\n  def __init__(self, n): self.n = n\n  def __lt__(self, o): return self.n < o.n\n"
            + "def gen(n):\n  for i in range(n):\n    try:\n      if i % 7 == 0: raise ValueError(i)\n      yield i * 1.5\n    except ValueError as e: yield str(e)\n"
            + "text = json.dumps({'a': [str(x) for x in gen(3000)], 'b': sorted([A(i * 7919 % 1013) for i in range(500)])[3].n})\n"
            + "text += ','.join(re.findall(r'[0-9]+\\.[05]', text)) + repr(2 ** 4000 // 3 ** 700) + '%s %5.2f' % (json.loads(text)['b'], 1 / 3)\n"
            + "result = int(hashlib.md5(text.encode()).hexdigest()[:15], 16)\n";
        Assert.That(((delegate* unmanaged<byte*, nint, int>)library.Export("PyRun_SimpleStringFlags"))(Text(Program), 0), Is.Zero);
        nint module = ((delegate* unmanaged<byte*, nint>)library.Export("PyImport_AddModule"))(Text("__main__"));
        nint value = ((delegate* unmanaged<nint, byte*, nint>)library.Export("PyObject_GetAttrString"))(module, Text("result"));
        return ((delegate* unmanaged<nint, long>)library.Export("PyLong_AsLong"))(value);
    }

    private static string RunSqlite(PatchedLibrary library)
    {
        nint database;
        Assert.That(((delegate* unmanaged<byte*, nint*, int>)library.Export("sqlite3_open"))(Text(":memory:"), &database), Is.Zero);
        string[] statements =
        [
            "create table t(a integer primary key, b text, c real)",
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) insert into t select i, printf('%05d-%s', i * 7919 % 1013, hex(i)), i / 7.0 from n",
            "create index x on t(b, c)",
            "update t set c = c * 2, b = upper(b) || lower(b) where a % 3 = 0",
            "delete from t where b like '%99%' or a between 100 and 130",
        ];
        foreach (string statement in statements)
        {
            int result = ((delegate* unmanaged<nint, byte*, nint, nint, nint, int>)library.Export("sqlite3_exec"))(database, Text(statement), 0, 0, 0);
            Assert.That(result, Is.Zero, statement);
        }

        nint query;
        byte* text = Text("select 'rows ' || count(*) || ' ' || sum(length(b)) || ' ' || round(sum(c), 3) || ' ' || max(b) || ' ' || group_concat(distinct substr(b, 1, 2)) "
            + "from (select t.b, u.c from t join t u on u.a = t.a + 1 where t.b glob '0*' order by t.b desc, u.c)");
        Assert.That(((delegate* unmanaged<nint, byte*, int, nint*, nint, int>)library.Export("sqlite3_prepare_v2"))(database, text, -1, &query, 0), Is.Zero);
        Assert.That(((delegate* unmanaged<nint, int>)library.Export("sqlite3_step"))(query), Is.EqualTo(100));
        string answer = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint, int, nint>)library.Export("sqlite3_column_text"))(query, 0))!;
        ((delegate* unmanaged<nint, int>)library.Export("sqlite3_finalize"))(query);
        Assert.That(((delegate* unmanaged<nint, int>)library.Export("sqlite3_close"))(database), Is.Zero);
        return answer;
    }

    /// <summary>Pinned for as long as the process lives.</summary>
    private static byte* Text(string text) => (byte*)Marshal.StringToCoTaskMemUTF8(text);

    private static string Require(params ReadOnlySpan<string> candidates)
    {
        string? path = NativeText.Find(candidates);
        if (path is null)
        {
            Assert.Ignore($"{candidates[0]} is not on this machine.");
        }

        return path;
    }

    private static void RequireX64()
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("The code must run, on an x86-64 processor.");
        }
    }
}

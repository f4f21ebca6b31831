using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Tests.Live.Linker;

/// <summary>Lists of a hostile run-time linker: the reader reads this very process, where the lists are forged.</summary>
[TestFixture]
public sealed unsafe class LinkMapReaderTests
{
    private const int EntryLength = 40;

    private readonly List<nint> _allocated = [];
    private readonly Dictionary<string, ulong> _texts = [];

    [TearDown]
    public void Free()
    {
        foreach (nint block in _allocated)
        {
            NativeMemory.Free((void*)block);
        }

        _allocated.Clear();
        _texts.Clear();
    }

    [Test]
    public void ListIsReadInOrder()
    {
        ulong name = Text("/lib/libnamed.so");
        ulong third = Entry(0x3000, name, 0);
        ulong second = Entry(0x2000, name, third);
        List<LinkNamespace>? read = Read(Debug(1, Entry(0, Text(""), second)));
        Assert.That(read, Has.Count.EqualTo(1));
        Assert.That(read![0].Objects.Select(o => o.LoadBase), Is.EqualTo(new ulong[] { 0, 0x2000, 0x3000 }));
        Assert.That(read[0].Objects.Skip(1).Select(o => o.Path), Is.All.EqualTo("/lib/libnamed.so"));
        Assert.That(read[0].Objects.Select(o => o.Length), Is.All.Zero, "where nothing is mapped nothing can be unmapped");
    }

    [Test]
    public void CycleIsNoList()
    {
        ulong first = Entry(0, Text("a"), 0);
        ulong second = Entry(1, Text("b"), first);
        *(ulong*)(first + 24) = second;
        Assert.That(Read(Debug(1, first)), Is.Null);
        *(ulong*)(first + 24) = first;
        Assert.That(Read(Debug(1, first)), Is.Null);
    }

    [Test]
    public void BadPointersAreNoList([Values(1UL, 0xdead0000UL, ulong.MaxValue, 0x8000_0000_0000_0000UL)] ulong pointer)
    {
        Assert.That(Read(pointer), Is.Null);
        Assert.That(Read(Debug(1, pointer)), Is.Null);
        Assert.That(Read(Debug(1, Entry(0, 0, pointer))), Is.Null);
        Assert.That(Read(Debug(2, 0, next: pointer)), Is.Null);

        // Of a name alone only the name is lost.
        Assert.That(Read(Debug(1, Entry(0, pointer, 0)))![0].Objects, Has.Count.EqualTo(1));
    }

    [Test]
    public void EndlessListIsCut()
    {
        const int Count = 17_000;
        ulong block = Allocate(Count * EntryLength);
        for (int i = 0; i < Count; i++)
        {
            ulong* entry = (ulong*)(block + ((ulong)i * EntryLength));
            (entry[0], entry[1], entry[2], entry[3], entry[4]) = (0x1000, Text("x", 0), 0, i == Count - 1 ? 0 : (ulong)(entry + 5), 0);
        }

        Assert.That(Read(Debug(1, block)), Is.Null);
    }

    [Test]
    public void NamesAndNamespacesAreBounded()
    {
        string path = new('p', 6000);
        Assert.That(Read(Debug(1, Entry(1, 0, Entry(0, Text(path), 0))))![0].Objects[1].Path, Is.Empty);
        Assert.That(Read(Debug(2, Entry(0, 0, 0), next: Debug(2, Entry(1, 0, 0), next: 0))), Has.Count.EqualTo(2));
        ulong one = Debug(2, 0, next: 0);
        *(ulong*)(one + 40) = one;
        Assert.That(Read(one), Is.Null);
        Assert.That(Read(Debug(1, 0, state: 7)), Is.Null);
        Assert.That(Read(Debug(-1, 0)), Is.Null);
    }

    private static List<LinkNamespace>? Read(ulong debug)
    {
        List<LinkNamespace> namespaces = [];
        return new LinkMapReader(LinuxPlatform.Instance).TryRead(Environment.ProcessId, debug, namespaces) ? namespaces : null;
    }

    private ulong Text(string text, int keep = 1)
    {
        if (_texts.TryGetValue(text, out ulong known) && keep == 0)
        {
            return known;
        }

        byte[] bytes = [.. Encoding.UTF8.GetBytes(text), 0];
        ulong address = Allocate(bytes.Length);
        bytes.CopyTo(new Span<byte>((void*)address, bytes.Length));
        _texts[text] = address;
        return address;
    }

    private ulong Entry(ulong loadBase, ulong name, ulong next)
    {
        ulong* entry = (ulong*)Allocate(EntryLength);
        (entry[0], entry[1], entry[2], entry[3], entry[4]) = (loadBase, name, 0, next, 0);
        return (ulong)entry;
    }

    private ulong Debug(int version, ulong first, uint state = 0, ulong next = 0)
    {
        ulong* debug = (ulong*)Allocate(48);
        (debug[0], debug[1], debug[2], debug[3], debug[4], debug[5]) = ((ulong)(uint)version, first, 0x1234, state, 0, next);
        return (ulong)debug;
    }

    private ulong Allocate(int length)
    {
        void* block = NativeMemory.AllocZeroed((nuint)length);
        _allocated.Add((nint)block);
        return (ulong)block;
    }
}

using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using NUnit.Framework;

namespace FastTrap.Tests.Isa.Windows;

/// <summary>
/// A copy of a library, loaded into this process, whose code can be sent through trampolines: as many windows as it has room for, with code that counts before
/// every instruction of them. What the library then computes tells whether the windows and the relocated code are right.
/// </summary>
internal sealed unsafe partial class PatchedLibrary : IDisposable
{
    private const ulong PageMask = 4095;
    private readonly nint _handle;
    private readonly ElfFile _elf;
    private readonly string _path;
    private readonly ulong _bias;
    private readonly Dictionary<ulong, ulong> _counters = [];
    private nint _area;

    public PatchedLibrary(string path)
    {
        _path = Path.Combine(Path.GetTempPath(), $"fasttrap-windows-{Guid.NewGuid():N}.so");
        File.Copy(path, _path);
        _handle = NativeLibrary.Load(_path);
        _elf = ElfFile.Open(new DiskFile(_path), _path);
        Image = new ModuleImage(_elf, new DebugFileLocator(new FilePlatform(), "", path));
        string first = File.ReadLines("/proc/self/maps").First(line => line.EndsWith(_path, StringComparison.Ordinal));
        _bias = Convert.ToUInt64(first.Split('-')[0], 16);
    }

    public ModuleImage Image { get; }

    public int Near { get; private set; }

    public int Short { get; private set; }

    public int Refused { get; private set; }

    public int Instructions { get; private set; }

    public nint Export(string name) => NativeLibrary.GetExport(_handle, name);

    /// <summary>How often control came to an instruction of a patched window.</summary>
    public ulong CountAt(ulong linkAddress) => *(ulong*)_counters[linkAddress];

    public ulong AddressOf(string symbol) => Image.Symbols.GetAddress(Image.Symbols.Find(symbol));

    /// <summary>Puts a window wherever there is room for one, or only before the instructions which <paramref name="wanted"/> says.</summary>
    public void Patch(Func<CodeFlow, ulong, bool>? wanted = null)
    {
        CodeFlow flow = ModuleFlow.Read(Image);
        int length = (flow.Length * 24) + (4 << 20);
        if (NativeLibrary.TryGetExport(_handle, "window_area", out _area))
        {
            Assert.That(mprotect(_area, (nuint)length, 7), Is.Zero);
        }
        else
        {
            _area = MapNear(_bias + flow.Address + (ulong)flow.Length, length);
        }

        ulong counters = (ulong)_area;
        ulong next = (ulong)_area + (ulong)(length / 4);
        WindowClaims claims = new(flow);
        X64Relocator relocator = new();
        List<(ulong Address, byte[] Bytes)> patches = [];
        byte[] site = new byte[PatchWindow.NearLength];
        byte[] island = new byte[PatchWindow.NearLength];
        for (int at = flow.Starts.Next(0, flow.Length); at < flow.Length; at = flow.Starts.Next(at + 1, flow.Length))
        {
            ulong address = flow.Address + (ulong)at;
            if (flow.Padding[at] || (wanted != null && !wanted(flow, address)))
            {
                continue;
            }

            Instructions++;
            if (!flow.TryFindWindow(address, claims, out PatchWindow window, out WindowRefusal refusal))
            {
                Refused += refusal == WindowRefusal.Claimed ? 0 : 1;
                continue;
            }

            PatchWindow loaded = window.Rebase(_bias);
            relocator.Begin(loaded, new ReadOnlySpan<byte>((void*)loaded.Start, loaded.CodeLength), next);
            int offset = (int)(window.Start - flow.Address);
            for (int i = offset; i < offset + window.CodeLength; i = flow.Starts.Next(i + 1, flow.Length))
            {
                Assert.That(relocator.TryMoveUntil(_bias + flow.Address + (ulong)i, out refusal), Is.True, $"{refusal} at {address:x}");
                _counters.Add(flow.Address + (ulong)i, counters);
                relocator.AddBody(CountingBody(relocator.Position, counters));
                counters += sizeof(ulong);
            }

            Assert.That(relocator.TryFinish(out refusal), Is.True, $"{refusal} at {address:x}");
            claims.Add(window);
            relocator.Code.CopyTo(new Span<byte>((void*)next, relocator.Code.Length));
            Assert.That(loaded.TryEncode(next, site, island), Is.True);
            if (window.Kind == WindowKind.Short)
            {
                patches.Add((loaded.Island, [.. island]));
            }

            patches.Add((loaded.Start, site[..window.PatchLength]));
            Near += window.Kind == WindowKind.Near ? 1 : 0;
            Short += window.Kind == WindowKind.Short ? 1 : 0;
            next += ((ulong)relocator.Code.Length + 15) & ~15UL;
        }

        ulong start = (_bias + flow.Address) & ~PageMask;
        ulong end = (_bias + flow.Address + (ulong)flow.Length + PageMask) & ~PageMask;
        Assert.That(mprotect((nint)start, (nuint)(end - start), 7), Is.Zero);
        foreach ((ulong address, byte[] bytes) in patches)
        {
            bytes.CopyTo(new Span<byte>((void*)address, bytes.Length));
        }
    }

    public override string ToString() => $"{Instructions} instructions: {Near} near windows, {Short} short ones, {Refused} refused, {_counters.Count} instructions moved";

    public void Dispose()
    {
        // The library stays: it may have left threads or handlers behind.
        _elf.Dispose();
        File.Delete(_path);
    }

    /// <summary>lea -128(%rsp), %rsp; pushfq; incq counter(%rip); popfq; lea 128(%rsp), %rsp.</summary>
    private static byte[] CountingBody(ulong position, ulong counter)
    {
        byte[] body = [0x48, 0x8d, 0x64, 0x24, 0x80, 0x9c, 0x48, 0xff, 0x05, 0, 0, 0, 0, 0x9d, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0];
        BitConverter.TryWriteBytes(body.AsSpan(9), (int)(counter - (position + 13)));
        return body;
    }

    private static nint MapNear(ulong address, int length)
    {
        const int ReadWriteExecute = 7;
        const int PrivateAnonymousFixedNoReserve = 0x22 | 0x100000 | 0x4000;
        const ulong Step = 2 << 20;
        for (ulong distance = 16 * Step; distance < 700 * Step; distance += Step)
        {
            foreach (ulong at in (ulong[])[(address + distance) & ~PageMask, (address - distance) & ~PageMask])
            {
                nint map = mmap((nint)at, (nuint)length, ReadWriteExecute, PrivateAnonymousFixedNoReserve, -1, 0);
                if (map == (nint)at)
                {
                    return map;
                }
            }
        }

        Assert.Ignore("The loader put the library where no trampolines fit near it.");
        return 0;
    }

    [LibraryImport("libc")]
    private static partial nint mmap(nint address, nuint length, int protection, int flags, int fd, nint offset);

    [LibraryImport("libc")]
    private static partial int mprotect(nint address, nuint length, int protection);
}

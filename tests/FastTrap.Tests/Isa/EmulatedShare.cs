using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using FastTrap.Usdt;
using Iced.Intel;

namespace FastTrap.Tests.Isa;

/// <summary>Numbers for people: how many of the places that are probed most are emulated, and what the others are.</summary>
[TestFixture]
[Explicit("prints measurements")]
public sealed class EmulatedShare
{
    private const int Shown = 8;

    /// <summary>FASTTRAP_COUNTED_FILES names the files, with colons between them.</summary>
    [Test]
    public void OfEntriesReturnsAndStaticProbes()
    {
        string runtime = RuntimeEnvironment.GetRuntimeDirectory();
        string files = Environment.GetEnvironmentVariable("FASTTRAP_COUNTED_FILES") ?? "";
        string[] paths = files.Length != 0 ? files.Split(':') : ["/lib/x86_64-linux-gnu/libc.so.6", Path.Combine(runtime, "libcoreclr.so")];
        foreach (string path in paths)
        {
            using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
            Assert.That(elf.Machine, Is.EqualTo(ElfMachine.X64), path);
            Count entries = new(elf), returns = new(elf), probes = new(elf);
            FunctionScan scan = new();
            EhFrame functions = EhFrame.Read(elf);
            for (int i = 0; i < functions.Count; i++)
            {
                (ulong start, ulong length, bool isContinuation) = functions.GetRange(i);
                if (isContinuation || length is 0 or > 1 << 20)
                {
                    continue;
                }

                entries.Add(start);
                byte[] code = new byte[length];
                if (elf.ReadAtAddress(start, code) == (int)length && X64InstructionSet.Instance.TryScanFunction(code, start, scan, out _))
                {
                    foreach (ReturnSite site in scan.ReturnSites)
                    {
                        returns.Add(start + (ulong)site.Offset);
                    }
                }
            }

            foreach (ulong address in UsdtNotes.Read(elf).All.Select(n => n.Address).Distinct())
            {
                probes.Add(address);
            }

            Assert.That(entries.Total, Is.Positive, path);
            TestContext.Out.WriteLine($"| {Path.GetFileName(path)} | {entries} | {returns} | {probes} |");
        }
    }

    /// <summary>Instructions at places of one kind, by what is done with them.</summary>
    private sealed class Count(ElfFile elf)
    {
        private readonly Dictionary<Mnemonic, int> _slots = [];
        private int _emulated;

        public int Total { get; private set; }

        public void Add(ulong address)
        {
            Span<byte> bytes = stackalloc byte[15];
            bytes = bytes[..elf.ReadAtAddress(address, bytes)];
            if (!X64InstructionSet.Instance.TryDecode(bytes, address, out DisplacedInstruction instruction, out _))
            {
                return;
            }

            Total++;
            if (instruction.Kind == DisplacedKind.Emulated)
            {
                _emulated++;
                return;
            }

            Mnemonic mnemonic = Iced.Intel.Decoder.Create(64, bytes.ToArray(), address).Decode().Mnemonic;
            CollectionsMarshal.GetValueRefOrAddDefault(_slots, mnemonic, out _)++;
        }

        public override string ToString()
        {
            if (Total == 0)
            {
                return "none";
            }

            IEnumerable<string> most = _slots.OrderByDescending(s => s.Value).Take(Shown).Select(s => $"`{s.Key.ToString().ToLowerInvariant()}` {Share(s.Value)}");
            return $"{Total}: {Share(_emulated)}; {string.Join(", ", most)}";
        }

        private string Share(int count) => (100.0 * count / Total).ToString("f1", CultureInfo.InvariantCulture) + " %";
    }
}

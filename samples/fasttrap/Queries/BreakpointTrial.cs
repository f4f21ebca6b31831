using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Text;

namespace FastTrap.Tool.Queries;

/// <summary>
/// Predicts what a hit by breakpoint costs: a program of a dozen instructions, which is written for it, executes a probed one two thousand times under a tracer of its own. What is told is the mean time for which its thread
/// stands still, as for the program that is observed. x86-64 only.
/// </summary>
[SupportedOSPlatform("linux")]
internal static class BreakpointTrial
{
    private const int Hits = 2000;
    private const ulong Base = 0x400000;
    private const int CodeOffset = 0x80;
    private const int SymbolLength = 24;
    private const int SectionLength = 64;

    /// <summary>Of the function: behind the instruction that loads the count.</summary>
    private const int FunctionOffset = CodeOffset + 5;

    /// <summary>Nanoseconds; null if the program cannot be run here.</summary>
    public static async Task<double?> RunAsync()
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return null;
        }

        DirectoryInfo directory = Directory.CreateTempSubdirectory("fasttrap");
        try
        {
            string path = Path.Combine(directory.FullName, "hits");
            await File.WriteAllBytesAsync(path, MakeProgram()).ConfigureAwait(false);
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserExecute);
            Tracer tracer = new();
            await using (tracer.ConfigureAwait(false))
            {
                TracedProcess process = await tracer.CreateAsync(path).ConfigureAwait(false);
                ProbeEnabling hits = await process.EnableAsync("a.out:hit:entry", new ProbeOptions { Buffered = false }).ConfigureAwait(false);
                await process.ResumeAsync().ConfigureAwait(false);
                await process.Completion.ConfigureAwait(false);
                return hits.HitCount == Hits ? hits.GetCosts().Select(cost => cost.MeasuredNs).FirstOrDefault() : null;
            }
        }
        catch (Exception exception) when (exception is FastTrapException or IOException or UnauthorizedAccessException)
        {
            // Where programs of ours may not be run there is no prediction.
            return null;
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    /// <summary>An ELF executable of one function with a symbol: it does nothing so often, and exits.</summary>
    private static byte[] MakeProgram()
    {
        byte[] code =
        [
            0xbb, .. BitConverter.GetBytes(Hits), // mov $Hits, %ebx
            0x90, // hit: nop
            0xff, 0xcb, // dec %ebx
            0x75, 0xfb, // jne hit
            0xb8, 60, 0, 0, 0, // mov $exit, %eax
            0x31, 0xff, // xor %edi, %edi
            0x0f, 0x05, // syscall
        ];
        byte[] names = Encoding.ASCII.GetBytes("\0hit\0.text\0.symtab\0.strtab\0");
        int symbols = Align(CodeOffset + code.Length);
        int strings = symbols + (2 * SymbolLength);
        int sections = Align(strings + names.Length);
        byte[] file = new byte[sections + (4 * SectionLength)];
        code.CopyTo(file, CodeOffset);
        names.CopyTo(file, strings);

        // The header.
        ReadOnlySpan<byte> identity = [0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1];
        identity.CopyTo(file);
        Put16(16, 2, 62);
        Put32(20, 1);
        Put64(24, Base + CodeOffset, 64, (ulong)sections);
        Put16(52, 64, 56, 1, SectionLength, 4, 3);

        // One segment: the whole file, readable and executable.
        Put32(64, 1, 5);
        Put64(72, 0, Base, Base, (ulong)file.Length, (ulong)file.Length, 0x1000);

        // The symbol: a global function.
        Put32(symbols + SymbolLength, 1);
        file[symbols + SymbolLength + 4] = 0x12;
        Put16(symbols + SymbolLength + 6, 1);
        Put64(symbols + SymbolLength + 8, Base + FunctionOffset, (ulong)(CodeOffset + code.Length - FunctionOffset));

        // Sections: text, symbols, strings.
        PutSection(1, 5, 1, 6, Base + CodeOffset, CodeOffset, code.Length, 0, 0, 0);
        PutSection(2, 11, 2, 0, 0, symbols, 2 * SymbolLength, 3, 1, SymbolLength);
        PutSection(3, 19, 3, 0, 0, strings, names.Length, 0, 0, 0);
        return file;

        static int Align(int offset) => (offset + 7) & -8;

        void Put16(int at, params ReadOnlySpan<ushort> values)
        {
            foreach (ushort value in values)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(file.AsSpan(at), value);
                at += sizeof(ushort);
            }
        }

        void Put32(int at, params ReadOnlySpan<uint> values)
        {
            foreach (uint value in values)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(at), value);
                at += sizeof(uint);
            }
        }

        void Put64(int at, params ReadOnlySpan<ulong> values)
        {
            foreach (ulong value in values)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(file.AsSpan(at), value);
                at += sizeof(ulong);
            }
        }

        void PutSection(int number, uint name, uint type, ulong flags, ulong address, int offset, int length, uint link, uint info, ulong entry)
        {
            int at = sections + (number * SectionLength);
            Put32(at, name, type);
            Put64(at + 8, flags, address, (ulong)offset, (ulong)length);
            Put32(at + 40, link, info);
            Put64(at + 48, 1, entry);
        }
    }
}

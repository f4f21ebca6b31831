using FastTrap.Isa.X64;

namespace FastTrap.Symbols;

/// <summary>Makes the <see cref="CodeFlow"/> of a whole module from its file: functions, landing pads, addresses of code in data.</summary>
internal static class ModuleFlow
{
    /// <summary>Bytes from the first to the last of the executable segments.</summary>
    private const ulong MaxCodeLength = 1UL << 30;

    /// <summary>Analyses a module; its addresses are link-time ones. Costs some milliseconds for each megabyte of code: keep the result.</summary>
    /// <exception cref="ElfFormatException">The file's tables are malformed, or it has no code.</exception>
    public static CodeFlow Read(ModuleImage image)
    {
        ElfFile elf = image.Elf;
        ReadCode(elf, out ulong start, out byte[] code);
        List<ulong> targets = [];
        List<ulong> unreadable = [];
        LandingPads.Read(elf, image.Unwind, targets, unreadable);
        CodePointers.Read(elf, start, (ulong)code.Length, targets);
        targets.Add(elf.EntryPoint);
        return CodeFlow.Analyse(code, start, Functions(image, unreadable, targets), targets.ToArray(), !elf.IsPositionIndependent, elf.ReadAtAddress);
    }

    private static void ReadCode(ElfFile elf, out ulong start, out byte[] code)
    {
        start = ulong.MaxValue;
        ulong end = 0;
        foreach (ElfSegment segment in elf.Segments)
        {
            if (segment.Type == ElfSegment.Load && segment.IsExecutable)
            {
                start = Math.Min(start, segment.Address);
                end = Math.Max(end, unchecked(segment.Address + segment.FileSize));
            }
        }

        if (end <= start || end - start > MaxCodeLength)
        {
            throw elf.Fail(end <= start ? ElfProblem.Malformed : ElfProblem.LimitExceeded, $"the code from 0x{start:x} to 0x{end:x} cannot be analysed");
        }

        code = new byte[end - start];
        foreach (ElfSegment segment in elf.Segments)
        {
            if (segment.Type == ElfSegment.Load && segment.IsExecutable)
            {
                elf.ReadExactly(segment.FileOffset, code.AsSpan((int)(segment.Address - start), (int)segment.FileSize), "the code");
            }
        }
    }

    private static CodeRange[] Functions(ModuleImage image, List<ulong> unreadable, List<ulong> targets)
    {
        SymbolTable symbols = image.Symbols;
        EhFrame unwind = image.Unwind;
        HashSet<ulong> excluded = [.. unreadable];
        List<CodeRange> functions = new(symbols.Count + unwind.Count);
        for (int i = 0; i < symbols.Count; i++)
        {
            ulong address = symbols.GetAddress(i);
            targets.Add(address);
            if ((symbols.GetFlags(i) & SymbolFlags.SizeIsGuessed) == 0 && !excluded.Contains(address))
            {
                functions.Add(new CodeRange(address, symbols.GetSize(i), (symbols.GetFlags(i) & SymbolFlags.ColdPart) != 0));
            }
        }

        for (int i = 0; i < unwind.Count; i++)
        {
            (ulong start, ulong length, bool isContinuation) = unwind.GetRange(i);
            if (!excluded.Contains(start))
            {
                functions.Add(new CodeRange(start, length, isContinuation));
            }
        }

        return [.. functions];
    }
}

namespace FastTrap.Symbols;

/// <summary>The sections of a file that hold code, for finding the one around an address. Immutable.</summary>
internal sealed class CodeSections
{
    private readonly ElfSection[] _sections;
    private readonly ulong[] _starts;

    public CodeSections(ElfFile elf)
    {
        _sections = Array.FindAll(elf.Sections.ToArray(), s => s.IsLoaded && s.IsExecutable && s.Size != 0);
        Array.Sort(_sections, (a, b) => a.Address.CompareTo(b.Address));
        _starts = Array.ConvertAll(_sections, s => s.Address);
    }

    /// <summary>Finds the code section that contains a link-time address.</summary>
    public bool TryFind(ulong address, out ElfSection section)
    {
        int index = Array.BinarySearch(_starts, address);
        index = index < 0 ? ~index - 1 : index;
        section = index < 0 ? default : _sections[index];
        return index >= 0 && section.Contains(address);
    }
}

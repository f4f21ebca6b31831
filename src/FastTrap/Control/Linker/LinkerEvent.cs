namespace FastTrap.Control;

/// <summary>What happened to a library.</summary>
internal enum LinkerEventKind
{
    /// <summary>It was mapped; none of its constructors has run.</summary>
    Added,

    /// <summary>It was unmapped.</summary>
    Removed,
}

/// <summary>A change of the run-time linker's list.</summary>
internal readonly record struct LinkerEvent(LinkerEventKind Kind, LinkedObject Object)
{
    /// <summary>The path as the linker has it: in the target's own view of the file system.</summary>
    public string Path => Object.Path;

    /// <summary>What is added to a link-time address.</summary>
    public ulong LoadBase => Object.LoadBase;
}

/// <summary>One entry of the run-time linker's list.</summary>
/// <param name="MapAddress">Where the linker keeps it (struct link_map).</param>
/// <param name="LoadBase">What is added to a link-time address (l_addr).</param>
/// <param name="DynamicAddress">Its dynamic section (l_ld).</param>
/// <param name="NameAddress">Where its path stands (l_name).</param>
/// <param name="Path">Its path; of the program itself, and of what has no name, that of the mapping.</param>
/// <param name="Start">The lowest address of its segments; 0 with a length of 0 where they are not known.</param>
/// <param name="Length">Bytes.</param>
internal readonly record struct LinkedObject(
    ulong MapAddress, ulong LoadBase, ulong DynamicAddress, ulong NameAddress, string Path, ulong Start, ulong Length);

/// <summary>r_state of struct r_debug.</summary>
internal enum LinkerState
{
    /// <summary>RT_CONSISTENT: the list is complete.</summary>
    Consistent = 0,

    /// <summary>RT_ADD: libraries are being added.</summary>
    Adding = 1,

    /// <summary>RT_DELETE: libraries are being removed.</summary>
    Deleting = 2,
}

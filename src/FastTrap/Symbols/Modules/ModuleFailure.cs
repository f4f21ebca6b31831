namespace FastTrap.Symbols;

/// <summary>Why a module's file cannot be used.</summary>
internal enum ModuleProblem
{
    /// <summary>Nothing is wrong.</summary>
    None,

    /// <summary>The file has been deleted, and the kernel does not let the caller open what is still mapped.</summary>
    Deleted,

    /// <summary>Another file stands at the path by now, and the kernel does not let the caller open what is still mapped.</summary>
    Replaced,

    /// <summary>No file stands at the path.</summary>
    NotFound,

    /// <summary>The caller may not open the file.</summary>
    PermissionDenied,

    /// <summary>The target's memory cannot be read (vdso).</summary>
    Unreadable,

    /// <summary>The file's contents cannot be used; see <see cref="ModuleFailure.Format"/>.</summary>
    BadFormat,

    /// <summary>None of the file's code segments is mapped where the kernel says.</summary>
    NotLoaded,
}

/// <summary>Why a module's file cannot be used, with a message that says what to do.</summary>
internal sealed record ModuleFailure(ModuleProblem Problem, string Message, ElfProblem Format = ElfProblem.None);

namespace FastTrap.Native;

/// <summary>What could not be done when memory was to be shared with a target.</summary>
internal enum SharedMemoryProblem
{
    None,

    /// <summary>The target runs under seccomp, whose filter might kill it for the system calls that are needed. Nothing was tried.</summary>
    Seccomp,

    /// <summary>The thread that was to make the calls has ended.</summary>
    ThreadEnded,

    /// <summary>There is no system call instruction in the target.</summary>
    NoSystemCall,

    /// <summary>There is no room for it in the target's address space, or not near enough.</summary>
    NoRoom,

    /// <summary>The target could not make the file.</summary>
    NoFile,

    /// <summary>The tracer could not map it.</summary>
    NotMappedHere,

    /// <summary>The target could not map it.</summary>
    NotMappedThere,

    /// <summary>It was mapped, but the two do not see the same: another thread of the target has closed the file in between.</summary>
    NotShared,

    /// <summary>The page by which fork children are told apart could not be made.</summary>
    NoGuard,

    /// <summary>The processor's time counter cannot be read.</summary>
    NoCounter,
}

/// <summary>Why there is no shared memory.</summary>
/// <param name="Problem">What could not be done.</param>
/// <param name="Error">What the kernel said.</param>
/// <param name="LeftStart">Where memory is left in the target, because it could not be unmapped; 0 if none.</param>
/// <param name="LeftLength">How much.</param>
internal readonly record struct SharedMemoryFailure(SharedMemoryProblem Problem, Errno Error = Errno.None, ulong LeftStart = 0, ulong LeftLength = 0)
{
    public string Describe() => Problem switch
    {
        SharedMemoryProblem.Seccomp => "the program runs under seccomp, whose filter might kill it for the system calls that are needed",
        SharedMemoryProblem.ThreadEnded => "the thread has ended",
        SharedMemoryProblem.NoSystemCall => $"no system call instruction was found in the program ({Error})",
        SharedMemoryProblem.NoRoom => $"there is no room for it in the program's address space, or not near enough ({Error})",
        SharedMemoryProblem.NoFile => $"the program could not make a memory file ({Error}); look at its limit of open files and at vm.memfd_noexec",
        SharedMemoryProblem.NotMappedHere => $"the tracer could not map the program's memory file ({Error})",
        SharedMemoryProblem.NotMappedThere => $"the program could not map the memory file ({Error}); a security module may forbid it",
        SharedMemoryProblem.NotShared => $"another thread of the program closed the memory file before it was mapped ({Error}); try again",
        SharedMemoryProblem.NoGuard => $"the page that tells fork children apart could not be made ({Error})",
        SharedMemoryProblem.NoCounter => $"the processor's time counter cannot be read ({Error})",
        _ => "",
    };
}

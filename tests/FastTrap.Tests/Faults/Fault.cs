using FastTrap.Native;

namespace FastTrap.Tests.Faults;

/// <summary>What goes wrong at one call.</summary>
internal enum FaultKind
{
    /// <summary>The call is not made and returns an errno.</summary>
    Error,

    /// <summary>The call is not made and says that nothing was transferred.</summary>
    Short,

    /// <summary>The target is killed, and dead, before the call is made.</summary>
    KillBefore,

    /// <summary>The target is killed, and dead, before the call returns.</summary>
    KillAfter,
}

/// <summary>One fault: the n-th call of a method after the fault was set.</summary>
/// <param name="Method">A method of <see cref="IPlatform"/>.</param>
/// <param name="Kind">What goes wrong.</param>
/// <param name="Error">The errno of <see cref="FaultKind.Error"/>.</param>
/// <param name="Call">Which call, from 1.</param>
internal sealed record Fault(string Method, FaultKind Kind, Errno Error, int Call)
{
    public override string ToString() => $"{Method} #{Call} {Kind}{(Kind == FaultKind.Error ? " " + Error : "")}";
}

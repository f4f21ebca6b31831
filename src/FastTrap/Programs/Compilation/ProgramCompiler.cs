using System.Runtime.InteropServices;
using FastTrap.Programs.Compilation.Arm64;
using FastTrap.Programs.Compilation.X64;

namespace FastTrap.Programs.Compilation;

/// <summary>Makes code of a program for one target, once for all sites whose arguments are in the same places. One thread at a time.</summary>
/// <param name="program">The program.</param>
/// <param name="action">What is done with its outputs.</param>
/// <param name="target">Where the code will run.</param>
internal sealed class ProgramCompiler(ProbeProgram program, ProgramAction action, ProgramTarget target)
{
    private static readonly ProbeProgram s_nothing = new([], null, []);

    private readonly List<(ArgumentSources Sources, CompiledBody? Body, ProgramNotCompilable Reason)> _known = [];

    /// <summary>Gives the code for sites with these sources, or why there is none.</summary>
    public bool TryCompile(ArgumentSources sources, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out CompiledBody? body, out ProgramNotCompilable reason)
    {
        foreach ((ArgumentSources Sources, CompiledBody? Body, ProgramNotCompilable Reason) known in _known)
        {
            if (known.Sources.IsSameAs(sources))
            {
                (_, body, reason) = known;
                return body is not null;
            }
        }

        BodyAssembler assembler = target.Architecture == Architecture.X64 ? new X64BodyAssembler(target) : new Arm64BodyAssembler(target);
        ProbeProgram own = action.Kind == ProgramActionKind.Latency && sources.IsReturn ? s_nothing : program;
        body = new BodyCompiler(own, action, target, sources, assembler).Compile(out reason);
        _known.Add((sources, body, reason));
        return body is not null;
    }

    /// <summary>Why a program is not compiled, as a sentence for people.</summary>
    public static string Describe(ProgramNotCompilable reason) => reason switch
    {
        ProgramNotCompilable.None => "it can be compiled",
        ProgramNotCompilable.DoubleRemainder => "it computes the remainder of doubles, for which processors have no instruction",
        ProgramNotCompilable.SystemCallsFiltered => "it reads memory, for which the process would have to make system calls, and a seccomp filter guards those",
        ProgramNotCompilable.NoTickScale => "it computes with the time, and the processor's ticks cannot be converted to nanoseconds",
        ProgramNotCompilable.TooLarge => "it has too many intermediate values to keep on a thread's stack",
        ProgramNotCompilable.TooManySteps => "its texts and stacks are so long that a thread in its code would hold others up; ask for ProbeMechanism.Jump, or for less of them",
        ProgramNotCompilable.UnreachableArgument => "an argument is in a place that generated code cannot read",
        _ => "its records are too long for the ring",
    };
}

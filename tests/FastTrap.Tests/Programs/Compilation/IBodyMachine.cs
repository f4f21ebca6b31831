using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Programs.Compilation;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Something that runs generated code from a given state, and has the memory which that code uses.</summary>
internal interface IBodyMachine : ITargetMemory
{
    Architecture Architecture { get; }

    /// <summary>Where code that is run finds its lanes.</summary>
    ProgramTarget Target { get; }

    /// <summary>All lanes, the common one last.</summary>
    Span<byte> Lanes { get; }

    ref byte Guard { get; }

    /// <summary>The thread that runs the code.</summary>
    ulong ThreadPointer { get; }

    int ThreadId { get; }

    /// <summary>The top of the stack on which the code runs; bytes of it on both sides are compared.</summary>
    ulong StackAddress { get; }

    Span<byte> Stack { get; }

    /// <summary>Two pages of data, the second followed by nothing.</summary>
    ulong DataAddress { get; }

    Span<byte> Data { get; }

    /// <summary>Vector registers as bytes, 32 for each on x86-64, 16 on arm64; then the floating-point control and status.</summary>
    Span<byte> Vectors { get; }

    int VectorLength { get; }

    /// <summary>Bytes below the stack pointer which belong to the program.</summary>
    int RedZone { get; }

    /// <summary>Puts code where it is run.</summary>
    void Place(CompiledBody body, in BodySite site);

    /// <summary>Puts code where it is run, and other code that will run in its midst, once, as a signal's handler would, at one of its instructions. False if it has no such instruction.</summary>
    bool TryPlaceInterrupted(CompiledBody body, in BodySite site, CompiledBody handler, in BodySite handlerSite, int instruction);

    /// <summary>Whether the code that was run last was interrupted.</summary>
    bool WasInterrupted { get; }

    /// <summary>Runs it.</summary>
    void Run(ref RegisterSet registers);
}

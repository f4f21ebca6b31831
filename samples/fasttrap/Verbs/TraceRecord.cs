using System.Runtime.CompilerServices;

namespace FastTrap.Tool.Verbs;

/// <summary>A hit on its way from the control thread to the printer.</summary>
internal struct TraceRecord
{
    public Probe Probe;
    public int ProcessId;
    public int ThreadId;
    public long TimeNs;
    public ulong ProgramCounter;
    public ulong ReturnValue;
    public int ArgumentCount;
    public TraceArguments Arguments;

    /// <summary>Of a static probe, what the arguments are.</summary>
    public ArgumentKind[]? Kinds;

    /// <summary>Of a static probe, the texts that arguments point to.</summary>
    public string?[]? Texts;
}

/// <summary>The arguments of a <see cref="TraceRecord"/>.</summary>
[InlineArray(ProbeOptions.MaximumArgumentCount)]
internal struct TraceArguments
{
    private ulong _first;
}

using System.Runtime.CompilerServices;

namespace FastTrap.Tool.Verbs;

/// <summary>A hit on its way from the control thread to the printer.</summary>
internal struct TraceRecord
{
    public Probe Probe;
    public int ThreadId;
    public long TimeNs;
    public ulong ProgramCounter;
    public ulong ReturnValue;
    public int ArgumentCount;
    public TraceArguments Arguments;
}

/// <summary>The arguments of a <see cref="TraceRecord"/>.</summary>
[InlineArray(ProbeOptions.MaximumArgumentCount)]
internal struct TraceArguments
{
    private ulong _first;
}

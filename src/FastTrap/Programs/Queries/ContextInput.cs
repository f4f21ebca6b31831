namespace FastTrap.Programs;

/// <summary>A hit of the Breakpoint mechanism as the input of a program.</summary>
internal readonly ref struct ContextInput(in ProbeContext context) : IProgramInput
{
    private readonly ProbeContext _context = context;

    public ulong ReturnValue => _context.ReturnValue;

    public int ThreadId => _context.ThreadId;

    public int ProcessId => _context.ProcessId;

    public long TimestampNs => _context.TimestampNs;

    public ulong ProgramCounter => _context.ProgramCounter;

    public bool TryGetArgument(int index, out ulong value) => _context.TryGetArgument(index, out value);

    public bool TryRead(ulong address, scoped Span<byte> buffer) => _context.Read(address, buffer) == buffer.Length;
}

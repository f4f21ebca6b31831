using FastTrap.Isa;

namespace FastTrap.Probes;

/// <summary>
/// The instructions and return sites of one function and its split part; reused from function to function. One thread.
/// </summary>
internal sealed class FunctionCode(InstructionSet isa, CodeWindow code)
{
    private const ulong MaximumLength = 16 << 20;

    private readonly FunctionScan _body = new();
    private readonly FunctionScan _cold = new();
    private FunctionExtent _extent;

    /// <summary>Addresses of all instructions of the function itself, ascending offsets.</summary>
    public IReadOnlyList<int> Offsets => _body.InstructionOffsets;

    /// <summary>Sweeps over a function. False with the reason when only its entry can be probed.</summary>
    /// <param name="extent">The function.</param>
    /// <param name="findContinuation">Tells whether an address outside begins a split part which no symbol names, and how long it is.</param>
    /// <param name="refusal">Why not.</param>
    public bool TryScan(FunctionExtent extent, Func<ulong, FunctionExtent?>? findContinuation, out ProbeRefusal refusal)
    {
        _cold.Clear();
        _extent = extent;
        if (extent.Length is 0 or > MaximumLength)
        {
            refusal = ProbeRefusal.UnknownSize;
            return false;
        }

        if (!TryScan(extent.Address, extent.Length, _body, out refusal))
        {
            return false;
        }

        if (_extent.ColdLength == 0 && findContinuation is not null)
        {
            foreach (ReturnSite site in _body.ReturnSites)
            {
                if (site.Target != 0 && findContinuation(site.Target) is { } part)
                {
                    _extent = _extent with { ColdStart = part.Address, ColdLength = part.Length };
                    break;
                }
            }
        }

        return _extent.ColdLength == 0 || TryScan(_extent.ColdStart, _extent.ColdLength, _cold, out refusal);
    }

    /// <summary>The function with its split part, known after a scan.</summary>
    public FunctionExtent Extent => _extent;

    public bool IsInstruction(ulong offset) => offset <= int.MaxValue && _body.IsInstruction((int)offset);

    /// <summary>Adds the addresses of all instructions by which the function may be left.</summary>
    public void AddReturnSites(List<ulong> sites)
    {
        Add(_body, _extent.Address, sites);
        Add(_cold, _extent.ColdStart, sites);
    }

    /// <summary>Decodes the instruction at an address.</summary>
    public bool TryDecode(ulong address, out DisplacedInstruction instruction, out ProbeRefusal refusal)
    {
        if (IsInExclusiveSequence(_body, _extent.Address, address) || IsInExclusiveSequence(_cold, _extent.ColdStart, address))
        {
            instruction = default;
            refusal = ProbeRefusal.ExclusiveSequence;
            return false;
        }

        ReadOnlySpan<byte> bytes = code.Get(address, isa.MaxInstructionLength);
        if (bytes.IsEmpty)
        {
            instruction = default;
            refusal = ProbeRefusal.MemoryAccess;
            return false;
        }

        return isa.TryDecode(bytes, address, out instruction, out refusal);
    }

    private static bool IsInExclusiveSequence(FunctionScan scan, ulong start, ulong address) =>
        scan.ExclusiveOffsets.Count != 0 && address - start <= int.MaxValue && scan.IsInExclusiveSequence((int)(address - start));

    private void Add(FunctionScan scan, ulong start, List<ulong> sites)
    {
        foreach (ReturnSite site in scan.ReturnSites)
        {
            if (site.Kind is ReturnSiteKind.Return or ReturnSiteKind.MaybeLeaves || !_extent.Contains(site.Target))
            {
                sites.Add(start + (ulong)site.Offset);
            }
        }
    }

    private bool TryScan(ulong address, ulong length, FunctionScan scan, out ProbeRefusal refusal)
    {
        ReadOnlySpan<byte> bytes = code.Get(address, (int)length);
        if ((ulong)bytes.Length != length)
        {
            scan.Clear();
            refusal = ProbeRefusal.MemoryAccess;
            return false;
        }

        return isa.TryScanFunction(bytes, address, scan, out refusal);
    }
}

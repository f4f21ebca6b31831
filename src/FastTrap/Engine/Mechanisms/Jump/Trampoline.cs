using FastTrap.Isa;
using FastTrap.Isa.X64;

namespace FastTrap.Engine.Mechanisms;

/// <summary>What is where in the code of one trampoline. Immutable.</summary>
internal sealed class Trampoline
{
    private readonly RelocatedPoint[] _points;
    private readonly RelocatedBody _body;

    public Trampoline(X64Relocator code)
    {
        _points = [.. code.Points];
        _body = code.Bodies[0];
        Address = code.Address;
        Length = code.Code.Length;
    }

    /// <summary>As it was written down.</summary>
    public Trampoline(ulong address, int length, RelocatedPoint[] points, in RelocatedBody body)
    {
        _points = points;
        _body = body;
        Address = address;
        Length = length;
    }

    public ReadOnlySpan<RelocatedPoint> Points => _points;

    public RelocatedBody Body => _body;

    public ulong Address { get; }

    public int Length { get; }

    /// <summary>Where the probed instruction itself is, behind the program.</summary>
    public ulong BehindBody => Address + (ulong)(_body.Offset + _body.Length);

    /// <summary>Whether who is there has been through the program.</summary>
    public bool IsBehindBody(in RelocatedPoint point) => point.Offset >= _body.Offset + Math.Max(1, _body.Length);

    public bool Contains(ulong address) => address - Address < (ulong)Length;

    /// <summary>Where the original instruction at an address is; of the probed one, the program in front of it.</summary>
    public bool TryFind(ulong original, out ulong address)
    {
        if (original == _body.Site)
        {
            address = Address + (ulong)_body.Offset;
            return true;
        }

        foreach (RelocatedPoint point in _points)
        {
            if (point.Original == original && point.Pushed == 0)
            {
                address = Address + (ulong)point.Offset;
                return true;
            }
        }

        address = 0;
        return false;
    }

    /// <summary>What a thread at an address is about to execute; false within the program. The program's first instruction stands for the probed one.</summary>
    public bool TryFindOriginal(ulong address, out RelocatedPoint point)
    {
        int offset = (int)(address - Address);
        foreach (RelocatedPoint candidate in _points)
        {
            if (candidate.Offset == offset)
            {
                point = candidate;
                return true;
            }
        }

        point = new RelocatedPoint(offset, _body.Site, 0);
        return offset == _body.Offset;
    }
}

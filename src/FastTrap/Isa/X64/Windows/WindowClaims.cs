namespace FastTrap.Isa.X64;

/// <summary>
/// The bytes of one piece of code that windows and islands have taken, in the addresses of its <see cref="CodeFlow"/>. Not thread-safe: it belongs to whoever
/// arms.
/// </summary>
internal sealed class WindowClaims(CodeFlow flow)
{
    private readonly CodeBits _taken = new(flow.Length + 64);
    private readonly ulong _address = flow.Address;

    /// <summary>Takes a window's bytes, all of them, and its island's.</summary>
    public void Add(in PatchWindow window)
    {
        int start = (int)(window.Start - _address);
        _taken.SetRange(start, start + window.Length);
        if (window.Kind == WindowKind.Short)
        {
            int island = (int)(window.Island - _address);
            _taken.SetRange(island, island + PatchWindow.NearLength);
        }
    }

    /// <summary>Gives them back.</summary>
    public void Remove(in PatchWindow window)
    {
        int start = (int)(window.Start - _address);
        _taken.ClearRange(start, start + window.Length);
        if (window.Kind == WindowKind.Short)
        {
            int island = (int)(window.Island - _address);
            _taken.ClearRange(island, island + PatchWindow.NearLength);
        }
    }

    /// <summary>Whether none of the bytes in a range of offsets is taken.</summary>
    internal bool IsFree(int start, int end) => _taken.Next(start, end) == end;
}

namespace FastTrap.Engine;

/// <summary>What becomes of tracepoints when libraries come and go. Control thread only.</summary>
/// <remarks>Source: dt_pid.c and fasttrap.c, by behaviour of fasttrap_provider_retire for a library that is unloaded.</remarks>
internal sealed partial class Proc
{
    /// <summary>Whether anything is enabled.</summary>
    public bool IsInUse => _enablings.Count != 0;

    /// <summary>
    /// A library was unmapped. Its traps are gone with it; nothing is written unless a trap of ours is still seen there. The probes are withdrawn from all who
    /// enabled them (<see cref="ProbeRefusal.Unloaded"/>), and their tracepoints no longer count towards the limit. Slots stay: a thread may be in one.
    /// </summary>
    public void OnUnmapped(ulong start, ulong length)
    {
        if (!IsGone && length != 0)
        {
            _jump.OnUnmapped(start, length);
        }

        if (IsGone || length == 0 || _table.Count == 0 || _table.Highest < start || (_table.Lowest > start && _table.Lowest - start >= length))
        {
            return;
        }

        Tracepoint[] gone = [.. _table.All().Where(t => t.Address - start < length)];
        if (gone.Length == 0)
        {
            return;
        }

        // All traps first: a probe may have several, and those that are left must not be taken for present.
        foreach (Tracepoint tracepoint in gone)
        {
            _ = TryDisarm(tracepoint, isUnmapped: true);
        }

        foreach (Tracepoint tracepoint in gone)
        {
            DropProbesOf(tracepoint, tracepoint.Address, ProbeRefusal.Unloaded, null);
            Drop(tracepoint);
        }

        Compact();
    }

    /// <summary>
    /// A tracepoint that stands as armed while the text has no trap of ours: nobody told us that its library was unloaded, and the same one is back in its place.
    /// </summary>
    private void NoteIfBare(Tracepoint tracepoint)
    {
        if (tracepoint.ArmedBy == _jump ? !_jump.IsPresent(tracepoint) : tracepoint.ArmedBy is not null && !HasOwnTrap(tracepoint.Address))
        {
            if (tracepoint.ArmedBy == _jump)
            {
                _ = _jump.Disarm(tracepoint);
            }
            else
            {
                _ledger.Add(tracepoint.Address, tracepoint.Instruction.Bytes[.._breakpoint.PatchLength], isUnmapped: true);
            }

            tracepoint.ArmedBy = null;
            _core.CountTracepoints(-1);
        }
    }
}

namespace FastTrap.Probes;

/// <summary>Names a function's probes without decoding what it need not.</summary>
internal static class ProbeLister
{
    public static void Add(
        string provider, string module, string function, FunctionExtent extent, NamePattern names, FunctionCode code, List<ProbeInfo> probes)
    {
        if (names.MatchesEntry)
        {
            probes.Add(new ProbeInfo(provider, module, function, "entry", extent.Address));
        }

        if (names.MatchesReturn)
        {
            probes.Add(new ProbeInfo(provider, module, function, "return", extent.Address));
        }

        if ((names.MatchesOffsets || names.ExactOffset is not null) && code.TryScan(extent, null, out _))
        {
            foreach (int offset in code.Offsets)
            {
                string name = NamePattern.NameOf((ulong)offset);
                if (names.ExactOffset == (ulong)offset || names.IsOffsetMatch(name))
                {
                    probes.Add(new ProbeInfo(provider, module, function, name, extent.Address + (ulong)offset));
                }
            }
        }
    }
}

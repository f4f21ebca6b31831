using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>Finds the probes that meta providers registered for a process image, and decodes what they need to be enabled.</summary>
internal static class RegisteredProbes
{
    /// <summary>Adds those which a description means. Any thread.</summary>
    /// <param name="core">Where they are registered.</param>
    /// <param name="proc">The process image.</param>
    /// <param name="description">What is meant.</param>
    /// <param name="result">Where to.</param>
    /// <param name="meant">Modules that the description means by another of their names.</param>
    public static void Match(TracerCore core, Proc proc, ProbeDescription description, MatchResult result, HashSet<string> meant)
    {
        foreach ((Provider provider, Probe probe) in Find(core, proc, description, meant))
        {
            Add(proc, provider, probe, result);
        }
    }

    /// <summary>As <see cref="Match"/>, for a list.</summary>
    public static void List(TracerCore core, Proc proc, ProbeDescription description, List<ProbeInfo> probes, HashSet<string> meant)
    {
        foreach ((Provider provider, Probe probe) in Find(core, proc, description, meant))
        {
            probes.Add(new ProbeInfo(provider.Name, probe.Module, probe.Function, probe.Name, probe.Address)
            {
                SiteCount = probe.SiteCount,
                Arguments = probe.Arguments,
            });
        }
    }

    private static IEnumerable<(Provider Provider, Probe Probe)> Find(TracerCore core, Proc proc, ProbeDescription description, HashSet<string> meant)
    {
        Glob providers = new(description.Provider);
        foreach (Provider provider in core.Providers.All())
        {
            if (provider.Proc != proc.Entry || provider.Counts.Meta == 0 || provider.IsRetired || !providers.IsMatch(provider.Name))
            {
                continue;
            }

            Glob modules = new(description.Module);
            Glob functions = new(description.Function);
            Glob names = new(description.Name);
            foreach (Probe probe in core.Registry.ProbesOf(provider).OrderBy(p => p.Id))
            {
                if ((modules.IsMatch(probe.Module) || meant.Contains(probe.Module)) && functions.IsMatch(probe.Function) && names.IsMatch(probe.Name))
                {
                    yield return (provider, probe);
                }
            }
        }
    }

    private static void Add(Proc proc, Provider provider, Probe probe, MatchResult result)
    {
        if (!TryDecode(proc, probe.Sites, out DisplacedInstruction[] instructions, out ulong at, out ProbeRefusal refusal)
            || !TryDecode(proc, probe.IsEnabledSites, out DisplacedInstruction[] tests, out at, out refusal))
        {
            result.Failures.Add(new ProbeFailure(probe.ToString(), at, refusal, refusal.Describe()));
            return;
        }

        result.Add(new ProbeSpec
        {
            Provider = provider.BaseName,
            Module = probe.Module,
            Function = probe.Function,
            Name = probe.Name,
            Kind = probe.Kind,
            FunctionAddress = probe.FunctionAddress,
            FunctionLength = probe.FunctionLength,
            Instructions = instructions,
            IsEnabledInstructions = tests,
            Arguments = probe.Arguments,
        });
    }

    private static bool TryDecode(Proc proc, ulong[] sites, out DisplacedInstruction[] instructions, out ulong at, out ProbeRefusal refusal)
    {
        instructions = new DisplacedInstruction[sites.Length];
        Span<byte> bytes = stackalloc byte[16];
        for (int i = 0; i < sites.Length; i++)
        {
            at = sites[i];
            int read = proc.ReadMemory(at, bytes[..proc.Isa.MaxInstructionLength]);
            refusal = ProbeRefusal.MemoryAccess;
            if (read <= 0 || !proc.Isa.TryDecode(bytes[..read], at, out instructions[i], out refusal))
            {
                return false;
            }
        }

        at = 0;
        refusal = ProbeRefusal.None;
        return true;
    }
}

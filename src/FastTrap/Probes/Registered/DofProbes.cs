using FastTrap.Engine;
using FastTrap.Symbols;
using FastTrap.Usdt;

namespace FastTrap.Probes;

/// <summary>
/// The probes which the modules of one program image describe by DOF (sections <c>.SUNW_dof</c>), given to the process through the meta provider once a description may mean them.
/// </summary>
/// <remarks>
/// Thread-safe. Scheme. One gate over a look at the modules and what is registered of them; the locks of the engine are taken under it, it is taken under none. What a module
/// says is read once, from memory, where the run-time linker has relocated it. It is not believed: a place outside of the module's own code is refused.
/// Source: fasttrap.c, fasttrap_meta_ops; dtrace.c, dtrace_helper_provide and dtrace_helper_provider_remove, by behaviour.
/// </remarks>
internal sealed class DofProbes(TracerCore core, int processId, ProbeMatcher matcher, ReadCode read)
{
    private readonly object _gate = new();
    private readonly Dictionary<Module, DofModule> _known = [];

    /// <summary>Whether a description can mean such probes at all.</summary>
    public static bool Means(ProbeDescription description) => StaticProbes.MeansOthers(description.Provider);

    /// <summary>Adds the probes which a description means, ready to be enabled, and those that it would have meant, with the reason.</summary>
    /// <param name="proc">The engine's side of the process, asked for when something is to be registered.</param>
    /// <param name="description">What is meant.</param>
    /// <param name="result">Where to.</param>
    public void Match(Func<Proc> proc, ProbeDescription description, MatchResult result)
    {
        if (TryRegister(proc, description, result.Failures, out HashSet<string> modules))
        {
            RegisteredProbes.Match(core, proc(), description, result, modules);
        }
    }

    /// <summary>As <see cref="Match"/>, for a list.</summary>
    public void List(Func<Proc> proc, ProbeDescription description, List<ProbeInfo> probes)
    {
        if (TryRegister(proc, description, [], out HashSet<string> modules))
        {
            RegisteredProbes.List(core, proc(), description, probes, modules);
        }
    }

    /// <summary>Registers the probes that a description may mean. Whether there are some.</summary>
    /// <param name="proc">As with <see cref="Match"/>.</param>
    /// <param name="description">What is meant.</param>
    /// <param name="failures">To these is added what is refused.</param>
    /// <param name="modules">The modules meant that have DOF.</param>
    public bool TryRegister(Func<Proc> proc, ProbeDescription description, List<ProbeFailure> failures, out HashSet<string> modules)
    {
        modules = [];
        if (!Means(description))
        {
            return false;
        }

        (IReadOnlyList<Module> meant, IReadOnlyList<Module> all) = matcher.FindModules(description);
        bool isAny = false;
        lock (_gate)
        {
            foreach (Module gone in _known.Keys.Where(m => !all.Contains(m)).ToArray())
            {
                _known[gone].Remove(core.Meta);
                _known.Remove(gone);
            }

            foreach (Module module in meant)
            {
                if (!_known.TryGetValue(module, out DofModule? dof))
                {
                    if (!module.TryGetImage(out ModuleImage image, out _) || !image.Elf.TryGetSection(".SUNW_dof"u8, out ElfSection section))
                    {
                        continue;
                    }

                    dof = DofModule.Read(module, image.Elf, section, processId, read);
                    _known.Add(module, dof);
                }

                modules.Add(module.Name);
                isAny |= dof.TryProvide(core.Meta, proc, description);
                dof.Explain(description, failures);
            }
        }

        return isAny;
    }
}

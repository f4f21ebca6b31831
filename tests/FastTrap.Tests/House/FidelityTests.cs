using System.Text.RegularExpressions;

namespace FastTrap.Tests.House;

/// <summary><c>docs/fidelity.md</c> is complete, and names tests that exist.</summary>
[TestFixture, Parallelizable]
public sealed partial class FidelityTests
{
    /// <summary>The functions of the provider engine, and of process control.</summary>
    private static readonly string[] s_functions =
    [
        "fasttrap_highbit", "fasttrap_hash_str", "fasttrap_sigtrap", "fasttrap_scraddr", "fasttrap_thread_dtor", "fasttrap_mod_barrier", "fasttrap_pid_cleanup_cb",
        "fasttrap_pid_cleanup", "fasttrap_fork", "fasttrap_exec_exit", "fasttrap_pid_provide", "fasttrap_tracepoint_enable", "fasttrap_tracepoint_disable",
        "fasttrap_enable_callbacks", "fasttrap_disable_callbacks", "fasttrap_pid_enable", "fasttrap_pid_disable", "fasttrap_pid_getargdesc", "fasttrap_pid_destroy",
        "fasttrap_proc_lookup", "fasttrap_proc_release", "fasttrap_provider_lookup", "fasttrap_provider_free", "fasttrap_provider_retire", "fasttrap_uint32_cmp",
        "fasttrap_uint64_cmp", "fasttrap_add_probe", "fasttrap_meta_provide", "fasttrap_meta_create_probe", "fasttrap_meta_remove", "fasttrap_open", "fasttrap_ioctl",
        "fasttrap_load", "fasttrap_unload", "fasttrap_modevent",
        "dt_proc_bpcreate", "dt_proc_bpdestroy", "dt_proc_bpmatch", "dt_proc_bpenable", "dt_proc_bpdisable", "dt_proc_notify", "dt_proc_stop", "dt_proc_bpmain",
        "dt_proc_rdevent", "dt_proc_rdwatch", "dt_proc_attach", "dt_proc_waitrun", "dt_proc_control", "dt_proc_error", "dt_proc_lookup", "dt_proc_destroy",
        "dt_proc_create_thread", "dt_proc_create", "dt_proc_grab", "dt_proc_release", "dt_proc_continue", "dt_proc_lock", "dt_proc_unlock", "dt_proc_hash_create",
        "dt_proc_hash_destroy", "dtrace_proc_create", "dtrace_proc_grab", "dtrace_proc_release", "dtrace_proc_continue",
    ];

    private static readonly string s_page = File.ReadAllText(Path.Combine(SourceTree.Root, "docs", "fidelity.md"));

    [Test]
    public void EveryFunctionHasARow()
    {
        string[] first = [.. Rows().Select(row => row.Split('|')[1])];
        Assert.That(s_functions.Where(name => !first.Any(cell => Regex.IsMatch(cell, $@"\b{name}\b"))), Is.Empty);
    }

    [Test]
    public void EveryRowHasTestsAndTheyExist()
    {
        Dictionary<string, Type> types = typeof(FidelityTests).Assembly.GetTypes().Where(t => t.IsPublic && !t.IsAbstract).DistinctBy(t => t.Name).ToDictionary(t => t.Name);
        List<string> wrong = [];
        int tests = 0;
        foreach (string row in Rows())
        {
            string[] named = [.. CodeWord().Matches(row.Split('|')[^2]).Select(m => m.Groups[1].Value)];
            if (named.Length == 0 && !row.Split('|')[^2].StartsWith(" reason: ", StringComparison.Ordinal))
            {
                wrong.Add($"no test: {row}");
            }

            foreach (string name in named)
            {
                tests++;
                string[] parts = name.Split('.');
                if (!types.TryGetValue(parts[0], out Type? type) || (parts.Length > 1 && type.GetMethods().All(m => m.Name != parts[1])))
                {
                    wrong.Add(name);
                }
            }
        }

        Assert.That(wrong, Is.Empty);
        Assert.That(tests, Is.GreaterThan(80), "The pattern finds no tests any more.");
    }

    /// <summary>The rows of the tables, without their heads.</summary>
    private static IEnumerable<string> Rows() => s_page.Split('\n')
        .Where(line => line.StartsWith("| ", StringComparison.Ordinal) && !line.StartsWith("| reference |", StringComparison.Ordinal) && !line.StartsWith("| what | ours", StringComparison.Ordinal));

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex CodeWord();
}

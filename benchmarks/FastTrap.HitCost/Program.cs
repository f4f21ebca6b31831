using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>
/// What a hit costs with the library, and in ratio to a loop in C. Called as a peer of <c>benchmarks/reference/run.sh</c>, or as
/// <c>threads [--rounds N] [--hits N] [--threads N,M]</c>, <c>enable [--rounds N] [--counts N,M] [--name entry|return]</c>, <c>module --pid N [--probe DESCRIPTION] [--rounds N]</c>, <c>attach [--rounds N] [--threads N,M]</c>, <c>jump [--rounds N] [--calls N] [--kinds A,B] [--threads N,M] [--ways A,B]</c>, <c>trap [--rounds N] [--calls N] [--kinds A,B]</c>, <c>beside</c> likewise,
/// <c>postgres [--rounds N] [--clients N]</c>, <c>java [--rounds N]</c>, or as <c>table [--rounds N] [--hits N] [--kinds A,B] [--affinities A,B] [--variants A,B] [--spins DEFAULT|N,...]</c>.
/// </summary>
internal static class Program
{
    private static readonly Dictionary<string, Func<IReadOnlyDictionary<string, string>, Task>> s_modes = new()
    {
        ["table"] = CostTable.PrintAsync,
        ["enable"] = EnableCost.PrintAsync,
        ["module"] = ModuleCost.PrintAsync,
        ["attach"] = AttachCost.PrintAsync,
        ["threads"] = ThreadCost.PrintAsync,
        ["jump"] = JumpCost.PrintAsync,
        ["trap"] = TrapCost.PrintAsync,
        ["beside"] = BesideCost.PrintAsync,
        ["postgres"] = PostgresCost.PrintAsync,
        ["java"] = JavaCost.PrintAsync,
    };

    public static async Task<int> Main(string[] arguments)
    {
        if (arguments is ["arm", string processId, string description])
        {
            await TrapCost.ArmAsync(int.Parse(processId, CultureInfo.InvariantCulture), description).ConfigureAwait(false);
            return 0;
        }

        Dictionary<string, string> options = [];
        int at = arguments is [{ } first, ..] && s_modes.ContainsKey(first) ? 1 : 0;
        for (; at + 1 < arguments.Length && arguments[at].StartsWith("--", StringComparison.Ordinal) && arguments[at] != "--"; at += 2)
        {
            options[arguments[at][2..]] = arguments[at + 1];
        }

        if (at > 0 && at == arguments.Length)
        {
            try
            {
                await s_modes[arguments[0]](options).ConfigureAwait(false);
                return 0;
            }
            catch (OperationCanceledException)
            {
                await Console.Error.WriteLineAsync("Interrupted; what was started has been ended.").ConfigureAwait(false);
                return Interruption.ExitCode;
            }
        }

        if (at + 5 >= arguments.Length || arguments[at] != "--")
        {
            await Console.Error.WriteLineAsync(
                "usage: FastTrap.HitCost [--affinity same|other|none|follow] [--hits N] [--variant NAME] [--spin US] -- HOT KIND CALLS SECONDS lines, or: " + string.Join(" ..., ", s_modes.Keys) + " ...")
                .ConfigureAwait(false);
            return 2;
        }

        int calls = int.Parse(options.GetValueOrDefault("hits", arguments[at + 3]), CultureInfo.InvariantCulture);
        ProbedTarget target = await ProbedTarget.StartAsync(
            arguments[at + 1], arguments[at + 2], calls, CostTable.Parse<HitVariant>(options.GetValueOrDefault("variant", "entry")),
            CostTable.Parse<HitAffinity>(options.GetValueOrDefault("affinity", "none")),
            options.TryGetValue("spin", out string? spin) ? int.Parse(spin, CultureInfo.InvariantCulture) : null, warm: true).ConfigureAwait(false);
        await using (target.ConfigureAwait(false))
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{calls} hits, {target.Round():0.0} ns per hit"));
        }

        return 0;
    }
}

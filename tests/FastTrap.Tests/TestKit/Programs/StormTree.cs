using System.Globalization;

namespace FastTrap.Tests.TestKit.Programs;

/// <summary>A program (storm.c) that forks, executes, loads and unloads a library, created and followed to its end.</summary>
internal static class StormTree
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    /// <summary>Returns the calls of its own function and of its library's, as it has counted them itself.</summary>
    public static async Task<(long Hot, long Plugin)> RunAsync(Tracer tracer)
    {
        using PrivateDirectory directory = new("standing");
        TracedProcess process = await tracer.CreateAsync(
            TargetBuilder.Build("storm"), ["1", "60", "1", "7", TargetBuilder.BuildLibrary("storm_plugin")],
            new CreateOptions
            {
                FollowChildren = true,
                StandardOutput = directory["out"],
                Environment = new Dictionary<string, string> { ["TARGET_NOWAIT"] = "1" },
            });
        await process.ResumeAsync();
        Assert.That(await process.Completion.WaitAsync(s_patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 3, 0)));
        string[] lines = await File.ReadAllLinesAsync(directory["out"]);
        return (Count("hot"), Count("plugin"));

        long Count(string name) => long.Parse(lines.Single(l => l.StartsWith($"count {name} ", StringComparison.Ordinal)).Split(' ')[2], CultureInfo.InvariantCulture);
    }
}

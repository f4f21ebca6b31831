using System.Runtime.InteropServices;

namespace FastTrap.Tests.TestKit.Programs;

/// <summary>Starts <see cref="TracerProgram"/>: a tracer that is a process of its own, and perhaps another user's.</summary>
internal static class SeparateTracer
{
    /// <summary>Starts it. Files it leaves (such as a core) go into the directory; for another user, the program itself is copied there.</summary>
    public static TargetProcess Start(PrivateDirectory directory, IReadOnlyList<string> arguments, uint? user = null)
    {
        string dotnet = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));
        string from = AppContext.BaseDirectory;
        if (user is not null)
        {
            foreach (string file in Directory.GetFiles(from).Where(name => name.EndsWith(".dll", StringComparison.Ordinal) || name.EndsWith(".json", StringComparison.Ordinal)))
            {
                string copy = directory[Path.GetFileName(file)];
                File.Copy(file, copy);
                File.SetUnixFileMode(copy, UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
            }

            from = directory.FullPath;
        }

        Dictionary<string, string> environment = new() { ["DOTNET_DbgEnableMiniDump"] = "0", ["DOTNET_EnableDiagnostics"] = "0", ["HOME"] = directory.FullPath };
        return TargetProcess.Start(
            dotnet, ["exec", Path.Combine(from, "FastTrap.Tests.dll"), .. arguments],
            new TargetStart { User = user, Environment = environment, WorkingDirectory = directory.FullPath });
    }
}

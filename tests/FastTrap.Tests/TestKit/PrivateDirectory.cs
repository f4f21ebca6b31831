using System.Globalization;

namespace FastTrap.Tests.TestKit;

/// <summary>A directory for temporary files of one test, removed when disposed; <see cref="Leftovers"/> looks for forgotten ones.</summary>
internal sealed class PrivateDirectory : IDisposable
{
    private static int s_number;

    /// <summary>Makes it; for another user's program, owned by that user.</summary>
    public PrivateDirectory(string purpose, uint? user = null)
    {
        string number = Interlocked.Increment(ref s_number).ToString(CultureInfo.InvariantCulture);
        FullPath = Path.Combine(Path.GetTempPath(), $"{Prefix}{purpose}-{number}");
        Directory.CreateDirectory(FullPath, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        if (user is uint owner && owner != Posix.geteuid())
        {
            Posix.ChangeOwner(FullPath, owner);
        }
    }

    /// <summary>With what the names of all directories of this test process begin.</summary>
    public static string Prefix => $"fasttrap-test-{Environment.ProcessId}-";

    public string FullPath { get; }

    public string this[string name] => Path.Combine(FullPath, name);

    public void Dispose()
    {
        if (Directory.Exists(FullPath))
        {
            Directory.Delete(FullPath, recursive: true);
        }
    }
}

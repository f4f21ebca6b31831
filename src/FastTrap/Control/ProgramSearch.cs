using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Turns what a user gives to start a program into a request for the platform.</summary>
internal static class ProgramSearch
{
    public static SpawnRequest MakeRequest(IPlatform platform, string path, IReadOnlyList<string> arguments, CreateOptions options)
    {
        foreach (string text in arguments.Append(path))
        {
            ArgumentNullException.ThrowIfNull(text, nameof(arguments));
            if (text.Contains('\0'))
            {
                throw new ArgumentException("A path or argument holds a zero character, which no program can be given.", nameof(arguments));
            }
        }

        return new SpawnRequest
        {
            Path = Find(platform, path),
            Arguments = [path, .. arguments],
            Environment = options.Environment?.Select(pair => $"{pair.Key}={pair.Value}").ToArray(),
            WorkingDirectory = options.WorkingDirectory,
            StandardInput = options.StandardInput,
            StandardOutput = options.StandardOutput,
            StandardError = options.StandardError,
        };
    }

    private static string Find(IPlatform platform, string path)
    {
        if (path.Contains('/'))
        {
            return path;
        }

        foreach (string directory in (Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin:/bin").Split(':'))
        {
            string candidate = $"{(directory.Length == 0 ? "." : directory)}/{path}";
            if (platform.OpenFile(candidate, out TargetFile? file) == Errno.None)
            {
                file?.Dispose();
                return candidate;
            }
        }

        throw new FastTrapException(
            FastTrapError.CannotStart, $"'{path}' is in no directory of PATH; give its path, for example './{path}'.", errorNumber: (int)Errno.ENOENT);
    }
}

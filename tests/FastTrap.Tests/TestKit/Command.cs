using System.Text;

namespace FastTrap.Tests.TestKit;

/// <summary>What a command that was run to its end said.</summary>
internal sealed record CommandResult(int ExitCode, string Output, string Error);

/// <summary>Runs programs to their end: compilers, clients, anything that is not traced.</summary>
internal static class Command
{
    /// <summary>The full path of a program, or null if it is not installed.</summary>
    public static string? Find(string name, params string[] moreDirectories)
    {
        IEnumerable<string> directories = (Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin:/bin").Split(':');
        return directories.Concat(moreDirectories).Select(directory => Path.Combine(directory, name)).FirstOrDefault(File.Exists);
    }

    /// <summary>Runs a program; it is killed when time is over.</summary>
    /// <exception cref="TimeoutException">It took longer than <paramref name="timeout"/>.</exception>
    public static CommandResult Run(string path, IReadOnlyList<string> arguments, TimeSpan timeout, IReadOnlyDictionary<string, string>? environment = null)
    {
        int output = Posix.OpenNamelessFile();
        int error = Posix.OpenNamelessFile();
        (int read, int write) = Posix.MakePipe();
        try
        {
            Posix.Close(write);
            write = -1;
            int processId = Posix.Spawn(path, arguments, Environments.With(environment), null, read, output, error, -1);
            int handle = Posix.OpenProcess(processId);
            try
            {
                bool ended = Posix.WaitReadable(handle, (int)timeout.TotalMilliseconds);
                if (!ended)
                {
                    Posix.SendSignal(handle, Posix.SIGKILL);
                }

                int status = Posix.WaitForChild(processId);
                return ended
                    ? new CommandResult((status & 0x7f) == 0 ? status >> 8 & 0xff : 128 + (status & 0x7f), ReadAll(output), ReadAll(error))
                    : throw new TimeoutException($"{path} {string.Join(' ', arguments)} took longer than {timeout.TotalSeconds:0} s.\n{ReadAll(error)}");
            }
            finally
            {
                Posix.Close(handle);
            }
        }
        finally
        {
            Posix.Close(output);
            Posix.Close(error);
            Posix.Close(read);
            Posix.Close(write);
        }
    }

    /// <summary>Everything in a file that a child wrote through an inherited descriptor.</summary>
    internal static string ReadAll(int descriptor)
    {
        StringBuilder text = new();
        byte[] buffer = new byte[65_536];
        Decoder decoder = Encoding.UTF8.GetDecoder();
        char[] characters = new char[65_536 + 4];
        long position = 0;
        for (int length; (length = Posix.ReadAt(descriptor, buffer, position)) > 0; position += length)
        {
            text.Append(characters, 0, decoder.GetChars(buffer, 0, length, characters, 0));
        }

        return text.ToString();
    }
}

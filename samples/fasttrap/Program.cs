using System.Reflection;
using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;
using FastTrap.Tool.Verbs;

namespace FastTrap.Tool;

/// <summary>The command line tool: reads its words, does the verb, turns failures into one line and an exit code.</summary>
internal static class Program
{
    private const int Failure = 1;
    private const int WrongUsage = 2;

    public static async Task<int> Main(string[] arguments)
    {
        Console.SetError(Complaints.Open());
        if (arguments is [] or ["help", ..] || arguments.TakeWhile(argument => argument != "--").Any(argument => argument is "-h" or "--help"))
        {
            await (arguments.Length == 0 ? Console.Error : Console.Out).WriteLineAsync(HelpText.Text).ConfigureAwait(false);
            return arguments.Length == 0 ? WrongUsage : 0;
        }

        if (arguments is ["--version", ..])
        {
            string version = typeof(Tracer).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";
            await Console.Out.WriteLineAsync($"fasttrap {version.Split('+')[0]}").ConfigureAwait(false);
            return 0;
        }

        try
        {
            return await RunAsync(OptionParser.Parse(arguments)).ConfigureAwait(false);
        }
        catch (UsageException exception)
        {
            await Console.Error.WriteLineAsync($"fasttrap: {exception.Message}").ConfigureAwait(false);
            return WrongUsage;
        }
        catch (Exception exception) when (exception is FastTrapException or IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            // The reader of our output having gone, as head does, is no failure to speak of.
            if (!IsBrokenPipe(exception))
            {
                await Console.Error.WriteLineAsync($"fasttrap: {exception.Message}").ConfigureAwait(false);
            }

            return Failure;
        }
        catch (OperationCanceledException)
        {
            await Console.Error.WriteLineAsync("fasttrap: interrupted before the probes were enabled.").ConfigureAwait(false);
            return Failure;
        }
    }

    private static async Task<int> RunAsync(ToolOptions options)
    {
        using StopRequest stop = new();
        ResultWriter results = ResultWriter.Open(options.OutputPath, toStandardError: options.Command.Count > 0);
        bool isWhole = false;
        try
        {
            int code = await Verb.Create(options, results).RunAsync(stop).ConfigureAwait(false);
            isWhole = true;
            return code;
        }
        finally
        {
            Close(results, isWhole);
        }
    }

    /// <summary>After a failure the failure is what counts, not that the rest cannot be written either.</summary>
    private static void Close(ResultWriter results, bool isWhole)
    {
        try
        {
            results.Dispose();
        }
        catch (Exception exception) when (!isWhole && exception is (IOException or UnauthorizedAccessException))
        {
            return;
        }
    }

    private static bool IsBrokenPipe(Exception exception) => exception is IOException && (exception.HResult & 0xffff) == 32;
}

namespace FastTrap.Tool.Output;

/// <summary>Says on standard error what takes long, once it does.</summary>
internal static class Progress
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(0.5);

    /// <summary>As the other, of work without a result.</summary>
    public static Task WatchAsync(string what, Task work)
    {
        return WatchAsync(what, Finish());

        async Task<bool> Finish()
        {
            await work.ConfigureAwait(false);
            return true;
        }
    }

    /// <summary>Awaits work; after half a second a line says what is going on.</summary>
    public static async Task<T> WatchAsync<T>(string what, Task<T> work)
    {
        using CancellationTokenSource done = new();
        Task patience = Task.Delay(s_patience, done.Token);
        if (await Task.WhenAny(work, patience).ConfigureAwait(false) == work)
        {
            await done.CancelAsync().ConfigureAwait(false);
            return await work.ConfigureAwait(false);
        }

        long start = Environment.TickCount64 - (long)s_patience.TotalMilliseconds;
        bool isTerminal = !Console.IsErrorRedirected;
        await Console.Error.WriteAsync($"fasttrap: {what} ...{(isTerminal ? "" : "\n")}").ConfigureAwait(false);
        try
        {
            while (isTerminal && await Task.WhenAny(work, Task.Delay(s_patience)).ConfigureAwait(false) != work)
            {
                await Console.Error.WriteAsync($"\rfasttrap: {what} ... {(Environment.TickCount64 - start) / 1000} s").ConfigureAwait(false);
            }

            return await work.ConfigureAwait(false);
        }
        finally
        {
            if (isTerminal)
            {
                await Console.Error.WriteAsync("\r\x1b[K").ConfigureAwait(false);
            }
        }
    }
}

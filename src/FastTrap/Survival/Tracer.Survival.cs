namespace FastTrap;

/// <summary>Coming back to a process that was let go of.</summary>
public sealed partial class Tracer
{
    /// <summary>An attach removes what was left; the tracer that left it may be disposed by now.</summary>
    private async Task ReclaimAsync(int processId)
    {
        Tracer tracer = new(_core.Options, _core.Platform);
        await using (tracer.ConfigureAwait(false))
        {
            TracedProcess process = await tracer.AttachAsync(processId).ConfigureAwait(false);
            await process.DisposeAsync().ConfigureAwait(false);
        }
    }
}

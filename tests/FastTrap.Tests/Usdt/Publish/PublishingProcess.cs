using System.Globalization;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Usdt.Publish;

/// <summary><see cref="PublisherProgram"/> in a process of its own.</summary>
internal sealed class PublishingProcess : IDisposable
{
    private readonly PrivateDirectory _directory = new("publish");

    /// <summary>Starts it; its probes are published when this returns.</summary>
    public PublishingProcess(string provider, bool atPath = false)
    {
        Provider = provider;
        try
        {
            string[] path = atPath ? [_directory["image.so"]] : [];
            Target = SeparateTracer.Start(_directory, ["publish", provider, .. path]);
            Target.WaitReady();
            ImagePath = Ask("path")["path ".Length..];
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Provider { get; }

    public TargetProcess Target { get; } = null!;

    public int ProcessId => Target.ProcessId;

    /// <summary>The file by which tools find the probes.</summary>
    public string ImagePath { get; } = "";

    /// <summary>Sends a command and gives the line with which it is answered.</summary>
    public string Ask(string command)
    {
        Target.SendLine(command);
        return Target.ReadLine() ?? throw new EndOfStreamException($"The publisher ended: {Target.Errors}");
    }

    /// <summary>Asks again and again until the program itself sees its <c>tick</c> enabled, or not.</summary>
    public void WaitUntilEnabled(bool isEnabled, Func<bool>? giveUp = null)
    {
        for (long start = Environment.TickCount64; !Ask("enabled").StartsWith($"enabled {isEnabled} ", StringComparison.Ordinal);)
        {
            Assert.That(giveUp?.Invoke() ?? false, Is.False, "The tool ended.");
            Assert.That(Environment.TickCount64 - start, Is.LessThan(60_000), $"never {(isEnabled ? "enabled" : "disabled")}");
        }
    }

    /// <summary>Lines of its <c>/proc/PID/maps</c> that show a provider's image.</summary>
    public string[] Mappings(string? provider = null) =>
        [.. File.ReadLines($"/proc/{ProcessId}/maps").Where(line => line.Contains($"usdt-{provider ?? Provider} ", StringComparison.Ordinal))];

    /// <summary>Writes a probe's semaphore, as a tool does.</summary>
    public void WriteSemaphore(string probe, ushort value)
    {
        ulong load = ulong.Parse(Mappings()[0].Split('-')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        ulong address = load + ElfTools.Variable(ImagePath, $"{Provider}_{probe}_semaphore");
        using FileStream memory = new($"/proc/{ProcessId}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0);
        memory.Seek((long)address, SeekOrigin.Begin);
        memory.Write(BitConverter.GetBytes(value));
    }

    public void Dispose()
    {
        Target?.Dispose();
        _directory.Dispose();
    }
}

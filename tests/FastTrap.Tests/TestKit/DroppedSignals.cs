using System.Globalization;
using System.Runtime.InteropServices;

namespace FastTrap.Tests.TestKit;

/// <summary>
/// Counts the SIGTRAPs which one thread sends to threads and the kernel drops, because the receiver has one pending: its own tracepoint says so. Needs root and tracefs.
/// </summary>
internal sealed unsafe class DroppedSignals : IDisposable
{
    private const string Source = "/sys/kernel/tracing/events/signal/signal_generate/id";
    private const int AttributesLength = 112;
    private const uint Tracepoint = 2; // PERF_TYPE_TRACEPOINT
    private readonly int _event;

    private DroppedSignals(int descriptor) => _event = descriptor;

    /// <summary>So far.</summary>
    public long Count
    {
        get
        {
            Span<byte> value = stackalloc byte[8];
            Assert.That(Posix.Read(_event, value), Is.EqualTo(8));
            return MemoryMarshal.Read<long>(value);
        }
    }

    /// <summary>Begins to count; null where the kernel does not say.</summary>
    public static DroppedSignals? TryWatch(int senderThreadId)
    {
        if (Posix.geteuid() != 0 || !File.Exists(Source))
        {
            return null;
        }

        byte* attributes = stackalloc byte[AttributesLength];
        new Span<byte>(attributes, AttributesLength).Clear();
        *(uint*)attributes = Tracepoint;
        *(uint*)(attributes + 4) = AttributesLength;
        *(ulong*)(attributes + 8) = ulong.Parse(File.ReadAllText(Source), CultureInfo.InvariantCulture);
        int descriptor = Posix.OpenPerfEvent(attributes, senderThreadId, -1);
        Assert.That(descriptor, Is.GreaterThanOrEqualTo(0), "perf_event_open of signal_generate");

        // SIGTRAP by tgkill (SI_TKILL), TRACE_SIGNAL_ALREADY_PENDING.
        DroppedSignals dropped = new(descriptor);
        try
        {
            Posix.SetEventFilter(descriptor, "sig == 5 && code == -6 && result == 2");
            return dropped;
        }
        catch
        {
            dropped.Dispose();
            throw;
        }
    }

    public void Dispose() => Posix.Close(_event);
}

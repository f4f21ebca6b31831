using System.Globalization;

namespace FastTrap.Tests;

/// <summary>
/// The test assembly as a program which publishes probes and fires them as it is told on its standard input. Every answer is one line.
/// </summary>
/// <remarks>
/// Called as <c>publish PROVIDER [PATH]</c>. Probes: <c>tick(long, int)</c>, <c>request-start(string, byte, ushort)</c>, <c>bare()</c>,
/// <c>sample(double, float, sbyte)</c>, <c>six(ulong, uint, short, char, bool, nint)</c>.
/// Commands: <c>fire N</c>, <c>pairs N</c> (tick and request-start), <c>text TEXT</c>, <c>long LENGTH</c>, <c>mixed</c>, <c>arm</c> (all with zeros), <c>threads N EACH</c>, <c>behind</c> (another thread fires), <c>enabled</c>, <c>second NAME</c>, <c>path</c>, <c>dispose</c>, <c>collect</c>, <c>end</c>.
/// </remarks>
internal static class PublisherProgram
{
    public static int Run(string providerName, string? path)
    {
        using UsdtProvider provider = new(providerName);
        UsdtProbe<long, int> tick = provider.DefineProbe<long, int>("tick");
        UsdtProbe<string, byte, ushort> request = provider.DefineProbe<string, byte, ushort>("request-start");
        UsdtProbe bare = provider.DefineProbe("bare");
        UsdtProbe<double, float, sbyte> sample = provider.DefineProbe<double, float, sbyte>("sample");
        UsdtProbe<ulong, uint, short, char, bool, nint> six = provider.DefineProbe<ulong, uint, short, char, bool, nint>("six");
        provider.Publish(path);
        List<UsdtProvider> others = [];
        Console.WriteLine($"ready {Environment.ProcessId}");
        long fired = 0;
        while (Console.ReadLine() is { } line && line != "end")
        {
            string[] words = line.Split(' ');
            switch (words)
            {
                case ["fire", var count]:
                    for (int n = Number(count); n > 0; n--)
                    {
                        fired++;
                        tick.Fire(fired, -(int)fired);
                    }

                    Console.WriteLine($"count tick {fired}");
                    break;
                case ["pairs", var count]:
                    for (int n = 1; n <= Number(count); n++)
                    {
                        tick.Fire(n, -n);
                        request.Fire("pair", 1, 2);
                    }

                    Console.WriteLine("done");
                    break;
                case ["text", ..]:
                    request.Fire(line["text ".Length..], 200, 65_000);
                    Console.WriteLine("done");
                    break;
                case ["long", var length]:
                    request.Fire(new string('x', Number(length)), 1, 2);
                    Console.WriteLine("done");
                    break;
                case ["arm"]:
                    tick.Fire(0, 0);
                    bare.Fire();
                    request.Fire(null!, 0, 0);
                    six.Fire(0, 0, 0, '\0', false, 0);
                    Console.WriteLine("done");
                    break;
                case ["mixed"]:
                    bare.Fire();
                    request.Fire(null!, 1, 2);
                    sample.Fire(2.5, -0.25f, -3);
                    six.Fire(ulong.MaxValue, 4_000_000_000, -2, 'z', true, -1);
                    Console.WriteLine("done");
                    break;
                case ["threads", var count, var each]:
                    Thread[] threads = [.. Enumerable.Range(0, Number(count)).Select(_ => new Thread(() => Repeat(tick, Number(each))))];
                    Array.ForEach(threads, thread => thread.Start());
                    Array.ForEach(threads, thread => thread.Join());
                    fired += Number(count) * (long)Number(each);
                    Console.WriteLine($"count tick {fired}");
                    break;
                case ["behind"]:
                    new Thread(() => tick.Fire(1, 1)) { IsBackground = true }.Start();
                    Console.WriteLine("done");
                    break;
                case ["enabled"]:
                    Console.WriteLine($"enabled {tick.IsEnabled} {bare.IsEnabled}");
                    break;
                case ["second", var name]:
                    UsdtProvider other = new(name);
                    UsdtProbe<long> pulse = other.DefineProbe<long>("pulse");
                    other.Publish();
                    others.Add(other);
                    pulse.Fire(1);
                    Console.WriteLine($"path {other.ImagePath}");
                    break;
                case ["path"]:
                    Console.WriteLine($"path {provider.ImagePath}");
                    break;
                case ["dispose"]:
                    provider.Dispose();
                    Console.WriteLine("done");
                    break;
                case ["collect"]:
                    GC.Collect();
                    GC.WaitForPendingFinalizers();
                    Console.WriteLine("done");
                    break;
                default:
                    Console.WriteLine($"unknown {line}");
                    break;
            }
        }

        others.ForEach(other => other.Dispose());
        return 0;
    }

    private static void Repeat(UsdtProbe<long, int> probe, int times)
    {
        for (int i = 1; i <= times; i++)
        {
            probe.Fire(i, i);
        }
    }

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
}

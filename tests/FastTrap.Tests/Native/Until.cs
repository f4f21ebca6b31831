using System.Diagnostics;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>Waiting for a condition that another process or thread brings about.</summary>
internal static class Until
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    public static void True(Func<bool> condition, string what)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(start) > s_patience)
            {
                Assert.Fail($"It did not happen: {what}.");
            }

            Thread.Yield();
        }
    }
}

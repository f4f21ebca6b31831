using FastTrap.Tests.Arm64Live.Guest;

namespace FastTrap.Tests.Arm64Live;

/// <summary>The guests of these tests, one for each processor, booted when first asked for and ended after all.</summary>
[SetUpFixture]
public sealed class Guests
{
    private static readonly Dictionary<string, Lazy<GuestMachine>> s_machines = [];
    private static readonly Lazy<string?> s_whyNot = new(GuestImage.WhyNot);

    [OneTimeTearDown]
    public void End()
    {
        foreach (Lazy<GuestMachine> machine in s_machines.Values.Where(m => m.IsValueCreated))
        {
            machine.Value.Dispose();
        }

        s_machines.Clear();
    }

    /// <summary>The guest with a processor; the test is skipped where there can be none.</summary>
    internal static GuestMachine Get(string processor)
    {
        if (s_whyNot.Value is { } reason)
        {
            Assert.Ignore(reason);
        }

        if (!s_machines.TryGetValue(processor, out Lazy<GuestMachine>? machine))
        {
            // One that does not come up fails all its tests at once.
            machine = new Lazy<GuestMachine>(() => GuestMachine.Boot(processor));
            s_machines.Add(processor, machine);
        }

        return machine.Value;
    }
}

using FastTrap.Engine;

namespace FastTrap;

/// <summary>Gives each member of a standing enabling what it does at hits, and is told of members.</summary>
internal interface IStandingConsumer
{
    /// <summary>The options of a member that is about to be made. For one image after another.</summary>
    ProbeOptions OptionsFor(TracedProcess process, ProcessImage image);

    /// <summary>The member is made, and nothing of it is enabled yet.</summary>
    void OnMade(ProcessImage image, ProbeEnabling enabling);

    /// <summary>The first of its probes were enabled. Not on a control thread.</summary>
    Task OnEnabledAsync(ProcessImage image);

    /// <summary>The image has ended, and the member with it; told once or more. On any thread.</summary>
    void OnLeft(ProcessImage image);
}

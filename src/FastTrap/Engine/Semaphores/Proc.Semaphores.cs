namespace FastTrap.Engine;

/// <summary>The semaphores of static probes, raised while somebody has them enabled.</summary>
internal sealed partial class Proc
{
    /// <summary>Raises the semaphores of a probe for one of its enablings: all, or none if one cannot be written.</summary>
    private bool TryRaiseSemaphores(EnabledProbe enabled)
    {
        ulong[] addresses = enabled.Probe.SemaphoreAddresses;
        for (int i = 0; i < addresses.Length; i++)
        {
            if (!_semaphores.TryRaise(addresses[i]))
            {
                for (int raised = 0; raised < i; raised++)
                {
                    _semaphores.Lower(addresses[raised]);
                }

                return false;
            }
        }

        enabled.HoldsSemaphores = true;
        return true;
    }

    private void LowerSemaphores(EnabledProbe enabled)
    {
        if (enabled.HoldsSemaphores)
        {
            enabled.HoldsSemaphores = false;
            foreach (ulong address in enabled.Probe.SemaphoreAddresses)
            {
                _semaphores.Lower(address);
            }
        }
    }

    /// <summary>They went with their library.</summary>
    private void AbandonSemaphores(EnabledProbe enabled)
    {
        enabled.HoldsSemaphores = false;
        foreach (ulong address in enabled.Probe.SemaphoreAddresses)
        {
            _semaphores.Abandon(address);
        }
    }
}

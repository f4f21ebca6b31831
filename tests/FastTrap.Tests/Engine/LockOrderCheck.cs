using System.Runtime.CompilerServices;
using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>The order of locks is checked in the whole run, whatever the build.</summary>
internal static class LockOrderCheck
{
    [ModuleInitializer]
    internal static void TurnOn() => RankedLock.IsChecked = true;
}

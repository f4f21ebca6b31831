using System.Runtime.CompilerServices;
using FastTrap.Usdt;

namespace FastTrap;

/// <summary>A probe of a <see cref="UsdtProvider"/>, without regard to its arguments.</summary>
/// <remarks>Thread-safe. Before <see cref="UsdtProvider.Publish"/> and after the provider's disposal it is not enabled, and firing it does nothing.</remarks>
public abstract class UsdtProbeDefinition
{
    private ProbeSite _site = ProbeSite.Nowhere;

    private protected UsdtProbeDefinition(UsdtProvider provider, string name)
    {
        Provider = provider;
        Name = name;
    }

    /// <summary>The provider it belongs to.</summary>
    public UsdtProvider Provider { get; }

    /// <summary>Its name as it was given.</summary>
    public string Name { get; }

    /// <summary>
    /// Whether some tool observes this probe in this process now: its semaphore is not 0. It costs about a nanosecond. The firing methods look
    /// themselves; ask only to save the work of making arguments.
    /// </summary>
    public bool IsEnabled
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            ProbeSite site = Site;
            bool isEnabled = site.IsEnabled;
            GC.KeepAlive(site);
            return isEnabled;
        }
    }

    /// <summary>Where the probe is; replaced when the provider publishes it, and when it is disposed.</summary>
    internal ProbeSite Site
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Volatile.Read(ref _site);
        set => Volatile.Write(ref _site, value);
    }

    /// <summary><c>provider:name</c>.</summary>
    public override string ToString() => $"{Provider.Name}:{Name}";
}

/// <summary>A probe without arguments. See <see cref="UsdtProvider.DefineProbe(string)"/>.</summary>
/// <remarks>Thread-safe.</remarks>
public sealed class UsdtProbe : UsdtProbeDefinition
{
    internal UsdtProbe(UsdtProvider provider, string name)
        : base(provider, name)
    {
    }

    /// <summary>Fires the probe if it is enabled. A tracer may stop the calling thread meanwhile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fire()
    {
        ProbeSite site = Site;
        if (site.IsEnabled)
        {
            ProbeCall.Fire<NoArgument, NoArgument, NoArgument, NoArgument, NoArgument, NoArgument>(site, default, default, default, default, default, default);
        }

        GC.KeepAlive(site);
    }
}

/// <summary>A probe with one argument.</summary>
/// <typeparam name="T">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
/// <remarks>Thread-safe.</remarks>
public sealed class UsdtProbe<T> : UsdtProbeDefinition
{
    internal UsdtProbe(UsdtProvider provider, string name)
        : base(provider, name)
    {
    }

    /// <summary>
    /// Fires the probe if it is enabled. A string is passed as a pointer to UTF-8 with a terminating zero, null as 0; nothing is allocated
    /// on the managed heap. A tracer may stop the calling thread meanwhile.
    /// </summary>
    /// <param name="argument">Argument 0.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fire(T argument)
    {
        ProbeSite site = Site;
        if (site.IsEnabled)
        {
            ProbeCall.Fire<T, NoArgument, NoArgument, NoArgument, NoArgument, NoArgument>(
                site, argument, default, default, default, default, default);
        }

        GC.KeepAlive(site);
    }
}

/// <summary>A probe with two arguments.</summary>
/// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
/// <remarks>Thread-safe.</remarks>
public sealed class UsdtProbe<T1, T2> : UsdtProbeDefinition
{
    internal UsdtProbe(UsdtProvider provider, string name)
        : base(provider, name)
    {
    }

    /// <summary>
    /// Fires the probe if it is enabled. A string is passed as a pointer to UTF-8 with a terminating zero, null as 0; nothing is allocated
    /// on the managed heap. A tracer may stop the calling thread meanwhile.
    /// </summary>
    /// <param name="argument0">Argument 0.</param>
    /// <param name="argument1">Argument 1.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fire(T1 argument0, T2 argument1)
    {
        ProbeSite site = Site;
        if (site.IsEnabled)
        {
            ProbeCall.Fire<T1, T2, NoArgument, NoArgument, NoArgument, NoArgument>(
                site, argument0, argument1, default, default, default, default);
        }

        GC.KeepAlive(site);
    }
}

/// <summary>A probe with three arguments.</summary>
/// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
/// <remarks>Thread-safe.</remarks>
public sealed class UsdtProbe<T1, T2, T3> : UsdtProbeDefinition
{
    internal UsdtProbe(UsdtProvider provider, string name)
        : base(provider, name)
    {
    }

    /// <summary>
    /// Fires the probe if it is enabled. A string is passed as a pointer to UTF-8 with a terminating zero, null as 0; nothing is allocated
    /// on the managed heap. A tracer may stop the calling thread meanwhile.
    /// </summary>
    /// <param name="argument0">Argument 0.</param>
    /// <param name="argument1">Argument 1.</param>
    /// <param name="argument2">Argument 2.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fire(T1 argument0, T2 argument1, T3 argument2)
    {
        ProbeSite site = Site;
        if (site.IsEnabled)
        {
            ProbeCall.Fire<T1, T2, T3, NoArgument, NoArgument, NoArgument>(
                site, argument0, argument1, argument2, default, default, default);
        }

        GC.KeepAlive(site);
    }
}

/// <summary>A probe with four arguments.</summary>
/// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T4">The type of argument 3: an integer type, bool, char, float, double or string.</typeparam>
/// <remarks>Thread-safe.</remarks>
public sealed class UsdtProbe<T1, T2, T3, T4> : UsdtProbeDefinition
{
    internal UsdtProbe(UsdtProvider provider, string name)
        : base(provider, name)
    {
    }

    /// <summary>
    /// Fires the probe if it is enabled. A string is passed as a pointer to UTF-8 with a terminating zero, null as 0; nothing is allocated
    /// on the managed heap. A tracer may stop the calling thread meanwhile.
    /// </summary>
    /// <param name="argument0">Argument 0.</param>
    /// <param name="argument1">Argument 1.</param>
    /// <param name="argument2">Argument 2.</param>
    /// <param name="argument3">Argument 3.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fire(T1 argument0, T2 argument1, T3 argument2, T4 argument3)
    {
        ProbeSite site = Site;
        if (site.IsEnabled)
        {
            ProbeCall.Fire<T1, T2, T3, T4, NoArgument, NoArgument>(
                site, argument0, argument1, argument2, argument3, default, default);
        }

        GC.KeepAlive(site);
    }
}

/// <summary>A probe with five arguments.</summary>
/// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T4">The type of argument 3: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T5">The type of argument 4: an integer type, bool, char, float, double or string.</typeparam>
/// <remarks>Thread-safe.</remarks>
public sealed class UsdtProbe<T1, T2, T3, T4, T5> : UsdtProbeDefinition
{
    internal UsdtProbe(UsdtProvider provider, string name)
        : base(provider, name)
    {
    }

    /// <summary>
    /// Fires the probe if it is enabled. A string is passed as a pointer to UTF-8 with a terminating zero, null as 0; nothing is allocated
    /// on the managed heap. A tracer may stop the calling thread meanwhile.
    /// </summary>
    /// <param name="argument0">Argument 0.</param>
    /// <param name="argument1">Argument 1.</param>
    /// <param name="argument2">Argument 2.</param>
    /// <param name="argument3">Argument 3.</param>
    /// <param name="argument4">Argument 4.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fire(T1 argument0, T2 argument1, T3 argument2, T4 argument3, T5 argument4)
    {
        ProbeSite site = Site;
        if (site.IsEnabled)
        {
            ProbeCall.Fire<T1, T2, T3, T4, T5, NoArgument>(
                site, argument0, argument1, argument2, argument3, argument4, default);
        }

        GC.KeepAlive(site);
    }
}

/// <summary>A probe with six arguments.</summary>
/// <typeparam name="T1">The type of argument 0: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T2">The type of argument 1: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T3">The type of argument 2: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T4">The type of argument 3: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T5">The type of argument 4: an integer type, bool, char, float, double or string.</typeparam>
/// <typeparam name="T6">The type of argument 5: an integer type, bool, char, float, double or string.</typeparam>
/// <remarks>Thread-safe.</remarks>
public sealed class UsdtProbe<T1, T2, T3, T4, T5, T6> : UsdtProbeDefinition
{
    internal UsdtProbe(UsdtProvider provider, string name)
        : base(provider, name)
    {
    }

    /// <summary>
    /// Fires the probe if it is enabled. A string is passed as a pointer to UTF-8 with a terminating zero, null as 0; nothing is allocated
    /// on the managed heap. A tracer may stop the calling thread meanwhile.
    /// </summary>
    /// <param name="argument0">Argument 0.</param>
    /// <param name="argument1">Argument 1.</param>
    /// <param name="argument2">Argument 2.</param>
    /// <param name="argument3">Argument 3.</param>
    /// <param name="argument4">Argument 4.</param>
    /// <param name="argument5">Argument 5.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fire(T1 argument0, T2 argument1, T3 argument2, T4 argument3, T5 argument4, T6 argument5)
    {
        ProbeSite site = Site;
        if (site.IsEnabled)
        {
            ProbeCall.Fire<T1, T2, T3, T4, T5, T6>(
                site, argument0, argument1, argument2, argument3, argument4, argument5);
        }

        GC.KeepAlive(site);
    }
}

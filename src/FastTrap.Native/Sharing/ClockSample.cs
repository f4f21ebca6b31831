namespace FastTrap.Native;

/// <summary>The processor's time counter (x86-64: TSC; arm64: CNTVCT) and the clock at one moment.</summary>
/// <param name="Counter">The counter's ticks.</param>
/// <param name="Nanoseconds">CLOCK_MONOTONIC.</param>
/// <param name="Uncertainty">Ticks between which the clock was read.</param>
internal readonly record struct ClockSample(ulong Counter, long Nanoseconds, ulong Uncertainty);

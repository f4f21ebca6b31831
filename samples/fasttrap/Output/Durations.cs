using System.Globalization;

namespace FastTrap.Tool.Output;

/// <summary>Writes nanoseconds for people.</summary>
internal static class Durations
{
    /// <summary>As <see cref="Format"/>, with tenths of nanoseconds below ten.</summary>
    public static string FormatShort(double nanoseconds) =>
        nanoseconds < 10 ? string.Create(CultureInfo.InvariantCulture, $"{nanoseconds:0.0} ns") : Format(nanoseconds);

    public static string Format(double nanoseconds) => nanoseconds switch
    {
        < 1e3 => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds:0} ns"),
        < 1e6 => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e3:0.##} us"),
        < 1e9 => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e6:0.##} ms"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e9:0.##} s"),
    };
}

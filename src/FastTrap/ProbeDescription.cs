using System.Diagnostics.CodeAnalysis;

namespace FastTrap;

/// <summary>
/// A pattern of probes, <c>provider:module:function:name</c>, read from the right as DTrace reads it: <c>malloc:entry</c> is a function and a
/// name, <c>entry</c> alone is a name. Each part is a glob (<c>*</c>, <c>?</c>, <c>[a-z]</c>, <c>\</c> escapes); an empty part matches anything.
/// </summary>
/// <remarks>
/// Immutable and thread-safe. Providers are <c>pid</c> followed by the process id, for functions, and those of static probes (USDT) followed by it: <c>postgresql42</c>.
/// An empty provider means all of them, <c>pid*</c> functions only. Names of functions' probes are <c>entry</c>, <c>return</c>, or the offset of an
/// instruction from the function's start in hexadecimal; of static probes their own, with <c>-</c> or <c>__</c>. <c>*</c>, or nothing, means all of them, every instruction too.
/// A function of C++ may be given mangled, or demangled; its <c>::</c> does not separate parts where what stands before the first one cannot be a provider (it
/// neither begins with <c>pid</c> nor holds a glob), or where there would be too many parts: <c>ns::f:entry</c> is a function and a name, <c>pid*::f:entry</c> is not.
/// Source: dt_pid.c and dtrace_xstr2desc by behaviour.
/// </remarks>
public sealed record ProbeDescription
{
    /// <summary>Makes a description of four parts; null or empty matches anything.</summary>
    public ProbeDescription(string? provider, string? module, string? function, string? name)
    {
        Provider = provider ?? "";
        Module = module ?? "";
        Function = function ?? "";
        Name = name ?? "";
    }

    /// <summary>The provider's pattern, for example <c>pid42</c>, <c>pid*</c> or <c>postgresql*</c>.</summary>
    public string Provider { get; }

    /// <summary>The module's pattern: a file's base name such as <c>libc.so.6</c>, <c>a.out</c> for the executable, <c>libc</c> for <c>libc.so.6</c>, a path if it holds a <c>/</c>, or <c>[jit]</c>.</summary>
    public string Module { get; }

    /// <summary>The function's pattern.</summary>
    public string Function { get; }

    /// <summary>The name's pattern: <c>entry</c>, <c>return</c>, an offset in hexadecimal, a static probe's name such as <c>query-start</c>, or a glob.</summary>
    public string Name { get; }

    /// <summary>Reads a description.</summary>
    /// <exception cref="ArgumentNullException"><paramref name="text"/> is null.</exception>
    /// <exception cref="FormatException">More than four parts, white space, or an unfinished glob.</exception>
    public static ProbeDescription Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return TryParse(text, out ProbeDescription? description, out string? error) ? description : throw new FormatException(error);
    }

    /// <summary>Reads a description; false with a sentence of what is wrong.</summary>
    public static bool TryParse(string? text, [NotNullWhen(true)] out ProbeDescription? description, [NotNullWhen(false)] out string? error) =>
        Probes.ProbeDescriptionParser.TryParse(text, out description, out error);

    /// <summary>Reads a description, as <see cref="Parse"/> does.</summary>
    public static implicit operator ProbeDescription(string text) => Parse(text);

    /// <summary>Reads a description, as <see cref="Parse"/> does.</summary>
    public static ProbeDescription FromString(string text) => Parse(text);

    /// <summary>The four parts joined with colons.</summary>
    public override string ToString() => $"{Provider}:{Module}:{Function}:{Name}";
}

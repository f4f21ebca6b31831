using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>C++ names as people write them, by the C++ runtime library when the machine has it. Any thread.</summary>
internal static class Demangler
{
    /// <summary>Bytes of the longest name that is tried: the library recurses, and names are hostile.</summary>
    public const int MaxMangledBytes = 4096;

    /// <summary>Bytes of the longest result that is kept.</summary>
    public const int MaxDemangledBytes = 64 << 10;

    private static readonly System.Buffers.SearchValues<char> s_demangledOnly = System.Buffers.SearchValues.Create("(<> &~,");

    private const int MaxRun = 512;
    private const int MaxDepth = 128;
    private const int MaxBackReferences = 2048;
    private const double MaxExpandedBytes = 64 << 20;

    /// <summary>Whether the library is there; if not, names stay mangled.</summary>
    public static bool IsAvailable => CxxDemangler.IsAvailable;

    /// <summary>Whether a pattern can only mean demangled names.</summary>
    public static bool LooksDemangled(ReadOnlySpan<char> pattern) =>
        pattern.Contains("::", StringComparison.Ordinal) || pattern.IndexOfAny(s_demangledOnly) >= 0;

    /// <summary>
    /// Writes the demangled name as UTF-8. Returns its length, 0 when the name is not a mangled one or a suspicious one, or -1 when the
    /// result does not fit.
    /// </summary>
    /// <param name="mangled">The name.</param>
    /// <param name="destination">Room for the result.</param>
    public static int TryDemangle(ReadOnlySpan<byte> mangled, Span<byte> destination) =>
        mangled.Length is > 2 and <= MaxMangledBytes && mangled.StartsWith("_Z"u8) && IsShallow(mangled) && !MayExplode(mangled)
            ? CxxDemangler.TryDemangle(mangled, destination)
            : 0;

    /// <summary>The demangled name, or null.</summary>
    public static string? TryDemangle(string mangled)
    {
        byte[] buffer = new byte[MaxDemangledBytes];
        int length = TryDemangle(System.Text.Encoding.UTF8.GetBytes(mangled), buffer);
        return length <= 0 ? null : System.Text.Encoding.UTF8.GetString(buffer, 0, length);
    }

    /// <summary>Finds the qualified name in a demangled function: without the return type before it and the parameters after it.</summary>
    public static void FindBareName(ReadOnlySpan<byte> name, out int start, out int end)
    {
        end = FindParameters(name);
        start = 0;
        int depth = 0;
        ReadOnlySpan<byte> head = name[..end];

        // An operator's name may hold spaces and brackets of its own.
        int limit = head.IndexOf("operator"u8) is >= 0 and int at ? at : end;
        for (int i = 0; i < limit; i++)
        {
            switch (head[i])
            {
                case (byte)'<' or (byte)'(' or (byte)'{' or (byte)'[':
                    depth++;
                    break;
                case (byte)'>' or (byte)')' or (byte)'}' or (byte)']':
                    depth--;
                    break;
                case (byte)' ' when depth == 0:
                    start = i + 1;
                    break;
            }
        }
    }

    private static int FindParameters(ReadOnlySpan<byte> name)
    {
        int close = name.LastIndexOf((byte)')');
        int depth = 0;
        for (int i = close; i >= 0; i--)
        {
            if (name[i] == ')')
            {
                depth++;
            }
            else if (name[i] == '(' && --depth == 0)
            {
                // "(anonymous namespace)::x" has no parameters there: those are followed by nothing but qualifiers.
                bool isQualifier = close + 1 < name.Length && name[close + 1] == ':';
                return isQualifier || i == 0 ? name.Length : i;
            }
        }

        return name.Length;
    }

    /// <summary>
    /// Bounds the nesting that a name can ask for. Identifiers carry their length and are skipped; among what remains, each letter can open
    /// a
    /// level (P, R, K, ...), and some stay open until an E.
    /// </summary>
    private static bool IsShallow(ReadOnlySpan<byte> mangled)
    {
        int run = 0;
        int depth = 0;
        int i = 2;
        while (i < mangled.Length)
        {
            byte value = mangled[i++];
            if (value is >= (byte)'1' and <= (byte)'9')
            {
                int length = value - '0';
                while (i < mangled.Length && mangled[i] is >= (byte)'0' and <= (byte)'9' && length < MaxMangledBytes)
                {
                    length = (length * 10) + mangled[i++] - '0';
                }

                // Numbers also count template parameters and literals: only skip what can be an identifier.
                if (i < mangled.Length && (char.IsAsciiLetter((char)mangled[i]) || mangled[i] == '_') && i + length <= mangled.Length)
                {
                    i += length;
                    run = 0;
                }

                continue;
            }

            run++;
            depth += value switch
            {
                (byte)'N' or (byte)'I' or (byte)'J' or (byte)'F' or (byte)'X' => 1,
                (byte)'E' when depth > 0 => -1,
                _ => 0,
            };
            if (run > MaxRun || depth > MaxDepth)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>
    /// Bounds how long the result can get. A back reference (S1_, T_) repeats what it refers to, so a name of 200 bytes can ask for
    /// gigabytes: a
    /// chain in which each type holds the one before it twice. The number of copies of the innermost type is at most the product, over all
    /// types that are referred to, of how often each occurs: once as written and once for each reference.
    /// </summary>
    private static bool MayExplode(ReadOnlySpan<byte> mangled)
    {
        Span<ushort> references = stackalloc ushort[2 * MaxBackReferences];
        references.Clear();
        double bytes = mangled.Length;
        for (int i = 0; i < mangled.Length; i++)
        {
            int kind = mangled[i] switch { (byte)'S' => 0, (byte)'T' => MaxBackReferences, _ => -1 };
            if (kind < 0)
            {
                continue;
            }

            int number = 0;
            int end = i + 1;
            while (end < mangled.Length && number < MaxBackReferences && DigitOf(mangled[end]) is >= 0 and int digit)
            {
                number = (number * 36) + digit + (end == i + 1 ? 1 : 0);
                end++;
            }

            if (end >= mangled.Length || mangled[end] != '_')
            {
                continue;
            }

            if (number >= MaxBackReferences)
            {
                return true;
            }

            ref ushort count = ref references[kind + number];
            bytes *= (count + 2.0) / (count + 1.0);
            count++;
            if (bytes > MaxExpandedBytes)
            {
                return true;
            }
        }

        return false;

        static int DigitOf(byte value) => value switch
        {
            >= (byte)'0' and <= (byte)'9' => value - '0',
            >= (byte)'A' and <= (byte)'Z' => value - 'A' + 10,
            _ => -1,
        };
    }
}

using System.Buffers;
using System.Diagnostics.CodeAnalysis;

namespace FastTrap.Probes;

/// <summary>
/// Splits a description at its colons, from the right. A <c>::</c> of a demangled C++ name is told from two separators by what stands
/// around it: it joins the word before it and a word, <c>~</c>, <c>(</c> or <c>&lt;</c> after it, when there would otherwise be too many parts.
/// </summary>
internal static class ProbeDescriptionParser
{
    private const int MaximumParts = 4;
    private const int MaximumLength = 4096;

    private static readonly SearchValues<char> s_notInWords = SearchValues.Create("*?[\\./");

    public static bool TryParse(string? text, [NotNullWhen(true)] out ProbeDescription? description, [NotNullWhen(false)] out string? error)
    {
        description = null;
        if (string.IsNullOrWhiteSpace(text))
        {
            error = "The probe description is empty. Write provider:module:function:name, for example pid*:libc.so.6:malloc:entry.";
            return false;
        }

        if (text.Length > MaximumLength)
        {
            error = $"The probe description has {text.Length} characters; {MaximumLength} is the most.";
            return false;
        }

        List<string> parts = Split(text, joinScopes: false);
        if (parts.Count > MaximumParts || IsScopedName(parts))
        {
            parts = Split(text, joinScopes: true);
        }

        if (parts.Count > MaximumParts)
        {
            error = $"'{text}' has {parts.Count} parts; a description has at most four: provider:module:function:name.";
            return false;
        }

        foreach (string part in parts)
        {
            if (!IsFinished(part))
            {
                error = $"'{part}' in '{text}' is an unfinished pattern: a '[' without ']' or a '\\' at the end. Escape them with '\\' to mean themselves.";
                return false;
            }
        }

        while (parts.Count < MaximumParts)
        {
            parts.Insert(0, "");
        }

        description = new ProbeDescription(parts[0], parts[1], parts[2], parts[3]);
        error = null;
        return true;
    }

    /// <summary>Whether an empty part in the middle is the inside of a <c>::</c>, because what stands before it cannot be a provider.</summary>
    private static bool IsScopedName(List<string> parts) => parts.Count == MaximumParts && parts[1].Length == 0 && IsPlainWord(parts[0]);

    private static bool IsPlainWord(string part) =>
        part.Length != 0 && !part.StartsWith("pid", StringComparison.Ordinal) && part.AsSpan().IndexOfAny(s_notInWords) < 0;

    private static List<string> Split(string text, bool joinScopes)
    {
        List<string> parts = [];
        int end = text.Length;
        int depth = 0;
        for (int i = text.Length - 1; i >= 0; i--)
        {
            char c = text[i];
            if (joinScopes && (c is ')' or '>'))
            {
                depth++;
            }
            else if (joinScopes && (c is '(' or '<'))
            {
                depth = Math.Max(0, depth - 1);
            }

            if (c != ':')
            {
                continue;
            }

            if (joinScopes && (depth > 0 || IsScope(text, i)))
            {
                // Both colons of a scope are taken together.
                if (depth == 0)
                {
                    i--;
                }

                continue;
            }

            parts.Insert(0, text[(i + 1)..end].Trim());
            end = i;
        }

        parts.Insert(0, text[..end].Trim());
        return parts;
    }

    /// <summary>Whether the colon at <paramref name="i"/> is the second of a <c>::</c> inside a name.</summary>
    private static bool IsScope(string text, int i) =>
        i >= 2 && text[i - 1] == ':' && text[i - 2] != ':' && i + 1 < text.Length
        && (char.IsLetterOrDigit(text[i + 1]) || text[i + 1] is '_' or '~' or '*' or '?' or '[' or '(' or '<')
        && (char.IsLetterOrDigit(text[i - 2]) || text[i - 2] is '_' or '>' or ')' or '*' or '?' or ']');

    private static bool IsFinished(string part)
    {
        for (int i = 0; i < part.Length; i++)
        {
            if (part[i] == '\\')
            {
                if (++i == part.Length)
                {
                    return false;
                }
            }
            else if (part[i] == '[')
            {
                // A ']' right after '[' or '[!' is an ordinary member; "[jit]" and "[vdso]" are bracket names, handled by the matcher.
                int close = part.IndexOf(']', Math.Min(part.Length, i + 1));
                if (close < 0)
                {
                    return false;
                }

                i = close;
            }
        }

        return true;
    }
}

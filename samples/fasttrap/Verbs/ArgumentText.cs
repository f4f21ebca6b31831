using System.Globalization;
using System.Text;

namespace FastTrap.Tool.Verbs;

/// <summary>Arguments of static probes as people read them.</summary>
internal static class ArgumentText
{
    /// <summary>Bytes of a text that are shown.</summary>
    public const int MaximumText = 200;

    private const string PointerType = "int64 unsigned";

    /// <summary>Whether an argument may point to a text.</summary>
    public static bool MayPoint(ArgumentDescription argument) => argument.NativeType == PointerType;

    /// <summary>Whether what an argument points to is a text that can be shown.</summary>
    public static bool IsText(string? text) => !string.IsNullOrEmpty(text) && text.All(static c => c is '\n' or '\t' || (!char.IsControl(c) && c != '\ufffd'));

    /// <summary>Writes one argument.</summary>
    /// <param name="line">Where to.</param>
    /// <param name="value">Its 64 bits.</param>
    /// <param name="kind">What they are.</param>
    /// <param name="text">The text it points to, or null.</param>
    /// <param name="description">Its type: what may be a pointer is written in hexadecimal.</param>
    public static void Append(StringBuilder line, ulong value, ArgumentKind kind, string? text, ArgumentDescription description)
    {
        switch (kind)
        {
            case ArgumentKind.Unreadable:
                line.Append('?');
                break;
            case ArgumentKind.Signed:
                line.Append(CultureInfo.InvariantCulture, $"{(long)value}");
                break;
            case ArgumentKind.Floating:
                line.Append(CultureInfo.InvariantCulture, $"{BitConverter.UInt64BitsToDouble(value)}");
                break;
            case ArgumentKind.Unsigned when description.NativeType != PointerType:
                line.Append(CultureInfo.InvariantCulture, $"{value}");
                break;
            default:
                if (text is null)
                {
                    line.Append(CultureInfo.InvariantCulture, $"0x{value:x}");
                }
                else
                {
                    line.Append('"').Append(text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)
                        .Replace("\n", "\\n", StringComparison.Ordinal).Replace("\t", "\\t", StringComparison.Ordinal)).Append('"');
                }

                break;
        }
    }

    /// <summary>What a probe declares: <c>(arg0: int32 signed @ rdi)</c>; empty if it declares nothing.</summary>
    public static string Describe(IReadOnlyList<ArgumentDescription> arguments) => arguments.Count == 0
        ? ""
        : $"  ({string.Join(", ", arguments.Select(argument => $"arg{argument.Index}: {(argument.TranslatedType.Length == 0 ? "" : argument.NativeType + " @ ")}{argument.Location}"))})";
}

using System.Text;

namespace FastTrap.Tool.Queries;

/// <summary>Names as parts of descriptions.</summary>
internal static class Glob
{
    /// <summary>A pattern that matches the name alone.</summary>
    public static string Escape(string name)
    {
        StringBuilder escaped = new(name.Length);
        foreach (char c in name)
        {
            escaped.Append(c is '*' or '?' or '[' or ']' or '\\' ? "\\" : "").Append(c);
        }

        return escaped.ToString();
    }
}

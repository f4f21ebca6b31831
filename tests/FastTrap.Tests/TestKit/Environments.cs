using System.Collections;

namespace FastTrap.Tests.TestKit;

/// <summary>Environments of started programs.</summary>
internal static class Environments
{
    /// <summary>This process's environment with changes, as <c>NAME=VALUE</c>; an empty value removes.</summary>
    public static IEnumerable<string> With(IReadOnlyDictionary<string, string>? changes)
    {
        SortedDictionary<string, string> all = new(StringComparer.Ordinal);
        foreach (DictionaryEntry entry in Environment.GetEnvironmentVariables())
        {
            all[(string)entry.Key] = (string?)entry.Value ?? "";
        }

        foreach ((string name, string value) in changes ?? new Dictionary<string, string>())
        {
            all.Remove(name);
            if (value.Length > 0)
            {
                all[name] = value;
            }
        }

        return all.Select(pair => $"{pair.Key}={pair.Value}");
    }
}

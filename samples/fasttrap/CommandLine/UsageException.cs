namespace FastTrap.Tool.CommandLine;

/// <summary>The command line cannot be understood; the message says which part and what to write instead.</summary>
internal sealed class UsageException(string message) : Exception(message);

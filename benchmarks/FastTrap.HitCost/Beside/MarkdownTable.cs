namespace FastTrap.HitCost;

/// <summary>A table as the documents have it.</summary>
internal sealed class MarkdownTable(params IReadOnlyList<string> heading)
{
    private readonly List<IReadOnlyList<string>> _rows = [];

    public void Add(params IReadOnlyList<string> row) => _rows.Add(row);

    public void Print()
    {
        int[] widths = [.. Enumerable.Range(0, heading.Count).Select(i => _rows.Append(heading).Max(row => row[i].Length))];
        PrintRow(heading, widths);
        Console.WriteLine("|" + string.Concat(widths.Select(width => new string('-', width + 2) + "|")));
        foreach (IReadOnlyList<string> row in _rows)
        {
            PrintRow(row, widths);
        }

        Console.WriteLine();
    }

    private static void PrintRow(IReadOnlyList<string> row, int[] widths) =>
        Console.WriteLine("| " + string.Join(" | ", row.Select((cell, i) => cell.PadRight(widths[i]))) + " |");
}

namespace FastTrap.Tool.Output;

/// <summary>Redraws a block of lines at one place of a terminal.</summary>
internal sealed class LiveScreen(ResultWriter writer)
{
    private const int DefaultHeight = 24;
    private const int DefaultWidth = 80;
    private int _drawn;

    /// <summary>How many lines fit.</summary>
    public static int Height => Read(static () => Console.WindowHeight, DefaultHeight);

    /// <summary>Draws the lines over those of the last time.</summary>
    public void Draw(IReadOnlyList<string> lines)
    {
        int width = Read(static () => Console.WindowWidth, DefaultWidth);
        Clear();
        foreach (string line in lines)
        {
            // A line that wraps would count as two.
            writer.Line(line.Length < width ? line : line[..(width - 1)]);
        }

        _drawn = lines.Count;
        writer.Flush();
    }

    /// <summary>Takes the lines away, so that the final result stands in their place.</summary>
    public void Clear()
    {
        if (_drawn > 0)
        {
            writer.Raw($"\x1b[{_drawn}A\x1b[J");
            _drawn = 0;
        }
    }

    /// <summary>A terminal that does not tell its size has the customary one.</summary>
    private static int Read(Func<int> size, int standard)
    {
        try
        {
            int value = size();
            return value > 1 ? value : standard;
        }
        catch (IOException)
        {
            return standard;
        }
    }
}

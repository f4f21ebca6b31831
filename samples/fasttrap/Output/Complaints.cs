using System.Text;

namespace FastTrap.Tool.Output;

/// <summary>
/// Standard error for what is told besides the results. If nobody can be told, because it is closed or its disk is full, the run goes on: the
/// console's own writer would throw, and end us while processes are attached.
/// </summary>
internal sealed class Complaints : TextWriter
{
    private readonly Stream _stream;

    private Complaints(Stream stream) => _stream = stream;

    public override Encoding Encoding { get; } = new UTF8Encoding(false);

    /// <summary>Opens it; a closed standard error is one which takes everything.</summary>
    public static Complaints Open()
    {
        try
        {
            return new Complaints(Console.OpenStandardError());
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return new Complaints(Stream.Null);
        }
    }

    public override void Write(char value) => Write(value.ToString());

    public override void Write(char[] buffer, int index, int count) => Write(new string(buffer, index, count));

    public override void WriteLine(string? value) => Write(value + "\n");

    public override void Write(string? value)
    {
        try
        {
            _stream.Write(Encoding.GetBytes(value ?? ""));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // There is no other place to say so; the exit code tells of failures.
            return;
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _stream.Dispose();
        }

        base.Dispose(disposing);
    }
}

using System.Buffers;
using System.Text;
using System.Text.Json;

namespace FastTrap.Tool.Output;

/// <summary>Where results go: standard output, standard error, or a file. One thread at a time.</summary>
internal sealed class ResultWriter : IDisposable
{
    private readonly StreamWriter _text;
    private readonly ArrayBufferWriter<byte> _buffer = new();
    private readonly Utf8JsonWriter _json;

    private ResultWriter(Stream stream, bool isTerminal)
    {
        _text = new StreamWriter(stream, new UTF8Encoding(false), 65_536);
        _json = new Utf8JsonWriter(_buffer, new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
        IsTerminal = isTerminal;
    }

    /// <summary>Whether a person is looking, so that a table can be redrawn.</summary>
    public bool IsTerminal { get; }

    /// <summary>Opens it: the file if one is given, else standard error for <paramref name="toStandardError"/>, else standard output.</summary>
    public static ResultWriter Open(string? path, bool toStandardError)
    {
        if (path is not null)
        {
            return new ResultWriter(new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.Read), isTerminal: false);
        }

        bool isTerminal = toStandardError ? !Console.IsErrorRedirected : !Console.IsOutputRedirected;

        // Not a FileStream for files: that writes at a position of its own, over what the command has written to the same file.
        Stream? pipe = isTerminal ? null : ResultPipe.TryOpen(toStandardError ? 2 : 1);
        return new ResultWriter(pipe ?? (toStandardError ? Console.OpenStandardError() : Console.OpenStandardOutput()), isTerminal);
    }

    /// <summary>Writes text and an end of line.</summary>
    public void Line(string text = "") => _text.Write(text + "\n");

    /// <summary>Writes text as it is.</summary>
    public void Raw(string text) => _text.Write(text);

    /// <summary>Writes one JSON object as a line.</summary>
    public void Json<TState>(TState state, Action<Utf8JsonWriter, TState> write)
    {
        _buffer.ResetWrittenCount();
        _json.Reset(_buffer);
        _json.WriteStartObject();
        write(_json, state);
        _json.WriteEndObject();
        _json.Flush();
        _text.Write(Encoding.UTF8.GetString(_buffer.WrittenSpan) + "\n");
    }

    public void Flush() => _text.Flush();

    public void Dispose()
    {
        _json.Dispose();
        _text.Dispose();
    }
}

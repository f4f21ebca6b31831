using System.Text;

namespace FastTrap.Tests.TestKit;

/// <summary>Reads lines from a descriptor, never longer than until a deadline. Single reader.</summary>
internal sealed class LineReader(int descriptor) : IDisposable
{
    private readonly byte[] _chunk = new byte[65_536];
    private readonly List<byte> _pending = [];
    private readonly Queue<string> _lines = new();

    public int Descriptor { get; private set; } = descriptor;

    /// <summary>Whether the other end is closed and everything was read.</summary>
    public bool IsAtEnd { get; private set; }

    /// <summary>Whether a line was read from the descriptor already, which is no longer readable for it.</summary>
    public bool HasLine => _lines.Count != 0;

    /// <summary>The next line without its end, null at the end of the stream.</summary>
    /// <exception cref="TimeoutException">Nothing came in time.</exception>
    public string? ReadLine(TimeSpan timeout)
    {
        long end = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
        string? line;
        while (!_lines.TryDequeue(out line))
        {
            if (IsAtEnd)
            {
                return null;
            }

            if (!Posix.WaitReadable(Descriptor, (int)Math.Max(0, end - Environment.TickCount64)))
            {
                throw new TimeoutException($"No line within {timeout.TotalSeconds:0.#} s.");
            }

            Fill();
        }

        return line;
    }

    /// <summary>Takes what can be read now; call when the descriptor is readable.</summary>
    public void Fill()
    {
        int length = Posix.Read(Descriptor, _chunk);
        IsAtEnd = length == 0;
        foreach (byte b in _chunk.AsSpan(0, length))
        {
            if (b == '\n')
            {
                Flush();
            }
            else
            {
                _pending.Add(b);
            }
        }

        if (IsAtEnd && _pending.Count > 0)
        {
            Flush();
        }
    }

    public void Dispose()
    {
        Posix.Close(Descriptor);
        Descriptor = -1;
        IsAtEnd = true;
    }

    private void Flush()
    {
        _lines.Enqueue(Encoding.UTF8.GetString([.. _pending]));
        _pending.Clear();
    }
}

using Microsoft.Win32.SafeHandles;

namespace FastTrap.Tool.Output;

/// <summary>
/// Our own standard stream, where it is a pipe or a socket: the console's stream hides that a reader such as <c>head</c> has gone, and we would run on for
/// nobody.
/// </summary>
internal sealed class ResultPipe : FileStream
{
    /// <summary>Up to this length a pipe takes all or nothing (PIPE_BUF).</summary>
    private const int Whole = 4096;

    private const int WouldBlock = 11;

    private ResultPipe(SafeFileHandle handle)
        : base(handle, FileAccess.Write, bufferSize: 0)
    {
    }

    /// <summary>Opens it; null if the descriptor is a file, or is not open.</summary>
    public static ResultPipe? TryOpen(int descriptor)
    {
        try
        {
            ResultPipe pipe = new(new SafeFileHandle(descriptor, ownsHandle: false));
            if (!pipe.CanSeek)
            {
                return pipe;
            }

            pipe.Dispose();
            return null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException)
        {
            // A closed descriptor is told of by whoever writes to it.
            return null;
        }
    }

    public override void Write(byte[] buffer, int offset, int count)
    {
        while (count > 0)
        {
            int length = Math.Min(count, Whole);
            try
            {
                base.Write(buffer, offset, length);
                offset += length;
                count -= length;
            }
            catch (IOException exception) when ((exception.HResult & 0xffff) == WouldBlock)
            {
                // Somebody else has made our pipe one that does not wait.
                Thread.Sleep(1);
            }
        }
    }
}

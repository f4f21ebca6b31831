using System.Globalization;
using System.Text;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>Writes an archive in the format <c>newc</c>, of which the kernel makes its first file system (<c>Documentation/driver-api/early-userspace/buffer-format.rst</c>).</summary>
internal sealed class CpioArchive(Stream stream)
{
    private const int RegularFile = 0x8000;
    private const int Directory = 0x4000;

    private readonly HashSet<string> _directories = [];
    private int _inode;

    /// <summary>Adds a file, and the directories above it.</summary>
    public void Add(string path, byte[] content, int permissions)
    {
        string[] parts = path.Trim('/').Split('/');
        for (int i = 1; i < parts.Length; i++)
        {
            AddDirectory(string.Join('/', parts[..i]), 0x1ed);
        }

        Write(string.Join('/', parts), RegularFile | permissions, content);
    }

    /// <summary>Adds a directory, once.</summary>
    public void AddDirectory(string path, int permissions)
    {
        if (_directories.Add(path))
        {
            Write(path, Directory | permissions, []);
        }
    }

    /// <summary>Writes the mark of the archive's end.</summary>
    public void Finish() => Write("TRAILER!!!", 0, []);

    private void Write(string name, int mode, byte[] content)
    {
        int[] fields = [++_inode, mode, 0, 0, 1, 0, content.Length, 0, 0, 0, 0, Encoding.UTF8.GetByteCount(name) + 1, 0];
        StringBuilder header = new("070701");
        foreach (int field in fields)
        {
            header.Append(field.ToString("x8", CultureInfo.InvariantCulture));
        }

        stream.Write(Encoding.UTF8.GetBytes($"{header}{name}\0"));
        Pad();
        stream.Write(content);
        Pad();
    }

    private void Pad() => stream.Write(stackalloc byte[(int)(-stream.Position & 3)]);
}

using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>
/// The images of files by identity, shared by all processes that map them. Bounded: the least recently asked-for goes first. It is only
/// let go, never disposed of, since others may still hold it.
/// </summary>
/// <remarks>Any thread; a leaf lock guards the list, and no file is opened or read under it.</remarks>
internal sealed class SymbolCache(int capacity = SymbolCache.DefaultCapacity)
{
    private const int DefaultCapacity = 256;

    private readonly Lock _lock = new();
    private readonly Dictionary<FileIdentity, LinkedListNode<(FileIdentity Identity, ModuleImage Image)>> _entries = [];
    private readonly LinkedList<(FileIdentity Identity, ModuleImage Image)> _recent = new();
    private readonly int _capacity = capacity > 0
        ? capacity
        : throw new ArgumentOutOfRangeException(nameof(capacity), capacity, "must be positive");

    /// <summary>How many images are held.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _entries.Count;
            }
        }
    }

    /// <summary>The image of a file, if it is held.</summary>
    public bool TryGet(FileIdentity identity, out ModuleImage? image)
    {
        lock (_lock)
        {
            if (!_entries.TryGetValue(identity, out LinkedListNode<(FileIdentity, ModuleImage Image)>? node))
            {
                image = null;
                return false;
            }

            _recent.Remove(node);
            _recent.AddFirst(node);
            image = node.Value.Image;
            return true;
        }
    }

    /// <summary>Adds an image, or gives the one which somebody else added first.</summary>
    public ModuleImage GetOrAdd(FileIdentity identity, ModuleImage image)
    {
        lock (_lock)
        {
            if (_entries.TryGetValue(identity, out LinkedListNode<(FileIdentity, ModuleImage Image)>? existing))
            {
                return existing.Value.Image;
            }

            _entries.Add(identity, _recent.AddFirst((identity, image)));
            if (_entries.Count > _capacity)
            {
                _entries.Remove(_recent.Last!.Value.Identity);
                _recent.RemoveLast();
            }

            return image;
        }
    }
}

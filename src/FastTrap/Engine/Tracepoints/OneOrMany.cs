namespace FastTrap.Engine;

/// <summary>No, one or several objects in one word: one needs no array. Replaced as a whole, so that whoever goes through it sees one state.</summary>
internal readonly struct OneOrMany<T>
    where T : class
{
    private readonly object? _items;

    public OneOrMany(T one) => _items = one;

    private OneOrMany(T[] many) => _items = many.Length switch
    {
        0 => null,
        1 => many[0],
        _ => many,
    };

    public bool IsEmpty => _items is null;

    public int Count => _items is T[] many ? many.Length : _items is null ? 0 : 1;

    public OneOrMany<T> With(T item) => _items is null ? new(item) : new([.. ToArray(), item]);

    public OneOrMany<T> Without(T item) => _items is T[] many ? new(Array.FindAll(many, other => other != item)) : ReferenceEquals(_items, item) ? default : this;

    public bool Contains(T item) => ReferenceEquals(_items, item) || (_items is T[] many && Array.IndexOf(many, item) >= 0);

    public bool Exists(Predicate<T> match)
    {
        foreach (T item in this)
        {
            if (match(item))
            {
                return true;
            }
        }

        return false;
    }

    public T[] ToArray() => _items is T[] many ? many : _items is null ? [] : [(T)_items];

    public Enumerator GetEnumerator() => new(_items);

    /// <summary>Goes through what was there when it was made. Allocates nothing.</summary>
    public struct Enumerator
    {
        private readonly T[]? _many;
        private readonly T? _one;
        private readonly int _count;
        private int _index = -1;

        internal Enumerator(object? items)
        {
            _many = items as T[];
            _one = _many is null ? (T?)items : null;
            _count = _many?.Length ?? (items is null ? 0 : 1);
        }

        public readonly T Current => _many is null ? _one! : _many[_index];

        public bool MoveNext() => ++_index < _count;
    }
}

using System.Diagnostics.CodeAnalysis;

namespace FastTrap.Tool.Verbs;

/// <summary>
/// Counts call stacks of one process. Its control thread alone calls <see cref="OnHit"/>; read the results after the enablings have been disposed.
/// </summary>
internal sealed class StackRecorder
{
    /// <summary>More different stacks than this are not kept, only counted.</summary>
    private const int MaximumStacks = 200_000;

    private readonly Dictionary<ulong[], long> _counts = new(StackComparer.Instance);
    private readonly Dictionary<ulong[], long>.AlternateLookup<ReadOnlySpan<ulong>> _lookup;
    private readonly EventOwners _owners = new();
    private readonly ulong[] _frames;

    public StackRecorder(TracedProcess process, int depth)
    {
        Process = process;
        _frames = new ulong[depth];
        _lookup = _counts.GetAlternateLookup<ReadOnlySpan<ulong>>();
    }

    public TracedProcess Process { get; }

    public IReadOnlyDictionary<ulong[], long> Counts => _counts;

    /// <summary>Hits whose stacks were not kept.</summary>
    public long Dropped { get; private set; }

    public void OnHit(in ProbeContext context)
    {
        if (!_owners.IsOwner(context))
        {
            return;
        }

        ReadOnlySpan<ulong> stack = _frames.AsSpan(0, context.GetUserStack(_frames));
        if (_lookup.TryGetValue(stack, out long count))
        {
            _lookup[stack] = count + 1;
        }
        else if (_counts.Count < MaximumStacks)
        {
            _lookup[stack] = 1;
        }
        else
        {
            Dropped++;
        }
    }

    /// <summary>Stacks are equal when all frames are.</summary>
    private sealed class StackComparer : IEqualityComparer<ulong[]>, IAlternateEqualityComparer<ReadOnlySpan<ulong>, ulong[]>
    {
        public static StackComparer Instance { get; } = new();

        public ulong[] Create(ReadOnlySpan<ulong> alternate) => alternate.ToArray();

        public bool Equals(ReadOnlySpan<ulong> alternate, ulong[] other) => alternate.SequenceEqual(other);

        public bool Equals(ulong[]? x, ulong[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(ReadOnlySpan<ulong> alternate)
        {
            HashCode hash = default;
            foreach (ulong frame in alternate)
            {
                hash.Add(frame);
            }

            return hash.ToHashCode();
        }

        public int GetHashCode([DisallowNull] ulong[] obj) => GetHashCode(obj.AsSpan());
    }
}

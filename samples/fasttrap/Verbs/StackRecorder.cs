using System.Diagnostics.CodeAnalysis;
using FastTrap.Tool.Queries;

namespace FastTrap.Tool.Verbs;

/// <summary>Counts call stacks of one process. Thread-safe; what it has counted is read when all records are.</summary>
internal sealed class StackRecorder(TracedProcess process)
{
    /// <summary>More different stacks than this are not kept, only counted.</summary>
    private const int MaximumStacks = 200_000;

    private readonly Dictionary<ulong[], long> _counts = new(StackComparer.Instance);

    /// <summary>Whose hits count: overlapping descriptions, and the names of one function (aliases), all have a hit of their own at the same place, and the first that is seen speaks for the others.</summary>
    private readonly Dictionary<(ulong Function, string Name), (ProbeDescription Description, Probe Probe)> _owners = [];

    public TracedProcess Process { get; } = process;

    public IReadOnlyDictionary<ulong[], long> Counts => _counts;

    /// <summary>Hits whose stacks were not kept.</summary>
    public long Dropped { get; private set; }

    /// <summary>Counts a record.</summary>
    public void Add(QueryResult<ProbeRecords<ulong[]>> query, in ProbeRecord<ulong[]> record)
    {
        lock (_counts)
        {
            (ulong, string) place = (record.Probe.FunctionAddress, record.Probe.Name);
            if (!_owners.TryGetValue(place, out (ProbeDescription Description, Probe Probe) owner))
            {
                _owners.Add(place, owner = (query.Description, record.Probe));
            }

            if (!ReferenceEquals(owner.Description, query.Description) || owner.Probe != record.Probe)
            {
                return;
            }

            if (_counts.TryGetValue(record.Value, out long count) || _counts.Count < MaximumStacks)
            {
                _counts[record.Value] = count + 1;
            }
            else
            {
                Dropped++;
            }
        }
    }

    /// <summary>Stacks are equal when all frames are.</summary>
    private sealed class StackComparer : IEqualityComparer<ulong[]>
    {
        public static StackComparer Instance { get; } = new();

        public bool Equals(ulong[]? x, ulong[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode([DisallowNull] ulong[] obj)
        {
            HashCode hash = default;
            foreach (ulong frame in obj)
            {
                hash.Add(frame);
            }

            return hash.ToHashCode();
        }
    }
}

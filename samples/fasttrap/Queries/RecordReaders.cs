namespace FastTrap.Tool.Queries;

/// <summary>Reads the records of queries, each by a task of its own, until they are disabled.</summary>
/// <param name="take">What is done with a record; false: nobody wants more of this query's. Several tasks.</param>
internal sealed class RecordReaders<T>(Func<QueryResult<ProbeRecords<T>>, ProbeRecord<T>, ValueTask<bool>> take)
{
    /// <summary>Guards itself.</summary>
    private readonly List<Task> _reading = [];
    private long _lost;

    /// <summary>Records that were dropped, because they were not read in time, of queries which have been read to their end.</summary>
    public long Lost => Interlocked.Read(ref _lost);

    /// <summary>Begins to read. Any thread.</summary>
    public void Start(QueryResult<ProbeRecords<T>> query)
    {
        lock (_reading)
        {
            _reading.RemoveAll(task => task.IsCompletedSuccessfully);
            _reading.Add(Task.Run(() => ReadAsync(query)));
        }
    }

    /// <summary>Waits until all is read. The queries are disabled.</summary>
    public Task DrainAsync()
    {
        lock (_reading)
        {
            // A reader ends with its result; none begins any more.
            return Task.WhenAll([.. _reading]);
        }
    }

    private async Task ReadAsync(QueryResult<ProbeRecords<T>> query)
    {
        await foreach (ProbeRecord<T> record in query.Result.ReadAllAsync().ConfigureAwait(false))
        {
            if (!await take(query, record).ConfigureAwait(false))
            {
                return;
            }
        }

        Interlocked.Add(ref _lost, query.Result.LostCount);
    }
}

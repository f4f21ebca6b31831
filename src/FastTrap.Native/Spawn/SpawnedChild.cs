using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>
/// Finds the child that posix_spawn has made and that sleeps in the gate, before posix_spawn has returned its pid. It is a child of this
/// process whose thread is blocked in open of exactly the gate's path; that no other process can be, for the path is private and new.
/// </summary>
internal sealed class SpawnedChild(IPlatform platform, SpawnGate gate, int spawnerThreadId)
{
    private const int RoundsPerFullScan = 16;

    private readonly List<int> _ids = [];
    private readonly SystemCallNumbers _numbers = SystemCallNumbers.Of(RuntimeInformation.ProcessArchitecture);
    private int _rounds;

    /// <summary>One pass. False when the child is not there yet.</summary>
    public bool TryFind(out int processId)
    {
        int self = platform.CurrentProcessId;

        // The kernel may keep a list of each thread's children; not every kernel is built so.
        byte[]? children = platform.ReadProcFile($"/proc/{self}/task/{spawnerThreadId}/children", out _);
        if (children is not null)
        {
            ReadOnlySpan<byte> rest = children;
            while (ProcText.TryTakeWord(ref rest, out ReadOnlySpan<byte> word))
            {
                if (ProcText.TryParse(word, out int id) && IsAtGate(id))
                {
                    processId = id;
                    return true;
                }
            }

            processId = 0;
            return false;
        }

        return TryFindByParent(self, out processId);
    }

    private bool TryFindByParent(int self, out int processId)
    {
        // Ids are given out in ascending order until they wrap around: mostly the child comes soon after its parent thread.
        bool isFull = ++_rounds % RoundsPerFullScan == 0;
        _ = platform.ListProcIds("/proc", _ids);
        foreach (int id in _ids)
        {
            if ((isFull || id > spawnerThreadId)
                && ProcStat.TryRead(platform, id, out ProcStat stat, out _)
                && stat.ParentProcessId == self
                && IsAtGate(id))
            {
                processId = id;
                return true;
            }
        }

        processId = 0;
        return false;
    }

    private bool IsAtGate(int id)
    {
        if (!ProcSystemCall.TryRead(platform, id, id, out ProcSystemCall call, out _) || call.IsRunning)
        {
            return false;
        }

        // openat(directory, path, ...) or open(path, ...), by the C library.
        int pathArgument = call.Number == _numbers.OpenAt ? 1 : call.Number >= 0 && call.Number == _numbers.Open ? 0 : -1;
        if (pathArgument < 0)
        {
            return false;
        }

        byte[] path = new byte[gate.Path.Length];
        return platform.ReadMemory(id, call.GetArgument(pathArgument), path) == path.Length && path.AsSpan().SequenceEqual(gate.Path);
    }
}

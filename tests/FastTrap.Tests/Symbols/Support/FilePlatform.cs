using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Tests.Symbols;

/// <summary>The file methods of the platform by System.IO, with a list of what was opened; everything else is not supported.</summary>
internal sealed class FilePlatform : IPlatform
{
    /// <summary>Paths that stand in for others, so that tests need no root.</summary>
    public Dictionary<string, string> Redirects { get; } = [];

    /// <summary>Paths which may not be opened.</summary>
    public HashSet<string> Denied { get; } = [];

    /// <summary>What was opened with success.</summary>
    public List<string> Opened { get; } = [];

    public Architecture Architecture { get; init; } = RuntimeInformation.ProcessArchitecture;

    public int CurrentThreadId => throw new NotSupportedException();

    public int CurrentProcessId => throw new NotSupportedException();

    public byte[]? ReadProcFile(string path, out Errno error)
    {
        path = Redirects.GetValueOrDefault(path, path);
        bool exists = File.Exists(path);
        error = exists ? Errno.None : Errno.ENOENT;
        return exists ? File.ReadAllBytes(path) : null;
    }

    public string? ReadLink(string path, out Errno error)
    {
        string? target = new FileInfo(path).LinkTarget;
        error = target == null ? Errno.ENOENT : Errno.None;
        return target;
    }

    public Errno OpenFile(string path, out TargetFile? file)
    {
        file = null;
        string real = Redirects.GetValueOrDefault(path, path);
        if (Denied.Any(d => path.StartsWith(d, StringComparison.Ordinal)))
        {
            return Errno.EACCES;
        }

        try
        {
            if (!File.Exists(real))
            {
                return Errno.ENOENT;
            }

            file = new DiskFile(real);
            Opened.Add(path);
            return Errno.None;
        }
        catch (UnauthorizedAccessException)
        {
            return Errno.EACCES;
        }
    }

    public int ListProcIds(string path, List<int> ids)
    {
        ids.AddRange(Directory.EnumerateDirectories(path).Select(d => int.TryParse(Path.GetFileName(d), CultureInfo.InvariantCulture, out int id) ? id : -1));
        return ids.RemoveAll(i => i < 0);
    }

    public Errno MapMemoryFile(int processId, int descriptor, string name, long length, out SharedMemory? memory) => throw new NotSupportedException();

    public Errno ReadClocks(out ClockSample sample) => throw new NotSupportedException();

    public Errno Seize(int threadId, PtraceOptions options) => throw new NotSupportedException();

    public Errno Interrupt(int threadId) => throw new NotSupportedException();

    public Errno Listen(int threadId) => throw new NotSupportedException();

    public Errno Continue(int threadId, int signal) => throw new NotSupportedException();

    public Errno ContinueToSystemCall(int threadId, int signal) => throw new NotSupportedException();

    public Errno SingleStep(int threadId, int signal) => throw new NotSupportedException();

    public Errno Detach(int threadId, int signal) => throw new NotSupportedException();

    public Errno GetRegisters(int threadId, ref RegisterSet registers) => throw new NotSupportedException();

    public Errno SetRegisters(int threadId, in RegisterSet registers) => throw new NotSupportedException();

    public Errno SetChangedRegisters(int threadId, in RegisterSet registers, in RegisterSet current) => throw new NotSupportedException();

    public int GetRegisterSet(int threadId, int noteType, Span<byte> buffer) => throw new NotSupportedException();

    public Errno SetRegisterSet(int threadId, int noteType, ReadOnlySpan<byte> buffer) => throw new NotSupportedException();

    public Errno GetSignalInfo(int threadId, out SignalInfo info) => throw new NotSupportedException();

    public Errno SetSignalInfo(int threadId, in SignalInfo info) => throw new NotSupportedException();

    public Errno GetSignalMask(int threadId, out ulong mask) => throw new NotSupportedException();

    public Errno SetSignalMask(int threadId, ulong mask) => throw new NotSupportedException();

    public Errno GetEventMessage(int threadId, out ulong message) => throw new NotSupportedException();

    public int Wait(int threadId, bool block, out WaitStatus status) => throw new NotSupportedException();

    public int Peek(int threadId, bool block, out WaitStatus status) => throw new NotSupportedException();

    public Errno WakeThread(int threadId) => throw new NotSupportedException();

    public Errno SetAffinity(int threadId, ReadOnlySpan<int> cpus) => throw new NotSupportedException();

    public Errno SetUrgent(bool isUrgent) => throw new NotSupportedException();

    public int ReadMemory(int processId, ulong address, Span<byte> buffer) => throw new NotSupportedException();

    public int WriteMemory(int processId, ulong address, ReadOnlySpan<byte> buffer) => throw new NotSupportedException();

    public void ReadMemoryBatch(int processId, ReadOnlySpan<ulong> addresses, int length, Span<byte> buffer, Span<bool> ok) =>
        throw new NotSupportedException();

    public Errno OpenMemory(int processId, out TargetMemory memory) => throw new NotSupportedException();

    public int WriteCode(TargetMemory memory, ulong address, ReadOnlySpan<byte> code) => throw new NotSupportedException();

    public int ReadCode(TargetMemory memory, ulong address, Span<byte> code) => throw new NotSupportedException();

    public Errno Kill(int processId, int signal) => throw new NotSupportedException();

    public Errno SignalThread(int processId, int threadId, int signal) => throw new NotSupportedException();

    public Errno QueueSignal(int processId, int threadId, in SignalInfo info) => throw new NotSupportedException();

    public Errno OpenProcessDescriptor(int processId, out SafeHandle? descriptor) => throw new NotSupportedException();

    public bool HasEnded(SafeHandle processDescriptor) => throw new NotSupportedException();

    public bool? SharesAddressSpace(int processId, int otherProcessId) => throw new NotSupportedException();

    public Errno SpawnSeized(SpawnRequest request, PtraceOptions options, out int processId) => throw new NotSupportedException();
}

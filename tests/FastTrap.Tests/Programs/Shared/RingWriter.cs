using System.Text;
using FastTrap.Native;
using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>A region of this process alone, and a writer of records that stands for a target's threads.</summary>
internal sealed unsafe class RingWriter : IDisposable
{
    private const string Name = "fasttrap.test";

    public RingWriter(LaneLayout layout)
    {
        fixed (byte* name = Encoding.ASCII.GetBytes(Name + "\0"))
        {
            int descriptor = LibC.memfd_create(name, LibC.MFD_CLOEXEC);
            using Microsoft.Win32.SafeHandles.SafeFileHandle file = new(descriptor, ownsHandle: true);
            Errno error = LinuxPlatform.Instance.MapMemoryFile(Environment.ProcessId, descriptor, Name, layout.Length, out SharedMemory? memory);
            Region = SharedRegion.Over(memory ?? throw new InvalidOperationException($"{error}"), layout, 0, []);
        }
    }

    public SharedRegion Region { get; }

    /// <summary>Reserves a record in a lane; null when there is no room, which is counted as a target would.</summary>
    public byte* Reserve(int lane, int length)
    {
        uint ringLength = (uint)Region.Layout.RingLength;
        ref ulong head = ref Region.Word(lane, LaneLayout.HeadOffset);
        uint at = (uint)head & (ringLength - 1);
        uint filler = at + length > ringLength ? ringLength - at : 0;
        if (head + filler + (ulong)length - Volatile.Read(ref Region.Word(lane, LaneLayout.TailOffset)) > ringLength)
        {
            Region.Word(lane, LaneLayout.DropsOffset)++;
            return null;
        }

        byte* ring = Region.Memory.Start + Region.Layout.LaneOffset(lane) + Region.Layout.RingStart;
        Volatile.Write(ref head, head + filler + (ulong)length);
        if (filler != 0)
        {
            Volatile.Write(ref *(uint*)(ring + at), filler | LaneLayout.FillerFlag);
        }

        byte* record = ring + (filler != 0 ? 0 : at);
        Volatile.Write(ref *(uint*)record, (uint)length | LaneLayout.BusyFlag);
        return record;
    }

    /// <summary>Completes a record.</summary>
    public static void Commit(byte* record, uint site, ulong time, params ReadOnlySpan<ulong> fields)
    {
        *(uint*)(record + LaneLayout.RecordSiteOffset) = site;
        *(ulong*)(record + LaneLayout.RecordTimeOffset) = time;
        *(int*)(record + LaneLayout.RecordThreadOffset) = 1;
        *(uint*)(record + LaneLayout.RecordCpuOffset) = LaneLayout.UnknownCpu;
        fields.CopyTo(new Span<ulong>(record + LaneLayout.RecordHeaderLength, fields.Length));
        Volatile.Write(ref *(uint*)record, (uint)LaneLayout.RecordLength(fields.Length, false));
    }

    /// <summary>A whole record; false when there is no room.</summary>
    public bool TryWrite(int lane, uint site, ulong time, params ReadOnlySpan<ulong> fields)
    {
        byte* record = Reserve(lane, LaneLayout.RecordLength(fields.Length, false));
        if (record == null)
        {
            return false;
        }

        Commit(record, site, time, fields);
        return true;
    }

    public void Dispose() => Region.Dispose();
}

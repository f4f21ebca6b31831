using System.Buffers.Binary;

namespace FastTrap.Isa.Arm64;

/// <summary>
/// Finds what lies between a load-exclusive and its store-exclusive: a trap there clears the monitor, so the store fails, the program tries again,
/// and so for ever.
/// </summary>
/// <remarks>An instruction is in a sequence if it can be reached from a load without passing a store or CLREX, and a store can be reached from it likewise.</remarks>
internal static class Arm64ExclusiveSequences
{
    /// <summary>Adds the offsets of those instructions, ascending; not the loads and stores themselves, which are refused always.</summary>
    public static void Find(ReadOnlySpan<byte> code, FunctionScan result)
    {
        int count = code.Length / sizeof(uint);
        bool[] isOpen = new bool[count];
        bool[] leadsToStore = new bool[count];
        bool changed = true;
        while (changed)
        {
            changed = false;
            foreach (int offset in result.InstructionOffsets)
            {
                changed |= Follow(code, offset, count, isOpen, leadsToStore);
            }
        }

        foreach (int offset in result.InstructionOffsets)
        {
            int index = offset / sizeof(uint);
            if (isOpen[index] && leadsToStore[index] && ClassAt(code, index) is not (Arm64Class.StoreExclusive or Arm64Class.LoadExclusive))
            {
                result.ExclusiveOffsets.Add(offset);
            }
        }
    }

    private static bool Follow(ReadOnlySpan<byte> code, int offset, int count, bool[] isOpen, bool[] leadsToStore)
    {
        int index = offset / sizeof(uint);
        Arm64Class @class = ClassAt(code, index);
        bool opens = @class == Arm64Class.LoadExclusive
            || (isOpen[index] && @class is not (Arm64Class.StoreExclusive or Arm64Class.ClearExclusive));
        bool changed = false;
        bool leads = @class == Arm64Class.StoreExclusive;
        Arm64Word word = WordAt(code, index);
        if (Arm64FunctionScanner.FallsThrough(@class) && index + 1 < count)
        {
            Link(index + 1);
        }

        if (Arm64FunctionScanner.TryGetTarget(word, @class, out long distance) && @class != Arm64Class.BranchLink)
        {
            long target = index + (distance / sizeof(uint));
            if (target >= 0 && target < count)
            {
                Link((int)target);
            }
        }

        leads &= @class is not (Arm64Class.LoadExclusive or Arm64Class.ClearExclusive);
        if (leads && !leadsToStore[index])
        {
            leadsToStore[index] = changed = true;
        }

        return changed;

        void Link(int next)
        {
            if (opens && !isOpen[next])
            {
                isOpen[next] = changed = true;
            }

            leads |= leadsToStore[next];
        }
    }

    private static Arm64Word WordAt(ReadOnlySpan<byte> code, int index) => new(BinaryPrimitives.ReadUInt32LittleEndian(code[(index * sizeof(uint))..]));

    private static Arm64Class ClassAt(ReadOnlySpan<byte> code, int index) => Arm64Encodings.Classify(WordAt(code, index));
}

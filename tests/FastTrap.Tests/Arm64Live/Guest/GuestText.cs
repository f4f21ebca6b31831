using System.Globalization;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>Compares the executable memory of a live process of the guest with the files of this machine from which the guest's were copied.</summary>
internal static class GuestText
{
    /// <summary>Fails the test if a byte differs, or if there was nothing to compare.</summary>
    public static void AssertClean(GuestMachine machine, GuestProcess process)
    {
        List<string> differences = [];
        int compared = 0;
        foreach (string line in process.ReadProc("maps").Split('\n'))
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length < 6 || fields[1][2] != 'x' || GuestImage.FindOriginal(fields[5]) is not { } original)
            {
                continue;
            }

            ulong[] range = [.. fields[0].Split('-').Select(f => ulong.Parse(f, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
            int offset = int.Parse(fields[2], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            byte[] file = File.ReadAllBytes(original);
            int length = Math.Min(file.Length - offset, (int)(range[1] - range[0]));
            byte[] memory = new byte[length];
            Assert.That(machine.Platform.ReadMemory(process.ProcessId, range[0], memory), Is.EqualTo(length), line);
            for (int i = 0; i < length; i++)
            {
                if (memory[i] != file[offset + i])
                {
                    differences.Add($"{fields[5]}+{offset + i:x}: {file[offset + i]:x2} in the file, {memory[i]:x2} in memory");
                }
            }

            compared += length;
        }

        Assert.That(compared, Is.Positive, "There was no text to compare.");
        Assert.That(differences, Is.Empty);
    }
}

using System.Net.Sockets;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>A virtual arm64 machine with one processor, booted, and the platform by which its kernel is reached. Ended when disposed, or when the tests end.</summary>
internal sealed class GuestMachine : IDisposable
{
    private readonly PrivateDirectory _directory;
    private readonly TargetProcess _emulator;

    private GuestMachine(PrivateDirectory directory, TargetProcess emulator, GuestLink link)
    {
        _directory = directory;
        _emulator = emulator;
        Link = link;
        Platform = new GuestPlatform(link);
    }

    public GuestLink Link { get; }

    public GuestPlatform Platform { get; }

    /// <summary>What the guest's kernel and the proxy have said.</summary>
    public string Console => File.Exists(_directory["console"]) ? File.ReadAllText(_directory["console"]) : "";

    /// <summary>Boots a machine.</summary>
    /// <param name="processor">The model, as qemu names it.</param>
    public static GuestMachine Boot(string processor)
    {
        PrivateDirectory directory = new("guest");
        TargetProcess? emulator = null;
        try
        {
            GuestImage.WriteFileSystem(directory["initramfs"]);
            string[] arguments =
            [
                "-M", "virt", "-cpu", processor, "-smp", "1", "-m", "768", "-accel", "tcg", "-kernel", GuestImage.Kernel, "-initrd", directory["initramfs"],
                "-append", "console=ttyAMA0 quiet panic=-1", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot",
                "-serial", $"file:{directory["console"]}", "-device", "virtio-serial-device",
                "-chardev", $"socket,id=port,path={directory["port"]},server=on,wait=off", "-device", "virtserialport,chardev=port,name=fasttrap",
            ];
            emulator = TargetProcess.Start(Command.Find("qemu-system-aarch64")!, arguments);
            GuestMachine machine = new(directory, emulator, Connect(directory["port"], emulator));

            // The first answer comes when the guest is up.
            Assert.That(machine.Platform.CurrentProcessId, Is.Positive);
            return machine;
        }
        catch (Exception e)
        {
            string console = File.Exists(directory["console"]) ? File.ReadAllText(directory["console"]) : "";
            emulator?.Dispose();
            directory.Dispose();
            throw new InvalidOperationException($"The guest did not come up.\n{console}", e);
        }
    }

    public void Dispose()
    {
        Platform.Forget();
        Link.Dispose();
        _emulator.Dispose();
        _directory.Dispose();
    }

    private static GuestLink Connect(string path, TargetProcess emulator)
    {
        while (true)
        {
            try
            {
                return new GuestLink(path);
            }
            catch (SocketException) when (!emulator.TryWaitForExit(TimeSpan.FromMilliseconds(20)))
            {
                // It has not made its socket yet.
                continue;
            }
        }
    }
}

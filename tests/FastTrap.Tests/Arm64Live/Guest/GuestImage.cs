using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>What the guest boots: Debian's arm64 kernel, fetched once per user, and a file system of the proxy, the C library and the targets, all cross-compiled here.</summary>
internal static class GuestImage
{
    private const string Libraries = "/usr/aarch64-linux-gnu/lib";
    private const string Toolchain = "aarch64-linux-gnu-";
    private const int Executable = 0x1ed; // 0755
    private const int Readable = 0x1a4; // 0644

    private static readonly string[] s_libraries = ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6"];
    private static readonly Lazy<string> s_kernel = new(FetchKernel);

    /// <summary>The targets in the guest, below <c>/t/</c>, by name.</summary>
    private static readonly Dictionary<string, (string Source, TargetVariant Variant)> s_targets = new()
    {
        ["runner"] = ("runner", TargetVariant.Default with { Toolchain = Toolchain }),
        ["threads"] = ("threads", TargetVariant.Default with { Toolchain = Toolchain }),
        ["calls"] = ("calls", TargetVariant.Default with { Toolchain = Toolchain }),
        ["calls-O0"] = ("calls", new TargetVariant(TargetLink.Pie, 0, "", Toolchain)),
        ["calls-static"] = ("calls", new TargetVariant(TargetLink.Static, 2, "", Toolchain)),
        ["calls-protected"] = ("calls", new TargetVariant(TargetLink.Pie, 2, Protected, Toolchain)),
        ["forks"] = ("forks", TargetVariant.Default with { Toolchain = Toolchain }),
        ["execs"] = ("execs", TargetVariant.Default with { Toolchain = Toolchain }),
        ["blocked"] = ("blocked", TargetVariant.Default with { Toolchain = Toolchain }),
        ["states"] = ("states", TargetVariant.Default with { Toolchain = Toolchain }),
        ["arm64_instructions"] = ("arm64_instructions", TargetVariant.Default with { Toolchain = Toolchain }),
        ["arm64_sleeps"] = ("arm64_sleeps", TargetVariant.Default with { Toolchain = Toolchain }),
        ["arm64_signals"] = ("arm64_signals", TargetVariant.Default with { Toolchain = Toolchain }),
        ["arm64_special"] = ("arm64_special", TargetVariant.Default with { Toolchain = Toolchain }),
        ["unwinds"] = ("unwinds", new TargetVariant(TargetLink.Pie, 2, "-fexceptions -static-libgcc", Toolchain)),
        ["arm64_usdt"] = ("arm64_usdt", TargetVariant.Default with { Toolchain = Toolchain }),
        ["arm64_sve"] = ("arm64_sve", TargetVariant.Default with { Toolchain = Toolchain }),
        ["arm64_protected"] = ("arm64_protected", new TargetVariant(TargetLink.Pie, 2, Protected, Toolchain)),
    };

    /// <summary>Return addresses are signed, and indirect branches need landing pads; lazy binding would go through a stub that has none.</summary>
    private const string Protected = "-mbranch-protection=standard -Wl,-z,now";

    /// <summary>Why there can be no guest on this machine, or null.</summary>
    public static string? WhyNot()
    {
        (string Program, string Package)[] needs =
            [("qemu-system-aarch64", "qemu-system-arm"), ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"), ("dpkg-deb", "dpkg"), ("apt-get", "apt")];
        foreach ((string program, string package) in needs)
        {
            if (Command.Find(program) is null)
            {
                return $"{program} is not installed (package {package}).";
            }
        }

        if (!File.Exists(Path.Combine(Libraries, "libc.so.6")))
        {
            return $"There is no arm64 C library in {Libraries} (package libc6-dev-arm64-cross).";
        }

        try
        {
            _ = s_kernel.Value;
            return null;
        }
        catch (IOException e)
        {
            return e.Message;
        }
    }

    /// <summary>The kernel's file.</summary>
    public static string Kernel => Path.Combine(s_kernel.Value, "vmlinuz");

    /// <summary>The file of this machine of which a file of the guest is a copy; null if it has none.</summary>
    public static string? FindOriginal(string guestPath)
    {
        string name = Path.GetFileName(guestPath);
        return guestPath.StartsWith("/t/", StringComparison.Ordinal) && s_targets.TryGetValue(name, out var target) ? TargetBuilder.Build(target.Source, target.Variant)
            : guestPath.StartsWith("/lib/", StringComparison.Ordinal) ? Path.Combine(Libraries, name)
            : null;
    }

    /// <summary>Writes the guest's first file system.</summary>
    public static void WriteFileSystem(string path)
    {
        using FileStream stream = File.Create(path);
        CpioArchive archive = new(stream);
        archive.AddDirectory("tmp", 0x3ff);
        archive.AddDirectory("proc", Executable);
        archive.AddDirectory("sys", Executable);
        archive.AddDirectory("dev", Executable);
        archive.Add("/init", File.ReadAllBytes(TargetBuilder.Build("proxy", new TargetVariant(TargetLink.Static, 2, "", Toolchain))), Executable);
        foreach (string module in Directory.GetFiles(Path.Combine(s_kernel.Value, "modules")))
        {
            archive.Add("/modules/" + Path.GetFileName(module), File.ReadAllBytes(module), Readable);
        }

        foreach (string library in s_libraries)
        {
            archive.Add("/lib/" + library, File.ReadAllBytes(Path.Combine(Libraries, library)), Executable);
        }

        foreach ((string name, (string source, TargetVariant variant)) in s_targets)
        {
            archive.Add("/t/" + name, File.ReadAllBytes(TargetBuilder.Build(source, variant)), Executable);
        }

        archive.Finish();
    }

    private static string FetchKernel()
    {
        string directory = Path.Combine(Path.GetTempPath(), $"fasttrap-arm64-{Posix.geteuid()}");
        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        string result = Path.Combine(directory, "kernel");
        if (File.Exists(Path.Combine(result, "vmlinuz")))
        {
            return result;
        }

        string script = Path.Combine(TargetBuilder.SourceDirectory, "fetch-kernel.sh");
        CommandResult outcome = Command.Run("/bin/bash", [script, result], TimeSpan.FromMinutes(3));
        return outcome.ExitCode == 0
            ? result
            : throw new IOException($"The arm64 kernel cannot be fetched from the package sources: {outcome.Error.Trim()}");
    }
}

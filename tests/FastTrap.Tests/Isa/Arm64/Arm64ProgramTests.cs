using System.Runtime.InteropServices;
using FastTrap.Control;
using FastTrap.Native;
using FastTrap.Probes;
using FastTrap.Tests.Symbols;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>Programs for arm64: whom they are for, and the probes of their files.</summary>
[TestFixture]
internal sealed class Arm64ProgramTests
{
    private const string Path = "/usr/aarch64-linux-gnu/lib/libc.so.6";

    [OneTimeSetUp]
    public void RequireLibrary()
    {
        if (!File.Exists(Path))
        {
            Assert.Ignore($"There is no {Path}: eng/needs.sh installs it.");
        }
    }

    [Test]
    public void AKernelForArm64TracesThem() =>
        Assert.That(AttachDiagnosis.ReadArchitecture(Platform(Architecture.Arm64), 42), Is.EqualTo(Architecture.Arm64));

    [Test]
    public void AKernelForX64DoesNot()
    {
        FastTrapException? error = Assert.Throws<FastTrapException>(() => AttachDiagnosis.ReadArchitecture(Platform(Architecture.X64), 42));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.UnsupportedArchitecture));
        Assert.That(error.Message, Does.Contain("an arm64 program").And.Contain("machine of its own kind"));
    }

    [Test]
    public void TheirFilesCanBeListedAnywhere()
    {
        List<ProbeInfo> probes = FileProbes.List(LinuxPlatform.Instance, Path, ProbeDescription.Parse("pid:libc.so.6:strlen:"));
        Assert.That(probes, Is.Not.Empty);
        probes = FileProbes.List(LinuxPlatform.Instance, Path, ProbeDescription.Parse("pid:libc.so.6:malloc:*"));
        Assert.That(probes.Select(p => p.Name), Does.Contain("entry").And.Contain("return").And.Contain("4"));
        Assert.That(probes.Select(p => p.Name), Has.None.EqualTo("2"));
    }

    private static FilePlatform Platform(Architecture architecture) =>
        new() { Architecture = architecture, Redirects = { ["/proc/42/exe"] = Path } };
}

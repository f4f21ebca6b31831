using System.Buffers.Binary;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>Every kernel structure, constant and number of this layer, compared with what a C compiler makes of the headers.</summary>
[TestFixture]
internal sealed unsafe class LayoutTests
{
    private const int NameLength = 56;

    [TestCase("gcc", "x86_64", Architecture.X64)]
    [TestCase("aarch64-linux-gnu-gcc", "aarch64", Architecture.Arm64)]
    [TestCase("gcc", "aarch64", Architecture.Arm64)]
    public void EveryEntryOfTheHeadersIsOurs(string compiler, string machine, Architecture architecture)
    {
        if (!CCompiler.Exists(compiler) || !CCompiler.Run(compiler, ["-dumpmachine"], out _).StartsWith(machine, StringComparison.Ordinal))
        {
            Assert.Ignore($"There is no {compiler} for {machine} here.");
        }

        Dictionary<string, ulong> theirs = ReadTable(compiler);
        Dictionary<string, ulong> ours = Ours(architecture);
        Assert.That(theirs, Has.Count.GreaterThan(150), "the table was found");
        Assert.Multiple(() =>
        {
            foreach ((string name, ulong value) in theirs)
            {
                Assert.That(ours.TryGetValue(name, out ulong our), $"{name} is checked");
                Assert.That(our, Is.EqualTo(value), name);
            }
        });
        Assert.That(LibC.SpawnObjectLength, Is.GreaterThanOrEqualTo((int)theirs["posix_spawnattr_t#"]).And.GreaterThanOrEqualTo((int)theirs["posix_spawn_file_actions_t#"]));
    }

    [Test]
    public void EveryRegisterOfASetIsItsOwnWord()
    {
        RegisterSet x64 = new(Architecture.X64);
        foreach (X64Register register in Enum.GetValues<X64Register>())
        {
            x64[register] = 1000 + (ulong)register;
        }

        Assert.That(x64.Words[..RegisterSet.X64WordCount].ToArray(), Is.EqualTo(Enumerable.Range(1000, 27).Select(static i => (ulong)i)));
        RegisterSet arm64 = new(Architecture.Arm64);
        foreach (Arm64Register register in Enum.GetValues<Arm64Register>())
        {
            arm64[register] = 1000 + (ulong)register;
        }

        Assert.That(arm64.Words.ToArray(), Is.EqualTo(Enumerable.Range(1000, 34).Select(static i => (ulong)i)));
        Assert.That((arm64.StackPointer, arm64.ProgramCounter, arm64[Arm64Register.Pstate]), Is.EqualTo((1031UL, 1032UL, 1033UL)));
        Assert.Throws<InvalidOperationException>(() => _ = x64[Arm64Register.X0]);
    }

    private static Dictionary<string, ulong> ReadTable(string compiler)
    {
        string output = Path.Combine(CCompiler.OutputDirectory(), $"layout-{compiler}.o");
        CCompiler.Compile(compiler, "native_layout.c", output, "-c");
        ReadOnlySpan<byte> bytes = File.ReadAllBytes(output);
        int at = bytes.IndexOf("FASTTRAP-LAYOUT-BEGIN\0"u8);
        Assert.That(at, Is.GreaterThan(0));
        Dictionary<string, ulong> table = [];
        for (at += NameLength + sizeof(ulong); bytes[at] != 0; at += NameLength + sizeof(ulong))
        {
            ReadOnlySpan<byte> name = bytes.Slice(at, NameLength);
            table.Add(Encoding.ASCII.GetString(name[..name.IndexOf((byte)0)]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[(at + NameLength)..]));
        }

        return table;
    }

    private static Dictionary<string, ulong> Ours(Architecture architecture)
    {
        Dictionary<string, ulong> ours = [];
        AddRegisters(ours, architecture);
        AddStructures(ours);
        AddConstants(ours, typeof(PtraceRequest), typeof(LibC), typeof(Signal), typeof(SignalInfo), typeof(RemoteMemoryMap));
        foreach (Errno errno in Enum.GetValues<Errno>())
        {
            ours[errno.ToString()] = (ulong)errno;
        }

        foreach (PtraceOptions option in Enum.GetValues<PtraceOptions>())
        {
            ours[$"PTRACE_O_{option.ToString().ToUpperInvariant()}"] = (ulong)option;
        }

        foreach (PtraceEvent value in Enum.GetValues<PtraceEvent>())
        {
            ours[$"PTRACE_EVENT_{value.ToString().ToUpperInvariant().Replace("VFORKDONE", "VFORK_DONE", StringComparison.Ordinal)}"] = (ulong)value;
        }

        SystemCallNumbers numbers = SystemCallNumbers.Of(architecture);
        foreach (PropertyInfo property in typeof(SystemCallNumbers).GetProperties())
        {
            string name = property.Name == nameof(SystemCallNumbers.RtTgSigQueueInfo) ? "rt_tgsigqueueinfo"
                : property.Name == nameof(SystemCallNumbers.SchedSetAttr) ? "sched_setattr"
                : property.Name == nameof(SystemCallNumbers.SchedGetAttr) ? "sched_getattr"
                : property.Name == nameof(SystemCallNumbers.PidFdOpen) ? "pidfd_open"
                : property.Name == nameof(SystemCallNumbers.MemFdCreate) ? "memfd_create"
                : property.Name.ToLowerInvariant();
            ours[$"SYS_{name}"] = (ulong)(int)property.GetValue(numbers)!;
        }

        return ours;
    }

    private static void AddRegisters(Dictionary<string, ulong> ours, Architecture architecture)
    {
        ours["user_regs_struct#"] = (ulong)new RegisterSet(architecture).Length;
        if (architecture == Architecture.X64)
        {
            foreach (X64Register register in Enum.GetValues<X64Register>())
            {
                string name = register.ToString().ToLowerInvariant()
                    .Replace("origrax", "orig_rax", StringComparison.Ordinal)
                    .Replace("sbase", "s_base", StringComparison.Ordinal);
                Add(ours, $"user_regs_struct.{name}", (ulong)register * sizeof(ulong), sizeof(ulong));
            }

            return;
        }

        Add(ours, "user_regs_struct.regs", (ulong)Arm64Register.X0 * sizeof(ulong), 31 * sizeof(ulong));
        Add(ours, "user_regs_struct.sp", (ulong)Arm64Register.Sp * sizeof(ulong), sizeof(ulong));
        Add(ours, "user_regs_struct.pc", (ulong)Arm64Register.Pc * sizeof(ulong), sizeof(ulong));
        Add(ours, "user_regs_struct.pstate", (ulong)Arm64Register.Pstate * sizeof(ulong), sizeof(ulong));
    }

    private static void AddStructures(Dictionary<string, ulong> ours)
    {
        SignalInfo info;
        ours["siginfo#"] = (ulong)sizeof(SignalInfo);
        ours["siginfo.si_signo"] = Offset(&info, &info.si_signo);
        ours["siginfo.si_errno"] = Offset(&info, &info.si_errno);
        ours["siginfo.si_code"] = Offset(&info, &info.si_code);
        ours["siginfo.si_pid"] = Offset(&info, &info.si_pid);
        ours["siginfo.si_uid"] = Offset(&info, &info.si_uid);
        ours["siginfo.si_addr"] = Offset(&info, &info.si_addr);
        TimeSpec time;
        ours["timespec#"] = (ulong)sizeof(TimeSpec);
        Add(ours, "timespec.tv_sec", Offset(&time, &time.tv_sec), sizeof(long));
        Add(ours, "timespec.tv_nsec", Offset(&time, &time.tv_nsec), sizeof(long));
        SchedulingAttributes attributes;
        ours["sched_attr#"] = (ulong)sizeof(SchedulingAttributes);
        Add(ours, "sched_attr.size", Offset(&attributes, &attributes.size), sizeof(uint));
        Add(ours, "sched_attr.sched_policy", Offset(&attributes, &attributes.sched_policy), sizeof(uint));
        Add(ours, "sched_attr.sched_flags", Offset(&attributes, &attributes.sched_flags), sizeof(ulong));
        Add(ours, "sched_attr.sched_nice", Offset(&attributes, &attributes.sched_nice), sizeof(int));
        Add(ours, "sched_attr.sched_priority", Offset(&attributes, &attributes.sched_priority), sizeof(uint));
        Add(ours, "sched_attr.sched_runtime", Offset(&attributes, &attributes.sched_runtime), sizeof(ulong));
        IoVector vector;
        ours["iovec#"] = (ulong)sizeof(IoVector);
        Add(ours, "iovec.iov_base", Offset(&vector, &vector.iov_base), sizeof(ulong));
        Add(ours, "iovec.iov_len", Offset(&vector, &vector.iov_len), (ulong)sizeof(nuint));
        PollDescriptor poll;
        ours["pollfd#"] = (ulong)sizeof(PollDescriptor);
        Add(ours, "pollfd.fd", Offset(&poll, &poll.fd), sizeof(int));
        Add(ours, "pollfd.events", Offset(&poll, &poll.events), sizeof(short));
        Add(ours, "pollfd.revents", Offset(&poll, &poll.revents), sizeof(short));
        StatX stat;
        ours["statx#"] = (ulong)sizeof(StatX);
        Add(ours, "statx.stx_mode", Offset(&stat, &stat.stx_mode), sizeof(ushort));
        Add(ours, "statx.stx_ino", Offset(&stat, &stat.stx_ino), sizeof(ulong));
        Add(ours, "statx.stx_size", Offset(&stat, &stat.stx_size), sizeof(ulong));
        Add(ours, "statx.stx_dev_major", Offset(&stat, &stat.stx_dev_major), sizeof(uint));
        Add(ours, "statx.stx_dev_minor", Offset(&stat, &stat.stx_dev_minor), sizeof(uint));
        ours["statx.stx_mtime_sec"] = Offset(&stat, &stat.stx_mtime_sec);
        ours["statx.stx_mtime_nsec"] = Offset(&stat, &stat.stx_mtime_nsec);
        DirectoryEntry entry;
        Add(ours, "dirent64.d_reclen", Offset(&entry, &entry.d_reclen), sizeof(ushort));
        ours["dirent64.d_name"] = DirectoryEntry.NameOffset;
        SignalAction action;
        ours["sigaction#"] = (ulong)sizeof(SignalAction);
        ours["sigaction.sa_handler"] = Offset(&action, &action.sa_handler);
        Add(ours, "sigaction.sa_mask", Offset(&action, &action.sa_mask), (ulong)sizeof(SignalSet));
        Add(ours, "sigaction.sa_flags", Offset(&action, &action.sa_flags), sizeof(int));
        Add(ours, "sigaction.sa_restorer", Offset(&action, &action.sa_restorer), (ulong)sizeof(nint));
        ours["sigset_t#"] = (ulong)sizeof(SignalSet);

        // Opaque: the room we give is checked against them instead.
        ours["posix_spawnattr_t#"] = 336;
        ours["posix_spawn_file_actions_t#"] = 80;
    }

    private static void AddConstants(Dictionary<string, ulong> ours, params Type[] types)
    {
        foreach (FieldInfo field in types.SelectMany(static t => t.GetFields(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic)).Where(static f => f.IsLiteral))
        {
            if (field.GetRawConstantValue() is IConvertible value and not string)
            {
                ours[field.Name] = Convert.ToUInt64(value, CultureInfo.InvariantCulture);
            }
        }
    }

    private static void Add(Dictionary<string, ulong> ours, string name, ulong offset, ulong length)
    {
        ours[name] = offset;
        ours[name + "#"] = length;
    }

    private static ulong Offset(void* structure, void* field) => (ulong)((byte*)field - (byte*)structure);
}

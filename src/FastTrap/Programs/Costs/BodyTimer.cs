using System.Runtime.InteropServices;
using FastTrap.Native;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Programs;

/// <summary>
/// What the code of a program costs on this machine: the same code is compiled for memory of the tracer's own, and executed here, between two jumps as in a trampoline, again and again.
/// </summary>
/// <remarks>
/// Any thread. The time is that of hits one behind the other with everything in the caches, the displaced instructions left out; nothing of the target is touched. Records are consumed between two rounds.
/// </remarks>
internal static unsafe class BodyTimer
{
    private const int Rounds = 31;
    private const int HitsOfARound = 64;

    /// <summary>Few, for all are looked through between two rounds.</summary>
    private const int Lanes = 2;

    private const int LineLength = 128;

    /// <summary>Nanoseconds of a hit that passes the conditions; null if it cannot be had.</summary>
    public static double? Time(IPlatform platform, ProbeProgram program, ProgramAction action, ProgramTarget target, ArgumentSources sources)
    {
        if (TickClock.Read(platform) is not { } ticks)
        {
            return null;
        }

        LaneLayout layout = new(target.Layout.CountersLength, target.Layout.RingLength, Lanes);
        void* memory = NativeMemory.AllocZeroed((nuint)(layout.TargetLength + LineLength));
        try
        {
            ulong region = ((ulong)memory + LineLength - 1) & ~(ulong)(LineLength - 1);
            *(byte*)(region + (ulong)layout.GuardOffset) = 1;
            *(int*)(region + LaneLayout.TracerWordOffset) = 1;
            ProgramTarget own = target with
            {
                Layout = layout,
                RegionAddress = region,
                OwnProcessId = platform.CurrentProcessId,
                TracerWord = target.TracerWord is null ? null : region + LaneLayout.TracerWordOffset,
                IsTrial = true,

                // Where the id is in the target, there may be nothing here; the first word is there in any case.
                ThreadIdOffset = target.ThreadIdOffset is null ? null : 0,
            };
            double? time = Time(platform, program, action, own, sources);
            if (program.Filter is not null)
            {
                // The values here may pass the conditions, or not.
                ProbeProgram passing = new(program.Instructions.ToArray(), null, program.Outputs.ToArray());
                time = Time(platform, passing, action, own, sources) is { } always ? Math.Max(always, time ?? 0) : time;
            }

            return time is { } found && Median(platform, own, []) is { } empty ? Math.Max(0, found - empty) * ticks.Multiplier / 4_294_967_296.0 : null;
        }
        finally
        {
            NativeMemory.Free(memory);
        }

        static double? Time(IPlatform platform, ProbeProgram program, ProgramAction action, ProgramTarget own, ArgumentSources sources)
        {
            ProgramCompiler compiler = new(program, action, own);
            if (!compiler.TryCompile(sources, out CompiledBody? body, out _))
            {
                return null;
            }

            List<byte[]> bodies = [Write(body, own)];
            if (action.Kind == ProgramActionKind.Latency)
            {
                // A return without its entry, and an entry without its return, are other work.
                ArgumentSources other = sources.IsReturn ? ArgumentSources.ForEntry(own.Architecture) : ArgumentSources.ForReturn(own.Architecture);
                if (!compiler.TryCompile(other, out body, out _))
                {
                    return null;
                }

                bodies.Insert(sources.IsReturn ? 0 : 1, Write(body, own));
            }

            return Median(platform, own, bodies) / bodies.Count;
        }
    }

    private static byte[] Write(CompiledBody body, ProgramTarget own)
    {
        byte[] code = new byte[body.Length];
        body.Write(code, new BodySite(0, own.RegionAddress, own.RegionAddress));
        return code;
    }

    /// <summary>Ticks of one execution of all bodies.</summary>
    private static double? Median(IPlatform platform, ProgramTarget own, IReadOnlyList<byte[]> bodies)
    {
        ulong[] ticks = new ulong[Rounds];
        if (platform.Execute(Loop(bodies), HitsOfARound, (nint)own.RegionAddress, Consume, ticks) != Errno.None)
        {
            return null;
        }

        Array.Sort(ticks);
        return (double)ticks[Rounds / 2] / HitsOfARound;

        void Consume()
        {
            for (int lane = 0; lane <= own.Layout.LaneCount; lane++)
            {
                ulong* words = (ulong*)(own.RegionAddress + (ulong)own.Layout.LaneOffset(lane));
                words[LaneLayout.TailOffset / sizeof(ulong)] = words[LaneLayout.HeadOffset / sizeof(ulong)];
            }
        }
    }

    /// <summary>A function that executes bodies, each between two jumps, as often as it is told, and returns the ticks. Registers of arguments point to memory that can be read.</summary>
    private static byte[] Loop(IReadOnlyList<byte[]> bodies)
    {
        using MemoryStream code = new();
        Write(code, c =>
        {
            foreach (AssemblerRegister64 register in (AssemblerRegister64[])[rbx, rbp, r12])
            {
                c.push(register);
            }

            c.mov(ebx, edi);
            ReadTicks(c);
            c.mov(r12, rax);
            foreach (AssemblerRegister64 register in (AssemblerRegister64[])[rax, rcx, rdx, rdi, rbp, r8, r9, r10, r11])
            {
                c.mov(register, rsi);
            }
        });
        long again = code.Position;
        ReadOnlySpan<byte> jumpToNext = [0xe9, 0, 0, 0, 0];
        foreach (byte[] body in bodies)
        {
            code.Write(jumpToNext);
            code.Write(body);
            code.Write(jumpToNext);
        }

        ReadOnlySpan<byte> countDown = [0xff, 0xcb, 0x0f, 0x85];
        code.Write(countDown);
        code.Write(BitConverter.GetBytes((int)(again - (code.Position + sizeof(int)))));
        Write(code, c =>
        {
            ReadTicks(c);
            c.sub(rax, r12);
            foreach (AssemblerRegister64 register in (AssemblerRegister64[])[r12, rbp, rbx])
            {
                c.pop(register);
            }

            c.ret();
        });
        return code.ToArray();
    }

    private static void ReadTicks(Assembler c)
    {
        c.lfence();
        c.rdtsc();
        c.shl(rdx, 32);
        c.or(rax, rdx);
    }

    private static void Write(Stream code, Action<Assembler> build)
    {
        Assembler assembler = new(64);
        build(assembler);
        assembler.Assemble(new StreamCodeWriter(code), 0);
    }
}

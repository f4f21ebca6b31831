using FastTrap.Isa;
using FastTrap.Isa.X64;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Sites that stay a trap: their window is the one probed instruction, and they lead for as long as they are armed.</summary>
internal sealed partial class JumpMechanism
{
    /// <summary>What is refused where a program's mechanism cannot be had; nothing if others may do.</summary>
    public static ProbeRefusal RefusalOf(ISiteProgram program) => program.Mechanism switch
    {
        ProbeMechanism.Jump => ProbeRefusal.NotByJump,
        ProbeMechanism.InProcessTrap => ProbeRefusal.NotByInProcessTrap,
        _ => ProbeRefusal.None,
    };

    /// <summary>What all consumers of an instruction are refused with, if none of them can do with another mechanism.</summary>
    private static ProbeRefusal RefusalOf(EnabledProbe[] consumers) =>
        Array.TrueForAll(consumers, c => RefusalOf(c.Enabling.Program!) != ProbeRefusal.None) ? RefusalOf(consumers[0].Enabling.Program!) : ProbeRefusal.None;

    /// <summary>The mechanism that one of the consumers asks for.</summary>
    private static ProbeMechanism WantedOf(EnabledProbe[] consumers) =>
        Array.Find(consumers, c => c.Enabling.Program!.Mechanism != ProbeMechanism.Auto)?.Enabling.Program!.Mechanism ?? ProbeMechanism.Auto;

    /// <summary>A site that leads by a trap, where a jump cannot be had or was not asked for; null with the reason if that cannot be had either.</summary>
    private JumpSite? TryTrap(Tracepoint tracepoint, EnabledProbe[] consumers, IReadOnlyDictionary<ulong, SiteWindow> windows, int expectedSites, ref string reason)
    {
        ProbeMechanism wanted = WantedOf(consumers);
        if (wanted == ProbeMechanism.Jump)
        {
            return null;
        }

        // Of one that could be had by neither the first reason counts.
        string? noJump = wanted == ProbeMechanism.InProcessTrap ? null : reason;
        if (!TryChooseTrap(tracepoint, consumers, windows, noJump, out JumpSite? site, out string noTrap) || !TryBuild(site!, expectedSites, out noTrap))
        {
            reason = noJump ?? noTrap;
            return null;
        }

        return site;
    }

    private bool TryChooseTrap(
        Tracepoint tracepoint, EnabledProbe[] consumers, IReadOnlyDictionary<ulong, SiteWindow> windows, string? noJump, out JumpSite? site, out string reason)
    {
        site = null;
        if (!FiresTogether(tracepoint, consumers, out reason))
        {
            return false;
        }

        if (!windows.TryGetValue(tracepoint.Address, out SiteWindow found) || !found.IsKnown)
        {
            reason = found.Reason ?? "its code was not looked at";
            return false;
        }

        if (_index.FindWindow(tracepoint.Address) is not null || _proc.Process.ControlBreakpoints.Find(tracepoint.Address) is not null || _islandBytes.Contains(tracepoint.Address))
        {
            reason = "another probe lies at its instruction";
            return false;
        }

        if (Guard.Prepare(1) is { } problem)
        {
            reason = $"a handler for traps could not be installed in the program: {problem}";
            return false;
        }

        byte[] original = tracepoint.Instruction.Bytes.ToArray();
        if (IsRepeated(original))
        {
            // It would be gone through step by step: begun anew in its place it would count once more.
            reason = "a signal that finds the repeated instruction half done would wait for its end";
            return false;
        }

        Span<byte> now = stackalloc byte[LongestWindow];
        now = now[..original.Length];
        if (_proc.ReadMemory(tracepoint.Address, now) != now.Length || !now.SequenceEqual(original))
        {
            reason = "its code has changed";
            return false;
        }

        PatchWindow window = new(tracepoint.Address, (byte)original.Length, (byte)original.Length, tracepoint.Address, WindowKind.Trap, 0);
        site = new JumpSite(tracepoint, consumers, window) { Original = original, TrapReason = noJump };
        return true;
    }

    /// <summary>A string instruction with a repeat prefix.</summary>
    private static bool IsRepeated(ReadOnlySpan<byte> code)
    {
        bool hasPrefix = false;
        foreach (byte b in code)
        {
            switch (b)
            {
                case 0xf2 or 0xf3:
                    hasPrefix = true;
                    break;
                case 0x66 or 0x67 or 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65 or (>= 0x40 and <= 0x4f):
                    break;
                default:
                    return hasPrefix && b is (>= 0xa4 and <= 0xa7) or (>= 0xaa and <= 0xaf) or (>= 0x6c and <= 0x6f);
            }
        }

        return false;
    }

    /// <summary>ENDBR64 marks its place, and does nothing else: a nop stands for it elsewhere.</summary>
    public static byte[] WithoutMark(byte[] original) => original is [0xf3, 0x0f, 0x1e, 0xfa] ? [0x0f, 0x1f, 0x40, 0x00] : original;

    private static void TellTraps(JumpSite[] chunk)
    {
        foreach (JumpSite site in chunk)
        {
            if (site is { IsTrap: true, State: JumpState.Leading, Demotion: null })
            {
                foreach (EnabledProbe consumer in site.Consumers)
                {
                    consumer.Enabling.Program!.OnArmed(consumer, site.Tracepoint.Address, ProbeMechanism.InProcessTrap, site.TrapReason);
                }
            }
        }
    }
}

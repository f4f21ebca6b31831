using System.Buffers;
using FastTrap.Control;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>A jump to a trampoline in the target, which runs a compiled program and the displaced instructions: no stop, no system call. x86-64.</summary>
/// <remarks>
/// Scheme: docs/architecture.md, Jump. Everything is changed on the control thread, sites in batches (<see cref="Arm"/>, <see cref="Retire"/>), between whose slices reports are handled. <see cref="Index"/> is
/// published before a byte is written and changed after the last one was restored.
/// </remarks>
internal sealed partial class JumpMechanism : Mechanism
{
    private readonly Proc _proc;
    private readonly IPlatform _platform;
    private readonly TargetMemory _memory;
    private readonly BreakpointMechanism _breakpoint;
    private readonly CodeSpace _code;
    private readonly Journal _journal;
    private readonly JumpText _text;
    private readonly StackScan _stacks;
    private readonly WindowLedger _ledger = new();
    private readonly X64Relocator _relocator = new();
    private readonly ArrayBufferWriter<byte> _bodies = new();
    private readonly Dictionary<Tracepoint, JumpSite> _byTracepoint = [];
    private readonly List<JumpSite> _released = [];
    private readonly List<(TracedTask Task, JumpSite Site)> _waiting = [];
    private readonly List<(TracedTask Task, ulong Address, JumpSite Site)> _held = [];
    private readonly HashSet<JumpSite> _changed = [];
    private readonly HashSet<ulong> _islandBytes = [];
    private readonly List<(ulong Start, ulong Length)> _shared = [];
    private readonly HashSet<HeldWord> _words = [];
    private volatile JumpIndex _index = JumpIndex.Empty;

    public JumpMechanism(Proc proc, TargetMemory memory, BreakpointMechanism breakpoint)
    {
        _proc = proc;
        _platform = proc.Process.Platform;
        _memory = memory;
        _breakpoint = breakpoint;
        _code = new CodeSpace(proc.Process);
        _journal = new Journal(proc.Process);
        Guard = new TrapGuard(proc.Process);
        Traps = new JournaledTraps(proc, _code, _journal, Guard);
        _text = new JumpText(_platform, memory);
        _stacks = new StackScan(_platform, () => Mapped);
    }

    /// <summary>Where sites are. Any thread.</summary>
    public JumpIndex Index => _index;

    /// <summary>Memory in the target: of trampolines, and of programs.</summary>
    public IEnumerable<(ulong Start, ulong Length)> Mapped =>
        [.. Own, .. Adopted.Mapped];

    /// <summary>What of it goes at a detach. Another tracer's stays if it could not be removed whole: the next finds it, with its journal.</summary>
    public IEnumerable<(ulong Start, ulong Length)> ToUnmap => _isLeft ? [] : Own;

    private IEnumerable<(ulong Start, ulong Length)> Own => [.. _code.Mapped, .. _shared, .. Guard.Mapped, .. _cover?.Mapped ?? [], .. _journal.Mapped];

    /// <summary>What leads threads when there is no tracer.</summary>
    public TrapGuard Guard { get; }

    /// <summary>Traps by themselves, which a later tracer is to find.</summary>
    public JournaledTraps Traps { get; }

    /// <summary>Another tracer's, while it is removed.</summary>
    public AdoptedMemory Adopted { get; } = new();

    /// <summary>Whether anything was mapped.</summary>
    public bool IsUsed => _code.Mapped.Count != 0 || !Adopted.IsEmpty;

    /// <summary>Whether there are sites whose end was asked for.</summary>
    public bool HasReleased => _released.Count != 0;

    /// <summary>Whether there are, or may be, threads in code of an enabling.</summary>
    public bool HasSitesOf(ProbeEnabling enabling)
    {
        return IsIn(_index.Sites, enabling) || IsIn(_index.Superseded, enabling);

        static bool IsIn(ReadOnlySpan<JumpSite> sites, ProbeEnabling enabling)
        {
            foreach (JumpSite site in sites)
            {
                foreach (EnabledProbe consumer in site.Consumers)
                {
                    if (consumer.Enabling == enabling)
                    {
                        return true;
                    }
                }
            }

            return false;
        }
    }

    /// <summary>Whether the code for a tracepoint needs the tracer.</summary>
    public static bool NeedsTracer(Tracepoint tracepoint) => Array.Exists(ConsumersOf(tracepoint), c => c.Enabling.Program is { NeedsTracer: true });

    /// <summary>The longest patch; none is written at a tracepoint by itself.</summary>
    public override int PatchLength => PatchWindow.NearLength;

    /// <summary>Memory which a program has in the target, to be unmapped at the detach if it is still there.</summary>
    public void AddShared((ulong Start, ulong Length) area) => _shared.Add(area);

    /// <summary>A word that a program holds, given back with the process at the latest.</summary>
    public void AddWord(HeldWord word) => _words.Add(word);

    public void ReleaseWord(HeldWord word)
    {
        if (_words.Remove(word))
        {
            word.Release();
        }
    }

    public void RemoveShared((ulong Start, ulong Length) area) => _shared.Remove(area);

    /// <summary>Sites are armed in batches.</summary>
    public override bool TryArm(Tracepoint tracepoint, out Errno error)
    {
        error = Errno.EINVAL;
        return false;
    }

    /// <summary>The site's end is asked for: it comes with the next <see cref="Retire"/>.</summary>
    public override Errno Disarm(Tracepoint tracepoint)
    {
        if (_byTracepoint.Remove(tracepoint, out JumpSite? site))
        {
            Release(site);
        }

        return Errno.None;
    }

    /// <summary>A thread whose trap led it into a trampoline has its displaced instructions there.</summary>
    public override Displacement Displace(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers, bool wantsAfter) =>
        throw new InvalidOperationException("A site of the Jump mechanism is not displaced by a trap.");

    /// <summary>Consumers of a tracepoint come or go: with the next <see cref="Retire"/> its site gets another trampoline, or becomes a Breakpoint, and no hit of the others is lost or doubled meanwhile.</summary>
    public void Change(Tracepoint tracepoint)
    {
        if (_byTracepoint.TryGetValue(tracepoint, out JumpSite? site))
        {
            _changed.Add(site);
        }
    }

    /// <summary>Whether one more consumer that insists on a mechanism can have a tracepoint that has others.</summary>
    public bool MayShare(Tracepoint tracepoint, ISiteProgram program) => tracepoint.ArmedBy != _breakpoint && TryFindPrograms(tracepoint, out EnabledProbe[] consumers, out _)
        && WantedOf(consumers) is var wanted && (wanted == ProbeMechanism.Auto || wanted == program.Mechanism)
        && (!_byTracepoint.TryGetValue(tracepoint, out JumpSite? site) || site.IsTrap == (program.Mechanism == ProbeMechanism.InProcessTrap));

    /// <summary>The site in whose window an instruction is to get a trap becomes a Breakpoint with the next <see cref="Retire"/>.</summary>
    public void ConvertAround(Tracepoint tracepoint)
    {
        if (_index.FindWindow(tracepoint.Address) is { State: not JumpState.Gone } site && site.Tracepoint != tracepoint)
        {
            site.Demotion ??= "another probe lies in its window";
            Release(site);
        }
    }

    public bool Contains(ulong address) => _code.Contains(address) || Adopted.Contains(address) || Guard.Contains(address) || (_islandBytes.Contains(address) && _index.TryFindOutOfLine(address, out _));

    /// <summary>A trap at the first byte of a window sends the thread into the trampoline. No lock, no allocation.</summary>
    public bool TryLead(TracedTask task, ref RegisterSet registers, ulong trapAddress)
    {
        if (!task.StoppedByTrapInstruction || FindLeading(trapAddress) is not { } site)
        {
            return false;
        }

        registers.ProgramCounter = WayFrom(site);
        if (site.State == JumpState.Leaving)
        {
            Hold(task, registers.ProgramCounter, site);
        }

        return true;
    }

    /// <summary>Where the guard leads from a trap, of a window or by itself; 0: nowhere.</summary>
    public ulong FindWayFrom(ulong trapAddress) => FindLeading(trapAddress) is { } site ? WayFrom(site) : Traps.FindCopy(trapAddress);

    private JumpSite? FindLeading(ulong trapAddress) =>
        _index.FindStart(trapAddress) is { State: JumpState.Leading or JumpState.Armed or JumpState.Leaving } site && !(site.IsBypassed && site.Tracepoint.Address == site.Start) ? site : null;

    /// <summary>Who comes to one that is being left was not counted: by the trap in front of the window, if there is one, it is then.</summary>
    private static ulong WayFrom(JumpSite site) =>
        site.State != JumpState.Leaving ? site.Code!.Address : site.IsCountedInFront ? site.Tracepoint.Address : site.Start;

    /// <summary>A thread that was counted at a tracepoint in front of its window does not come to the window's trap, where it would be counted again.</summary>
    public bool TryBypass(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers)
    {
        if (_released.Count == 0 || !_byTracepoint.TryGetValue(tracepoint, out JumpSite? site) || !site.IsCountedInFront
            || site.State is not (JumpState.Leading or JumpState.Leaving))
        {
            return false;
        }

        if (site.State == JumpState.Leaving)
        {
            // What is between the two is ENDBR64, which does nothing.
            registers.ProgramCounter = site.Start;
            Hold(task, registers.ProgramCounter, site);
            return true;
        }

        registers.ProgramCounter = site.Code!.BehindBody;
        return true;
    }

    /// <summary>A library was unmapped, with what stood in it.</summary>
    public void OnUnmapped(ulong start, ulong length)
    {
        Traps.Forget(start, length);
        if (_index.Count == 0)
        {
            return;
        }

        HashSet<JumpSite> gone = [];
        foreach (JumpSite site in _index.Sites)
        {
            if (site.Start - start < length && site.State != JumpState.Gone)
            {
                gone.Add(site);
            }
        }

        foreach (JumpSite site in gone)
        {
            // Who was in its trampoline was in the library; the memory waits for the next look.
            site.State = JumpState.Gone;
            _byTracepoint.Remove(site.Tracepoint);
            _ledger.Add(site);
            Guard.Retire(site.Start);
            Release(site);
        }
    }

    /// <summary>Removes what another tracer has left (<see cref="Cleaning.Run"/>).</summary>
    public IEnumerator<bool> Clean(Leftovers left, CleaningResult result) => new Cleaning(_proc, this, _memory, _stacks, left).Run(result);

    /// <summary>Sites that another tracer has left are as one's own, of which the end was asked for.</summary>
    public void Adopt(JumpSite[] sites)
    {
        foreach (JumpSite site in sites)
        {
            Release(site);
        }

        AdoptAgain(sites);
    }

    /// <summary>Retired ones are known again, for who comes back to a trampoline from a signal handler.</summary>
    public void AdoptAgain(JumpSite[] sites)
    {
        foreach (JumpSite site in sites.Where(s => s.Window.Island != 0))
        {
            _islandBytes.Add(site.Window.Island);
        }

        Publish(_index.With(sites));
    }

    /// <summary>Nobody is in their trampolines, or they stay as they are.</summary>
    public void Disown(JumpSite[] sites)
    {
        foreach (JumpSite site in sites)
        {
            site.IsFreed = true;
            _islandBytes.Remove(site.Window.Island);
        }

        Sweep();
    }

    /// <summary>Whether the jump of a site is where it was written.</summary>
    public bool IsPresent(Tracepoint tracepoint)
    {
        if (!_byTracepoint.TryGetValue(tracepoint, out JumpSite? site))
        {
            return false;
        }

        Span<byte> now = stackalloc byte[site.PatchLength];
        return _platform.ReadCode(_memory, site.Start, now) == now.Length && JumpText.IsOurs(site, now);
    }

    /// <summary>The originals, at once, whoever runs. Any thread; no book is kept.</summary>
    public void RestoreBytes()
    {
        foreach (JumpSite site in _index.Sites)
        {
            if (site.State is JumpState.Leading or JumpState.Armed or JumpState.Leaving)
            {
                _ = JumpText.Restore(_platform, _memory, site);
            }
        }
    }

    /// <summary>Whether a trap stands at an address, to stay or for a moment, by which threads are led.</summary>
    public bool IsTrapAt(ulong address) => _index.FindStart(address) is { State: JumpState.Leading or JumpState.Leaving };

    /// <summary>The text of a fork child.</summary>
    public void CleanForkChild(TargetMemory child, int childProcessId) => _ledger.Clean(_platform, child, childProcessId, _index, _proc.Core.Logger);

    public bool HasInherited => _index.Count != 0 || !_ledger.IsEmpty;

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        foreach (JumpSite site in _index.Sites)
        {
            site.State = JumpState.Gone;
        }

        Publish(JumpIndex.Empty);
        _proc.Process.LeadsTraps = false;
        _byTracepoint.Clear();
        _released.Clear();
        _changed.Clear();
        _waiting.Clear();
        _held.Clear();
        _islandBytes.Clear();
        _shared.Clear();
        foreach (HeldWord word in _words)
        {
            word.Release();
        }

        _words.Clear();
        _code.Forget();
        _journal.Forget();
        Traps.Forget();
        Guard.Forget();
        _cover?.Forget();
    }

    /// <summary>Whether a thread has executed a trap whose signal it has not got yet.</summary>
    public bool IsBehindTrap(TracedTask task, in RegisterSet registers) => PendingTrap.IsBehind(_platform, task.ThreadId, in registers);

    /// <summary>Whether a thread waits for the first byte of a window: where it goes on is known.</summary>
    public bool IsHeld(TracedTask task) => _held.Exists(h => h.Task == task);

    /// <summary>It waits until the first byte of a window is back, to go on at an address.</summary>
    private void Hold(TracedTask task, ulong address, JumpSite site)
    {
        task.Hold();
        _held.Add((task, address, site));
    }

    private void Publish(JumpIndex index)
    {
        bool leads = index.Count != 0;
        if (leads && _proc.IsGone)
        {
            // There is no text that it could be of.
            return;
        }

        if (leads)
        {
            // From here on: of traps that were removed there may be reports still.
            _proc.Process.LeadsTraps = true;
        }

        _index = index;
    }

    /// <summary>Publishes what is made of the index, and of so many sites more: while reports are handled, if they are many.</summary>
    private void PublishMade(int more, Func<JumpIndex, JumpIndex> make)
    {
        JumpIndex former = _index;
        JumpIndex made = _proc.Process.Thread.Make(_proc.Process, former.Count + more, () => make(former));
        Publish(ReferenceEquals(former, _index) ? made : make(_index));
    }

    private void Release(JumpSite site)
    {
        if (!site.IsReleased)
        {
            site.IsReleased = true;
            _released.Add(site);
        }
    }
}

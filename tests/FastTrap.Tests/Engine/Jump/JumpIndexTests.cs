using FastTrap.Engine.Mechanisms;
using FastTrap.Isa.X64;

namespace FastTrap.Tests.Engine;

/// <summary>The index of sites against a list of them, while sites come, are superseded and go.</summary>
[TestFixture]
public sealed class JumpIndexTests
{
    private const ulong Text = 0x7fff_f7dd_0000;
    private const ulong Trampolines = 0x7fff_e000_0000;
    private const int WindowLength = 8;
    private const int TrampolineLength = 48;
    private const int Places = 400;

    private readonly List<JumpSite> _sites = [];
    private JumpIndex _index = JumpIndex.Empty;
    private ulong _next = Trampolines;

    [Test]
    public void FindsWhatAListFinds([Range(1, 4)] int seed)
    {
        Random random = new(seed);
        _sites.Clear();
        _index = JumpIndex.Empty;
        for (int round = 0; round < 12; round++)
        {
            int[] free = [.. Enumerable.Range(0, Places).Where(p => !_sites.Exists(s => s.Start == At(p)))];
            random.Shuffle(free);
            Add([.. free.Take(random.Next(60)).Select(p => Make(At(p), random.Next(4) == 0))], supersede: false);
            Check();
            JumpSite[] former = [.. Windows().Where(_ => random.Next(6) == 0)];
            foreach (JumpSite site in former)
            {
                site.State = JumpState.Superseded;
            }

            Add([.. former.Select(f => Make(f.Start, f.Window.Island != 0))], supersede: true);
            Check();
            foreach (JumpSite site in _sites.Where(s => random.Next(3) == 0))
            {
                site.IsFreed = true;
                site.State = site.State == JumpState.Superseded ? site.State : JumpState.Gone;
            }

            _sites.RemoveAll(s => s.IsFreed);
            _index = _index.WithoutFreed();
            Check();
        }
    }

    private static ulong At(int place) => Text + ((ulong)place * 16);

    private IEnumerable<JumpSite> Windows() => _sites.Where(s => s.State != JumpState.Superseded);

    private void Add(JumpSite[] sites, bool supersede)
    {
        _sites.AddRange(sites);
        _index = _index.With(sites, supersede);
    }

    private JumpSite Make(ulong start, bool hasIsland)
    {
        PatchWindow window = new(start, WindowLength, WindowLength, start, hasIsland ? WindowKind.Short : WindowKind.Near, hasIsland ? start + 9 : 0);
        JumpSite site = JumpSite.Adopt(window, new Trampoline(_next, TrampolineLength, [], default));
        site.State = JumpState.Armed;
        _next += 64;
        return site;
    }

    private void Check()
    {
        Assert.That(_index.Sites.ToArray(), Is.EqualTo(Windows().OrderBy(s => s.Start)));
        Assert.That(_index.Superseded.ToArray(), Is.EquivalentTo(_sites.Except(Windows())));
        for (ulong address = Text - 1; address < At(Places) + 16; address++)
        {
            JumpSite? window = Windows().FirstOrDefault(s => address - s.Start < WindowLength);
            if (_index.FindWindow(address) != window || _index.FindStart(address) != (window?.Start == address ? window : null))
            {
                Assert.Fail($"the window at {address:x}");
            }

            JumpSite? island = Windows().FirstOrDefault(s => s.Window.Island == address);
            if ((_index.TryFindOutOfLine(address, out JumpSite? over) ? over : null) != island)
            {
                Assert.Fail($"the island at {address:x}");
            }
        }

        foreach (JumpSite site in _sites)
        {
            foreach (ulong offset in (ulong[])[0, TrampolineLength - 1, TrampolineLength])
            {
                JumpSite? expected = offset == TrampolineLength ? null : site;
                Assert.That(_index.TryFindOutOfLine(site.Code!.Address + offset, out JumpSite? found) ? found : null, Is.SameAs(expected));
            }
        }
    }
}

using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>Finds the windows of probes, in the flow of the files that their modules are loaded from. One thread.</summary>
internal sealed class WindowFinder(ModuleMap modules)
{
    private readonly Dictionary<Module, (CodeFlow? Flow, WindowClaims? Claims, string? Reason)> _flows = [];

    /// <summary>The specification with the windows of its instructions, or with the reasons why there are none.</summary>
    public ProbeSpec Find(ProbeSpec spec) => spec with { Windows = Array.ConvertAll(spec.Instructions, Find) };

    private SiteWindow Find(DisplacedInstruction instruction)
    {
        if (modules.Find(instruction.Address) is not { } module)
        {
            return new SiteWindow(default, [], "its module is not known", IsKnown: false);
        }

        if (!_flows.TryGetValue(module, out (CodeFlow? Flow, WindowClaims? Claims, string? Reason) known))
        {
            known = Read(module);
            _flows.Add(module, known);
        }

        if (known.Flow is not { } flow)
        {
            return new SiteWindow(default, [], known.Reason, IsKnown: false);
        }

        if (!flow.TryFindWindow(instruction.Address - module.LoadBias, known.Claims, out PatchWindow window, out WindowRefusal refusal))
        {
            return new SiteWindow(default, [], refusal.Describe());
        }

        known.Claims!.Add(window);
        int length = Math.Max(window.CodeLength, window.PatchLength);
        byte[] original = flow.Code.Slice((int)(window.Start - flow.Address), length).ToArray();
        return new SiteWindow(window.Rebase(module.LoadBias), original, null);
    }

    private static (CodeFlow? Flow, WindowClaims? Claims, string? Reason) Read(Module module)
    {
        if (module.IsJit || !module.TryGetImage(out ModuleImage image, out _))
        {
            return (null, null, "its code is in no file that could be analysed");
        }

        if (image.Elf.TryGetSection(".gopclntab"u8, out _))
        {
            return (null, null, "its runtime makes goroutines return to any instruction");
        }

        try
        {
            return (image.Flow, new WindowClaims(image.Flow), null);
        }
        catch (ElfFormatException exception)
        {
            return (null, null, $"its file cannot be analysed: {exception.Message}");
        }
    }
}

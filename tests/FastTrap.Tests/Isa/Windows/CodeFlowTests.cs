using System.Globalization;
using System.Text.RegularExpressions;
using FastTrap.Isa.X64;
using FastTrap.Symbols;
using FastTrap.Tests.Isa.Differential;
using FastTrap.Tests.Symbols;
using FastTrap.Tests.TestKit;
using Iced.Intel;
using NUnit.Framework;
using SystemTool = FastTrap.Tests.Symbols.Tool;

namespace FastTrap.Tests.Isa.Windows;

/// <summary>Where control may come from, against decoders and compilers of others.</summary>
[TestFixture, Parallelizable]
internal sealed partial class CodeFlowTests
{
    private const string Libc = "/lib/x86_64-linux-gnu/libc.so.6";

    [Test]
    public unsafe void ShapesAreIceds()
    {
        X64ShapeDecoder shapes = new();
        List<string> wrong = [];
        byte[] bytes = new byte[X64ShapeDecoder.Lookahead];
        Random random = new(7);
        int compared = 0;
        foreach (InstructionTemplate template in InstructionTemplates.All.Values)
        {
            for (int i = 0; i < 60; i++)
            {
                random.NextBytes(bytes);
                template.Bytes.AsSpan(0, template.ModRmOffset).CopyTo(bytes);
                if (i == 0)
                {
                    template.Bytes.CopyTo(bytes, 0);
                }

                Decoder decoder = Decoder.Create(64, bytes, 0x1000);
                Instruction instruction = decoder.Decode();
                if (instruction.IsInvalid)
                {
                    continue;
                }

                compared++;
                X64Shape shape;
                fixed (byte* code = bytes)
                {
                    shapes.Decode(code, out shape);
                }

                if (!Agree(instruction, shape, bytes))
                {
                    wrong.Add($"{instruction.Code} {Convert.ToHexString(bytes.AsSpan(0, instruction.Length))}: {shape.Flow} {shape.Length}");
                }
            }
        }

        Assert.That(compared, Is.GreaterThan(50_000));
        Assert.That(wrong.DistinctBy(w => w.Split(' ')[0]).Take(30), Is.Empty, $"{wrong.Count} of {compared}");
    }

    [Test]
    public void NoWindowContainsWhatObjdumpSeesAsTarget()
    {
        if (!File.Exists(Libc))
        {
            Assert.Ignore($"{Libc} is not on this machine.");
        }

        using ElfFile elf = ElfFile.Open(new DiskFile(Libc), Libc);
        ModuleImage image = new(elf, new DebugFileLocator(new FilePlatform(), "", Libc));
        CodeFlow flow = ModuleFlow.Read(image);
        HashSet<ulong> starts = [];
        HashSet<ulong> targets = [];
        bool afterCall = false;
        foreach ((ulong address, string text) in new NativeText(Libc).Disassemble(flow.Address, flow.Address + (ulong)flow.Length))
        {
            starts.Add(address);
            if (afterCall)
            {
                targets.Add(address);
            }

            Match match = Branch().Match(text);
            if (match.Success)
            {
                targets.Add(ulong.Parse(match.Groups["target"].ValueSpan, NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            }

            afterCall = text.Contains("call ", StringComparison.Ordinal);
        }

        Assert.That(targets, Has.Count.GreaterThan(40_000));
        List<string> wrong = [];
        int windows = 0;
        int islands = 0;
        for (int at = flow.Starts.Next(0, flow.Length); at < flow.Length; at = flow.Starts.Next(at + 1, flow.Length))
        {
            ulong address = flow.Address + (ulong)at;
            if (!flow.TryFindWindow(address, null, out PatchWindow window, out _))
            {
                continue;
            }

            windows++;
            bool hits = Enumerable.Range(1, window.Length - 1).Any(i => targets.Contains(window.Start + (ulong)i));
            bool cuts = !starts.Contains(window.Start) || (!starts.Contains(window.CodeEnd) && !flow.Padding[(int)(window.CodeEnd - flow.Address)]);
            if (window.Kind == WindowKind.Short)
            {
                islands++;
                hits |= Enumerable.Range(0, PatchWindow.NearLength).Any(i => targets.Contains(window.Island + (ulong)i) || image.Symbols.FindAt(window.Island + (ulong)i) >= 0);
            }

            if (hits || cuts)
            {
                wrong.Add($"{address:x}: {window}");
            }
        }

        TestContext.Out.WriteLine($"{windows} windows, {islands} with islands; {targets.Count} targets");
        Assert.That(windows, Is.GreaterThan(250_000));
        Assert.That(islands, Is.GreaterThan(100));
        Assert.That(wrong.Take(20), Is.Empty, $"{wrong.Count} of {windows}");
    }

    /// <summary>The compiler's own list: its assembler output names all labels, of handlers, of tables and of jumps, and the assembler can be told to keep them.</summary>
    [Test]
    public void TheCompilersLabelsAreTargets([Values("-fcf-protection=none", "-fcf-protection=full")] string protection, [Values(0, 2, 3)] int optimization)
    {
        using PrivateDirectory directory = new("labels");
        string assembly = directory["windows.s"];
        string library = directory["windows.so"];
        string source = Path.Combine(TargetBuilder.SourceDirectory, "windows.cpp");
        SystemTool.Run("g++", $"-O{optimization}", protection, "-fPIC", "-S", "-o", assembly, source);
        SystemTool.Run("g++", "-shared", "-Wa,--keep-locals", "-Wl,--discard-none", "-o", library, assembly);
        string text = File.ReadAllText(assembly);
        Dictionary<string, ulong> labels = [];
        foreach (string line in SystemTool.Run("nm", library).Split('\n'))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length == 3 && words[2].StartsWith(".L", StringComparison.Ordinal))
            {
                labels[words[2]] = ulong.Parse(words[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            }
        }

        using ElfFile elf = ElfFile.Open(new DiskFile(library), library);
        ModuleImage image = new(elf);
        CodeFlow flow = ModuleFlow.Read(image);
        string[] pads = [.. Handler().Matches(text).Select(m => m.Groups["pad"].Value).Distinct()];
        string[] entries = [.. TableEntry().Matches(text).Select(m => m.Groups["label"].Value).Distinct().Where(l => labels.ContainsKey(l) && flow.IsInstruction(labels[l]))];
        string[] jumps = [.. LabelJump().Matches(text).Select(m => m.Groups["label"].Value).Distinct()];
        Assert.That(pads, Has.Length.GreaterThan(2));
        Assert.That(entries, Has.Length.GreaterThan(10));
        Assert.That(jumps, Has.Length.GreaterThan(10));
        List<ulong> read = [];
        List<ulong> unreadable = [];
        LandingPads.Read(elf, image.Unwind, read, unreadable);
        Assert.That(unreadable, Is.Empty);
        Assert.That(pads.Select(p => labels[p]), Is.SubsetOf(read));
        Assert.That(((string[])[.. pads, .. entries, .. jumps]).Where(l => !flow.IsTarget(labels[l])), Is.Empty);
        Assert.That(flow.UnknownJumps, Is.Zero);
    }

    private static bool Agree(in Instruction instruction, in X64Shape shape, byte[] bytes)
    {
        if (shape.Flow == X64Flow.Bad)
        {
            // Refusing more than Iced does costs windows only: far transfers, branches whose target is cut, instructions that no compiler emits.
            return instruction.FlowControl is not FlowControl.Next || instruction.Op0Kind is OpKind.FarBranch32 or OpKind.FarBranch16
                || instruction.Encoding is EncodingKind.XOP or EncodingKind.D3NOW || instruction.IsPrivileged || IsRare(instruction);
        }

        bool flows = instruction.FlowControl switch
        {
            FlowControl.UnconditionalBranch => shape.Flow == X64Flow.Jump,
            FlowControl.ConditionalBranch => shape.Flow == X64Flow.Branch,
            FlowControl.Return => shape.Flow == X64Flow.Return || instruction.Mnemonic != Mnemonic.Ret,
            FlowControl.IndirectBranch => shape.Flow == X64Flow.IndirectJump,
            FlowControl.IndirectCall => shape.Flow == X64Flow.IndirectCall,
            FlowControl.Call => shape.Flow == X64Flow.Call || !instruction.IsCallNear,
            FlowControl.Exception => shape.Flow == X64Flow.Stop,
            _ => shape.Flow is X64Flow.Next or X64Flow.Filler or X64Flow.BranchTarget || instruction.Mnemonic is Mnemonic.Hlt or Mnemonic.Xbegin,
        };
        if (instruction.Mnemonic == Mnemonic.Xbegin && shape.RelativeLength != 4)
        {
            return false;
        }

        if (shape.RelativeLength != 0 && instruction.Op0Kind is OpKind.NearBranch64)
        {
            int relative = shape.RelativeLength == 1 ? (sbyte)bytes[shape.Length - 1] : BitConverter.ToInt32(bytes, shape.Length - 4);
            flows &= instruction.NearBranchTarget == (ulong)(0x1000 + shape.Length + relative);
        }

        if (instruction.IsIPRelativeMemoryOperand && instruction.MemoryBase == Register.RIP)
        {
            flows &= shape.RipOffset != 0
                && instruction.IPRelativeMemoryAddress == unchecked(0x1000 + (ulong)shape.Length + (ulong)BitConverter.ToInt32(bytes, shape.RipOffset))
                && shape.TakesAddress == (instruction.Mnemonic == Mnemonic.Lea);
        }

        return flows && shape.Length == instruction.Length;
    }

    private static bool IsRare(in Instruction instruction) => instruction.Mnemonic.ToString() is var name
        && (name.StartsWith('X') || name.StartsWith("Vmptr", StringComparison.Ordinal) || name is "Extrq" or "Insertq" or "Vmread" or "Vmwrite" || name.Contains("Ccs", StringComparison.Ordinal) || name.StartsWith("Mont", StringComparison.Ordinal)
            || name == "Undoc");

    [GeneratedRegex(@"\b(j[a-z]+|call|loop[a-z]*|xbegin)(,p[nt])?\s+(?<target>[0-9a-f]+) <")]
    private static partial Regex Branch();

    /// <summary>A call site's third number: <c>.uleb128 .L12-.LFB3</c> behind its start and its length.</summary>
    [GeneratedRegex(@"\.uleb128 \.LEHB\d+-\S+\s+\.uleb128 \.LEHE\d+-\S+\s+\.uleb128 (?<pad>\.L\d+)-")]
    private static partial Regex Handler();

    [GeneratedRegex(@"\.(long|quad)\s+(?<label>\.L\d+)(-\.L\d+)?\s")]
    private static partial Regex TableEntry();

    [GeneratedRegex(@"\tj[a-z]+\s+(?<label>\.L\d+)\s")]
    private static partial Regex LabelJump();
}

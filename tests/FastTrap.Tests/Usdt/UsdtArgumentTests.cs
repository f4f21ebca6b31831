using System.Runtime.InteropServices;
using FastTrap.Symbols;
using FastTrap.Tests.Symbols;
using FastTrap.Tests.TestKit;
using FastTrap.Usdt;

namespace FastTrap.Tests.Usdt;

/// <summary>The grammar of argument strings, evaluated against a set of registers in which everything tells what it is.</summary>
[TestFixture, Parallelizable]
public sealed class UsdtArgumentTests
{
    private static readonly string[] s_unreadable =
    [
        "@", "8@", "4@%", "4@%foo", "8@%st", "8@%mm0", "8@%xmm16", "16@%xmm99", "16@%rax", "32@%xmm1", "3@%rax", "0@%rax", "64@%rax", "-5@$1", "2f@%rax", "8@$", "8@$x", "8@%rax)",
        "8@(", "8@()", "8@)(", "8@(%rax", "8@(%rax,%rbx,3)", "8@(%rax,%rbx,8,1)", "8@(%rax,%rsp,1)", "8@(rax)", "8@(%ax)", "8@%zs:(%rax)", "8@%fs:", "8@1+", "8@--", "8@sym-sym(%rip)",
        "99999999999@%rax", "-2147483648@%rax", "8@99999999999999999999", "8@0xzz(%rax)", "8@09(%rax)", "8@(%rax)(%rbx)", "8@a+b(%rip)", "8@[rax]", "8@1+1+1+1+1+1+1+1+1+1(%rax)",
        "8@,", "8@(,)", "8@(,,8)", "8@%rax%rbx", "8@$$5", "8@ \u00e4",
    ];

    private static readonly string[] s_unreadableOnArm64 =
    [
        "8@x31", "8@x99", "8@y0", "8@[x0", "8@[x0]!", "8@[w0]", "8@[x0, 8, 8]", "8@[x0, x1, lsl]x", "8@[x0, x1, ror 3]", "8@[x0, x1, lsl 9]", "8@[x0, w1]", "8@[x0, w1, lsl 3]", "8@[x0, x1, sxtw 3]",
        "8@[]", "8@[d0]", "8@[x0, d1]", "8@[xzr]", "8@[x0, sym]", "8@[x0, #:lo12:8]", "8@%rax", "16@x0", "8@s0", "8@x00", "8@v", "8@#", "32@q0",
    ];

    private static IEnumerable<TestCaseData> X64()
    {
        ulong Word(X64Register register) => RegisterValues.ValueOf((int)register);
        ulong At(ulong address) => RegisterValues.MemoryAt(address);
        ulong rax = Word(X64Register.Rax), rbx = Word(X64Register.Rbx), rcx = Word(X64Register.Rcx), r8 = Word(X64Register.R8), rbp = Word(X64Register.Rbp);
        yield return Case("8@%rax", "int64 unsigned", "rax", rax);
        yield return Case("-8@%r15", "int64 signed", "r15", Word(X64Register.R15));
        yield return Case("4@%eax", "int32 unsigned", "rax", (uint)rax);
        yield return Case("-4@%eax", "int32 signed", "rax", (ulong)(int)rax);
        yield return Case("-4@%rbx", "int32 signed", "rbx", (ulong)(int)rbx);
        yield return Case("2@%cx", "int16 unsigned", "rcx", (ushort)rcx);
        yield return Case("-2@%r8w", "int16 signed", "r8", (ulong)(short)r8);
        yield return Case("1@%al", "int8 unsigned", "rax", (byte)rax);
        yield return Case("-1@%ah", "int8 signed", "ah", (ulong)(sbyte)(byte)(rax >> 8));
        yield return Case("1@%bh", "int8 unsigned", "bh", (byte)(rbx >> 8));
        yield return Case("-4@%bh", "int32 signed", "bh", (ulong)(sbyte)(byte)(rbx >> 8));
        yield return Case("1@%bpl", "int8 unsigned", "rbp", (byte)rbp);
        yield return Case("1@%r8l", "int8 unsigned", "r8", (byte)r8);
        yield return Case("-1@%r15b", "int8 signed", "r15", (ulong)(sbyte)Word(X64Register.R15));
        yield return Case("1@%dil", "int8 unsigned", "rdi", (byte)Word(X64Register.Rdi));
        yield return Case("2@%r15w", "int16 unsigned", "r15", (ushort)Word(X64Register.R15));
        yield return Case("4@%r14d", "int32 unsigned", "r14", (uint)Word(X64Register.R14));
        yield return Case("-1@-65(%rbp)", "int8 signed", "[rbp-0x41]", (ulong)(sbyte)At(rbp - 65));
        yield return Case("1@14(%r12)", "int8 unsigned", "[r12+0xe]", (byte)At(Word(X64Register.R12) + 14));
        yield return Case("-2@-66(%rbp)", "int16 signed", "[rbp-0x42]", (ulong)(short)At(rbp - 66));
        yield return Case("-8@-224(%rbp)", "int64 signed", "[rbp-0xe0]", At(rbp - 224));
        yield return Case("4@128(%rsp)", "int32 unsigned", "[rsp+0x80]", (uint)At(Word(X64Register.Rsp) + 128));
        yield return Case("8@(%rsp)", "int64 unsigned", "[rsp]", At(Word(X64Register.Rsp)));
        yield return Case("-8@$0", "int64 signed", "0", 0);
        yield return Case("1@$0", "int8 unsigned", "0", 0);
        yield return Case("%rcx", "int64 unsigned", "rcx", rcx);
        yield return Case("8@%RAX", "int64 unsigned", "rax", rax);
        yield return Case("8@%rip", "int64 unsigned", "rip", Word(X64Register.Rip));
        yield return Case("-4@$-1", "int32 signed", "-1", ulong.MaxValue);
        yield return Case("4@$-1", "int32 unsigned", "-1", uint.MaxValue);
        yield return Case("8@$0x10", "int64 unsigned", "0x10", 16);
        yield return Case("8@$010", "int64 unsigned", "010", 8);
        yield return Case("1@$300", "int8 unsigned", "300", 44);
        yield return Case("8@(%rax)", "int64 unsigned", "[rax]", At(rax));
        yield return Case("-4@-20(%rbp)", "int32 signed", "[rbp-0x14]", (ulong)(int)At(rbp - 20));
        yield return Case("2@0x10(%rbp)", "int16 unsigned", "[rbp+0x10]", (ushort)At(rbp + 16));
        yield return Case("8@4+8(%rbp)", "int64 unsigned", "[rbp+0xc]", At(rbp + 12));
        yield return Case("8@(%rax,%rbx,8)", "int64 unsigned", "[rax+rbx*8]", At(rax + (rbx * 8)));
        yield return Case("8@-8(%rax,%rbx)", "int64 unsigned", "[rax+rbx-0x8]", At(rax + rbx - 8));
        yield return Case("8@16( %rax , %rbx , 2 )", "int64 unsigned", "[rax+rbx*2+0x10]", At(rax + (rbx * 2) + 16));
        yield return Case("8@(,%rbx,4)", "int64 unsigned", "[rbx*4]", At(rbx * 4));
        yield return Case("8@(%eax)", "int64 unsigned", "[rax]", At((uint)rax));
        yield return Case("8@%fs:0", "int64 unsigned", "[fs:0x0]", At(Word(X64Register.FsBase)));
        yield return Case("-4@%fs:-4", "int32 signed", "[fs:-0x4]", (ulong)(int)At(Word(X64Register.FsBase) - 4));
        yield return Case("8@%fs:0xfffffffffffffff8", "int64 unsigned", "[fs:-0x8]", At(Word(X64Register.FsBase) - 8));
        yield return Case("8@%gs:8(%rax)", "int64 unsigned", "[gs:rax+0x8]", At(Word(X64Register.GsBase) + rax + 8));
        yield return Case("8@%ds:(%rax)", "int64 unsigned", "[rax]", At(rax));
        yield return Case("8@16(%rip)", "int64 unsigned", "[rip+0x10]", At(Word(X64Register.Rip) + 16));
        yield return Case("8@0x500000", "int64 unsigned", "[0x500000]", At(0x500000));
        yield return Case("8@%xmm3", "int64 unsigned", "xmm3", VectorWord(3));
        yield return Case("8f@%xmm15", "double", "xmm15", VectorWord(15));
        yield return Case("4f@%xmm2", "float", "xmm2", BitConverter.DoubleToUInt64Bits(BitConverter.UInt32BitsToSingle((uint)VectorWord(2))));
        yield return Case("-8f@%rax", "double", "rax", rax);
        yield return Case("4f@(%rax)", "float", "[rax]", BitConverter.DoubleToUInt64Bits(BitConverter.UInt32BitsToSingle((uint)At(rax))));
        yield return Case("16@%xmm1", "vector128", "xmm1", VectorWord(1));
        yield return Case("32@%ymm1", "vector256", "ymm1", VectorWord(1));
        yield return Case("16@-16(%rbp)", "vector128", "[rbp-0x10]", At(rbp - 16));
        yield return Case("-16f@(%rax)", "vector128", "[rax]", At(rax));
    }

    private static IEnumerable<TestCaseData> Arm64()
    {
        ulong Word(int number) => RegisterValues.ValueOf(number);
        ulong At(ulong address) => RegisterValues.MemoryAt(address);
        ulong sp = Word(31);
        yield return Case("8@x0", "int64 unsigned", "x0", Word(0));
        yield return Case("-4@w1", "int32 signed", "x1", (ulong)(int)Word(1));
        yield return Case("4@w30", "int32 unsigned", "x30", (uint)Word(30));
        yield return Case("-1@w2", "int8 signed", "x2", (ulong)(sbyte)Word(2));
        yield return Case("2@w3", "int16 unsigned", "x3", (ushort)Word(3));
        yield return Case("8@sp", "int64 unsigned", "sp", sp);
        yield return Case("8@lr", "int64 unsigned", "x30", Word(30));
        yield return Case("8@xzr", "int64 unsigned", "0", 0);
        yield return Case("-4@wzr", "int32 signed", "0", 0);
        yield return Case("-4@-5", "int32 signed", "-5", unchecked((ulong)-5L));
        yield return Case("8@#0x20", "int64 unsigned", "0x20", 32);
        yield return Case("8@[x0]", "int64 unsigned", "[x0]", At(Word(0)));
        yield return Case("8@[sp, 96]", "int64 unsigned", "[sp+0x60]", At(sp + 96));
        yield return Case("-4@[sp, #-12]", "int32 signed", "[sp-0xc]", (ulong)(int)At(sp - 12));
        yield return Case("8@[sp,16]", "int64 unsigned", "[sp+0x10]", At(sp + 16));
        yield return Case("8@[x0, x1]", "int64 unsigned", "[x0+x1]", At(Word(0) + Word(1)));
        yield return Case("8@[x0, x1, lsl 3]", "int64 unsigned", "[x0+x1*8]", At(Word(0) + (Word(1) * 8)));
        yield return Case("8@[x0, x1, lsl #3]", "int64 unsigned", "[x0+x1*8]", At(Word(0) + (Word(1) * 8)));
        yield return Case("4@[x0, w1, sxtw 2]", "int32 unsigned", "[x0+x1*4]", (uint)At(Word(0) + ((ulong)(int)Word(1) * 4)));
        yield return Case("4@[x0, w1, uxtw #2]", "int32 unsigned", "[x0+x1*4]", (uint)At(Word(0) + ((ulong)(uint)Word(1) * 4)));
        yield return Case("1@[x0, w1, sxtw]", "int8 unsigned", "[x0+x1]", (byte)At(Word(0) + (ulong)(int)Word(1)));
        yield return Case("8@[x0, xzr]", "int64 unsigned", "[x0]", At(Word(0)));
        yield return Case("4f@s3", "float", "s3", BitConverter.DoubleToUInt64Bits(BitConverter.UInt32BitsToSingle((uint)VectorWord(3))));
        yield return Case("8f@d31", "double", "d31", VectorWord(31));
        yield return Case("8@d1", "int64 unsigned", "d1", VectorWord(1));
        yield return Case("16@q5", "vector128", "q5", VectorWord(5));
        yield return Case("16@v5", "vector128", "v5", VectorWord(5));
    }

    [TestCaseSource(nameof(X64))]
    public void X64ArgumentIs(string text, string type, string location, ulong value) => Check(text, ElfMachine.X64, Architecture.X64, type, location, value);

    [TestCaseSource(nameof(Arm64))]
    public void Arm64ArgumentIs(string text, string type, string location, ulong value) => Check(text, ElfMachine.Arm64, Architecture.Arm64, type, location, value);

    [TestCaseSource(nameof(s_unreadable))]
    public void X64ArgumentIsUnreadableAndHarmsNoOther(string text) => CheckUnreadable(text, ElfMachine.X64, "-4@%edi");

    [TestCaseSource(nameof(s_unreadableOnArm64))]
    public void Arm64ArgumentIsUnreadableAndHarmsNoOther(string text) => CheckUnreadable(text, ElfMachine.Arm64, "-4@w0");

    [Test]
    public void MemoryThatCannotBeReadMakesTheArgumentUnreadableAtTheHit()
    {
        RegisterValues thread = new(Architecture.X64);
        UsdtArgument argument = Parse("8@0x10", ElfMachine.X64).Single();
        Assert.That(argument.Kind, Is.EqualTo(ArgumentKind.Unsigned));
        Assert.That(argument.TryGetValue(thread.Registers, thread, thread, out _), Is.False);
    }

    [Test]
    public void SpacesAndBracketsSeparateAsTheyShould()
    {
        Assert.That(Parse("  -4@[sp, 12]   8@[x0,x1, lsl 3] 4@5  ", ElfMachine.Arm64).Select(a => a.Location), Is.EqualTo(new[] { "[sp+0xc]", "[x0+x1*8]", "5" }));
        Assert.That(Parse("8@ %rax -4@$5", ElfMachine.X64).Select(a => a.Location), Is.EqualTo(new[] { "rax", "5" }));
        Assert.That(Parse("", ElfMachine.X64), Is.Empty);
        Assert.That(Parse(string.Join(' ', Enumerable.Repeat("8@%rax", 1000)), ElfMachine.X64), Has.Length.EqualTo(32));
    }

    [TestCase("-O2 -fPIC -fno-section-anchors -shared")]
    [TestCase("-O0 -fPIC -shared")]
    [TestCase("-O2 -fno-pie -no-pie -fno-section-anchors -static -Wl,-e,general")]
    public void WhatGccWritesForArm64IsRead(string options)
    {
        if (Command.Find("aarch64-linux-gnu-gcc") is not { } compiler)
        {
            Assert.Ignore("aarch64-linux-gnu-gcc (gcc-aarch64-linux-gnu) is not installed.");
            return;
        }

        string source = Path.Combine(TargetBuilder.SourceDirectory, "usdt_arm64.c");
        string path = Symbols.Tool.NewPath("cross");
        Symbols.Tool.Run(compiler, [.. options.Split(' '), "-nostdlib", "-o", path, source]);
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        UsdtNotes notes = UsdtNotes.Read(elf);
        Assert.That(notes.Problems, Is.Empty);
        Assert.That(notes.All.Select(note => note.Name), Is.EqualTo(new[]
        {
            "general", "constant", "low", "floating", "stack", "base", "index", "extended", "unsigned__extended", "bytes",
        }));
        RegisterValues thread = new(Architecture.Arm64);
        UsdtSymbols symbols = new(elf, 0);
        Dictionary<string, UsdtArgument[]> arguments = notes.All.ToDictionary(note => note.Name, note => UsdtArgumentParser.Parse(note.Arguments, elf.Machine, symbols));
        foreach (UsdtArgument argument in arguments.Values.SelectMany(a => a))
        {
            Assert.That(argument.TryGetValue(thread.Registers, thread, thread, out _), Is.True, argument.Location);
        }

        Assert.That(arguments["general"].Select(a => a.NativeType), Is.EqualTo(new[]
        {
            "int8 signed", "int8 unsigned", "int16 signed", "int16 unsigned", "int32 signed", "int32 unsigned", "int64 signed", "int64 unsigned",
        }));
        Assert.That(arguments["floating"].Select(a => a.Location), Is.EqualTo(new[] { "s0", "d1", "q1" }));
        if (options.StartsWith("-O2", StringComparison.Ordinal))
        {
            Assert.That(arguments["index"][0].Location, Is.EqualTo("[x0+x1*8]"));
            arguments["extended"][0].TryGetValue(thread.Registers, thread, thread, out ulong value);
            Assert.That(value, Is.EqualTo(RegisterValues.MemoryAt(RegisterValues.ValueOf(0) + ((ulong)(int)RegisterValues.ValueOf(2) * 8))));
        }

        if (options.Contains("static", StringComparison.Ordinal))
        {
            // adrp has put the page into the register; the symbol's low bits follow.
            Assert.That(arguments["low"][0].Location, Does.EndWith("+hidden_int]"));
            int register = int.Parse(arguments["low"][0].Location[2..^"+hidden_int]".Length], null);
            ulong low = ElfTools.Variable(path, "hidden_int") & 0xfff;
            arguments["low"][0].TryGetValue(thread.Registers, thread, thread, out ulong value);
            Assert.That(value, Is.EqualTo((ulong)(int)RegisterValues.MemoryAt(RegisterValues.ValueOf(register) + low)));
        }
    }

    private static void Check(string text, ElfMachine machine, Architecture architecture, string type, string location, ulong value)
    {
        RegisterValues thread = new(architecture);
        UsdtArgument argument = Parse(text, machine).Single();
        Assert.That((argument.NativeType, argument.Location), Is.EqualTo((type, location)));
        Assert.That(argument.TryGetValue(thread.Registers, thread, thread, out ulong found), Is.True);
        Assert.That(found, Is.EqualTo(value), $"0x{found:x} is not 0x{value:x}");
        byte[] bytes = new byte[argument.Size];
        Assert.That(argument.TryRead(thread.Registers, thread, thread, bytes), Is.True);
    }

    private static void CheckUnreadable(string text, ElfMachine machine, string good)
    {
        UsdtArgument[] arguments = Parse($"{good} {text} {good}", machine);
        Assert.That(arguments[0].Kind, Is.EqualTo(ArgumentKind.Signed));
        Assert.That(arguments[1].Kind, Is.EqualTo(ArgumentKind.Unreadable), arguments[1].Location);
        Assert.That(arguments[1].Location, Does.StartWith("unreadable: ").And.Length.LessThan(160));
    }

    private static UsdtArgument[] Parse(string text, ElfMachine machine)
    {
        string path = Environment.ProcessPath!;
        using ElfFile elf = ElfFile.Open(new DiskFile(path), path);
        return UsdtArgumentParser.Parse(text, machine, new UsdtSymbols(elf, 0));
    }

    private static TestCaseData Case(string text, string type, string location, ulong value) => new(text, type, location, value);

    private static ulong VectorWord(int register) => BitConverter.ToUInt64([.. Enumerable.Range(0, 8).Select(i => RegisterValues.VectorByte(register, i))]);
}

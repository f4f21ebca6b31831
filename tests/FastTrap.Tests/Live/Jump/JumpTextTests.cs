using System.Runtime.InteropServices;
using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Tests.Live;

/// <summary>The steps by which text changes, in memory of this process.</summary>
[TestFixture]
internal sealed unsafe class JumpTextTests
{
    private const nuint Page = 4096;

    /// <summary>A jump may have the byte of a trap in its displacement: it is not mistaken for a breakpoint's.</summary>
    [TestCase("C30F", "EBCC", 2)]
    [TestCase("E905FBFFFF", "E905CCCCFF", 5)]
    [TestCase("554889E553", "E9CCCCCCCC", 5)]
    [TestCase("5548CCCC53", "E911CC22CC", 5)]
    public void EachStepShowsWhatItMustAndTheLastTheOriginal(string original, string patch, int length)
    {
        byte* memory = (byte*)NativeMemory.AlignedAlloc(Page, Page);
        try
        {
            byte[] first = Convert.FromHexString(original);
            byte[] jump = Convert.FromHexString(patch);
            first.CopyTo(new Span<byte>(memory, length));
            PatchWindow window = new((ulong)memory, (byte)length, (byte)length, (ulong)memory, length == 2 ? WindowKind.Short : WindowKind.Near, 0);
            JumpSite site = new(new Tracepoint(default), null!, window) { Original = first, Patch = jump };
            Assert.That(LinuxPlatform.Instance.OpenMemory(Environment.ProcessId, out TargetMemory self), Is.EqualTo(Errno.None));
            using TargetMemory opened = self;
            JumpText text = new(LinuxPlatform.Instance, self);
            for (int round = 0; round < 2; round++)
            {
                Step(JumpStep.Trap, [0xcc, .. first[1..]]);
                Step(JumpStep.JumpTail, [0xcc, .. jump[1..]]);
                Step(JumpStep.JumpHead, jump);
                Step(JumpStep.Lead, [0xcc, .. jump[1..]]);
                Step(JumpStep.OriginalTail, [0xcc, .. first[1..]]);

                // It is tried again.
                Step(JumpStep.OriginalTail, [0xcc, .. first[1..]]);
                Step(JumpStep.OriginalHead, first);

                // It was taken before, for a thread that waited; another probe's trap may stand behind it meanwhile.
                Step(JumpStep.OriginalHead, first);
                memory[length - 1] = 0xcc;
                Step(JumpStep.OriginalHead, [.. first[..(length - 1)], 0xcc]);
                memory[length - 1] = first[length - 1];

                // What somebody else has written stays.
                memory[0] = 0x90;
                List<JumpSite> foreign = [];
                text.WritePage([site], JumpStep.OriginalHead, foreign);
                Assert.That((foreign.Count, memory[0]), Is.EqualTo((1, (byte)0x90)));
                memory[0] = first[0];
            }

            void Step(JumpStep step, byte[] expected)
            {
                List<JumpSite> failed = [];
                Assert.That((text.WritePage([site], step, failed), failed.Count), Is.EqualTo((1, 0)), $"{step}");
                Assert.That(new Span<byte>(memory, length).ToArray(), Is.EqualTo(expected), $"{step}");
            }
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }
}

namespace FastTrap.Tests.Fuzz;

/// <summary>Argument strings with every form that compilers write, to be damaged.</summary>
internal static class UsdtTexts
{
    public static IReadOnlyList<string> X64 { get; } =
    [
        "8@%rax -8@%r15 4@%eax -4@%ebx 2@%cx -2@%r8w 1@%al -1@%ah 1@%bpl 1@%r8b", "-4@$-1 8@$0x10 8@$010 1@$300",
        "8@(%rax) -4@-20(%rbp) 2@0x10(%rbp) 8@4+8(%rbp) 8@(%rax,%rbx,8) 8@-8(%rax,%rbx)", "8@16( %rax , %rbx , 2 ) 8@(,%rbx,4) 8@(%eax)",
        "8@%fs:0 -4@%fs:-4 8@%gs:8(%rax) 8@%fs:0xfffffffffffffff8", "8@16(%rip) 8@0x500000 8@fuzz_tick_semaphore(%rip)", "-4@fuzz_tick_semaphore+4(%rip) 8@4+fuzz_tick_semaphore(%rip) 8@$fuzz_tick_semaphore",
        "8f@%xmm15 4f@%xmm2 -8f@%rax 4f@(%rax) 16@%xmm1 32@%ymm1 16@-16(%rbp)", "%rcx 8@%rip", "-4@%esi",
    ];

    public static IReadOnlyList<string> Arm64 { get; } =
    [
        "8@x0 -4@w1 4@w30 -1@w2 2@w3 8@sp 8@lr 8@xzr", "-4@-5 8@#0x20 -4@wzr", "8@[x0] 8@[sp, 96] -4@[sp, #-12] 8@[sp,16]",
        "8@[x0, x1] 8@[x0, x1, lsl 3] 4@[x0, w1, sxtw 2] 4@[x0, w1, uxtw #2] 1@[x0, w1, sxtw]", "4f@s3 8f@d31 16@q5 16@v5 8@d1",
        "8@[x0, #:lo12:fuzz_tick_semaphore]", "8@[x0, xzr]",
    ];
}

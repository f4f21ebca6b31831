/* usdtsites: static probes at places that are hard to probe. Command: go N; then quit. */
#include "usdt.h"

#define SITE(name, arguments) USDT_NOTE_OF("990b", "fasttrap_sites", name, "0", arguments)

/* The first instruction of a function, five bytes long, across the end of a page. */
int straddle_nop(int);
__asm__(".pushsection .text.straddle1,\"ax\",@progbits\n.p2align 12\n.skip 4094\n.type straddle_nop,@function\n.globl straddle_nop\nstraddle_nop:\n"
        "990: .byte 0x0f,0x1f,0x44,0,0\n lea 1(%rdi),%eax\n ret\n.size straddle_nop,.-straddle_nop\n" SITE("straddle__nop", "-4@%edi") ".popsection\n");

/* An instruction that does something, across the end of a page. */
int straddle_add(int);
__asm__(".pushsection .text.straddle2,\"ax\",@progbits\n.p2align 12\n.skip 4090\n.type straddle_add,@function\n.globl straddle_add\nstraddle_add:\n"
        " mov %edi,%eax\n nop\n nop\n990: addl $0x11223344,%eax\n ret\n.size straddle_add,.-straddle_add\n" SITE("straddle__add", "-4@%eax") ".popsection\n");

/* The last instruction before padding is the return itself. */
int last_return(int);
__asm__(".pushsection .text.last,\"ax\",@progbits\n.p2align 4\n.type last_return,@function\n.globl last_return\nlast_return:\n"
        " lea 3(%rdi),%eax\n990: ret\n.size last_return,.-last_return\n.p2align 12,0xcc\n" SITE("last__return", "-4@%eax") ".popsection\n");

/* A site in the last byte before padding: what it falls into is the next function. */
int last_nop(int);
__asm__(".pushsection .text.lastnop,\"ax\",@progbits\n.p2align 4\n.type last_nop,@function\n.globl last_nop\nlast_nop:\n"
        " lea 5(%rdi),%eax\n .skip 12,0x90\n990: nop\n.size last_nop,.-last_nop\n ret\n" SITE("last__nop", "-4@%eax") ".popsection\n");

/* A site which is the target of a loop's branch, and one just before such a target. */
int loop_on(int);
__asm__(".pushsection .text.loops,\"ax\",@progbits\n.p2align 4\n.type loop_on,@function\n.globl loop_on\nloop_on:\n"
        " xor %eax,%eax\n mov $3,%ecx\n990: nop\n add %edi,%eax\n dec %ecx\n jnz 990b\n ret\n.size loop_on,.-loop_on\n" SITE("loop__on", "-4@%ecx -4@%edi") ".popsection\n");
int loop_before(int);
__asm__(".pushsection .text.loops,\"ax\",@progbits\n.p2align 4\n.type loop_before,@function\n.globl loop_before\nloop_before:\n"
        " xor %eax,%eax\n mov $3,%ecx\n990: nop\n1: add %edi,%eax\n dec %ecx\n jnz 1b\n ret\n.size loop_before,.-loop_before\n" SITE("loop__before", "-4@%ecx -4@%edi") ".popsection\n");

/* Two probes at one instruction, and one that is the jump of a function without any other instruction. */
int two_at_once(int);
__asm__(".pushsection .text.two,\"ax\",@progbits\n.p2align 4\n.type two_at_once,@function\n.globl two_at_once\ntwo_at_once:\n"
        "990: nop\n lea 7(%rdi),%eax\n ret\n.size two_at_once,.-two_at_once\n" SITE("two__a", "-4@%edi") SITE("two__b", "-4@%edi") ".popsection\n");
int only_jump(int);
__asm__(".pushsection .text.only,\"ax\",@progbits\n.p2align 4\n.type only_jump,@function\n.globl only_jump\nonly_jump:\n"
        "990: jmp two_at_once\n.size only_jump,.-only_jump\n" SITE("only__jump", "-4@%edi") ".popsection\n");

/* Operands relative to the program counter, which a slot must put right. */
int relative_value = 40;
int relative(int);
__asm__(".pushsection .text.relative,\"ax\",@progbits\n.p2align 4\n.type relative,@function\n.globl relative\nrelative:\n"
        "990: imul relative_value(%rip),%edi\n mov %edi,%eax\n ret\n.size relative,.-relative\n" SITE("relative", "-4@%edi -4@relative_value(%rip)") ".popsection\n");

/* Code without a symbol. */
__asm__(".pushsection .text.unnamed,\"ax\",@progbits\n.p2align 4\n.Lunnamed: 990: nop\n lea 9(%rdi),%eax\n ret\n" SITE("unnamed", "-4@%edi") ".popsection\n"
        ".pushsection .data.rel.local,\"aw\",@progbits\n.globl unnamed_pointer\n.p2align 3\nunnamed_pointer: .8byte .Lunnamed\n.popsection\n");
extern int (*unnamed_pointer)(int);

int main(void)
{
    char line[64];
    target_ready();
    while (target_command(line, sizeof line) && strncmp(line, "go", 2) == 0) {
        int number = atoi(line + 3);
        long sum = 0;
        for (int n = 0; n < number; n++) {
            if (straddle_nop(n) != n + 1) target_fail("straddle_nop");
            if (straddle_add(n) != n + 0x11223344) target_fail("straddle_add");
            if (last_return(n) != n + 3) target_fail("last_return");
            if (last_nop(n) != n + 5) target_fail("last_nop");
            if (loop_on(n) != 3 * n) target_fail("loop_on");
            if (loop_before(n) != 3 * n) target_fail("loop_before");
            if (two_at_once(n) != n + 7) target_fail("two_at_once");
            if (only_jump(n) != n + 7) target_fail("only_jump");
            if (relative(n) != n * 40) target_fail("relative");
            if (unnamed_pointer(n) != n + 9) target_fail("unnamed");
            sum += n;
        }
        target_say("count straddle-nop %d", number);
        target_say("count straddle-add %d", number);
        target_say("count last-return %d", number);
        target_say("count last-nop %d", number);
        target_say("count loop-on %d", number * 3);
        target_say("count loop-before %d", number);
        target_say("count two-a %d", number * 2);
        target_say("count two-b %d", number * 2);
        target_say("count only-jump %d", number);
        target_say("count relative %d", number);
        target_say("count unnamed %d", number);
        target_say("checksum %ld", sum);
    }
    return target_end(0);
}

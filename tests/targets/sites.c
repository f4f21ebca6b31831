/* sites: functions of known instructions. On "go N" each is called N times and what they returned is printed: "count ask YES", "count ask_slot YES", "count bump SUM",
 * "count twice SUM". ask and ask_slot are tests whether a probe is enabled, and say no by themselves. "quit" ends it. */
#include "target.h"

int ask(int value);
long ask_slot(long value);
int bump(void);
int twice(int value);

/* ask+4: xor; ask_slot+5: popcnt of 0; bump+5: add; twice returns at +9 and at +f. */
__asm__(
    ".text\n"
    ".globl ask\n.type ask, @function\nask:\n"
    "    lea 1(%rdi), %rdx\n"
    "    xor %eax, %eax\n"
    "    ret\n.size ask, .-ask\n"
    ".globl ask_slot\n.type ask_slot, @function\nask_slot:\n"
    "    mov $0, %edx\n"
    "    popcnt %rdx, %rax\n"
    "    ret\n.size ask_slot, .-ask_slot\n"
    ".globl bump\n.type bump, @function\nbump:\n"
    "    mov $5, %eax\n"
    "    add $2, %eax\n"
    "    ret\n.size bump, .-bump\n"
    ".globl twice\n.type twice, @function\ntwice:\n"
    "    test $1, %edi\n"
    "    jne 1f\n"
    "    mov $1, %eax\n"
    "    ret\n"
    "1:  mov $2, %eax\n"
    "    ret\n.size twice, .-twice\n");

int main(void)
{
    target_ready();
    char line[64];
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "quit") == 0) return target_end(0);
        long each = atol(line + 3), yes = 0, slot = 0, bumped = 0, sum = 0;
        for (long i = 0; i < each; i++) {
            yes += ask((int)i);
            slot += ask_slot(i);
            bumped += bump();
            sum += twice((int)i);
        }
        target_say("count ask %ld", yes);
        target_say("count ask_slot %ld", slot);
        target_say("count bump %ld", bumped);
        target_say("count twice %ld", sum);
    }
    return 97;
}

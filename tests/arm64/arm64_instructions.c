/* arm64_instructions ROUNDS: functions which begin with the instructions that matter, each called ROUNDS times when told to; then "sum S" and "count NAME N".
 * f_exclusive has an exclusive pair, between whose halves nothing may stop. Threads: one more calls all of them as often at the same time. */
#include "target.h"
#include <pthread.h>

volatile long sink;
__asm__(
    ".text\n.p2align 4\n"
#define FUNCTION(name, body) ".globl " name "\n.type " name ", %function\n" name ": " body "\n.size " name ", .-" name "\n"
    FUNCTION("f_stp", "stp x29,x30,[sp,#-16]!\n mov x29,sp\n add x0,x0,x1\n ldp x29,x30,[sp],#16\n ret")
    FUNCTION("f_adrp", "adrp x2,sink\n add x2,x2,:lo12:sink\n and x2,x2,#7\n add x0,x0,x1\n add x0,x0,x2\n ret")
    FUNCTION("f_adr", "adr x2,.\n adr x3,f_adr\n sub x2,x2,x3\n add x0,x0,x2\n add x0,x0,x1\n ret")
    FUNCTION("f_cbz", "cbz x0,1f\n add x0,x0,x1\n ret\n1: mov x0,#-1\n ret")
    FUNCTION("f_tbz", "tbz x0,#0,1f\n add x0,x0,x1\n ret\n1: mov x0,#-2\n ret")
    FUNCTION("f_bcond", "subs x2,x0,#5\n b.gt 1f\n add x0,x0,x1\n ret\n1: mov x0,x2\n ret")
    FUNCTION("f_literal", "ldr x2,2f\n ldr w3,2f\n ldrsw x4,2f\n add x0,x0,x2\n eor x0,x0,x3\n add x0,x0,x4\n ret\n.p2align 3\n2: .quad 0x11223344f5667788")
    FUNCTION("f_ret", "ret")
    FUNCTION("f_tail", "b f_stp")
    FUNCTION("f_call", "stp x29,x30,[sp,#-16]!\n bl f_stp\n ldp x29,x30,[sp],#16\n ret")
    FUNCTION("f_indirect", "stp x29,x30,[sp,#-16]!\n adr x9,f_stp\n blr x9\n ldp x29,x30,[sp],#16\n ret")
    FUNCTION("f_paciasp", "paciasp\n add x0,x0,x1\n stp x29,x30,[sp,#-16]!\n ldp x29,x30,[sp],#16\n autiasp\n ret")
    FUNCTION("f_bti", "bti c\n add x0,x0,x1\n ret")
    FUNCTION("f_vector", "fmov d0,x0\n fmov d1,x1\n add v0.2d,v0.2d,v1.2d\n cnt v2.8b,v0.8b\n addv b2,v2.8b\n fmov x1,d2\n fmov x0,d0\n add x0,x0,x1\n ret")
    FUNCTION("f_memory", "sub sp,sp,#32\n str x0,[sp,#8]\n str x1,[sp,#16]\n ldp x2,x3,[sp,#8]\n madd x0,x2,x3,x0\n add sp,sp,#32\n ret")
    FUNCTION("f_flags", "cmp x0,x1\n csel x2,x0,x1,lo\n adc x0,x2,x1\n cset x3,hi\n add x0,x0,x3\n ret")
    FUNCTION("f_system", "mrs x2,nzcv\n mrs x3,tpidr_el0\n msr nzcv,x2\n cmp x3,#0\n cinc x0,x0,eq\n add x0,x0,x1\n ret")
    FUNCTION("f_exclusive", "adrp x2,sink\n add x2,x2,:lo12:sink\n1: ldaxr x3,[x2]\n add x4,x3,#8\n stlxr w5,x4,[x2]\n cbnz w5,1b\n add x0,x0,x1\n ret")
);
#define FUNCTIONS(X) X(f_stp) X(f_adrp) X(f_adr) X(f_cbz) X(f_tbz) X(f_bcond) X(f_literal) X(f_ret) X(f_tail) X(f_call) X(f_indirect) X(f_paciasp) X(f_bti) \
    X(f_vector) X(f_memory) X(f_flags) X(f_system) X(f_exclusive)
#define DECLARE(name) long name(long, long);
FUNCTIONS(DECLARE)

static const struct { const char *name; long (*function)(long, long); } functions[] = {
#define ROW(name) { #name, name },
    FUNCTIONS(ROW)
};
enum { COUNT = sizeof functions / sizeof *functions };
static long rounds;

static void *work(void *argument)
{
    uint64_t sum = (uint64_t)(uintptr_t)argument;
    for (long i = 0; i < rounds; i++)
        for (int k = 0; k < COUNT; k++) sum = target_mix(sum, (uint64_t)functions[k].function(i, i + k));
    return (void *)sum;
}

int main(int argc, char **argv)
{
    rounds = target_argument(argc, argv, 1, 10);
    target_ready();
    target_wait();
    pthread_t other;
    void *second;
    if (pthread_create(&other, NULL, work, (void *)1)) return 96;
    uint64_t first = (uint64_t)(uintptr_t)work((void *)2);
    pthread_join(other, &second);
    /* f_stp is called by f_tail, f_call and f_indirect as well. */
    for (int k = 0; k < COUNT; k++) target_say("count %s %ld", functions[k].name, 2 * rounds * (k == 0 ? 4 : 1));
    target_say("exclusive %ld", sink / 8 - 2 * rounds);
    target_say("sum %016llx %016llx", (unsigned long long)first, (unsigned long long)(uintptr_t)second);
    target_wait();
    return target_end(0);
}

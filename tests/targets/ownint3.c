/* ownint3 [ROUNDS]: a program with breakpoints and SIGTRAPs of its own; each must arrive as it would without a tracer. */
#include "target.h"
#include <signal.h>
#include <ucontext.h>

extern char own_trap[], own_trap_next[], long_trap[], long_trap_next[];
static volatile int traps, raised, killed, queued;
static uint64_t calls;

PROBED int hot(int value) { calls++; return value + 1; }
PROBED void trap_here(void) { __asm__ volatile(".globl own_trap\nown_trap: int3\n.globl own_trap_next\nown_trap_next: nop"); }
/* The two-byte form (CD 03). */
PROBED void long_trap_here(void) { __asm__ volatile(".globl long_trap\nlong_trap: .byte 0xcd, 0x03\n.globl long_trap_next\nlong_trap_next: nop"); }

static void on_trap(int signal, siginfo_t *info, void *context)
{
    char *pc = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    (void)signal;
    if (info->si_code == SI_KERNEL) {
        traps++;
        if (pc != own_trap_next && pc != long_trap_next) target_fail("trap with pc %p", (void *)pc);
    } else if (info->si_code == SI_TKILL) {
        raised++;
        if (info->si_pid != getpid()) target_fail("raise from pid %d", (int)info->si_pid);
    } else if (info->si_code == SI_USER) {
        killed++;
        if (info->si_pid != getpid()) target_fail("kill from pid %d", (int)info->si_pid);
    } else if (info->si_code == SI_QUEUE) {
        queued++;
        if (info->si_value.sival_int != 4711) target_fail("queued value %d", info->si_value.sival_int);
    } else {
        target_fail("SIGTRAP with code %d pc %p", info->si_code, (void *)pc);
    }
}

int main(int argc, char **argv)
{
    int rounds = target_argument(argc, argv, 1, 50), sum = 0;
    struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
    sigaction(SIGTRAP, &action, NULL);
    target_ready();
    target_wait();
    for (int i = 0; i < rounds; i++) {
        sum = hot(sum);
        trap_here();
        sum = hot(sum);
        long_trap_here();
        raise(SIGTRAP);
        sum = hot(sum);
        kill(getpid(), SIGTRAP);
        sigqueue(getpid(), SIGTRAP, (union sigval){ .sival_int = 4711 });
    }
    target_say("traps %d raised %d killed %d queued %d", traps, raised, killed, queued);
    if (traps != rounds * 2 || raised != rounds || killed != rounds || queued != rounds) target_fail("SIGTRAPs missing");
    if (sum != rounds * 3) target_fail("sum %d", sum);
    target_say("count hot %llu", (unsigned long long)calls);
    target_wait();
    return target_end(0);
}

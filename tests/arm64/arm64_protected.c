/* arm64_protected: built with signed return addresses and landing pads. Says which of them the processor has, then calls through pointers, deep down and back by
 * longjmp, when told "go N"; "count NAME N" and "checksum S". */
#include "target.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

static jmp_buf back;
static uint64_t calls[3];

PROBED uint64_t leaf(uint64_t a) { calls[0]++; return a * 3 + 1; }
PROBED uint64_t nested(uint64_t a) { calls[1]++; uint64_t below = a ? nested(a - 1) : leaf(a); __asm__ volatile("" : "+r"(below)); return below + leaf(a); }
PROBED uint64_t jumps(uint64_t a) { calls[2]++; if (a % 3 == 0) longjmp(back, 1); return nested(a % 5); }
static uint64_t (*volatile through[3])(uint64_t) = { leaf, nested, jumps };

static volatile int refused;

static void on_refused(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    mcontext_t *registers = &((ucontext_t *)context)->uc_mcontext;
    refused = 1;
    registers->pc = registers->regs[30];
    registers->pstate &= ~0xc00ull;
}

/* The C library's start files have no landing pads, so the linker does not ask for them: the program does, for its own text. */
static void guard_text(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024], mode[8];
    unsigned long from, to;
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[2] == 'x' && from <= (unsigned long)leaf && (unsigned long)leaf < to
            && mprotect((void *)from, to - from, PROT_READ | PROT_EXEC | 0x10)) target_fail("mprotect");
    if (maps) fclose(maps);
    struct sigaction action = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };
    sigaction(SIGILL, &action, NULL);
    uint64_t (*volatile astray)(uint64_t) = (uint64_t (*)(uint64_t))((char *)leaf + 4);
    astray(1);
    action.sa_handler = SIG_DFL;
    sigaction(SIGILL, &action, NULL);
}

int main(void)
{
    char line[64];
    if (getauxval(AT_HWCAP2) >> 17 & 1) guard_text();
    target_say("guarded %d", refused);
    target_say("hwcap pac %d bti %d", (int)(getauxval(AT_HWCAP) >> 30 & 1), (int)(getauxval(AT_HWCAP2) >> 17 & 1));
    target_ready();
    while (target_command(line, sizeof line) && strncmp(line, "go ", 3) == 0) {
        volatile uint64_t sum = 0;
        long rounds = atol(line + 3);
        for (volatile long i = 0; i < rounds; i++) {
            if (setjmp(back)) { sum = target_mix(sum, 99); continue; }
            sum = target_mix(sum, through[i % 2]((uint64_t)i % 7));
            sum = target_mix(sum, through[2]((uint64_t)i));
        }
        target_say("count leaf %llu", (unsigned long long)calls[0]);
        target_say("count nested %llu", (unsigned long long)calls[1]);
        target_say("count jumps %llu", (unsigned long long)calls[2]);
        target_say("checksum %016llx", (unsigned long long)sum);
    }
    _exit(target_end(0)); /* what runs at an exit has no landing pads */
}

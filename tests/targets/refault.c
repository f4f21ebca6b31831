/* refault: load() faults in its second instruction, in the middle of its first five bytes; the handler makes the memory readable and goes back there.
 * Command: go N; then quit. */
#include "target.h"
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

static char *page;
static long faults;
long load(char *p);
__asm__(".text\n.p2align 4\n.globl load\n.type load,@function\nload:\n nop\n mov (%rdi),%rax\n nop\n lea 1(%rax),%rax\n ret\n.size load,.-load\n");

static void on_fault(int signal, siginfo_t *info, void *context)
{
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    if (signal != SIGSEGV || pc != (uintptr_t)load + 1 || info->si_addr != page) target_fail("signal %d pc %lx address %p", signal, (unsigned long)pc, info->si_addr);
    if (mprotect(page, 4096, PROT_READ | PROT_WRITE)) _exit(90);
    faults++;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, NULL);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(long *)page = 41;
    target_ready();
    char line[64];
    while (target_command(line, sizeof line) && strncmp(line, "go", 2) == 0) {
        long calls = 0;
        for (long n = 0; n < atol(line + 3); n++) {
            mprotect(page, 4096, PROT_NONE);
            if (load(page) != 42 || load(page) != 42) target_fail("load");
            calls += 2;
        }
        target_say("faults %ld", faults);
        target_say("count load %ld", calls);
    }
    return target_end(0);
}

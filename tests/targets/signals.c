/* signals [THREADS] [LOOPS] [FAULTS] [SIGNALS] [TRAPS]: probed functions under a rain of signals, then synchronous faults at known instructions.
 * After its LOOPS each thread goes on until SIGNALS have been handled in all; the checksum is of the LOOPS alone. Of TRAPS SIGTRAPs that are sent to the
 * threads meanwhile, each is waited for, and sent again if it does not come. */
#include "target.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct { uintptr_t start, end; } ranges[64];
static int range_count, loops, minimum;
static volatile int traps_left;
static sem_t trapped;
static uint64_t trapped_count, handled_count, outside, checksum, work_calls, handler_calls;
static volatile uint64_t global_word = 0x1234;
static double global_double = 1.5;

/* Code that was there from the start: of files and the vdso; memory that a tracer adds is neither. */
static void read_ranges(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8], path[512] = "";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %511s", &from, &to, mode, path) < 3 || mode[2] != 'x') continue;
        int known = (path[0] == '/' && strncmp(path, "/memfd:", 7) != 0 && strncmp(path, "/dev/", 5) != 0) || strcmp(path, "[vdso]") == 0;
        if (known && range_count < 64) { ranges[range_count].start = from; ranges[range_count++].end = to; }
    }
    if (maps) fclose(maps);
}

static int is_known(uintptr_t pc)
{
    for (int i = 0; i < range_count; i++)
        if (pc >= ranges[i].start && pc < ranges[i].end) return 1;
    return 0;
}

PROBED void in_handler(int signal) { (void)signal; __atomic_add_fetch(&handler_calls, 1, __ATOMIC_RELAXED); }

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)info;
    int saved = errno;
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    if (!is_known(pc) && __atomic_add_fetch(&outside, 1, __ATOMIC_RELAXED) <= 3) target_fail("handler of signal %d saw pc %lx", signal, (unsigned long)pc);
    if (signal != SIGTRAP) in_handler(signal);
    __atomic_add_fetch(signal == SIGTRAP ? &trapped_count : &handled_count, 1, __ATOMIC_SEQ_CST);
    if (signal == SIGTRAP) sem_post(&trapped);
    errno = saved;
}

/* Each begins with, or holds, an instruction which must run out of line: rip-relative operands, vector and string instructions. */
PROBED uint64_t work_global(uint64_t a) { return a + global_word; }
PROBED double work_double(double a) { return a * global_double + 0.25; }
PROBED uint64_t work_loop(uint64_t a) { for (int i = 0; i < 4; i++) a = a * 6364136223846793005ull + global_word; return a; }
PROBED uint64_t work_string(uint64_t a)
{
    unsigned char from[64], to[64];
    memset(from, (int)(a & 0xff), sizeof from);
    void *d = to; const void *s = from; size_t n = sizeof to;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    return to[0] + (uint64_t)to[63];
}
/* One instruction of a quarter of a million steps: signals come in the middle of it. */
static unsigned char field[1 << 18];
PROBED uint64_t work_scan(uint64_t a)
{
    const void *d = field;
    size_t n = sizeof field;
    __asm__ volatile("repne scasb" : "+D"(d), "+c"(n) : "a"('x') : "cc", "memory");
    return (uint64_t)((const unsigned char *)d - field) + n + a;
}

static uint64_t one_round(uint64_t i)
{
    uint64_t sum = work_global(i);
    sum = target_mix(sum, (uint64_t)(work_double((double)i) * 4));
    sum = target_mix(sum, work_loop(i));
    sum = target_mix(sum, work_scan(i));
    return target_mix(sum, work_string(i));
}

/* Waits for the handler of a SIGTRAP; 0 when the time is up. */
static int is_trapped(const struct timespec *until)
{
    int result;
    while ((result = sem_timedwait(&trapped, until)) != 0 && errno == EINTR) continue;
    return result == 0;
}

static void *work(void *argument)
{
    uint64_t sum = (uint64_t)(uintptr_t)argument;
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
    event.sigev_notify_thread_id = target_tid();
    struct itimerspec interval = { { 0, 1500000 }, { 0, 700000 } };
    if (timer_create(CLOCK_MONOTONIC, &event, &timer)) { target_fail("timer_create"); return NULL; }
    timer_settime(timer, 0, &interval, NULL);
    uint64_t rounds = 0;
    for (; rounds < (uint64_t)loops; rounds++) sum = target_mix(sum, one_round(rounds));
    uint64_t first = one_round(1);
    for (rounds++; __atomic_load_n(&handled_count, __ATOMIC_RELAXED) < (uint64_t)minimum || traps_left; rounds++)
        if (one_round(1) != first) target_fail("a round under signals differs");
    timer_delete(timer);
    __atomic_add_fetch(&work_calls, rounds, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&checksum, sum, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Faults: the instruction at NAME_at faults; the handler goes on at NAME_next. */
__attribute__((aligned(4096))) static char hole[8192];
#define LABEL(name) extern char name##_at[], name##_next[]
LABEL(fault_load); LABEL(fault_rip); LABEL(fault_push); LABEL(fault_call); LABEL(fault_div); LABEL(fault_ud2); LABEL(fault_store);
#define AT(name) ".globl " #name "_at\n" #name "_at: "
#define NEXT(name) "\n.globl " #name "_next\n" #name "_next: nop\n"

PROBED long fault_load(volatile long *p) { long v = 1; __asm__ volatile(AT(fault_load) "mov (%1), %0" NEXT(fault_load) : "+r"(v) : "r"(p) : "memory"); return v; }
PROBED void fault_store(volatile long *p) { __asm__ volatile(AT(fault_store) "movq $5, 8(%0)" NEXT(fault_store) : : "r"(p) : "memory"); }
PROBED long fault_rip(void) { long v = 2; __asm__ volatile(AT(fault_rip) "mov %1, %0" NEXT(fault_rip) : "+r"(v) : "m"(*(long *)(hole + 16)) : "memory"); return v; }
PROBED void fault_push(char *bad)
{
    __asm__ volatile("mov %%rsp, %%rbx\n mov %0, %%rsp\n" AT(fault_push) "push %%rax" NEXT(fault_push) "mov %%rbx, %%rsp\n" : : "r"(bad) : "rbx", "memory");
}
PROBED void fault_call(void)
{
    __asm__ volatile("mov %%rsp, %%rbx\n lea -128(%%rsp), %%rsp\n xor %%eax, %%eax\n" AT(fault_call) "call *%%rax" NEXT(fault_call) "mov %%rbx, %%rsp\n"
        : : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
}
PROBED void fault_div(void) { __asm__ volatile("xor %%ecx, %%ecx\n xor %%edx, %%edx\n mov $1, %%eax\n" AT(fault_div) "div %%ecx" NEXT(fault_div) : : : "rax", "rcx", "rdx", "cc"); }
PROBED void fault_ud2(void) { __asm__ volatile(AT(fault_ud2) "ud2" NEXT(fault_ud2) : : : "memory"); }

static volatile struct { int signal; uintptr_t pc, address, next; const char *name; } expected;
static uint64_t faults;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t pc = (uintptr_t)registers[REG_RIP], address = (uintptr_t)info->si_addr;
    if (signal != expected.signal || pc != expected.pc || address != expected.address)
        target_fail("%s: signal %d pc %lx address %lx, expected %d %lx %lx", expected.name, signal, (unsigned long)pc, (unsigned long)address,
            expected.signal, (unsigned long)expected.pc, (unsigned long)expected.address);
    if (pc == 0 && *(uintptr_t *)registers[REG_RSP] != expected.next) target_fail("%s: wrong return address on the stack", expected.name);
    if (!expected.name) _exit(90);
    faults++;
    registers[REG_RIP] = (greg_t)expected.next;
}

#define FAULT(label, number, where, target, call) do { \
    expected.signal = number; expected.pc = where; expected.address = (uintptr_t)(target); expected.next = (uintptr_t)label##_next; expected.name = #label; \
    call; expected.name = NULL; } while (0)

int main(int argc, char **argv)
{
    int threads = target_argument(argc, argv, 1, 4);
    loops = target_argument(argc, argv, 2, 500);
    int rounds = target_argument(argc, argv, 3, 20);
    minimum = target_argument(argc, argv, 4, 50);
    int traps = traps_left = target_argument(argc, argv, 5, 0);
    read_ranges();
    field[sizeof field - 2] = 'x';
    static char stack[65536];
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&alternate, NULL);
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    if (traps) sigaction(SIGTRAP, &action, NULL);
    struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGFPE, &fault, NULL);
    sigaction(SIGILL, &fault, NULL);
    mprotect(hole, sizeof hole, PROT_NONE);
    target_ready();
    target_wait();

    struct itimerval timer = { { 0, 3000 }, { 0, 1000 } };
    setitimer(ITIMER_REAL, &timer, NULL);
    pthread_t ids[64];
    for (int i = 0; i < threads && i < 64; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)i)) return 96;
    uint64_t again = 0;
    for (; traps_left; traps_left--) {
        struct timespec until;
        do {
            pthread_kill(ids[traps_left % threads], SIGTRAP);
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec++;
        } while (!is_trapped(&until) && ++again);
    }
    for (int i = 0; i < threads && i < 64; i++) pthread_join(ids[i], NULL);
    if (traps) target_say("count trapped %llu", (unsigned long long)trapped_count);
    if (traps) target_say("count again %llu", (unsigned long long)again);
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_REAL, &timer, NULL);

    for (int i = 0; i < rounds; i++) {
        FAULT(fault_load, SIGSEGV, (uintptr_t)fault_load_at, hole, if (fault_load((long *)hole) != 1) target_fail("fault_load changed its register"));
        FAULT(fault_store, SIGSEGV, (uintptr_t)fault_store_at, hole + 8, fault_store((long *)hole));
        FAULT(fault_rip, SIGSEGV, (uintptr_t)fault_rip_at, hole + 16, if (fault_rip() != 2) target_fail("fault_rip changed its register"));
        FAULT(fault_push, SIGSEGV, (uintptr_t)fault_push_at, hole + 4096 - 8, fault_push(hole + 4096));
        FAULT(fault_call, SIGSEGV, 0, NULL, fault_call());
        FAULT(fault_div, SIGFPE, (uintptr_t)fault_div_at, fault_div_at, fault_div());
        FAULT(fault_ud2, SIGILL, (uintptr_t)fault_ud2_at, fault_ud2_at, fault_ud2());
    }
    target_say("signals %llu outside %llu", (unsigned long long)handled_count, (unsigned long long)outside);
    target_say("count in_handler %llu", (unsigned long long)handler_calls);
    target_say("count work_global %llu", (unsigned long long)work_calls);
    target_say("faults %llu of %d", (unsigned long long)faults, rounds * 7);
    if (faults != (uint64_t)rounds * 7) target_fail("faults missing");
    target_say("checksum %016llx", (unsigned long long)checksum);
    target_wait();
    return target_end(0);
}

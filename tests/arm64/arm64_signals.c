/* arm64_signals [THREADS] [LOOPS] [FAULTS] [SIGNALS] [TRAPS]: probed functions under a rain of signals, then synchronous faults at known instructions. The same as signals.c
 * does on x86-64: handlers see program counters of files and the vdso only, and a fault's own. Of TRAPS SIGTRAPs that are sent to the threads meanwhile, each is
 * waited for. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <ucontext.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct { uintptr_t start, end; } ranges[64];
static int range_count, loops, minimum;
static volatile int traps_left;
static uint64_t trapped_count, handled_count, outside, checksum, work_calls;
static volatile uint64_t global_word = 0x1234;
static double global_double = 1.5;

static void read_ranges(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8], path[512] = "";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %511s", &from, &to, mode, path) < 3 || mode[2] != 'x') continue;
        if ((path[0] == '/' || strcmp(path, "[vdso]") == 0) && range_count < 64) { ranges[range_count].start = from; ranges[range_count++].end = to; }
    }
    if (maps) fclose(maps);
}

static int is_known(uintptr_t pc)
{
    for (int i = 0; i < range_count; i++)
        if (pc >= ranges[i].start && pc < ranges[i].end) return 1;
    return 0;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)info;
    int saved = errno;
    mcontext_t *registers = &((ucontext_t *)context)->uc_mcontext;
    uintptr_t pc = (uintptr_t)registers->pc, link = (uintptr_t)registers->regs[30];
    if (!is_known(pc) && __atomic_add_fetch(&outside, 1, __ATOMIC_RELAXED) <= 3) target_fail("handler of signal %d saw pc %lx (x30 %lx)", signal, pc, link);
    __atomic_add_fetch(signal == SIGTRAP ? &trapped_count : &handled_count, 1, __ATOMIC_SEQ_CST);
    errno = saved;
}

/* Vector and system instructions run out of line; the others are emulated. */
PROBED uint64_t work_global(uint64_t a) { return a + global_word; }
PROBED double work_double(double a) { return a * global_double + 0.25; }
PROBED uint64_t work_loop(uint64_t a) { for (int i = 0; i < 4; i++) a = a * 6364136223846793005ull + global_word; return a; }
PROBED uint64_t work_vector(uint64_t a)
{
    uint64_t result;
    __asm__ volatile("dup v0.2d, %1\n add v1.2d, v0.2d, v0.2d\n mul v2.4s, v0.4s, v1.4s\n eor v0.16b, v2.16b, v1.16b\n umov %0, v0.d[1]" : "=r"(result) : "r"(a) : "v0", "v1", "v2");
    return result;
}

static uint64_t one_round(uint64_t i)
{
    uint64_t sum = work_global(i);
    sum = target_mix(sum, (uint64_t)(work_double((double)i) * 4));
    sum = target_mix(sum, work_loop(i));
    return target_mix(sum, work_vector(i));
}

static void *work(void *argument)
{
    uint64_t sum = (uint64_t)(uintptr_t)argument;
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
    event.sigev_notify_thread_id = target_tid();
    struct itimerspec interval = { { 0, 9000000 }, { 0, 7000000 } };
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
static char *const hole = (char *)0x123000;
#define LABEL(name) extern char name##_at[], name##_next[]
LABEL(fault_load); LABEL(fault_store); LABEL(fault_pair); LABEL(fault_vector); LABEL(fault_call); LABEL(fault_udf); LABEL(fault_atomic);
#define FAULTING(name, instruction) ".globl " #name "_at\n" #name "_at: " instruction "\n.globl " #name "_next\n" #name "_next: nop\n"

PROBED long fault_load(char *p) { long v = 1; __asm__ volatile(FAULTING(fault_load, "ldr %0, [%1, #16]") : "+r"(v) : "r"(p) : "memory"); return v; }
PROBED void fault_store(char *p) { __asm__ volatile(FAULTING(fault_store, "str xzr, [%0, #8]") : : "r"(p) : "memory"); }
PROBED void fault_pair(char *p) { __asm__ volatile(FAULTING(fault_pair, "stp x29, x30, [%0, #-32]!") : "+r"(p) : : "memory"); }
PROBED void fault_vector(char *p) { __asm__ volatile(FAULTING(fault_vector, "ld1 {v0.16b, v1.16b}, [%0]") : : "r"(p) : "v0", "v1", "memory"); }
PROBED void fault_atomic(char *p) { long v = 3; __asm__ volatile(FAULTING(fault_atomic, "ldxr %0, [%1]") : "+r"(v) : "r"(p) : "memory"); }
PROBED void fault_call(char *p)
{
    __asm__ volatile(FAULTING(fault_call, "blr %0") : : "r"(p)
        : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x30", "memory");
}
PROBED void fault_udf(char *p) { __asm__ volatile(FAULTING(fault_udf, "udf #0") : : "r"(p) : "memory"); }

static volatile struct { int signal; uintptr_t pc, address, next; const char *name; } expected;
static uint64_t faults;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    mcontext_t *registers = &((ucontext_t *)context)->uc_mcontext;
    uintptr_t pc = (uintptr_t)registers->pc, address = (uintptr_t)info->si_addr;
    if (signal != expected.signal || pc != expected.pc || address != expected.address)
        target_fail("%s: signal %d pc %lx address %lx, expected %d %lx %lx", expected.name, signal, pc, address, expected.signal, expected.pc, expected.address);
    if (pc == (uintptr_t)hole && registers->regs[30] != expected.next) target_fail("%s: x30 is %llx", expected.name, (unsigned long long)registers->regs[30]);
    if (!expected.name) _exit(90);
    faults++;
    registers->pc = expected.next;
}

#define FAULT(label, number, where, target, argument) do { \
    expected.signal = number; expected.pc = (uintptr_t)(where); expected.address = (uintptr_t)(target); expected.next = (uintptr_t)label##_next; expected.name = #label; \
    label(argument); expected.name = NULL; } while (0)

int main(int argc, char **argv)
{
    int threads = target_argument(argc, argv, 1, 4);
    loops = target_argument(argc, argv, 2, 500);
    int rounds = target_argument(argc, argv, 3, 20);
    minimum = target_argument(argc, argv, 4, 50);
    int traps = traps_left = target_argument(argc, argv, 5, 0);
    read_ranges();
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTRAP, &action, NULL);
    target_ready();
    target_wait();
    pthread_t ids[64];
    for (int i = 0; i < threads; i++) if (pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)i)) return 96;
    for (; traps_left; traps_left--) {
        pthread_kill(ids[traps_left % threads], SIGTRAP);
        while (__atomic_load_n(&trapped_count, __ATOMIC_SEQ_CST) <= (uint64_t)(traps - traps_left)) usleep(2000);
        target_say("trap %d handled", traps - traps_left);
    }
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    target_say("count trapped %llu", (unsigned long long)trapped_count);
    target_say("count handled %llu", (unsigned long long)handled_count);
    target_say("count work %llu", (unsigned long long)work_calls);

    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    for (int i = 0; i < rounds; i++) {
        FAULT(fault_load, SIGSEGV, fault_load_at, hole + 16, hole);
        FAULT(fault_store, SIGSEGV, fault_store_at, hole + 8, hole);
        FAULT(fault_pair, SIGSEGV, fault_pair_at, hole - 32, hole);
        FAULT(fault_vector, SIGSEGV, fault_vector_at, hole, hole);
        FAULT(fault_atomic, SIGSEGV, fault_atomic_at, hole, hole);
        FAULT(fault_call, SIGSEGV, hole, hole, hole);
        FAULT(fault_udf, SIGILL, fault_udf_at, fault_udf_at, hole);
    }
    target_say("count faults %llu", (unsigned long long)faults);
    target_say("checksum %016llx", (unsigned long long)checksum);
    target_wait();
    return target_end(0);
}

/* guarded: a program with an action for SIGTRAP of its own, which it changes, and functions to be probed.
 * Commands: "action KIND" sets one (default, ignore, plain, info, onstack, resethand, nodefer) and prints "was KIND" of the last one; "look" prints "is KIND" of the one there is;
 * "raise", "queue" and "int3" send or execute one and print "handled COUNT", those of this kind; "block" blocks SIGTRAP in this thread;
 * "go THREADS CALLS MICROSECONDS" calls hot and deep so often in each thread, under a timer's signals that far apart if that is not 0, and prints "count hot", "count deep" and "count seen", signals seen; "fork" lets a child call hot and raise one, and prints "child STATUS"; "quit". */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

extern char own_trap[], own_trap_next[];
static const char *const kinds[] = { "default", "ignore", "plain", "info", "onstack", "resethand", "nodefer" };
static const int flags[] = { 0, 0, 0, SA_SIGINFO, SA_SIGINFO | SA_ONSTACK, (int)(SA_SIGINFO | SA_RESETHAND), SA_SIGINFO | SA_NODEFER };
static int kind;
static volatile uint64_t traps, raised, queued, seen;
static volatile uint64_t sum;
static char stack[1 << 16];
static struct { uintptr_t start, end; } ranges[64];
static int range_count;

PROBED int hot(int value) { return value * 2 + 1; }
PROBED int deep(int value) { return value ? deep(value - 1) + hot(value) : 1; }
PROBED void trap_here(void) { __asm__ volatile(".globl own_trap\nown_trap: int3\n.globl own_trap_next\nown_trap_next: nop"); }

/* Code of files: memory that a tracer adds is not. */
static void read_ranges(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8], path[512] = "";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %511s", &from, &to, mode, path) < 3 || mode[2] != 'x' || range_count == 64) continue;
        if (path[0] == '/' || strcmp(path, "[vdso]") == 0) ranges[range_count].start = from, ranges[range_count++].end = to;
    }
    if (maps) fclose(maps);
}

static void on_timer(int signal, siginfo_t *info, void *context)
{
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    (void)signal, (void)info;
    int known = 0;
    for (int i = 0; i < range_count; i++) known |= pc >= ranges[i].start && pc < ranges[i].end;
    /* At the beginning of a function the stack pointer points to a return address. */
    uintptr_t first = pc == (uintptr_t)hot || pc == (uintptr_t)deep ? *(uintptr_t *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RSP] : ranges[0].start;
    int returns = 0;
    for (int i = 0; i < range_count; i++) returns |= first >= ranges[i].start && first < ranges[i].end;
    if (!returns) target_fail("at pc %lx the stack pointer points to %lx", (unsigned long)pc, (unsigned long)first);
    if (!known) target_fail("a signal's handler saw pc %lx", (unsigned long)pc);
    __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
}

static void check(int wanted)
{
    char here;
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    int on_alternate = &here >= stack && &here < stack + sizeof stack;
    if (on_alternate != !!(flags[wanted] & SA_ONSTACK)) target_fail("%s: handler on the wrong stack", kinds[wanted]);
    if (sigismember(&mask, SIGTRAP) != !(flags[wanted] & SA_NODEFER)) target_fail("%s: SIGTRAP in the mask is %d", kinds[wanted], sigismember(&mask, SIGTRAP));
    if (!sigismember(&mask, SIGUSR2)) target_fail("%s: the mask of the action is not there", kinds[wanted]);
}

static void on_trap_info(int signal, siginfo_t *info, void *context)
{
    char *pc = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    check(kind);
    if (signal != SIGTRAP) target_fail("signal %d", signal);
    if (info->si_code == SI_KERNEL) {
        traps++;
        if (pc != own_trap_next) target_fail("trap with pc %p", (void *)pc);
    } else if (info->si_code == SI_TKILL) {
        raised++;
        if (info->si_pid != getpid()) target_fail("raise from pid %d", (int)info->si_pid);
    } else if (info->si_code == SI_QUEUE) {
        queued++;
        if (info->si_value.sival_int != 4711) target_fail("queued value %d", info->si_value.sival_int);
    } else {
        target_fail("SIGTRAP with code %d pc %p", info->si_code, (void *)pc);
    }
}

static volatile uint64_t *plain_count;
static void on_trap_plain(int signal) { check(kind); if (signal != SIGTRAP) target_fail("signal %d", signal); ++*plain_count; }

static const char *name_of(const struct sigaction *action)
{
    if (action->sa_handler == SIG_DFL) return "default";
    if (action->sa_handler == SIG_IGN) return "ignore";
    if ((action->sa_flags & SA_SIGINFO) ? action->sa_sigaction != on_trap_info : action->sa_handler != on_trap_plain) return "foreign";
    for (int i = 2; i < 7; i++)
        if ((action->sa_flags & (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND | SA_NODEFER)) == flags[i] && sigismember(&action->sa_mask, SIGUSR2)) return kinds[i];
    return "unknown";
}

static void act(const char *name)
{
    struct sigaction old, action;
    memset(&action, 0, sizeof action);
    for (kind = 0; kind < 6 && strcmp(name, kinds[kind]); kind++) continue;
    action.sa_flags = flags[kind];
    if (kind < 2) action.sa_handler = kind ? SIG_IGN : SIG_DFL;
    else if (kind == 2) action.sa_handler = on_trap_plain;
    else action.sa_sigaction = on_trap_info;
    sigaddset(&action.sa_mask, SIGUSR2);
    if (sigaction(SIGTRAP, &action, &old)) target_fail("sigaction %d", errno);
    target_say("was %s", name_of(&old));
}

static int calls, interval;
static uint64_t hots, deeps;
static pthread_barrier_t barrier;

static void *work(void *argument)
{
    (void)argument;
    timer_t timer;
    if (interval) {
        struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
        event.sigev_notify_thread_id = target_tid();
        struct itimerspec times = { { 0, interval * 1000L }, { 0, interval * 1000L } };
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &times, NULL)) target_fail("timer");
    }
    pthread_barrier_wait(&barrier);
    uint64_t h = 0, d = 0;
    for (int i = 0; i < calls; i++) {
        if (hot(i) != i * 2 + 1) target_fail("hot(%d)", i);
        h++;
        if (i % 8 == 0) {
            int result = deep(5);
            if (result != 36) target_fail("deep gave %d", result);
            h += 5, d += 6;
        }
    }
    if (interval) timer_delete(timer);
    __atomic_add_fetch(&hots, h, __ATOMIC_RELAXED);
    __atomic_add_fetch(&deeps, d, __ATOMIC_RELAXED);
    return NULL;
}

static void go(int threads)
{
    pthread_t ids[64];
    hots = deeps = seen = 0;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) if (pthread_create(&ids[i], NULL, work, NULL)) _exit(96);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    target_say("count seen %llu", (unsigned long long)seen);
    target_say("count deep %llu", (unsigned long long)deeps);
    target_say("count hot %llu", (unsigned long long)hots);
}

int main(void)
{
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&alternate, NULL);
    struct sigaction timer = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGUSR1, &timer, NULL);
    read_ranges();
    target_ready();
    char line[64], name[64];
    int threads;
    while (target_command(line, sizeof line)) {
        if (sscanf(line, "action %63s", name) == 1) {
            act(name);
        } else if (strcmp(line, "look") == 0) {
            struct sigaction now;
            sigaction(SIGTRAP, NULL, &now);
            target_say("is %s", name_of(&now));
        } else if (strcmp(line, "raise") == 0) {
            plain_count = &raised;
            raise(SIGTRAP);
            target_say("handled %llu", (unsigned long long)raised);
        } else if (strcmp(line, "queue") == 0) {
            plain_count = &queued;
            sigqueue(getpid(), SIGTRAP, (union sigval){ .sival_int = 4711 });
            target_say("handled %llu", (unsigned long long)queued);
        } else if (strcmp(line, "int3") == 0) {
            plain_count = &traps;
            trap_here();
            target_say("handled %llu", (unsigned long long)traps);
        } else if (strcmp(line, "block") == 0) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGTRAP);
            sigprocmask(SIG_BLOCK, &set, NULL);
            target_say("blocked");
        } else if (sscanf(line, "go %d %d %d", &threads, &calls, &interval) == 3) {
            go(threads);
        } else if (strcmp(line, "fork") == 0) {
            pid_t child = fork();
            if (child == 0) {
                plain_count = &raised;
                uint64_t before = raised;
                int bad = hot(3) != 7;
                raise(SIGTRAP);
                _exit(bad ? 9 : (int)(raised - before));
            }
            int status;
            waitpid(child, &status, 0);
            target_say("child %x", (unsigned)status & ~0x80u); // whether there is a core file is the system's matter
        } else if (strcmp(line, "quit") == 0) {
            return target_end(0);
        } else {
            target_fail("unknown command %s", line);
        }
    }
    _exit(98);
}

/* blocked [LOOPS] [handler|ignore|default] [PENDING]: threads that block SIGTRAP, or all signals, call probed functions; their masks and the handler must stay. With PENDING 1, each
 * that blocks SIGTRAP sends one to itself before the calls, and takes it after them. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { NONE, TRAP_ONLY, ALL, ALL_BUT_TRAP, KINDS };
static int loops, pending;
static uint64_t total;
static volatile double factor = 1.25;
static volatile int handled;

PROBED int hot(int value) { return value * 7; }
PROBED double hot_slot(double value) { return value * factor; }

static pthread_barrier_t masked, started;

static void on_trap(int signal) { (void)signal; handled++; }

static void take(int kind)
{
    siginfo_t info;
    sigset_t trap;
    sigemptyset(&trap);
    sigaddset(&trap, SIGTRAP);
    /* Not the library's call: it makes another code of SI_TKILL. */
    if (syscall(SYS_rt_sigtimedwait, &trap, &info, &(struct timespec){ 0 }, 8) != SIGTRAP) target_fail("kind %d: SIGTRAP is not pending any more", kind);
    else if (info.si_code != SI_TKILL || info.si_pid != getpid() || info.si_uid != getuid()) target_fail("kind %d: code %d from %d", kind, info.si_code, (int)info.si_pid);
}

static void *work(void *argument)
{
    int kind = (int)(intptr_t)argument;
    sigset_t set, before, now;
    sigemptyset(&set);
    if (kind == TRAP_ONLY) sigaddset(&set, SIGTRAP);
    if (kind >= ALL) sigfillset(&set);
    if (kind == ALL_BUT_TRAP) sigdelset(&set, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    pthread_barrier_wait(&masked);
    pthread_barrier_wait(&started);
    for (int i = 0; i < loops; i++) {
        int sends = pending && kind != NONE && kind != ALL_BUT_TRAP;
        if (sends) raise(SIGTRAP);
        if (hot(i) != i * 7) target_fail("hot");
        { double r = hot_slot(i); if (r != i * 1.25) target_fail("hot_slot kind %d loop %d gave %g", kind, i, r); }
        if (sends) take(kind);
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        for (int s = 1; s < 65; s++)
            if (sigismember(&now, s) != sigismember(&before, s)) {
                target_fail("thread kind %d, loop %d: signal %d is %sblocked now", kind, i, s, sigismember(&now, s) ? "" : "un");
                pthread_sigmask(SIG_SETMASK, &before, NULL);
            }
    }
    __atomic_add_fetch(&total, (uint64_t)loops, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv)
{
    loops = target_argument(argc, argv, 1, 200);
    pending = target_argument(argc, argv, 3, 0);
    const char *how = argc > 2 ? argv[2] : "handler";
    struct sigaction set = { .sa_flags = SA_RESTART }, now;
    set.sa_handler = strcmp(how, "handler") == 0 ? on_trap : strcmp(how, "ignore") == 0 ? SIG_IGN : SIG_DFL;
    sigaddset(&set.sa_mask, SIGUSR2);
    sigaction(SIGTRAP, &set, NULL);
    pthread_barrier_init(&masked, NULL, KINDS + 1);
    pthread_barrier_init(&started, NULL, KINDS + 1);
    pthread_t ids[KINDS];
    for (int i = 0; i < KINDS; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(intptr_t)i)) return 96;
    pthread_barrier_wait(&masked);
    target_ready();
    target_wait();
    pthread_barrier_wait(&started);
    for (int i = 0; i < KINDS; i++) pthread_join(ids[i], NULL);
    if (handled) target_fail("%d SIGTRAPs delivered", handled);
    target_say("count hot %llu", (unsigned long long)total);
    target_wait();
    sigaction(SIGTRAP, NULL, &now);
    if (now.sa_handler != set.sa_handler) target_fail("handler of SIGTRAP changed");
    if (!(now.sa_flags & SA_RESTART) || !sigismember(&now.sa_mask, SIGUSR2)) target_fail("flags or mask of SIGTRAP's action changed");
    return target_end(0);
}

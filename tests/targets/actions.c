/* actions: a program that sets its actions for signals just when somebody else changes them. Commands: "race" has a thread wait until the action for the first signal changes, set those for the others for a moment, by turns one of two, and prints "waiting";
 * "check" waits for the end of that, has every handler called, looks at every action, and prints "checked COUNT", of those that are neither of the two; "quit". */
#include "target.h"
#include <pthread.h>
#include <signal.h>

enum { FIRST = 34, LAST = 63, KINDS = 2 };
static struct sigaction kinds[KINDS];
static volatile int last[LAST + 1], called, racing;
static char stack[1 << 16];

PROBED int hot(int value) { return value * 2 + 1; }

static void check_call(int kind)
{
    char here;
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    int on_alternate = &here >= stack && &here < stack + sizeof stack;
    if (on_alternate != !!(kinds[kind].sa_flags & SA_ONSTACK)) target_fail("kind %d on the wrong stack", kind);
    if (sigismember(&mask, SIGUSR2) != sigismember(&kinds[kind].sa_mask, SIGUSR2)) target_fail("kind %d with the wrong mask", kind);
    called = kind;
}

static void on_info(int signal, siginfo_t *info, void *context) { (void)context; if (info->si_signo != signal) target_fail("signal %d", signal); check_call(0); }
static void on_plain(int signal) { (void)signal; check_call(1); }

static int kind_of(int signal)
{
    struct sigaction now;
    if (sigaction(signal, NULL, &now)) target_fail("sigaction %d", errno);
    for (int kind = 0; kind < KINDS; kind++)
        if (now.sa_sigaction == kinds[kind].sa_sigaction) {
            if ((now.sa_flags ^ kinds[kind].sa_flags) & (SA_SIGINFO | SA_ONSTACK | SA_RESTART)) target_fail("kind %d with flags %x", kind, (unsigned)now.sa_flags);
            return kind;
        }
    return -1;
}

static void set(int signal, int kind)
{
    last[signal] = kind;
    if (sigaction(signal, &kinds[kind], NULL)) target_fail("sigaction %d", errno);
}

static void *race(void *unused)
{
    static unsigned random = 4711;
    int signal = FIRST, before = kind_of(FIRST);
    (void)unused;
    racing = 2;
    while (kind_of(FIRST) == before) continue;
    random = random * 1103515245 + 12345;
    for (int left = 1 << (random >> 16) % 14; left; left--) {
        signal = signal == LAST ? FIRST + 1 : signal + 1;
        set(signal, !last[signal]);
    }
    racing = 0;
    return NULL;
}

static int check(void)
{
    int others = 0;
    while (racing) usleep(100);
    for (int signal = FIRST; signal <= LAST; signal++) {
        called = -1;
        raise(signal);
        int kind = kind_of(signal);
        if (called != last[signal]) target_fail("signal %d: handler %d was called, %d was set last", signal, called, last[signal]);
        if (kind >= 0 && kind != last[signal]) target_fail("signal %d: action %d is there, %d was set last", signal, kind, last[signal]);
        others += kind < 0;
    }
    return others;
}

int main(void)
{
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&alternate, NULL);
    kinds[0].sa_sigaction = on_info, kinds[0].sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaddset(&kinds[0].sa_mask, SIGUSR2);
    kinds[1].sa_handler = on_plain, kinds[1].sa_flags = SA_RESTART;
    for (int signal = FIRST; signal <= LAST; signal++) set(signal, 0);
    target_ready();
    char line[64];
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "race") == 0) {
            pthread_t racer;
            racing = 1;
            if (pthread_create(&racer, NULL, race, NULL) || pthread_detach(racer)) _exit(96);
            while (racing == 1) usleep(100); // who creates a thread blocks signals meanwhile
            target_say("waiting");
            while (racing) continue; // a thread that runs is asked to make others' system calls
        } else if (strcmp(line, "check") == 0) {
            if (hot(3) != 7) target_fail("hot");
            target_say("checked %d", check());
        } else if (strcmp(line, "quit") == 0) {
            return target_end(0);
        } else {
            target_fail("unknown command %s", line);
        }
    }
    _exit(98);
}

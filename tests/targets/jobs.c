/* jobs: a thread that ticks, for job control. Commands: "beat" prints "beat COUNT"; "stop" stops itself with SIGSTOP and prints
 * "continued COUNT" (SIGCONTs handled so far) once continued; "quit". With any argument it has an action for SIGTRAP. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

static volatile int ending;
static volatile sig_atomic_t continued;
static uint64_t beats;

PROBED int tick(int value) { return value ^ 1; }

static void on_continue(int signal) { (void)signal; continued++; }

static void *beat(void *unused)
{
    (void)unused;
    struct timespec pause = { 0, 1000000 };
    for (int i = 0; !ending; i++) {
        __atomic_add_fetch(&beats, 1, __ATOMIC_SEQ_CST);
        if (tick(i) != (i ^ 1)) target_fail("tick");
        nanosleep(&pause, NULL);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t id;
    char line[64];
    (void)argv;
    if (argc > 1) signal(SIGTRAP, on_continue);
    struct sigaction action = { .sa_handler = on_continue, .sa_flags = SA_RESTART };
    sigaction(SIGCONT, &action, NULL);
    /* The first thread takes it, before its kill returns. */
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGCONT);
    pthread_sigmask(SIG_BLOCK, &taken, NULL);
    if (pthread_create(&id, NULL, beat, NULL)) return 96;
    pthread_sigmask(SIG_UNBLOCK, &taken, NULL);
    target_ready();
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "beat") == 0) target_say("beat %llu", (unsigned long long)__atomic_load_n(&beats, __ATOMIC_SEQ_CST));
        else if (strcmp(line, "stop") == 0) { kill(getpid(), SIGSTOP); target_say("continued %d", (int)continued); }
        else if (strcmp(line, "quit") == 0) {
            ending = 1;
            pthread_join(id, NULL);
            target_say("count tick %llu", (unsigned long long)beats);
            target_say("continued %d", (int)continued);
            return target_end(0);
        } else target_fail("unknown command %s", line);
    }
    _exit(98);
}

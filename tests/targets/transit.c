/* transit THREADS [MICROSECONDS]: threads that call hot and leaf, and a timer's signal (if given) whose handler calls inner, while probes come and go.
 * Commands: "run" the threads call without end; "stop" ends that and prints "count hot TOTAL", "count leaf TOTAL" and "count inner TOTAL" of it, exactly; "quit". */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static int threads;
static volatile int running, quitting;
static uint64_t hots, leaves, inners;
static pthread_barrier_t start, end;

PROBED int inner(int value) { return value ^ 0x55; }
PROBED int leaf(int value) { return value - 3; }

PROBED int hot(int value)
{
    if (value & 1) return value * 2 + 1;
    __atomic_add_fetch(&leaves, 1, __ATOMIC_RELAXED);
    return leaf(value) + 3;
}

static void on_alarm(int signal)
{
    __atomic_add_fetch(&inners, 1, __ATOMIC_RELAXED);
    if (inner(signal) != (signal ^ 0x55)) target_fail("inner");
}

/* Signals are taken by threads that run, so no handler is under way when all have stopped; one that waits is taken in the next run. */
static void take_signals(int how)
{
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(how, &alarm, NULL);
}

static void *work(void *argument)
{
    for (;;) {
        pthread_barrier_wait(&start);
        if (quitting) return argument;
        take_signals(SIG_UNBLOCK);
        for (int i = 0; running; i++) {
            __atomic_add_fetch(&hots, 1, __ATOMIC_RELAXED);
            int result = hot(i);
            if (result != ((i & 1) ? (int)((uint32_t)i * 2 + 1) : i)) target_fail("hot(%d) gave %d", i, result);
        }
        take_signals(SIG_BLOCK);
        pthread_barrier_wait(&end);
    }
}

/* The timer's signals go to the threads that work: they stand in the middle of anything. */
static void set_timer(long microseconds)
{
    struct itimerval every = { { 0, microseconds }, { 0, microseconds } };
    setitimer(ITIMER_REAL, &every, NULL);
}

int main(int argc, char **argv)
{
    threads = target_argument(argc, argv, 1, 4);
    long microseconds = target_argument(argc, argv, 2, 0);
    struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    pthread_t ids[64];
    if (threads > 64) return 97;
    sigaction(SIGALRM, &action, NULL);
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    take_signals(SIG_BLOCK);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, NULL)) return 96;
    target_ready();
    char line[64];
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "run") == 0) {
            hots = leaves = inners = 0;
            running = 1;
            pthread_barrier_wait(&start);
            set_timer(microseconds);
            target_say("running");
        } else if (strcmp(line, "stop") == 0) {
            set_timer(0);
            running = 0;
            pthread_barrier_wait(&end);
            target_say("count hot %llu", (unsigned long long)hots);
            target_say("count leaf %llu", (unsigned long long)leaves);
            target_say("count inner %llu", (unsigned long long)__atomic_load_n(&inners, __ATOMIC_SEQ_CST));
        } else if (strcmp(line, "quit") == 0) {
            quitting = 1;
            pthread_barrier_wait(&start);
            for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
            return target_end(0);
        } else {
            target_fail("unknown command %s", line);
        }
    }
    _exit(98);
}

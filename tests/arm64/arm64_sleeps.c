/* arm64_sleeps: threads asleep in calls which an interruption could end: epoll_wait, a sleep, semop, a read. "tick" makes the main thread, which sits in epoll_pwait
 * between commands, call tick(); "end" wakes all and prints what their calls said: "epoll E nanosleep E semop E read E", 0 or the errno. */
#include "target.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <time.h>

static int semaphore, pipes[2], results[4];
static volatile double factor = 1.5;

PROBED double tick(double a) { return a * factor; }

static void *sleeps(void *unused)
{
    /* Longer than the test; ended by the pipe's thread. An interruption restarts it without an error. */
    struct timespec time = { 0, 300000000 };
    while (!__atomic_load_n(&results[3], __ATOMIC_RELAXED))
        if (nanosleep(&time, NULL) && errno) results[1] = errno;
    return unused;
}

static void *waits(void *unused)
{
    struct sembuf down = { 0, -1, 0 };
    results[2] = semop(semaphore, &down, 1) ? errno : 0;
    return unused;
}

static void *reads(void *unused)
{
    char byte;
    results[3] = read(pipes[0], &byte, 1) == 1 ? -1 : errno;
    return unused;
}

int main(void)
{
    pthread_t ids[3];
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    int poll = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN }, ready;
    if (pipe(pipes) || epoll_ctl(poll, EPOLL_CTL_ADD, 0, &event)) return 95;
    if (semaphore < 0) target_fail("semget");
    if (pthread_create(&ids[0], NULL, sleeps, NULL) || pthread_create(&ids[1], NULL, waits, NULL) || pthread_create(&ids[2], NULL, reads, NULL)) return 96;
    target_ready();
    for (;;) {
        char line[64];
        int n = epoll_wait(poll, &ready, 1, -1);
        if (n < 0) { results[0] = errno; continue; }
        if (!target_command(line, sizeof line)) _exit(98);
        if (strcmp(line, "tick") != 0) break;
        if (tick(2) != 3) target_fail("tick");
        target_say("ticked");
    }
    struct sembuf up = { 0, 1, 0 };
    if (semop(semaphore, &up, 1) || write(pipes[1], "x", 1) != 1) target_fail("waking");
    for (int i = 0; i < 3; i++) pthread_join(ids[i], NULL);
    semctl(semaphore, 0, IPC_RMID);
    target_say("epoll %d nanosleep %d semop %d read %d", results[0], results[1], results[2], results[3] == -1 ? 0 : results[3]);
    return target_end(0);
}

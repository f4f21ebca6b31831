/* survivor: threads that work, sleep and get signals, and check all that they do, whatever becomes of who traces them. Commands: "phase" waits until every thread has gone on since the
 * last phase and prints "phase CALLS"; "count" stops the callers for a moment and prints "count calls TOTAL"; "fork" makes a child that calls, too, and prints "child STATUS"; "quit". */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { CALLERS = 2, READER = CALLERS, EPOLLER, SLEEPER, WRITER, SIGNALS, KINDS };
static volatile int quitting, pausing;
static struct { volatile uint64_t rounds; volatile int paused; char pad[112]; } seen[KINDS];
static volatile uint64_t calls[CALLERS];
static int pipes[2], event_pipes[2];
static volatile double scale = 0.5;

PROBED int plain(int value) { return value * 3 + 1; }
PROBED uint64_t mix(uint64_t a, uint64_t b) { for (int i = 0; i < 3; i++) { a ^= b << 13; a *= 0x9e3779b97f4a7c15; b += a >> 7; } return a + b; }
PROBED double scaled(double value) { return value * scale + 0.25; }
PROBED int deep(int depth) { return depth == 0 ? 0 : deep(depth - 1) + depth; }
PROBED int choose(int value) { if (value & 1) return value >> 1; switch (value & 6) { case 0: return 1; case 2: return value + 5; default: return value ^ 9; } }
PROBED uint64_t peek(const uint64_t *word) { return *word + 1; }
PROBED void ticked(int signal) { seen[SIGNALS].rounds += signal == SIGALRM; }

static inline uint64_t mixed(uint64_t a, uint64_t b) { for (int i = 0; i < 3; i++) { a ^= b << 13; a *= 0x9e3779b97f4a7c15; b += a >> 7; } return a + b; }

static uint64_t call_all(int i)
{
    double sum = 0.125 * i;
    int tripled = plain(i);
    if (tripled != (int)((uint32_t)i * 3 + 1)) target_fail("plain(%d) gave %d", i, tripled);
    uint64_t one = mix((uint64_t)i, 77), other = mixed((uint64_t)i, 77);
    if (one != other) target_fail("mix(%d) gave %llx, not %llx", i, (unsigned long long)one, (unsigned long long)other);
    double got = scaled(i);
    if (got != i * 0.5 + 0.25 || sum != 0.125 * i) target_fail("scaled(%d) gave %g", i, got);
    if (deep(i & 15) != (i & 15) * ((i & 15) + 1) / 2) target_fail("deep(%d)", i & 15);
    int chosen = (i & 1) ? i >> 1 : (i & 6) == 0 ? 1 : (i & 6) == 2 ? i + 5 : i ^ 9;
    if (choose(i) != chosen) target_fail("choose(%d)", i);
    uint64_t word = (uint64_t)i * 5;
    if (peek(&word) != word + 1) target_fail("peek(%d)", i);
    return 1;
}

static void *call(void *argument)
{
    int index = (int)(intptr_t)argument;
    for (int i = 0; !quitting; i = (i + 1) & 0xffffff) {
        if (pausing) {
            seen[index].paused = 1;
            while (pausing && !quitting) { struct timespec t = { 0, 100000 }; nanosleep(&t, NULL); }
            seen[index].paused = 0;
        }
        calls[index] += call_all(i);
        seen[index].rounds++;
    }
    return NULL;
}

static void *read_all(void *unused)
{
    unsigned char expected = 0, got;
    (void)unused;
    while (!quitting) {
        ssize_t n = read(pipes[0], &got, 1);
        if (n != 1 || got != expected) target_fail("read gave %zd (errno %d), byte %d for %d", n, errno, got, expected);
        expected = (unsigned char)(got + 1);
        seen[READER].rounds++;
    }
    return NULL;
}

static void *poll_all(void *unused)
{
    int file = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN };
    unsigned char got;
    (void)unused;
    epoll_ctl(file, EPOLL_CTL_ADD, event_pipes[0], &event);
    while (!quitting) {
        /* EINTR is the kernel's own answer to a tracer that asks a thread to stop and is killed before it can undo that. */
        int n = epoll_wait(file, &event, 1, -1);
        if (n != 1 && errno != EINTR) target_fail("epoll_wait gave %d (errno %d)", n, errno);
        if (n == 1 && read(event_pipes[0], &got, 1) != 1) target_fail("nothing to read after epoll_wait");
        seen[EPOLLER].rounds += n == 1;
    }
    close(file);
    return NULL;
}

static void *sleep_all(void *unused)
{
    (void)unused;
    while (!quitting) {
        struct timespec before, after, t = { 0, 1500000 };
        clock_gettime(CLOCK_MONOTONIC, &before);
        int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
        clock_gettime(CLOCK_MONOTONIC, &after);
        long ns = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
        if (error || ns < t.tv_nsec) target_fail("clock_nanosleep gave %d after %ld ns", error, ns);
        seen[SLEEPER].rounds++;
    }
    return NULL;
}

static void *write_all(void *unused)
{
    (void)unused;
    for (unsigned char c = 0; ; c++) {
        struct timespec t = { 0, 700000 };
        if (write(pipes[1], &c, 1) != 1 || write(event_pipes[1], &c, 1) != 1) target_fail("write: errno %d", errno);
        if (quitting) {
            /* Whoever began to wait before that was set. */
            c++;
            if (write(pipes[1], &c, 1) != 1 || write(event_pipes[1], &c, 1) != 1) target_fail("last write: errno %d", errno);
            return NULL;
        }
        nanosleep(&t, NULL);
        seen[WRITER].rounds++;
    }
}

static void on_alarm(int signal) { ticked(signal); }

static uint64_t total(void) { uint64_t sum = 0; for (int i = 0; i < CALLERS; i++) sum += calls[i]; return sum; }

static void wait_for_progress(void)
{
    static uint64_t last[KINDS];
    for (int i = 0; i < KINDS; i++) last[i] = seen[i].rounds;
    for (int i = 0; i < KINDS; i++) {
        int patience = 0;
        while (seen[i].rounds < last[i] + 2 && patience < 20000) { struct timespec t = { 0, 1000000 }; nanosleep(&t, NULL); patience++; }
        if (seen[i].rounds < last[i] + 2) target_fail("thread %d does not go on", i);
    }
}

int main(void)
{
    pthread_t ids[KINDS];
    sigset_t alarm;
    struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    struct itimerval timer = { { 0, 2000 }, { 0, 2000 } };
    if (pipe(pipes) || pipe(event_pipes)) return 96;
    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    /* The callers take the signals. */
    for (int i = 0; i < CALLERS; i++) if (pthread_create(&ids[i], NULL, call, (void *)(intptr_t)i)) return 95;
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    void *(*others[])(void *) = { read_all, poll_all, sleep_all, write_all };
    for (int i = READER; i <= WRITER; i++) if (pthread_create(&ids[i], NULL, others[i - READER], NULL)) return 94;
    setitimer(ITIMER_REAL, &timer, NULL);
    target_ready();
    char line[64];
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "phase") == 0) {
            wait_for_progress();
            target_say("phase %llu", (unsigned long long)total());
        } else if (strcmp(line, "count") == 0) {
            pausing = 1;
            for (int i = 0; i < CALLERS; i++) while (!seen[i].paused) { struct timespec t = { 0, 100000 }; nanosleep(&t, NULL); }
            target_say("count calls %llu", (unsigned long long)total());
            target_command(line, sizeof line);
            pausing = 0;
        } else if (strcmp(line, "fork") == 0) {
            int status = -1;
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                uint64_t done = 0;
                for (int i = 0; i < 1000; i++) done += call_all(i);
                _exit(done == 1000 ? 7 : 8);
            }
            if (waitpid(child, &status, 0) != child) target_fail("waitpid: errno %d", errno);
            target_say("child %x", (unsigned)status & ~0x80u);
        } else if (strcmp(line, "quit") == 0) {
            break;
        }
    }
    quitting = 1;
    for (int i = 0; i <= WRITER; i++) pthread_join(ids[i], NULL);
    return target_end(0);
}

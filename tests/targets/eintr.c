/* eintr: one thread in each blocking system call that gives EINTR when disturbed; any command ends it. Prints "eintr NAME COUNT" for each. */
#include "target.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

static volatile int stopping;
static int semaphores, queue, pipes[2], listener, receiver, futex_word;
static PROBED void returned(int error) { (void)error; }

static long do_epoll_wait(void) { struct epoll_event e; int f = epoll_create1(EPOLL_CLOEXEC); long r = epoll_wait(f, &e, 1, -1); int s = errno; close(f); errno = s; return r; }
static long do_sigtimedwait(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    struct timespec t = { 3600, 0 };
    return sigtimedwait(&set, NULL, &t);
}
static long do_semop(void) { struct sembuf op = { 0, -1, 0 }; return semop(semaphores, &op, 1); }
static long do_msgrcv(void) { struct { long type; char text[8]; } m; return msgrcv(queue, &m, sizeof m.text, 0, 0); }
static long do_nanosleep(void) { struct timespec t = { 3600, 0 }; return nanosleep(&t, NULL); }
static long do_clock_nanosleep(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += 3600;
    int r = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    errno = r;
    return r ? -1 : 0;
}
static long do_read(void) { char c; return read(pipes[0], &c, 1); }
static long do_futex(void) { return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
static long do_futex_timed(void) { struct timespec t = { 3600, 0 }; return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0); }
static long do_poll(void) { struct pollfd p = { pipes[0], POLLPRI, 0 }; return poll(&p, 1, -1); }
static long do_select(void) { struct timeval t = { 3600, 0 }; return select(0, NULL, NULL, NULL, &t); }
static long do_accept(void) { return accept(listener, NULL, NULL); }
static long do_recv(void) { char c; return recv(receiver, &c, 1, 0); }
static long do_pause(void) { return pause(); }

static struct { const char *name; long (*call)(void); int eintr, returns, finished, tid; pthread_t id; } calls[] = {
    { .name = "epoll_wait", .call = do_epoll_wait }, { .name = "sigtimedwait", .call = do_sigtimedwait }, { .name = "semop", .call = do_semop },
    { .name = "msgrcv", .call = do_msgrcv }, { .name = "nanosleep", .call = do_nanosleep }, { .name = "clock_nanosleep", .call = do_clock_nanosleep },
    { .name = "read", .call = do_read }, { .name = "futex", .call = do_futex }, { .name = "futex_timed", .call = do_futex_timed },
    { .name = "poll", .call = do_poll }, { .name = "select", .call = do_select }, { .name = "accept", .call = do_accept },
    { .name = "recv_timeout", .call = do_recv }, { .name = "pause", .call = do_pause },
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void *park(void *argument)
{
    int i = (int)(intptr_t)argument;
    __atomic_store_n(&calls[i].tid, target_tid(), __ATOMIC_SEQ_CST);
    while (!stopping) {
        long result = calls[i].call();
        int error = result < 0 ? errno : 0;
        returned(error);
        if (stopping) break;
        calls[i].returns++;
        if (error == EINTR) calls[i].eintr++;
    }
    __atomic_store_n(&calls[i].finished, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void on_wake(int signal) { (void)signal; }

static int is_parked(int tid)
{
    char path[64], text[256];
    if (!tid) return 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    if (n <= 0) return 0;
    text[n] = 0;
    char *state = strrchr(text, ')');
    return state && state[2] == 'S';
}

int main(void)
{
    char line[64];
    struct sigaction wake = { .sa_handler = on_wake };
    struct timespec tick = { 0, 2000000 };
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, SIGRTMIN + 3);
    pthread_sigmask(SIG_BLOCK, &waited, NULL);
    sigaction(SIGUSR2, &wake, NULL);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    queue = msgget(IPC_PRIVATE, 0600);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval hour = { 3600, 0 };
    if (semaphores < 0 || queue < 0 || pipe2(pipes, O_CLOEXEC) || bind(listener, (void *)&any, sizeof any) || listen(listener, 1)
        || bind(receiver, (void *)&any, sizeof any) || setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour)) return 96;
    for (int i = 0; i < CALLS; i++)
        if (pthread_create(&calls[i].id, NULL, park, (void *)(intptr_t)i)) return 95;
    for (int parked = 0; parked < CALLS;) {
        nanosleep(&tick, NULL);
        parked = 0;
        for (int i = 0; i < CALLS; i++) parked += is_parked(__atomic_load_n(&calls[i].tid, __ATOMIC_SEQ_CST));
    }
    target_ready();
    target_command(line, sizeof line);
    stopping = 1;
    for (int i = 0; i < CALLS; i++) {
        while (!__atomic_load_n(&calls[i].finished, __ATOMIC_SEQ_CST)) {
            pthread_kill(calls[i].id, SIGUSR2);
            nanosleep(&tick, NULL);
        }
        pthread_join(calls[i].id, NULL);
    }
    semctl(semaphores, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
    for (int i = 0; i < CALLS; i++) {
        target_say("eintr %s %d", calls[i].name, calls[i].eintr);
        if (calls[i].eintr) target_fail("%s gave EINTR %d times", calls[i].name, calls[i].eintr);
        else if (calls[i].returns) target_fail("%s returned %d times", calls[i].name, calls[i].returns);
    }
    return target_end(0);
}

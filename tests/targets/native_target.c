/* One program of many small modes for the tests of the platform layer. It prints what it saw; "ready" first where it is about to block. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void on_signal(int signal)
{
    handled = signal;
}

static void handle(int signal)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(signal, &action, NULL);
}

static long elapsed_ms(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

static int print_signals(void)
{
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int i = 1; i < 65; i++) {
        struct sigaction action;
        if (sigismember(&mask, i) == 1)
            printf("blocked %d\n", i);
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            printf("not default %d\n", i);
    }
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("fd %d\n", fd);
    return 0;
}

static int print_environment(int argc, char **argv)
{
    char directory[4096];
    printf("cwd %s\n", getcwd(directory, sizeof directory));
    for (int i = 0; i < argc; i++)
        printf("arg %s\n", argv[i]);
    const char *value = getenv("FASTTRAP_TEST");
    printf("env %s\n", value ? value : "(none)");
    fprintf(stderr, "err\n");
    return 3;
}

static uint64_t numbers[4096];
static const uint64_t constant = 0x1122334455667788;

static int print_memory(void)
{
    for (int i = 0; i < 4096; i++)
        numbers[i] = 0x1000000 + (uint64_t)i;
    printf("ready %p %p\n", (void *)numbers, (const void *)&constant);
    fflush(stdout);
    while (numbers[0] != 42)
        poll(NULL, 0, 1);
    printf("changed %llu\n", (unsigned long long)numbers[1]);
    return 0;
}

static int blocked_sleep(void)
{
    struct timespec start, wanted = { 1, 0 }, rest = { 7, 7 };
    clock_gettime(CLOCK_MONOTONIC, &start);
    int result = nanosleep(&wanted, &rest);
    printf("nanosleep %d %d %s\n", result, result ? errno : 0, elapsed_ms(&start) >= 1000 ? "enough" : "short");
    return 0;
}

static int blocked_read(void)
{
    char c = 0;
    ssize_t result = read(0, &c, 1);
    printf("read %zd %d %c\n", result, result < 0 ? errno : 0, c);
    return 0;
}

static int blocked_poll(void)
{
    struct pollfd fd = { 0, POLLIN, 0 };
    int result = poll(&fd, 1, 60000);
    printf("poll %d %d\n", result, result < 0 ? errno : 0);
    return 0;
}

static int blocked_epoll(void)
{
    int epoll = epoll_create1(0), result, interrupted = 0;
    struct epoll_event event = { EPOLLIN, { 0 } };
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    while ((result = epoll_wait(epoll, &event, 1, -1)) < 0 && errno == EINTR)
        interrupted = 1;
    printf("epoll_wait %d %d\n", result, result < 0 ? errno : 0);
    return interrupted;
}

static int blocked_pause(void)
{
    int result = pause();
    printf("pause %d %s handled %d\n", result, errno == EINTR ? "EINTR" : "?", (int)handled);
    return 0;
}

static int blocked_sigsuspend(void)
{
    sigset_t mask, other;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    sigemptyset(&other);
    sigaddset(&other, SIGUSR2);
    sigsuspend(&other);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    printf("sigsuspend handled %d mask %d%d\n", (int)handled, sigismember(&mask, SIGUSR1), sigismember(&mask, SIGUSR2));
    return 0;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *unlock_later(void *unused)
{
    char c;
    (void)unused;
    if (read(0, &c, 1) == 1)
        pthread_mutex_unlock(&mutex);
    return NULL;
}

static int blocked_mutex(void)
{
    pthread_t thread;
    pthread_mutex_lock(&mutex);
    pthread_create(&thread, NULL, unlock_later, NULL);
    int result = pthread_mutex_lock(&mutex);
    printf("mutex %d\n", result);
    pthread_join(thread, NULL);
    return 0;
}

/* getppid is trapped, getpgrp and getpgid give EPERM. */
static int filtered_read(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
    char c = 0;
    handle(SIGSYS);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        printf("no seccomp\n");
        return 77;
    }
    ssize_t result = read(0, &c, 1);
    printf("read %zd handled %d", result, (int)handled);
    getppid();
    printf(" then %d\n", (int)handled);
    return 0;
}

static int trap(void)
{
#if defined(__x86_64__)
    uint64_t a = 0x123456789abcdef, b = a;
    __asm__ volatile("mov %0, %%r11\n\tint3\n\tmov %%r11, %0" : "+r"(b) : : "r11", "memory");
    printf("trap %s\n", a == b ? "same" : "changed");
#endif
    return 5;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    handle(SIGUSR1);
    if (!strcmp(mode, "signals")) {
        signal(SIGUSR1, SIG_DFL);
        return print_signals();
    }
    if (!strcmp(mode, "environment"))
        return print_environment(argc, argv);
    if (!strcmp(mode, "memory"))
        return print_memory();
    if (!strcmp(mode, "trap"))
        return trap();
    printf("ready\n");
    fflush(stdout);
    if (!strcmp(mode, "nanosleep"))
        return blocked_sleep();
    if (!strcmp(mode, "read"))
        return blocked_read();
    if (!strcmp(mode, "poll"))
        return blocked_poll();
    if (!strcmp(mode, "epoll_wait"))
        return blocked_epoll();
    if (!strcmp(mode, "pause"))
        return blocked_pause();
    if (!strcmp(mode, "sigsuspend"))
        return blocked_sigsuspend();
    if (!strcmp(mode, "seccomp"))
        return filtered_read();
    if (!strcmp(mode, "mutex"))
        return blocked_mutex();
    return 99;
}

/* runner [-u UID] -- COMMAND ARGUMENTS: starts the command and reports on descriptor 3: "pid N", then "exited CODE", "killed SIGNAL" or "error ERRNO".
 *
 * It stands between the tests and a target so that the target's natural parent is not the tracing process: were it, the first of the two waits (the
 * tracer's and the test's) would take the exit code from the other. When descriptor 3 is closed (the test is over, or the tests have ended), the command is killed,
 * and so is whatever it has started and left behind: who loses its parent is the runner's. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void report(const char *word, int number)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s %d\n", word, number);
    /* That nobody listens any more is noticed elsewhere. */
    if (write(3, line, (size_t)length) != length) errno = 0;
}

/* Sends SIGKILL to all present children. */
static void kill_children(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *children = fopen(path, "r");
    int child;
    while (children && fscanf(children, "%d", &child) == 1) kill(child, SIGKILL);
    if (children) fclose(children);
}

int main(int argc, char **argv)
{
    int first = 1;
    long uid = -1;
    signal(SIGPIPE, SIG_IGN);
    if (argc > 2 && strcmp(argv[1], "-u") == 0) {
        uid = atol(argv[2]);
        first = 3;
    }
    if (first < argc && strcmp(argv[first], "--") == 0) first++;
    if (first >= argc) return 2;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t sigchld, before;
    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &sigchld, &before);
    int failure[2];
    if (pipe2(failure, O_CLOEXEC)) return 3;
    pid_t child = fork();
    if (child < 0) { report("error", errno); return 4; }
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        fcntl(3, F_SETFD, FD_CLOEXEC);
        if (uid < 0 || (!setgroups(0, NULL) && !setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) && !setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid)))
            execvp(argv[first], argv + first);
        int error = errno;
        if (write(failure[1], &error, sizeof error) < 0) _exit(126);
        _exit(127);
    }
    close(failure[1]);
    for (int i = 0; i < 3; i++) close(i);
    int error;
    if (read(failure[0], &error, sizeof error) == (ssize_t)sizeof error) {
        waitpid(child, NULL, 0);
        report("error", error);
        return 0;
    }
    report("pid", child);
    int signals = signalfd(-1, &sigchld, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) return 5;
    struct pollfd waits[2] = { { signals, POLLIN, 0 }, { 3, POLLIN | POLLRDHUP, 0 } };
    time_t end = 0;
    int reaped = 0;
    for (;;) {
        int status;
        pid_t ended;
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
            if (ended != child) continue;
            reaped = 1;
            if (WIFEXITED(status)) report("exited", WEXITSTATUS(status));
            else report("killed", WTERMSIG(status));
        }
        if (end) {
            if (ended < 0) return 0;
            /* A tracer may keep somebody who was killed. */
            if (time(NULL) > end) return 6;
            if (!reaped) kill(child, SIGKILL);
            kill_children();
        }
        struct signalfd_siginfo info;
        if (poll(waits, end ? 1 : 2, end ? 100 : -1) < 0 && errno != EINTR) return 7;
        while (read(signals, &info, sizeof info) > 0) continue;
        if (!end && waits[1].revents) end = time(NULL) + 10;
    }
}

/* runner [-u UID] -- COMMAND ARGUMENTS: starts the command and reports on descriptor 3: "pid N", then "exited CODE", "killed SIGNAL" or "error ERRNO".
 *
 * It stands between the tests and a target so that the target's natural parent is not the tracing process: were it, the first of the two waits (the
 * tracer's and the test's) would take the exit code from the other. When descriptor 3 is closed (the tests have ended), the command is killed. */
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void report(const char *word, int number)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s %d\n", word, number);
    if (write(3, line, (size_t)length) != length) _exit(1);
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
    int failure[2];
    if (pipe2(failure, O_CLOEXEC)) return 3;
    pid_t child = fork();
    if (child < 0) { report("error", errno); return 4; }
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
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
    int handle = (int)syscall(SYS_pidfd_open, child, 0);
    if (handle < 0) return 5;
    struct pollfd waits[2] = { { 3, POLLIN | POLLRDHUP, 0 }, { handle, POLLIN, 0 } };
    while (poll(waits, 2, -1) < 0 && errno == EINTR) { }
    if (!waits[1].revents) kill(child, SIGKILL);
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return 6;
    if (WIFEXITED(status)) report("exited", WEXITSTATUS(status));
    else report("killed", WTERMSIG(status));
    return 0;
}

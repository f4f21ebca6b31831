/* states zombie|traced: has a child which cannot be traced, prints "child PID" and waits for a line: a zombie, or one that this program traces itself. */
#include "target.h"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    int traced = argc > 1 && strcmp(argv[1], "traced") == 0;
    pid_t child = fork();
    if (child < 0) return 96;
    if (child == 0) {
        if (!traced) _exit(5);
        for (;;) pause();
    }
    siginfo_t info;
    if (traced) {
        if (ptrace(PTRACE_SEIZE, child, NULL, NULL)) target_fail("seize: errno %d", errno);
    } else if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT)) {
        target_fail("waitid: errno %d", errno);
    }
    target_ready();
    target_say("child %d", (int)child);
    target_wait();
    if (traced) kill(child, SIGKILL);
    if (waitpid(child, NULL, 0) != child) target_fail("waitpid: errno %d", errno);
    return target_end(0);
}

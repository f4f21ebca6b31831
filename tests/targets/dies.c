/* dies [ROUNDS] [storm]: children that exit with 7 at once; "killed N of ROUNDS" counts those that a signal killed. With "storm" without end, by
 * several threads. With "vfork" a vfork child reads a line and exits, while its parent waits for it. */
#include "target.h"
#include <pthread.h>
#include <sys/wait.h>

static int killed;

static void one(void)
{
    int status = 0;
    pid_t pid = fork(), got;
    if (pid == 0) _exit(7);
    if (pid < 0) { target_fail("fork"); return; }
    do got = waitpid(pid, &status, 0); while (got < 0 && errno == EINTR);
    if (got != pid) target_fail("waitpid");
    else if (WIFSIGNALED(status)) killed++;
    else if (WEXITSTATUS(status) != 7) target_fail("status %x", status);
}

static void *storm(void *unused)
{
    (void)unused;
    for (;;) one();
}

int main(int argc, char **argv)
{
    int rounds = target_argument(argc, argv, 1, 5);
    target_ready();
    target_wait();
    if (argc > 2 && strcmp(argv[2], "vfork") == 0) {
        int status = 0;
        char line[16];
        pid_t pid = vfork();
        if (pid == 0) _exit(target_command(line, sizeof line) ? 7 : 98);
        if (waitpid(pid, &status, 0) != pid || status != 7 << 8) target_fail("vfork child %x", status);
        target_say("back");
        target_wait();
        return target_end(0);
    }
    if (argc > 2) {
        pthread_t id;
        for (int i = 0; i < 3; i++)
            if (pthread_create(&id, NULL, storm, NULL)) return 96;
        storm(NULL);
    }
    for (int i = 0; i < rounds; i++) one();
    target_say("killed %d of %d", killed, rounds);
    target_wait();
    return target_end(0);
}

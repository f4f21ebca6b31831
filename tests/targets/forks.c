/* forks [ROUNDS]: children of every kind call probed functions, look at their own text (unless TARGET_PROBED is set) and exit with a code which the parent checks. */
#include "text.h"
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static uint64_t parent_calls;

PROBED int work(int value) { return value * 3 + 1; }
PROBED int other(int value) { return work(value) ^ 0x55; }

static int use(int seed)
{
    int sum = 0;
    for (int i = 0; i < 10; i++) sum += other(seed + i);
    return sum;
}

static int expected_use(int seed)
{
    int sum = 0;
    for (int i = 0; i < 10; i++) sum += ((seed + i) * 3 + 1) ^ 0x55;
    return sum;
}

static void check_text(const char *who)
{
    if (getenv("TARGET_PROBED")) return; /* its children are probed, too */
    long differences = text_differences();
    if (differences != 0) target_fail("%s: %ld bytes of text differ from the file", who, differences);
}

static int child_code(int round) { return 10 + round % 100; }

static void child(const char *who, int round)
{
    check_text(who);
    if (use(round) != expected_use(round)) target_fail("%s: wrong result", who);
    check_text(who);
    _exit(target_failures ? 1 : child_code(round));
}

static void reap(const char *who, pid_t pid, int round)
{
    int status = 0;
    pid_t got;
    do got = waitpid(pid, &status, __WALL); while (got < 0 && errno == EINTR);
    if (got != pid) target_fail("%s: waitpid gave %d errno %d", who, (int)got, errno);
    else if (WIFSIGNALED(status)) target_fail("%s: killed by signal %d", who, WTERMSIG(status));
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != child_code(round)) target_fail("%s: status %x, expected code %d", who, status, child_code(round));
}

static int clone_entry(void *argument)
{
    int round = (int)(intptr_t)argument;
    int right = use(round) == expected_use(round);
    _exit(right ? child_code(round) : 1);
}

int main(int argc, char **argv)
{
    char number[16];
    if (argc == 3 && strcmp(argv[1], "child") == 0) child("executed child", atoi(argv[2]));
    int rounds = target_argument(argc, argv, 1, 10);
    check_text("parent before");
    target_ready();
    target_wait();
    static char stack[65536] __attribute__((aligned(16)));
    char *self = "/proc/self/exe";
    for (int i = 0; i < rounds; i++) {
        snprintf(number, sizeof number, "%d", i);
        char *arguments[] = { "forks", "child", number, NULL };
        pid_t pid = fork();
        if (pid == 0) child("fork", i);
        reap("fork", pid, i);

        pid = vfork();
        if (pid == 0) { execve(self, arguments, environ); _exit(91); }
        reap("vfork and exec", pid, i);

        if (posix_spawn(&pid, self, NULL, NULL, arguments, environ)) target_fail("posix_spawn");
        reap("posix_spawn", pid, i);

        /* Shares memory: it runs the parent's text, traps too, while nobody waits for its events but the parent's tracer. */
        pid = clone(clone_entry, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)(intptr_t)i);
        reap("clone with shared memory", pid, i);

        pid = fork();
        if (pid == 0) {
            pid_t grandchild = fork();
            if (grandchild == 0) child("grandchild", i);
            reap("grandchild", grandchild, i);
            child("child of grandchild", i);
        }
        reap("nested fork", pid, i);
        if (use(i) != expected_use(i)) target_fail("parent: wrong result");
        parent_calls += 10;
    }
    target_say("count other %llu", (unsigned long long)parent_calls);
    target_say("count children %d", rounds * 6);
    target_wait();
    check_text("parent after");
    return target_end(0);
}

/* faults: on "go N" two threads call functions whose instructions are emulated, run in slots and touch memory; "done N SUM" follows. A child is
 * forked and another spawned each time. "quit" ends it. */
#include "target.h"
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static volatile double factor = 1.5;
static volatile long memory[8];
static long each;
static uint64_t sum;

PROBED double work_slot(double value) { return value * factor + (double)memory[1]; }
PROBED long work_memory(long value) { memory[value & 7] += value; return memory[value & 7]; }
PROBED long work_plain(long value) { return value * 2 + 1; }

static void *work(void *argument)
{
    uint64_t own = 0;
    for (long i = 0; i < each; i++) {
        if (work_plain(i) != i * 2 + 1) target_fail("work_plain");
        own += (uint64_t)work_plain(i);
        (void)work_memory(i);
        if (work_slot(2.0) < 3.0) target_fail("work_slot");
    }
    __atomic_add_fetch(&sum, own, __ATOMIC_SEQ_CST);
    return argument;
}

static void run_child(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0) continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) target_fail("child status %x", status);
}

int main(void)
{
    target_ready();
    char line[64];
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "quit") == 0) return target_end(0);
        each = atol(line + 3);
        sum = 0;
        pthread_t other;
        if (pthread_create(&other, NULL, work, NULL)) return 96;
        work(NULL);
        pthread_join(other, NULL);
        pid_t child = fork();
        if (child == 0) _exit(work_plain(1) == 3 ? 0 : 1);
        run_child(child);
        char *arguments[] = { "true", NULL };
        if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ) == 0) run_child(child);
        if (sum != 2 * (uint64_t)(each * each)) target_fail("sum %llu", (unsigned long long)sum);
        target_say("done %ld %llu", each, (unsigned long long)sum);
    }
    return 97;
}

/* execs [THREADS]: threads call hot(int) without end until one of them, or the main thread, executes this program again as its second stage.
 * Commands: "leader" or "thread" say who executes. The second stage prints "second PID DIFFERENCES" (bytes of text which are not the file's), then for each
 * line "go N" calls hot so often and prints "count hot N"; "end" ends it with code 7. */
#include "text.h"
#include <pthread.h>

static char *second[] = { "execs", "second", NULL };
static volatile int thread_executes;

PROBED int hot(int value) { return value * 2 + 1; }

static void execute(void)
{
    execv("/proc/self/exe", second);
    _exit(91);
}

static void *work(void *argument)
{
    int index = (int)(intptr_t)argument;
    for (int i = 0;; i++) {
        if (hot(i) != (int)((uint32_t)i * 2 + 1)) target_fail("hot(%d)", i);
        if (index == 0 && thread_executes) execute();
    }
    return NULL;
}

static int second_stage(void)
{
    char line[64];
    target_say("second %d %ld", (int)getpid(), text_differences());
    while (target_command(line, sizeof line)) {
        if (strncmp(line, "go ", 3) == 0) {
            int number = atoi(line + 3);
            for (int i = 0; i < number; i++)
                if (hot(i) != i * 2 + 1) target_fail("hot(%d)", i);
            target_say("count hot %d", number);
        } else {
            return target_end(7);
        }
    }
    _exit(98);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "second") == 0) return second_stage();
    int threads = target_argument(argc, argv, 1, 8);
    for (int i = 0; i < threads; i++) {
        pthread_t id;
        if (pthread_create(&id, NULL, work, (void *)(intptr_t)i)) return 96;
    }
    target_ready();
    char line[64];
    if (!target_command(line, sizeof line)) _exit(98);
    if (strcmp(line, "leader") == 0) execute();
    thread_executes = 1;
    for (;;) pause();
}

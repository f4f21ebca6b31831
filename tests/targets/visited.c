/* visited KIND THREADS: threads that make it hard to look at them, until "stop"; then "count work TOTAL" is printed, of the calls of work by threads and vfork children.
 * fork: they fork children, which call work and must live; clone: they start and join threads, which call work; vfork: their children share the memory, call work and end;
 * late: the same, but these children take some milliseconds before they call work;
 * island (x86-64): they call lone, which is a return with padding behind it, and work. near is called, too: its window ends at a branch target, so its jump needs an island in that padding. */
#include "target.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

static volatile int stopping;
static uint64_t calls;
static const char *kind;

PROBED int work(int value) { return value * 2 + 1; }

#if defined(__x86_64__)
__asm__(".text\n.p2align 5\n"
        ".globl lone\n.type lone, @function\nlone:\n ret\n.size lone, .-lone\n.p2align 5\n"
        ".globl near\n.type near, @function\nnear:\n mov %edi, %eax\n1: dec %eax\n jnz 1b\n ret\n.size near, .-near\n.p2align 5\n");
#else
void lone(void) { }
int near(int value) { return value - value; }
#endif
void lone(void);
int near(int value);

static void call(int value)
{
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (work(value) != value * 2 + 1) target_fail("work(%d)", value);
}

static void expect(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 7 << 8) target_fail("a child ended with %x", status);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void *once(void *argument) { call((int)(intptr_t)argument); return NULL; }

static void *run(void *argument)
{
    for (int i = 1; !stopping; i++) {
        pthread_t id;
        if (kind[0] == 'f') {
            pid_t child = fork();
            if (child == 0) _exit(work(i) == i * 2 + 1 ? 7 : 8);
            expect(child);
            call(i);
        } else if (kind[0] == 'c') {
            if (pthread_create(&id, NULL, once, (void *)(intptr_t)i)) target_fail("no thread");
            else pthread_join(id, NULL);
        } else if (kind[0] == 'v' || kind[0] == 'l') {
            pid_t child = vfork();
            if (child == 0) {
                uint64_t end = now() + (kind[0] == 'l' ? 20000000 : 0);
                while (now() < end) { }
                call(3);
                _exit(7);
            }
            expect(child);
        } else {
            lone();
            call(i);
            if (near(3) != 0) target_fail("near");
        }
    }
    return argument;
}

int main(int argc, char **argv)
{
    int threads = target_argument(argc, argv, 2, 2);
    kind = argc > 1 ? argv[1] : "island";
    pthread_t ids[64];
    size_t size = (size_t)64 << 20;
    if (kind[0] == 'f') memset(malloc(size), 1, size);
    target_ready();
    for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, run, NULL);
    char line[64];
    while (target_command(line, sizeof line) && strcmp(line, "stop") != 0) { }
    stopping = 1;
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    target_say("count work %lu", (unsigned long)calls);
    return target_failures != 0;
}

/* threads [THREADS]: threads that call hot(int) only when told to.
 * Commands: "go N" each thread calls N times, then "count hot TOTAL" (of this round) is printed; "run" they call without end;
 * "phase" the calls since the last "phase" or "run" (all calls, counted before they happen, with running threads); "stop" ends a run and
 * prints "count hot TOTAL" of it exactly; "churn N" starts and joins N short threads which call hot once each; "base N" two threads call N times with each of four bases of fs (x86-64); "quit". */
#include "target.h"
#include <pthread.h>

static int threads;
static pthread_barrier_t start, end;
static volatile int running, quitting;
static long each;
static struct { uint64_t calls, sum; char pad[112]; } slots[4096];
static uint64_t phase_mark;

PROBED int hot(int value) { return value * 2 + 1; }

static void *work(void *argument)
{
    int index = (int)(intptr_t)argument;
    for (;;) {
        pthread_barrier_wait(&start);
        if (quitting) return NULL;
        for (long i = 0; each ? i < each : running; i++) {
            __atomic_add_fetch(&slots[index].calls, 1, __ATOMIC_RELAXED);
            int result = hot((int)i);
            if (result != (int)((uint32_t)i * 2 + 1)) target_fail("hot(%ld) gave %d", i, result);
            slots[index].sum += (uint64_t)result;
        }
        pthread_barrier_wait(&end);
    }
}

static void *once(void *argument)
{
    int value = (int)(intptr_t)argument;
    if (hot(value) != value * 2 + 1) target_fail("hot in a short thread");
    return NULL;
}

#if defined(__x86_64__)
/* No base at all, a word that is no pointer, another block's pointer, its own. Nothing here looks at variables of the thread meanwhile. */
static void *based(void *argument)
{
    uint64_t own, no_pointer[1] = { 42 }, block[1] = { (uint64_t)block }, others[1] = { (uint64_t)block };
    uint64_t bases[] = { 0, (uint64_t)no_pointer, (uint64_t)others, (uint64_t)block };
    long wrong = 0, number = (long)(intptr_t)argument;
    __asm__ volatile("rdfsbase %0" : "=r"(own));
    for (int i = 0; i < 4; i++) {
        __asm__ volatile("wrfsbase %0" : : "r"(bases[i]) : "memory");
        for (long call = 0; call < number; call++) wrong += hot((int)call) != (int)call * 2 + 1;
        __asm__ volatile("wrfsbase %0" : : "r"(own) : "memory");
    }
    if (wrong) target_fail("%ld calls with other bases of fs", wrong);
    return NULL;
}
#else
static void *based(void *argument) { return argument; }
#endif

static uint64_t total(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < threads; i++) sum += __atomic_load_n(&slots[i].calls, __ATOMIC_RELAXED);
    return sum;
}

int main(int argc, char **argv)
{
    threads = target_argument(argc, argv, 1, 64);
    if (threads > 4096) return 97;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    pthread_t ids[4096];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(intptr_t)i)) return 96;
    target_ready();
    char line[64];
    uint64_t before = 0;
    while (target_command(line, sizeof line)) {
        if (strncmp(line, "go ", 3) == 0) {
            before = total();
            each = atol(line + 3);
            pthread_barrier_wait(&start);
            pthread_barrier_wait(&end);
            target_say("count hot %llu", (unsigned long long)(total() - before));
        } else if (strcmp(line, "run") == 0) {
            before = phase_mark = total();
            each = 0;
            running = 1;
            pthread_barrier_wait(&start);
            target_say("running");
        } else if (strcmp(line, "phase") == 0) {
            uint64_t now = total();
            target_say("phase hot %llu", (unsigned long long)(now - phase_mark));
            phase_mark = now;
        } else if (strcmp(line, "stop") == 0) {
            running = 0;
            pthread_barrier_wait(&end);
            target_say("count hot %llu", (unsigned long long)(total() - before));
        } else if (strncmp(line, "churn ", 6) == 0) {
            long number = atol(line + 6);
            for (long i = 0; i < number; i++) {
                pthread_t id;
                if (pthread_create(&id, NULL, once, (void *)(intptr_t)i)) return 95;
                pthread_join(id, NULL);
            }
            target_say("count hot %ld", number);
        } else if (strncmp(line, "base ", 5) == 0) {
            long number = atol(line + 5);
            pthread_t id[2];
            for (int i = 0; i < 2; i++)
                if (pthread_create(&id[i], NULL, based, (void *)(intptr_t)number)) return 94;
            for (int i = 0; i < 2; i++) pthread_join(id[i], NULL);
            target_say("count hot %ld", 8 * number);
        } else if (strcmp(line, "quit") == 0) {
            quitting = 1;
            pthread_barrier_wait(&start);
            for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
            target_say("total hot %llu", (unsigned long long)total());
            return target_end(0);
        } else {
            target_fail("unknown command %s", line);
        }
    }
    _exit(98);
}

/* latencies [THREADS]: functions that call themselves, jump to each other at their ends, are left by longjmp, by exceptions of C (forced unwinding is in "unwinds") and by signal handlers, which run on an alternate stack
 * far above or below the thread's. Command "go N" runs N rounds on each thread, on a stack of its own in the program's data; then "enter TOTAL", "leave TOTAL": calls of timed_ functions, and those of them that returned (a tail call returns);
 * "inside NS", "around NS": time in timed_spin, measured in it and around it. "quit". */
#include "target.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#define STACK (256 * 1024)
static char stacks[16][STACK] __attribute__((aligned(4096)));
static char low_stacks[16][64 * 1024] __attribute__((aligned(4096)));
static char *high_stacks[16];
static int threads, rounds, quitting;
static pthread_barrier_t start, end;
static uint64_t inside, around;
static __thread uint64_t entered, left;
static __thread uint64_t spin_inside, spin_around;
static __thread jmp_buf back;
static __thread sigjmp_buf far_back;
static __thread volatile int leave_by_jump;
static uint64_t all_entered, all_left;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

PROBED int timed_leaf(int value) { entered++; left++; return value * 3 + 1; }

PROBED int timed_recurse(int depth)
{
    entered++;
    int result = depth > 0 ? timed_recurse(depth - 1) + timed_leaf(depth) : 1;
    __asm__ volatile("" : "+r"(result));
    left++;
    return result;
}

/* Jumps to timed_leaf when built with -O2. */
PROBED int timed_tail(int value) { entered++; left++; return timed_leaf(value + 1); }

PROBED int timed_jumps(int depth)
{
    entered++;
    if (depth == 0) longjmp(back, 1);
    int result = timed_jumps(depth - 1);
    __asm__ volatile("" : "+r"(result));
    left++;
    return result + 1;
}

PROBED void timed_handler(int depth)
{
    entered++;
    timed_recurse(depth);
    if (leave_by_jump) siglongjmp(far_back, 1);
    __asm__ volatile("" ::: "memory");
    left++;
}

static void on_signal(int number) { (void)number; timed_handler(3); }

PROBED int timed_interrupted(int value)
{
    entered++;
    raise(SIGUSR1);
    int result = timed_leaf(value);
    __asm__ volatile("" : "+r"(result));
    left++;
    return result;
}

PROBED uint64_t timed_spin(uint64_t turns)
{
    uint64_t begin = now(), sum = turns;
    for (uint64_t i = 0; i < turns; i++) sum = target_mix(sum, i);
    spin_inside += now() - begin;
    return sum;
}

static void use_stack(void *stack, size_t size)
{
    stack_t alternate = { .ss_sp = stack, .ss_size = size };
    if (sigaltstack(&alternate, NULL)) target_fail("sigaltstack");
}

static int round_of_calls(int index, int number)
{
    int result = timed_recurse(number % 20) + timed_tail(number);
    use_stack(number % 2 ? (void *)low_stacks[index] : high_stacks[index], 64 * 1024);
    leave_by_jump = 0;
    result += timed_interrupted(number);
    if (setjmp(back) == 0) result += timed_jumps(number % 9);
    result += timed_recurse(2);
    leave_by_jump = 1;
    if (sigsetjmp(far_back, 1) == 0) result += timed_interrupted(number);
    result += timed_recurse(1);
    if (number % 16 == 0) {
        uint64_t begin = now();
        result += (int)timed_spin(20000);
        spin_around += now() - begin;
    }
    return result;
}

static void *work(void *argument)
{
    int index = (int)(intptr_t)argument;
    int result = 0;
    for (;;) {
        pthread_barrier_wait(&start);
        if (quitting) break;
        entered = left = spin_inside = spin_around = 0;
        for (int i = 0; i < rounds; i++) result += round_of_calls(index, i);
        __atomic_add_fetch(&all_entered, entered, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&all_left, left, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&inside, spin_inside, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&around, spin_around, __ATOMIC_SEQ_CST);
        pthread_barrier_wait(&end);
    }
    return (void *)(intptr_t)result;
}

int main(int argc, char **argv)
{
    threads = target_argument(argc, argv, 1, 4);
    if (threads > 16) return 97;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
    sigaction(SIGUSR1, &action, NULL);
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    pthread_t ids[16];
    for (int i = 0; i < threads; i++) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        if (pthread_attr_setstack(&attributes, stacks[i], STACK)) return 96;
        high_stacks[i] = mmap(NULL, 64 * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (high_stacks[i] == MAP_FAILED || high_stacks[i] < stacks[i]) return 95;
        if (pthread_create(&ids[i], &attributes, work, (void *)(intptr_t)i)) return 94;
    }
    target_ready();
    char line[64];
    while (target_command(line, sizeof line)) {
        if (strncmp(line, "go ", 3) == 0) {
            rounds = atoi(line + 3);
            all_entered = all_left = inside = around = 0;
            pthread_barrier_wait(&start);
            pthread_barrier_wait(&end);
            target_say("around %llu", (unsigned long long)around);
            target_say("inside %llu", (unsigned long long)inside);
            target_say("leave %llu", (unsigned long long)all_left);
            target_say("enter %llu", (unsigned long long)all_entered);
        } else if (strcmp(line, "quit") == 0) break;
    }
    quitting = 1;
    pthread_barrier_wait(&start);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    return target_end(0);
}

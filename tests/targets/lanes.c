/* lanes: an independent writer of the memory that compiled programs share with the tracer, by its description alone.
 * Commands: "region ADDRESS" (hexadecimal) looks at the header there and prints "region LANES STRIDE RING";
 * "run THREADS RECORDS SIGNALS" each of THREADS threads writes RECORDS records of changing lengths and is interrupted by SIGNALS signals, whose handler writes one, too; they begin at "go" and then
 * print "lane THREAD written W dropped D sum S", W and S (over all that was written, in any order) of both kinds, and "done"; "count THREADS CALLS" counts, adds up and puts into 65 steps as compiled programs do, then "done";
 * "half" and "hole" write three records, begin one (half: its length is written), complete two more behind it, print "held" and end by SIGKILL at the next line; "fork" prints "guard PARENT CHILD";
 * "seccomp" puts on a filter that allows everything; "threads N" starts threads that wait, and prints "thread TID POINTER" of each and of the main one, then "done"; any other line ends it. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define FILLER 0x80000000u
#define BUSY 0x40000000u
#define VALID 0x20000000u
enum { OWNER = 0, HEAD = 8, TAIL = 16, DROPS = 24, COUNTERS = 64, HEADER = 24, MOST = 512 };

static char *region;
static uint64_t lanes, stride, first, ring_start, ring_length;
static pthread_barrier_t barrier;
static volatile int stopping;

struct worker { pthread_t id; int index; long records; char *lane; int locked; uint64_t sequence, written, dropped, sum, handled; };
static struct worker workers[MOST];
static __thread struct worker *self;

static uint64_t u64(char *at) { return *(volatile uint64_t *)at; }
static uint32_t u32(char *at) { return *(volatile uint32_t *)at; }

static uint64_t now(void)
{
#if defined(__x86_64__)
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
#else
    uint64_t value;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(value));
    return value;
#endif
}

static uint64_t thread_pointer(void)
{
    uint64_t pointer;
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
    return pointer;
}

static char *find_lane(int *common)
{
    uint64_t me = thread_pointer();
    uint64_t bits = (uint64_t)__builtin_ctzll(lanes);
    uint64_t at = bits ? (me * 0x9E3779B97F4A7C15ull) >> (64 - bits) : 0;
    for (uint64_t i = 0; i < lanes; i++) {
        char *lane = region + first + ((at + i) & (lanes - 1)) * stride;
        uint64_t owner = __atomic_load_n((uint64_t *)(lane + OWNER), __ATOMIC_ACQUIRE);
        if (owner == 0 && __atomic_compare_exchange_n((uint64_t *)(lane + OWNER), &owner, me, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) owner = me;
        if (owner == me) return *common = 0, lane;
    }
    *common = 1;
    return region + first + lanes * stride;
}

static char *reserve(char *lane, uint32_t size)
{
    char *ring = lane + ring_start;
    for (;;) {
        uint64_t head = __atomic_load_n((uint64_t *)(lane + HEAD), __ATOMIC_RELAXED);
        uint64_t tail = __atomic_load_n((uint64_t *)(lane + TAIL), __ATOMIC_ACQUIRE);
        uint64_t at = head & (ring_length - 1), filler = at + size > ring_length ? ring_length - at : 0;
        if (head + filler + size - tail > ring_length) {
            __atomic_add_fetch((uint64_t *)(lane + DROPS), 1, __ATOMIC_RELAXED);
            return NULL;
        }
        if (!__atomic_compare_exchange_n((uint64_t *)(lane + HEAD), &head, head + filler + size, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) continue;
        if (filler) __atomic_store_n((uint32_t *)(ring + at), (uint32_t)filler | FILLER, __ATOMIC_RELEASE);
        return ring + (filler ? 0 : at);
    }
}

static uint64_t check_of(uint64_t site, uint64_t sequence) { return target_mix(site + 1, sequence); }

/* Fields: a sequence number, what follows from it, and up to four more which all are the sequence number. */
static uint32_t fill(char *at, uint32_t site, uint64_t sequence, uint32_t size, int valid)
{
    *(uint32_t *)(at + 4) = site;
    *(uint64_t *)(at + 8) = now();
    *(uint32_t *)(at + 16) = (uint32_t)target_tid();
    *(uint32_t *)(at + 20) = 0xffffffff;
    char *fields = at + HEADER;
    if (valid) *(uint64_t *)fields = ~0ull << (sequence & 3), fields += 8;
    ((uint64_t *)fields)[0] = sequence;
    ((uint64_t *)fields)[1] = check_of(site, sequence);
    for (uint64_t *more = (uint64_t *)fields + 2; (char *)more < at + size; more++) *more = sequence;
    return size | (valid ? VALID : 0);
}

static uint32_t size_of(uint64_t sequence) { return (uint32_t)(HEADER + 8 * (2 + sequence * 7 % 5 + (sequence & 1))); }

static int record(char *lane, uint32_t site, uint64_t sequence)
{
    uint32_t size = size_of(sequence);
    char *at = reserve(lane, size);
    if (!at) return 0;
    __atomic_store_n((uint32_t *)at, size | BUSY, __ATOMIC_RELAXED);
    uint32_t word = fill(at, site, sequence, size, (int)(sequence & 1));
    __atomic_store_n((uint32_t *)at, word, __ATOMIC_RELEASE);
    return 1;
}

static void write_one(struct worker *me, uint32_t site, uint64_t sequence)
{
    if (record(me->lane, site, sequence)) {
        me->written++;
        me->sum += check_of(site, sequence);
    } else {
        me->dropped++;
    }
}

/* It interrupts anywhere, so it has counts of its own. */
static struct worker handlers[MOST];

static void on_signal(int signal)
{
    (void)signal;
    if (!self || !self->lane) return;
    struct worker *me = &handlers[self->index];
    me->lane = self->lane;
    write_one(me, 1000 + (uint32_t)self->index, me->sequence++);
    __atomic_store_n(&me->handled, me->sequence, __ATOMIC_RELEASE);
}

static void *work(void *argument)
{
    self = argument;
    self->lane = find_lane(&self->locked);
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < self->records; i++) write_one(self, (uint32_t)self->index, (uint64_t)i);
    pthread_barrier_wait(&barrier);
    while (!stopping) sched_yield();
    return NULL;
}

static void run(int threads, long records, int signals)
{
    memset(workers, 0, sizeof workers);
    memset(handlers, 0, sizeof handlers);
    stopping = 0;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
        workers[i].index = i;
        workers[i].records = records;
        if (pthread_create(&workers[i].id, NULL, work, &workers[i])) _exit(96);
    }
    pthread_barrier_wait(&barrier);
    for (int n = 0; n < signals; n++)
        for (int i = 0; i < threads; i++) {
            /* The next one only when the last was handled: none is merged with another. */
            while (__atomic_load_n(&handlers[i].handled, __ATOMIC_ACQUIRE) < (uint64_t)n) sched_yield();
            pthread_kill(workers[i].id, SIGUSR1);
        }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < threads; i++)
        while (__atomic_load_n(&handlers[i].handled, __ATOMIC_ACQUIRE) < (uint64_t)signals) sched_yield();
    stopping = 1;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].id, NULL);
        target_say("lane %d written %lu dropped %lu sum %lu", i, workers[i].written + handlers[i].written, workers[i].dropped + handlers[i].dropped, workers[i].sum + handlers[i].sum);
    }
    target_say("done");
}

/* Words: a count; count, sum, least and greatest; 65 steps. */
static void *count(void *argument)
{
    struct worker *me = argument;
    char *lane = find_lane(&me->locked);
    uint64_t *words = (uint64_t *)(lane + COUNTERS);
    for (long i = 0; i < me->records; i++) {
        int64_t value = (i * 37 + me->index) % 2001 - 1000;
        __atomic_add_fetch(&words[0], 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&words[1], 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&words[2], (uint64_t)value, __ATOMIC_RELAXED);
        for (uint64_t old = words[3]; value < (int64_t)old && !__atomic_compare_exchange_n(&words[3], &old, (uint64_t)value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);) {}
        for (uint64_t old = words[4]; value > (int64_t)old && !__atomic_compare_exchange_n(&words[4], &old, (uint64_t)value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);) {}
        __atomic_add_fetch(&words[5 + (value < 0 ? 0 : value == 0 ? 1 : 65 - __builtin_clzll((uint64_t)value))], 1, __ATOMIC_RELAXED);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void run_count(int threads, long calls)
{
    memset(workers, 0, sizeof workers);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        workers[i].index = i;
        workers[i].records = calls;
        if (pthread_create(&workers[i].id, NULL, count, &workers[i])) _exit(96);
    }
    for (int i = 0; i < threads; i++) pthread_join(workers[i].id, NULL);
    target_say("done");
}

static void leave_half(int has_length)
{
    int common;
    char *lane = find_lane(&common);
    for (uint64_t i = 0; i < 3; i++) record(lane, 7, i);
    char *at = reserve(lane, 48);
    if (has_length) __atomic_store_n((uint32_t *)at, 48 | BUSY, __ATOMIC_RELAXED);
    for (uint64_t i = 4; i < 6; i++) record(lane, 7, i);
    target_say("held");
    target_wait();
    kill(getpid(), SIGKILL);
}

static void *wait_for_ever(void *argument)
{
    target_say("thread %d %lu", target_tid(), (unsigned long)thread_pointer());
    pthread_barrier_wait(&barrier);
    pause();
    return argument;
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigaction(SIGUSR1, &action, NULL);
    target_ready();
    char line[128];
    while (target_command(line, sizeof line)) {
        unsigned long address;
        int threads, signals;
        long records;
        if (sscanf(line, "region %lx", &address) == 1) {
            region = (char *)address;
            if (memcmp(region, "FASTTRPD", 8) || u32(region + 8) != 1) target_fail("header");
            lanes = u32(region + 12), stride = u64(region + 16), first = u64(region + 24), ring_start = u64(region + 40), ring_length = u64(region + 48);
            if (u32(region + 32) != COUNTERS) target_fail("counters at %u", u32(region + 32));
            target_say("region %lu %lu %lu", lanes, stride, ring_length);
        } else if (sscanf(line, "run %d %ld %d", &threads, &records, &signals) == 3) {
            run(threads, records, signals);
        } else if (sscanf(line, "count %d %ld", &threads, &records) == 2) {
            run_count(threads, records);
        } else if (strcmp(line, "half") == 0 || strcmp(line, "hole") == 0) {
            leave_half(line[1] == 'a');
        } else if (strcmp(line, "fork") == 0) {
            char *guard = region + u64(region + 56);
            pid_t child = fork();
            if (child == 0) _exit(*guard);
            int status;
            waitpid(child, &status, 0);
            target_say("guard %d %d", *guard, WEXITSTATUS(status));
        } else if (strcmp(line, "seccomp") == 0) {
            /* struct sock_filter and sock_fprog: BPF_RET | BPF_K of SECCOMP_RET_ALLOW, by SECCOMP_MODE_FILTER. */
            struct { uint16_t code; uint8_t jt, jf; uint32_t k; } allow = { 6, 0, 0, 0x7fff0000 };
            struct { uint16_t length; void *filter; } program = { 1, &allow };
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if (prctl(PR_SET_SECCOMP, 2, &program)) target_fail("seccomp %d", errno);
            target_say("done");
        } else if (sscanf(line, "threads %d", &threads) == 1) {
            pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
            target_say("thread %d %lu", target_tid(), (unsigned long)thread_pointer());
            for (int i = 0; i < threads; i++) {
                pthread_t id;
                if (pthread_create(&id, NULL, wait_for_ever, NULL)) _exit(96);
            }
            pthread_barrier_wait(&barrier);
            target_say("done");
        } else {
            break;
        }
    }
    return target_end(0);
}

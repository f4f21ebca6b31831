/* usdt: static probes with every form of argument, each value printed, too. Commands: args N, guarded N, semaphores, set N, forks N, raisedforks N, inner, exec, quit. */
#include "usdt.h"
#include <pthread.h>
#include <sys/wait.h>

USDT_SEMAPHORE(guarded_semaphore);
USDT_SEMAPHORE(shared_semaphore);

struct pair { int first, second; };
int global_int;
struct pair global_pair;
long global_table[8];
__thread int thread_int;
static const char *const texts[] = { "first text", "", "third: \xc3\xa4" };

/* Prints what a probe's arguments are, as numbers of 64 bits. */
#define SAY(name, ...) say(name, (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / 8)

static void say(const char *name, const uint64_t *values, size_t count)
{
    char line[900];
    int length = snprintf(line, sizeof line, "hit %s", name);
    for (size_t i = 0; i < count; i++) length += snprintf(line + length, sizeof line - (size_t)length, " %llx", (unsigned long long)values[i]);
    target_say("%s", line);
}

static uint64_t bits(double value) { uint64_t result; memcpy(&result, &value, 8); return result; }

PROBED void sizes(long n)
{
    int8_t a = (int8_t)(n * 37); uint8_t b = (uint8_t)(n * 91); int16_t c = (int16_t)(n * -3001); uint16_t d = (uint16_t)(n * 30011);
    int32_t e = (int32_t)(n * -100003); uint32_t f = (uint32_t)(n * 2000000011u); int64_t g = n * -10000000019L; uint64_t h = (uint64_t)n << 60;
    USDT("sizes__of__registers", "-1@%0 1@%1 -2@%2 2@%3 -4@%4 4@%5 -8@%6 8@%7", "r"(a), "r"(b), "r"(c), "r"(d), "r"(e), "r"(f), "r"(g), "r"(h));
    SAY("sizes-of-registers", (uint64_t)a, b, (uint64_t)c, d, (uint64_t)e, f, (uint64_t)g, h);
    USDT("sizes__in__memory", "-1@%0 1@%1 -2@%2 2@%3 -4@%4 4@%5 -8@%6 8@%7", "m"(a), "m"(b), "m"(c), "m"(d), "m"(e), "m"(f), "m"(g), "m"(h));
    SAY("sizes-in-memory", (uint64_t)a, b, (uint64_t)c, d, (uint64_t)e, f, (uint64_t)g, h);
}

PROBED void names(long n)
{
    long v[12];
    for (int i = 0; i < 12; i++) v[i] = (long)((n + 1) * 0x0123456789abcdefUL + (unsigned)i * 0x1111111111111111UL);
    register long r8 __asm__("r8") = v[4]; register long r9 __asm__("r9") = v[5]; register long r10 __asm__("r10") = v[6];
    register long r11 __asm__("r11") = v[7]; register long r12 __asm__("r12") = v[8];
    USDT("names__of__parts", "1@%%ah 1@%%bl 2@%%cx 4@%%edx -1@%%sil -2@%%di -1@%%r8b -2@%%r9w -4@%%r10d 8@%%r11 1@%%bh 8@%%r12",
         "a"(v[0]), "b"(v[1]), "c"(v[2]), "d"(v[3]), "S"(v[9]), "D"(v[10]), "r"(r8), "r"(r9), "r"(r10), "r"(r11), "r"(r12));
    SAY("names-of-parts", (uint8_t)(v[0] >> 8), (uint8_t)v[1], (uint16_t)v[2], (uint32_t)v[3], (uint64_t)(int8_t)v[9], (uint64_t)(int16_t)v[10],
        (uint64_t)(int8_t)v[4], (uint64_t)(int16_t)v[5], (uint64_t)(int32_t)v[6], (uint64_t)v[7], (uint8_t)(v[1] >> 8), (uint64_t)v[8]);
    USDT("names__without__size", "%%rax %%rbx", "a"(v[0]), "b"(v[1]));
    SAY("names-without-size", (uint64_t)v[0], (uint64_t)v[1]);
    USDT("names__narrow", "-4@%%al 4@%%ax 8@%%ecx -8@%%edx", "a"(v[0]), "c"(v[2]), "d"(v[3]));
    SAY("names-narrow", (uint64_t)(int8_t)v[0], (uint16_t)v[0], (uint32_t)v[2], (uint64_t)(int32_t)v[3]);
}

PROBED void constants(long n)
{
    (void)n;
    USDT("constants", "-4@%0 8@%1 1@%2 -8@$-0x10 4@$017 -1@$255", "n"(-5), "n"(0x123456789L), "n"(7));
    SAY("constants", (uint64_t)-5, 0x123456789, 7, (uint64_t)-0x10, 15, (uint64_t)-1);
}

PROBED void addresses(long n)
{
    long local[4] = { n, n * 2, -n, n * 4 };
    global_int = (int)(n * -7);
    global_pair = (struct pair){ (int)n, (int)n + 1 };
    for (int i = 0; i < 8; i++) global_table[i] = n * 100 + i;
    long index = n & 3;
    long *base = local;
    USDT("addresses__indexed", "8@(%0,%1,8) -8@16(%0) 8@8(%0) -4@-8(%2,%1,8) 8@0x8( %0 )", "r"(base), "r"(index), "r"(base + 1), "m"(local));
    SAY("addresses-indexed", (uint64_t)local[index], (uint64_t)local[2], (uint64_t)local[1], (uint64_t)(int)local[index], (uint64_t)local[1]);
    USDT("addresses__scaled", "8@(,%0,8)", "r"((unsigned long)base / 8), "m"(local));
    SAY("addresses-scaled", (uint64_t)local[0]);
    USDT("addresses__global", "-4@%0 -4@%1 8@%2 -4@4+global_pair(%%rip) -4@global_pair+4(%%rip) 8@$global_table 8@8+global_table-8+16(%%rip)",
         "m"(global_int), "m"(global_pair.second), "m"(global_table[3]));
    SAY("addresses-global", (uint64_t)global_int, (uint64_t)global_pair.second, (uint64_t)global_table[3], (uint64_t)global_pair.second,
        (uint64_t)global_pair.second, (uint64_t)global_table, (uint64_t)global_table[2]);
#ifndef __PIE__
    USDT("addresses__fixed", "8@global_table(,%0,8) -4@global_int", "r"(index));
    SAY("addresses-fixed", (uint64_t)global_table[index], (uint64_t)global_int);
#endif
}

PROBED void segments(long n)
{
    thread_int = (int)(n * -11);
    USDT("segments", "8@%%fs:0 8@%%fs:(%0) -4@%1 -4@%%fs:thread_int@tpoff", "r"(0L), "m"(thread_int));
    SAY("segments", (uint64_t)pthread_self(), (uint64_t)pthread_self(), (uint64_t)thread_int, (uint64_t)thread_int);
}

PROBED void floats(long n)
{
    double d = (double)n * 1.25 - 3; float f = (float)n / 8 - 1; double inMemory = d * d; float alsoInMemory = f * 3;
    __asm__ volatile("" : : "m"(inMemory), "m"(alsoInMemory));
    USDT("floats", "8f@%0 4f@%1 8f@%2 4f@%3 -8f@%4", "x"(d), "x"(f), "m"(inMemory), "m"(alsoInMemory), "r"(d));
    SAY("floats", bits(d), bits(f), bits(inMemory), bits(alsoInMemory), bits(d));
}

typedef long vector2 __attribute__((vector_size(16)));

PROBED void vectors(long n)
{
    vector2 v = { n * 3, n * 5 };
    register vector2 high __asm__("xmm13") = { n * 7, n * 9 };
    vector2 memory = { n * 11, n * 13 };
    USDT("vectors", "16@%0 16@%%xmm13 16@%2 8@%%xmm13", "x"(v), "x"(high), "m"(memory));
    target_say("vector %llx %llx %llx %llx %llx %llx", (long long)v[0], (long long)v[1], (long long)(n * 7), (long long)(n * 9), (long long)memory[0], (long long)memory[1]);
}

__attribute__((target("avx"))) PROBED void wide_vectors(long n)
{
    long data[4] = { n, n * 2, n * 3, -n };
    __asm__ volatile("vmovdqu %0, %%ymm5\n990: nop\n" USDT_NOTE_OF("990b", "fasttrap_test", "wide__vector", "0", "32@%%ymm5") "vzeroupper" : : "m"(data) : "xmm5");
    target_say("wide %llx %llx %llx %llx", (long long)data[0], (long long)data[1], (long long)data[2], (long long)data[3]);
}

PROBED void strings(long n)
{
    const char *text = texts[n % 3];
    USDT("strings", "8@%0 -4@%1", "r"(text), "r"((int)n));
    target_say("text %s", text);
}

PROBED void unreadable(long n)
{
    USDT("unreadable", "4@gar!bage 8@%%st(1) -4@no_such_symbol(%%rip) 3@%0 -8@%0 8@global@GOTPCREL(%%rip) 8@(%1)", "r"(n), "r"(8L));
    SAY("unreadable", (uint64_t)n);
}

static inline __attribute__((always_inline)) void inlined_site(long n)
{
    USDT("inlined", "-8@%0", "r"(n));
}

PROBED void inlined_one(long n) { inlined_site(n); inlined_site(n + 1); SAY("inlined", (uint64_t)n); SAY("inlined", (uint64_t)n + 1); }
PROBED void inlined_two(long n) { inlined_site(-n); SAY("inlined", (uint64_t)-n); }

__attribute__((section(".text.elsewhere"), noipa, used)) void elsewhere(long n)
{
    USDT("elsewhere", "-8@%0", "rnm"(n));
    SAY("elsewhere", (uint64_t)n);
}

PROBED int guarded(long n)
{
    if (__builtin_expect(guarded_semaphore != 0, 0)) {
        USDT_GUARDED("guarded", guarded_semaphore, "-8@%0", "r"(n));
        return 1;
    }
    return 0;
}

PROBED int shared_one(long n)
{
    if (shared_semaphore == 0) return 0;
    USDT_GUARDED("shared__one", shared_semaphore, "-8@%0", "r"(n));
    return 1;
}

/* Another tool's probe: it raises the same semaphore. */
PROBED int shared_two(long n)
{
    if (shared_semaphore == 0) return 0;
    USDT_GUARDED("shared__two", shared_semaphore, "-8@%0", "r"(n));
    return 1;
}

static void all(long n)
{
    sizes(n); names(n); constants(n); addresses(n); segments(n); floats(n); vectors(n); strings(n); unreadable(n);
    if (__builtin_cpu_supports("avx")) wide_vectors(n);
    inlined_one(n); inlined_two(n); elsewhere(n);
}

/* Children that must find the semaphore as it was before anybody traced. */
static void make_children(int count, int expected)
{
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            int fired = guarded(i);
            _exit(guarded_semaphore == expected && fired == (expected != 0) ? 0 : 1);
        }
        int status = 0;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) { }
        if (status != 0) wrong++;
        guarded(i);
    }
    target_say("count wrong %d", wrong);
}

int main(void)
{
    char line[64];
    target_ready();
    while (target_command(line, sizeof line)) {
        long number = strchr(line, ' ') ? atol(strchr(line, ' ') + 1) : 0;
        if (strncmp(line, "args", 4) == 0) {
            for (long n = 0; n < number; n++) all(n);
            target_say("checksum args");
        } else if (strncmp(line, "guarded", 7) == 0) {
            long fired = 0, one = 0, two = 0;
            for (long n = 0; n < number; n++) { fired += guarded(n); one += shared_one(n); two += shared_two(n); }
            target_say("count one %ld", one);
            target_say("count two %ld", two);
            target_say("count guarded %ld", fired);
        } else if (strncmp(line, "semaphores", 10) == 0) {
            target_say("count shared %d", shared_semaphore);
            target_say("count semaphore %d", guarded_semaphore);
        } else if (strncmp(line, "set", 3) == 0) {
            guarded_semaphore = (unsigned short)number;
            target_say("count semaphore %d", guarded_semaphore);
        } else if (strncmp(line, "forks", 5) == 0) {
            make_children((int)number, 0);
        } else if (strncmp(line, "raisedforks", 11) == 0) {
            make_children((int)number, 1);
        } else if (strncmp(line, "inner", 5) == 0) {
            /* The child takes the commands until it is told to quit. */
            int status = -1;
            pid_t pid = fork();
            if (pid != 0) {
                while (waitpid(pid, &status, 0) < 0 && errno == EINTR) { }
                target_say("count inner %d", status);
            }
        } else if (strncmp(line, "exec", 4) == 0) {
            execl("/proc/self/exe", "usdt", NULL);
        } else if (strncmp(line, "quit", 4) == 0) {
            break;
        }
    }
    return target_end(0);
}

/* trampolines [ROUNDS [CALLS [THREADS]]]: what a probe costs at least when the target runs it itself, by jump trampolines that are written by hand for each function.
 * Prints a table: for each kind of function nanoseconds of a call unprobed, counted, recorded (32 bytes, with the time stamp counter), counted in a lane, and the same by THREADS threads (medians).
 * trampolines serve: the first line is "ready PID"; for each line "KIND none|count|lane|record CALLS THREADS" it patches the function so, does one round, and prints "X ns per call, N hits".
 * "none" leaves the text as it is, so that another can probe it meanwhile. The line "KIND where 0 0" is answered with the probed instruction's address and its offset in the file. Ends at the end of input.
 *
 * Kinds, by how the function begins: endbr (endbr64, push), push, nop5, lea (5 bytes), sub (of rsp), rip (a rip-relative load), jcc (a conditional jump in the first five bytes), usdt (a static probe, trampolines:hit, in
 * front of a four-byte instruction), ret (the probe is at the return; with what precedes it it has five bytes), trap: an int3 that stands there always, with a SIGTRAP handler which does nothing, and plain: what a compiler
 * makes of such a function, with a tracepoint of LTTng's in it when WITH_LTTNG is defined.
 *
 * A trampoline keeps the red zone, all registers and the flags. The counter is a variable of the thread's own, as only code that was compiled into the program can have it, and so is the ring: of 4 MiB, as many records as a reader between two rounds can take at once. It has a limit that
 * is looked at and never reached. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RING_BYTES "4194304"
enum { KINDS = 11, RING_LENGTH = 4194304, MOST_ROUNDS = 1001, MOST_THREADS = 64, JUMP = 5 };

__thread uint64_t reference_count, reference_drops, ring_head, ring_limit, ring_base;
__thread uint32_t reference_tid;

#define FUNCTION(name) ".p2align 5\n.globl hot_" name "\n.type hot_" name ", @function\nhot_" name ":\n"
#define SITE(name) "site_" name ":\n"
#define RESUME(name) "resume_" name ":\n"
#define DONE(name) ".size hot_" name ", . - hot_" name "\n"

#define SAVE "lea -128(%rsp), %rsp\n push %rax\n lahf\n seto %al\n"
#define RESTORE "add $0x7f, %al\n sahf\n pop %rax\n lea 128(%rsp), %rsp\n"
#define COUNT SAVE "incq %fs:reference_count@tpoff\n" RESTORE
/* The thread's counter in a table, found by a hash of the thread pointer: for code that has no variables of the threads' own. */
#define LANE \
    SAVE "push %rcx\n push %rdx\n push %rax\n mov %fs:0, %rcx\n movabs $0x9E3779B97F4A7C15, %rax\n imul %rcx, %rax\n shr $56, %rax\n shl $7, %eax\n lea lane_table(%rip), %rdx\n" \
    " add %rax, %rdx\n3: cmp %rcx, (%rdx)\n jne 4f\n incq 64(%rdx)\n pop %rax\n pop %rdx\n pop %rcx\n" RESTORE \
    ".subsection 1\n4: add $128, %rdx\n lea lane_table + 32768(%rip), %rax\n cmp %rax, %rdx\n jne 3b\n lea lane_table(%rip), %rdx\n jmp 3b\n.previous\n"
#define RECORD \
    SAVE "push %rcx\n push %rdx\n push %rax\n mov $32, %eax\n xadd %rax, %fs:ring_head@tpoff\n cmp %fs:ring_limit@tpoff, %rax\n ja 2f\n" \
    " and $" RING_BYTES " - 1, %eax\n add %fs:ring_base@tpoff, %rax\n mov %rax, %rcx\n rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, 8(%rcx)\n" \
    " mov %fs:reference_tid@tpoff, %eax\n mov %eax, 16(%rcx)\n movl $-1, 20(%rcx)\n mov %rdi, 24(%rcx)\n movl $1, 4(%rcx)\n movl $32, (%rcx)\n" \
    "1: pop %rax\n pop %rdx\n pop %rcx\n" RESTORE \
    ".subsection 1\n2: incq %fs:reference_drops@tpoff\n jmp 1b\n.previous\n"

/* What is displaced runs before or after the probe's own code; then it goes on behind the window, unless that was its end. */
#define TRAMPOLINES(name, before, after) \
    ".p2align 5\ncount_" name ":\n" before COUNT after ".p2align 5\nrecord_" name ":\n" before RECORD after ".p2align 5\nlane_" name ":\n" before LANE after
#define BACK(name) "jmp resume_" name "\n"

__asm__(
    ".section .text.hot, \"ax\", @progbits\n"
    FUNCTION("endbr") "endbr64\n" SITE("endbr") "push %rbp\n mov %rsp, %rbp\n lea 1(%rdi), %rax\n" RESUME("endbr") "pop %rbp\n ret\n" DONE("endbr")
    FUNCTION("push") SITE("push") "push %rbp\n mov %rsp, %rbp\n lea 1(%rdi), %rax\n" RESUME("push") "pop %rbp\n ret\n" DONE("push")
    FUNCTION("nop5") SITE("nop5") ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n" RESUME("nop5") "lea 1(%rdi), %rax\n ret\n" DONE("nop5")
    FUNCTION("lea") SITE("lea") "lea 1(%rdi,%rsi), %rax\n" RESUME("lea") "ret\n" DONE("lea")
    FUNCTION("sub") SITE("sub") "sub $24, %rsp\n lea 1(%rdi), %rax\n" RESUME("sub") "add $24, %rsp\n ret\n" DONE("sub")
    FUNCTION("rip") SITE("rip") "mov hot_word(%rip), %rax\n" RESUME("rip") "lea 1(%rdi), %rax\n ret\n" DONE("rip")
    FUNCTION("jcc") SITE("jcc") "test %rdi, %rdi\n js far_jcc\n" RESUME("jcc") "lea 1(%rdi), %rax\n ret\nfar_jcc: xor %eax, %eax\n ret\n" DONE("jcc")
    FUNCTION("usdt") "mov %rsi, %rax\n" SITE("usdt") "nop\n lea 1(%rdi), %rax\n" RESUME("usdt") "add %rsi, %rax\n ret\n" DONE("usdt")
    FUNCTION("ret") "mov %rsi, %rax\n" SITE("ret") "lea 1(%rdi), %rax\n ret\n" RESUME("ret") DONE("ret")
    FUNCTION("trap") "int3\n lea 1(%rdi), %rax\n ret\n" DONE("trap")
    ".p2align 5\n.data\n.p2align 3\nhot_word: .quad 7\n"
    ".section .note.stapsdt, \"\", \"note\"\n.balign 4\n.4byte 11f-10f, 13f-12f, 3\n10: .asciz \"stapsdt\"\n11: .balign 4\n12: .8byte site_usdt\n.8byte _.stapsdt.base\n.8byte 0\n"
    ".asciz \"trampolines\"\n.asciz \"hit\"\n.asciz \"8@%rdi\"\n13: .balign 4\n"
    ".section .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n.weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n"
    ".text\n"
    TRAMPOLINES("endbr", "", "push %rbp\n mov %rsp, %rbp\n lea 1(%rdi), %rax\n" BACK("endbr"))
    TRAMPOLINES("push", "", "push %rbp\n mov %rsp, %rbp\n lea 1(%rdi), %rax\n" BACK("push"))
    TRAMPOLINES("nop5", "", BACK("nop5"))
    TRAMPOLINES("lea", "", "lea 1(%rdi,%rsi), %rax\n" BACK("lea"))
    TRAMPOLINES("sub", "", "sub $24, %rsp\n lea 1(%rdi), %rax\n" BACK("sub"))
    TRAMPOLINES("rip", "", "mov hot_word(%rip), %rax\n" BACK("rip"))
    TRAMPOLINES("jcc", "", "test %rdi, %rdi\n js far_jcc\n" BACK("jcc"))
    TRAMPOLINES("usdt", "", "lea 1(%rdi), %rax\n" BACK("usdt"))
    TRAMPOLINES("ret", "lea 1(%rdi), %rax\n", "ret\n"));

#define SYMBOLS(name) \
    extern long hot_##name(long, long); \
    extern char count_##name[], record_##name[], lane_##name[];
SYMBOLS(endbr) SYMBOLS(push) SYMBOLS(nop5) SYMBOLS(lea) SYMBOLS(sub) SYMBOLS(rip) SYMBOLS(jcc) SYMBOLS(usdt) SYMBOLS(ret)
extern long hot_trap(long, long);

#ifdef WITH_LTTNG
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_hit.h"
#else
#define lttng_ust_tracepoint(provider, name, ...)
#endif

__attribute__((noinline, noclone)) static long hot_plain(long value, long other)
{
    lttng_ust_tracepoint(trampolines, hit, value, other);
    __asm__("" : "+r"(value), "+r"(other));
    return value + 1;
}

/* The site by its distance from the function: an address in data might be jumped to, so that nobody may displace what is there. */
#define KIND(name, distance) { #name, hot_##name, distance, { count_##name, record_##name, lane_##name } }
static const struct kind { const char *name; long (*function)(long, long); int distance; char *trampolines[3]; } kinds[KINDS] = {
    KIND(endbr, 4), KIND(push, 0), KIND(nop5, 0), KIND(lea, 0), KIND(sub, 0), KIND(rip, 0), KIND(jcc, 0), KIND(usdt, 3), KIND(ret, 3), { "trap", hot_trap, -1, { NULL, NULL, NULL } },
    { "plain", hot_plain, -1, { NULL, NULL, NULL } } };

enum variant { NONE = -1, COUNTED, RECORDED, LANE_COUNTED };

/* An owner and, 64 bytes behind, its count. */
uint64_t lane_table[256][16] __attribute__((aligned(128)));

struct round { const struct kind *kind; enum variant variant; long calls; int cpu; double ns; uint64_t hits; char *ring; };
static pthread_barrier_t barrier;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void on_trap(int signal) { (void)signal; }

/* No thread is in the function meanwhile. */
static void patch(const struct kind *kind, enum variant variant, char *saved)
{
    if (kind->distance < 0) return;
    char *site = (char *)kind->function + kind->distance;
    uintptr_t page = (uintptr_t)site & ~4095ul;
    size_t length = ((uintptr_t)site + JUMP + 4095 - page) & ~4095ul;
    if (mprotect((void *)page, length, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("mprotect");
    if (variant == NONE) {
        memcpy(site, saved, JUMP);
    } else {
        memcpy(saved, site, JUMP);
        int32_t distance = (int32_t)(kind->trampolines[variant] - (site + JUMP));
        site[0] = (char)0xe9;
        memcpy(site + 1, &distance, sizeof distance);
    }
    if (mprotect((void *)page, length, PROT_READ | PROT_EXEC)) fail("mprotect");
}

static uint64_t *claim_lane(void)
{
    uint64_t me;
    __asm__("mov %%fs:0, %0" : "=r"(me));
    for (uint64_t at = (me * 0x9E3779B97F4A7C15ull) >> 56;; at = (at + 1) & 255) {
        uint64_t owner = 0;
        if (__atomic_compare_exchange_n(&lane_table[at][0], &owner, me, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) || owner == me) return lane_table[at];
    }
}

static void *run(void *argument)
{
    struct round *round = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)round->cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    reference_tid = (uint32_t)syscall(SYS_gettid);
    reference_count = ring_head = 0;
    uint64_t *lane = claim_lane();
    lane[8] = 0;
    ring_limit = UINT64_MAX;
    ring_base = (uint64_t)round->ring;
    long (*volatile function)(long, long) = round->kind->function;
    pthread_barrier_wait(&barrier);
    double start = now();
    long value = 0;
    for (long i = 0; i < round->calls; i++) value = function(value, 0);
    round->ns = (now() - start) / (double)round->calls;
    if (value != round->calls) {
        printf("FAIL %ld calls of %s gave %ld\n", round->calls, round->kind->name, value);
        exit(1);
    }
    round->hits = round->variant == COUNTED ? reference_count : round->variant == RECORDED ? ring_head / 32 : round->variant == LANE_COUNTED ? lane[8] : 0;
    pthread_barrier_wait(&barrier);
    return NULL;
}

/* Nanoseconds of a call, the slowest thread's. */
static double measure(const struct kind *kind, enum variant variant, long calls, int threads, uint64_t *hits)
{
    static char *rings[MOST_THREADS];
    static struct round rounds[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    char saved[JUMP];
    int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (variant != NONE) patch(kind, variant, saved);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        if (!rings[i]) {
            rings[i] = mmap(NULL, RING_LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
            if (rings[i] == MAP_FAILED) fail("mmap");
        }
        rounds[i] = (struct round){ kind, variant, calls, i % cpus, 0, 0, rings[i] };
        if (pthread_create(&ids[i], NULL, run, &rounds[i])) fail("pthread_create");
    }
    double ns = 0;
    *hits = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        ns = rounds[i].ns > ns ? rounds[i].ns : ns;
        *hits += rounds[i].hits;
    }
    pthread_barrier_destroy(&barrier);
    if (variant != NONE) {
        patch(kind, NONE, saved);
        if (kind->distance >= 0 && *hits != (uint64_t)(calls * threads)) {
            printf("FAIL %ld calls of %s gave %lu hits\n", calls * threads, kind->name, (unsigned long)*hits);
            exit(1);
        }
    }
    return ns;
}

struct place { uintptr_t address; unsigned long offset; };

static int find_offset(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    struct place *place = data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t distance = place->address - (info->dlpi_addr + segment->p_vaddr);
        if (segment->p_type == PT_LOAD && distance < segment->p_filesz) place->offset = segment->p_offset + distance;
    }
    return 1; /* The program comes first. */
}

static int serve(void)
{
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    char line[128], name[16], variant[16];
    while (fgets(line, sizeof line, stdin)) {
        long calls;
        int threads, k = 0;
        if (sscanf(line, "%15s %15s %ld %d", name, variant, &calls, &threads) != 4) return 2;
        while (k < KINDS && strcmp(kinds[k].name, name)) k++;
        if (k == KINDS) return 2;
        if (strcmp(variant, "where") == 0) {
            /* At the entry, but for a static probe; a return probe of the kernel is put at the entry, too. */
            struct place place = { strcmp(name, "usdt") ? (uintptr_t)kinds[k].function : (uintptr_t)kinds[k].function + (uintptr_t)kinds[k].distance, 0 };
            dl_iterate_phdr(find_offset, &place);
            printf("%lx %lx\n", (unsigned long)place.address, place.offset);
            fflush(stdout);
            continue;
        }
        if (calls < 1 || threads < 1 || threads > MOST_THREADS) return 2;
        uint64_t hits;
        double ns = measure(&kinds[k], *variant == 'c' ? COUNTED : *variant == 'r' ? RECORDED : *variant == 'l' ? LANE_COUNTED : NONE, calls, threads, &hits);
        printf("%.2f ns per call, %lu hits\n", ns, (unsigned long)hits);
        fflush(stdout);
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    signal(SIGTRAP, on_trap);
    if (argc > 1 && strcmp(argv[1], "serve") == 0) return serve();
    int rounds = argc > 1 ? atoi(argv[1]) : 21;
    long calls = argc > 2 ? atol(argv[2]) : 100000;
    int threads = argc > 3 ? atoi(argv[3]) : 2;
    if (rounds < 1 || rounds > MOST_ROUNDS || calls < 1 || threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "usage: trampolines [ROUNDS [CALLS [THREADS]]] | serve\n");
        return 2;
    }
    printf("%-6s %9s %9s %9s %9s   %s %d threads: %9s %9s %9s %9s   (ns of a call; medians of %d rounds of %ld)\n",
           "kind", "unprobed", "count", "record", "lane", "by", threads, "unprobed", "count", "record", "lane", rounds, calls);
    for (int k = 0; k < KINDS; k++) {
        static double ns[8][MOST_ROUNDS];
        uint64_t hits;
        int steps = kinds[k].distance >= 0 ? 8 : 1;
        for (int round = 0; round < rounds; round++)
            for (int step = 0; step < steps; step++)
                ns[step][round] = measure(&kinds[k], (enum variant)(step % 4 - 1), kinds[k].distance >= 0 ? calls : calls / 20 + 1, step < 4 ? 1 : threads, &hits);
        for (int step = 0; step < steps; step++) qsort(ns[step], (size_t)rounds, sizeof(double), ascending);
        int middle = rounds / 2;
        printf("%-6s", kinds[k].name);
        for (int step = 0; step < steps; step++) printf("%s %9.2f", step == 4 ? "                 " : "", ns[step][middle]);
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

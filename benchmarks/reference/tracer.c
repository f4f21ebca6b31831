/* tracer: what a hit costs at least, with ptrace: the loop of a correct tracer in C and nothing else.
 *
 *   tracer [-s SPIN_US] [-a same|other|none] [-n HITS] -- COMMAND ARGUMENTS     the command prints "ready PID KIND ADDRESS"
 *   tracer [-s SPIN_US] [-a same|other|none] [-n HITS] -p PID -x ADDRESS                  (hexadecimal)
 *
 * One int3 at the address. For each hit: wait4 (polled for SPIN_US microseconds, then blocking), PTRACE_GETREGSET, the displaced instruction, PTRACE_SETREGSET,
 * PTRACE_CONT. push %rbp, endbr64, multi-byte nops and sub imm8, %rsp are emulated; anything else is run out of line in a page mapped by the target,
 * as "instruction; jmp back" (no rip-relative operands). Affinity: the target is pinned to CPU 0, the tracer to the same or the next CPU. Prints hits and ns per hit. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t target;
static int memory, spin_us = 50;
static unsigned long long hits;
static volatile sig_atomic_t ending;

static void die(const char *what)
{
    fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
    if (target > 0) kill(target, SIGKILL);
    exit(1);
}

static void on_end(int signal) { (void)signal; ending = 1; }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pin(pid_t pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(pid, sizeof set, &set)) die("sched_setaffinity");
}

/* 0 when interrupted by a signal of ours. */
static int wait_stop(int *status)
{
    double end = spin_us > 0 ? now() + spin_us * 1e-6 : 0;
    for (;;) {
        pid_t got = wait4(target, status, spin_us > 0 ? __WALL | WNOHANG : __WALL, NULL);
        if (got == target) return 1;
        if (got < 0 && errno == EINTR) { if (ending) return 0; continue; }
        if (got < 0) die("wait4");
        if (now() >= end) break;
        sched_yield();
    }
    for (;;) {
        pid_t got = wait4(target, status, __WALL, NULL);
        if (got == target) return 1;
        if (got < 0 && errno != EINTR) die("wait4");
        if (ending) return 0;
    }
}

static void get_registers(struct user_regs_struct *r)
{
    struct iovec v = { r, sizeof *r };
    if (ptrace(PTRACE_GETREGSET, target, (void *)NT_PRSTATUS, &v)) die("PTRACE_GETREGSET");
}

static void set_registers(struct user_regs_struct *r)
{
    struct iovec v = { r, sizeof *r };
    if (ptrace(PTRACE_SETREGSET, target, (void *)NT_PRSTATUS, &v)) die("PTRACE_SETREGSET");
}

static void put(uint64_t address, const void *bytes, size_t length)
{
    if (pwrite(memory, bytes, length, (off_t)address) != (ssize_t)length) die("writing text");
}

/* Maps a page near the address, by a system call instruction put where the thread stands. */
static uint64_t map_page(uint64_t near)
{
    struct user_regs_struct saved, r;
    unsigned char old[3], code[3] = { 0x0f, 0x05, 0xcc };
    int status;
    get_registers(&saved);
    if (pread(memory, old, sizeof old, (off_t)saved.rip) != (ssize_t)sizeof old) die("reading text");
    for (uint64_t distance = 1 << 20; distance < 1u << 30; distance *= 2) {
        r = saved;
        r.rax = SYS_mmap; r.rdi = (near & ~4095ull) + distance; r.rsi = 4096; r.rdx = PROT_READ | PROT_EXEC;
        r.r10 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE; r.r8 = (uint64_t)-1; r.r9 = 0; r.orig_rax = (uint64_t)-1;
        put(saved.rip, code, sizeof code);
        set_registers(&r);
        if (ptrace(PTRACE_CONT, target, 0, 0)) die("PTRACE_CONT");
        if (waitpid(target, &status, __WALL) != target || !WIFSTOPPED(status)) die("a stop after mmap");
        get_registers(&r);
        put(saved.rip, old, sizeof old);
        set_registers(&saved);
        if (r.rax < (uint64_t)-4095) return r.rax;
    }
    errno = ENOMEM;
    die("mmap in the target");
    return 0;
}

enum kind { PUSH_RBP, SKIP, SUB_RSP, SLOT };

static enum kind classify(const unsigned char *b, int *length)
{
    static const unsigned char endbr[4] = { 0xf3, 0x0f, 0x1e, 0xfa }, nop5[5] = { 0x0f, 0x1f, 0x44, 0, 0 };
    if (b[0] == 0x55) { *length = 1; return PUSH_RBP; }
    if (b[0] == 0x90) { *length = 1; return SKIP; }
    if (!memcmp(b, endbr, 4)) { *length = 4; return SKIP; }
    if (!memcmp(b, nop5, 5)) { *length = 5; return SKIP; }
    if (b[0] == 0x48 && b[1] == 0x83 && b[2] == 0xec) { *length = 4; return SUB_RSP; }
    if (b[0] == 0x48 && b[1] == 0x89 && (b[2] & 0xc0) == 0xc0) { *length = 3; return SLOT; }
    fprintf(stderr, "tracer: an instruction this reference does not know: %02x %02x %02x\n", b[0], b[1], b[2]);
    exit(2);
}

static unsigned long long arithmetic_flags(uint64_t a, uint64_t b)
{
    uint64_t result = a - b, flags = 0;
    if (a < b) flags |= 1;
    if (!(__builtin_popcount((unsigned)(result & 0xff)) & 1)) flags |= 4;
    if ((a ^ b ^ result) & 0x10) flags |= 0x10;
    if (!result) flags |= 0x40;
    if (result >> 63) flags |= 0x80;
    if (((a ^ b) & (a ^ result)) >> 63) flags |= 0x800;
    return flags;
}

static void loop(uint64_t address, unsigned long long limit)
{
    unsigned char bytes[16], slot_code[32];
    int length, status;
    if (pread(memory, bytes, sizeof bytes, (off_t)address) != (ssize_t)sizeof bytes) die("reading text");
    enum kind kind = classify(bytes, &length);
    uint64_t slot = 0;
    if (kind == SLOT) {
        slot = map_page(address);
        int64_t distance = (int64_t)(address + (uint64_t)length - (slot + (uint64_t)length + 5));
        int32_t near = (int32_t)distance;
        memcpy(slot_code, bytes, (size_t)length);
        slot_code[length] = 0xe9;
        memcpy(slot_code + length + 1, &near, 4);
        put(slot, slot_code, (size_t)length + 5);
    }
    put(address, "\xcc", 1);
    if (ptrace(PTRACE_CONT, target, 0, 0)) die("PTRACE_CONT");
    double first = 0, last = 0;
    while (!ending && (!limit || hits < limit)) {
        struct user_regs_struct r;
        if (!wait_stop(&status)) break;
        if (WIFEXITED(status) || WIFSIGNALED(status)) { target = 0; break; }
        int signal = WSTOPSIG(status);
        if (signal != SIGTRAP || status >> 16) {
            if (ptrace(PTRACE_CONT, target, 0, (void *)(long)(status >> 16 ? 0 : signal))) die("PTRACE_CONT");
            continue;
        }
        get_registers(&r);
        if (r.rip - 1 != address) {
            if (ptrace(PTRACE_CONT, target, 0, (void *)(long)SIGTRAP)) die("PTRACE_CONT");
            continue;
        }
        if (!hits++) first = now();
        switch (kind) {
        case PUSH_RBP: {
            struct iovec ours = { &r.rbp, 8 }, theirs = { (void *)(r.rsp - 8), 8 };
            if (process_vm_writev(target, &ours, 1, &theirs, 1, 0) != 8) die("process_vm_writev");
            r.rsp -= 8;
            r.rip = address + 1;
            break;
        }
        case SKIP:
            r.rip = address + (uint64_t)length;
            break;
        case SUB_RSP: {
            uint64_t by = (uint64_t)(int64_t)(signed char)bytes[3];
            r.eflags = (r.eflags & ~0x8d5ull) | arithmetic_flags(r.rsp, by);
            r.rsp -= by;
            r.rip = address + 4;
            break;
        }
        case SLOT:
            r.rip = slot;
            break;
        }
        set_registers(&r);
        if (ptrace(PTRACE_CONT, target, 0, 0)) die("PTRACE_CONT");
        last = now();
    }
    if (target) {
        /* The thread runs: the byte is put back first, then it is stopped, and a stop on the trap that is now stale is undone. */
        int alive = pwrite(memory, bytes, 1, (off_t)address) == 1 && !ptrace(PTRACE_INTERRUPT, target, 0, 0);
        if (alive && waitpid(target, &status, __WALL) == target && WIFSTOPPED(status)) {
            struct user_regs_struct r;
            get_registers(&r);
            if (WSTOPSIG(status) == SIGTRAP && !(status >> 16) && r.rip - 1 == address) {
                r.rip--;
                set_registers(&r);
            }
            ptrace(PTRACE_DETACH, target, 0, 0);
        }
    }
    printf("%llu hits, %.1f ns per hit\n", hits, hits > 1 ? (last - first) * 1e9 / (double)(hits - 1) : 0.0);
}

int main(int argc, char **argv)
{
    const char *affinity = "none";
    uint64_t address = 0;
    unsigned long long limit = 0;
    pid_t child = 0;
    int option;
    while ((option = getopt(argc, argv, "+s:a:n:p:x:")) != -1) {
        switch (option) {
        case 's': spin_us = atoi(optarg); break;
        case 'a': affinity = optarg; break;
        case 'n': limit = strtoull(optarg, NULL, 10); break;
        case 'p': target = atoi(optarg); break;
        case 'x': address = strtoull(optarg, NULL, 16); break;
        default: return 2;
        }
    }
    struct sigaction end = { .sa_handler = on_end };
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    int input[2] = { -1, -1 }, output[2];
    if (optind < argc) {
        /* The command says where its function is, and waits for a line before it begins. */
        if (pipe2(input, O_CLOEXEC) || pipe2(output, O_CLOEXEC)) die("pipe2");
        child = fork();
        if (child == 0) {
            dup2(input[0], 0);
            dup2(output[1], 1);
            execvp(argv[optind], argv + optind);
            _exit(127);
        }
        close(input[0]);
        close(output[1]);
        FILE *lines = fdopen(output[0], "r");
        char kind[32];
        unsigned long at;
        int pid;
        if (!lines || fscanf(lines, "ready %d %31s %lx", &pid, kind, &at) != 3) die("the command did not say: ready PID KIND ADDRESS");
        target = pid;
        address = at;
    }
    if (!target || !address) {
        fprintf(stderr, "tracer: give -p PID -x ADDRESS, or a command that prints: ready PID KIND ADDRESS\n");
        return 2;
    }
    if (strcmp(affinity, "none") != 0) {
        pin(target, 0);
        pin(0, strcmp(affinity, "same") == 0 ? 0 : 1);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)target);
    memory = open(path, O_RDWR | O_CLOEXEC);
    if (memory < 0) die(path);
    int status;
    if (ptrace(PTRACE_SEIZE, target, 0, (void *)(long)PTRACE_O_TRACECLONE)) die("PTRACE_SEIZE");
    if (ptrace(PTRACE_INTERRUPT, target, 0, 0) || waitpid(target, &status, __WALL) != target) die("PTRACE_INTERRUPT");
    if (child && write(input[1], "go\n", 3) != 3) die("telling the command to go");
    loop(address, limit);
    if (child && target) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    return 0;
}

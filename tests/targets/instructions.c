/* instructions: runs single instructions from given states and keeps what they left: registers, flags, vector state, memory, where they went, or the
 * signal they raised. A case is a block of code and an input, both written from outside while it waits. "native FIRST COUNT" keeps the results;
 * "probed FIRST COUNT" runs the same inputs again and compares: "count differences N". One that never ends is broken off by SIGPROF, which is its result then. All addresses are fixed and below 2 GiB, so that every
 * addressing form reaches its operand; with the argument "far", the code has its operands just in reach and no free memory nearer than they are. */
#include "target.h"
#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#define STATE_AT 0x12000000ul
#define DATA_AT 0x10000000ul
#define STACK_AT 0x11000000ul
#define CODE_AT 0x20000000ul
#define FAR_CODE_AT 0x89000000ul
#define CODE_LENGTH 0x100000ul
#define DATA_LENGTH 0x2000ul
#define STACK_LENGTH 0x2000ul
#define INPUTS_AT 0x13000000ul
#define MAXIMUM_INPUTS 4096
#define RESULTS_AT 0x700000000000ul
#define SCRATCH_AT 0x14000000ul
#define DIFFERENCES 32
#define XSAVE_LENGTH 2752
#define PAGE 4096ul

enum { IGNORE_DATA = 1, IGNORE_FPU_POINTERS = 2, FPU_IMAGE_AT_ADDRESS = 4, IGNORE_VECTORS = 8, SAME_WHERE = 16 };

struct input {
    uint64_t registers[16], flags, fs, gs, entry, seed, options, ignored_registers;
    uint64_t vector, vector_size, vector_mask; /* elements of a vector register that serve as indices */
    uint64_t patch_address[4], patch_value[4];
    uint64_t image_address, unused[2];
};

struct result {
    uint64_t registers[16], flags, where, rip, fs, gs, selectors, pkru;
    uint64_t signal, code, address, trap, error, unused[4];
    uint8_t vectors[XSAVE_LENGTH] __attribute__((aligned(64)));
    uint8_t data[DATA_LENGTH], stack[STACK_LENGTH];
};

/* The offsets are those in the assembly below. */
struct state {
    uint64_t registers[16], flags, fs, gs, entry;             /* 0 128 136 144 152 */
    uint64_t host_stack, host_fs, host_gs, mask;              /* 160 168 176 184 */
    uint64_t fall, target, has_pkru, unused;                  /* 192 200 208 216 */
    uint64_t out[16], out_flags, out_where, out_fs, out_gs;   /* 224 352 360 368 376 */
    uint16_t out_selectors[4];                                /* 384 */
    uint64_t out_pkru, current, unused2[13];                  /* 392 400 */
    uint8_t in_vectors[4096];                                 /* 512 */
    uint8_t out_vectors[4096];                                /* 4608 */
};

#define S ((volatile struct state *)STATE_AT)
#define INPUT ((struct input *)INPUTS_AT)
#define RESULT ((struct result *)RESULTS_AT)
#define SCRATCH ((struct result *)SCRATCH_AT)

_Static_assert(offsetof(struct state, out) == 224 && offsetof(struct state, out_pkru) == 392, "offsets in the assembly");
_Static_assert(offsetof(struct state, in_vectors) == 512 && offsetof(struct state, out_vectors) == 4608, "offsets in the assembly");

void run_case(void);
void capture_fall(void);
void capture_target(void);
void resume_host(void);

__asm__(
    ".text\n"
    ".set ST, 0x12000000\n"
    "run_case:\n"
    "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "  mov %rsp, ST+160\n"
    "  mov ST+184, %eax\n xor %edx, %edx\n xrstor64 ST+512\n"
    "  mov ST+136, %rax\n wrfsbase %rax\n mov ST+144, %rax\n wrgsbase %rax\n"
    "  pushq ST+128\n popfq\n"
    "  mov ST+0, %rax\n mov ST+8, %rcx\n mov ST+16, %rdx\n mov ST+24, %rbx\n mov ST+40, %rbp\n mov ST+48, %rsi\n mov ST+56, %rdi\n"
    "  mov ST+64, %r8\n mov ST+72, %r9\n mov ST+80, %r10\n mov ST+88, %r11\n mov ST+96, %r12\n mov ST+104, %r13\n mov ST+112, %r14\n mov ST+120, %r15\n"
    "  mov ST+32, %rsp\n"
    "  jmp *ST+152\n"
    "capture_fall:\n  movq $1, ST+360\n  jmp capture\n"
    "capture_target:\n  movq $2, ST+360\n"
    "capture:\n"
    "  mov %rax, ST+224\n mov %rcx, ST+232\n mov %rdx, ST+240\n mov %rbx, ST+248\n mov %rsp, ST+256\n mov %rbp, ST+264\n mov %rsi, ST+272\n mov %rdi, ST+280\n"
    "  mov %r8, ST+288\n mov %r9, ST+296\n mov %r10, ST+304\n mov %r11, ST+312\n mov %r12, ST+320\n mov %r13, ST+328\n mov %r14, ST+336\n mov %r15, ST+344\n"
    "  mov ST+160, %rsp\n"
    "  pushfq\n popq ST+352\n pushq $0x202\n popfq\n"
    "  rdfsbase %rax\n mov %rax, ST+368\n rdgsbase %rax\n mov %rax, ST+376\n"
    "  mov %ds, ST+384\n mov %es, ST+386\n mov %fs, ST+388\n mov %gs, ST+390\n"
    "  xor %eax, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %fs\n mov %eax, %gs\n"
    "  mov ST+168, %rax\n wrfsbase %rax\n mov ST+176, %rax\n wrgsbase %rax\n"
    "  mov ST+184, %eax\n xor %edx, %edx\n xsave64 ST+4608\n"
    "  cmpq $0, ST+208\n je 1f\n xor %ecx, %ecx\n rdpkru\n mov %rax, ST+392\n xor %ecx, %ecx\n xor %edx, %edx\n mov $0x55555554, %eax\n wrpkru\n1:\n"
    "resume_host:\n"
    "  fninit\n push $0x1f80\n ldmxcsr (%rsp)\n pop %rax\n"
    "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
    "  ret\n");

static unsigned long xsave_offset[8];
static uint64_t xsave_mask;
static uint64_t seed;
static uint64_t code_at;

static uint64_t next_random(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Values at which arithmetic has its corners, of integers and of floating-point numbers. */
static uint64_t random_element(void)
{
    static const uint64_t corners[] = {
        0, ~0ull, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000001, 0x7ff0000000000001, 1,
        0x3f8000003f800000, 0xbf80000041200000, 0x7f8000007fc00000, 0x7f80000100000001, 0x0000000180000000, 0x8000000000000000, 0x4024000000000000,
        0x3c003c00bc007c00, 0x0001000200030004, 0x00ff00ff7fff8000, 0x4330000000000001, 0x41dfffffffc00000, 0xc1e0000000000000, 0x0010000000000000 };
    uint64_t r = next_random();
    switch (r & 3) {
    case 0: return corners[(r >> 8) % (sizeof corners / sizeof *corners)];
    case 1: return (r & 0x800fffffffffffffull) | ((0x3f0 + ((r >> 52) & 0x1f)) << 52);
    default: return next_random();
    }
}

static void fill(void *at, size_t length)
{
    uint64_t *words = at;
    for (size_t i = 0; i < length / 8; i++) words[i] = next_random();
}

static void fill_image(uint8_t *image)
{
    memset(image, 0, XSAVE_LENGTH);
    uint64_t r = next_random();
    *(uint16_t *)image = (uint16_t)((r & 7) == 0 ? 0x0340 | (r >> 8 & 0x0f3f) : 0x037f ^ (r >> 8 & 0x0c00));
    *(uint16_t *)(image + 2) = (uint16_t)((r >> 24 & 0x7f00) | ((r & 0x30) == 0 ? r >> 40 & 0x3f : 0));
    image[4] = (r & 0xc0) == 0 ? (uint8_t)(r >> 48) : 0xff;
    *(uint16_t *)(image + 6) = (uint16_t)(r >> 16 & 0x7ff);
    *(uint64_t *)(image + 8) = next_random() & 0x7fffffffffffull;
    *(uint64_t *)(image + 16) = next_random() & 0x7fffffffffffull;
    r = next_random();
    *(uint32_t *)(image + 24) = (uint32_t)((r & 15) == 0 ? r >> 8 & 0xffc0 : 0x1f80 | (r >> 8 & 0xe07f));
    *(uint32_t *)(image + 28) = 0xffff;
    for (int i = 0; i < 8; i++) {
        r = next_random();
        *(uint64_t *)(image + 32 + 16 * i) = (r & 0x700) ? next_random() | 1ull << 63 : next_random() >> (r & 63);
        *(uint16_t *)(image + 40 + 16 * i) = (uint16_t)((r & 7) ? 0x3fdf + (r >> 16 & 63) : (r & 8) ? 0x7fff : r >> 16);
        if (r & 0x8000) image[41 + 16 * i] |= 0x80;
    }
    for (int i = 160; i < 416; i += 8) *(uint64_t *)(image + i) = random_element();
    static const struct { int component, length; } parts[] = { { 2, 256 }, { 5, 64 }, { 6, 512 }, { 7, 1024 } };
    for (int p = 0; p < 4; p++) {
        if (!(xsave_mask >> parts[p].component & 1)) continue;
        uint64_t *words = (uint64_t *)(image + xsave_offset[parts[p].component]);
        for (int i = 0; i < parts[p].length / 8; i++) words[i] = parts[p].component == 5 ? ((next_random() & 3) ? next_random() : ~0ull) : random_element();
    }
    *(uint64_t *)(image + 512) = xsave_mask;
}

static void mask_elements(uint8_t *image, const struct input *in)
{
    uint8_t whole[64], *at[4];
    unsigned n = (unsigned)in->vector;
    if (n < 16) {
        at[0] = image + 160 + 16 * n;
        at[1] = image + xsave_offset[2] + 16 * n;
        at[2] = image + xsave_offset[6] + 32 * n;
        at[3] = at[2] + 16;
    } else {
        for (int i = 0; i < 4; i++) at[i] = image + xsave_offset[7] + 64 * (n - 16) + 16 * i;
    }
    int parts = !(xsave_mask & 4) ? 1 : !(xsave_mask & 0x80) ? 2 : 4;
    for (int i = 0; i < parts; i++) memcpy(whole + 16 * i, at[i], 16);
    for (unsigned i = 0; i < 64; i += (unsigned)in->vector_size) {
        if (in->vector_size == 8) *(uint64_t *)(whole + i) = next_random() & in->vector_mask;
        else *(uint32_t *)(whole + i) = (uint32_t)(next_random() & in->vector_mask);
    }
    for (int i = 0; i < parts; i++) memcpy(at[i], whole + 16 * i, 16);
}

/* Runs with the fs base of the case: nothing here may use thread-local storage before it is put back. */
__attribute__((optimize("no-stack-protector"))) static void on_signal(int number, siginfo_t *info, void *opaque)
{
    uint64_t fs, gs;
    __asm__ volatile("rdfsbase %0\n\trdgsbase %1" : "=r"(fs), "=r"(gs));
    S->out_fs = fs;
    S->out_gs = gs;
    __asm__ volatile("mov %%ds, %0\n\tmov %%es, %1\n\tmov %%fs, %2\n\tmov %%gs, %3"
        : "=m"(S->out_selectors[0]), "=m"(S->out_selectors[1]), "=m"(S->out_selectors[2]), "=m"(S->out_selectors[3]));
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %0, %%fs\n\tmov %0, %%gs\n\twrfsbase %1\n\twrgsbase %2" : : "r"(0), "r"(S->host_fs), "r"(S->host_gs));
    ucontext_t *context = opaque;
    greg_t *g = context->uc_mcontext.gregs;
    static const int order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    struct result *r = SCRATCH;
    for (int i = 0; i < 16; i++) S->out[i] = (uint64_t)g[order[i]];
    S->out_flags = (uint64_t)g[REG_EFL] & ~0x10000ul; /* RF is the processor's own book-keeping */
    S->out_where = 3;
    r->rip = (uint64_t)g[REG_RIP];
    r->signal = (uint64_t)number;
    r->code = (uint64_t)(int64_t)info->si_code;
    r->address = (uint64_t)info->si_addr;
    r->trap = (uint64_t)g[REG_TRAPNO];
    r->error = (uint64_t)g[REG_ERR];
    memcpy((void *)S->out_vectors, context->uc_mcontext.fpregs, XSAVE_LENGTH);
    g[REG_RIP] = (greg_t)(uintptr_t)resume_host;
    g[REG_RSP] = (greg_t)S->host_stack;
    g[REG_EFL] = 0x202;
}

static void run(const struct input *in, struct result *out)
{
    seed = in->seed;
    fill((void *)DATA_AT, DATA_LENGTH);
    fill((void *)STACK_AT, STACK_LENGTH);
    fill_image((uint8_t *)S->in_vectors);
    if (in->vector_size) mask_elements((uint8_t *)S->in_vectors, in);
    if (in->options & FPU_IMAGE_AT_ADDRESS) fill_image((uint8_t *)in->image_address);
    for (int i = 0; i < 4; i++) if (in->patch_address[i]) memcpy((void *)in->patch_address[i], &in->patch_value[i], 8);
    memcpy((void *)S->registers, in->registers, sizeof in->registers);
    S->flags = in->flags;
    S->fs = in->fs;
    S->gs = in->gs;
    S->entry = in->entry;
    S->out_pkru = 0x55555554;
    memset(SCRATCH, 0, offsetof(struct result, vectors));
    memset((void *)S->out_vectors, 0, XSAVE_LENGTH);
    run_case();
    memcpy(SCRATCH->registers, (void *)S->out, sizeof SCRATCH->registers);
    SCRATCH->flags = S->out_flags;
    SCRATCH->where = in->options & SAME_WHERE ? 0 : S->out_where;
    SCRATCH->fs = S->out_fs;
    SCRATCH->gs = S->out_gs;
    memcpy(&SCRATCH->selectors, (void *)S->out_selectors, 8);
    SCRATCH->pkru = S->out_pkru;
    for (int i = 0; i < 16; i++) if (in->ignored_registers >> i & 1) SCRATCH->registers[i] = 0;
    if (in->ignored_registers >> 16 & 1) SCRATCH->flags = 0;

    /* A component in its initial state need not have been written. What is the kernel's in the image goes. */
    uint8_t *v = SCRATCH->vectors;
    memcpy(v, (void *)S->out_vectors, XSAVE_LENGTH);
    uint64_t present = *(uint64_t *)(v + 512);
    static const struct { int component, length; } parts[] = { { 2, 256 }, { 5, 64 }, { 6, 512 }, { 7, 1024 } };
    for (int p = 0; p < 4; p++)
        if (xsave_mask >> parts[p].component & 1 && !(present >> parts[p].component & 1)) memset(v + xsave_offset[parts[p].component], 0, (size_t)parts[p].length);
    if (!(present & 2)) memset(v + 160, 0, 256);
    if (!(present & 1)) {
        memset(v, 0, 24);
        *(uint16_t *)v = 0x37f;
        memset(v + 32, 0, 128);
    }
    memset(v + 28, 0, 4);
    memset(v + 416, 0, 160);
    if (xsave_offset[2] == 576 && XSAVE_LENGTH > 2688) memset(v + 2688, 0, XSAVE_LENGTH - 2688);
    if (in->options & IGNORE_FPU_POINTERS) *(uint64_t *)(v + 8) = 0;
    if (in->options & IGNORE_VECTORS) memset(v, 0, XSAVE_LENGTH);
    if (in->options & IGNORE_DATA) memset(SCRATCH->data, 0, DATA_LENGTH);
    else memcpy(SCRATCH->data, (void *)DATA_AT, DATA_LENGTH);
    memcpy(SCRATCH->stack, (void *)STACK_AT, STACK_LENGTH);
    if (out != SCRATCH) memcpy(out, SCRATCH, sizeof *out);
}

/* Which case runs is told before it runs; it may take so many seconds of processor time. */
static void run_limited(int index, struct result *out)
{
    struct itimerval limit = { { 0, 0 }, { 2, 0 } };
    S->current = (uint64_t)index;
    setitimer(ITIMER_PROF, &limit, NULL);
    run(&INPUT[index], out);
}

static void *map(uint64_t at, uint64_t length, int protection)
{
    void *got = mmap((void *)at, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (got != (void *)at) target_fail("mmap %lx", at);
    return got;
}

int main(int argc, char **argv)
{
    int is_far = argc > 1 && strcmp(argv[1], "far") == 0;
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1)) { target_say("unable no fsgsbase"); return 0; }
    unsigned has_pkru = c >> 4 & 1;
    __cpuid_count(0xd, 0, a, b, c, d);
    xsave_mask = a & 0xe7;
    for (int i = 2; i < 8; i++) {
        __cpuid_count(0xd, i, a, b, c, d);
        if (xsave_mask >> i & 1) xsave_offset[i] = b;
        if (xsave_mask >> i & 1 && a + b > XSAVE_LENGTH) { target_say("unable large xsave area"); return 0; }
    }
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    int last = -1;
    for (int i = 0; i < CPU_SETSIZE; i++) if (CPU_ISSET(i, &cpus)) last = i;
    CPU_ZERO(&cpus);
    CPU_SET(last, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);

    code_at = is_far ? FAR_CODE_AT : CODE_AT;
    map(STATE_AT, 0x4000, PROT_READ | PROT_WRITE);
    map(DATA_AT, DATA_LENGTH, PROT_READ | PROT_WRITE);
    map(DATA_AT + DATA_LENGTH, PAGE, PROT_READ);
    map(DATA_AT + DATA_LENGTH + PAGE, PAGE, PROT_NONE);
    (void)*(volatile char *)(DATA_AT + DATA_LENGTH); /* present: whether it is, a fault's error code tells */
    map(STACK_AT, STACK_LENGTH, PROT_READ | PROT_WRITE);
    map(INPUTS_AT, (sizeof(struct input) * MAXIMUM_INPUTS + PAGE - 1) & ~(PAGE - 1), PROT_READ | PROT_WRITE);
    map(SCRATCH_AT, (sizeof(struct result) * (DIFFERENCES + 1) + PAGE - 1) & ~(PAGE - 1), PROT_READ | PROT_WRITE);
    map(RESULTS_AT, (sizeof(struct result) * MAXIMUM_INPUTS + PAGE - 1) & ~(PAGE - 1), PROT_READ | PROT_WRITE);
    map(code_at, CODE_LENGTH, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (is_far) {
        /* All that is free within reach of the code, up to where its operands are out of reach. */
        map(0x10000, DATA_AT - 0x20000, PROT_NONE);
        map(0x15000000, FAR_CODE_AT - 0x15000000, PROT_NONE);
        map(FAR_CODE_AT + CODE_LENGTH, 0x30000000, PROT_NONE);
    }

    S->mask = xsave_mask;
    S->fall = (uint64_t)capture_fall;
    S->target = (uint64_t)capture_target;
    uint64_t fs, gs;
    __asm__ volatile("rdfsbase %0\n\trdgsbase %1" : "=r"(fs), "=r"(gs));
    S->host_fs = fs;
    S->host_gs = gs;
    S->has_pkru = has_pkru;
    static char alternate[1 << 17];
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    sigaltstack(&stack, NULL);
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigfillset(&action.sa_mask);
    static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGPROF };
    for (int i = 0; i < 6; i++) sigaction(signals[i], &action, NULL);
    target_say("sizes %d %d %d %d", (int)sizeof(struct input), (int)sizeof(struct result), MAXIMUM_INPUTS, DIFFERENCES);
    target_ready();

    char line[64];
    struct itimerval none = { { 0, 0 }, { 0, 0 } };
    while (target_command(line, sizeof line)) {
        int first, count;
        if (strcmp(line, "end") == 0) return target_end(0);
        if (sscanf(line, "native %d %d", &first, &count) == 2) {
            for (int i = first; i < first + count; i++) run_limited(i, &RESULT[i]);
            setitimer(ITIMER_PROF, &none, NULL);
            target_say("count native %d", count);
        } else if (sscanf(line, "probed %d %d", &first, &count) == 2) {
            int different = 0;
            for (int i = first; i < first + count; i++) {
                run_limited(i, SCRATCH);
                if (memcmp(SCRATCH, &RESULT[i], sizeof(struct result)) == 0) continue;
                if (different < DIFFERENCES) {
                    memcpy(SCRATCH + 1 + different, SCRATCH, sizeof(struct result));
                    target_say("different %d", i);
                }
                different++;
            }
            setitimer(ITIMER_PROF, &none, NULL);
            target_say("count differences %d", different);
        }
    }
    return 97;
}

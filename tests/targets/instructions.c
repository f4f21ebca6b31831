/* instructions: runs single instructions from given states and keeps what they left: registers, flags, vector state, tiles, memory, where they went, or
 * the signal they raised. A case is a block of code and an input, both written from outside while it waits. "native COUNT" keeps the results; "probed COUNT"
 * runs the same inputs again and compares: "count differences N". One that never ends is broken off by SIGPROF, which is its result then.
 * What a case may touch has fixed addresses below 2 GiB, so that every addressing form reaches its operand; with the argument "far", the code has its
 * operands just in reach and no free memory nearer than they are. What the harness needs is where the kernel put it, which no case knows, or read-only. It is
 * summed up before and after the cases: "spoiled WHAT" if one changed it all the same. "progress" is a file that outlives the program and has the case's index. */
#include "target.h"
#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#define ANCHORS_AT 0x12000000ul
#define DATA_AT 0x10000000ul
#define STACK_AT 0x11000000ul
#define CODE_AT 0x20000000ul
#define FAR_CODE_AT 0x89000000ul
#define CODE_LENGTH 0x100000ul
#define DATA_LENGTH 0x2000ul
#define STACK_LENGTH 0x2000ul
#define MAXIMUM_INPUTS 4096
#define DIFFERENCES 32
#define XSAVE_LENGTH 2752
#define TILES_LENGTH 8256
#define WHOLE_LENGTH 12288
#define TILES_MASK 0x60000u
#define PAGE 4096ul

enum { IGNORE_FPU_POINTERS = 1, IGNORE_FPU_OPCODE = 2, FPU_IMAGE_AT_ADDRESS = 4, SAME_WHERE = 8, TILES = 16, TILE_CONFIGURATION_AT_ADDRESS = 32,
    IGNORE_BELOW_RED_ZONE = 64, IGNORE_WORD_AT_FAULT = 128, IGNORE_FPU_DATA = 256, IGNORE_FPU_ENVIRONMENT = 512, IGNORE_SHORT_ENVIRONMENT = 1024 };

struct input {
    uint64_t registers[16], flags, fs, gs, entry, seed, options, ignored_registers;
    uint64_t vector, vector_size, vector_mask; /* elements of a vector register that serve as indices */
    uint64_t patch_address[4], patch_value[4];
    uint64_t image_address, unused[2];
};

struct result {
    uint64_t registers[16], flags, where, rip, fs, gs, selectors, pkru;
    uint64_t signal, code, address, trap, error, tiles, unused[3];
    uint8_t vectors[XSAVE_LENGTH] __attribute__((aligned(64)));
    uint8_t data[DATA_LENGTH], stack[STACK_LENGTH];
};

/* The offsets are those in the assembly below. */
struct state {
    uint64_t registers[16], flags, fs, gs, entry;             /* 0 128 136 144 152 */
    uint64_t host_stack, host_fs, host_gs, mask;              /* 160 168 176 184 */
    uint64_t is_running, unused, has_pkru, unused2;           /* 192 200 208 216 */
    uint64_t out[16], out_flags, out_where, out_fs, out_gs;   /* 224 352 360 368 376 */
    uint16_t out_selectors[4];                                /* 384 */
    uint64_t out_pkru, unused3[14];                           /* 392 */
    uint8_t in_vectors[WHOLE_LENGTH];                         /* 512 */
    uint8_t out_vectors[WHOLE_LENGTH];                        /* 12800 */
};

static struct state state __attribute__((used, aligned(64)));
static struct input *inputs;
static struct result *results, *scratch;
static volatile uint64_t *progress;

#define S ((volatile struct state *)&state)

_Static_assert(offsetof(struct state, out) == 224 && offsetof(struct state, out_pkru) == 392, "offsets in the assembly");
_Static_assert(offsetof(struct state, in_vectors) == 512 && offsetof(struct state, out_vectors) == 12800, "offsets in the assembly");

void run_case(void);
void capture_fall(void);
void capture_target(void);
void resume_host(void);

__asm__(
    ".text\n"
    "run_case:\n"
    "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "  mov %rsp, state+160(%rip)\n  movq $1, state+192(%rip)\n"
    "  mov state+184(%rip), %eax\n xor %edx, %edx\n xrstor64 state+512(%rip)\n"
    "  mov state+136(%rip), %rax\n wrfsbase %rax\n mov state+144(%rip), %rax\n wrgsbase %rax\n"
    "  pushq state+128(%rip)\n popfq\n"
    "  mov state+0(%rip), %rax\n mov state+8(%rip), %rcx\n mov state+16(%rip), %rdx\n mov state+24(%rip), %rbx\n mov state+40(%rip), %rbp\n mov state+48(%rip), %rsi\n mov state+56(%rip), %rdi\n"
    "  mov state+64(%rip), %r8\n mov state+72(%rip), %r9\n mov state+80(%rip), %r10\n mov state+88(%rip), %r11\n mov state+96(%rip), %r12\n mov state+104(%rip), %r13\n mov state+112(%rip), %r14\n mov state+120(%rip), %r15\n"
    "  mov state+32(%rip), %rsp\n"
    "  jmp *state+152(%rip)\n"
    "capture_fall:\n  movq $1, state+360(%rip)\n  jmp capture\n"
    "capture_target:\n  movq $2, state+360(%rip)\n"
    "capture:\n  movq $0, state+192(%rip)\n"
    "  mov %rax, state+224(%rip)\n mov %rcx, state+232(%rip)\n mov %rdx, state+240(%rip)\n mov %rbx, state+248(%rip)\n mov %rsp, state+256(%rip)\n mov %rbp, state+264(%rip)\n mov %rsi, state+272(%rip)\n mov %rdi, state+280(%rip)\n"
    "  mov %r8, state+288(%rip)\n mov %r9, state+296(%rip)\n mov %r10, state+304(%rip)\n mov %r11, state+312(%rip)\n mov %r12, state+320(%rip)\n mov %r13, state+328(%rip)\n mov %r14, state+336(%rip)\n mov %r15, state+344(%rip)\n"
    "  mov state+160(%rip), %rsp\n"
    "  pushfq\n popq state+352(%rip)\n pushq $0x202\n popfq\n"
    "  rdfsbase %rax\n mov %rax, state+368(%rip)\n rdgsbase %rax\n mov %rax, state+376(%rip)\n"
    "  mov %ds, state+384(%rip)\n mov %es, state+386(%rip)\n mov %fs, state+388(%rip)\n mov %gs, state+390(%rip)\n"
    "  xor %eax, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %fs\n mov %eax, %gs\n"
    "  mov state+168(%rip), %rax\n wrfsbase %rax\n mov state+176(%rip), %rax\n wrgsbase %rax\n"
    "  mov state+184(%rip), %eax\n xor %edx, %edx\n xsave64 state+12800(%rip)\n"
    "  cmpq $0, state+208(%rip)\n je 1f\n xor %ecx, %ecx\n rdpkru\n mov %rax, state+392(%rip)\n xor %ecx, %ecx\n xor %edx, %edx\n mov $0x55555554, %eax\n wrpkru\n1:\n"
    "resume_host:\n"
    "  fninit\n push $0x1f80\n ldmxcsr (%rsp)\n pop %rax\n"
    "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
    "  ret\n");

static unsigned long xsave_offset[8], tiles_offset[2];
static uint64_t xsave_mask;
static int has_tiles;
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

/* Tiles of 16 rows of 64 bytes as a rule, of any shape at times. */
static void fill_tile_configuration(uint8_t *configuration)
{
    memset(configuration, 0, 64);
    configuration[0] = 1;
    uint64_t r = next_random();
    for (int i = 0; i < 8; i++) {
        uint64_t shape = next_random();
        *(uint16_t *)(configuration + 16 + 2 * i) = (uint16_t)((r & 3) ? 64 : (shape & 15) * 4 + 4);
        configuration[48 + i] = (uint8_t)((r & 3) ? 16 : (shape >> 8 & 15) + 1);
    }
}

static void fill_tiles(uint8_t *image)
{
    fill_tile_configuration(image + tiles_offset[0]);
    uint64_t *words = (uint64_t *)(image + tiles_offset[1]);
    for (int i = 0; i < (TILES_LENGTH - 64) / 8; i++) words[i] = random_element();
    *(uint64_t *)(image + 512) |= TILES_MASK;
}

static uint64_t sum_up(uint64_t sum, const void *at, size_t length)
{
    const uint64_t *words = at;
    for (size_t i = 0; i < length / 8; i++) sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15ull + (sum >> 29) + i;
    return sum;
}

/* Tiles in their initial state are all zero, whether they were written or not. */
static uint64_t sum_of_tiles(const uint8_t *image)
{
    static const uint8_t none[TILES_LENGTH - 64] __attribute__((aligned(8)));
    uint64_t present = *(const uint64_t *)(image + 512);
    uint64_t sum = sum_up(1, present >> 17 & 1 ? image + tiles_offset[0] : none, 64);
    return sum_up(sum, present >> 18 & 1 ? image + tiles_offset[1] : none, TILES_LENGTH - 64);
}

static void die(const char *what, int number, uint64_t at)
{
    target_say("lost %s %d at %lx", what, number, (unsigned long)at);
    _exit(95);
}

/* Runs with the fs base of the case: nothing here may use thread-local storage before it is put back. */
__attribute__((optimize("no-stack-protector"))) static void on_signal(int number, siginfo_t *info, void *opaque)
{
    uint64_t fs, gs;
    if (!S->is_running) {
        if (number == SIGPROF) return; /* the case had just ended by itself */
        die("signal", number, (uint64_t)((ucontext_t *)opaque)->uc_mcontext.gregs[REG_RIP]);
    }
    S->is_running = 0;
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
    struct result *r = scratch;
    for (int i = 0; i < 16; i++) S->out[i] = (uint64_t)g[order[i]];
    S->out_flags = (uint64_t)g[REG_EFL] & ~0x10000ul; /* RF is the processor's own book-keeping */
    S->out_where = 3;
    r->rip = (uint64_t)g[REG_RIP];
    r->signal = (uint64_t)number;
    r->code = (uint64_t)(int64_t)info->si_code;
    r->address = (uint64_t)info->si_addr;
    r->trap = (uint64_t)g[REG_TRAPNO];
    r->error = (uint64_t)g[REG_ERR];
    const uint8_t *image = (const uint8_t *)context->uc_mcontext.fpregs;
    uint32_t extended = *(const uint32_t *)(image + 464 + 4); /* struct _fpx_sw_bytes: the length, if the magic number is there */
    memcpy((void *)S->out_vectors, image, XSAVE_LENGTH);
    if (has_tiles && *(const uint32_t *)(image + 464) == FP_XSTATE_MAGIC1 && extended >= tiles_offset[1] + TILES_LENGTH - 64)
        memcpy((void *)(S->out_vectors + XSAVE_LENGTH), image + XSAVE_LENGTH, tiles_offset[1] + TILES_LENGTH - 64 - XSAVE_LENGTH);
    else *(uint64_t *)(S->out_vectors + 512) &= ~(uint64_t)TILES_MASK;
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
    if (has_tiles && in->options & TILES) fill_tiles((uint8_t *)S->in_vectors);
    if (in->options & FPU_IMAGE_AT_ADDRESS) fill_image((uint8_t *)in->image_address);
    if (in->options & TILE_CONFIGURATION_AT_ADDRESS) fill_tile_configuration((uint8_t *)in->image_address);
    for (int i = 0; i < 4; i++) if (in->patch_address[i]) memcpy((void *)in->patch_address[i], &in->patch_value[i], 8);
    memcpy((void *)S->registers, in->registers, sizeof in->registers);
    S->flags = in->flags;
    S->fs = in->fs;
    S->gs = in->gs;
    S->entry = in->entry;
    S->out_pkru = 0x55555554;
    memset(scratch, 0, offsetof(struct result, vectors));
    memset((void *)S->out_vectors, 0, XSAVE_LENGTH);
    run_case();
    memcpy(scratch->registers, (void *)S->out, sizeof scratch->registers);
    scratch->flags = S->out_flags;
    scratch->where = in->options & SAME_WHERE ? 0 : S->out_where;
    scratch->fs = S->out_fs;
    scratch->gs = S->out_gs;
    for (int i = 0; i < 4; i++) if (S->out_selectors[i] <= 3) S->out_selectors[i] = 0; /* any interrupt makes such a null selector 0 */
    memcpy(&scratch->selectors, (void *)S->out_selectors, 8);
    scratch->pkru = S->out_pkru;
    scratch->tiles = has_tiles ? sum_of_tiles((uint8_t *)S->out_vectors) : 0;
    for (int i = 0; i < 16; i++) if (in->ignored_registers >> i & 1) scratch->registers[i] = 0;
    if (in->ignored_registers >> 16 & 1) scratch->flags = 0;

    /* A component in its initial state need not have been written. What is the kernel's in the image goes. */
    uint8_t *v = scratch->vectors;
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
    if (in->options & IGNORE_FPU_OPCODE) *(uint16_t *)(v + 6) = 0;
    if (in->options & IGNORE_FPU_DATA) *(uint64_t *)(v + 16) = 0;
    memcpy(scratch->data, (void *)DATA_AT, DATA_LENGTH);
    if (in->options & (IGNORE_FPU_ENVIRONMENT | IGNORE_SHORT_ENVIRONMENT)) {
        uint64_t from = in->image_address - DATA_AT + (in->options & IGNORE_SHORT_ENVIRONMENT ? 6 : 12), length = in->options & IGNORE_SHORT_ENVIRONMENT ? 8 : 16;
        if (from <= DATA_LENGTH - length) memset(scratch->data + from, 0, length);
    }
    memcpy(scratch->stack, (void *)STACK_AT, STACK_LENGTH);
    if (in->options & IGNORE_BELOW_RED_ZONE) {
        uint64_t top = in->registers[4];
        if (in->options & IGNORE_WORD_AT_FAULT && scratch->signal && top - STACK_AT <= STACK_LENGTH) memset(scratch->stack + (top - STACK_AT - 8), 0, 8);
        if (top - STACK_AT <= STACK_LENGTH && top - STACK_AT > 128) memset(scratch->stack, 0, top - STACK_AT - 128);
    }
    if (out != scratch) memcpy(out, scratch, sizeof *out);
}

/* Which case runs is told before it runs; it may take so many seconds of processor time. */
static void run_limited(int index, struct result *out)
{
    struct itimerval limit = { { 0, 0 }, { 2, 0 } };
    *progress = (uint64_t)index;
    setitimer(ITIMER_PROF, &limit, NULL);
    run(&inputs[index], out);
}

/* What no case may change: what it is made of, and what the harness stands on. */
static uint64_t sum_of_harness(int count)
{
    uint64_t sum = sum_up(0, inputs, sizeof(struct input) * (size_t)count);
    sum = sum_up(sum, (void *)ANCHORS_AT, 16);
    return sum_up(sum, (void *)&S->host_fs, 24) ^ S->has_pkru;
}

static void *map_anywhere(uint64_t length)
{
    void *got = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) target_fail("mmap %lx", length);
    return got;
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
    __cpuid_count(0xd, 0, a, b, c, d);
    if ((a & TILES_MASK) == TILES_MASK && syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) == 0) {
        for (int i = 0; i < 2; i++) {
            __cpuid_count(0xd, 17 + i, a, b, c, d);
            tiles_offset[i] = b;
        }
        has_tiles = a == TILES_LENGTH - 64 && tiles_offset[1] + a <= WHOLE_LENGTH;
    }
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    int last = -1;
    for (int i = 0; i < CPU_SETSIZE; i++) if (CPU_ISSET(i, &cpus)) last = i;
    CPU_ZERO(&cpus);
    CPU_SET(last, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);

    code_at = is_far ? FAR_CODE_AT : CODE_AT;
    uint64_t *anchors = map(ANCHORS_AT, PAGE, PROT_READ | PROT_WRITE);
    map(DATA_AT, DATA_LENGTH, PROT_READ | PROT_WRITE);
    map(DATA_AT + DATA_LENGTH, PAGE, PROT_READ);
    map(DATA_AT + DATA_LENGTH + PAGE, PAGE, PROT_NONE);
    (void)*(volatile char *)(DATA_AT + DATA_LENGTH); /* present: whether it is, a fault's error code tells */
    map(STACK_AT, STACK_LENGTH, PROT_READ | PROT_WRITE);
    inputs = map_anywhere(sizeof(struct input) * MAXIMUM_INPUTS);
    scratch = map_anywhere(sizeof(struct result) * (DIFFERENCES + 1));
    results = map_anywhere(sizeof(struct result) * MAXIMUM_INPUTS);
    map(code_at, CODE_LENGTH, PROT_READ | PROT_EXEC);
    int file = memfd_create("progress", 0);
    if (file < 0 || ftruncate(file, 8) || (progress = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) == MAP_FAILED) target_fail("progress");
    if (!is_far) {
        /* What a tracer adds is no neighbour of the code. */
        map(code_at - 0x100000, 0x100000, PROT_NONE);
        map(code_at + CODE_LENGTH, 0x100000, PROT_NONE);
    } else {
        /* All that is free within reach of the code, up to where its operands are out of reach. */
        map(0x10000, DATA_AT - 0x10000, PROT_NONE);
        map(DATA_AT + DATA_LENGTH + 2 * PAGE, STACK_AT - DATA_AT - DATA_LENGTH - 2 * PAGE, PROT_NONE);
        map(STACK_AT + STACK_LENGTH, ANCHORS_AT - STACK_AT - STACK_LENGTH, PROT_NONE);
        map(ANCHORS_AT + PAGE, FAR_CODE_AT - ANCHORS_AT - PAGE, PROT_NONE);
        map(FAR_CODE_AT + CODE_LENGTH, 0x30000000, PROT_NONE);
    }

    S->mask = xsave_mask | (has_tiles ? TILES_MASK : 0);
    anchors[0] = (uint64_t)capture_fall;
    anchors[1] = (uint64_t)capture_target;
    mprotect(anchors, PAGE, PROT_READ);
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
    target_say("places %lu %lu %lu %d", (unsigned long)inputs, (unsigned long)results, (unsigned long)scratch, file);
    target_ready();

    char line[64];
    struct itimerval none = { { 0, 0 }, { 0, 0 } };
    uint64_t sum_of_results = 0;
    while (target_command(line, sizeof line)) {
        int count;
        if (strcmp(line, "end") == 0) return target_end(0);
        uint64_t sum = 0;
        if (sscanf(line, "native %d", &count) == 1) {
            sum = sum_of_harness(count);
            for (int i = 0; i < count; i++) run_limited(i, &results[i]);
            setitimer(ITIMER_PROF, &none, NULL);
            sum_of_results = sum_up(0, results, sizeof(struct result) * (size_t)count);
            if (sum != sum_of_harness(count)) target_say("spoiled harness");
            target_say("count native %d", count);
        } else if (sscanf(line, "probed %d", &count) == 1) {
            int different = 0;
            sum = sum_of_harness(count);
            for (int i = 0; i < count; i++) {
                run_limited(i, scratch);
                if (memcmp(scratch, &results[i], sizeof(struct result)) == 0) continue;
                if (different < DIFFERENCES) {
                    memcpy(scratch + 1 + different, scratch, sizeof(struct result));
                    target_say("different %d", i);
                }
                different++;
            }
            setitimer(ITIMER_PROF, &none, NULL);
            if (sum != sum_of_harness(count)) target_say("spoiled harness");
            if (sum_of_results != sum_up(0, results, sizeof(struct result) * (size_t)count)) target_say("spoiled results");
            target_say("count differences %d", different);
        }
    }
    return 97;
}

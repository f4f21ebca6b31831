/* arm64_special: functions of instructions which only a kernel and a real processor's keys can judge: pointer authentication, SVE, SME, tags, atomics, system calls and
 * registers, and what raises a signal. On "go" each is called some times; "result NAME S" has what it gave: values, and signals with their addresses as offsets, which do
 * not depend on the keys nor on where things are. */
#include "target.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <ucontext.h>

static uint64_t area[512] __attribute__((aligned(4096)));
__asm__(
    ".arch armv8.6-a+sve2+sme+memtag+crypto\n.text\n.p2align 4\n"
#define FUNCTION(name, body) ".globl " name "\n.type " name ", %function\n" name ": " body "\n.size " name ", .-" name "\n"
    /* x0: a number, x1: a place for data, x2: f_landing or the like, x3: a modifier. */
    FUNCTION("landing", "add x0,x0,#3\n ret")
    FUNCTION("f_retaa", "paciasp\n add x0,x0,#1\n retaa")
    FUNCTION("f_retab", "pacibsp\n add x0,x0,#1\n retab")
    FUNCTION("f_braa", "pacia x2,x3\n braa x2,x3")
    FUNCTION("f_brab", "pacib x2,x3\n brab x2,x3")
    FUNCTION("f_braaz", "paciza x2\n braaz x2")
    FUNCTION("f_brabz", "pacizb x2\n brabz x2")
    FUNCTION("f_blraa", "paciasp\n stp x29,x30,[sp,#-16]!\n pacia x2,x3\n blraa x2,x3\n adr x4,.\n sub x4,x4,x30\n add x0,x0,x4\n ldp x29,x30,[sp],#16\n retaa")
    FUNCTION("f_blrab", "paciasp\n stp x29,x30,[sp,#-16]!\n pacib x2,sp\n blrab x2,sp\n adr x4,.\n sub x4,x4,x30\n add x0,x0,x4\n ldp x29,x30,[sp],#16\n autiasp\n ret")
    FUNCTION("f_blraaz", "paciasp\n stp x29,x30,[sp,#-16]!\n mov x16,x2\n paciza x16\n blraaz x16\n adr x4,.\n sub x4,x4,x30\n add x0,x0,x4\n ldp x29,x30,[sp],#16\n retaa")
    FUNCTION("f_blrabz", "paciasp\n stp x29,x30,[sp,#-16]!\n mov x17,x2\n pacizb x17\n blrabz x17\n adr x4,.\n sub x4,x4,x30\n add x0,x0,x4\n ldp x29,x30,[sp],#16\n retaa")
    FUNCTION("f_authenticate", "str x0,[x1]\n pacdza x1\n ldraa x4,[x1]\n mov x5,x2\n pacib x5,x3\n xpaci x5\n sub x5,x5,x2\n add x0,x4,x5\n ret")
    FUNCTION("f_generic", "pacga x4,x0,x3\n pacga x5,x0,x3\n eor x0,x4,x5\n ret")
    FUNCTION("f_bad_retaa", "paciasp\n eor x30,x30,#0x4000000000000\n retaa")
    FUNCTION("f_bad_braa", "pacia x2,x3\n eor x2,x2,#0x4000000000000\n braa x2,x3")
    FUNCTION("f_bad_blrabz", "stp x29,x30,[sp,#-16]!\n pacizb x2\n eor x2,x2,#0x4000000000000\n blrabz x2\n ldp x29,x30,[sp],#16\n ret")
    FUNCTION("f_landing_pads", "bti c\n hint #25\n hint #29\n bti j\n bti jc\n bti\n add x0,x0,#9\n ret")
    FUNCTION("f_svc", "stp x0,x1,[sp,#-16]!\n mov x8,#178\n svc #0\n mov x4,x0\n mov x8,#178\n svc #0x11\n sub x4,x4,x0\n ldp x0,x1,[sp],#16\n add x0,x0,x4\n ret")
    FUNCTION("f_bad_svc", "mov x8,#9999\n svc #0\n ret")
    FUNCTION("f_atomics", "str x0,[x1]\n mov x4,#5\n ldadd x4,x5,[x1]\n ldclral x4,x6,[x1]\n ldset w4,w7,[x1]\n swpal x0,x9,[x1]\n mov x10,x0\n casal x10,x4,[x1]\n"
        " ldumaxa x0,x11,[x1]\n stadd x0,[x1]\n ldeorb w4,w12,[x1]\n ldapr x13,[x1]\n add x0,x5,x6\n eor x0,x0,x7\n add x0,x0,x9\n eor x0,x0,x10,lsl #3\n add x0,x0,x11\n"
        " eor x0,x0,x12,lsl #7\n add x0,x0,x13\n ret")
    FUNCTION("f_pair_atomics", "stp x0,x3,[x1]\n mov x4,x0\n mov x5,x3\n mov x6,#7\n mov x7,#8\n casp x4,x5,x6,x7,[x1]\n ldp x4,x5,[x1]\n add x0,x4,x5\n ret")
    FUNCTION("f_ordered", "stlr x0,[x1]\n ldar x4,[x1]\n stlur w0,[x1,#12]\n ldapursw x5,[x1,#12]\n dmb ish\n isb\n add x0,x4,x5\n ret")
    FUNCTION("f_exclusive", "1: ldaxr x4,[x1]\n add x4,x4,x0\n stlxr w5,x4,[x1]\n cbnz w5,1b\n ldr x4,[x1]\n mov x6,#3\n2: ldxp x4,x5,[x1]\n stxp w7,x4,x6,[x1]\n cbnz w7,2b\n"
        " add x0,x0,x4\n str xzr,[x1]\n clrex\n ret")
    FUNCTION("f_literals", "ldr s0,3f\n ldr d1,3f\n ldr q2,3f\n ldrsw x4,3f\n ldr w5,3f\n ldr x6,3f\n prfm pldl1keep,3f\n fmov w7,s0\n fmov x9,d1\n umov x10,v2.d[1]\n add x0,x0,x4\n eor x0,x0,x5\n"
        " add x0,x0,x6\n eor x0,x0,x7\n add x0,x0,x9\n eor x0,x0,x10\n ret\n.p2align 4\n3: .quad 0x8877665544332211,0x0123456789abcdef")
    FUNCTION("f_bits", "tbz x0,#0,1f\n add x0,x0,#64\n1: tbnz x0,#63,2f\n add x0,x0,#5\n2: tbz x0,#32,3f\n add x0,x0,#6\n3: tbnz w0,#31,4f\n ccmp x0,x1,#4,ne\n b.eq 4f\n rbit x0,x0\n4: b.hi 5f\n"
        " ror x0,x0,#3\n5: ret")
    FUNCTION("f_system", "mrs x4,fpcr\n msr fpcr,x4\n mrs x5,fpsr\n msr fpsr,x5\n mrs x6,ctr_el0\n mrs x7,dczid_el0\n mrs x9,tpidr_el0\n mrs x10,cntvct_el0\n dc zva,x1\n dc cvac,x1\n ic ivau,x1\n dsb ish\n isb\n"
        " csdb\n esb\n wfe\n yield\n cmp x10,#0\n cset x10,ne\n ldr x4,[x1]\n add x0,x0,x4\n add x0,x0,x10\n msr nzcv,x0\n cset x5,mi\n add x0,x0,x5\n ret")
    FUNCTION("f_barrier", "sb\n add x0,x0,#2\n ret")
    FUNCTION("f_flags", "subs x4,x0,x3\n cfinv\n cset x5,cs\n setf8 w0\n cset x6,eq\n rmif x0,#3,#15\n cset x7,vs\n axflag\n cset x9,cc\n add x0,x5,x6,lsl #1\n add x0,x0,x7,lsl #2\n add x0,x0,x9,lsl #3\n ret")
    FUNCTION("f_floats", "scvtf d0,x0\n fcvtzs x4,d0,#4\n fmov d1,#2.5\n fmadd d2,d0,d1,d1\n fsqrt d3,d2\n fcmp d3,d1\n fcsel d3,d3,d1,gt\n fjcvtzs w5,d2\n bfcvt h4,s0\n fmov x6,d3\n add x0,x4,x5\n eor x0,x0,x6\n ret")
    FUNCTION("f_structures", "stp x0,x3,[x1]\n stp x3,x0,[x1,#16]\n mov x4,x1\n ld4 {v0.8b-v3.8b},[x4],#32\n add v0.8b,v0.8b,v3.8b\n st2 {v0.8b,v1.8b},[x4],#16\n ld1r {v4.4h},[x1]\n"
        " ldnp q5,q6,[x1]\n aese v5.16b,v6.16b\n sdot v5.4s,v6.16b,v4.16b\n tbl v5.16b,{v5.16b,v6.16b},v0.16b\n addv s5,v5.4s\n fmov w5,s5\n sub x4,x4,x1\n add x0,x4,x5\n ret")
    FUNCTION("f_sve", "mov x4,#0\n mov x5,#37\n mov z0.d,#0\n whilelo p0.d,x4,x5\n1: index z1.d,x4,#3\n mla z0.d,p0/m,z1.d,z1.d\n incd x4\n whilelo p0.d,x4,x5\n b.first 1b\n ptrue p1.d\n uaddv d0,p1,z0.d\n"
        " fmov x6,d0\n rdvl x7,#1\n addvl x9,x7,#2\n sub x9,x9,x7\n cntp x10,p1,p1.d\n add x0,x0,x6\n add x0,x0,x10\n ret")
    FUNCTION("f_sve_memory", "ptrue p0.b,vl32\n mov x4,#-1\n stp x0,x4,[x1]\n ld1b {z0.b},p0/z,[x1]\n eor z0.b,z0.b,#0x55\n st1b {z0.b},p0,[x1,#1,mul vl]\n ldff1d {z2.d},p0/z,[x1]\n rdffr p2.b\n setffr\n addpl x5,sp,#0\n"
        " histseg z3.b,z0.b,z0.b\n andv b3,p0,z3.b\n fmov x6,d3\n ldr z4,[x1]\n str z4,[x1,#2,mul vl]\n str p0,[x1]\n ldr w7,[x1]\n add x0,x6,x7\n ret")
    FUNCTION("f_sme", "smstart\n ptrue p0.s\n mov z0.s,#3\n index z1.s,#1,#2\n zero {za}\n addha za0.s,p0/m,p0/m,z1.s\n smopa za0.s,p0/m,p0/m,z0.b,z1.b\n mov w12,#1\n mova z2.s,p0/m,za0h.s[w12,0]\n"
        " uaddv d2,p0,z2.s\n str d2,[x1]\n rdsvl x5,#1\n mrs x6,svcr\n smstop\n ldr x4,[x1]\n add x0,x0,x4\n add x0,x0,x5\n eor x0,x0,x6,lsl #20\n ret")
    FUNCTION("f_tags", "irg x4,x1,xzr\n addg x5,x1,#16,#3\n subp x6,x5,x1\n gmi x7,x5,xzr\n eor x9,x5,x1\n add x0,x6,x7\n add x0,x0,x9\n ret")
    FUNCTION("f_copies", "mov x4,x1\n add x5,x1,#64\n mov x6,#16\n .inst 0x1d0504c4\n ret")
    FUNCTION("f_udf", "udf #7\n ret")
    FUNCTION("f_hlt", "hlt #5\n ret")
    FUNCTION("f_hvc", "hvc #0\n ret")
    FUNCTION("f_smc", "smc #0\n ret")
    FUNCTION("f_dcps", "dcps1\n ret")
    FUNCTION("f_eret", "eret\n ret")
    FUNCTION("f_privileged", "mrs x0,ttbr0_el1\n ret")
    FUNCTION("f_nowhere", "mov x4,#24\n ldr q0,[x4]\n ret")
    FUNCTION("f_nowhere_sve", "ptrue p0.b\n mov x4,#64\n ld1w {z0.s},p0/z,[x4]\n ret")
    FUNCTION("f_nowhere_atomic", "mov x4,#32\n ldadd x0,x0,[x4]\n ret")
);
#define FUNCTIONS(X) X(f_retaa) X(f_retab) X(f_braa) X(f_brab) X(f_braaz) X(f_brabz) X(f_blraa) X(f_blrab) X(f_blraaz) X(f_blrabz) X(f_authenticate) X(f_generic) X(f_bad_retaa) \
    X(f_bad_braa) X(f_bad_blrabz) X(f_landing_pads) X(f_svc) X(f_bad_svc) X(f_atomics) X(f_pair_atomics) X(f_ordered) X(f_exclusive) X(f_literals) X(f_bits) X(f_system) X(f_barrier) X(f_flags) \
    X(f_floats) X(f_structures) X(f_sve) X(f_sve_memory) X(f_sme) X(f_tags) X(f_copies) X(f_udf) X(f_hlt) X(f_hvc) X(f_smc) X(f_dcps) X(f_eret) X(f_privileged) X(f_nowhere) \
    X(f_nowhere_sve) X(f_nowhere_atomic)
typedef uint64_t function(uint64_t number, void *data, void *code, uint64_t modifier);
function landing;
#define DECLARE(name) function name;
FUNCTIONS(DECLARE)

static const struct { const char *name; function *function; } functions[] = {
#define ROW(name) { #name, name },
    FUNCTIONS(ROW)
};

static sigjmp_buf back;
static uintptr_t current;
static volatile struct { int signal, code; uintptr_t pc, address; } seen;

/* As an offset from a known place, with the bits that authentication sets. */
static uintptr_t offset_of(uintptr_t address)
{
    uintptr_t bare = address & 0xffffffffffff, place = bare;
    if (bare >= current && bare < current + 4096) place = bare - current;
    else if (bare - (uintptr_t)landing < 4096) place = 0x100000 + bare - (uintptr_t)landing;
    else if (bare > 4096) place = 0x200000; /* an address of a stack or a library */
    return (address & ~(uintptr_t)0xffffffffffff) | place;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    seen.signal = signal;
    seen.code = info->si_code;
    seen.pc = offset_of((uintptr_t)((ucontext_t *)context)->uc_mcontext.pc);
    seen.address = offset_of((uintptr_t)info->si_addr);
    siglongjmp(back, 1);
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    target_ready();
    char line[64];
    while (target_command(line, sizeof line) && strcmp(line, "go") == 0) {
        for (volatile unsigned i = 0; i < sizeof functions / sizeof *functions; i++) {
            volatile uint64_t sum = 0;
            volatile int signals = 0;
            current = (uintptr_t)functions[i].function;
            for (volatile uint64_t k = 0; k < 3; k++) {
                memset(area, 0, sizeof area);
                if (sigsetjmp(back, 1) == 0) sum = target_mix(sum, functions[i].function(k * 0x9e3779b97f4a7c15, area, landing, 77 + k));
                else {
                    signals++;
                    sum = target_mix(target_mix(target_mix(sum, (uint64_t)seen.signal * 256 + (uint64_t)(unsigned)seen.code), seen.pc), seen.address);
                }
            }
            target_say("result %s %016llx, %d signals, the last %d code %d at %lx for %lx", functions[i].name, (unsigned long long)sum, signals, signals ? seen.signal : 0,
                signals ? seen.code : 0, signals ? seen.pc : 0, signals ? seen.address : 0);
        }
        target_say("done");
    }
    return target_end(0);
}

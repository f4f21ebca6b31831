/* ripmix [LOOPS]: instructions that depend on where they stand, or are rare: rip-relative data, jump tables, strings, locks, x87, vectors. */
#include "target.h"
#include <cpuid.h>
#include <emmintrin.h>
#include <immintrin.h>
#include <math.h>

static volatile uint64_t word = 0x0123456789abcdefull;
static volatile uint32_t half = 77;
static volatile unsigned char byte = 3;
static volatile double scale = 1.0625;
static const double table[8] = { 1.5, 2.25, -3.125, 4.0625, 5.5, -6.75, 7.875, 8.9375 };
static volatile long counter, flag;
static char text_a[80], text_b[80];
static uint64_t (*volatile target_pointer)(uint64_t);
static uint64_t calls;

PROBED uint64_t rip_load(uint64_t a) { return a * word + half + byte; }
PROBED void rip_store(uint64_t a) { word = a; half = (uint32_t)(a >> 3); byte = (unsigned char)a; }
PROBED uint64_t rip_modify(uint64_t a)
{
    uint64_t out;
    __asm__ volatile("add %2, %1\n\tcmpl $5, %3\n\tsetb %b0\n\tmovzbl %b0, %k0\n\timul $3, %1, %%rcx\n\tadd %%rcx, %0"
        : "=&q"(out), "+m"(word) : "r"(a), "m"(half) : "rcx", "cc", "memory");
    return out;
}
PROBED uint64_t rip_compare(uint64_t a)
{
    uint64_t old = word;
    int done;
    __asm__ volatile("lock cmpxchg %3, %1\n\tsete %b0\n\tmovzbl %b0, %0" : "=&q"(done), "+m"(word), "+a"(old) : "r"(a) : "cc", "memory");
    return old + (uint64_t)done;
}
PROBED uint64_t rip_test_immediate(void)
{
    uint64_t out;
    __asm__ volatile("testb $2, %1\n\tsetnz %b0\n\tmovzbq %b0, %0\n\tmovl $0x11223344, %2\n\tmovw $0x5566, %2" : "=&q"(out) : "m"(byte), "m"(half) : "cc", "memory");
    return out + half;
}
PROBED uint64_t rip_call(uint64_t a) { return target_pointer(a) + 1; }
PROBED uint64_t called(uint64_t a) { calls++; return a ^ 0xff; }
PROBED double rip_double(double a, int i) { return a * scale + table[i & 7] - 0.1; }
PROBED float rip_float(float a) { return fabsf(-a * 1.1f) + 2.2f; }
PROBED uint64_t vectors(uint64_t a)
{
    static const int numbers[4] __attribute__((aligned(16))) = { 11, 22, 33, 44 };
    __m128i v = _mm_add_epi32(_mm_set1_epi32((int)a), _mm_load_si128((const __m128i *)numbers));
    v = _mm_xor_si128(v, _mm_set_epi32(1, 2, 3, 4));
    v = _mm_shuffle_epi32(v, 0x1b);
    int out[4];
    _mm_storeu_si128((__m128i *)out, v);
    return (uint64_t)(uint32_t)(out[0] ^ out[1]) << 32 | (uint32_t)(out[2] + out[3]);
}
__attribute__((noipa, used, target("avx"))) double wide(double a)
{
    static const double numbers[4] __attribute__((aligned(32))) = { 0.5, 1.5, 2.5, 3.5 };
    __m256d v = _mm256_mul_pd(_mm256_set1_pd(a), _mm256_load_pd(numbers));
    double out[4];
    _mm256_storeu_pd(out, v);
    return out[0] + out[1] * 2 + out[2] * 3 + out[3] * 4;
}
PROBED int jump_table(int a)
{
    switch (a) {
    case 0: return (int)called(1);
    case 1: return a * 31 + (int)half;
    case 2: rip_store(5); return 8;
    case 3: return -a;
    case 4: return (int)rip_load(2);
    case 5: return 0x1234;
    case 6: return a << 9;
    case 7: return (int)called(77) * 3;
    case 8: return (int)byte;
    case 9: return 99;
    default: return -1;
    }
}
PROBED uint64_t strings(int a)
{
    void *d = text_b;
    const void *s = text_a;
    uint64_t n = 40, found, equal;
    memset(text_a, a & 0x7f, sizeof text_a);
    text_a[33] = 'x';
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    d = text_b;
    n = 80;
    __asm__ volatile("cld\n\trepne scasb" : "+D"(d), "+c"(n) : "a"('x') : "cc", "memory");
    found = (uint64_t)((char *)d - text_b);
    d = text_a;
    s = text_b;
    n = 40;
    __asm__ volatile("repe cmpsb\n\tsete %b0\n\tmovzbq %b0, %0" : "=a"(equal), "+D"(d), "+S"(s), "+c"(n) : : "cc", "memory");
    d = text_b + 1;
    n = 8;
    __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(0x2020202020202020ull) : "memory");
    return found * 1000 + equal * 10 + (uint64_t)text_b[40];
}
PROBED long atomics(long a)
{
    long old = __atomic_fetch_add(&counter, a, __ATOMIC_SEQ_CST);
    long seen = flag;
    __atomic_compare_exchange_n(&flag, &seen, seen ^ a, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    __atomic_exchange_n(&half, (uint32_t)a, __ATOMIC_SEQ_CST);
    __atomic_or_fetch(&counter, 1, __ATOMIC_SEQ_CST);
    return old + flag;
}
PROBED uint64_t identify(void)
{
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    return ((uint64_t)b << 32 | c) ^ d;
}
PROBED int clock_goes_on(void)
{
    static uint64_t last;
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    uint64_t now = (uint64_t)high << 32 | low;
    int right = now >= last || last - now < 1000000;
    last = now;
    return right;
}
PROBED long double x87(long double a) { return sqrtl(a * 3.25L) + a / 7.0L - 1.0L; }
PROBED uint64_t flags_kept(uint64_t a, uint64_t b)
{
    uint64_t out;
    __asm__ volatile("add %2, %1\n\tlea 8(%1), %1\n\tadc $0, %1\n\tpushfq\n\tpop %0\n\tand $0x8d5, %0\n\tstd\n\tcld\n\tbt $7, %1\n\trcl $1, %0"
        : "=&r"(out), "+r"(a) : "r"(b) : "cc");
    return out ^ a;
}
/* push and pop in odd forms; loop and jrcxz. */
PROBED uint64_t odd_control(uint64_t a)
{
    uint64_t out = a;
    __asm__ volatile("lea -256(%%rsp), %%rsp\n\tpush $-3\n\tpush %1\n\tpushw $0x77\n\tpopw %%cx\n\tpop %%rdx\n\tpop %%rcx\n\tneg %%rcx\n"
        "1:\tadd %%rdx, %0\n\tloop 1b\n\tjrcxz 2f\n\tud2\n2:\tpush %%rsp\n\tpop %%rcx\n\tsub %%rsp, %%rcx\n\tadd %%rcx, %0\n\tlea 256(%%rsp), %%rsp"
        : "+r"(out) : "m"(word) : "rcx", "rdx", "cc", "memory");
    return out;
}

int main(int argc, char **argv)
{
    int loops = target_argument(argc, argv, 1, 200), has_wide = __builtin_cpu_supports("avx");
    uint64_t sum = 0;
    target_pointer = called;
    target_ready();
    target_wait();
    for (int i = 0; i < loops; i++) {
        uint64_t n = (uint64_t)i;
        union { double d; uint64_t u; } bits;
        sum = target_mix(sum, rip_load(n));
        rip_store(n * 0x10001);
        sum = target_mix(sum, rip_modify(n));
        sum = target_mix(sum, rip_compare(n + 9));
        sum = target_mix(sum, rip_test_immediate());
        sum = target_mix(sum, rip_call(n));
        bits.d = rip_double(i, i);
        sum = target_mix(sum, bits.u);
        sum = target_mix(sum, (uint64_t)(rip_float((float)i) * 1000));
        sum = target_mix(sum, vectors(n));
        if (has_wide) { bits.d = wide(i); sum = target_mix(sum, bits.u); }
        sum = target_mix(sum, (uint64_t)jump_table(i % 11));
        sum = target_mix(sum, strings(i));
        sum = target_mix(sum, (uint64_t)atomics(i));
        sum = target_mix(sum, identify());
        if (!clock_goes_on()) target_fail("rdtsc went back");
        sum = target_mix(sum, (uint64_t)(x87(i + 1) * 1e6L));
        sum = target_mix(sum, flags_kept(n << 56, ~n));
        sum = target_mix(sum, odd_control(n));
    }
    target_say("count called %llu", (unsigned long long)calls);
    target_say("count rip_load %d", loops + (loops > 4 ? (loops - 5) / 11 + 1 : 0));
    target_say("checksum %016llx", (unsigned long long)sum);
    target_wait();
    return target_end(0);
}

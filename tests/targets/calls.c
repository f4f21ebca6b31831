/* calls [THREADS] [LOOPS]: functions of all shapes, each counting its own calls. */
#include "target.h"
#include <pthread.h>

enum { A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, RECURSE, TAIL, TAILED, COLD, RETURNS, STRUCT, INDIRECT, CALLBACK, VARIADIC, LEAF, CALLS };
static const char *const names[CALLS] = {
    "args0", "args1", "args2", "args3", "args4", "args5", "args6", "args7", "args8", "args9", "args10", "recurse", "tail_caller", "tail_target",
    "with_cold", "many_returns", "struct_return", "through_pointer", "callback", "variadic", "leaf" };
static __thread uint64_t counts[CALLS];
static uint64_t totals[CALLS], checksum;
static pthread_mutex_t totals_lock = PTHREAD_MUTEX_INITIALIZER;
static int loops;

struct big { uint64_t a, b, c, d; };

PROBED uint64_t args0(void) { counts[A0]++; return 7; }
PROBED uint64_t args1(uint64_t a) { counts[A1]++; return a + 1; }
PROBED uint64_t args2(uint64_t a, uint64_t b) { counts[A2]++; return a * 3 + b; }
PROBED uint64_t args3(uint64_t a, uint64_t b, uint64_t c) { counts[A3]++; return a * 3 + b * 5 + c; }
PROBED uint64_t args4(uint64_t a, uint64_t b, uint64_t c, uint64_t d) { counts[A4]++; return (a ^ b) + (c ^ d); }
PROBED uint64_t args5(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) { counts[A5]++; return args2(a, b) + c * d - e; }
PROBED uint64_t args6(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) { counts[A6]++; return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f; }
PROBED uint64_t args7(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g)
{ counts[A7]++; return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g; }
PROBED uint64_t args8(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{ counts[A8]++; return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h; }
PROBED uint64_t args9(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h, uint64_t i)
{ counts[A9]++; return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i; }
PROBED uint64_t args10(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h, uint64_t i, uint64_t j)
{ counts[A10]++; return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j; }

PROBED uint64_t recurse(uint64_t depth)
{
    counts[RECURSE]++;
    if (depth == 0) return 1;
    uint64_t below = recurse(depth - 1);
    __asm__ volatile("" : "+r"(below)); /* or GCC makes a loop of it */
    return below * 3 + depth;
}
PROBED uint64_t tail_target(uint64_t a, uint64_t b) { counts[TAILED]++; return a - b; }
/* At -O2 this leaves by a jump. */
PROBED uint64_t tail_caller(uint64_t a) { counts[TAIL]++; return tail_target(a * 2, a); }

__attribute__((cold, noipa)) uint64_t rarely(uint64_t a) { return a ^ 0x5555; }
/* At -O2 the unlikely part is split off as with_cold.cold. */
PROBED uint64_t with_cold(uint64_t a)
{
    counts[COLD]++;
    if (__builtin_expect(a % 8 == 7, 0)) {
        uint64_t sum = rarely(a);
        for (int i = 0; i < 3; i++) sum += rarely(sum);
        return sum;
    }
    return a + 11;
}

PROBED int many_returns(int a)
{
    counts[RETURNS]++;
    switch (a & 7) {
    case 0: return -1;
    case 1: return (int)args1((uint64_t)a);
    case 2: if (a > 100) return 5; break;
    case 3: return a * a;
    case 4: return (int)args0() - a;
    default: break;
    }
    return a >> 1;
}

PROBED struct big struct_return(uint64_t a) { counts[STRUCT]++; return (struct big){ a, a + 1, a + 2, a + 3 }; }
PROBED uint64_t through_pointer(uint64_t a) { counts[INDIRECT]++; return ~a; }
PROBED int callback(const void *a, const void *b)
{
    counts[CALLBACK]++;
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}
PROBED uint64_t variadic(int n, ...)
{
    counts[VARIADIC]++;
    va_list list;
    uint64_t sum = 0;
    va_start(list, n);
    for (int i = 0; i < n; i++) sum += va_arg(list, uint64_t);
    va_end(list);
    return sum;
}
/* Uses the red zone at -O2. */
PROBED uint64_t leaf(uint64_t a)
{
    counts[LEAF]++;
    volatile uint64_t zone[8];
    for (int i = 0; i < 8; i++) zone[i] = a + (uint64_t)i;
    return zone[0] ^ zone[7] ^ zone[3];
}

static uint64_t (*volatile pointer)(uint64_t) = through_pointer;

static void *work(void *argument)
{
    uint64_t sum = (uint64_t)(uintptr_t)argument;
    for (int i = 0; i < loops; i++) {
        uint64_t n = (uint64_t)i;
        sum = target_mix(sum, args0());
        sum = target_mix(sum, args1(n));
        sum = target_mix(sum, args2(n, 2));
        sum = target_mix(sum, args3(n, 2, 3));
        sum = target_mix(sum, args4(n, 2, 3, 4));
        sum = target_mix(sum, args5(n, 2, 3, 4, 5));
        sum = target_mix(sum, args6(n, 2, 3, 4, 5, 6));
        sum = target_mix(sum, args7(n, 2, 3, 4, 5, 6, 7));
        sum = target_mix(sum, args8(n, 2, 3, 4, 5, 6, 7, 8));
        sum = target_mix(sum, args9(n, 2, 3, 4, 5, 6, 7, 8, 9));
        sum = target_mix(sum, args10(n, 2, 3, 4, 5, 6, 7, 8, 9, 10));
        sum = target_mix(sum, recurse(n % 6));
        sum = target_mix(sum, tail_caller(n));
        sum = target_mix(sum, with_cold(n));
        sum = target_mix(sum, (uint64_t)many_returns(i));
        struct big b = struct_return(n);
        sum = target_mix(sum, b.a ^ b.b ^ b.c ^ b.d);
        sum = target_mix(sum, pointer(n));
        int numbers[6] = { i % 7, 5, i % 3, -1, 12, 0 };
        qsort(numbers, 6, sizeof numbers[0], callback);
        for (int k = 0; k < 6; k++) sum = target_mix(sum, (uint64_t)numbers[k]);
        sum = target_mix(sum, variadic(3, n, n + 1, n + 2));
        sum = target_mix(sum, leaf(n));
    }
    pthread_mutex_lock(&totals_lock);
    for (int i = 0; i < CALLS; i++) totals[i] += counts[i];
    checksum += sum;
    pthread_mutex_unlock(&totals_lock);
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = target_argument(argc, argv, 1, 1);
    loops = target_argument(argc, argv, 2, 100);
    target_ready();
    target_wait();
    pthread_t ids[256];
    if (threads > 256) return 97;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)i)) return 96;
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    for (int i = 0; i < CALLS; i++) target_say("count %s %llu", names[i], (unsigned long long)totals[i]);
    target_say("checksum %016llx", (unsigned long long)checksum);
    target_wait();
    return target_end(target_argument(argc, argv, 3, 0));
}

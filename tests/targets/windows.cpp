// Code with all that makes the flow of a function hard to see. window_run computes the same number from a seed, whatever was done to its code;
// window_calls has how often window_leaf was entered.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <unwind.h>

extern "C" {
uint64_t window_calls;

// Room for trampolines, in reach of the code.
char window_area[8 << 20] __attribute__((aligned(4096)));
uint64_t window_run(uint64_t seed);
}

static inline uint64_t mix(uint64_t a, uint64_t b) { return (a ^ b) * 0x9e3779b97f4a7c15u + (a >> 29); }

extern "C" __attribute__((noinline)) uint64_t window_leaf(uint64_t a)
{
    window_calls++;
    return mix(a, 17);
}

// A jump table, with rare cases split off.
extern "C" __attribute__((noinline)) uint64_t window_switch(uint64_t a, uint64_t b)
{
    switch (a % 23) {
    case 0: return window_leaf(b);
    case 1: return b * 3;
    case 2: return b / 3 + 7;
    case 3: return mix(b, a);
    case 4: if (b == 0x1234567) throw std::runtime_error("rare"); return b + 1;
    case 5: return b << 3;
    case 6: return ~b;
    case 7: return window_leaf(b) + window_leaf(a);
    case 8: return b ^ 0x55;
    case 9: return (b >> 7) | (b << 57);
    case 11: return b - 11;
    case 13: return b * b;
    case 17: return a * b + 5;
    case 19: return __builtin_popcountll(b);
    case 21: return b % 1000003;
    default: return a + b;
    }
}

// Computed jumps: absolute labels in a table, and one through a register.
extern "C" __attribute__((noinline)) uint64_t window_goto(const unsigned char *program, uint64_t a)
{
    static const void *const labels[] = {&&add, &&rotate, &&multiply, &&call, &&end};
#define NEXT goto *labels[*program++]
    NEXT;
add: a += 0x1357; NEXT;
rotate: a = (a >> 13) | (a << 51); NEXT;
multiply: a *= 0x10001; NEXT;
call: a = window_leaf(a); NEXT;
end: return a;
}

extern "C" __attribute__((noinline)) uint64_t window_throw(uint64_t a)
{
    if (a % 3 == 0) {
        throw a;
    }
    if (a % 3 == 1) {
        throw std::string("text ") + std::to_string(a);
    }
    return a;
}

extern "C" __attribute__((noinline)) uint64_t window_catch(uint64_t a)
{
    std::string kept = std::to_string(a);
    try {
        return window_throw(a) + kept.size();
    } catch (uint64_t value) {
        return mix(value, kept.size());
    } catch (const std::string &text) {
        return mix(text.size(), text[text.size() - 1]);
    }
}

extern "C" __attribute__((noinline)) uint64_t window_recurse(uint64_t n, uint64_t a)
{
    return n == 0 ? a : mix(window_recurse(n - 1, a + n), n);
}

// Tail calls through pointers, and calls through memory on the stack.
typedef uint64_t (*step)(uint64_t);
static step s_steps[] = {window_leaf, window_throw, window_catch};
extern "C" __attribute__((noinline)) uint64_t window_tail(uint64_t a) { return s_steps[(a & 1) * 2](a | 1); }

extern "C" __attribute__((noinline)) uint64_t window_stack(uint64_t a)
{
    uint64_t result;
    __asm__ volatile(
        "sub $256, %%rsp\n mov window_leaf@GOTPCREL(%%rip), %%rax\n mov %%rax, 8(%%rsp)\n mov %1, %%rdi\n call *8(%%rsp)\n add $256, %%rsp\n mov %%rax, %0\n"
        : "=r"(result) : "r"(a) : "rax", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    return result;
}

// Branches which have a short form only.
extern "C" __attribute__((noinline)) uint64_t window_loops(uint64_t a)
{
    uint64_t count = a % 50, sum = 0;
    __asm__ volatile(
        "jrcxz 2f\n 1: lea 3(%1,%0), %1\n loop 1b\n 2: mov $5, %%ecx\n 3: inc %1\n cmp $1000, %1\n loopne 3b\n jecxz 4f\n add $7, %1\n 4:\n"
        : "+c"(count), "+r"(sum) : : "cc");
    return sum;
}

// What the unwinder sees: every return address must be where its call stands.
static _Unwind_Reason_Code see(struct _Unwind_Context *context, void *state)
{
    uint64_t *words = (uint64_t *)state;
    if (words[1] < 3) {
        words[0] = mix(words[0], _Unwind_GetIP(context) - (uint64_t)(void *)&window_run);
        words[1]++;
    }
    return _URC_NO_REASON;
}

extern "C" __attribute__((noinline)) uint64_t window_backtrace(uint64_t a)
{
    uint64_t state[2] = {a, 0};
    _Unwind_Backtrace(see, state);
    return state[0];
}

extern "C" __attribute__((noinline)) uint64_t window_frames(uint64_t a) { return window_backtrace(a) + 1; }

uint64_t window_run(uint64_t seed)
{
    static const unsigned char program[] = {0, 1, 2, 3, 1, 0, 3, 2, 2, 1, 4};
    uint64_t a = seed;
    for (int i = 0; i < 400; i++) {
        a = mix(a, window_switch(a, i));
        a = mix(a, window_goto(program + (i % 3), a));
        a = mix(a, window_recurse(i % 17, a));
        a = mix(a, window_tail(a));
        a = mix(a, window_stack(a));
        a = mix(a, window_loops(a));
        if (i % 8 == 0) {
            a = mix(a, window_catch(a));
            a = mix(a, window_frames(a));
        }
    }
    char text[64];
    snprintf(text, sizeof text, "%llx", (unsigned long long)a);
    return mix(a, strlen(text));
}

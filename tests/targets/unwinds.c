/* unwinds [THREADS] [SAMPLES] [UNWINDS]: a profiler and an unwinder. Threads call functions while SIGPROF interrupts them; the handler walks the stack by unwind tables,
 * as profilers do: the program counter is that of a known text, and so is every frame's up to the thread's first function. Then UNWINDS times frames are unwound by force,
 * with their cleanups. Built with -fexceptions -static-libgcc. */
#include "target.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <time.h>
#include <ucontext.h>
#include <unwind.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct { uintptr_t start, end; } ranges[64];
static int range_count;
static uint64_t samples, in_work, minimum, checksum, cleanups;
static volatile uint64_t global_word = 0x1234;
static volatile double global_double = 1.5;
static __thread timer_t timer;
static __thread volatile int is_inside;

/* Code that was there from the start; memory that a tracer adds has no file. */
static void read_ranges(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8], path[512] = "";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %511s", &from, &to, mode, path) < 3 || mode[2] != 'x') continue;
        int known = (path[0] == '/' && strncmp(path, "/memfd:", 7) != 0 && strncmp(path, "/dev/", 5) != 0) || strcmp(path, "[vdso]") == 0;
        if (known && range_count < 64) { ranges[range_count].start = from; ranges[range_count++].end = to; }
    }
    if (maps) fclose(maps);
}

static int is_known(uintptr_t pc)
{
    for (int i = 0; i < range_count; i++)
        if (pc >= ranges[i].start && pc < ranges[i].end) return 1;
    return 0;
}

PROBED uint64_t work_global(uint64_t a) { return a + global_word; }
PROBED double work_double(double a) { return a * global_double + 0.25; }
PROBED uint64_t work_deep(uint64_t a, int depth)
{
    uint64_t kept[4] = { a, a + 1, a + 2, a + 3 };
    __asm__ volatile("" : : "r"(kept) : "memory");
    if (depth > 0) kept[a & 3] ^= work_deep(a * 3 + 1, depth - 1);
    return target_mix(kept[0] + kept[3], work_global(kept[1] ^ kept[2]));
}
PROBED uint64_t work_all(uint64_t a) { return target_mix(work_deep(a, (int)(a & 7)), (uint64_t)(work_double((double)a) * 4)); }

PROBED void *first(void *argument);

struct walk { int frames, in_work, is_whole; uintptr_t astray; };

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *context, void *argument)
{
    struct walk *walk = argument;
    uintptr_t pc = _Unwind_GetIP(context), function = _Unwind_GetRegionStart(context);
    if (!is_known(pc) && !walk->astray) walk->astray = pc;
    if (function == (uintptr_t)work_all) walk->in_work = 1;
    if (function == (uintptr_t)first) walk->is_whole = 1;
    return walk->is_whole || ++walk->frames > 100 ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static void arm(void)
{
    if (__atomic_load_n(&in_work, __ATOMIC_RELAXED) >= minimum) return;
    struct itimerspec once = { { 0, 0 }, { 0, 300000 + samples * 7919 % 900000 } };
    timer_settime(timer, 0, &once, NULL);
}

static void on_sample(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    int saved = errno;
#ifdef __x86_64__
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.pc;
#endif
    if (is_inside) {
        struct walk walk = { 0, 0, 0, 0 };
        _Unwind_Backtrace(on_frame, &walk);
        if (!is_known(pc) || walk.astray || !walk.is_whole) target_fail("a sample at %lx, a frame at %lx, %d frames, whole %d", pc, walk.astray, walk.frames, walk.is_whole);
        __atomic_add_fetch(&in_work, (uint64_t)walk.in_work, __ATOMIC_RELAXED);
        __atomic_add_fetch(&samples, 1, __ATOMIC_RELAXED);
        arm();
    }
    errno = saved;
}

void *first(void *argument)
{
    uint64_t sum = (uint64_t)(uintptr_t)argument;
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF };
    event.sigev_notify_thread_id = target_tid();
    if (timer_create(CLOCK_MONOTONIC, &event, &timer)) { target_fail("timer_create"); return NULL; }
    for (uint64_t i = 0; i < 6; i++) sum = target_mix(sum, work_all(i));
    uint64_t same = work_all(5);
    is_inside = 1;
    arm();
    while (__atomic_load_n(&in_work, __ATOMIC_RELAXED) < minimum)
        if (work_all(5) != same) target_fail("a result under samples differs");
    is_inside = 0;
    timer_delete(timer);
    __atomic_add_fetch(&checksum, sum, __ATOMIC_SEQ_CST);
    return NULL;
}

static jmp_buf back;
static int frames;
PROBED void unwinder(int depth);

static _Unwind_Reason_Code on_unwind(int version, _Unwind_Action actions, _Unwind_Exception_Class kind, struct _Unwind_Exception *exception, struct _Unwind_Context *context, void *argument)
{
    (void)version, (void)kind, (void)exception, (void)argument;
    frames++;
    if (!is_known(_Unwind_GetIP(context)) || (actions & _UA_END_OF_STACK)) target_fail("unwinding led to %lx", _Unwind_GetIP(context));
    if (_Unwind_GetRegionStart(context) == (uintptr_t)unwinder || (actions & _UA_END_OF_STACK)) longjmp(back, 1);
    return _URC_NO_REASON;
}

PROBED void clean(int *value) { cleanups += (uint64_t)*value; }

PROBED void unwound(int depth)
{
    static struct _Unwind_Exception exception;
    int __attribute__((cleanup(clean))) kept = depth + 1;
    __asm__ volatile("" : "+m"(kept));
    if (depth == 0) _Unwind_ForcedUnwind(&exception, on_unwind, NULL);
    else unwound(depth - 1);
    __asm__ volatile("" : "+m"(kept));
}

void unwinder(int depth) { if (setjmp(back) == 0) unwound(depth); }

int main(int argc, char **argv)
{
    int threads = target_argument(argc, argv, 1, 2), unwinds = target_argument(argc, argv, 3, 10);
    minimum = (uint64_t)target_argument(argc, argv, 2, 50);
    read_ranges();
    struct sigaction action = { .sa_sigaction = on_sample, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGPROF, &action, NULL);
    target_ready();
    target_wait();
    pthread_t ids[16];
    for (int i = 0; i < threads && i < 16; i++) if (pthread_create(&ids[i], NULL, first, (void *)(uintptr_t)i)) return 96;
    for (int i = 0; i < threads && i < 16; i++) pthread_join(ids[i], NULL);
    for (int i = 0; i < unwinds; i++) unwinder(i % 6);
    target_say("samples %llu in work %llu", (unsigned long long)samples, (unsigned long long)in_work);
    target_say("cleanups %llu frames %d", (unsigned long long)cleanups, frames);
    target_say("checksum %016llx", (unsigned long long)checksum);
    target_wait();
    return target_end(0);
}

/* pointers: functions that are given pointers of all kinds and do not follow them, each kind to a function of its own. Commands: "go N" calls all N times and prints "kind NAME VALID WORD" of each, where VALID says whether eight bytes
 * can be read there, "text NAME TEXT" of those that are texts, and "count calls TOTAL"; "blocked N" does so in a thread that blocks all signals, and prints "masks kept" if it still does; "actions" prints "actions kept" if the
 * actions for these signals are as they were; "storm" has two threads do so all the while, of which one blocks all signals but that of its timer, and sees the actions as they were whenever it looks, until "calm", which prints "calm"; "drop" takes the handler of SIGSEGV away, and "dropped" puts it
 * back and prints "still dropped" if it was away until then; "ignore" and "ignored" likewise have SIGBUS ignored, and print "ignored" and "still ignored"; "filter" has the kernel kill the process if it reads memory by process_vm_readv from now on, and prints "filtered"; "quit". A signal that it gets ends it with a failure. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define PAGE 4096
#define KINDS(X) X(word) X(none) X(small) X(odd) X(gone) X(guarded) X(wild) X(kernel) X(bus) X(edge) X(text) X(cut)
#define DEFINE(name) PROBED uintptr_t look_##name(const void *pointer, int number) { __asm__ volatile("" : : "r"(pointer), "r"(number) : "memory"); return (uintptr_t)pointer + (unsigned)number; }
KINDS(DEFINE)

enum {
#define NUMBER(name) K_##name,
    KINDS(NUMBER) KIND_COUNT
};
static const char *const names[] = {
#define NAME(name) #name,
    KINDS(NAME)
};
static const void *pointers[KIND_COUNT];
static int readable[KIND_COUNT];
static uint64_t calls;
static struct sigaction own;
static const int faults[] = { SIGSEGV, SIGBUS };

static void on_fault(int signal, siginfo_t *info, void *unused)
{
    (void)unused;
    target_fail("signal %d at %p", signal, info->si_addr);
    _exit(1);
}

static void call_all(int number)
{
#define CALL(name) if (look_##name(pointers[K_##name], number) != (uintptr_t)pointers[K_##name] + (unsigned)number) target_fail(#name); calls++;
    KINDS(CALL)
}

static unsigned char *map(int pages)
{
    unsigned char *start = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) target_fail("mmap");
    return start;
}

static void prepare(void)
{
    static const char text[] = "a text that is somewhat longer than the others are";
    unsigned char *pages = map(4);
    for (int i = 0; i < 2 * PAGE; i++) pages[i] = (unsigned char)(i % 251 + 1);
    munmap(pages + 2 * PAGE, PAGE);
    mprotect(pages + 3 * PAGE, PAGE, PROT_NONE);
    pointers[K_word] = pages; readable[K_word] = 1;
    pointers[K_none] = NULL;
    pointers[K_small] = (void *)1234;
    pointers[K_odd] = pages + PAGE - 3; readable[K_odd] = 1;
    pointers[K_gone] = pages + 2 * PAGE + 8;
    pointers[K_guarded] = pages + 3 * PAGE + 8;
    pointers[K_wild] = (void *)0x7e57000000000123;
    pointers[K_kernel] = (void *)0xffffffff81000000;
    int file = (int)syscall(SYS_memfd_create, "beyond", 0);
    if (file < 0 || ftruncate(file, 1)) target_fail("memfd");
    pointers[K_bus] = (char *)mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, file, 0) + PAGE + 16;
    close(file);
    pointers[K_edge] = strcpy((char *)pages + 2 * PAGE - 5, "edge");
    pointers[K_text] = text; readable[K_text] = 1;
    memcpy(pages + PAGE + 40, "cut", 3);
    unsigned char *last = map(2);
    memset(last, 'x', PAGE);
    memcpy(last + PAGE - 3, "cut", 3);
    munmap(last + PAGE, PAGE);
    pointers[K_cut] = last + PAGE - 3;
}

static void print_all(void)
{
    for (int i = 0; i < KIND_COUNT; i++) {
        uint64_t word = 0;
        if (readable[i]) memcpy(&word, pointers[i], sizeof word);
        target_say("kind %s %d %llx", names[i], readable[i], (unsigned long long)word);
    }
    target_say("text edge edge");
    target_say("text text %s", (const char *)pointers[K_text]);
    target_say("text cut cut");
}

static int mask_is(const sigset_t *expected)
{
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int i = 1; i < NSIG; i++) {
        if (sigismember(&now, i) != sigismember(expected, i)) return 0;
    }
    return 1;
}

static void *call_blocked(void *count)
{
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    for (int i = 0; i < (int)(intptr_t)count; i++) {
        call_all(i);
        if (!mask_is(&set)) target_fail("the mask has changed");
    }
    target_say("masks kept");
    return NULL;
}

static void ignore(void)
{
    signal(SIGBUS, SIG_IGN);
    target_say("ignored");
}

static void check_ignored(void)
{
    struct sigaction now;
    sigaction(SIGBUS, NULL, &now);
    if (now.sa_handler != SIG_IGN) target_fail("SIGBUS is ignored no more");
    sigaction(SIGBUS, &own, NULL);
    target_say("still ignored");
}

static int actions_are_own(void)
{
    int own_ones = 0;
    for (int i = 0; i < 2; i++) {
        struct sigaction now;
        sigaction(faults[i], NULL, &now);
        own_ones += now.sa_sigaction == own.sa_sigaction && now.sa_flags == own.sa_flags;
    }
    return own_ones == 2;
}

static volatile int storming;
static pthread_t stormers[2];

static void on_timer(int signal, siginfo_t *info, void *unused)
{
    (void)signal, (void)unused;
    if (info->si_code != SI_TIMER) target_fail("the timer's signal has code %d", info->si_code);
    if (!actions_are_own()) target_fail("an action is gone in a handler");
}

static timer_t start_timer(void)
{
    struct sigaction action = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
    struct itimerspec period = { { 0, 500000 }, { 0, 500000 } };
    timer_t timer;
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    sigfillset(&action.sa_mask);
    if (sigaction(SIGUSR1, &action, NULL) || timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &period, NULL)) target_fail("timer");
    return timer;
}

static void *storm(void *blocks)
{
    sigset_t set;
    timer_t timer = NULL;
    sigfillset(&set);
    sigdelset(&set, SIGUSR1);
    pthread_sigmask(blocks ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    if (blocks) timer = start_timer();
    for (int i = 0; storming; i++) {
        call_all(i);
        if (!mask_is(&set)) target_fail("the mask of thread %d has changed", blocks != NULL);
        if (blocks && !actions_are_own()) target_fail("an action is gone");
    }
    if (blocks) timer_delete(timer);
    return NULL;
}

/* As signal(SIGSEGV, SIG_DFL) leaves it after signal(SIGSEGV, handler). */
static void drop_action(void)
{
    struct sigaction none = own;
    none.sa_handler = SIG_DFL;
    sigaction(SIGSEGV, &none, NULL);
    target_say("dropped");
}

static void check_dropped(void)
{
    struct sigaction now;
    sigaction(SIGSEGV, NULL, &now);
    sigset_t none;
    sigemptyset(&none);
    if (now.sa_handler != SIG_DFL) target_fail("the action is back");
    if (!mask_is(&none)) target_fail("a signal was blocked");
    sigaction(SIGSEGV, &own, NULL);
    target_say("still dropped");
}

static void check_actions(void)
{
    if (!actions_are_own()) target_fail("an action is gone");
    target_say("actions kept");
}

static void filter(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program)) target_fail("seccomp");
    target_say("filtered");
}

int main(void)
{
    char line[64];
    own.sa_sigaction = on_fault;
    own.sa_flags = SA_SIGINFO;
    for (int i = 0; i < 2; i++) { sigaction(faults[i], &own, NULL); }
    sigaction(SIGSEGV, NULL, &own);
    prepare();
    target_ready();
    while (target_command(line, sizeof line)) {
        if (strncmp(line, "go ", 3) == 0) {
            for (int i = 0; i < atoi(line + 3); i++) call_all(i);
            print_all();
            target_say("count calls %llu", (unsigned long long)calls);
        } else if (strncmp(line, "blocked ", 8) == 0) {
            pthread_t thread;
            pthread_create(&thread, NULL, call_blocked, (void *)(intptr_t)atoi(line + 8));
            pthread_join(thread, NULL);
        } else if (strcmp(line, "storm") == 0) {
            storming = 1;
            for (int i = 0; i < 2; i++) pthread_create(&stormers[i], NULL, storm, i ? "" : NULL);
        } else if (strcmp(line, "calm") == 0) {
            storming = 0;
            for (int i = 0; i < 2; i++) pthread_join(stormers[i], NULL);
            target_say("calm");
        } else if (strcmp(line, "drop") == 0) {
            drop_action();
        } else if (strcmp(line, "dropped") == 0) {
            check_dropped();
        } else if (strcmp(line, "ignore") == 0) {
            ignore();
        } else if (strcmp(line, "ignored") == 0) {
            check_ignored();
        } else if (strcmp(line, "actions") == 0) {
            check_actions();
        } else if (strcmp(line, "filter") == 0) {
            filter();
        } else if (strcmp(line, "quit") == 0) {
            break;
        }
    }
    return target_end(0);
}

/* storm THREADS ROUNDS STAGES SEED PLUGIN: everything at once, bounded. Each of THREADS threads makes ROUNDS rounds of something chosen by SEED: calls of hot(int), forks
 * whose children call it and exit, stop and are continued, kill themselves or execute this program as a leaf, vforks, spawns, dlopen and dlclose of PLUGIN with a call of its plugin_hot(int), signals whose
 * handler calls hot, short threads, sleeps. After a stage the program executes itself for the next. Counts are in memory shared by all of its processes: at the end it prints
 * "count hot N", "count plugin N" (calls), "count births N" (processes of their own), "count visits N" (vfork children that only exit), "count execs N" (executions, its own stages and the leaves) and exits with 3. */
#include "target.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { LEAF_CODE = 9, COUNTERS_FD = 9 };

struct counters { long hot, plugin, births, visits, execs; };

static struct counters *counters;
static int rounds;
static uint64_t seed;
static const char *plugin_path;
static char *leaf_arguments[] = { "storm", "leaf", NULL };
extern char **environ;

static void count(long *counter) { __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED); }

PROBED int hot(int value)
{
    count(&counters->hot);
    return value * 3 + 1;
}

static void call_hot(int times)
{
    for (int i = 0; i < times; i++)
        if (hot(i) != i * 3 + 1) target_fail("hot(%d)", i);
}

static void on_signal(int signal)
{
    (void)signal;
    int saved = errno;
    call_hot(1);
    errno = saved;
}

static void expect(pid_t pid, int code, int signal, const char *what)
{
    int status;
    pid_t waited;
    while ((waited = waitpid(pid, &status, 0)) < 0 && errno == EINTR) { }
    if (waited != pid) {
        target_fail("%s: waitpid of %d gave %d (%s)", what, (int)pid, (int)waited, strerror(errno));
        return;
    }

    int good = signal ? WIFSIGNALED(status) && WTERMSIG(status) == signal : WIFEXITED(status) && WEXITSTATUS(status) == code;
    if (!good) target_fail("%s: child %d ended with status %x, not with code %d signal %d", what, (int)pid, status, code, signal);
}

static pid_t born(pid_t pid, const char *what)
{
    if (pid < 0) target_fail("%s: %s", what, strerror(errno));
    if (pid > 0) count(&counters->births);
    return pid;
}

static void fork_and_exit(int code)
{
    pid_t pid = born(fork(), "fork");
    if (pid == 0) {
        call_hot(5);
        _exit(code);
    }

    if (pid > 0) expect(pid, code, 0, "fork");
}

static void fork_and_die(int signal)
{
    pid_t pid = born(fork(), "fork");
    if (pid == 0) {
        call_hot(2);
        struct sigaction action = { .sa_handler = SIG_DFL };
        sigaction(signal, &action, NULL);
        kill(getpid(), signal);
        for (;;) pause();
    }

    if (pid > 0) expect(pid, 0, signal, "fork and kill");
}

static int change(pid_t pid, int options)
{
    int status;
    pid_t waited;
    while ((waited = waitpid(pid, &status, options)) < 0 && errno == EINTR) { }
    return waited == pid ? status : -1;
}

/* Job control: the parent sees the stop and the continuation, each once. The child goes on when told, so that its end does not hide that it was continued. */
static void fork_and_stop(int code)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        target_fail("pipe2: %s", strerror(errno));
        return;
    }

    pid_t pid = born(fork(), "fork");
    if (pid == 0) {
        char byte;
        call_hot(1);
        raise(SIGSTOP);
        call_hot(2);
        _exit(read(ends[0], &byte, 1) == 1 ? code : 91);
    }

    if (pid > 0) {
        int status = change(pid, WUNTRACED);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP) target_fail("stop: status of %d is %x", (int)pid, status);
        kill(pid, SIGCONT);
        status = change(pid, WUNTRACED | WCONTINUED);
        if (!WIFCONTINUED(status)) target_fail("continue: status of %d is %x", (int)pid, status);
        if (write(ends[1], "x", 1) != 1) target_fail("write: %s", strerror(errno));
        expect(pid, code, 0, "fork and stop");
    }

    close(ends[0]);
    close(ends[1]);
}

static void fork_twice(int code)
{
    pid_t pid = born(fork(), "fork");
    if (pid == 0) {
        fork_and_exit(code ^ 1);
        call_hot(1);
        _exit(target_failures ? 99 : code);
    }

    if (pid > 0) expect(pid, code, 0, "nested fork");
}

static void fork_and_execute(void)
{
    count(&counters->execs);
    pid_t pid = born(fork(), "fork");
    if (pid == 0) {
        execv("/proc/self/exe", leaf_arguments);
        _exit(90);
    }

    if (pid > 0) expect(pid, LEAF_CODE, 0, "fork and exec");
}

static void vfork_and_exit(int code)
{
    pid_t pid = vfork();
    if (pid == 0) {
        hot(1);
        _exit(code);
    }

    if (pid < 0) target_fail("vfork: %s", strerror(errno));
    count(&counters->visits);
    if (pid > 0) expect(pid, code, 0, "vfork");
}

static void vfork_and_execute(void)
{
    count(&counters->execs);
    pid_t pid = vfork();
    if (pid == 0) {
        execv("/proc/self/exe", leaf_arguments);
        _exit(90);
    }

    born(pid, "vfork");
    if (pid > 0) expect(pid, LEAF_CODE, 0, "vfork and exec");
}

static void spawn(void)
{
    pid_t pid;
    count(&counters->execs);
    int error = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, leaf_arguments, environ);
    if (error) {
        target_fail("posix_spawn: %s", strerror(error));
        return;
    }

    born(pid, "posix_spawn");
    expect(pid, LEAF_CODE, 0, "posix_spawn");
}

static void load(void)
{
    void *library = dlopen(plugin_path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        target_fail("dlopen: %s", dlerror());
        return;
    }

    int (*plugin_hot)(int, long *) = (int (*)(int, long *))dlsym(library, "plugin_hot");
    for (int i = 0; i < 3; i++)
        if (plugin_hot(i, &counters->plugin) != i + 7) target_fail("plugin_hot(%d)", i);
    dlclose(library);
}

static void *short_life(void *argument)
{
    call_hot(2);
    return argument;
}

static void short_thread(void)
{
    pthread_t id;
    int error = pthread_create(&id, NULL, short_life, NULL);
    if (error) target_fail("pthread_create: %s", strerror(error));
    else pthread_join(id, NULL);
}

static void one_round(uint64_t choice)
{
    int code = (int)(choice >> 32) & 63;
    switch (choice % 24) {
    case 0: case 1: fork_and_exit(code); break;
    case 2: fork_and_die(SIGKILL); break;
    case 3: fork_and_die(SIGTERM); break;
    case 4: fork_twice(code); break;
    case 5: fork_and_execute(); break;
    case 6: vfork_and_exit(code); break;
    case 7: vfork_and_execute(); break;
    case 8: spawn(); break;
    case 9: case 10: load(); break;
    case 11: case 12: raise(SIGUSR1); break;
    case 13: kill(getpid(), SIGUSR2); break;
    case 14: case 15: short_thread(); break;
    case 16: { struct timespec time = { 0, 200000 }; nanosleep(&time, NULL); break; }
    case 17: fork_and_stop(code); break;
    default: call_hot(20); break;
    }
}

static void *work(void *argument)
{
    uint64_t state = target_mix(seed, (uint64_t)(intptr_t)argument + 1);
    for (int i = 0; i < rounds; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        one_round(state >> 16);
    }

    return NULL;
}

static struct counters *map_counters(void)
{
    void *mapped = mmap(NULL, sizeof(struct counters), PROT_READ | PROT_WRITE, MAP_SHARED, COUNTERS_FD, 0);
    if (mapped == MAP_FAILED) _exit(97);
    return mapped;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "leaf") == 0) {
        counters = map_counters();
        call_hot(3);
        return LEAF_CODE;
    }

    if (argc != 6) return 95;
    int threads = atoi(argv[1]);
    rounds = atoi(argv[2]);
    int stages = atoi(argv[3]);
    seed = (uint64_t)atoll(argv[4]);
    plugin_path = argv[5];
    const char *stage_text = getenv("STORM_STAGE");
    int stage = stage_text ? atoi(stage_text) : 0;
    if (stage == 0) {
        int fd = memfd_create("storm", 0);
        if (fd < 0 || ftruncate(fd, sizeof(struct counters)) || dup2(fd, COUNTERS_FD) < 0) return 97;
        if (fd != COUNTERS_FD) close(fd);
    }

    counters = map_counters();
    if (stage == 0) {
        target_ready();
        target_wait();
    }

    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    seed = target_mix(seed, (uint64_t)stage);
    pthread_t ids[256];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(intptr_t)i)) return 96;
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    if (target_failures) return target_end(1);
    if (stage + 1 < stages) {
        char text[16];
        snprintf(text, sizeof text, "%d", stage + 1);
        setenv("STORM_STAGE", text, 1);
        count(&counters->execs);
        execv("/proc/self/exe", argv);
        return 94;
    }

    target_say("count hot %ld", counters->hot);
    target_say("count plugin %ld", counters->plugin);
    target_say("count births %ld", counters->births);
    target_say("count visits %ld", counters->visits);
    target_say("count execs %ld", counters->execs);
    return target_end(3);
}

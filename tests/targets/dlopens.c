/* dlopens LIBRARY...: loads and unloads libraries as it is told, and says what it did.
   storm THREADS LOOPS: each thread loads its own library, calls into it, and unloads it; forkstorm: while another thread forks.
   open I, work N, close, reuse, release, ignore, ignored, leave, namespace I, fork, vfork, exec, quit. */
#include "target.h"
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

extern char **environ;
static char **libraries;
static int loops;
static long opened, closed, prepared, worked;
static void *library;
static unsigned char *reused;
static unsigned long reused_page;

static void *load(int index)
{
    void *handle = dlopen(libraries[index], RTLD_NOW | RTLD_LOCAL);
    if (!handle) { target_fail("dlopen %s", dlerror()); return NULL; }
    __atomic_add_fetch(&opened, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&prepared, *(int *)dlsym(handle, "plugin_prepared"), __ATOMIC_SEQ_CST);
    return handle;
}

static void unload(void *handle)
{
    if (dlclose(handle)) target_fail("dlclose %s", dlerror());
    __atomic_add_fetch(&closed, 1, __ATOMIC_SEQ_CST);
}

static void work(void *handle, int times)
{
    int (*function)(int) = (int (*)(int))dlsym(handle, "plugin_work");
    for (int i = 0; i < times; i++) {
        if (function(i) != i * 2) target_fail("plugin_work %d", i);
        __atomic_add_fetch(&worked, 1, __ATOMIC_SEQ_CST);
    }
}

/* Children use what the parent has loaded at that moment, in a copy of their own. */
static volatile int storming;
static void *forks(void *unused)
{
    (void)unused;
    while (storming) {
        int status = -1;
        pid_t child = fork();
        if (!child) {
            /* Not under the linker's lock: what stands mapped is called by its address. */
            int (*function)(int) = (int (*)(int))__atomic_load_n(&library, __ATOMIC_SEQ_CST);
            _exit(function ? function(4) != 8 : 0);
        }
        waitpid(child, &status, 0);
        if (status) target_fail("child of forkstorm: status %x", status);
    }
    return NULL;
}

static void *storm(void *index)
{
    for (int i = 0; i < loops; i++) {
        void *handle = load((int)(intptr_t)index);
        if (!handle) break;
        work(handle, 2);
        unload(handle);
    }
    return NULL;
}

static void say(const char *what)
{
    target_say("count opened %ld", opened);
    target_say("count closed %ld", closed);
    target_say("count prepared %ld", prepared);
    target_say("count worked %ld", worked);
    target_say("done %s", what);
}

/* Other memory where the library's code was, full of a pattern which nobody may change. */
static void reuse(void)
{
    reused_page = (unsigned long)dlsym(library, "plugin_work") & ~4095ul;
    unload(library);
    library = NULL;
    reused = mmap((void *)reused_page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (reused != (unsigned char *)reused_page) target_fail("reuse");
    else memset(reused, 0x90, 4096);
}

static void release(void)
{
    for (int i = 0; i < 4096; i++) if (reused[i] != 0x90) target_fail("byte %d is %02x", i, reused[i]);
    munmap(reused, 4096);
}

static void check(int status, const char *what)
{
    if (status) target_fail("%s: status %x", what, status);
}

static char **arguments_given;

static void *commands(void *unused)
{
    char **argv = arguments_given;
    (void)unused;
    char line[64], name[16];
    int a = 0, b = 0;
    while (target_command(line, sizeof line)) {
        if (sscanf(line, "%15s %d %d", name, &a, &b) < 1) continue;
        if (!strcmp(name, "quit")) break;
        if (!strcmp(name, "storm")) {
            pthread_t threads[64];
            loops = b;
            for (int i = 0; i < a; i++) pthread_create(&threads[i], NULL, storm, (void *)(intptr_t)i);
            for (int i = 0; i < a; i++) pthread_join(threads[i], NULL);
        } else if (!strcmp(name, "forkstorm")) {
            pthread_t threads[64], forking;
            loops = b;
            library = dlsym(load(2), "plugin_work");
            storming = 1;
            pthread_create(&forking, NULL, forks, NULL);
            for (int i = 0; i < a; i++) pthread_create(&threads[i], NULL, storm, (void *)(intptr_t)i);
            for (int i = 0; i < a; i++) pthread_join(threads[i], NULL);
            storming = 0;
            pthread_join(forking, NULL);
            library = NULL;
        } else if (!strcmp(name, "open")) library = load(a);
        else if (!strcmp(name, "work")) work(library, a);
        else if (!strcmp(name, "close")) { unload(library); library = NULL; }
        else if (!strcmp(name, "reuse")) reuse();
        else if (!strcmp(name, "release")) release();
        else if (!strcmp(name, "leave")) {
            /* The main thread goes, another takes over. */
            pthread_t thread;
            pthread_create(&thread, NULL, commands, NULL);
            pthread_exit(NULL);
        }
        else if (!strcmp(name, "ignore")) signal(SIGTRAP, SIG_IGN);
        else if (!strcmp(name, "ignored")) {
            struct sigaction action;
            sigaction(SIGTRAP, NULL, &action);
            target_say("count ignored %d", action.sa_handler == SIG_IGN);
        }
#ifdef LM_ID_NEWLM
        else if (!strcmp(name, "namespace")) {
            void *handle = dlmopen(LM_ID_NEWLM, libraries[a], RTLD_NOW | RTLD_LOCAL);
            if (!handle) target_fail("dlmopen %s", dlerror());
            else { opened++; unload(handle); }
        }
#endif
        else if (!strcmp(name, "fork")) {
            int status = -1;
            pid_t child = fork();
            if (!child) {
                for (int i = 0; i < 20; i++) unload(load(0));
                _exit(target_failures);
            }
            waitpid(child, &status, 0);
            check(status, "fork");
        } else if (!strcmp(name, "vfork")) {
            int status = -1;
            pid_t child;
            char *arguments[] = { argv[0], argv[1], "again", NULL };
            if (posix_spawn(&child, argv[0], NULL, NULL, arguments, environ)) target_fail("posix_spawn");
            waitpid(child, &status, 0);
            check(status, "vfork");
        } else if (!strcmp(name, "exec")) {
            char *arguments[] = { argv[0], argv[1], "again", NULL };
            execv(argv[0], arguments);
            target_fail("exec");
        }
        say(name);
    }
    exit(target_end(0));
}

int main(int argc, char **argv)
{
    libraries = argv + 1;
    arguments_given = argv;
    if (argc > 2 && !strcmp(argv[argc - 1], "again")) {
        void *handle = load(0);
        unload(handle);
        say("again");
        return target_end(0);
    }
    target_ready();
    commands(NULL);
    return 0;
}

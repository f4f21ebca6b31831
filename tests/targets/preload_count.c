/* Counts the calls of malloc and its family which a program makes through the dynamic symbols: for LD_PRELOAD. At the exit each process writes
 * "malloc N", "free N", "calloc N", "realloc N" to $FASTTRAP_MALLOC_COUNTS.PID. Calls inside libc do not pass here. Forked children begin at 0.
 * It hands on to the next library which has them, so that a program with an allocator of its own is counted too. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t mallocs, frees, callocs, reallocs;
static char path[256];
static pid_t owner;

static void *(*next_malloc)(size_t), *(*next_calloc)(size_t, size_t), *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

/* Threads may do this twice: they find the same. */
static void *next(void **known, const char *name)
{
    void *found = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    if (found) return found;
    found = dlsym(RTLD_NEXT, name);
    if (!found) _exit(94);
    __atomic_store_n(known, found, __ATOMIC_RELEASE);
    return found;
}

#define COUNT(counter) __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED)
#define NEXT(function) ((__typeof__(next_##function))next((void **)&next_##function, #function))

void *malloc(size_t size) { COUNT(mallocs); return NEXT(malloc)(size); }
void free(void *memory) { COUNT(frees); NEXT(free)(memory); }
void *calloc(size_t number, size_t size) { COUNT(callocs); return NEXT(calloc)(number, size); }
void *realloc(void *memory, size_t size) { COUNT(reallocs); return NEXT(realloc)(memory, size); }

static void forked(void)
{
    mallocs = frees = callocs = reallocs = 0;
    owner = getpid();
}

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FASTTRAP_MALLOC_COUNTS");
    if (name) snprintf(path, sizeof path, "%s", name);
    owner = getpid();
    pthread_atfork(NULL, NULL, forked);
}

__attribute__((destructor)) static void end(void)
{
    char file[300], text[256];
    if (!path[0] || owner != getpid()) return;
    snprintf(file, sizeof file, "%s.%d", path, (int)owner);
    int length = snprintf(text, sizeof text, "malloc %llu\nfree %llu\ncalloc %llu\nrealloc %llu\n", (unsigned long long)mallocs,
        (unsigned long long)frees, (unsigned long long)callocs, (unsigned long long)reallocs);
    int out = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0) return;
    if (write(out, text, (size_t)length) != length) unlink(file);
    close(out);
}

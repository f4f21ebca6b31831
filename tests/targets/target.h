/* What every target shares: the ready line, commands on standard input, checksums, and one exit. */
#ifndef TARGET_H
#define TARGET_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* noipa: no inlining, cloning or argument passing of GCC's own making, so that the System V ABI holds at each call. */
#define PROBED __attribute__((noipa, used))

static int target_failures;

static inline int target_tid(void) { return (int)syscall(SYS_gettid); }

/* One line to standard output in one write, so that lines of several threads and processes never mix. */
__attribute__((format(printf, 1, 2))) static inline void target_say(const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
    line[length++] = '\n';
    for (int done = 0; done < length;) {
        ssize_t n = write(1, line + done, (size_t)(length - done));
        if (n < 0 && errno != EINTR) _exit(99);
        if (n > 0) done += (int)n;
    }
}

#define target_fail(...) (__atomic_add_fetch(&target_failures, 1, __ATOMIC_SEQ_CST), target_say("FAIL " __VA_ARGS__))

static inline void target_ready(void) { target_say("ready %d", (int)getpid()); }

/* Reads one command line, a byte at a time so that nothing is left in a buffer over a fork; 0 at the end of input. */
static inline int target_command(char *line, int size)
{
    int length = 0;
    for (;;) {
        char c;
        ssize_t n = read(0, &c, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        if (c == '\n') break;
        if (length < size - 1) line[length++] = c;
    }
    line[length] = 0;
    return 1;
}

/* Waits for any command line. With TARGET_NOWAIT in the environment it goes on at once; without input it ends. */
static inline void target_wait(void)
{
    char line[64];
    if (getenv("TARGET_NOWAIT")) return;
    if (!target_command(line, sizeof line)) _exit(98);
}

static inline uint64_t target_mix(uint64_t sum, uint64_t value)
{
    sum ^= value + 0x9e3779b97f4a7c15ull + (sum << 6) + (sum >> 2);
    return sum;
}

static inline int target_argument(int argc, char **argv, int index, int standard)
{
    return argc > index ? atoi(argv[index]) : standard;
}

/* Prints the exit code and gives it: 1 after a failure. */
static inline int target_end(int code)
{
    if (target_failures) code = 1;
    target_say("exit %d", code);
    return code;
}
#endif

/* hot [KIND] [CALLS] [SECONDS]: calls one small function again and again and prints nanoseconds per call.
 *
 * KIND is how the function begins: push, endbr, nop5, sub, mov, rip (a rip-relative load). With SECONDS it calls for that time in rounds of CALLS and
 * prints a line for each round; else it does CALLS once. The first line is "ready PID KIND ADDRESS", the function hot_KIND. A fourth argument "wait"
 * makes it wait for a line on standard input first; "lines" makes it do one round for each line, until the end of input. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

long hot_push(long), hot_endbr(long), hot_nop5(long), hot_sub(long), hot_mov(long), hot_rip(long);

/* Written out, so that no compiler chooses another beginning. */
__asm__(
    ".text\n"
    ".macro FUNCTION name\n .p2align 4\n .globl \\name\n .type \\name, @function\n\\name:\n .endm\n"
    ".macro DONE name\n .size \\name, . - \\name\n .endm\n"
    "FUNCTION hot_push\n push %rbp\n mov %rsp, %rbp\n lea 1(%rdi), %rax\n pop %rbp\n ret\nDONE hot_push\n"
    "FUNCTION hot_endbr\n endbr64\n push %rbp\n mov %rsp, %rbp\n lea 1(%rdi), %rax\n pop %rbp\n ret\nDONE hot_endbr\n"
    "FUNCTION hot_nop5\n .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n lea 1(%rdi), %rax\n ret\nDONE hot_nop5\n"
    "FUNCTION hot_sub\n sub $24, %rsp\n lea 1(%rdi), %rax\n add $24, %rsp\n ret\nDONE hot_sub\n"
    "FUNCTION hot_mov\n mov %rdi, %rax\n add $1, %rax\n ret\nDONE hot_mov\n"
    "FUNCTION hot_rip\n mov hot_word(%rip), %rax\n lea 1(%rdi), %rax\n ret\nDONE hot_rip\n"
    ".data\n .p2align 3\nhot_word: .quad 7\n .text\n");

static const struct { const char *name; long (*function)(long); } kinds[] = {
    { "push", hot_push }, { "endbr", hot_endbr }, { "nop5", hot_nop5 }, { "sub", hot_sub }, { "mov", hot_mov }, { "rip", hot_rip } };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "push";
    long calls = argc > 2 ? atol(argv[2]) : 100000;
    double seconds = argc > 3 ? atof(argv[3]) : 0;
    long (*volatile function)(long) = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kind, kinds[i].name) == 0) function = kinds[i].function;
    if (!function || calls < 1) {
        fprintf(stderr, "hot: KIND is push, endbr, nop5, sub, mov or rip\n");
        return 2;
    }
    printf("ready %d %s %lx\n", (int)getpid(), kind, (unsigned long)function);
    fflush(stdout);
    char line[64];
    int lines = argc > 4 && strcmp(argv[4], "lines") == 0;
    if (argc > 4 && !fgets(line, sizeof line, stdin)) return 1;
    double begin = now();
    do {
        double start = now();
        long value = 0;
        for (long i = 0; i < calls; i++) value = function(value);
        double elapsed = now() - start;
        if (value != calls) {
            printf("FAIL %ld calls gave %ld\n", calls, value);
            return 1;
        }
        printf("%.1f ns per call, %ld calls\n", elapsed * 1e9 / (double)calls, calls);
        fflush(stdout);
    } while (lines ? fgets(line, sizeof line, stdin) != NULL : now() - begin < seconds);
    return 0;
}

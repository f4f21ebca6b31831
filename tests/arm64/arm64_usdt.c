/* arm64_usdt: static probes of a program that runs, and children that call a probed function. Commands: "args N" fires each probe N times and prints what its
 * arguments are; "forks N" makes N children, each of which calls in_child three times, and waits for them; "end". */
#include "usdt.h"
#include <sys/wait.h>

static long global_table[8] = { 11, 22, 33, 44, 55, 66, 77, 88 };

PROBED int in_child(int value) { return value * 3 + 1; }

PROBED void general(long n)
{
    int8_t a = (int8_t)(n * 37); uint8_t b = (uint8_t)(n * 91); int16_t c = (int16_t)(n * -3001); uint32_t d = (uint32_t)(n * 2000000011u); int64_t e = n * -10000000019L;
    USDT("general", "-1@%w0 1@%w1 -2@%w2 4@%w3 -8@%x4", "r"(a), "r"(b), "r"(c), "r"(d), "r"(e));
    target_say("hit general %llx %llx %llx %llx %llx", (unsigned long long)(uint64_t)a, (unsigned long long)b, (unsigned long long)(uint64_t)c,
        (unsigned long long)d, (unsigned long long)(uint64_t)e);
}

PROBED void memory(long n)
{
    volatile long local[2] = { n * 7, n * 9 };
    long *table = global_table, index = n & 7;
    USDT("memory", "8@%0 8@%1 8@%2 -4@%3", "m"(local[0]), "m"(local[1]), "m"(table[index]), "n"(-5));
    target_say("hit memory %lx %lx %lx %llx", local[0], local[1], table[index], (unsigned long long)-5);
}

int main(void)
{
    char line[64];
    int count;
    target_ready();
    while (target_command(line, sizeof line) && strcmp(line, "end") != 0) {
        if (sscanf(line, "args %d", &count) == 1) {
            for (int i = 0; i < count; i++) { general(i); memory(i); }
            target_say("checksum 0");
        } else if (sscanf(line, "forks %d", &count) == 1) {
            for (int i = 0; i < count; i++) {
                pid_t child = fork();
                if (child == 0) _exit(in_child(i) + in_child(1) + in_child(2) == i * 3 + 12 ? 7 : 1);
                int status = 0;
                if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) target_fail("child %d: status %x", i, status);
            }
            target_say("count in_child %d", count * 3);
        }
    }
    return target_end(0);
}

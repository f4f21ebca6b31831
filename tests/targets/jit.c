/* jit [LOOPS]: makes a function at run time, names it in /tmp/perf-PID.map, and calls it. The function is made anew by the command "again", and at the same address by "over". */
#include "target.h"
#include <sys/mman.h>

/* lea eax, [rdi + rdi*2]; add eax, imm8; ret */
static unsigned char code[] = { 0x8d, 0x04, 0x7f, 0x83, 0xc0, 0x00, 0xc3 };
static int (*made)(int);
static char path[64];

static int emit(void *page, const char *name, int constant)
{
    if (page == MAP_FAILED || mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0) return 0;
    code[5] = (unsigned char)constant;
    memcpy((char *)page + 64, code, sizeof code);
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0) return 0;
    made = (int (*)(int))((char *)page + 64);
    FILE *map = fopen(path, "a");
    if (!map) return 0;
    fprintf(map, "%lx %zx %s\n", (unsigned long)(uintptr_t)made, sizeof code, name);
    return fclose(map) == 0;
}

static void *new_page(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(int argc, char **argv)
{
    int loops = target_argument(argc, argv, 1, 100);
    char line[64];
    uint64_t sum = 0, calls = 0;
    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    if (!emit(new_page(), "int Jit::first(int)", 1)) return 97;
    target_ready();
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "go") == 0) {
            for (int i = 0; i < loops; i++, calls++) sum = target_mix(sum, (uint64_t)made(i));
            target_say("count made %llu", (unsigned long long)calls);
        } else if (strcmp(line, "again") == 0) {
            if (!emit(new_page(), "int Jit::second(int)", 2)) return 97;
            target_say("again");
        } else if (strcmp(line, "over") == 0) {
            code[2] = 0xbf; /* lea eax, [rdi + rdi*4] */
            if (!emit((char *)made - 64, "int Jit::third(int)", 3)) return 97;
            target_say("over %p", (void *)made);
        } else {
            break;
        }
    }
    unlink(path);
    target_say("checksum %016llx", (unsigned long long)sum);
    return target_end(0);
}

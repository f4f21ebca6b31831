/* usdtloads LIBRARY: loads and unloads usdt_plugin. open, work N, close, reuse (other memory where the semaphore was), check, quit. */
#include "target.h"
#include <dlfcn.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
    char line[64];
    void *library = NULL;
    volatile unsigned short *counter = NULL;
    unsigned char *reused = NULL;
    if (argc < 2) return 97;
    target_ready();
    while (target_command(line, sizeof line) && strcmp(line, "quit") != 0) {
        if (strcmp(line, "open") == 0) {
            library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
            if (!library) { target_fail("%s", dlerror()); continue; }
            counter = ((volatile unsigned short *(*)(void))dlsym(library, "plugin_counter"))();
        } else if (strncmp(line, "work ", 5) == 0) {
            int (*work)(long) = (int (*)(long))dlsym(library, "plugin_work");
            long fired = 0;
            for (long n = 0; n < atol(line + 5); n++) fired += work(n);
            target_say("count fired %ld", fired);
        } else if (strcmp(line, "close") == 0 || strcmp(line, "reuse") == 0) {
            unsigned long page = (unsigned long)counter & ~4095ul;
            if (dlclose(library)) target_fail("dlclose");
            counter = NULL;
            if (line[0] == 'r') {
                reused = mmap((void *)page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
                if (reused != (unsigned char *)page) target_fail("reuse");
                else memset(reused, 0x5a, 4096);
            }
        } else if (strcmp(line, "check") == 0) {
            int changed = 0;
            for (int i = 0; i < 4096; i++) changed += reused[i] != 0x5a;
            target_say("count changed %d", changed);
            munmap(reused, 4096);
        }
        target_say("count semaphore %d", counter ? *counter : -1);
    }
    return target_end(0);
}

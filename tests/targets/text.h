/* Compares this process's executable memory with the files it came from. */
#ifndef TEXT_H
#define TEXT_H
#include "target.h"
#include <fcntl.h>
#include <sys/mman.h>

/* The number of differing bytes over all executable mappings of files; -1 when something could not be read. */
static long text_differences(void)
{
    static char buffer[65536];
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0) return -1;
    int length = 0;
    ssize_t n;
    while (length < (int)sizeof buffer - 1 && (n = read(maps, buffer + length, sizeof buffer - 1 - (size_t)length)) > 0) length += (int)n;
    close(maps);
    buffer[length] = 0;
    long differences = 0;
    for (char *line = strtok(buffer, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long from, to, offset;
        char mode[8], path[512] = "";
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %511s", &from, &to, mode, &offset, path) < 5) continue;
        if (mode[2] != 'x' || path[0] != '/' || strncmp(path, "/memfd:", 7) == 0) continue;
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) return -1;
        for (unsigned long at = from; at < to; at += 4096) {
            unsigned char page[4096];
            ssize_t got = pread(file, page, sizeof page, (off_t)(offset + (at - from)));
            for (ssize_t i = 0; i < got; i++)
                if (page[i] != ((volatile unsigned char *)at)[i]) differences++;
        }
        close(file);
    }
    return differences;
}
#endif

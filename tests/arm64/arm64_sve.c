/* arm64_sve: fills a long vector and a predicate, executes an instruction which a probe must run out of line, and adds the vector up: "sum S". */
#include "target.h"
#include <sys/auxv.h>

__asm__(".text\n.arch armv8.2-a+sve\n.p2align 4\n.globl fill\n.type fill, %function\n"
    "fill: ptrue p0.b\n mov z0.b, #5\n mrs x1, nzcv\n uaddv d0, p0, z0.b\n fmov x0, d0\n ret\n.size fill, .-fill\n");
long fill(void);

int main(void)
{
    int has = getauxval(AT_HWCAP) >> 22 & 1;
    target_ready();
    target_wait();
    target_say("sve %d", has);
    target_say("checksum %ld", has ? fill() : 0);
    target_wait();
    return target_end(0);
}

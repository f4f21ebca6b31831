/* dof: probes described by DOF (.SUNW_dof), written by hand as a linker lays it out. Commands: go N, dof (prints its bytes), put OFFSET HEX, quit. */
#include "target.h"

static long asked, fired, plain_calls;

/* The test is a real one: an instruction that sets the result register to 0, and a branch on it. */
PROBED long work(const char *name, long n)
{
    long wanted;
    __asm__ volatile(".globl dof_ask\ndof_ask: xorl %%eax, %%eax\n mov %%rax, %0" : "=r"(wanted) : : "rax", "cc");
    asked++;
    if (wanted) {
        fired += wanted;
        __asm__ volatile(".globl dof_site\ndof_site: nop" : : "D"(name), "S"(n), "d"(n * 3));
    }
    return n * 2;
}

PROBED long plain(long n)
{
    plain_calls++;
    __asm__ volatile(".globl dof_plain\ndof_plain: nop" : : "D"(n));
    return n + 1;
}

#define SECTION(type, align, entry, start, end) ".4byte " #type ", " #align ", 1, " #entry "\n.8byte " start " - dof_begin, " end " - " start "\n"

/* The addresses of the probes are relative to where they stand, and relocated so (DOF_RELO_DOREL). */
__asm__(".pushsection .SUNW_dof,\"aw\",@progbits\n.balign 8\n.globl dof_begin\ndof_begin:\n"
        ".byte 0x7f, 'D', 'O', 'F', 2, 1, 2, 2, 8, 8, 0, 0, 0, 0, 0, 0\n"
        ".4byte 0, 64, 32, 8\n.8byte 64, dof_end - dof_begin, dof_end - dof_begin, 0\n"
        SECTION(8, 1, 0, "dof_strings", "dof_strings_end")
        SECTION(16, 8, 48, "dof_probes", "dof_probes_end")
        SECTION(17, 1, 1, "dof_map", "dof_map_end")
        SECTION(18, 4, 4, "dof_offsets", "dof_offsets_end")
        SECTION(26, 4, 4, "dof_tests", "dof_tests_end")
        SECTION(15, 4, 0, "dof_provider", "dof_provider_end")
        SECTION(10, 8, 24, "dof_relocations", "dof_relocations_end")
        SECTION(12, 4, 0, "dof_header", "dof_header_end")
        "dof_strings: .byte 0\n"
        "1: .asciz \"hand\"\n2: .asciz \"work\"\n3: .asciz \"work-start\"\n4: .asciz \"plain\"\n5: .asciz \"plain-call\"\n"
        "6: .asciz \"char *\"\n .asciz \"long\"\n .asciz \"unsigned long\"\n7: .asciz \"long\"\n .asciz \"string\"\ndof_strings_end:\n"
        ".balign 8\ndof_probes:\n"
        "10: .8byte work - .\n.4byte 2b - dof_strings, 3b - dof_strings, 6b - dof_strings, 7b - dof_strings, 0, 0\n.byte 3, 2\n.2byte 1\n.4byte 0\n.2byte 1, 0\n.4byte 0\n"
        "11: .8byte plain - .\n.4byte 4b - dof_strings, 5b - dof_strings, 0, 0, 2, 1\n.byte 0, 0\n.2byte 1\n.4byte 1\n.2byte 0, 0\n.4byte 0\n"
        "dof_probes_end:\n"
        "dof_map: .byte 1, 0\ndof_map_end:\n"
        ".balign 4\ndof_offsets: .4byte dof_site - work, dof_plain - plain\ndof_offsets_end:\n"
        "dof_tests: .4byte dof_ask - work\ndof_tests_end:\n"
        "dof_provider: .4byte 0, 1, 2, 3, 1b - dof_strings, " "0x05050400, 0x01010000, 0x01010000, 0x05050400, 0x05050400, 4\ndof_provider_end:\n"
        ".balign 8\ndof_relocations:\n"
        ".4byte 2b - dof_strings, 2\n.8byte 10b - dof_probes, 0\n"
        ".4byte 4b - dof_strings, 2\n.8byte 11b - dof_probes, 0\ndof_relocations_end:\n"
        "dof_header: .4byte 0, 6, 1\ndof_header_end:\n"
        "dof_end:\n.popsection\n");
extern unsigned char dof_begin[], dof_end[];

int main(void)
{
    static char line[16384], text[16384];
    static const char *const names[] = { "one", "two", "three" };
    target_ready();
    while (target_command(line, sizeof line) && strcmp(line, "quit") != 0) {
        int offset = 0, used = 0;
        if (strncmp(line, "go ", 3) == 0) {
            asked = fired = plain_calls = 0;
            for (long n = 0; n < atol(line + 3); n++) {
                if (work(names[n % 3], n) != n * 2) target_fail("work");
                if (plain(n) != n + 1) target_fail("plain");
            }
            target_say("count asked %ld", asked);
            target_say("count fired %ld", fired);
            target_say("count plain %ld", plain_calls);
        } else if (strcmp(line, "dof") == 0) {
            for (unsigned char *p = dof_begin; p < dof_end; p++) sprintf(text + 2 * (p - dof_begin), "%02x", *p);
            dprintf(1, "dof %s\n", text);
        } else if (sscanf(line, "put %d %n", &offset, &used) == 1) {
            for (unsigned value; sscanf(line + used, "%2x", &value) == 1 && dof_begin + offset < dof_end; used += 2) dof_begin[offset++] = (unsigned char)value;
            target_say("count put %d", offset);
        }
    }
    return target_end(0);
}

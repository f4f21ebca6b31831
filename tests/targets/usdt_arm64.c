/* Static probes of arm64, for a library that is only read, never run: the forms of operands that GCC writes for it. Built with -nostdlib. */
#define PROBE(name, arguments, ...) \
    __asm__ volatile("990: nop\n" \
        ".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n992: .balign 4\n" \
        "993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte 0\n.asciz \"cross\"\n.asciz \"" name "\"\n.asciz \"" arguments "\"\n994: .balign 4\n.popsection\n" \
        ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n.weak _.stapsdt.base\n.hidden _.stapsdt.base\n" \
        "_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n.endif\n" : : __VA_ARGS__)


void general(signed char a, unsigned char b, short c, unsigned short d, int e, unsigned f, long g, unsigned long h)
{
    PROBE("general", "-1@%w0 1@%w1 -2@%w2 2@%w3 -4@%w4 4@%w5 -8@%x6 8@%x7", "r"(a), "r"(b), "r"(c), "r"(d), "r"(e), "r"(f), "r"(g), "r"(h));
    PROBE("constant", "-4@%0 8@%1", "n"(-5), "n"(1000));
}

__attribute__((visibility("hidden"))) int hidden_int = 3;
void low(void)
{
    PROBE("low", "-4@%0", "m"(hidden_int));
}

void floating(float a, double b)
{
    PROBE("floating", "4f@%s0 8f@%d1 16@%q1", "w"(a), "w"(b));
}

void memory(long *table, long index, int narrow)
{
    volatile long local[4] = { index, 2, 3, 4 };
    PROBE("stack", "8@%0 8@%1", "m"(local[1]), "m"(local[2]));
    PROBE("base", "8@%0 -4@%1", "m"(*table), "m"(((int *)table)[4]));
    PROBE("index", "8@%0", "m"(table[index]));
    PROBE("extended", "8@%0", "m"(table[narrow]));
    PROBE("unsigned__extended", "8@%0", "m"(table[(unsigned)narrow]));
    PROBE("bytes", "1@%0", "m"(((char *)table)[index]));
}

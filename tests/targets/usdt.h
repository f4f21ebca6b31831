/* Static probes: the notes that tools read, written by hand, so that each form of argument can be had on purpose. */
#ifndef USDT_H
#define USDT_H
#include "target.h"

/* .note.stapsdt version 3: location, base, semaphore, provider, name, arguments. SITE is a local label before the instruction. */
#define USDT_NOTE_OF(site, provider, name, semaphore, arguments) \
    ".pushsection .note.stapsdt,\"\",\"note\"\n" \
    ".balign 4\n" \
    ".4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n" \
    "992: .balign 4\n" \
    "993: .8byte " site "\n" \
    ".8byte _.stapsdt.base\n" \
    ".8byte " semaphore "\n" \
    ".asciz \"" provider "\"\n" \
    ".asciz \"" name "\"\n" \
    ".asciz \"" arguments "\"\n" \
    "994: .balign 4\n" \
    ".popsection\n" \
    ".ifndef _.stapsdt.base\n" \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n" \
    ".hidden _.stapsdt.base\n" \
    "_.stapsdt.base: .space 1\n" \
    ".size _.stapsdt.base, 1\n" \
    ".popsection\n" \
    ".endif\n"

/* A probe at a nop of its own; the rest are operands of the asm statement. */
#define USDT(name, arguments, ...) \
    __asm__ volatile("990: nop\n" USDT_NOTE_OF("990b", "fasttrap_test", name, "0", arguments) : : __VA_ARGS__)

#define USDT_GUARDED(name, semaphore, arguments, ...) \
    __asm__ volatile("990: nop\n" USDT_NOTE_OF("990b", "fasttrap_test", name, #semaphore, arguments) : : __VA_ARGS__)

#define USDT_SEMAPHORE(semaphore) \
    __attribute__((section(".probes"), visibility("hidden"), used)) volatile unsigned short semaphore
#endif

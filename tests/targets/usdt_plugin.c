/* A library with a static probe behind a semaphore, for usdtloads. */
#include "usdt.h"

USDT_SEMAPHORE(plugin_semaphore);

volatile unsigned short *plugin_counter(void) { return &plugin_semaphore; }

PROBED int plugin_work(long n)
{
    if (__builtin_expect(plugin_semaphore != 0, 0)) {
        USDT_GUARDED("in__library", plugin_semaphore, "-8@%0", "r"(n));
        return 1;
    }
    return 0;
}

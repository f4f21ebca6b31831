/* What storm loads and unloads. */
#include "target.h"

PROBED int plugin_hot(int value, long *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
    return value + 7;
}

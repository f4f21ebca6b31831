/* The tracepoint trampolines:hit of LTTng-UST with two fields, for trampolines.c. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER trampolines
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng_hit.h"

#if !defined(LTTNG_HIT_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define LTTNG_HIT_H
#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(
    trampolines, hit,
    LTTNG_UST_TP_ARGS(long, value, long, other),
    LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(long, value, value) lttng_ust_field_integer(long, other, other)))
#endif

#include <lttng/tracepoint-event.h>

/* Activity buffers for CUPTI: given out when it asks, kept in a list when they come back. CUPTI's callbacks carry no user
 * pointer and run on its own thread: this list is the one state that the plug-in shares. No lock is held while CUPTI is
 * called. */
#ifndef PB_HARNESS_PROFILE_CUPTI_BUFFERS_H
#define PB_HARNESS_PROFILE_CUPTI_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct pb_cupti_buffer {
    struct pb_cupti_buffer *next;
    uint8_t *data;
    size_t valid;
} pb_cupti_buffer;

pb_status pb_cupti_buffers_register(void);
/* Those that came back, in their order; the caller's. */
pb_cupti_buffer *pb_cupti_buffers_take(void);
void pb_cupti_buffers_free(pb_cupti_buffer *list);
/* Records lost since the last time: reading resets the count. */
uint64_t pb_cupti_buffers_dropped(void);

#endif

/* Time of calls on a device with a queue of its own (pb_device_queues): between two events in that queue, by its own clock. A
 * host's clock around a call and a wait would time the wait. Test: tests/test_cuda_kernels.c. */
#ifndef PB_HARNESS_QUEUE_TIME_H
#define PB_HARNESS_QUEUE_TIME_H

#include "kernels/ops.h"

typedef struct pb_queue_clock {
    pb_event *begin, *end;
} pb_queue_clock;

pb_status pb_queue_clock_new(pb_device *dev, pb_queue_clock *out); /* free also after a failure */
void pb_queue_clock_free(pb_queue_clock *clock);

/* Nanoseconds from before the first to behind the last operation that `calls` enqueues. They are handed over as one, so that
 * the device never waits for the host between them: from the second time on as a graph, where there are some. Waits. */
pb_status pb_queue_time(pb_device *dev, const pb_queue_clock *clock, pb_status (*calls)(void *user),
                        void *user, double *ns);

/* Nanoseconds of one of `n` calls of an op in a row. */
pb_status pb_queue_time_op(pb_device *dev, const pb_queue_clock *clock, pb_op op, const void *args, int n,
                           double *ns);

#endif

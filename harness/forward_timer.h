/* One timed forward pass without training, and how its times stand in a record: of a trained run's grid
 * (trainer_latency.c) and of rows side by side (latency.c). */
#ifndef PB_HARNESS_FORWARD_TIMER_H
#define PB_HARNESS_FORWARD_TIMER_H

#include "harness/trainer_session.h"
#include "results/record.h"

typedef struct pb_forward_timer {
    pb_session *session;
    pb_batch_buffers buffers;
    pb_event *begin, *end;
} pb_forward_timer;

/* Room for batches within `bounds`, in the session's arenas; the session must outlive it. Close it with
 * pb_forward_timer_close also behind an error. */
pb_status pb_forward_timer_open(pb_forward_timer *f, pb_session *session,
                                const pb_loader_bounds *bounds);
void pb_forward_timer_close(pb_forward_timer *f);

/* Loads the batch, which is not timed, and runs the model over it. *seconds: of the pass on the device;
 * *flops (NULL = not asked): what its operations did. */
pb_status pb_forward_timer_pass(pb_forward_timer *f, const pb_host_batch *batch, double *seconds,
                                double *flops);

/* The sample WHAT/infer/FORM@shape=BATCHxLENGTH of n values ("time": seconds; "ratio": over another form's),
 * and its median as a metric. */
pb_status pb_forward_record(pb_record *r, const char *what, const char *form, int64_t batch,
                            int64_t length, const double *values, int64_t n);

#endif

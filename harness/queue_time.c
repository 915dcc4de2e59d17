/* See queue_time.h. */
#include "harness/queue_time.h"

pb_status pb_queue_clock_new(pb_device *dev, pb_queue_clock *out) {
    *out = (pb_queue_clock){0};
    PB_RETURN(pb_event_new(dev, &out->begin));
    return pb_event_new(dev, &out->end);
}

void pb_queue_clock_free(pb_queue_clock *clock) {
    pb_event_free(clock->begin);
    pb_event_free(clock->end);
    *clock = (pb_queue_clock){0};
}

static pb_status between(const pb_queue_clock *clock, pb_status (*calls)(void *user), void *user) {
    PB_RETURN(pb_event_record(clock->begin));
    PB_RETURN(calls(user));
    return pb_event_record(clock->end);
}

pb_status pb_queue_time(pb_device *dev, const pb_queue_clock *clock, pb_status (*calls)(void *user),
                        void *user, double *ns) {
    PB_RETURN(pb_device_step_begin_whole(dev));
    pb_status status = between(clock, calls, user), ended = pb_device_step_end(dev);
    PB_RETURN(status);
    PB_RETURN(ended);
    return pb_event_elapsed(clock->begin, clock->end, ns);
}

typedef struct op_calls {
    pb_device *dev;
    pb_op op;
    const void *args;
    int n;
} op_calls;

static pb_status run_calls(void *user) {
    const op_calls *c = user;
    for (int i = 0; i < c->n; i++) PB_RETURN(pb_op_run(c->dev, c->op, c->args));
    return PB_OK;
}

pb_status pb_queue_time_op(pb_device *dev, const pb_queue_clock *clock, pb_op op, const void *args, int n,
                           double *ns) {
    op_calls c = {dev, op, args, n};
    PB_RETURN(pb_queue_time(dev, clock, run_calls, &c, ns));
    *ns /= n;
    return PB_OK;
}

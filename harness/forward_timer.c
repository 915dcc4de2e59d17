/* A forward pass between two events. Test: tests/test_latency.c, tests/test_instruments.c. */
#include "harness/forward_timer.h"

#include <inttypes.h>
#include <stdio.h>

#include "harness/trainer_impl.h"

pb_status pb_forward_timer_open(pb_forward_timer *f, pb_session *session,
                                const pb_loader_bounds *bounds) {
    *f = (pb_forward_timer){.session = session};
    PB_RETURN(pb_batch_buffers_new(session, bounds, &f->buffers));
    PB_RETURN(pb_event_new(session->dev, &f->begin));
    return pb_event_new(session->dev, &f->end);
}

void pb_forward_timer_close(pb_forward_timer *f) {
    pb_event_free(f->begin);
    pb_event_free(f->end);
    *f = (pb_forward_timer){0};
}

pb_status pb_forward_timer_pass(pb_forward_timer *f, const pb_host_batch *batch, double *seconds,
                                double *flops) {
    pb_session *s = f->session;
    pb_pass pass = pb_session_eval_pass(s);
    pb_batch on_device;
    double ns = 0.0, before = 0.0;
    PB_RETURN(pb_batch_put(s, &f->buffers, batch, &on_device));
    pb_tensor out = pb_first(f->buffers.loss, pb_batch_targets(s, batch));
    if (flops) before = pb_device_work(s->dev).flops;
    PB_RETURN(pb_event_record(f->begin));
    PB_RETURN(pb_model_forward(s->model, &pass, &on_device, out, (pb_tensor){0}));
    PB_RETURN(pb_event_record(f->end));
    PB_RETURN(pb_event_elapsed(f->begin, f->end, &ns));
    *seconds = ns * 1e-9;
    if (flops) *flops = pb_device_work(s->dev).flops - before;
    return PB_OK;
}

pb_status pb_forward_record(pb_record *r, const char *what, const char *form, int64_t batch,
                            int64_t length, const double *values, int64_t n) {
    char sample[96], metric[96];
    snprintf(sample, sizeof sample, "%s/infer/%s@shape=%" PRId64 "x%" PRId64, what, form, batch,
             length);
    snprintf(metric, sizeof metric, "%s/infer/%s/median@shape=%" PRId64 "x%" PRId64, what, form, batch,
             length);
    PB_RETURN(pb_record_sample(r, sample, values, n));
    return pb_record_derived(r, metric, "median", sample);
}

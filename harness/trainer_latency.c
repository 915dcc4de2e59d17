/* Latency over batch x length: forward passes over random sequences of one length, with the method's
 * hooks and without them, in turns, so that drift of the machine hits both alike; the ratio is taken
 * turn by turn for the same reason. Without hooks the same weights pass through the model's own code:
 * the base model's time. Test: tests/test_trainer.c. */
#include <stdio.h>
#include <stdlib.h>

#include "harness/forward_timer.h"
#include "harness/trainer_impl.h"

typedef struct shape_pass {
    pb_trainer *t;
    const pb_infer_shape *shape;
    pb_synthetic data;
    pb_forward_timer timer;
    bool *hooked; /* of each site */
    double *seconds[2]; /* without hooks, with them; pb_run_shape_repeats each */
    double *ratios; /* of the two passes of a turn, with over without */
} shape_pass;

enum { WITHOUT, WITH };

static void set_hooks(shape_pass *p, bool on) {
    int n = 0;
    pb_site *sites = pb_model_sites(p->t->session.model, &n);
    for (int i = 0; i < n; i++) sites[i].hooked = on && p->hooked[i];
}

static pb_status shape_new(shape_pass *p) {
    pb_session *s = &p->t->session;
    int n = 0;
    const pb_site *sites = pb_model_sites(s->model, &n);
    size_t repeats = (size_t)pb_run_shape_repeats(p->t->run);
    p->hooked = calloc((size_t)n + 1, sizeof *p->hooked);
    p->seconds[WITHOUT] = calloc(repeats, sizeof(double));
    p->seconds[WITH] = calloc(repeats, sizeof(double));
    p->ratios = calloc(repeats, sizeof(double));
    if (!p->hooked || !p->seconds[WITHOUT] || !p->seconds[WITH] || !p->ratios)
        return PB_ERROR(PB_E_OOM, "no host memory for %zu times", repeats);
    for (int i = 0; i < n; i++) p->hooked[i] = sites[i].hooked;
    PB_RETURN(pb_synthetic_new(s->spec.config, s->spec.model.classes, p->shape->batch,
                               p->shape->length, p->shape->length, p->t->run->seed, &p->data));
    const pb_host_batch *hb = &p->data.batch;
    pb_loader_bounds bounds = {.rows = hb->rows,
                               .sequences = hb->sequences,
                               .max_len = hb->max_len,
                               .targets = hb->targets};
    return pb_forward_timer_open(&p->timer, s, &bounds);
}

static void shape_free(shape_pass *p) {
    if (p->hooked) set_hooks(p, true);
    pb_forward_timer_close(&p->timer);
    pb_synthetic_free(&p->data);
    free(p->hooked);
    free(p->seconds[WITHOUT]);
    free(p->seconds[WITH]);
    free(p->ratios);
}

static pb_status pass_once(shape_pass *p, int which, double *seconds) {
    set_hooks(p, which == WITH);
    return pb_forward_timer_pass(&p->timer, &p->data.batch, seconds, NULL);
}

static pb_status record_times(const shape_pass *p, const char *form, int which) {
    return pb_forward_record(p->t->record, "time", form, p->shape->batch, p->shape->length,
                             p->seconds[which], pb_run_shape_repeats(p->t->run));
}

/* Each pass against its neighbour in time. On a shared machine the median of these ratios moves a third
 * as much between processes as the ratio of two medians: both passes of a turn meet the same weather. */
static pb_status record_ratios(const shape_pass *p, const char *form) {
    int64_t n = pb_run_shape_repeats(p->t->run);
    for (int64_t i = 0; i < n; i++) p->ratios[i] = p->seconds[WITH][i] / p->seconds[WITHOUT][i];
    return pb_forward_record(p->t->record, "ratio", form, p->shape->batch, p->shape->length, p->ratios, n);
}

static pb_status time_shape(pb_trainer *t, const pb_infer_shape *shape, bool merged) {
    pb_status status = PB_OK;
    shape_pass p = {.t = t, .shape = shape};
    double unused;
    pb_mark mark = pb_device_mark(t->session.dev, PB_MEM_DATA);
    PB_TRY(shape_new(&p));
    for (int which = WITHOUT; which <= WITH; which++) PB_TRY(pass_once(&p, which, &unused));
    for (int64_t i = 0, n = pb_run_shape_repeats(t->run); i < n; i++) {
        int first = (int)(i % 2); /* who comes first changes, too */
        PB_TRY(pb_trainer_stopped(t, "latency"));
        PB_TRY(pass_once(&p, first, &p.seconds[first][i]));
        PB_TRY(pass_once(&p, 1 - first, &p.seconds[1 - first][i]));
    }
    PB_TRY(record_times(&p, merged ? "merged" : "unmerged", WITH));
    PB_TRY(record_times(&p, merged ? "base_merged" : "base", WITHOUT));
    PB_TRY(record_ratios(&p, merged ? "merged" : "unmerged"));
done:
    shape_free(&p);
    pb_device_rewind(t->session.dev, PB_MEM_DATA, mark);
    return status;
}

pb_status pb_trainer_latency_grid(pb_trainer *t) {
    pb_status status = PB_OK;
    const pb_method *method = t->run->method;
    pb_session *s = &t->session;
    int n = t->run->n_infer_shapes;
    if (n == 0 || pb_run_shape_repeats(t->run) < 1) return PB_OK;
    for (int i = 0; i < n; i++) {
        pb_trainer_progress(t, "time", i, n, 0.0, false);
        PB_RETURN(time_shape(t, &t->run->infer_shapes[i], false));
    }
    if (!method->mergeable || method->merge == NULL || method->unmerge == NULL) return PB_OK;
    PB_RETURN(method->merge(s->self, s->dev));
    for (int i = 0; i < n && status == PB_OK; i++)
        status = time_shape(t, &t->run->infer_shapes[i], true);
    pb_status back = method->unmerge(s->self, s->dev);
    PB_RETURN(status);
    return back;
}

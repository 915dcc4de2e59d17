/* How training changes the query matrices: the two figures of Liu et al. 2024 (arXiv 2402.09353, section
 * 3.2). The weight that a pass sees (base and adapter in one, by the method's own merge) is compared on
 * the host with the one before training. Neither training nor its time and memory change: merged sites
 * get their bits back, and the arenas' peaks are set aside. Test: tests/test_instruments.c. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/text.h"
#include "harness/trainer_impl.h"
#include "methods/merge.h"

/* The paper writes columns of a d x k matrix, its authors' code takes the norm over the input: one vector,
 * and one magnitude, for each output feature, as methods/method_dora.c has them. That is a row here. For
 * unit vectors u, v: 1 - cos = |u - v|^2 / 2, which does not cancel where they are close. */
void pb_weight_change(const double *before, const double *after, int64_t out, int64_t in,
                      double *magnitude, double *direction) {
    *magnitude = *direction = 0.0;
    for (int64_t i = 0; i < out; i++) {
        const double *a = before + i * in, *b = after + i * in;
        double a2 = 0.0, b2 = 0.0, turn2 = 0.0;
        for (int64_t k = 0; k < in; k++) {
            a2 += a[k] * a[k];
            b2 += b[k] * b[k];
        }
        double norm_a = sqrt(a2), norm_b = sqrt(b2);
        *magnitude += fabs(norm_b - norm_a) / (double)out;
        if (norm_a == 0.0 || norm_b == 0.0) continue; /* zeros have no direction */
        for (int64_t k = 0; k < in; k++) {
            double d = b[k] / norm_b - a[k] / norm_a;
            turn2 += d * d;
        }
        *direction += turn2 / 2.0 / (double)out;
    }
}

static bool merges(const pb_trainer *t, const pb_site *site) {
    const pb_method *method = t->run->method;
    return site->kind == PB_SITE_LINEAR && site->hooked && method->mergeable &&
           method->merge != NULL && method->unmerge != NULL;
}

static bool counts(const pb_trainer *t, const pb_site *site) {
    return site->kind == PB_SITE_LINEAR && pb_glob("*.attn.q", site->name) &&
           (merges(t, site) || site->weight->trainable);
}

/* Room for every checkpoint, and the weights before training. */
static pb_status open_log(pb_trainer *t, const pb_site *sites, int n) {
    pb_weight_log *log = &t->weights;
    log->site = calloc((size_t)n, sizeof *log->site);
    log->before = calloc((size_t)n, sizeof *log->before);
    bool ok = log->site != NULL && log->before != NULL;
    for (int i = 0; i < n && ok; i++) {
        if (!counts(t, &sites[i])) continue;
        double *w = malloc((size_t)(sites[i].out * sites[i].in) * sizeof *w);
        ok = w != NULL;
        log->site[log->n_sites] = &sites[i];
        log->before[log->n_sites++] = w;
        if (ok) PB_RETURN(pb_param_get(pb_model_params(t->session.model), sites[i].weight, w));
    }
    log->cap = log->n_sites * (t->steps / t->run->weights + 1);
    for (int k = 0; k < PB_WEIGHTS_COUNT && ok; k++) {
        log->value[k] = calloc((size_t)log->cap + 1, sizeof(double));
        ok = log->value[k] != NULL;
    }
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no host memory for the weights before training");
}

pb_status pb_trainer_weights_before(pb_trainer *t) {
    int n = 0;
    const pb_site *sites = pb_model_sites(t->session.model, &n);
    if (t->run->weights < 1) return PB_OK;
    PB_RETURN(open_log(t, sites, n));
    if (t->weights.n_sites == 0)
        return pb_record_warn(t->record, "%s changes no query matrix: no change of weights measured",
                              t->run->method->title);
    if (t->weights.site[0]->weight->trainable ||
        (t->run->dtype != PB_BF16 && !t->session.spec.model.storage.quantised))
        return PB_OK;
    return pb_record_warn(t->record, "merged weights are rounded as they are stored: their change holds"
                                     " that rounding (f32 weights have almost none)");
}

static pb_status compare(pb_trainer *t, int64_t step) {
    pb_status status = PB_OK;
    pb_weight_log *log = &t->weights;
    double *w = NULL;
    for (int i = 0; i < log->n_sites && log->n < log->cap; i++) {
        const pb_site *site = log->site[i];
        free(w);
        w = malloc((size_t)(site->out * site->in) * sizeof *w);
        if (w == NULL) PB_FAIL(PB_E_OOM, "no host memory for the weight of %s", site->name);
        PB_TRY(pb_param_get(pb_model_params(t->session.model), site->weight, w));
        log->value[PB_WEIGHTS_STEP][log->n] = (double)step;
        log->value[PB_WEIGHTS_LAYER][log->n] = (double)site->layer;
        pb_weight_change(log->before[i], w, site->out, site->in,
                         &log->value[PB_WEIGHTS_MAGNITUDE][log->n],
                         &log->value[PB_WEIGHTS_DIRECTION][log->n]);
        log->n++;
    }
done:
    free(w);
    return status;
}

/* What a method folds in by addition it takes out up to rounding only: every site that it may touch is
 * kept and put back. */
static pb_status compare_merged(pb_trainer *t, int64_t step) {
    pb_status status = PB_OK;
    pb_device *dev = t->session.dev;
    const pb_method *method = t->run->method;
    int n = 0;
    const pb_site *sites = pb_model_sites(t->session.model, &n);
    pb_kept_weight *kept = calloc((size_t)n, sizeof *kept);
    pb_mark mark = pb_device_mark(dev, PB_MEM_WORK);
    if (kept == NULL) PB_FAIL(PB_E_OOM, "no host memory for %d kept weights", n);
    for (int i = 0; i < n; i++)
        if (merges(t, &sites[i])) PB_TRY(pb_weight_keep(dev, pb_site_weight(&sites[i]), &kept[i]));
    PB_TRY(method->merge(t->session.self, dev));
    status = compare(t, step);
    pb_status undone = method->unmerge(t->session.self, dev);
    if (status == PB_OK) status = undone;
    for (int i = 0; i < n && status == PB_OK; i++)
        if (merges(t, &sites[i]))
            PB_TRY(pb_weight_restore(dev, pb_site_weight(&sites[i]), &kept[i]));
done:
    pb_device_rewind(dev, PB_MEM_WORK, mark);
    free(kept);
    return status;
}

/* The last variant stands for a method that has several, as in the curve of validations. */
static pb_status measure(pb_trainer *t, int64_t step) {
    const pb_method *method = t->run->method;
    void *self = t->session.self;
    int n = method->variants != NULL && method->select != NULL ? method->variants(self) : 1;
    if (t->weights.site[0]->weight->trainable) return compare(t, step);
    if (n > 1) PB_RETURN(method->select(self, n - 1));
    PB_RETURN(compare_merged(t, step));
    return n > 1 ? method->select(self, -1) : PB_OK;
}

pb_status pb_trainer_weights(pb_trainer *t, int64_t step) {
    if (t->weights.n_sites == 0 || ((step + 1) % t->run->weights != 0 && step + 1 != t->steps))
        return PB_OK;
    pb_trainer_take_peaks(t);
    pb_status status = measure(t, step + 1);
    pb_trainer_drop_peaks(t);
    return status;
}

pb_status pb_trainer_record_weights(pb_trainer *t) {
    static const char *const tags[PB_WEIGHTS_COUNT] = {"change/step", "change/layer",
                                                       "change/magnitude", "change/direction"};
    const pb_weight_log *log = &t->weights;
    if (log->n == 0) return PB_OK;
    for (int k = 0; k < PB_WEIGHTS_COUNT; k++)
        PB_RETURN(pb_record_sample(t->record, tags[k], log->value[k], log->n));
    double r = pb_correlation(log->value[PB_WEIGHTS_MAGNITUDE], log->value[PB_WEIGHTS_DIRECTION],
                              log->n);
    return pb_record_known(t->record, "change/correlation", r, log->n);
}

void pb_weight_log_free(pb_weight_log *log) {
    for (int i = 0; i < log->n_sites; i++) free(log->before[i]);
    for (int k = 0; k < PB_WEIGHTS_COUNT; k++) free(log->value[k]);
    free(log->before);
    free(log->site);
    *log = (pb_weight_log){0};
}

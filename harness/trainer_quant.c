/* What storing the base model in 4 bits loses: the relative error over all quantised weights, and
 * their size. */
#include <math.h>
#include <stdlib.h>

#include "harness/trainer_impl.h"

typedef struct sums {
    double error2, plain2, bytes, elements;
} sums;

static double bytes_of(const pb_quant4 *q) {
    const pb_tensor parts[] = {q->codes, q->absmax, q->absmax_q, q->absmax2, q->offset};
    double bytes = 0.0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (pb_has(parts[i])) bytes += (double)pb_bytes(parts[i]);
    return bytes;
}

static pb_status compare(pb_params *ours, const pb_param *p, pb_params *plain, sums *s) {
    pb_status status = PB_OK;
    int64_t n = p->dim[0] * p->dim[1];
    double *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
    const pb_param *original = pb_params_find(plain, p->name);
    if (a == NULL || b == NULL) PB_FAIL(PB_E_OOM, "no host memory to compare %s", p->name);
    if (original == NULL) PB_FAIL(PB_E_BUG, "%s is in no plain model", p->name);
    PB_TRY(pb_param_get(ours, p, a));
    PB_TRY(pb_param_get(plain, original, b));
    for (int64_t i = 0; i < n; i++) {
        s->error2 += (a[i] - b[i]) * (a[i] - b[i]);
        s->plain2 += b[i] * b[i];
    }
    s->bytes += bytes_of(p->quant);
    s->elements += (double)n;
done:
    free(a);
    free(b);
    return status;
}

static pb_status record(pb_trainer *t, const sums *s) {
    if (!(s->plain2 > 0.0)) return PB_OK;
    PB_RETURN(pb_record_known(t->record, "quant/error", sqrt(s->error2 / s->plain2),
                              (int64_t)s->elements));
    return pb_record_known(t->record, "quant/bits", 8.0 * s->bytes / s->elements,
                           (int64_t)s->elements);
}

pb_status pb_trainer_quant(pb_trainer *t) {
    pb_status status = PB_OK;
    pb_device *dev = NULL;
    pb_model *model = NULL;
    sums s = {0};
    pb_model_options options = t->session.spec.model;
    pb_device_options device = {.threads = t->options->threads};
    if (!options.storage.quantised) return PB_OK;
    options.storage = (pb_storage){0};
    options.dtype = PB_F32;
    PB_TRY(pb_device_open(t->run->device, &device, &dev));
    PB_TRY(pb_model_new(dev, &t->assets->config, &options, t->assets->weights, &model));
    pb_params *ours = pb_model_params(t->session.model);
    for (int i = 0; i < pb_params_count(ours); i++) {
        const pb_param *p = pb_params_at(ours, i);
        if (p->quant != NULL) PB_TRY(compare(ours, p, pb_model_params(model), &s));
    }
    PB_TRY(record(t, &s));
done:
    pb_model_free(model);
    pb_device_close(dev);
    return status;
}

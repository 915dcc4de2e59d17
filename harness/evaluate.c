/* Evaluation in order of the split, in larger batches than training. Test: tests/test_trainer.c. */
#include "harness/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static pb_loader_options in_order(int64_t batch) {
    return (pb_loader_options){.batch = batch, .shuffle = false, .row_round = PB_ROW_ROUND};
}

/* Batches that hold the first `limit` examples. */
static int64_t batches_for(const pb_loader *loader, int64_t limit, int64_t batch) {
    int64_t all = pb_loader_batches(loader), need = (limit + batch - 1) / batch;
    return limit > 0 && need < all ? need : all;
}

pb_status pb_eval_bounds(const pb_dataset *data, pb_split_id split, int64_t limit, int64_t batch,
                         pb_loader_bounds *bounds) {
    pb_status status = PB_OK;
    pb_loader *loader = NULL;
    *bounds = (pb_loader_bounds){0};
    if (pb_dataset_size(data, split) == 0) return PB_OK;
    pb_loader_options options = in_order(batch);
    PB_TRY(pb_loader_new(data, split, &options, &loader));
    PB_TRY(pb_loader_bound(loader, batches_for(loader, limit, batch), bounds));
done:
    pb_loader_free(loader);
    return status;
}

pb_status pb_eval_batch(pb_session *s, const pb_batch_buffers *buffers, pb_tensor pred,
                        const pb_host_batch *hb, double *loss, int32_t *predicted) {
    int64_t targets = pb_batch_targets(s, hb);
    if (targets == 0) return PB_OK;
    pb_pass pass = pb_session_eval_pass(s);
    pb_batch batch;
    PB_RETURN(pb_batch_put(s, buffers, hb, &batch));
    pb_tensor out = pb_first(buffers->loss, targets),
              best = pb_has(pred) ? pb_first(pred, targets) : pred;
    PB_RETURN(pb_model_forward(s->model, &pass, &batch, out, best));
    if (loss != NULL) PB_RETURN(pb_device_get_f64(s->dev, loss, out));
    if (predicted != NULL) PB_RETURN(pb_device_get(s->dev, predicted, best, pb_bytes(best)));
    return PB_OK;
}

/* What one evaluation holds besides its result. */
typedef struct work {
    pb_loader *loader;
    pb_batch_buffers buffers;
    pb_tensor pred;
    double *loss;
    int32_t *predicted;
} work;

static void work_free(work *w) {
    pb_loader_free(w->loader);
    free(w->loss);
    free(w->predicted);
}

static pb_status work_new(pb_session *s, const pb_dataset *data, const pb_eval_options *o, work *w,
                          int64_t *n_batches) {
    pb_loader_options options = in_order(o->batch);
    pb_loader_bounds bounds;
    PB_RETURN(pb_loader_new(data, o->split, &options, &w->loader));
    *n_batches = batches_for(w->loader, o->limit, o->batch);
    PB_RETURN(pb_loader_bound(w->loader, *n_batches, &bounds));
    size_t targets =
        (size_t)(bounds.targets > bounds.sequences ? bounds.targets : bounds.sequences);
    w->loss = malloc(targets * sizeof *w->loss);
    w->predicted = malloc(targets * sizeof *w->predicted);
    if (w->loss == NULL || w->predicted == NULL) {
        return PB_ERROR(PB_E_OOM, "no host memory for %zu predictions", targets);
    }
    PB_RETURN(pb_batch_buffers_new(s, &bounds, &w->buffers));
    return pb_alloc1(s->dev, PB_MEM_DATA, PB_I32, (int64_t)targets, &w->pred);
}

/* Adds one batch's examples. Targets of a decoder lie in the order of their rows, sequence by
 * sequence. */
static pb_status add_examples(const pb_session *s, const pb_dataset *data, const pb_eval_options *o,
                              const work *w, const pb_host_batch *hb, pb_eval *e) {
    bool causal = s->spec.config->causal;
    int64_t t = 0, end = pb_batch_targets(s, hb);
    for (int64_t i = 0; i < hb->sequences; i++) {
        double nll = 0.0;
        int64_t correct = 0, n = 0;
        for (; t < end && (causal ? hb->loss_rows[t] < hb->cu[i + 1] : t == i); t++, n++) {
            nll += w->loss[t];
            correct += w->predicted[t] == hb->target[t];
        }
        const pb_example *x = pb_dataset_at(data, o->split, hb->example[i]);
        if (!isfinite(nll)) {
            return PB_ERROR(PB_E_DIVERGED, "the %s loss of example %" PRIu64 " is %g",
                            pb_split_name(o->split), x->id, nll);
        }
        if (n == 0 || (o->limit > 0 && hb->example[i] >= o->limit)) continue;
        e->id[e->n] = (double)x->id;
        e->nll[e->n] = nll / (double)n;
        e->correct[e->n] = (double)correct / (double)n;
        e->tokens[e->n++] = (double)n;
        e->mean_nll += nll; /* sums until finish() */
        e->mean_correct += (double)correct;
    }
    return PB_OK;
}

static void finish(pb_eval *e) {
    double tokens = 0.0;
    for (int64_t i = 0; i < e->n; i++) tokens += e->tokens[i];
    if (e->n == 0) return;
    e->mean_nll /= tokens;
    e->mean_correct /= tokens;
}

static pb_status result_new(int64_t n, pb_eval *e) {
    size_t size = (size_t)(n > 0 ? n : 1);
    *e = (pb_eval){0};
    e->id = calloc(size, sizeof(double));
    e->nll = calloc(size, sizeof(double));
    e->correct = calloc(size, sizeof(double));
    e->tokens = calloc(size, sizeof(double));
    if (e->id != NULL && e->nll != NULL && e->correct != NULL && e->tokens != NULL) return PB_OK;
    pb_eval_free(e);
    return PB_ERROR(PB_E_OOM, "no host memory for the evaluation of %" PRId64 " examples", n);
}

pb_status pb_evaluate(pb_session *s, const pb_dataset *data, const pb_eval_options *options,
                      pb_eval *out) {
    pb_status status = PB_OK;
    work w = {0};
    int64_t n_batches = 0;
    int64_t size = pb_dataset_size(data, options->split);
    pb_mark mark = pb_device_mark(s->dev, PB_MEM_DATA);
    PB_RETURN(result_new(size, out));
    if (size == 0) return PB_OK;
    PB_TRY(work_new(s, data, options, &w, &n_batches));
    for (int64_t i = 0; i < n_batches; i++) {
        const pb_host_batch *hb = NULL;
        if (options->stop != NULL && *options->stop != 0) {
            PB_FAIL(PB_E_INTERRUPTED, "stopped by signal %d during evaluation", *options->stop);
        }
        PB_TRY(pb_loader_batch(w.loader, i, &hb));
        PB_TRY(pb_eval_batch(s, &w.buffers, w.pred, hb, w.loss, w.predicted));
        PB_TRY(add_examples(s, data, options, &w, hb, out));
    }
    finish(out);
done:
    if (status != PB_OK) pb_eval_free(out);
    work_free(&w);
    pb_device_rewind(s->dev, PB_MEM_DATA, mark);
    return status;
}

void pb_eval_free(pb_eval *e) {
    free(e->id);
    free(e->nll);
    free(e->correct);
    free(e->tokens);
    *e = (pb_eval){0};
}

/* Forgetting: what training does to text that has nothing to do with the task. A decoder has a loss on it, before and
 * after. An encoder without a language-model head has none: there the sentence embeddings (mean-pooled last states) are
 * compared with those of the model before training: how far they turn, and how many of each text's nearest neighbours
 * stay. Neither enters time or training memory. Test: tests/test_forgetting.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/trainer_impl.h"

enum { NEIGHBOURS = 10 };

static pb_status loss_of(pb_trainer *t, const char *when) {
    pb_status status = PB_OK;
    char sample[96], metric[96];
    pb_eval e = {0};
    pb_eval_options o = {.split = PB_TEST,
                         .limit = t->run->general_examples,
                         .batch = t->run->eval_batch,
                         .stop = t->options->stop};
    PB_TRY(pb_evaluate(&t->session, t->assets->general, &o, &e));
    if (e.n == 0) {
        status = pb_record_warn(t->record, "the general text has no example to evaluate");
        goto done;
    }
    snprintf(sample, sizeof sample, "eval/general/nll/%s", when);
    snprintf(metric, sizeof metric, "quality/general/nll/%s", when);
    PB_TRY(pb_record_sample(t->record, sample, e.nll, e.n));
    PB_TRY(pb_record_known(t->record, metric, e.mean_nll, e.n));
    if (strcmp(when, "before") == 0) {
        t->general_nll = e.mean_nll;
        PB_TRY(pb_record_sample(t->record, "eval/general/id", e.id, e.n));
        PB_TRY(pb_record_sample(t->record, "eval/general/tokens", e.tokens, e.n));
        goto done;
    }
    PB_TRY(pb_record_known(t->record, "quality/general/nll/change", e.mean_nll - t->general_nll, e.n));
done:
    pb_eval_free(&e);
    return status;
}

/* ---- encoders ---- */

/* Rows of one batch, each of length 1, behind the n there are. */
static pb_status embed_batch(pb_trainer *t, const pb_batch_buffers *buffers, const pb_host_batch *hb,
                             pb_tensor features, double *out) {
    pb_session *s = &t->session;
    pb_pass pass = pb_session_eval_pass(s);
    int64_t C = t->assets->config.C;
    pb_batch batch;
    PB_RETURN(pb_batch_put(s, buffers, hb, &batch));
    pb_tensor rows = pb_rows_of(features, 0, hb->sequences);
    PB_RETURN(pb_model_features(s->model, &pass, &batch, rows));
    PB_RETURN(pb_device_get_f64(s->dev, out, rows));
    for (int64_t i = 0; i < hb->sequences; i++) {
        double sum = 0;
        for (int64_t c = 0; c < C; c++) sum += out[i * C + c] * out[i * C + c];
        for (int64_t c = 0; c < C && sum > 0; c++) out[i * C + c] /= sqrt(sum);
    }
    return PB_OK;
}

/* The embeddings of all examples in the order of the split; *out malloc'ed. */
static pb_status embed(pb_trainer *t, double **out, int64_t *n) {
    pb_status status = PB_OK;
    pb_session *s = &t->session;
    pb_loader *loader = NULL;
    pb_loader_bounds bounds;
    pb_batch_buffers buffers;
    pb_tensor features;
    int64_t size = pb_dataset_size(t->assets->general, PB_TEST), C = t->assets->config.C;
    pb_loader_options options = {.batch = t->run->eval_batch, .row_round = PB_ROW_ROUND};
    pb_mark mark = pb_device_mark(s->dev, PB_MEM_DATA);
    *n = 0;
    *out = calloc((size_t)(size * C) + 1, sizeof **out);
    if (!*out) PB_FAIL(PB_E_OOM, "no host memory for %lld embeddings", (long long)size);
    PB_TRY(pb_loader_new(t->assets->general, PB_TEST, &options, &loader));
    PB_TRY(pb_loader_bound(loader, pb_loader_batches(loader), &bounds));
    PB_TRY(pb_batch_buffers_new(s, &bounds, &buffers));
    PB_TRY(pb_alloc2(s->dev, PB_MEM_DATA, s->spec.model.dtype, bounds.sequences, C, &features));
    for (int64_t i = 0; i < pb_loader_batches(loader); i++) {
        const pb_host_batch *hb = NULL;
        PB_TRY(pb_trainer_stopped(t, "evaluation"));
        PB_TRY(pb_loader_batch(loader, i, &hb));
        PB_TRY(embed_batch(t, &buffers, hb, features, *out + *n * C));
        *n += hb->sequences;
    }
done:
    pb_loader_free(loader);
    pb_device_rewind(s->dev, PB_MEM_DATA, mark);
    if (status == PB_OK) return status;
    free(*out);
    *out = NULL;
    return status;
}

static double cosine(const double *a, const double *b, int64_t C) {
    double sum = 0;
    for (int64_t c = 0; c < C; c++) sum += a[c] * b[c];
    return sum;
}

/* The k nearest other rows of row i by cosine; of equal ones the first. */
static void nearest(const double *e, int64_t n, int64_t C, int64_t i, int k, int64_t *out) {
    double best[NEIGHBOURS];
    int have = 0;
    for (int64_t j = 0; j < n; j++) {
        if (j == i) continue;
        double x = cosine(e + i * C, e + j * C, C);
        int at = have;
        while (at > 0 && best[at - 1] < x) at--;
        if (at == k) continue;
        if (have < k) have++;
        for (int m = have - 1; m > at; m--) {
            best[m] = best[m - 1];
            out[m] = out[m - 1];
        }
        best[at] = x;
        out[at] = j;
    }
}

static double shared(const int64_t *a, const int64_t *b, int k) {
    int n = 0;
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) n += a[i] == b[j];
    return (double)n / (double)k;
}

static pb_status compare(pb_trainer *t, const double *was, const double *is, int64_t n) {
    pb_status status = PB_OK;
    int64_t C = t->assets->config.C, a[NEIGHBOURS], b[NEIGHBOURS];
    int k = n - 1 < NEIGHBOURS ? (int)(n - 1) : NEIGHBOURS;
    double *drift = calloc((size_t)n + 1, sizeof *drift), *kept = calloc((size_t)n + 1, sizeof *kept);
    if (!drift || !kept) PB_FAIL(PB_E_OOM, "no host memory to compare embeddings");
    for (int64_t i = 0; i < n; i++) {
        drift[i] = fmax(0, 1 - cosine(was + i * C, is + i * C, C));
        if (k < 1) continue;
        nearest(was, n, C, i, k, a);
        nearest(is, n, C, i, k, b);
        kept[i] = shared(a, b, k);
    }
    PB_TRY(pb_record_sample(t->record, "eval/general/drift", drift, n));
    PB_TRY(pb_record_derived(t->record, "quality/general/drift", "mean", "eval/general/drift"));
    if (k < 1) goto done;
    PB_TRY(pb_record_sample(t->record, "eval/general/neighbours", kept, n));
    PB_TRY(pb_record_derived(t->record, "quality/general/neighbours", "mean", "eval/general/neighbours"));
done:
    free(drift);
    free(kept);
    return status;
}

/* ---- both ---- */

pb_status pb_trainer_general_before(pb_trainer *t) {
    pb_status status = PB_OK;
    if (!t->assets->general) return PB_OK;
    pb_trainer_take_peaks(t);
    if (t->assets->config.causal) PB_TRY(loss_of(t, "before"));
    else PB_TRY(embed(t, &t->general_embeddings, &t->n_general));
done:
    pb_trainer_drop_peaks(t);
    return status;
}

pb_status pb_trainer_general_after(pb_trainer *t) {
    pb_status status = PB_OK;
    double *now = NULL;
    int64_t n = 0;
    if (!t->assets->general) return PB_OK;
    if (t->assets->config.causal) return loss_of(t, "after");
    PB_TRY(embed(t, &now, &n));
    PB_ASSERT(n == t->n_general);
    PB_TRY(compare(t, t->general_embeddings, now, n));
done:
    free(now);
    return status;
}

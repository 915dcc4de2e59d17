/* Values of a row in a measure, taken from its records. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/comparison.h"

#define COST .scale = 1, .unit = "", .better = -1, .ratio = true

const pb_measure pb_measures[PB_MEASURES] = {
    [PB_NLL] = {.name = "nll", .title = "test NLL", .column = "Test NLL",
                .tag = "quality/test/nll", .sample = "eval/test/nll",
                .unit = "nats", .scale = 1, .table_unit = "nats", .table_scale = 1, .better = -1},
    [PB_ACCURACY] = {.name = "accuracy", .title = "test accuracy", .column = "Test accuracy",
                     .tag = "quality/test/accuracy", .sample = "eval/test/correct",
                     .unit = "points", .scale = 100, .table_unit = "%", .table_scale = 100,
                     .better = 1},
    [PB_STEP] = {.name = "step", .title = "time of a training step", .column = "Step",
                 .tag = "time/step/median", .table_unit = "ms", .table_scale = 1e3, COST},
    [PB_MEMORY] = {.name = "memory", .title = "peak memory", .column = "Peak memory",
                   .tag = "memory/peak/total", .table_unit = "MiB",
                   .table_scale = 1.0 / 1048576, COST},
    [PB_MERGED] = {.name = "infer-merged", .title = "time of a merged forward pass",
                   .column = "Forward pass, merged", .tag = "time/infer/merged/median",
                   .table_unit = "ms", .table_scale = 1e3, COST},
    [PB_UNMERGED] = {.name = "infer-unmerged", .title = "time of an unmerged forward pass",
                     .column = "Forward pass, unmerged", .tag = "time/infer/unmerged/median",
                     .table_unit = "ms", .table_scale = 1e3, COST},
    [PB_FORGOTTEN] = {.name = "forgetting", .title = "loss gained on general text",
                      .column = "Loss gained on general text",
                      .tag = "quality/general/nll/change",
                      .unit = "nats", .scale = 1, .table_unit = "nats", .table_scale = 1,
                      .better = -1},
    [PB_DRIFT] = {.name = "drift", .title = "drift on general text",
                  .column = "Drift on general text", .tag = "quality/general/drift",
                  .sample = "eval/general/drift",
                  .unit = "", .scale = 1, .table_unit = "1 - cosine", .table_scale = 1,
                  .better = -1},
};

int64_t pb_row_steps(const pb_row *row) {
    int64_t least = -1;
    for (int i = 0; i < row->n_runs; i++) {
        const pb_sample *s = pb_record_find_sample(row->runs[i], "loss/train");
        if (row->runs[i]->status == PB_RUN_OK && s && (least < 0 || s->n < least)) least = s->n;
    }
    return least;
}

bool pb_is_trained(const pb_row *row) {
    int64_t steps = pb_row_steps(row);
    return steps < 0 || steps >= PB_LEAST_STEPS;
}

static const pb_record *run_of(const pb_row *row, uint64_t seed) {
    for (int i = 0; row && i < row->n_runs; i++)
        if (row->runs[i]->status == PB_RUN_OK && row->runs[i]->seed == seed) return row->runs[i];
    return NULL;
}

static const pb_sample *loaded(const pb_record *r, const char *tag) {
    const pb_sample *s = r && tag ? pb_record_find_sample(r, tag) : NULL;
    return s && s->values && s->n > 0 && s->n < INT32_MAX ? s : NULL;
}

/* Does every finished run of the row have the sample, at one length? The length, else 0. */
static int common_length(const pb_row *row, const char *tag) {
    int64_t n = 0;
    for (int i = 0; row && i < row->n_runs; i++) {
        if (row->runs[i]->status != PB_RUN_OK) continue;
        const pb_sample *s = loaded(row->runs[i], tag);
        if (!s || (n && s->n != n)) return 0;
        n = s->n;
    }
    return (int)n;
}

/* The values of one run into x[0..n-1]; false when it has none or one is not finite. */
static bool take(const pb_record *r, const pb_measure *m, int n, double *x) {
    const pb_sample *s = n > 1 ? loaded(r, m->sample) : NULL;
    const pb_metric *metric = r ? pb_record_find(r, m->tag) : NULL;
    if (!r || (n > 1 ? s == NULL : metric == NULL)) return false;
    for (int i = 0; i < n; i++) {
        x[i] = s ? s->values[i] : metric->value;
        if (!isfinite(x[i]) || (m->ratio && !(x[i] > 0))) return false;
    }
    return true;
}

/* Seed by seed, relative to the anchor when there is one. */
static pb_status fill(const pb_entry *e, const pb_measure *m, pb_values *v) {
    size_t n = (size_t)v->n_examples;
    double *other = calloc(n, sizeof *other);
    if (!other) return PB_ERROR(PB_E_OOM, "%s: no memory for %zu values", e->name, n);
    for (int i = 0; i < e->row->n_runs; i++) {
        const pb_record *r = e->row->runs[i];
        double *x = v->x + (size_t)v->n_seeds * n;
        if (r->status != PB_RUN_OK || !take(r, m, (int)n, x)) continue;
        if (v->n_seeds && v->seeds[v->n_seeds - 1] == r->seed) continue;
        if (e->anchor && !take(run_of(e->anchor, r->seed), m, (int)n, other)) continue;
        for (size_t k = 0; e->anchor && k < n; k++)
            x[k] = m->ratio ? x[k] / other[k] : x[k] - other[k];
        v->seeds[v->n_seeds++] = r->seed;
    }
    free(other);
    return PB_OK;
}

static pb_status take_weights(const pb_entry *e, pb_values *v) {
    int n = common_length(e->row, "eval/test/tokens");
    const pb_sample *s = n ? loaded(run_of(e->row, v->seeds[0]), "eval/test/tokens") : NULL;
    if (!s || n != v->n_examples) return PB_OK;
    for (int i = 0; i < n; i++)
        if (!(s->values[i] > 0)) return PB_OK;
    v->weights = malloc((size_t)n * sizeof *v->weights);
    if (!v->weights) return PB_ERROR(PB_E_OOM, "%s: no memory for %d weights", e->name, n);
    memcpy(v->weights, s->values, (size_t)n * sizeof *v->weights);
    return PB_OK;
}

pb_status pb_values_load(const pb_entry *entry, const pb_measure *measure, pb_values *out) {
    pb_status status = PB_OK;
    int n = measure->sample ? common_length(entry->row, measure->sample) : 1;
    if (n > 1 && entry->anchor && common_length(entry->anchor, measure->sample) != n) n = 1;
    *out = (pb_values){.n_examples = n > 1 ? n : 1};
    size_t runs = (size_t)entry->row->n_runs;
    out->seeds = calloc(runs + 1, sizeof *out->seeds);
    out->x = calloc((runs + 1) * (size_t)out->n_examples, sizeof *out->x);
    if (!out->seeds || !out->x) PB_FAIL(PB_E_OOM, "%s: no memory for its values", entry->name);
    PB_TRY(fill(entry, measure, out));
    if (!out->n_seeds)
        snprintf(out->why, sizeof out->why, "%.100s has no finished run with a finite %s",
                 entry->name, measure->title);
    bool of_test = measure->sample && strncmp(measure->sample, "eval/test/", 10) == 0;
    if (out->n_seeds && out->n_examples > 1 && of_test) PB_TRY(take_weights(entry, out));
done:
    if (status != PB_OK) pb_values_free(out);
    return status;
}

void pb_values_free(pb_values *v) {
    free(v->seeds);
    free(v->x);
    free(v->weights);
    *v = (pb_values){0};
}

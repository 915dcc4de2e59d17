/* What records say about a method against LoRA: paired by seed, within one suite, model and data
 * set. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "harness/advise.h"
#include "reports/stats.h"
#include "results/group.h"

enum { MAX_SEEDS = 64 };

/* The row of a method that speaks for it: the most seeds (trials of a sweep have fewer), then the
 * best validation loss: the test split chooses nothing. */
static const pb_row *row_of(const pb_chapter *c, const char *method) {
    const pb_row *best = NULL;
    for (int i = 0; i < c->n_rows; i++) {
        const pb_row *row = &c->rows[i];
        if (strcmp(row->method, method) != 0 || row->n_ok == 0) continue;
        bool better = !best || row->n_ok > best->n_ok ||
                      (row->n_ok == best->n_ok && pb_row_stat(row, "quality/valid/nll").mean <
                                                      pb_row_stat(best, "quality/valid/nll").mean);
        if (better) best = row;
    }
    return best;
}

/* How many numbers of training examples the records of a method have. */
static int sizes_of(const pb_record *records, int n, const char *method) {
    double seen[MAX_SEEDS];
    int count = 0;
    for (int i = 0; i < n; i++) {
        const pb_json *train = pb_json_get(pb_json_get(records[i].dataset, "splits"), "train");
        bool known = !cJSON_IsNumber(train) || strcmp(records[i].method, method) != 0;
        for (int k = 0; k < count && !known; k++) known = seen[k] == train->valuedouble;
        if (!known && count < MAX_SEEDS) seen[count++] = train->valuedouble;
    }
    return count;
}

/* Points of test accuracy, a - b, seed by seed. */
static int paired(const pb_row *a, const pb_row *b, double d[MAX_SEEDS]) {
    int n = 0;
    for (int i = 0; i < a->n_runs; i++) {
        for (int k = 0; k < b->n_runs; k++) {
            if (a->runs[i]->seed != b->runs[k]->seed || n == MAX_SEEDS) continue;
            double x = pb_record_value(a->runs[i], "quality/test/accuracy"),
                   y = pb_record_value(b->runs[k], "quality/test/accuracy");
            if (a->runs[i]->status == PB_RUN_OK && b->runs[k]->status == PB_RUN_OK &&
                isfinite(x - y))
                d[n++] = 100 * (x - y);
        }
    }
    return n;
}

/* The chapter with the most seeds speaks. */
static void fill(const pb_chapter *c, pb_advice *row) {
    double d[MAX_SEEDS];
    const pb_row *lora = row_of(c, "lora"), *mine = row_of(c, row->method->name);
    if (!lora || !mine) return;
    int n = paired(mine, lora, d);
    if (n == 0 || (row->quality.known && row->quality.n_seeds >= n)) return;
    pb_mean m = pb_mean_of(d, n, PB_STAT_LEVEL);
    row->quality = (pb_advise_quality){.known = true,
                                       .mean = m.mean,
                                       .low = m.interval.low,
                                       .high = m.interval.high,
                                       .n_seeds = n};
    snprintf(row->quality.where, sizeof row->quality.where, "%.60s: %.90s on %.90s", c->suite,
             c->model, c->dataset);
}

pb_status pb_advise_quality_of(const char *dir, pb_advice *rows, int n) {
    pb_status status = PB_OK;
    pb_record *records = NULL;
    pb_chapter *chapters = NULL;
    int n_records = 0, n_chapters = 0;
    if (!dir || !pb_is_dir(dir)) return PB_OK;
    status = pb_records_load(dir, false, &records, &n_records);
    if (status == PB_E_INPUT && n_records == 0 && strstr(pb_error_message(), "holds no run")) {
        pb_error_clear(); /* a folder without records supports nothing: unknown */
        return PB_OK;
    }
    if (status != PB_OK) goto done;
    PB_TRY(pb_chapters_make(records, n_records, &chapters, &n_chapters));
    for (int c = 0; c < n_chapters; c++)
        for (int i = 0; i < n; i++) fill(&chapters[c], &rows[i]);
    for (int i = 0; i < n; i++)
        rows[i].quality.n_sizes = sizes_of(records, n_records, rows[i].method->name);
done:
    pb_chapters_free(chapters, n_chapters);
    pb_records_free(records, n_records);
    return status;
}

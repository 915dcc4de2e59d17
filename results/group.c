/* Grouping of records and the statistics of a row. Test: tests/test_records.c. */
#include "results/group.h"

#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

pb_stat pb_stat_of(const double *values, int n) {
    pb_stat s = {.n = n, .mean = NAN, .sd = NAN, .min = NAN, .max = NAN};
    if (n < 1) return s;
    s.mean = gsl_stats_mean(values, 1, (size_t)n);
    gsl_stats_minmax(&s.min, &s.max, values, 1, (size_t)n);
    if (n > 1) s.sd = gsl_stats_sd(values, 1, (size_t)n);
    return s;
}

bool pb_is_head_only(const char *method) {
    return strncmp(method, "head", 4) == 0;
}

int pb_reading_order(const char *method) {
    static const char *const order[] = {"lora",  "adalora", "dylora", "dora",
                                        "qlora", "adapter", "full",   "head"};
    const int n = sizeof order / sizeof order[0];
    if (pb_is_head_only(method)) return n - 1;
    for (int i = 0; i < n; i++)
        if (strcmp(method, order[i]) == 0) return i;
    return n;
}

/* A run that failed before it knew its model or data joins its label's chapter, else its suite's
 * first. */
static const char *resolved(const pb_record *records, int n, const pb_record *r, bool model) {
    const char *own = pb_json_text(model ? r->model : r->dataset, "name"), *suite = "";
    if (*own) return own;
    for (int i = 0; i < n; i++) {
        const char *name = pb_json_text(model ? records[i].model : records[i].dataset, "name");
        if (!*name || strcmp(records[i].suite, r->suite) != 0) continue;
        if (strcmp(records[i].label, r->label) == 0) return name;
        if (!*suite) suite = name;
    }
    return suite;
}

typedef struct item {
    const pb_record *r;
    const char *model, *dataset;
    int order;
    bool trial;
} item;

static int by_chapter(const item *a, const item *b) {
    int order = strcmp(a->r->suite, b->r->suite);
    if (!order) order = strcmp(a->model, b->model);
    return order ? order : strcmp(a->dataset, b->dataset);
}

static int by_row(const item *a, const item *b) {
    int order = by_chapter(a, b);
    if (!order) order = a->trial - b->trial;
    if (!order) order = a->order - b->order;
    if (!order) order = strcmp(a->r->method, b->r->method);
    return order ? order : strcmp(a->r->label, b->r->label);
}

static int by_run(const void *a, const void *b) {
    const item *x = a, *y = b;
    int order = by_row(x, y);
    if (!order) order = (x->r->seed > y->r->seed) - (x->r->seed < y->r->seed);
    return order ? order : strcmp(x->r->run_id, y->r->run_id);
}

static pb_status add_runs(pb_row *row, const item *items, int n, int *duplicates) {
    row->method = items[0].r->method;
    row->label = items[0].r->label;
    row->order = items[0].order;
    row->runs = calloc((size_t)n, sizeof *row->runs);
    if (!row->runs) return PB_ERROR(PB_E_OOM, "no memory for a row of %d runs", n);
    for (int i = 0; i < n; i++) {
        if (i && strcmp(items[i].r->run_id, items[i - 1].r->run_id) == 0) {
            ++*duplicates;
            continue;
        }
        row->runs[row->n_runs++] = items[i].r;
        row->n_ok += items[i].r->status == PB_RUN_OK;
    }
    return PB_OK;
}

static void free_chapter(pb_chapter *c) {
    for (int j = 0; c->rows && j < c->n_rows; j++) free(c->rows[j].runs);
    for (int j = 0; c->trials && j < c->n_trials; j++) free(c->trials[j].runs);
    free(c->rows);
    free(c->trials);
}

/* As asked for, whenever the run ended; NaN when the record does not say. */
static double steps_asked(const pb_record *r) {
    const pb_json *train = pb_json_get(r->config, "train");
    double steps = pb_json_number(train, "steps");
    double batch = pb_json_number(train, "batch") * pb_json_number(train, "accumulate");
    double examples = pb_json_number(pb_json_get(r->dataset, "splits"), "train");
    return isnan(steps) ? ceil(pb_json_number(train, "epochs") * examples / batch - 1e-9) : steps;
}

static const char *why_of(const pb_row *trial) { return pb_json_text(trial->runs[0]->tuning, "why"); }

static void count_trial(const pb_row *trial, pb_row *of, double *low, double *high) {
    double lr = pb_json_number(trial->runs[0]->tuning, "lr");
    of->n_trials++;
    of->n_trial_runs += trial->n_runs;
    of->n_trials_beyond += strcmp(why_of(trial), "extend") == 0;
    for (int i = 0; i < trial->n_runs; i++) of->trial_steps += steps_asked(trial->runs[i]);
    if (strcmp(why_of(trial), "grid") != 0 || !(lr > 0)) return;
    *low = fmin(*low, lr);
    *high = fmax(*high, lr);
}

/* Trials are of the row that they name. */
static void count_trials(pb_chapter *c) {
    for (int k = 0; k < c->n_rows; k++) {
        double low = INFINITY, high = 0;
        pb_row *row = &c->rows[k];
        for (int i = 0; i < c->n_trials; i++) {
            const pb_json *of = pb_json_get(c->trials[i].runs[0]->tuning, "row");
            if (cJSON_IsString(of) && strcmp(row->label, of->valuestring) == 0)
                count_trial(&c->trials[i], row, &low, &high);
        }
        if (!isfinite(row->trial_steps)) row->trial_steps = 0;
        if (high > 0) row->trial_decades = log10(high / low);
    }
}

/* items[0..n-1] belong to one chapter. */
static pb_status make_chapter(const item *items, int n, pb_chapter *c) {
    c->suite = items[0].r->suite;
    c->model = items[0].model;
    c->dataset = items[0].dataset;
    c->rows = calloc((size_t)n, sizeof *c->rows);
    c->trials = calloc((size_t)n, sizeof *c->trials);
    if (!c->rows || !c->trials) return PB_ERROR(PB_E_OOM, "no memory for %d rows", n);
    for (int i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && by_row(&items[i], &items[end]) == 0;) end++;
        bool trial = items[i].trial;
        pb_row *row = trial ? &c->trials[c->n_trials++] : &c->rows[c->n_rows++];
        PB_RETURN(add_runs(row, items + i, end - i, &c->n_duplicates));
        if (trial) continue;
        c->n_runs += row->n_runs;
        c->n_ok += row->n_ok;
    }
    count_trials(c);
    return PB_OK;
}

pb_status pb_chapters_make(const pb_record *records, int n, pb_chapter **out, int *n_out) {
    pb_status status = PB_OK;
    pb_chapter *chapters = NULL;
    int count = 0;
    *out = NULL;
    *n_out = 0;
    item *items = calloc((size_t)n + 1, sizeof *items);
    chapters = calloc((size_t)n + 1, sizeof *chapters);
    if (!items || !chapters) PB_FAIL(PB_E_OOM, "no memory to group %d records", n);
    for (int i = 0; i < n; i++)
        items[i] =
            (item){&records[i], resolved(records, n, &records[i], true),
                   resolved(records, n, &records[i], false), pb_reading_order(records[i].method),
                   strcmp(records[i].phase, "trial") == 0};
    qsort(items, (size_t)n, sizeof *items, by_run);
    for (int i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && by_chapter(&items[i], &items[end]) == 0;) end++;
        PB_TRY(make_chapter(items + i, end - i, &chapters[count++]));
        if (chapters[count - 1].n_rows > 0) continue;
        free_chapter(&chapters[--count]); /* a tuning without its comparison: nothing to compare */
        chapters[count] = (pb_chapter){0};
    }
    *out = chapters;
    *n_out = count;
    chapters = NULL;
done:
    pb_chapters_free(chapters, count);
    free(items);
    return status;
}

void pb_chapters_free(pb_chapter *chapters, int n) {
    for (int i = 0; chapters && i < n; i++) free_chapter(&chapters[i]);
    free(chapters);
}

/* Mean over a value per run without an allocation that could fail: rows are short, long ones are
 * cut. */
#define MAX_SEEDS 1024

pb_stat pb_row_stat(const pb_row *row, const char *tag) {
    double values[MAX_SEEDS];
    int n = 0;
    for (int i = 0; i < row->n_runs && n < MAX_SEEDS; i++) {
        const pb_metric *m = pb_record_find(row->runs[i], tag);
        if (m && row->runs[i]->status == PB_RUN_OK) values[n++] = m->value;
    }
    return pb_stat_of(values, n);
}

pb_stat pb_row_memory(const pb_row *row, const char *tag, bool predicted) {
    double values[MAX_SEEDS];
    int n = 0;
    for (int i = 0; i < row->n_runs; i++)
        for (int k = 0; k < row->runs[i]->n_memory && n < MAX_SEEDS; k++) {
            const pb_mem_row *m = &row->runs[i]->memory[k];
            uint64_t bytes = predicted ? m->predicted : m->peak;
            bool counts = predicted || row->runs[i]->status == PB_RUN_OK;
            if (strcmp(m->tag, tag) == 0 && counts && (bytes || row->runs[i]->status == PB_RUN_OK))
                values[n++] = (double)bytes;
        }
    return pb_stat_of(values, n);
}

const pb_record *pb_row_example(const pb_row *row) {
    for (int i = 0; i < row->n_runs; i++)
        if (row->runs[i]->status == PB_RUN_OK) return row->runs[i];
    return row->runs[0];
}

void pb_chapter_slug(const pb_chapter *chapter, int index, char slug[64]) {
    size_t n = 0;
    for (const char *p = chapter->suite; *p && n < 40; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (plain || (n && slug[n - 1] != '-')) slug[n++] = plain ? c : '-';
    }
    snprintf(slug + n, 64 - n, "%s%d", n && slug[n - 1] != '-' ? "-" : "", index + 1);
}

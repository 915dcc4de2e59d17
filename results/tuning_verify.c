/* tuning.json against the records beside it. Test: tests/test_tune.c. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "results/tuning.h"

typedef struct check {
    FILE *out;
    const char *path;
    int n; /* findings */
    const pb_record *records; /* of this folder */
    int n_records;
} check;

static void finding(check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void finding(check *c, const char *fmt, ...) {
    va_list args;
    c->n++;
    if (!c->out) return;
    fprintf(c->out, "%s: ", c->path);
    va_start(args, fmt);
    vfprintf(c->out, fmt, args);
    va_end(args);
    fputc('\n', c->out);
}

static const pb_record *find(const check *c, const char *id) {
    for (int i = 0; i < c->n_records; i++)
        if (strcmp(c->records[i].run_id, id) == 0) return &c->records[i];
    return NULL;
}

static bool text_is(const pb_json *o, const char *key, const char *expected) {
    const pb_json *v = pb_json_get(o, key);
    return cJSON_IsString(v) && strcmp(v->valuestring, expected) == 0;
}

static bool has_test_metric(const pb_record *r) {
    for (int i = 0; i < r->n_metrics; i++)
        if (strncmp(r->metrics[i].tag, "quality/test/", 13) == 0) return true;
    for (int i = 0; i < r->n_samples; i++)
        if (strncmp(r->samples[i].tag, "eval/test/", 10) == 0) return true;
    return false;
}

/* Bit for bit: the number was copied, not computed. Infinite stands for a run without a result. */
static bool same(double a, double b) {
    return a == b || (isinf(a) && isinf(b));
}

static void check_trial(check *c, const pb_tuning *t, const pb_tuning_row *row, int i) {
    const pb_tuning_trial *trial = &row->trials[i];
    if (trial->n_runs != t->n_seeds)
        finding(c, "'%s', trial %d: %d runs, expected one for each of %d seeds", row->label, i + 1,
                trial->n_runs, t->n_seeds);
    for (int k = 0; k < trial->n_runs && k < t->n_seeds; k++) {
        const pb_record *r = find(c, trial->run[k]);
        if (!r) {
            finding(c, "'%s', trial %d: its run %s is not here", row->label, i + 1, trial->run[k]);
            continue;
        }
        double nll = pb_record_value(r, PB_TUNING_CRITERION);
        if (r->status != PB_RUN_OK || !isfinite(nll)) nll = INFINITY;
        if (!same(nll, trial->nll[k]))
            finding(c, "'%s', trial %d: loss %.17g, but the record of %s says %.17g", row->label,
                    i + 1, trial->nll[k], trial->run[k], nll);
        if (strcmp(r->phase, "trial") != 0 || !text_is(r->tuning, "row", row->label))
            finding(c, "'%s', trial %d: run %s is no trial of this row", row->label, i + 1,
                    trial->run[k]);
        if (pb_json_number(r->config, "lr") != trial->lr || r->seed != t->seeds[k])
            finding(c, "'%s', trial %d: run %s has another rate or seed", row->label, i + 1,
                    trial->run[k]);
    }
}

static void check_row(check *c, const pb_tuning *t, const pb_tuning_row *row) {
    pb_tuning_row again = *row;
    again.trials = calloc((size_t)row->n_trials + 1, sizeof *again.trials);
    if (!again.trials) return;
    memcpy(again.trials, row->trials, (size_t)row->n_trials * sizeof *again.trials);
    pb_tuning_choose(&again);
    for (int i = 0; i < row->n_trials; i++) {
        check_trial(c, t, row, i);
        double a = row->trials[i].mean, b = again.trials[i].mean;
        if (!same(a, b) && !(fabs(a - b) <= 1e-12 * fabs(b)))
            finding(c, "'%s', trial %d: mean %.17g, but its losses give %.17g", row->label, i + 1,
                    a, b);
    }
    if (again.chosen != row->chosen)
        finding(c, "'%s': chosen is trial %d, but the losses give %d", row->label, row->chosen + 1,
                again.chosen + 1);
    if (strcmp(again.edge, row->edge) != 0)
        finding(c, "'%s': edge \"%s\", but the trials give \"%s\"", row->label, row->edge,
                again.edge);
    if (row->n_trials > t->trials)
        finding(c, "'%s': %d trials, more than every row's %lld", row->label, row->n_trials,
                (long long)t->trials);
    free(again.trials);
}

/* Chance level is the one number that the records do not hold: no more than that of equal classes. */
static void check_chance(check *c, const pb_tuning *t) {
    for (int i = 0; i < c->n_records; i++) {
        double classes = pb_json_number(c->records[i].dataset, "classes");
        if (!(t->chance > log(fmax(classes, 1)) + 1e-9)) continue;
        finding(c, "chance %.6g, more than that of %g equal classes, %.6g", t->chance, classes,
                log(fmax(classes, 1)));
        return;
    }
}

static void check_records(check *c, const pb_tuning *t) {
    for (int i = 0; i < c->n_records; i++) {
        const pb_record *r = &c->records[i];
        const pb_tuning_row *row = NULL;
        if (!r->phase[0]) continue;
        if (strcmp(r->phase, "trial") == 0 && has_test_metric(r))
            finding(c, "run %s is a trial, but it evaluated the test split", r->run_id);
        for (int k = 0; k < t->n_rows; k++)
            if (text_is(r->tuning, "row", t->rows[k].label)) row = &t->rows[k];
        if (strcmp(r->phase, "final") != 0) continue;
        if (!row || row->chosen < 0)
            finding(c, "run %s is a final of a row without a choice", r->run_id);
        else if (pb_json_number(r->config, "lr") != row->trials[row->chosen].lr)
            finding(c, "run %s is a final of '%s' at another rate than the chosen one", r->run_id,
                    row->label);
        for (int k = 0; k < t->n_seeds; k++)
            if (r->seed == t->seeds[k])
                finding(c, "run %s is a final with a tuning seed", r->run_id);
    }
}

static pb_status check_file(const char *dir, const char *path, FILE *out, int *n_bad) {
    pb_tuning t = {0};
    pb_record *records = NULL;
    check c = {.out = out, .path = path};
    pb_status status = pb_records_load(dir, false, &records, &c.n_records);
    if (status == PB_OK) status = pb_tuning_read(path, &t);
    if (status != PB_OK && status != PB_E_OOM) { /* a finding like others */
        finding(&c, "cannot be checked: %s", pb_error_message());
        pb_error_clear();
        status = PB_OK;
    } else if (status == PB_OK) {
        c.records = records;
        for (int i = 0; i < t.n_rows; i++) check_row(&c, &t, &t.rows[i]);
        check_chance(&c, &t);
        check_records(&c, &t);
    }
    *n_bad += c.n > 0;
    pb_tuning_free(&t);
    pb_records_free(records, c.n_records);
    return status;
}

#define MAX_DEPTH 6

static pb_status walk(const char *dir, int depth, FILE *out, int *n_bad) {
    pb_status status = PB_OK;
    char **names = NULL, *path = pb_path_join(dir, PB_TUNING_FILE);
    size_t n = 0;
    if (!path) PB_FAIL(PB_E_OOM, "%s: no memory for a file name", dir);
    if (pb_file_exists(path)) {
        PB_TRY(check_file(dir, path, out, n_bad));
        goto done;
    }
    if (depth == MAX_DEPTH) goto done;
    PB_TRY(pb_list_dir(dir, &names, &n));
    for (size_t i = 0; i < n; i++) {
        if (names[i][0] == '.') continue;
        free(path);
        if (!(path = pb_path_join(dir, names[i])))
            PB_FAIL(PB_E_OOM, "%s: no memory for a file name", dir);
        if (pb_is_dir(path)) PB_TRY(walk(path, depth + 1, out, n_bad));
    }
done:
    free(path);
    pb_names_free(names, n);
    return status;
}

pb_status pb_tuning_verify(const char *dir, FILE *out, int *n_bad) {
    *n_bad = 0;
    return walk(dir, 0, out, n_bad);
}

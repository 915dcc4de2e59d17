/* The "tune" blocks of a suite: budget, grids, and the plan of a tuned suite's runs. Grammar:
 * harness/suites/README.md. Test: tests/test_tune.c. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/suite_impl.h"
#include "harness/tune.h"

#define DECADES 3.0 /* a grid must span that many orders of magnitude */

static pb_status bad_grid(const char *where) {
    return PB_ERROR(PB_E_INPUT,
                    "%s: lr: expected 2 to %d rising numbers above 0 and up to 10, or"
                    " \"FROM/TO/POINTS\" such as \"1e-4/1e-1/7\"",
                    where, PB_TUNE_MAX_VALUES);
}

/* "from/to/points": the points lie evenly in the logarithm. Rounded to 6 digits, so that the rates
 * read well and do not depend on the last bit of a library's exp. */
static pb_status parse_log_grid(const char *where, const char *text, double *lr, int *n) {
    char copy[96], *save = NULL, *part[3];
    double from = 0, to = 0;
    int64_t points = 0;
    if (!pb_copy(copy, sizeof copy, text)) return bad_grid(where);
    for (int i = 0; i < 3; i++) part[i] = strtok_r(i ? NULL : copy, "/", &save);
    bool ok = part[0] && part[1] && part[2] && !strtok_r(NULL, "/", &save) &&
              pb_parse_f64(part[0], &from) && pb_parse_f64(part[1], &to) &&
              pb_parse_i64(part[2], &points) && from > 0 && to > from && to <= 10 && points >= 2 &&
              points <= PB_TUNE_MAX_VALUES;
    if (!ok) return bad_grid(where);
    for (int64_t i = 0; i < points; i++) {
        char digits[32];
        double share = (double)i / (double)(points - 1);
        snprintf(digits, sizeof digits, "%.5e", from * pow(to / from, share));
        lr[i] = strtod(digits, NULL);
    }
    *n = (int)points;
    return PB_OK;
}

static pb_status read_grid(const pb_json *o, const char *where, double *lr, int *n) {
    const pb_json *grid = pb_json_get(o, "lr"), *e = NULL;
    if (!grid) return PB_OK;
    if (cJSON_IsString(grid)) {
        PB_RETURN(parse_log_grid(where, grid->valuestring, lr, n));
    } else {
        int count = cJSON_IsArray(grid) ? cJSON_GetArraySize(grid) : 0;
        if (count < 2 || count > PB_TUNE_MAX_VALUES) return bad_grid(where);
        *n = 0;
        cJSON_ArrayForEach (e, grid) {
            double v = cJSON_IsNumber(e) ? e->valuedouble : 0;
            if (!(v > 0 && v <= 10) || (*n > 0 && v <= lr[*n - 1])) return bad_grid(where);
            lr[(*n)++] = v;
        }
    }
    double span = log10(lr[*n - 1] / lr[0]);
    if (span >= DECADES - 1e-9) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "%s: lr: %g to %g span %.2g orders of magnitude, expected at least %g", where,
                    lr[0], lr[*n - 1], span, DECADES);
}

pb_status pb_suite_read_tune(const pb_json *root, const char *file, pb_suite_source *s) {
    static const char *const keys[] = {"trials", "lr", "strategy", "ranks", "seeds", "extend"};
    static const char *const strategies[] = {"grid", "halving"};
    const pb_json *o = pb_json_get(root, "tune");
    char where[512];
    int strategy = 0;
    pb_tune *t = &s->tune;
    if (!o) return PB_OK;
    snprintf(where, sizeof where, "%s: tune", file);
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(pb_json_only_keys(o, where, keys, sizeof keys / sizeof keys[0]));
    s->tuned = t->extend = true;
    t->seeds[0] = 101;
    t->n_seeds = 1;
    s->defaults.n_seeds = PB_TUNE_FINAL_SEEDS;
    for (int i = 0; i < PB_TUNE_FINAL_SEEDS; i++) s->defaults.seeds[i] = (uint64_t)i + 1;
    PB_RETURN(pb_json_read_i64(o, where, "trials", 2, 1000, &t->trials));
    if (t->trials == 0)
        return PB_ERROR(PB_E_INPUT, "%s: trials: missing, expected the number for every row", where);
    PB_RETURN(pb_json_read_choice(o, where, "strategy", strategies, 2, &strategy));
    t->strategy = (pb_tune_strategy)strategy;
    PB_RETURN(pb_json_read_bool(o, where, "extend", &t->extend));
    PB_RETURN(pb_suite_read_seeds(o, where, PB_TUNE_MAX_SEEDS, t->seeds, &t->n_seeds));
    PB_RETURN(pb_suite_read_counts(o, where, "ranks", 1, 1 << 20, PB_TUNE_MAX_RANKS,
                                   s->defaults.tune_rank, &s->defaults.n_tune_rank));
    if (pb_json_get(root, "examples"))
        return PB_ERROR(PB_E_INPUT, "%s: examples: not together with tune", file);
    return read_grid(o, where, s->defaults.tune_lr, &s->defaults.n_tune_lr);
}

static bool has_key(const pb_method *m, const char *key) {
    for (int i = 0; m->keys && m->keys[i]; i++)
        if (strcmp(m->keys[i], key) == 0) return true;
    return false;
}

pb_status pb_suite_read_row_tune(const pb_json *row, const char *row_where, pb_suite_row *out) {
    static const char *const keys[] = {"lr", "ranks"};
    const pb_json *o = pb_json_get(row, "tune");
    char where[600];
    bool ranked = has_key(out->run.method, "rank");
    snprintf(where, sizeof where, "%s.tune", row_where);
    if (!ranked) out->n_tune_rank = 0;
    if (o && !cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    if (o) {
        PB_RETURN(pb_json_only_keys(o, where, keys, sizeof keys / sizeof keys[0]));
        PB_RETURN(read_grid(o, where, out->tune_lr, &out->n_tune_lr));
        if (!ranked && pb_json_get(o, "ranks"))
            return PB_ERROR(PB_E_INPUT, "%s: ranks: %s has no parameter \"rank\"", where,
                            out->run.method->name);
        PB_RETURN(pb_suite_read_counts(o, where, "ranks", 1, 1 << 20, PB_TUNE_MAX_RANKS,
                                       out->tune_rank, &out->n_tune_rank));
    }
    if (out->n_tune_lr > 0) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: lr: missing; expected a grid here or at the top level", where);
}

/* Equal budgets, and seeds that are fresh in the final comparison. */
pb_status pb_suite_check_tune(const pb_suite_source *s) {
    const pb_tune *t = &s->tune;
    for (int i = 0; i < s->n_rows; i++) {
        const pb_suite_row *row = &s->rows[i];
        int64_t values = row->n_tune_lr * (row->n_tune_rank > 0 ? row->n_tune_rank : 1);
        int64_t need = pb_tune_base_trials(t->strategy, values);
        if (need > t->trials) {
            return PB_ERROR(PB_E_INPUT,
                            "%s: '%s' needs %" PRId64 " trials for its grid of %" PRId64
                            " values, tune.trials gives every row %" PRId64,
                            s->where, row->run.label, need, values, t->trials);
        }
        for (int a = 0; a < row->n_seeds; a++) {
            for (int b = 0; b < t->n_seeds; b++) {
                if (row->seeds[a] != t->seeds[b]) continue;
                return PB_ERROR(PB_E_INPUT,
                                "%s: tune: seeds: %" PRIu64 " is a seed of the final comparison"
                                " too; it must be fresh there",
                                s->where, t->seeds[b]);
            }
        }
    }
    return PB_OK;
}

/* The row's parameters with another rank. */
static pb_status with_rank(const pb_json *params, int64_t rank, pb_json **out) {
    *out = params ? cJSON_Duplicate(params, true) : cJSON_CreateObject();
    cJSON_DeleteItemFromObjectCaseSensitive(*out, "rank");
    if (*out && pb_json_add_i64(*out, "rank", rank)) return PB_OK;
    return PB_ERROR(PB_E_OOM, "no memory for a rank to try");
}

static pb_status take_row(const pb_suite_row *from, bool fast_bf16, pb_tune_row *to) {
    to->run = from->run;
    bool bf16 = from->dtype == PB_DTYPE_BF16 || (from->dtype == PB_DTYPE_AUTO && fast_bf16);
    to->run.dtype = bf16 ? PB_BF16 : PB_F32;
    to->n_lr = from->n_tune_lr;
    memcpy(to->lr, from->tune_lr, sizeof to->lr);
    to->n_seeds = from->n_seeds;
    memcpy(to->seeds, from->seeds, sizeof to->seeds);
    memcpy(to->rank, from->tune_rank, sizeof to->rank);
    for (int i = 0; i < from->n_tune_rank; i++) {
        void *self = NULL;
        to->n_ranks = i + 1;
        PB_RETURN(with_rank(from->run.method_params, to->rank[i], &to->params[i]));
        PB_RETURN(from->run.method->create(to->params[i], from->run.label, &self));
        from->run.method->destroy(self);
    }
    return PB_OK;
}

/* Grid trials as they will be, later ones as placeholders, and the finals. */
static void plan_row(const pb_tune_row *row, pb_suite *out) {
    const pb_tune *t = out->tune;
    int ranks = row->n_ranks > 0 ? row->n_ranks : 1;
    int64_t values = (int64_t)row->n_lr * ranks;
    bool halving = t->strategy == PB_TUNE_HALVING;
    for (int64_t i = 0; i < t->trials; i++) {
        int64_t half = values + (values + 1) / 2;
        int rung = !halving || i >= half ? PB_TUNE_RUNGS - 1 : i >= values;
        bool open = i >= values;
        const char *why = i < pb_tune_base_trials(t->strategy, values) ? "grid" : "refine";
        for (int k = 0; k < t->n_seeds; k++) {
            pb_run_config *r = &out->runs[out->n_runs++];
            double lr = row->lr[open ? row->n_lr / 2 : i / ranks];
            pb_tune_trial_run(out, row, lr, row->n_ranks > 0 ? (int)(i % ranks) : -1, rung,
                              (int)i + 1, why, t->seeds[k], r);
            r->origin.lr_open = open;
            if (open) pb_suite_label(r->label, sizeof r->label, row->run.label, " lr ?");
        }
    }
    for (int k = 0; k < row->n_seeds; k++) {
        pb_run_config *r = &out->runs[out->n_runs++];
        pb_tune_final_run(out, row, row->lr[row->n_lr / 2], row->n_ranks > 0 ? 0 : -1,
                          row->seeds[k], r);
        r->origin.lr_open = true;
    }
}

pb_status pb_suite_expand_tune(const pb_suite_source *s, const bool *keep, bool fast_bf16,
                               pb_suite *out) {
    size_t total = 0;
    pb_tune *t = calloc(1, sizeof *t);
    if (!t) return PB_ERROR(PB_E_OOM, "%s: no memory for the tuning", s->where);
    *t = s->tune;
    out->tune = t;
    t->rows = calloc((size_t)s->n_rows + 1, sizeof *t->rows);
    if (!t->rows) return PB_ERROR(PB_E_OOM, "%s: no memory for the tuning", s->where);
    for (int i = 0; i < s->n_rows; i++) {
        if (!keep[i]) continue;
        PB_RETURN(take_row(&s->rows[i], fast_bf16, &t->rows[t->n_rows++]));
        total += (size_t)t->trials * (size_t)t->n_seeds + (size_t)s->rows[i].n_seeds;
    }
    if (total > 10000)
        return PB_ERROR(PB_E_INPUT, "%s: %zu runs, expected at most 10000", s->where, total);
    out->runs = calloc(total + 1, sizeof *out->runs);
    if (!out->runs) return PB_ERROR(PB_E_OOM, "%s: no memory for %zu runs", s->where, total);
    for (int i = 0; i < t->n_rows; i++) plan_row(&t->rows[i], out);
    return PB_OK;
}

void pb_tune_free(pb_tune *t) {
    if (!t) return;
    for (int i = 0; t->rows && i < t->n_rows; i++)
        for (int k = 0; k < t->rows[i].n_ranks; k++) pb_json_free(t->rows[i].params[k]);
    free(t->rows);
    free(t);
}

/* tuning.json: reading, writing, and the choice that follows from the trials' losses. Checking it
 * against the records: tuning_verify.c. Test: tests/test_tune.c. */
#include "results/tuning.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define MAX_BYTES (16u << 20)

/* ---- the choice ---- */

static double mean_of(const pb_tuning_trial *t) {
    double sum = 0;
    for (int i = 0; i < t->n_runs; i++) sum += t->nll[i];
    return t->n_runs > 0 && isfinite(sum) ? sum / t->n_runs : INFINITY;
}

static bool better(const pb_tuning_trial *a, const pb_tuning_trial *b) {
    if (a->mean != b->mean) return a->mean < b->mean;
    if (a->lr != b->lr) return a->lr < b->lr;
    return a->rank < b->rank;
}

const pb_tuning_trial *pb_tuning_neighbour(const pb_tuning_row *row, double lr, int64_t rank,
                                           bool above) {
    const pb_tuning_trial *found = NULL;
    for (int i = 0; i < row->n_trials; i++) {
        const pb_tuning_trial *t = &row->trials[i];
        if (t->rank != rank || (above ? t->lr <= lr : t->lr >= lr)) continue;
        bool nearer = !found || (above ? t->lr < found->lr : t->lr > found->lr);
        if (nearer || (t->lr == found->lr && t->divisor < found->divisor)) found = t;
    }
    return found;
}

static bool trains(const pb_tuning_trial *t, double best, double chance) {
    bool judged = t->divisor == 1 && chance > best;
    return isfinite(t->mean) && !(judged && t->mean - best > PB_TUNING_LOST * (chance - best));
}

void pb_tuning_choose(pb_tuning_row *row) {
    row->chosen = -1;
    strcpy(row->edge, "none");
    for (int i = 0; i < row->n_trials; i++) {
        pb_tuning_trial *t = &row->trials[i];
        t->mean = mean_of(t);
        if (t->divisor != 1 || !isfinite(t->mean)) continue;
        if (row->chosen < 0 || better(t, &row->trials[row->chosen])) row->chosen = i;
    }
    if (row->chosen < 0) return;
    const pb_tuning_trial *best = &row->trials[row->chosen];
    const pb_tuning_trial *low = pb_tuning_neighbour(row, best->lr, best->rank, false);
    const pb_tuning_trial *high = pb_tuning_neighbour(row, best->lr, best->rank, true);
    if (!low != !high) strcpy(row->edge, low ? "high" : "low");
    else if (high && !trains(high, best->mean, row->chance)) strcpy(row->edge, "cliff");
}

pb_tuning_trial *pb_tuning_add(pb_tuning_row *row) {
    size_t n = (size_t)row->n_trials + 1;
    pb_tuning_trial *more = realloc(row->trials, n * sizeof *more);
    if (!more) return NULL;
    row->trials = more;
    pb_tuning_trial *t = &more[row->n_trials++];
    *t = (pb_tuning_trial){.divisor = 1, .mean = NAN};
    return t;
}

/* ---- writing ---- */

static bool add_trial(pb_json *list, const pb_tuning_trial *t) {
    pb_json *o = pb_json_add_object(list, NULL);
    bool ok = pb_json_add_f64(o, "lr", t->lr) && (!t->rank || pb_json_add_i64(o, "rank", t->rank)) &&
              pb_json_add_i64(o, "divisor", t->divisor) && pb_json_add_str(o, "why", t->why);
    pb_json *runs = ok ? pb_json_add_array(o, "runs") : NULL, *nll = NULL;
    for (int i = 0; ok && i < t->n_runs; i++) ok = pb_json_add_str(runs, NULL, t->run[i]);
    nll = ok ? pb_json_add_array(o, "nll") : NULL;
    for (int i = 0; ok && i < t->n_runs; i++) ok = pb_json_add_f64(nll, NULL, t->nll[i]);
    return ok && runs && nll && pb_json_add_f64(o, "mean", t->mean);
}

static bool add_row(pb_json *list, const pb_tuning_row *row) {
    pb_json *o = pb_json_add_object(list, NULL);
    bool ok = pb_json_add_str(o, "label", row->label) && pb_json_add_str(o, "method", row->method);
    if (ok && row->chosen >= 0) {
        const pb_tuning_trial *t = &row->trials[row->chosen];
        pb_json *c = pb_json_add_object(o, "chosen");
        ok = pb_json_add_i64(c, "trial", row->chosen + 1) && pb_json_add_f64(c, "lr", t->lr) &&
             (!t->rank || pb_json_add_i64(c, "rank", t->rank));
    }
    ok = ok && pb_json_add_str(o, "edge", row->edge);
    pb_json *trials = ok ? pb_json_add_array(o, "trials") : NULL;
    for (int i = 0; trials && ok && i < row->n_trials; i++) ok = add_trial(trials, &row->trials[i]);
    return ok && trials;
}

pb_status pb_tuning_write(const pb_tuning *t, const char *path) {
    pb_status status;
    char seed[24];
    pb_json *o = cJSON_CreateObject();
    bool ok = pb_json_add_str(o, "schema", "1.1") && pb_json_add_str(o, "suite", t->suite) &&
              pb_json_add_str(o, "criterion", PB_TUNING_CRITERION) &&
              pb_json_add_str(o, "strategy", t->strategy) &&
              pb_json_add_i64(o, "trials", t->trials) &&
              (t->chance <= 0 || pb_json_add_f64(o, "chance", t->chance));
    pb_json *seeds = ok ? pb_json_add_array(o, "seeds") : NULL;
    for (int i = 0; ok && i < t->n_seeds; i++) {
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)t->seeds[i]);
        ok = pb_json_add_str(seeds, NULL, seed);
    }
    pb_json *rows = ok ? pb_json_add_array(o, "rows") : NULL;
    for (int i = 0; rows && ok && i < t->n_rows; i++) ok = add_row(rows, &t->rows[i]);
    status = pb_json_save(ok && seeds && rows ? o : NULL, path);
    pb_json_free(o);
    return status;
}

/* ---- reading ---- */

static pb_status text_of(const pb_json *o, const char *where, const char *key, char *dst,
                         size_t cap) {
    const char *s = NULL;
    PB_RETURN(pb_json_read_str(o, where, key, &s));
    if (s && pb_copy(dst, cap, s)) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: %s: expected a string of less than %zu bytes", where, key, cap);
}

/* null stands for a run that diverged or failed. */
static bool loss_of(const pb_json *e, double *out) {
    *out = cJSON_IsNumber(e) ? e->valuedouble : INFINITY;
    return cJSON_IsNumber(e) || cJSON_IsNull(e);
}

static pb_status read_trial(const pb_json *o, const char *where, pb_tuning_trial *t) {
    static const char *const keys[] = {"lr", "rank", "divisor", "why", "runs", "nll", "mean"};
    const pb_json *runs = pb_json_get(o, "runs"), *nll = pb_json_get(o, "nll");
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(pb_json_only_keys(o, where, keys, COUNT(keys)));
    PB_RETURN(pb_json_read_f64(o, where, "lr", 1e-300, 1e6, &t->lr));
    PB_RETURN(pb_json_read_i64(o, where, "rank", 0, INT64_MAX, &t->rank));
    PB_RETURN(pb_json_read_i64(o, where, "divisor", 1, 1 << 20, &t->divisor));
    PB_RETURN(text_of(o, where, "why", t->why, sizeof t->why));
    int n = cJSON_IsArray(runs) ? cJSON_GetArraySize(runs) : 0;
    bool ok = n >= 1 && n <= PB_TUNING_MAX_SEEDS && cJSON_IsArray(nll) &&
              cJSON_GetArraySize(nll) == n && loss_of(pb_json_get(o, "mean"), &t->mean);
    for (int i = 0; ok && i < n; i++) {
        const pb_json *id = cJSON_GetArrayItem(runs, i);
        ok = cJSON_IsString(id) && pb_copy(t->run[i], PB_RUN_ID, id->valuestring) &&
             loss_of(cJSON_GetArrayItem(nll, i), &t->nll[i]);
    }
    t->n_runs = n;
    if (ok && t->lr > 0) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "%s: expected lr, mean, and 1 to %d runs (ids) with as many losses (nll)", where,
                    PB_TUNING_MAX_SEEDS);
}

static pb_status read_row(const pb_json *o, const char *where, pb_tuning_row *row) {
    static const char *const keys[] = {"label", "method", "chosen", "edge", "trials"};
    const pb_json *list = pb_json_get(o, "trials"), *chosen = pb_json_get(o, "chosen"), *e = NULL;
    char at[600];
    int64_t number = 0;
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(pb_json_only_keys(o, where, keys, COUNT(keys)));
    PB_RETURN(text_of(o, where, "label", row->label, sizeof row->label));
    PB_RETURN(text_of(o, where, "method", row->method, sizeof row->method));
    PB_RETURN(text_of(o, where, "edge", row->edge, sizeof row->edge));
    cJSON_ArrayForEach (e, list) {
        pb_tuning_trial *t = pb_tuning_add(row);
        if (!t) return PB_ERROR(PB_E_OOM, "%s: no memory for its trials", where);
        snprintf(at, sizeof at, "%s.trials[%d]", where, row->n_trials - 1);
        PB_RETURN(read_trial(e, at, t));
    }
    if (chosen) PB_RETURN(pb_json_read_i64(chosen, where, "trial", 1, row->n_trials, &number));
    row->chosen = (int)number - 1;
    return PB_OK;
}

static pb_status read_file(const pb_json *o, const char *path, pb_tuning *t) {
    static const char *const keys[] = {"schema", "suite",  "criterion", "strategy",
                                       "trials", "chance", "seeds",     "rows"};
    const pb_json *seeds = pb_json_get(o, "seeds"), *rows = pb_json_get(o, "rows"), *e = NULL;
    char text[96];
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", path);
    PB_RETURN(text_of(o, path, "schema", text, sizeof text));
    if (strcmp(text, "1.0") == 0 || strcmp(text, "1.1") == 0)
        PB_RETURN(pb_json_only_keys(o, path, keys, COUNT(keys)));
    if (strncmp(text, "1.", 2) != 0)
        return PB_ERROR(PB_E_INPUT, "%s: schema: \"%s\", expected \"1.1\"", path, text);
    PB_RETURN(text_of(o, path, "criterion", text, sizeof text));
    if (strcmp(text, PB_TUNING_CRITERION) != 0)
        return PB_ERROR(PB_E_INPUT, "%s: criterion: \"%s\", expected \"%s\"", path, text,
                        PB_TUNING_CRITERION);
    PB_RETURN(text_of(o, path, "suite", t->suite, sizeof t->suite));
    PB_RETURN(text_of(o, path, "strategy", t->strategy, sizeof t->strategy));
    PB_RETURN(pb_json_read_i64(o, path, "trials", 1, 1000, &t->trials));
    PB_RETURN(pb_json_read_f64(o, path, "chance", 0, 1e3, &t->chance));
    cJSON_ArrayForEach (e, seeds) {
        int64_t v = -1;
        bool ok = t->n_seeds < PB_TUNING_MAX_SEEDS && cJSON_IsString(e) &&
                  pb_parse_i64(e->valuestring, &v) && v >= 0;
        if (!ok)
            return PB_ERROR(PB_E_INPUT, "%s: seeds: expected up to %d whole numbers as strings",
                            path, PB_TUNING_MAX_SEEDS);
        t->seeds[t->n_seeds++] = (uint64_t)v;
    }
    int n = cJSON_IsArray(rows) ? cJSON_GetArraySize(rows) : 0;
    t->rows = calloc((size_t)n + 1, sizeof *t->rows);
    if (!t->rows) return PB_ERROR(PB_E_OOM, "%s: no memory for %d rows", path, n);
    cJSON_ArrayForEach (e, rows) {
        char where[512];
        snprintf(where, sizeof where, "%s: rows[%d]", path, t->n_rows);
        t->rows[t->n_rows].chance = t->chance;
        PB_RETURN(read_row(e, where, &t->rows[t->n_rows++]));
    }
    return PB_OK;
}

pb_status pb_tuning_read(const char *path, pb_tuning *out) {
    pb_status status = PB_OK;
    char *text = NULL;
    size_t len = 0;
    pb_json *json = NULL;
    *out = (pb_tuning){0};
    PB_TRY(pb_file_read(path, MAX_BYTES, &text, &len));
    PB_TRY(pb_json_parse(path, text, len, &json));
    PB_TRY(read_file(json, path, out));
done:
    if (status != PB_OK) pb_tuning_free(out);
    pb_json_free(json);
    free(text);
    return status;
}

void pb_tuning_free(pb_tuning *t) {
    for (int i = 0; t->rows && i < t->n_rows; i++) free(t->rows[i].trials);
    free(t->rows);
    *t = (pb_tuning){0};
}

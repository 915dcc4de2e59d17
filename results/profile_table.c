/* Reading and grouping of a record's profile. Test: tests/test_profile.c. */
#include "results/profile_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

const char *pb_profile_key_name(pb_profile_key key) {
    static const char *const names[PB_KEY_COUNT] = {"kernel", "op", "site", "part", "phase"};
    return names[key];
}

const char *pb_count_name(pb_count count) {
    static const char *const names[PB_COUNT_COUNT] = {
        "ns", "dram_read", "dram_written", "l2", "tensor", "tensor_cycles", "cycles"};
    return names[count];
}

double pb_profile_traffic(const pb_profile_sum *s, bool counted) {
    return counted ? s->counted[PB_COUNT_DRAM_READ] + s->counted[PB_COUNT_DRAM_WRITTEN] : s->bytes;
}

void pb_profile_table_free(pb_profile_table *t) {
    free(t->lines);
    *t = (pb_profile_table){0};
}

/* The column's sample; its length must be that of the first one. */
static pb_status column(const pb_record *r, const char *name, int64_t n, const double **values,
                        int64_t *n_out) {
    char tag[64];
    snprintf(tag, sizeof tag, "profile/table/%s", name);
    const pb_sample *s = pb_record_find_sample(r, tag);
    if (!s || (s->n > 0 && !s->values))
        return PB_ERROR(PB_E_INPUT, "profile: the sample %s is missing", tag);
    if (n >= 0 && s->n != n)
        return PB_ERROR(PB_E_INPUT, "profile: %s has %lld values, expected %lld", tag,
                        (long long)s->n, (long long)n);
    *values = s->values;
    *n_out = s->n;
    return PB_OK;
}

static pb_status read_names(const pb_record *r, pb_profile_key key, pb_profile_table *t) {
    const double *index = NULL;
    const char *what = pb_profile_key_name(key), **name = NULL;
    pb_status status = PB_OK;
    const pb_json *list = pb_json_get(pb_json_get(r->profile, "names"), what);
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0, i = 0;
    int64_t rows = 0;
    PB_TRY(column(r, what, t->n, &index, &rows));
    name = calloc((size_t)n + 1, sizeof *name);
    if (!name) PB_FAIL(PB_E_OOM, "no memory for %d names of a profile", n);
    for (const pb_json *e = list ? list->child : NULL; e; e = e->next) {
        if (!cJSON_IsString(e))
            PB_FAIL(PB_E_INPUT, "profile.names.%s[%d]: expected a string", what, i);
        name[i++] = e->valuestring;
    }
    for (int64_t k = 0; k < t->n; k++) {
        double v = index[k];
        if (!(v >= 0) || v >= (double)n || v != floor(v))
            PB_FAIL(PB_E_INPUT, "profile/table/%s[%lld]: %g is none of the %d names", what,
                    (long long)k, v, n);
        t->lines[k].name[key] = name[(int)v];
    }
done:
    free(name);
    return status;
}

static pb_status read_numbers(const pb_record *r, pb_profile_table *t) {
    static const char *const names[] = {"calls", "seconds", "flops", "flops_else", "bytes"};
    for (int c = 0; c < 5; c++) {
        const double *v = NULL;
        int64_t rows = 0;
        PB_RETURN(column(r, names[c], t->n, &v, &rows));
        for (int64_t k = 0; k < t->n; k++) {
            pb_profile_line *l = &t->lines[k];
            double *field[] = {&l->calls, &l->seconds, &l->flops, &l->flops_else, &l->bytes};
            bool good = isfinite(v[k]) && v[k] >= 0;
            if (c == 0) good = good && v[k] >= 1 && v[k] == floor(v[k]);
            if (!good)
                return PB_ERROR(PB_E_INPUT, "profile/table/%s[%lld]: %g, expected %s", names[c],
                                (long long)k, v[k], c ? "a number from 0" : "a count from 1");
            *field[c] = v[k];
        }
    }
    return PB_OK;
}

/* The record's profile says whether they are there. */
static pb_status read_counters(const pb_record *r, pb_profile_table *t) {
    const pb_json *counters = pb_json_get(r->profile, "counters");
    t->counted = cJSON_IsTrue(pb_json_get(counters, "available"));
    for (int c = 0; t->counted && c < PB_COUNT_COUNT; c++) {
        char name[48];
        const double *v = NULL;
        int64_t rows = 0;
        snprintf(name, sizeof name, "counted_%s", pb_count_name((pb_count)c));
        PB_RETURN(column(r, name, t->n, &v, &rows));
        for (int64_t k = 0; k < t->n; k++) {
            if (!isfinite(v[k]) || v[k] < 0)
                return PB_ERROR(PB_E_INPUT, "profile/table/%s[%lld]: %g, expected a number from 0", name,
                                (long long)k, v[k]);
            t->lines[k].counted[c] = v[k];
        }
    }
    return PB_OK;
}

pb_status pb_profile_table_read(const pb_record *r, pb_profile_table *out) {
    pb_status status = PB_OK;
    const double *first = NULL;
    int64_t steps = 0;
    *out = (pb_profile_table){0};
    if (!r->profile) return PB_OK;
    PB_TRY(pb_json_read_i64(r->profile, "profile", "steps", 1, 1 << 20, &steps));
    if (steps < 1) PB_FAIL(PB_E_INPUT, "profile.steps: missing, expected a count from 1");
    out->steps = (int)steps;
    const pb_sample *step = pb_record_find_sample(r, "profile/step");
    if (!step || step->n != steps || !step->values)
        PB_FAIL(PB_E_INPUT, "profile: the sample profile/step must hold %lld values",
                (long long)steps);
    PB_TRY(pb_derive("mean", step->values, step->n, &out->step_s));
    PB_TRY(column(r, "kernel", -1, &first, &out->n));
    out->lines = calloc((size_t)out->n + 1, sizeof *out->lines);
    if (!out->lines) PB_FAIL(PB_E_OOM, "no memory for a profile of %lld lines", (long long)out->n);
    for (int key = 0; key < PB_KEY_COUNT; key++)
        PB_TRY(read_names(r, (pb_profile_key)key, out));
    PB_TRY(read_numbers(r, out));
    PB_TRY(read_counters(r, out));
done:
    if (status != PB_OK) pb_profile_table_free(out);
    return status;
}

bool pb_profile_in_step(const pb_profile_line *line) {
    return strcmp(line->name[PB_KEY_PHASE], "load") != 0;
}

void pb_profile_layer(const char *site, char *out, size_t cap) {
    int layer = 0, used = 0;
    if (sscanf(site, "layers.%d%n", &layer, &used) == 1 && (site[used] == '.' || !site[used]))
        snprintf(out, cap, "layers.%d", layer);
    else
        snprintf(out, cap, "%s", *site ? site : "-");
}

static void name_of(const pb_profile_line *l, pb_profile_group by, char out[96]) {
    if (by == PB_GROUP_LAYER) {
        pb_profile_layer(l->name[PB_KEY_SITE], out, 96);
        return;
    }
    const char *name = l->name[by]; /* the first five groups are the keys */
    snprintf(out, 96, "%.95s", *name ? name : "other");
}

static int slowest_first(const void *a, const void *b) {
    const pb_profile_sum *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
    return strcmp(x->name, y->name);
}

pb_status pb_profile_sums(const pb_profile_table *t, pb_profile_group by, pb_profile_sum **out,
                          int *n_out) {
    pb_profile_sum *sums = calloc((size_t)t->n + 1, sizeof *sums);
    int n = 0;
    *out = NULL;
    *n_out = 0;
    if (!sums) return PB_ERROR(PB_E_OOM, "no memory for the sums of a profile");
    for (int64_t i = 0; i < t->n; i++) {
        const pb_profile_line *l = &t->lines[i];
        char name[96];
        int k = 0;
        if (!pb_profile_in_step(l)) continue;
        name_of(l, by, name);
        while (k < n && strcmp(sums[k].name, name) != 0) k++;
        if (k == n) snprintf(sums[n++].name, sizeof sums->name, "%s", name);
        sums[k].calls += l->calls / t->steps;
        sums[k].seconds += l->seconds / t->steps;
        sums[k].flops += l->flops / t->steps;
        sums[k].flops_else += l->flops_else / t->steps;
        sums[k].bytes += l->bytes / t->steps;
        for (int c = 0; c < PB_COUNT_COUNT; c++) sums[k].counted[c] += l->counted[c] / t->steps;
    }
    qsort(sums, (size_t)n, sizeof *sums, slowest_first);
    *out = sums;
    *n_out = n;
    return PB_OK;
}

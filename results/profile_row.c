/* Profiles of a row's runs taken together. Test: tests/test_profile.c. */
#include <stdlib.h>
#include <string.h>

#include "results/profile_table.h"

static int slowest_first(const void *a, const void *b) {
    const pb_profile_sum *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* Adds `more` to the list, name by name; the list has room for both. */
static int merge(pb_profile_sum *list, int n, const pb_profile_sum *more, int n_more) {
    for (int i = 0; i < n_more; i++) {
        int k = 0;
        while (k < n && strcmp(list[k].name, more[i].name) != 0) k++;
        if (k == n) {
            list[n++] = more[i];
            continue;
        }
        list[k].calls += more[i].calls;
        list[k].seconds += more[i].seconds;
        list[k].flops += more[i].flops;
        list[k].flops_else += more[i].flops_else;
        list[k].bytes += more[i].bytes;
        for (int c = 0; c < PB_COUNT_COUNT; c++) list[k].counted[c] += more[i].counted[c];
    }
    return n;
}

static void divide(pb_profile_sum *s, int runs) {
    s->calls /= runs;
    s->seconds /= runs;
    s->flops /= runs;
    s->flops_else /= runs;
    s->bytes /= runs;
    for (int c = 0; c < PB_COUNT_COUNT; c++) s->counted[c] /= runs;
}

pb_status pb_profile_row_sums(const pb_row *row, pb_profile_group by, pb_profile_mean *out) {
    pb_status status = PB_OK;
    pb_profile_table t = {0};
    pb_profile_sum *one = NULL;
    int n = 0;
    *out = (pb_profile_mean){0};
    for (int i = 0; i < row->n_runs; i++) {
        if (row->runs[i]->status != PB_RUN_OK || !row->runs[i]->profile) continue;
        pb_profile_table_free(&t);
        free(one);
        one = NULL;
        PB_TRY(pb_profile_table_read(row->runs[i], &t));
        PB_TRY(pb_profile_sums(&t, by, &one, &n));
        pb_profile_sum *bigger = realloc(out->sums, (size_t)(out->n + n + 1) * sizeof *bigger);
        if (!bigger) PB_FAIL(PB_E_OOM, "no memory for the profiles of %s", row->label);
        out->sums = bigger;
        out->n = merge(out->sums, out->n, one, n);
        out->step_s += t.step_s;
        out->counted = t.counted && (out->counted || out->n_runs == 0);
        out->n_runs++;
    }
    for (int i = 0; i < out->n; i++) divide(&out->sums[i], out->n_runs);
    if (out->n_runs) out->step_s /= out->n_runs;
    if (out->n) qsort(out->sums, (size_t)out->n, sizeof *out->sums, slowest_first);
done:
    pb_profile_table_free(&t);
    free(one);
    if (status != PB_OK) pb_profile_mean_free(out);
    return status;
}

void pb_profile_mean_free(pb_profile_mean *m) {
    free(m->sums);
    *m = (pb_profile_mean){0};
}

double pb_profile_mean_of(const pb_profile_mean *m, const char *name) {
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->sums[i].name, name) == 0) return m->sums[i].seconds;
    return 0;
}

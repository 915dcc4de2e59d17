/* The profile itself: names, spans, rows. */
#include "harness/profile/profile.h"

#include <stdlib.h>
#include <string.h>

const char *pb_by_name(pb_by by) {
    static const char *const names[PB_BY_COUNT] = {"kernel", "op", "site", "part", "phase"};
    return names[by];
}

void pb_profile_free(pb_profile *p) {
    for (int by = 0; by < PB_BY_COUNT; by++) {
        for (int i = 0; i < p->names[by].n; i++) free(p->names[by].name[i]);
        free(p->names[by].name);
    }
    free(p->spans);
    free(p->step_s);
    *p = (pb_profile){0};
}

/* Room for one more element: arrays double. */
static void *grown(void *array, int64_t n, int64_t *cap, size_t size) {
    if (n < *cap) return array;
    int64_t more = *cap > 0 ? 2 * *cap : 64;
    void *bigger = realloc(array, (size_t)more * size);
    if (bigger != NULL) *cap = more;
    return bigger;
}

int pb_profile_name(pb_profile *p, pb_by by, const char *name) {
    pb_names *list = &p->names[by];
    for (int i = 0; i < list->n; i++) {
        if (strcmp(list->name[i], name) == 0) return i;
    }
    int64_t cap = list->cap;
    char **bigger = grown(list->name, list->n, &cap, sizeof *bigger);
    if (bigger == NULL) return -1;
    list->name = bigger;
    list->cap = (int)cap;
    list->name[list->n] = strdup(name);
    return list->name[list->n] != NULL ? list->n++ : -1;
}

pb_status pb_profile_span(pb_profile *p, const pb_span *span) {
    pb_span *bigger = grown(p->spans, p->n_spans, &p->cap_spans, sizeof *bigger);
    if (bigger == NULL)
        return PB_ERROR(PB_E_OOM, "no host memory for %lld spans", (long long)p->n_spans + 1);
    p->spans = bigger;
    p->spans[p->n_spans++] = *span;
    return PB_OK;
}

pb_status pb_profile_step(pb_profile *p, double seconds) {
    double *bigger = realloc(p->step_s, (size_t)(p->steps + 1) * sizeof *bigger);
    if (bigger == NULL) return PB_ERROR(PB_E_OOM, "no host memory for %d steps", p->steps + 1);
    p->step_s = bigger;
    p->step_s[p->steps++] = seconds;
    return PB_OK;
}

/* --- rows --- */

typedef struct keyed {
    const pb_span *span;
    int64_t at, row;
} keyed;

static int compare_names(const int *a, const int *b) {
    for (int by = 0; by < PB_BY_COUNT; by++) {
        if (a[by] != b[by]) return a[by] < b[by] ? -1 : 1;
    }
    return 0;
}

static int by_names(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    int order = compare_names(x->span->name, y->span->name);
    return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

static int by_place(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static void add(pb_profile_row *row, const pb_span *s) {
    row->calls++;
    row->seconds += s->ns * 1e-9;
    row->work.flops += s->work.flops;
    row->work.flops_else += s->work.flops_else;
    row->work.bytes += s->work.bytes;
    row->work.ops += s->work.ops;
    for (int c = 0; c < PB_COUNT_COUNT; c++) row->counted[c] += s->counted[c];
}

/* Groups by sorting, then restores the order of first appearance. */
pb_status pb_profile_rows(const pb_profile *p, pb_profile_row **out, int64_t *n_out) {
    pb_status status = PB_OK;
    int64_t n = 0, spans = p->n_spans;
    keyed *list = calloc((size_t)spans + 1, sizeof *list), *first = NULL;
    pb_profile_row *rows = calloc((size_t)spans + 1, sizeof *rows), *ordered = NULL;
    *out = NULL;
    *n_out = 0;
    first = calloc((size_t)spans + 1, sizeof *first);
    if (list == NULL || rows == NULL || first == NULL)
        PB_FAIL(PB_E_OOM, "no host memory to group %lld spans", (long long)spans);
    for (int64_t i = 0; i < spans; i++) list[i] = (keyed){&p->spans[i], i, 0};
    qsort(list, (size_t)spans, sizeof *list, by_names);
    for (int64_t i = 0; i < spans; i++) {
        bool same = i > 0 && compare_names(list[i - 1].span->name, list[i].span->name) == 0;
        if (!same) {
            first[n] = (keyed){list[i].span, list[i].at, n};
            memcpy(rows[n++].name, list[i].span->name, sizeof rows->name);
        }
        add(&rows[n - 1], list[i].span);
    }
    qsort(first, (size_t)n, sizeof *first, by_place);
    ordered = calloc((size_t)n + 1, sizeof *ordered);
    if (ordered == NULL) PB_FAIL(PB_E_OOM, "no host memory for %lld rows", (long long)n);
    for (int64_t i = 0; i < n; i++) ordered[i] = rows[first[i].row];
    *out = ordered;
    *n_out = n;
done:
    free(list);
    free(first);
    free(rows);
    return status;
}

static int by_start(const void *a, const void *b) {
    const pb_span *x = *(const pb_span *const *)a, *y = *(const pb_span *const *)b;
    return (x->start_ns > y->start_ns) - (x->start_ns < y->start_ns);
}

pb_status pb_profile_busy(const pb_profile *p, double *seconds) {
    const pb_span **list = calloc((size_t)p->n_spans + 1, sizeof *list);
    int64_t n = 0;
    double ns = 0.0, until = 0.0;
    *seconds = 0.0;
    if (list == NULL)
        return PB_ERROR(PB_E_OOM, "no host memory for %lld spans", (long long)p->n_spans);
    for (int64_t i = 0; i < p->n_spans; i++) {
        const pb_span *s = &p->spans[i];
        if (strcmp(p->names[PB_BY_PHASE].name[s->name[PB_BY_PHASE]], "load") != 0) list[n++] = s;
    }
    qsort(list, (size_t)n, sizeof *list, by_start);
    for (int64_t i = 0; i < n; i++) {
        double end = list[i]->start_ns + list[i]->ns;
        double from = i > 0 && list[i]->start_ns < until ? until : list[i]->start_ns;
        if (end > from) ns += end - from;
        if (i == 0 || end > until) until = end;
    }
    free(list);
    *seconds = ns * 1e-9;
    return PB_OK;
}

double pb_profile_op_seconds(const pb_profile *p, const char *op) {
    double ns = 0.0;
    for (int64_t i = 0; i < p->n_spans; i++) {
        if (strcmp(p->names[PB_BY_OP].name[p->spans[i].name[PB_BY_OP]], op) == 0)
            ns += p->spans[i].ns;
    }
    return ns * 1e-9;
}

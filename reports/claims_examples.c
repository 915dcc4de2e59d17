/* What terms say of every test example: metrics that are means over examples, and sums, differences and
 * multiples of them, so that what two terms say pairs example by example. Test:
 * tests/test_claims_examples.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/claims_op.h"

static const char before[] = "/before";

static const char *metric_of(const pb_json *term) {
    const pb_json *m = pb_json_get(term, "metric");
    return cJSON_IsString(m) ? m->valuestring : "";
}

bool cl_is_before(const pb_json *term) {
    const char *tag = metric_of(term);
    size_t n = strlen(tag), m = strlen(before);
    return n > m && strcmp(tag + n - m, before) == 0;
}

static const pb_sample *loaded(const pb_record *r, const char *tag) {
    const pb_sample *s = pb_record_find_sample(r, tag);
    return s && s->values && s->n < INT32_MAX ? s : NULL;
}

/* eval/test/nll@rank=3, "id" -> eval/test/id */
static const pb_sample *beside(const pb_record *r, const char *sample, const char *what) {
    char tag[96];
    size_t n = strcspn(sample + 5, "/");
    snprintf(tag, sizeof tag, "eval/%.*s/%s", (int)n, sample + 5, what);
    return loaded(r, tag);
}

/* The sample that a metric is the mean of; in language modelling, where examples weigh as much as they
 * have tokens, its record says no "mean:..." (results/SCHEMA.md). */
static const pb_sample *sample_of(const pb_record *r, const char *tag) {
    char sample[96];
    const pb_metric *m = pb_record_find(r, tag);
    if (!m) return NULL;
    if (strncmp(m->from, "mean:eval/", 10) == 0) return loaded(r, strchr(m->from, ':') + 1);
    if (*m->from || strncmp(tag, "quality/", 8) != 0) return NULL;
    const char *what = strchr(tag + 8, '/');
    if (!what) return NULL;
    int split = (int)(what - tag - 8);
    if (strncmp(what, "/accuracy", 9) == 0)
        snprintf(sample, sizeof sample, "eval/%.*s/correct%s", split, tag + 8, what + 9);
    else
        snprintf(sample, sizeof sample, "eval/%s", tag + 8);
    const pb_sample *s = loaded(r, sample);
    return s && beside(r, sample, "tokens") ? s : NULL;
}

/* One seed's row of the table while it is being summed. */
typedef struct row {
    cl_context *x;
    uint64_t seed;
    double *sum, constant;
    const pb_sample *id, *tokens;
    int n, terms;     /* examples; metrics summed */
    bool before_only; /* of every metric so far */
} row;

static bool same(const pb_sample *a, const pb_sample *b) {
    return (!a && !b) ||
           (a && b && a->n == b->n &&
            memcmp(a->values, b->values, (size_t)a->n * sizeof(double)) == 0);
}

static bool add_metric(row *t, const pb_json *term, double factor) {
    const pb_record *r = cl_term_run(t->x, term, t->seed);
    const pb_sample *s = r ? sample_of(r, metric_of(term)) : NULL;
    const pb_sample *id = s ? beside(r, s->tag, "id") : NULL, *tokens = s ? beside(r, s->tag, "tokens") : NULL;
    if (!id || id->n != s->n || s->n < 2 || (tokens && tokens->n != s->n)) return false;
    if (t->terms == 0) {
        t->n = (int)s->n;
        t->id = id;
        t->tokens = tokens;
        t->sum = calloc((size_t)t->n, sizeof *t->sum);
        if (!t->sum) return false;
    }
    if (!same(t->id, id) || !same(t->tokens, tokens)) return false;
    for (int i = 0; i < t->n; i++) t->sum[i] += factor * s->values[i];
    t->terms++;
    t->before_only = t->before_only && cl_is_before(term);
    return true;
}

static bool has_rows(const pb_json *o) {
    const pb_json *e = NULL;
    if (pb_json_get(o, "suite")) return true;
    cJSON_ArrayForEach (e, o)
        if (has_rows(e)) return true;
    return false;
}

/* A term without rows: one number for all examples. */
static bool constant_of(cl_context *x, const pb_json *term, double *v) {
    cl_values c = {0};
    if (has_rows(term) || cl_term(x, term, &c) != PB_OK) return false;
    bool is = c.constant && c.n == 1;
    if (is) *v = c.value[0];
    cl_values_free(&c);
    return is;
}

/* Adds factor x term; false when it is no linear combination of means over the same examples. */
static bool add_term(row *t, const pb_json *term, double factor) {
    const pb_json *list = NULL, *e = NULL, *one = NULL;
    double v = 0;
    if (pb_json_get(term, "suite")) return add_metric(t, term, factor);
    if (constant_of(t->x, term, &v)) {
        t->constant += factor * v;
        return true;
    }
    if ((list = pb_json_get(term, "sum"))) {
        cJSON_ArrayForEach (e, list)
            if (!add_term(t, e, factor)) return false;
        return true;
    }
    if ((list = pb_json_get(term, "difference")))
        return add_term(t, cJSON_GetArrayItem(list, 0), factor) &&
               add_term(t, cJSON_GetArrayItem(list, 1), -factor);
    if (!(list = pb_json_get(term, "product"))) return false;
    cJSON_ArrayForEach (e, list) {
        if (constant_of(t->x, e, &v)) factor *= v;
        else if (one) return false;
        else one = e;
    }
    return one && add_term(t, one, factor);
}

void cl_table_free(cl_table *t) {
    free(t->d);
    free(t->weights);
    *t = (cl_table){0};
}

static bool take_row(cl_table *out, const row *t, int i, int n_seeds) {
    size_t n = (size_t)t->n;
    if (i == 0) {
        out->n_examples = t->n;
        out->d = malloc((size_t)n_seeds * n * sizeof *out->d);
        if (t->tokens) out->weights = malloc(n * sizeof *out->weights);
        if (!out->d || (t->tokens && !out->weights)) return false;
        if (t->tokens) memcpy(out->weights, t->tokens->values, n * sizeof *out->weights);
    }
    if (t->n != out->n_examples || !t->tokens != !out->weights ||
        (out->weights && memcmp(out->weights, t->tokens->values, n * sizeof *out->weights) != 0))
        return false;
    for (size_t k = 0; k < n; k++) out->d[(size_t)i * n + k] = t->sum[k] + t->constant;
    return true;
}

bool cl_table_of(cl_context *x, const cl_settings *s, const uint64_t *seeds, int n, cl_table *out) {
    bool before_only = true, ok = n > 0;
    *out = (cl_table){0};
    for (int i = 0; i < n && ok; i++) {
        row t = {.x = x, .seed = seeds[i], .before_only = true};
        ok = add_term(&t, s->left, 1) && add_term(&t, s->right, -1) && t.terms > 1 &&
             take_row(out, &t, i, n);
        before_only = before_only && t.before_only;
        free(t.sum);
    }
    size_t bytes = (size_t)out->n_examples * sizeof *out->d;
    for (int i = 1; i < n && ok && before_only; i++)
        before_only = memcmp(out->d, (char *)out->d + (size_t)i * bytes, bytes) == 0;
    out->n_seeds = ok && before_only ? 1 : n;
    out->seedless = ok && before_only;
    if (!ok) cl_table_free(out);
    return ok;
}

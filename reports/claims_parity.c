/* The parity guard for claims: the rows that one assertion reads must not differ in what is no
 * difference of the methods, unless the claim waives it by name ("waive": ["scale"]). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "reports/claims_impl.h"

enum { MOST_TERMS = 64 };

/* Row terms of a tree, in order. */
static void collect(const pb_json *o, const pb_json **terms, int *n) {
    const pb_json *e = NULL;
    if (cJSON_IsObject(o) && cJSON_IsString(pb_json_get(o, "suite"))) {
        if (*n < MOST_TERMS) terms[(*n)++] = o;
        return;
    }
    if (cJSON_IsObject(o) || cJSON_IsArray(o)) cJSON_ArrayForEach (e, o) collect(e, terms, n);
}

/* Times, their ratios and bytes: threads and micro-batches move them, too. */
static bool is_cost(const pb_json *term) {
    static const char *const starts[] = {"time/", "ratio/infer/", "memory/"};
    const char *tags[] = {pb_json_text(term, "metric"), pb_json_text(term, "over"), pb_json_text(term, "sample")};
    if (pb_json_get(term, "memory")) return true;
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        for (size_t k = 0; k < sizeof starts / sizeof starts[0]; k++)
            if (strncmp(tags[i], starts[k], strlen(starts[k])) == 0) return true;
    return false;
}

static bool same_rows(const pb_json *a, const pb_json *b) {
    return strcmp(pb_json_text(a, "suite"), pb_json_text(b, "suite")) == 0 &&
           strcmp(pb_json_text(a, "label"), pb_json_text(b, "label")) == 0;
}

static void note_waived(const pb_parity *p, pb_text *waived) {
    for (int i = 0; i < p->n; i++) {
        char one[384];
        if (!p->items[i].waived) continue;
        snprintf(one, sizeof one, "%s (%s / %s)", p->items[i].title, p->items[i].a, p->items[i].b);
        if (waived->data && strstr(waived->data, p->items[i].title)) continue;
        pb_text_add(waived, "%s%s", waived->len ? "; " : "", one);
    }
}

/* The records as rows, trials of a tuning too: what a term's label may name. */
typedef struct row_list {
    pb_chapter *chapters;
    const pb_row **rows;
    int n_chapters, n;
} row_list;

static void free_rows(row_list *l) {
    pb_chapters_free(l->chapters, l->n_chapters);
    free(l->rows);
}

static pb_status make_rows(const cl_context *x, row_list *l) {
    *l = (row_list){0};
    PB_RETURN(pb_chapters_make(x->records, x->n_records, &l->chapters, &l->n_chapters));
    l->rows = calloc((size_t)x->n_records + 1, sizeof *l->rows);
    if (!l->rows) {
        free_rows(l);
        return PB_ERROR(PB_E_OOM, "no memory for the rows of a claim");
    }
    for (int i = 0; i < l->n_chapters; i++) {
        const pb_chapter *c = &l->chapters[i];
        for (int k = 0; k < c->n_rows; k++) l->rows[l->n++] = &c->rows[k];
        for (int k = 0; k < c->n_trials; k++) l->rows[l->n++] = &c->trials[k];
    }
    return PB_OK;
}

static pb_status compare_rows(const pb_row *a, const pb_row *b, bool cost,
                              const pb_waivers *waivers, char stop[400], pb_text *waived) {
    pb_parity p;
    PB_RETURN(pb_parity_check(a, b, waivers, &p));
    const pb_parity_finding *f = pb_parity_stop(&p, cost);
    note_waived(&p, waived);
    if (f)
        snprintf(stop, 400, "%.60s / %.60s differ in %.40s (%.50s): %.70s against %.70s", a->label,
                 b->label, f->field, f->title, f->a, f->b);
    pb_parity_free(&p);
    return pb_text_status(waived);
}

/* Of one term, a and b the same, each row with itself: its runs must be of one row. */
static pb_status compare_terms(const cl_context *x, const row_list *l, const pb_json *a,
                               const pb_json *b, const pb_waivers *waivers, char stop[400],
                               pb_text *waived) {
    bool cost = is_cost(a) || is_cost(b);
    for (int i = 0; i < l->n && !*stop; i++) {
        if (!l->rows[i]->n_ok || !cl_row_matches(x, a, l->rows[i]->runs[0])) continue;
        for (int k = 0; k < l->n && !*stop; k++) {
            if ((i == k) != (a == b) || !l->rows[k]->n_ok) continue;
            if (cl_row_matches(x, b, l->rows[k]->runs[0]))
                PB_RETURN(compare_rows(l->rows[i], l->rows[k], cost, waivers, stop, waived));
        }
    }
    return PB_OK;
}

/* Two runs at one seed would be averaged: right for the rows of a pattern, wrong for one row, in
 * however many folders it lies. */
static pb_status check_seeds(const cl_context *x, const pb_json *term, const pb_waivers *waivers,
                             char stop[400], pb_text *waived) {
    bool may = false;
    if (strpbrk(pb_json_text(term, "label"), "*?[")) return PB_OK;
    for (int i = 0; i < waivers->n; i++) may = may || strcmp(waivers->names[i], "row") == 0;
    for (int i = 0; i < x->n_records; i++) {
        const pb_record *r = &x->records[i];
        if (r->status != PB_RUN_OK || !cl_row_matches(x, term, r)) continue;
        for (int k = 0; k < i; k++) {
            const pb_record *s = &x->records[k];
            if (s->seed != r->seed || s->status != PB_RUN_OK || strcmp(s->run_id, r->run_id) == 0 ||
                !cl_row_matches(x, term, s))
                continue;
            if (!may)
                snprintf(stop, 400,
                         "%.60s has two runs at seed %" PRIu64 " (row): %s/%s against %s/%s", r->label,
                         r->seed, s->suite, s->run_id, r->suite, r->run_id);
            else if (!waived->data || !strstr(waived->data, "two runs at one seed"))
                pb_text_add(waived, "%stwo runs at one seed", waived->len ? "; " : "");
            return pb_text_status(waived);
        }
    }
    return PB_OK;
}

pb_status cl_waivers(const pb_claim_file *claim, const char *names[CL_WAIVERS], pb_waivers *out) {
    const pb_json *list = pb_json_get(claim->json, "waive"), *e = NULL;
    char where[CL_WHERE];
    *out = (pb_waivers){.names = names};
    snprintf(where, sizeof where, "%.500s: waive:", claim->file);
    if (!list) return PB_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > CL_WAIVERS)
        return PB_ERROR(PB_E_INPUT, "%s expected an array of up to %d fields", where, CL_WAIVERS);
    cJSON_ArrayForEach (e, list) {
        if (!cJSON_IsString(e)) return PB_ERROR(PB_E_INPUT, "%s expected texts", where);
        names[out->n++] = e->valuestring;
    }
    return pb_waivers_check(where, out, NULL, 0);
}

pb_status cl_parity(const cl_context *x, const pb_json *assertion, char stop[400], pb_text *waived) {
    pb_status status = PB_OK;
    const pb_json *terms[MOST_TERMS];
    const char *names[CL_WAIVERS];
    pb_waivers waivers;
    row_list rows;
    int n = 0;
    *stop = 0;
    PB_RETURN(cl_waivers(x->claim, names, &waivers));
    PB_RETURN(make_rows(x, &rows));
    collect(assertion, terms, &n);
    for (int i = 0; i < n && !*stop; i++) {
        /* a count of parameters hangs on no setting of the training */
        if (pb_json_get(terms[i], "field")) continue;
        PB_TRY(check_seeds(x, terms[i], &waivers, stop, waived));
        for (int k = i; k < n && !*stop; k++) {
            if ((k != i && same_rows(terms[i], terms[k])) || pb_json_get(terms[k], "field"))
                continue;
            PB_TRY(compare_terms(x, &rows, terms[i], terms[k], &waivers, stop, waived));
        }
    }
done:
    free_rows(&rows);
    return status;
}

/* See advise_evidence.h. Test: tests/test_advise.c. */
#include "harness/advise_evidence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

struct pb_evidence {
    pb_record *records;
    int n_records;
    pb_chapter *chapters;
    int n_chapters;
    const pb_chapter *chapter; /* that speaks */
    pb_entry *entries;         /* its rows, in their order */
    pb_comparison comparison;  /* against LoRA's row */
    char where[256];
};

/* ---- which comparison ---- */

static bool is_lora(const pb_row *row) {
    return strcmp(row->method, "lora") == 0 && row->n_ok > 0;
}

static bool is_tuned(const pb_row *row) {
    return strcmp(pb_row_example(row)->phase, "final") == 0;
}

/* How much a chapter can say: finished seeds of LoRA up to the fair number, tuned, methods, seeds. */
typedef struct weight {
    int fair, tuned, methods, seeds;
} weight;

static weight weigh(const pb_chapter *c) {
    weight w = {0};
    for (int i = 0; i < c->n_rows; i++) {
        const pb_row *row = &c->rows[i];
        bool first = row->n_ok > 0;
        for (int k = 0; k < i && first; k++)
            first = !c->rows[k].n_ok || strcmp(c->rows[k].method, row->method) != 0;
        w.methods += first;
        if (!is_lora(row)) continue;
        if (row->n_ok > w.seeds) w.seeds = row->n_ok;
        w.tuned |= is_tuned(row);
    }
    w.fair = w.seeds < PB_FAIR_SEEDS ? w.seeds : PB_FAIR_SEEDS;
    return w;
}

static bool says_more(weight a, weight b) {
    if (a.fair != b.fair) return a.fair > b.fair;
    if (a.tuned != b.tuned) return a.tuned > b.tuned;
    if (a.methods != b.methods) return a.methods > b.methods;
    return a.seeds > b.seeds;
}

static const pb_chapter *choose_chapter(const pb_chapter *chapters, int n) {
    const pb_chapter *best = NULL;
    for (int i = 0; i < n; i++) {
        weight w = weigh(&chapters[i]);
        if (w.seeds && (!best || says_more(w, weigh(best)))) best = &chapters[i];
    }
    return best;
}

/* ---- which rows ---- */

static double validation(const pb_row *row) {
    double nll = pb_row_stat(row, "quality/valid/nll").mean;
    return isfinite(nll) ? nll : INFINITY;
}

static int leading(const pb_evidence *e) {
    return pb_measure_present(&e->comparison, PB_NLL) ? PB_NLL : PB_ACCURACY;
}

const pb_verdict *pb_evidence_verdict(const pb_evidence *e, int a, int b) {
    return pb_verdict_of(&e->comparison, leading(e), a, b);
}

static const pb_json *targets_of(const pb_record *r) {
    return pb_json_get(pb_json_get(r->config, "params"), "targets");
}

/* Full fine-tuning of the norms or of the top layer alone is something else. */
static bool is_whole(const pb_method *method, const pb_row *row) {
    return !method->trains_base || cJSON_GetArraySize(targets_of(pb_row_example(row))) == 0;
}

static int speaker(const pb_evidence *e, const pb_method *method, const char **why) {
    int best = -1, base = e->comparison.baseline;
    *why = "the records have no finished run of it";
    for (int i = 0; i < e->comparison.n; i++) {
        const pb_row *row = e->entries[i].row;
        if (strcmp(row->method, method->name) != 0 || row->n_ok == 0) continue;
        if (i == base) return i;
        if (!is_whole(method, row)) {
            if (best < 0) *why = "the records have it on some of the weights alone";
            continue;
        }
        const pb_verdict *v = pb_evidence_verdict(e, i, base);
        if (v->kind == PB_INCOMPARABLE) {
            *why = v->why;
            continue;
        }
        const pb_row *now = best < 0 ? NULL : e->entries[best].row;
        if (!now || row->n_ok > now->n_ok ||
            (row->n_ok == now->n_ok && validation(row) < validation(now)))
            best = i;
    }
    return best;
}

/* ---- reading ---- */

static pb_status compare(pb_evidence *e) {
    const pb_chapter *c = e->chapter;
    e->entries = calloc((size_t)(unsigned)c->n_rows, sizeof *e->entries);
    if (!e->entries) return PB_ERROR(PB_E_OOM, "no memory for %d rows", c->n_rows);
    for (int i = 0; i < c->n_rows; i++) {
        e->entries[i].row = &c->rows[i];
        pb_copy(e->entries[i].name, sizeof e->entries[i].name, c->rows[i].label);
    }
    PB_RETURN(pb_comparison_make(e->entries, c->n_rows, PB_BASELINE_AUTO, NULL, &e->comparison));
    const pb_row *base = e->entries[e->comparison.baseline].row;
    snprintf(e->where, sizeof e->where, "%.60s: %.70s on %.70s, %d seed%s%s", c->suite, c->model, c->dataset, base->n_ok,
             base->n_ok == 1 ? "" : "s", is_tuned(base) ? ", tuned" : "");
    return PB_OK;
}

pb_status pb_evidence_load(const char *dir, pb_evidence **out) {
    pb_status status = PB_OK;
    *out = NULL;
    if (!dir || !pb_is_dir(dir)) return PB_OK;
    pb_evidence *e = calloc(1, sizeof *e);
    if (!e) return PB_ERROR(PB_E_OOM, "no memory for the records of %s", dir);
    status = pb_records_load(dir, true, &e->records, &e->n_records);
    if (status == PB_E_INPUT && e->n_records == 0 && strstr(pb_error_message(), "holds no run")) {
        pb_error_clear(); /* a folder without records supports nothing */
        status = PB_OK;
        goto done;
    }
    if (status != PB_OK) goto done;
    PB_TRY(pb_chapters_make(e->records, e->n_records, &e->chapters, &e->n_chapters));
    e->chapter = choose_chapter(e->chapters, e->n_chapters);
    if (!e->chapter) goto done;
    PB_TRY(compare(e));
    *out = e;
    e = NULL;
done:
    pb_evidence_free(e);
    return status;
}

void pb_evidence_free(pb_evidence *e) {
    if (!e) return;
    pb_comparison_free(&e->comparison);
    pb_chapters_free(e->chapters, e->n_chapters);
    pb_records_free(e->records, e->n_records);
    free(e->entries);
    free(e);
}

/* ---- answers ---- */

/* Every target names its layer, "layers.3.*", of `from` to `to` - 1. */
static bool trains_layers(const pb_record *r, double from, double to) {
    const pb_json *targets = targets_of(r), *t = NULL;
    bool all = cJSON_GetArraySize(targets) > 0;
    cJSON_ArrayForEach (t, targets) {
        const char *number = cJSON_IsString(t) && strncmp(t->valuestring, "layers.", 7) == 0 ? t->valuestring + 7 : "";
        double layer = (double)strtol(number, NULL, 10);
        all = all && strspn(number, "0123456789") > 0 && layer >= from && layer < to;
    }
    return all;
}

static double train_examples(const pb_record *r) {
    const pb_json *n = pb_json_get(pb_json_get(r->dataset, "splits"), "train");
    return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

static int64_t most_examples(const pb_evidence *e, const char *method, bool some_layers) {
    double most = 0;
    for (int i = 0; i < e->n_records; i++) {
        const pb_record *r = &e->records[i];
        if (strcmp(r->method, method) != 0) continue;
        if (!some_layers || trains_layers(r, 0, INFINITY)) most = fmax(most, train_examples(r));
    }
    return (int64_t)most;
}

void pb_evidence_quality(const pb_evidence *e, const pb_method *method, pb_advise_quality *out) {
    const char *why = "no records";
    *out = (pb_advise_quality){.entry = -1};
    int entry = e ? speaker(e, method, &why) : -1;
    if (e) out->most_examples = most_examples(e, method->name, false);
    if (e) out->most_examples_some = most_examples(e, method->name, true);
    if (entry < 0) {
        pb_copy(out->why, sizeof out->why, why);
        return;
    }
    const pb_row *row = e->entries[entry].row;
    int base = e->comparison.baseline;
    out->known = true;
    out->entry = entry;
    out->label = row->label;
    out->params = pb_json_get(pb_row_example(row)->config, "params");
    out->n_seeds = row->n_ok;
    if (entry == base) return;
    out->lead = pb_evidence_verdict(e, entry, base);
    out->n_seeds = out->lead->n_seeds;
    if (leading(e) == PB_ACCURACY) return;
    const pb_verdict *accuracy = pb_verdict_of(&e->comparison, PB_ACCURACY, entry, base);
    if (accuracy->kind != PB_INCOMPARABLE) out->accuracy = accuracy;
}

double pb_evidence_scale(const pb_evidence *e, double otherwise) {
    if (!e) return otherwise;
    const pb_record *r = pb_row_example(e->entries[e->comparison.baseline].row);
    const pb_json *scale = pb_json_get(pb_json_get(r->config, "params"), "scale");
    return cJSON_IsNumber(scale) && scale->valuedouble > 0 ? scale->valuedouble : otherwise;
}

const pb_measure *pb_evidence_lead(const pb_evidence *e) {
    return &pb_measures[leading(e)];
}

bool pb_evidence_beats(const pb_evidence *e, int a, int b) {
    const pb_verdict *lead = pb_evidence_verdict(e, a, b);
    if (lead->kind != PB_NO_DIFFERENCE) return lead->kind == PB_BETTER;
    return pb_verdict_of(&e->comparison, PB_ACCURACY, a, b)->kind == PB_BETTER;
}

double pb_evidence_mean(const pb_evidence *e, int entry) {
    int m = leading(e);
    return pb_measures[m].better * pb_estimate_of(&e->comparison, m, entry)->mean;
}

const char *pb_evidence_where(const pb_evidence *e) { return e->where; }

/* ---- beyond a number of examples ---- */

static bool is_beyond(const pb_row *row, const char *method, int64_t over) {
    return strcmp(row->method, method) == 0 && row->n_ok > 0 && train_examples(pb_row_example(row)) > (double)over;
}

/* On the upper half of the model's layers or fewer of them. */
static bool is_on_top(const pb_row *row) {
    const pb_record *r = pb_row_example(row);
    const pb_json *layers = pb_json_get(r->model, "layers");
    return cJSON_IsNumber(layers) && trains_layers(r, floor(layers->valuedouble / 2), layers->valuedouble);
}

static bool is_on_all(const pb_row *row) {
    const pb_json *targets = targets_of(pb_row_example(row)), *t = NULL;
    bool all = cJSON_GetArraySize(targets) == 0;
    cJSON_ArrayForEach (t, targets) all = all || (cJSON_IsString(t) && strcmp(t->valuestring, "*") == 0);
    return all;
}

/* The rows of one chapter that are on the top layers against one of LoRA's on all: with the most seeds, else the first. */
static pb_status compare_tops(const pb_chapter *c, const pb_row *lora, const char *method, int64_t over,
                              pb_evidence_top *out) {
    static const char *const waived[] = {"targets"};
    pb_status status = PB_OK;
    pb_comparison x = {0};
    int n = 1;
    pb_entry *entries = calloc((size_t)c->n_rows + 1, sizeof *entries);
    if (!entries) return PB_ERROR(PB_E_OOM, "no memory for %d rows", c->n_rows);
    entries[0].row = lora;
    for (int i = 0; i < c->n_rows; i++)
        if (is_beyond(&c->rows[i], method, over) && is_on_top(&c->rows[i])) entries[n++].row = &c->rows[i];
    if (n == 1) goto done;
    PB_TRY(pb_comparison_make(entries, n, 0, &(pb_waivers){waived, 1}, &x));
    int m = pb_measure_present(&x, PB_NLL) ? PB_NLL : PB_ACCURACY;
    for (int i = 1; i < n; i++) {
        const pb_verdict *v = pb_verdict_of(&x, m, i, 0);
        bool judged = v->kind != PB_INCOMPARABLE;
        if (out->known && (!judged || v->n_seeds <= out->verdict.n_seeds)) continue;
        *out = (pb_evidence_top){.known = judged, .label = entries[i].row->label, .measure = &pb_measures[m], .verdict = *v};
        out->examples = (int64_t)train_examples(pb_row_example(entries[i].row));
        pb_copy(out->why, sizeof out->why, v->why);
        snprintf(out->where, sizeof out->where, "%.60s: %.70s on %.70s", c->suite, c->model, c->dataset);
    }
done:
    pb_comparison_free(&x);
    free(entries);
    return status;
}

pb_status pb_evidence_top_layers(const pb_evidence *e, const char *method, int64_t over, pb_evidence_top *out) {
    *out = (pb_evidence_top){.why = "no suite has it there beside LoRA on all layers"};
    for (int i = 0; e && i < e->n_chapters; i++) {
        const pb_chapter *c = &e->chapters[i];
        for (int k = 0; k < c->n_rows; k++)
            if (is_beyond(&c->rows[k], "lora", over) && is_on_all(&c->rows[k]))
                PB_RETURN(compare_tops(c, &c->rows[k], method, over, out));
    }
    return PB_OK;
}

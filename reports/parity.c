/* The fields of the parity guard and the diff. Every getter writes a value as text and says whether
 * the record has it; a field is compared where both have it. */
#include "reports/parity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/model.h"

/* ---- readers ---- */

/* Member at a dotted path, NULL when absent. */
static const pb_json *at(const pb_json *o, const char *path) {
    char key[64];
    while (o && *path) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof key) return NULL;
        memcpy(key, path, n);
        key[n] = 0;
        o = pb_json_get(o, key);
        path += n + (path[n] == '.');
    }
    return o;
}

static bool number_at(const pb_json *o, const char *path, double *out) {
    const pb_json *v = at(o, path);
    if (!cJSON_IsNumber(v)) return false;
    *out = v->valuedouble;
    return true;
}

/* Whole, however long: only what is shown is cut. */
static bool print(const pb_json *v, pb_text *out) {
    if (!v || cJSON_IsNull(v)) return false;
    if (cJSON_IsString(v)) return pb_text_add(out, "%s", v->valuestring), true;
    char *text = pb_json_print(v, false);
    if (text) pb_text_add(out, "%s", text);
    out->failed = out->failed || !text;
    free(text);
    return true;
}

/* alpha / r of a low-rank branch, alpha / sqrt r for rsLoRA; AdaLoRA divides by its initial rank. false:
 * the method has no such branch. */
static bool branch_scale(const pb_record *r, double *out) {
    const pb_json *p = pb_json_get(r->config, "params");
    double alpha, rank;
    if (number_at(p, "scale", out)) return true;
    if (!number_at(p, "alpha", &alpha)) return false;
    if (!number_at(p, "rank", &rank) && !number_at(p, "init_rank", &rank)) return false;
    *out = alpha / (cJSON_IsTrue(at(p, "rslora")) ? sqrt(rank) : rank);
    return true;
}

/* Four digits: the released AdaLoRA adds 1e-5 to the rank. */
static bool scale(const pb_record *r, pb_text *out) {
    double s;
    if (!branch_scale(r, &s)) return false;
    pb_text_add(out, "%.4g", s);
    return true;
}

/* Where the branches lie. Which of its own weights a method without one trains is what it does: full
 * fine-tuning of the norms alone is another method. */
static bool targets(const pb_record *r, pb_text *out) {
    double s;
    return branch_scale(r, &s) && print(at(r->config, "params.targets"), out);
}

static bool biases(const pb_record *r, pb_text *out) {
    double s;
    return branch_scale(r, &s) && print(at(r->config, "params.bias"), out);
}

/* What the trained weights are kept in between steps: f32 itself, f32 copies beside 16-bit weights,
 * or the 16 bits alone. */
static bool trained_precision(const pb_record *r, pb_text *out) {
    const pb_json *dtype = pb_json_get(r->config, "dtype");
    bool known = false, master = false;
    if (!cJSON_IsString(dtype)) return false;
    for (int i = 0; i < r->n_memory; i++) {
        if (strcmp(r->memory[i].tag, "master") != 0) continue;
        known = true;
        master = r->memory[i].peak || r->memory[i].predicted;
    }
    bool f32 = strcmp(dtype->valuestring, "f32") == 0;
    if (!known && !f32) return false;
    pb_text_add(out, "%s", f32 || master ? "f32" : dtype->valuestring);
    return true;
}

static bool steps(const pb_record *r, pb_text *out) {
    const pb_sample *s = pb_record_find_sample(r, "loss/train");
    if (!s) return print(at(r->config, "train.steps"), out);
    pb_text_add(out, "%lld", (long long)s->n);
    return true;
}

static bool tokens(const pb_record *r, pb_text *out) {
    const pb_sample *s = pb_record_find_sample(r, "step/tokens");
    double sum = 0;
    if (!s || !s->values) return false;
    for (int64_t i = 0; i < s->n; i++) sum += s->values[i];
    pb_text_add(out, "%.0f", sum);
    return true;
}

static bool batch(const pb_record *r, pb_text *out) {
    double n, times = 1;
    if (!number_at(r->config, "train.batch", &n)) return false;
    number_at(r->config, "train.accumulate", &times);
    pb_text_add(out, "%.0f", n * times);
    return true;
}

/* The order's own hash where the record has it; else the tokens of every step, which say the same
 * for sequences of unequal length. */
static bool order(const pb_record *r, pb_text *out) {
    const pb_sample *s = pb_record_find_sample(r, "step/tokens");
    if (print(at(r->dataset, "order_sha256"), out)) return true;
    if (!s) return false;
    pb_text_add(out, "tokens per step %.12s", s->sha256);
    return true;
}

static bool test_examples(const pb_record *r, pb_text *out) {
    const pb_sample *s = pb_record_find_sample(r, "eval/test/id");
    if (!s) return false;
    pb_text_add(out, "%lld, ids %.12s", (long long)s->n, s->sha256);
    return true;
}

static bool is_tuned(const pb_record *r) {
    return strcmp(r->phase, "final") == 0;
}

static bool tuning(const pb_record *r, pb_text *out) {
    pb_text_add(out, "%s", is_tuned(r) ? "chosen on the validation data" : "given");
    return true;
}

/* The revision names a build from unchanged sources. Of others the executable's hash does; records that
 * have none on either side say no more than that both were changed. */
static bool build_sources(const pb_record *r, pb_text *out) {
    const pb_json *build = at(r->environment, "build"), *hash = pb_json_get(build, "executable"),
                  *revision = pb_json_get(build, "revision");
    if (!cJSON_IsString(revision)) return false;
    bool named = !cJSON_IsTrue(pb_json_get(build, "dirty")) && *revision->valuestring;
    pb_text_add(out, "%s", named ? "unchanged" : "changed");
    if (!named && cJSON_IsString(hash)) pb_text_add(out, ", executable %s", hash->valuestring);
    return true;
}

/* ---- the table ---- */

typedef enum source { CONFIG, DATASET, MODEL, ENVIRONMENT, DERIVED } source;

/* A path that ends in '.' stands for all below it. Of what is derived it is the setting that a waiver
 * may name instead. */
static const struct field {
    const char *name, *title;
    source from;
    const char *path;
    bool (*get)(const pb_record *r, pb_text *out); /* false: the record does not say */
    bool cost_only;
} fields[] = {
    {"scale", "effective scale (alpha / r)", DERIVED, "params.scale", scale, false},
    {"targets", "target modules", DERIVED, "params.targets", targets, false},
    {"targets", "trained biases", DERIVED, "params.bias", biases, false},
    {"dropout", "dropout of the branch", CONFIG, "params.dropout", NULL, false},
    {"dropout", "dropout", CONFIG, "train.hidden_dropout", NULL, false},
    {"dropout", "dropout of attention", CONFIG, "train.attention_dropout", NULL, false},
    {"dropout", "dropout before the head", CONFIG, "train.head_dropout", NULL, false},
    {"precision", "precision of the weights", CONFIG, "dtype", NULL, false},
    {"precision", "precision of the trained weights", DERIVED, NULL, trained_precision, false},
    {"optimizer", "optimizer and the precision of its state", CONFIG, "train.optimizer", NULL,
     false},
    {"optimizer", "beta1", CONFIG, "train.beta1", NULL, false},
    {"optimizer", "beta2", CONFIG, "train.beta2", NULL, false},
    {"optimizer", "eps", CONFIG, "train.eps", NULL, false},
    {"steps", "training steps", DERIVED, "train.steps", steps, false},
    {"tokens", "tokens trained on", DERIVED, NULL, tokens, false},
    {"schedule", "learning rate schedule", CONFIG, "train.schedule", NULL, false},
    {"schedule", "warm-up", CONFIG, "train.warmup", NULL, false},
    {"batch", "sequences per step", DERIVED, "train.batch", batch, false},
    {"accumulate", "sequences per micro-batch", CONFIG, "train.batch", NULL, true},
    {"accumulate", "micro-batches per step", CONFIG, "train.accumulate", NULL, true},
    {"checkpoint", "activation checkpointing", CONFIG, "train.checkpoint", NULL, true},
    {"paged", "paged optimizer state", CONFIG, "train.paged", NULL, true},
    {"clip", "gradient clipping", CONFIG, "train.clip", NULL, false},
    {"decay", "weight decay", CONFIG, "train.weight_decay", NULL, false},
    {"model", "model", MODEL, "name", NULL, false},
    {"model", "sha256 of the model", MODEL, "sha256", NULL, false},
    {"data", "data set", DATASET, "name", NULL, false},
    {"data", "sha256 of the data", DATASET, "sha256", NULL, false},
    {"data", "length limit", CONFIG, "data.max_len", NULL, false},
    {"data", "training examples", DATASET, "splits.train", NULL, false},
    {"data", "validation examples", DATASET, "splits.valid", NULL, false},
    {"data", "test examples", DATASET, "splits.test", NULL, false},
    {"data", "which test examples", DERIVED, NULL, test_examples, false},
    {"data", "seed of the subsample", CONFIG, "data.subsample_seed", NULL, false},
    {"general", "general text", CONFIG, "eval.general.", NULL, false},
    {"order", "order of the data", DERIVED, NULL, order, false},
    {"tuning", "the learning rate is", DERIVED, NULL, tuning, false},
    {"device", "device", CONFIG, "device", NULL, false},
    {"machine", "machine", ENVIRONMENT, "machine.", NULL, false},
    {"software", "system", ENVIRONMENT, "system.", NULL, false},
    {"software", "build", ENVIRONMENT, "build.", NULL, false},
    {"software", "sources of the build", DERIVED, NULL, build_sources, false},
    {"software", "library", ENVIRONMENT, "libraries.", NULL, false},
    {"software", "environment variable", ENVIRONMENT, "variables.", NULL, false},
    {"threads", "threads", ENVIRONMENT, "threads", NULL, true},
};
#define N_FIELDS (int)(sizeof fields / sizeof fields[0])

/* Settings that a method or a row has for itself, or that cannot reach what is compared. Steps or
 * epochs are counted as they were done. */
static const char *const own[] = {
    "method",
    "params.*",
    "lr",
    "seed",
    "label",
    "suite",
    "phase",
    "tuning",
    "tuning.*",
    "eval.*",
    "train.steps",
    "train.epochs",
    "steps",
    "model.*",
    "data.*",
    "train.batch",
    "train.accumulate",
};

static bool is_own(const char *path) {
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (pb_glob(own[i], path)) return true;
    for (int i = 0; i < N_FIELDS; i++)
        if (fields[i].from == CONFIG && strcmp(fields[i].path, path) == 0) return true;
    return false;
}

/* ---- the diff of two runs ---- */

/* A value as it is shown beside the other one: long ones from a little before where they part. */
static void show(char out[128], const char *s, const char *other) {
    enum { ROOM = 128, BEFORE = 24 };
    size_t same = 0, from = 0;
    while (s[same] && s[same] == other[same]) same++;
    bool fit = strlen(s) < ROOM && strlen(other) < ROOM;
    if (!fit && same > 2 * BEFORE) from = same - BEFORE;
    while (from && ((unsigned char)s[from] & 0xC0) == 0x80) from--;
    size_t n = strlen(s + from), room = ROOM - 1 - (from ? 3 : 0);
    if (n > room) {
        n = room - 3;
        while (n && ((unsigned char)s[from + n] & 0xC0) == 0x80) n--;
    }
    snprintf(out, ROOM, "%s%.*s%s", from ? "\xe2\x80\xa6" : "", (int)n, s + from,
             s[from + n] ? "\xe2\x80\xa6" : "");
}

static pb_status add(pb_parity *p, const char *field, const char *title, const char *setting,
                     bool cost_only, const char *a, const char *b, const pb_record *on_a,
                     const pb_record *on_b) {
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->items[i].field, field) == 0 && strcmp(p->items[i].title, title) == 0)
            return PB_OK;
    pb_parity_finding *bigger = realloc(p->items, (size_t)(p->n + 1) * sizeof *bigger);
    if (!bigger) return PB_ERROR(PB_E_OOM, "no memory for a list of differences");
    p->items = bigger;
    pb_parity_finding *f = &p->items[p->n++];
    *f = (pb_parity_finding){.setting = setting ? setting : "", .on_a = on_a, .on_b = on_b,
                             .cost_only = cost_only,
                             .general_only = strcmp(field, "general") == 0};
    pb_copy(f->field, sizeof f->field, field);
    pb_copy(f->title, sizeof f->title, title);
    show(f->a, a, b);
    show(f->b, b, a);
    return PB_OK;
}

static const pb_json *part(const pb_record *r, source from) {
    switch (from) {
    case CONFIG:
        return r->config;
    case DATASET:
        return r->dataset;
    case MODEL:
        return r->model;
    case ENVIRONMENT:
        return r->environment;
    default:
        return NULL;
    }
}

static pb_status diff_field(const struct field *f, const pb_record *a, const pb_record *b,
                            pb_parity *p) {
    pb_status status = PB_OK;
    pb_text x = {0}, y = {0};
    bool here = f->get ? f->get(a, &x) : print(at(part(a, f->from), f->path), &x);
    bool there = f->get ? f->get(b, &y) : print(at(part(b, f->from), f->path), &y);
    /* A setting of training that only one has is one that the other has not switched on. */
    bool optional = f->from == CONFIG && strncmp(f->path, "train.", 6) == 0;
    const char *left = here && x.data ? x.data : "", *right = there && y.data ? y.data : "";
    PB_TRY(pb_text_status(&x));
    PB_TRY(pb_text_status(&y));
    if (here == there ? !here || strcmp(left, right) == 0 : !optional) goto done;
    PB_TRY(add(p, f->name, f->title, f->path, f->cost_only, here ? left : "not given",
               there ? right : "not given", a, b));
done:
    pb_text_free(&x);
    pb_text_free(&y);
    return status;
}

/* Compares two trees path by path; what is only in one counts as "not given". `below` is the prefix
 * of the first title. field NULL: settings nobody has a field for, by their own path. */
static pb_status diff_trees(const pb_json *x, const pb_json *y, const struct field *field,
                            const pb_record *a, const pb_record *b, pb_parity *p) {
    pb_status status = PB_OK;
    rp_flat *fa = NULL, *fb = NULL;
    int na = 0, nb = 0;
    PB_TRY(rp_flatten(x, &fa, &na));
    PB_TRY(rp_flatten(y, &fb, &nb));
    for (int k = 0; k < na + nb; k++) {
        const rp_flat *f = k < na ? &fa[k] : &fb[k - na];
        const char *left = rp_flat_find(fa, na, f->path), *right = rp_flat_find(fb, nb, f->path);
        if (left && right && strcmp(left, right) == 0) continue;
        if (!field && is_own(f->path)) continue;
        /* These two are read together: build_sources. */
        if (field && (strcmp(f->path, "dirty") == 0 || strcmp(f->path, "executable") == 0)) continue;
        char title[64];
        snprintf(title, sizeof title, field ? "%.24s: %.36s" : "%.0s%.60s",
                 field ? field->title : "", f->path);
        PB_TRY(add(p, field ? field->name : f->path, title, NULL, field && field->cost_only,
                   left ? left : "not given", right ? right : "not given", a, b));
    }
done:
    rp_flat_free(fa, na);
    rp_flat_free(fb, nb);
    return status;
}

static pb_status diff_runs(const pb_record *a, const pb_record *b, pb_parity *p) {
    bool equal_steps = true;
    for (int i = 0; i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        size_t len = f->path ? strlen(f->path) : 0;
        int before = p->n;
        if (f->get == order && !equal_steps) continue; /* unequal lengths are no other order */
        if (len && f->path[len - 1] == '.') {
            char path[64];
            snprintf(path, sizeof path, "%.*s", (int)len - 1, f->path);
            PB_RETURN(
                diff_trees(at(part(a, f->from), path), at(part(b, f->from), path), f, a, b, p));
        } else {
            PB_RETURN(diff_field(f, a, b, p));
        }
        if (f->get == steps || f->get == batch) equal_steps = equal_steps && p->n == before;
    }
    return diff_trees(a->config, b->config, NULL, a, b, p);
}

pb_status pb_row_drift(const pb_row *row, pb_text *out) {
    pb_status status = PB_OK;
    rp_flat *first = NULL, *other = NULL;
    int n_first = 0, n_other = 0;
    PB_TRY(rp_flatten(row->runs[0]->config, &first, &n_first));
    for (int i = 1; i < row->n_runs && !out->len; i++) {
        rp_flat_free(other, n_other);
        other = NULL;
        PB_TRY(rp_flatten(row->runs[i]->config, &other, &n_other));
        for (int k = 0; k < n_first + n_other; k++) {
            const char *path = k < n_first ? first[k].path : other[k - n_first].path;
            const char *ours = rp_flat_find(first, n_first, path), *dot = strrchr(path, '.');
            const char *theirs = rp_flat_find(other, n_other, path);
            if (strcmp(dot ? dot + 1 : path, "seed") == 0) continue;
            if (k < n_first ? theirs && strcmp(theirs, ours) == 0 : ours != NULL) continue;
            pb_text_add(out, "%s%s", out->len ? ", " : "", path);
        }
    }
done:
    rp_flat_free(first, n_first);
    rp_flat_free(other, n_other);
    return status;
}

static pb_status add_drift(const pb_row *a, const pb_row *b, pb_parity *p) {
    pb_status status = PB_OK;
    pb_text x = {0}, y = {0};
    PB_TRY(pb_row_drift(a, &x));
    PB_TRY(pb_row_drift(b, &y));
    if (x.len || y.len)
        PB_TRY(add(p, "row", "runs of one row differ in", NULL, false, x.len ? x.data : "nothing",
                   y.len ? y.data : "nothing", a->runs[0], b->runs[0]));
done:
    pb_text_free(&x);
    pb_text_free(&y);
    return status;
}

/* Is the row's rate the first or last of its grid, and was nothing tried beyond it? A grid in the
 * wrong place ends so, as wide as it may be. */
static bool is_cut_off(const pb_row *row) {
    const pb_json *edge = pb_json_get(pb_row_example(row)->tuning, "edge");
    bool last = cJSON_IsString(edge) && (strcmp(edge->valuestring, "low") == 0 ||
                                         strcmp(edge->valuestring, "high") == 0);
    return last && row->n_trials > 0 && row->n_trials_beyond == 0;
}

static void budget(const pb_row *row, const pb_row *other, pb_text *out) {
    pb_text_add(out, "%d in %d runs", row->n_trials, row->n_trial_runs);
    if (row->trial_steps != other->trial_steps && row->trial_steps > 0 && other->trial_steps > 0)
        pb_text_add(out, ", %.0f steps", row->trial_steps);
    if (row->trial_decades > 0 && other->trial_decades > 0 &&
        fabs(row->trial_decades - other->trial_decades) > 0.01)
        pb_text_add(out, ", rates over %.3g decades", row->trial_decades);
    if (is_cut_off(row) && !is_cut_off(other))
        pb_text_add(out, ", the best at the end of its grid and nothing tried beyond");
}

/* Rows that were both tuned must have had equal budgets: as many trials at as many seeds, those that
 * diverged included, of as many steps, over as wide a range of rates. Where that lies may be the
 * row's own. */
static pb_status add_budget(const pb_row *a, const pb_row *b, pb_parity *p) {
    pb_text x = {0}, y = {0};
    const pb_record *on_a = pb_row_example(a), *on_b = pb_row_example(b);
    if (!is_tuned(on_a) || !is_tuned(on_b)) return PB_OK;
    budget(a, b, &x);
    budget(b, a, &y);
    pb_status status = pb_text_status(&x);
    if (status == PB_OK) status = pb_text_status(&y);
    if (status == PB_OK && strcmp(x.data, y.data) != 0)
        status = add(p, "tuning", "trials of the tuning", NULL, false, x.data, y.data, on_a, on_b);
    pb_text_free(&x);
    pb_text_free(&y);
    return status;
}

static bool is_waived(const pb_waivers *w, const pb_parity_finding *f) {
    for (int i = 0; w && i < w->n; i++)
        if (strcmp(w->names[i], f->field) == 0 || (*f->setting && strcmp(w->names[i], f->setting) == 0))
            return true;
    return false;
}

static void mark_waived(pb_parity *p, const pb_waivers *w) {
    for (int i = 0; i < p->n; i++) p->items[i].waived = is_waived(w, &p->items[i]);
}

pb_status pb_parity_records(const pb_record *a, const pb_record *b, const pb_waivers *waivers,
                            pb_parity *out) {
    *out = (pb_parity){0};
    pb_status status = diff_runs(a, b, out);
    if (status != PB_OK) pb_parity_free(out);
    mark_waived(out, waivers);
    return status;
}

pb_status pb_parity_check(const pb_row *a, const pb_row *b, const pb_waivers *waivers,
                          pb_parity *out) {
    pb_status status = PB_OK;
    *out = (pb_parity){0};
    for (int i = 0; i < a->n_runs; i++)
        for (int k = 0; k < b->n_runs; k++) {
            const pb_record *x = a->runs[i], *y = b->runs[k];
            if (x->seed != y->seed || x->status != PB_RUN_OK || y->status != PB_RUN_OK) continue;
            out->common++;
            PB_TRY(diff_runs(x, y, out));
        }
    PB_TRY(add_drift(a, b, out));
    if (out->common) PB_TRY(add_budget(a, b, out));
    mark_waived(out, waivers);
done:
    if (status != PB_OK) pb_parity_free(out);
    return status;
}

void pb_parity_free(pb_parity *p) {
    free(p->items);
    *p = (pb_parity){0};
}

const pb_parity_finding *pb_parity_stop(const pb_parity *p, bool cost) {
    for (int i = 0; i < p->n; i++) {
        const pb_parity_finding *f = &p->items[i];
        if (!f->waived && !f->general_only && (cost || !f->cost_only)) return f;
    }
    return NULL;
}

const pb_parity_finding *pb_parity_stop_general(const pb_parity *p) {
    for (int i = 0; i < p->n; i++)
        if (!p->items[i].waived && p->items[i].general_only) return &p->items[i];
    return pb_parity_stop(p, false);
}

/* ---- names ---- */

static int field_names(const char *names[N_FIELDS + 1]) {
    int n = 0;
    for (int i = 0; i < N_FIELDS; i++)
        if (i == 0 || strcmp(fields[i].name, names[n - 1]) != 0) names[n++] = fields[i].name;
    names[n++] = "row";
    return n;
}

void pb_parity_fields(pb_text *out) {
    const char *names[N_FIELDS + 1];
    int n = field_names(names);
    for (int i = 0; i < n; i++) pb_text_add(out, "%s%s", i ? ", " : "", names[i]);
}

static bool in_records(const char *path, const pb_record *records, int n) {
    for (int i = 0; i < n; i++)
        if (at(records[i].config, path)) return true;
    return false;
}

static bool in_table(const char *path) {
    for (int i = 0; i < N_FIELDS; i++)
        if ((fields[i].from == CONFIG || fields[i].from == DERIVED) && fields[i].path &&
            strcmp(fields[i].path, path) == 0)
            return true;
    return false;
}

pb_status pb_waivers_check(const char *what, const pb_waivers *waivers, const pb_record *records,
                           int n) {
    const char *names[N_FIELDS + 1];
    int count = field_names(names);
    for (int i = 0; i < waivers->n; i++) {
        bool known = false;
        for (int k = 0; k < count; k++) known = known || strcmp(names[k], waivers->names[i]) == 0;
        if (known || in_table(waivers->names[i]) ||
            (*waivers->names[i] && in_records(waivers->names[i], records, n)))
            continue;
        pb_text all = {0};
        pb_parity_fields(&all);
        pb_status status = PB_ERROR(
            PB_E_INPUT,
            "%s %s: the parity guard has no such field and no record such a setting; the "
            "nearest is \"%s\"; fields: %s",
            what, waivers->names[i], pb_nearest(waivers->names[i], names, (size_t)count),
            all.data ? all.data : "");
        pb_text_free(&all);
        return status;
    }
    return PB_OK;
}

pb_status pb_waivers_parse(const char *text, const pb_record *records, int n, pb_waiver_list *out) {
    pb_status status = PB_OK;
    *out = (pb_waiver_list){0};
    if (!text || !*text) return PB_OK;
    size_t commas = 0;
    for (const char *p = text; *p; p++) commas += *p == ',';
    out->text = strdup(text);
    out->names = calloc(commas + 1, sizeof *out->names);
    if (!out->text || !out->names) PB_FAIL(PB_E_OOM, "no memory for a list of waivers");
    for (char *p = out->text, *end = p; end; p = end + 1) {
        end = strchr(p, ',');
        if (end) *end = 0;
        out->names[out->list.n++] = p;
    }
    out->list.names = out->names;
    PB_TRY(pb_waivers_check("--waive", &out->list, records, n));
done:
    if (status != PB_OK) pb_waivers_free(out);
    return status;
}

void pb_waivers_free(pb_waiver_list *w) {
    free(w->text);
    free(w->names);
    *w = (pb_waiver_list){0};
}

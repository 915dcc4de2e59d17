/* Terms: from a claim file's words to numbers, one per seed. Grammar: reports/claims/README.md. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "reports/claims_impl.h"
#include "results/group.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define MAX_DEPTH 6

void cl_values_free(cl_values *v) {
    free(v->seed);
    free(v->value);
    free(v->bad);
    *v = (cl_values){0};
}

static pb_status values_new(cl_values *v, size_t cap) {
    *v = (cl_values){0};
    v->seed = calloc(cap + 1, sizeof *v->seed);
    v->value = calloc(cap + 1, sizeof *v->value);
    v->bad = calloc(cap + 1, sizeof *v->bad);
    if (v->seed && v->value && v->bad) return PB_OK;
    cl_values_free(v);
    return PB_ERROR(PB_E_OOM, "no memory for the values of a claim");
}

/* ---- names that a term may use ---- */

static const char *const memory_names[] = {"base",      "quant_constants", "adapter",    "master",
                                           "gradient",  "optimizer",       "activation", "workspace",
                                           "data",      "total"};
static const char *const record_fields[] = {
    "model.params_total",  "model.params_trainable", "model.params_base",  "model.params_adapter",
    "model.params_head",   "dataset.splits.train",   "dataset.splits.valid", "dataset.splits.test",
    "dataset.majority",    "report.rank_total",      "train.epochs"};
static const char *const sample_names[] = {
    "loss/train",     "loss/valid",        "gradient/norm",      "time/step",
    "curve/valid/nll", "curve/valid/accuracy", "eval/test/nll", "eval/test/correct",
    "gradient/adapter/norm"};
static const char *const hows[] = {"mean", "median", "last",      "min",
                                   "max",  "rise",   "roughness", "turn"};
/* Metrics beyond the families of results/names.c, and examples of those, for the nearest name. */
static const char *const metric_names[] = {
    "quality/test/nll",       "quality/test/accuracy",     "quality/valid/nll",
    "quality/valid/accuracy", "quality/train/nll",         "quality/train/accuracy",
    "quality/test/perplexity", "time/step/median",         "time/forward/median",
    "time/backward/median",   "time/optimizer/median",     "time/train/total",
    "time/train/examples_per_s", "time/train/tokens_per_s", "time/infer/merged/median",
    "time/infer/unmerged/median", "time/infer/base/median", "time/infer/base_merged/median",
    "ratio/infer/merged/median", "ratio/infer/unmerged/median",
    "memory/peak/total",      "memory/rss/peak",           "size/adapter_file",
    "work/step/flops",        "work/step/bytes",           "gradient/norm/adapter",
    "check/merge/max_nll_diff", "loss/train/last",         "change/correlation",
    "quality/test/nll/before", "quality/test/accuracy/before", "quality/general/nll/change",
    "quality/general/drift",  "quality/general/neighbours"};

pb_status cl_known(const char *where, const char *what, const char *name, const char *const *names,
                   size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: unknown %s \"%.80s\": did you mean \"%s\"?", where, what, name,
                    pb_nearest(name, names, n));
}

static pb_status known_metric(const char *where, const char *tag) {
    char base[96];
    const char *at = strchr(tag, '@');
    size_t n = at ? (size_t)(at - tag) : strlen(tag);
    if (n < sizeof base && pb_tag_valid(tag)) {
        memcpy(base, tag, n);
        base[n] = 0;
        return cl_known(where, "metric", base, metric_names, COUNT(metric_names));
    }
    return cl_known(where, "metric", tag, metric_names, COUNT(metric_names));
}

/* ---- checking ---- */

static pb_status text_of(const pb_json *o, const char *where, const char *key, const char **out) {
    const pb_json *v = pb_json_get(o, key);
    if (!cJSON_IsString(v) || !*v->valuestring)
        return PB_ERROR(PB_E_INPUT, "%s: %s: expected a text", where, key);
    *out = v->valuestring;
    return PB_OK;
}

static pb_status check_fact(const pb_claim_file *claim, const char *where, const pb_json *term) {
    static const char *const keys[] = {"fact", "field"};
    const char *names[64], *fact = NULL, *field = NULL;
    size_t n = 0;
    PB_RETURN(pb_json_only_keys(term, where, keys, COUNT(keys)));
    PB_RETURN(text_of(term, where, "fact", &fact));
    PB_RETURN(text_of(term, where, "field", &field));
    for (const pb_json *f = claim->facts ? claim->facts->child : NULL; f && n < 64; f = f->next)
        names[n++] = f->string;
    if (n == 0)
        return PB_ERROR(PB_E_INPUT, "%s: fact \"%.80s\": this file has no facts", where, fact);
    PB_RETURN(cl_known(where, "fact", fact, names, n));
    for (n = 0; pb_claim_fact_fields[n]; n++) {}
    return cl_known(where, "field", field, pb_claim_fact_fields, n);
}

/* Which step each value of a sample is of; NULL when it has no such sample beside it. */
static const char *steps_of(const char *sample) {
    if (pb_glob("gradient/adapter/*", sample)) return "gradient/adapter/step";
    if (pb_glob("curve/valid/*", sample)) return "curve/step";
    return strcmp(sample, "loss/valid") == 0 ? "loss/valid/step" : NULL;
}

/* "steps": [80, 120] */
static pb_status check_steps(const char *where, const pb_json *term) {
    const pb_json *steps = pb_json_get(term, "steps"), *e = NULL;
    double last = 1;
    if (!steps) return PB_OK;
    if (!pb_json_get(term, "sample") || !steps_of(pb_json_text(term, "sample")))
        return PB_ERROR(PB_E_INPUT,
                        "%s: steps goes with the samples gradient/adapter/*, curve/valid/* and "
                        "loss/valid",
                        where);
    bool ok = cJSON_IsArray(steps) && cJSON_GetArraySize(steps) == 2;
    cJSON_ArrayForEach (e, steps) {
        ok = ok && cJSON_IsNumber(e) && e->valuedouble >= last;
        last = e->valuedouble;
    }
    return ok ? PB_OK
              : PB_ERROR(PB_E_INPUT, "%s: steps: expected the first and the last one, from 1", where);
}

static pb_status check_rows(const char *where, const pb_json *term) {
    static const char *const keys[] = {"suite",     "label",  "metric", "over",  "memory",
                                       "predicted", "sample", "how",    "steps", "field",
                                       "ranks"};
    static const char *const readers[] = {"metric", "memory", "sample", "field", "ranks"};
    const char *text = NULL;
    int n = 0;
    PB_RETURN(pb_json_only_keys(term, where, keys, COUNT(keys)));
    PB_RETURN(text_of(term, where, "suite", &text));
    if (strpbrk(text, "*?[") && (!cl_is_pattern(text) || strpbrk(text, "*?[") != text + strlen(text) - 1))
        return PB_ERROR(PB_E_INPUT,
                        "%s: suite: \"%s\": expected a name, or \"NAME-*\" for a suite whose model the "
                        "user names",
                        where, text);
    PB_RETURN(text_of(term, where, "label", &text));
    for (size_t i = 0; i < COUNT(readers); i++) n += pb_json_get(term, readers[i]) != NULL;
    if (n != 1)
        return PB_ERROR(PB_E_INPUT, "%s: expected one of metric, memory, sample, field, ranks",
                        where);
    bool metric = pb_json_get(term, "metric"), sample = pb_json_get(term, "sample");
    if ((pb_json_get(term, "over") && !metric) || (pb_json_get(term, "how") != NULL) != sample ||
        (pb_json_get(term, "predicted") && !pb_json_get(term, "memory")))
        return PB_ERROR(PB_E_INPUT,
                        "%s: over goes with metric, how with sample, predicted with memory", where);
    PB_RETURN(check_steps(where, term));
    if (metric) {
        PB_RETURN(text_of(term, where, "metric", &text));
        PB_RETURN(known_metric(where, text));
        if (!pb_json_get(term, "over")) return PB_OK;
        PB_RETURN(text_of(term, where, "over", &text));
        return known_metric(where, text);
    }
    if (sample) {
        PB_RETURN(text_of(term, where, "how", &text));
        PB_RETURN(cl_known(where, "how", text, hows, COUNT(hows)));
        PB_RETURN(text_of(term, where, "sample", &text));
        return cl_known(where, "sample", text, sample_names, COUNT(sample_names));
    }
    if (pb_json_get(term, "memory")) {
        bool predicted = false;
        PB_RETURN(pb_json_read_bool(term, where, "predicted", &predicted));
        PB_RETURN(text_of(term, where, "memory", &text));
        return cl_known(where, "memory purpose", text, memory_names, COUNT(memory_names));
    }
    if (pb_json_get(term, "ranks")) return text_of(term, where, "ranks", &text);
    PB_RETURN(text_of(term, where, "field", &text));
    return cl_known(where, "field", text, record_fields, COUNT(record_fields));
}

static const char *const combinations[] = {"sum", "product", "difference", "ratio"};
static const char *const forms[] = {"value", "fact",       "suite", "sum",
                                    "product", "difference", "ratio"};

static const char *form_of(const pb_json *term) {
    for (size_t i = 0; i < COUNT(forms); i++)
        if (pb_json_get(term, forms[i])) return forms[i];
    return NULL;
}

static pb_status check_at(const pb_claim_file *claim, const char *where, const pb_json *term,
                          int depth) {
    static const char *const value_keys[] = {"value"};
    char place[CL_WHERE];
    if (!cJSON_IsObject(term)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    if (depth > MAX_DEPTH)
        return PB_ERROR(PB_E_INPUT, "%s: more than %d levels of terms", where, MAX_DEPTH);
    const char *form = form_of(term);
    if (!form && term->child)
        return cl_known(where, "term", term->child->string, forms, COUNT(forms));
    if (!form) return PB_ERROR(PB_E_INPUT, "%s: an empty term", where);
    if (strcmp(form, "fact") == 0) return check_fact(claim, where, term);
    if (strcmp(form, "suite") == 0) return check_rows(where, term);
    if (strcmp(form, "value") == 0) {
        double v = 0;
        PB_RETURN(pb_json_only_keys(term, where, value_keys, 1));
        return pb_json_read_f64(term, where, "value", -1e300, 1e300, &v);
    }
    const pb_json *list = pb_json_get(term, form), *e = NULL;
    PB_RETURN(pb_json_only_keys(term, where, &form, 1));
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0, i = 0;
    bool two = strcmp(form, "difference") == 0 || strcmp(form, "ratio") == 0;
    if (n < 2 || (two && n != 2))
        return PB_ERROR(PB_E_INPUT, "%s: %s: expected an array of %s terms", where, form,
                        two ? "two" : "at least two");
    cJSON_ArrayForEach (e, list) {
        snprintf(place, sizeof place, "%.560s.%s[%d]", where, form, i++);
        PB_RETURN(check_at(claim, place, e, depth + 1));
    }
    return PB_OK;
}

pb_status cl_check_term(const pb_claim_file *claim, const char *where, const pb_json *term) {
    return check_at(claim, where, term, 0);
}

/* ---- rows ---- */

/* Is `suite` the suite's own folder, or one of a run with overridden settings ("quick-steps8")? */
static bool is_variation(const char *suite, const char *of) {
    size_t n = strlen(of);
    static const char *const marks[] = {"-steps", "-batch", "-lr", "-f32", "-bf16", "-ref"};
    if (strncmp(suite, of, n) != 0) return false;
    for (size_t i = 0; i < COUNT(marks); i++)
        if (strncmp(suite + n, marks[i], strlen(marks[i])) == 0) return true;
    return false;
}

bool cl_is_pattern(const char *suite) {
    size_t n = strlen(suite);
    return n > 2 && strcmp(suite + n - 2, "-*") == 0;
}

/* Runs of a suite whose model the user names lie in SUITE-MODEL; what follows there are other overrides. */
static bool is_rehearsal(const char *suite, const pb_record *r) {
    const pb_json *name = pb_json_get(r->model, "name");
    if (!cl_is_pattern(suite) || !cJSON_IsString(name)) return strcmp(r->suite, suite) != 0;
    return strlen(r->suite) != strlen(suite) - 1 + strlen(name->valuestring);
}

bool cl_row_matches(const cl_context *x, const pb_json *term, const pb_record *r) {
    const char *suite = pb_json_text(term, "suite");
    if (!pb_glob(pb_json_text(term, "label"), r->label)) return false;
    if (cl_is_pattern(suite)) return pb_glob(suite, r->suite);
    if (strcmp(r->suite, suite) == 0) return true;
    if (!is_variation(r->suite, suite)) return false;
    for (int i = 0; i < x->n_records; i++) /* the suite itself goes first */
        if (strcmp(x->records[i].suite, suite) == 0) return false;
    return true;
}

static void note_missing(cl_context *x, const pb_json *term, const char *what) {
    if (*x->missing) return;
    snprintf(x->missing, sizeof x->missing, "%.60s: %.64s%s%.90s", pb_json_text(term, "suite"),
             pb_json_text(term, "label"), *what ? ": " : "", what);
}

/* Passes over the training examples: as they were asked for, or as so many steps made. */
static double epochs_of(const pb_record *r) {
    const pb_json *train = pb_json_get(r->config, "train");
    double asked = pb_json_number(train, "epochs");
    return isfinite(asked) ? asked
                           : pb_json_number(train, "steps") * pb_json_number(train, "batch") *
                                 pb_json_number(train, "accumulate") /
                                 pb_json_number(pb_json_get(r->dataset, "splits"), "train");
}

static double field_of(const pb_record *r, const char *path) {
    if (strcmp(path, "train.epochs") == 0) return epochs_of(r);
    const struct {
        const char *name;
        const pb_json *json;
    } roots[] = {{"model.", r->model}, {"dataset.", r->dataset}, {"report.", r->report}};
    for (size_t i = 0; i < COUNT(roots); i++) {
        size_t n = strlen(roots[i].name);
        if (strncmp(path, roots[i].name, n) != 0) continue;
        const char *dot = strchr(path + n, '.');
        const pb_json *v = NULL;
        if (dot) {
            char key[64];
            snprintf(key, sizeof key, "%.*s", (int)(dot - path - (ptrdiff_t)n), path + n);
            v = pb_json_get(pb_json_get(roots[i].json, key), dot + 1);
        } else {
            v = pb_json_get(roots[i].json, path + n);
        }
        return cJSON_IsNumber(v) ? v->valuedouble : NAN;
    }
    return NAN;
}

static double memory_of(const pb_record *r, const pb_json *term) {
    const char *tag = pb_json_text(term, "memory");
    bool predicted = cJSON_IsTrue(pb_json_get(term, "predicted"));
    for (int i = 0; i < r->n_memory; i++)
        if (strcmp(r->memory[i].tag, tag) == 0)
            return (double)(predicted ? r->memory[i].predicted : r->memory[i].peak);
    return NAN;
}

/* Mean final rank over the matrices whose site the glob names. */
static double ranks_of(const pb_record *r, const char *sites) {
    const pb_json *e = NULL;
    double sum = 0;
    int n = 0;
    cJSON_ArrayForEach (e, pb_json_get(r->report, "ranks")) {
        if (!e->string || !cJSON_IsNumber(e) || !pb_glob(sites, e->string)) continue;
        sum += e->valuedouble;
        n++;
    }
    return n ? sum / n : NAN;
}

/* Root mean square of the changes from step to step over the second half, relative to its mean
 * level: a smooth curve has little of it, a spiky one much. */
static double roughness(const double *v, int64_t n) {
    int64_t from = n / 2;
    double level = 0, sum = 0;
    if (n - from < 3) return NAN;
    for (int64_t i = from; i < n; i++) level += v[i] / (double)(n - from);
    for (int64_t i = from + 1; i < n; i++) sum += (v[i] - v[i - 1]) * (v[i] - v[i - 1]);
    return level > 0 ? sqrt(sum / (double)(n - from - 1)) / level : NAN;
}

/* Where along the curve its least value lies: 0 = at the start, 1 = at the end. */
static double turn(const double *v, int64_t n) {
    int64_t least = 0;
    for (int64_t i = 1; i < n; i++)
        if (v[i] < v[least]) least = i;
    return n > 1 ? (double)least / (double)(n - 1) : NAN;
}

/* The values of a sample from one step to another: they rise with the steps, so that what is between stands
 * side by side. */
static const double *between(const pb_record *r, const pb_json *term, const pb_sample *s, int64_t *n) {
    const pb_json *steps = pb_json_get(term, "steps");
    int64_t from = 0, to = s->n;
    *n = s->n;
    if (!steps) return s->values;
    const pb_sample *at = pb_record_find_sample(r, steps_of(s->tag));
    *n = 0;
    if (!at || !at->values || at->n != s->n) return NULL;
    while (from < to && at->values[from] < cJSON_GetArrayItem(steps, 0)->valuedouble) from++;
    while (to > from && at->values[to - 1] > cJSON_GetArrayItem(steps, 1)->valuedouble) to--;
    *n = to - from;
    return s->values + from;
}

static double sample_of(const pb_record *r, const pb_json *term) {
    const pb_sample *s = pb_record_find_sample(r, pb_json_text(term, "sample"));
    const char *how = pb_json_text(term, "how");
    double y = NAN, least = NAN;
    int64_t n = 0;
    if (!s || !s->values || s->n < 1) return NAN;
    const double *v = between(r, term, s, &n);
    if (n < 1) return NAN;
    if (strcmp(how, "roughness") == 0) return roughness(v, n);
    if (strcmp(how, "turn") == 0) return turn(v, n);
    if (strcmp(how, "rise") != 0) return pb_derive(how, v, n, &y) == PB_OK ? y : NAN;
    if (pb_derive("min", v, n, &least) != PB_OK || !(least > 0)) return NAN;
    return (v[n - 1] - least) / least;
}

static double value_of(const pb_record *r, const pb_json *term) {
    if (pb_json_get(term, "metric")) {
        double v = pb_record_value(r, pb_json_text(term, "metric"));
        return pb_json_get(term, "over") ? v / pb_record_value(r, pb_json_text(term, "over")) : v;
    }
    if (pb_json_get(term, "memory")) return memory_of(r, term);
    if (pb_json_get(term, "sample")) return sample_of(r, term);
    if (pb_json_get(term, "ranks")) return ranks_of(r, pb_json_text(term, "ranks"));
    return field_of(r, pb_json_text(term, "field"));
}

static const char *read_name(const pb_json *term) {
    static const char *const readers[] = {"metric", "memory", "sample", "field", "ranks"};
    for (size_t i = 0; i < COUNT(readers); i++)
        if (*pb_json_text(term, readers[i])) return pb_json_text(term, readers[i]);
    return "";
}

/* Follows from the settings: sizes, counts, work, the memory of the arenas; a rank over all matrices is the budget's. */
static bool is_determined(const pb_json *term) {
    const char *tag = pb_json_text(term, "metric"), *over = pb_json_text(term, "over");
    static const char *const families[] = {"work/*", "size/*", "memory/peak/*"};
    bool value = false, by = !*over;
    if (*pb_json_text(term, "memory") || *pb_json_text(term, "field")) return true;
    if (*pb_json_text(term, "ranks")) return strcmp(pb_json_text(term, "ranks"), "*") == 0;
    for (size_t i = 0; i < COUNT(families); i++) {
        value = value || pb_glob(families[i], tag);
        by = by || pb_glob(families[i], over);
    }
    return value && by;
}

/* A curve with one valley has its lowest point between the neighbours of the lowest that was evaluated. */
static double reach_of(const pb_record *r, const pb_json *term) {
    int64_t n = 0;
    if (strcmp(pb_json_text(term, "how"), "turn") != 0) return 0;
    const pb_sample *s = pb_record_find_sample(r, pb_json_text(term, "sample"));
    return s && between(r, term, s, &n) && n > 1 ? 1.0 / (double)(n - 1) : 0;
}

/* The same run in two folders of a suite counts once; another suite may hold it too. */
static bool seen_before(const cl_context *x, const pb_json *term, int at) {
    for (int i = 0; i < at; i++)
        if (strcmp(x->records[i].run_id, x->records[at].run_id) == 0 &&
            cl_row_matches(x, term, &x->records[i]))
            return true;
    return false;
}

static pb_status rows(cl_context *x, const pb_json *term, bool raw, cl_values *out) {
    PB_RETURN(values_new(out, (size_t)x->n_records));
    out->grain.determined = is_determined(term);
    bool any = false;
    for (int i = 0; i < x->n_records; i++) {
        const pb_record *r = &x->records[i];
        if (!cl_row_matches(x, term, r) || seen_before(x, term, i)) continue;
        any = true;
        if (is_rehearsal(pb_json_text(term, "suite"), r)) {
            snprintf(x->overridden, sizeof x->overridden, "%s", r->suite);
        }
        bool diverged = r->status == PB_RUN_DIVERGED;
        double v = r->status == PB_RUN_OK ? value_of(r, term) : NAN;
        if (!isfinite(v) && !(raw && diverged)) {
            x->n_lost++;
            if (r->status == PB_RUN_OK) note_missing(x, term, read_name(term));
            continue;
        }
        out->grain.reach = fmax(out->grain.reach, reach_of(r, term));
        out->seed[out->n] = r->seed;
        out->value[out->n] = diverged ? 0 : v;
        out->bad[out->n++] = diverged;
    }
    if (!any) note_missing(x, term, "");
    return PB_OK;
}

void cl_merge_seeds(cl_values *v) {
    int kept = 0;
    for (int i = 1; i < v->n; i++) { /* few values: insertion */
        uint64_t seed = v->seed[i];
        double value = v->value[i];
        int k = i;
        for (; k > 0 && v->seed[k - 1] > seed; k--) {
            v->seed[k] = v->seed[k - 1];
            v->value[k] = v->value[k - 1];
        }
        v->seed[k] = seed;
        v->value[k] = value;
    }
    for (int i = 0, same; i < v->n; i += same) {
        double sum = 0;
        for (same = 0; i + same < v->n && v->seed[i + same] == v->seed[i]; same++)
            sum += v->value[i + same];
        v->seed[kept] = v->seed[i];
        v->value[kept++] = sum / same;
    }
    v->n = kept;
}

pb_status cl_term_raw(cl_context *x, const pb_json *term, cl_values *out) {
    const char *form = form_of(term);
    if (form && strcmp(form, "suite") == 0) return rows(x, term, true, out);
    return cl_term(x, term, out);
}

const pb_record *cl_term_run(const cl_context *x, const pb_json *term, uint64_t seed) {
    const pb_record *found = NULL;
    if (!pb_json_get(term, "metric") || pb_json_get(term, "over")) return NULL;
    for (int i = 0; i < x->n_records; i++) {
        const pb_record *r = &x->records[i];
        if (r->seed != seed || r->status != PB_RUN_OK || !cl_row_matches(x, term, r) ||
            seen_before(x, term, i))
            continue;
        if (found) return NULL;
        found = r;
    }
    return found;
}

/* ---- combinations ---- */

static pb_status constant(double value, cl_values *out) {
    PB_RETURN(values_new(out, 1));
    out->constant = true;
    out->grain.determined = true;
    out->n = isfinite(value) ? 1 : 0;
    out->value[0] = value;
    return PB_OK;
}

static pb_status fact(cl_context *x, const pb_json *term, cl_values *out) {
    const pb_json *f = pb_json_get(x->facts, pb_json_text(term, "fact"));
    const pb_json *v = pb_json_get(f, pb_json_text(term, "field"));
    double value = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    if (!isfinite(value) && !*x->missing) {
        const char *why = pb_json_text(f, "missing");
        snprintf(x->missing, sizeof x->missing, "fact %.40s: %.190s", pb_json_text(term, "fact"),
                 *why ? why : pb_json_text(term, "field"));
    }
    return constant(value, out);
}

pb_status cl_pair(const cl_values *a, const cl_values *b, double **va, double **vb,
                  uint64_t **seeds, int *n) {
    int cap = a->constant ? b->n : a->n;
    if (a->constant && b->constant) cap = 1;
    *n = 0;
    *va = calloc((size_t)cap + 1, sizeof **va);
    *vb = calloc((size_t)cap + 1, sizeof **vb);
    *seeds = calloc((size_t)cap + 1, sizeof **seeds);
    if (!*va || !*vb || !*seeds) {
        free(*va);
        free(*vb);
        free(*seeds);
        *va = *vb = NULL;
        *seeds = NULL;
        return PB_ERROR(PB_E_OOM, "no memory for %d pairs", cap);
    }
    if (a->n == 0 || b->n == 0) return PB_OK;
    for (int i = 0, k = 0; i < cap; i++) {
        const cl_values *lead = a->constant ? b : a;
        uint64_t seed = lead->seed[i];
        double x = a->constant ? a->value[0] : a->value[i], y = b->value[0];
        if (!a->constant && !b->constant) {
            while (k < b->n && b->seed[k] < seed) k++;
            if (k == b->n || b->seed[k] != seed) continue;
            y = b->value[k];
        } else if (!b->constant) {
            y = b->value[i];
        }
        (*va)[*n] = x;
        (*vb)[*n] = y;
        (*seeds)[(*n)++] = seed;
    }
    return PB_OK;
}

static double apply(const char *form, double a, double b) {
    if (strcmp(form, "sum") == 0) return a + b;
    if (strcmp(form, "product") == 0) return a * b;
    return strcmp(form, "difference") == 0 ? a - b : a / b;
}

cl_grain cl_grain_of(cl_grain a, cl_grain b) {
    return (cl_grain){.determined = a.determined && b.determined, .reach = a.reach + b.reach};
}

/* Through sums and differences, and multiples by what has no grain and no seed; else nothing is known of it. */
static cl_grain combined(const char *form, const cl_values *a, const cl_values *b) {
    cl_grain g = cl_grain_of(a->grain, b->grain);
    if (strcmp(form, "sum") == 0 || strcmp(form, "difference") == 0 || !(g.reach > 0)) return g;
    double by = b->constant && b->n ? b->value[0] : NAN;
    if (strcmp(form, "product") == 0 && a->constant && a->n) by = a->value[0];
    else if (strcmp(form, "ratio") == 0) by = 1 / by;
    g.reach = isfinite(by) ? g.reach * fabs(by) : INFINITY;
    return g;
}

/* *a becomes a o b; b is freed. */
static pb_status combine(const char *form, cl_values *a, cl_values *b) {
    double *va = NULL, *vb = NULL;
    uint64_t *seeds = NULL;
    int n = 0;
    bool both = a->constant && b->constant;
    cl_grain grain = combined(form, a, b);
    pb_status status = cl_pair(a, b, &va, &vb, &seeds, &n);
    cl_values_free(a);
    cl_values_free(b);
    if (status == PB_OK) status = values_new(a, (size_t)n);
    for (int i = 0; i < n && status == PB_OK; i++) {
        double v = apply(form, va[i], vb[i]);
        if (!isfinite(v)) continue;
        a->seed[a->n] = seeds[i];
        a->value[a->n++] = v;
    }
    a->constant = both;
    a->grain = grain;
    free(va);
    free(vb);
    free(seeds);
    return status;
}

pb_status cl_term(cl_context *x, const pb_json *term, cl_values *out) {
    const char *form = form_of(term);
    *out = (cl_values){0};
    PB_ASSERT(form != NULL);
    if (strcmp(form, "value") == 0) return constant(pb_json_get(term, "value")->valuedouble, out);
    if (strcmp(form, "fact") == 0) return fact(x, term, out);
    if (strcmp(form, "suite") == 0) {
        PB_RETURN(rows(x, term, false, out));
        cl_merge_seeds(out);
        return PB_OK;
    }
    const pb_json *e = NULL;
    bool first = true;
    cJSON_ArrayForEach (e, pb_json_get(term, form)) {
        cl_values next = {0};
        pb_status status = cl_term(x, e, first ? out : &next);
        if (status == PB_OK && !first) status = combine(form, out, &next);
        if (status != PB_OK) {
            cl_values_free(out);
            cl_values_free(&next);
            return status;
        }
        first = false;
    }
    return PB_OK;
}

pb_status cl_term_rows(const pb_json *term, pb_claim_visit visit, void *user) {
    const pb_json *e = NULL;
    if (pb_json_get(term, "suite")) {
        static const char *const readers[] = {"metric", "over", "sample"};
        bool told = false;
        for (size_t i = 0; i < COUNT(readers); i++) {
            if (!*pb_json_text(term, readers[i])) continue;
            PB_RETURN(visit(user, pb_json_text(term, "suite"), pb_json_text(term, "label"), pb_json_text(term, readers[i])));
            told = true;
        }
        return told ? PB_OK : visit(user, pb_json_text(term, "suite"), pb_json_text(term, "label"), NULL);
    }
    for (size_t i = 0; i < COUNT(combinations); i++) {
        cJSON_ArrayForEach (e, pb_json_get(term, combinations[i]))
            PB_RETURN(cl_term_rows(e, visit, user));
    }
    return PB_OK;
}

/* Checks what is written against what it is derived from: hashes, derivations, identities, fixed
 * names. It never stops at the first finding. Test: tests/test_records.c. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "results/profile_table.h"
#include "results/record_impl.h"
#include "results/tuning.h"

typedef struct findings {
    FILE *out;
    const char *path;
    int n; /* of this record */
} findings;

static void finding(findings *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void finding(findings *f, const char *fmt, ...) {
    va_list args;
    f->n++;
    if (!f->out) return;
    if (*fmt != '%') fprintf(f->out, "%s: ", f->path);
    va_start(args, fmt);
    vfprintf(f->out, fmt, args);
    va_end(args);
    fputc('\n', f->out);
}

/* Writer and verifier share pb_derive; the tolerance is for a producer that sums in another order.
 */
static bool agree(double a, double b) {
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

/* The last n values, or their sum weighted; NaN when there are fewer. */
static double tail_sum(const pb_sample *s, const pb_sample *weights, int64_t n) {
    double sum = 0;
    if (!s || !s->values || s->n < n || (weights && (!weights->values || weights->n != s->n)))
        return NAN;
    for (int64_t i = s->n - n; i < s->n; i++)
        sum += s->values[i] * (weights ? weights->values[i] : 1);
    return sum;
}

/* quality/SPLIT/{nll,accuracy,perplexity}[@variant] of a language model: means over tokens. */
static double expected_quality(const pb_record *r, const char *tag) {
    char split[16], what[16], name[96];
    int used = 0;
    if (sscanf(tag, "quality/%15[a-z]/%15[a-z]%n", split, what, &used) != 2) return NAN;
    bool accuracy = strcmp(what, "accuracy") == 0, perplexity = strcmp(what, "perplexity") == 0;
    if (!accuracy && !perplexity && strcmp(what, "nll") != 0) return NAN;
    snprintf(name, sizeof name, "eval/%s/tokens", split);
    const pb_sample *tokens = pb_record_find_sample(r, name);
    snprintf(name, sizeof name, "eval/%s/%s%.60s", split, accuracy ? "correct" : "nll", tag + used);
    const pb_sample *values = pb_record_find_sample(r, name);
    if (!tokens || !values) return NAN;
    double mean = tail_sum(values, tokens, values->n) / tail_sum(tokens, NULL, tokens->n);
    return perplexity ? exp(mean) : mean;
}

static double roughness_of(const pb_sample *s) {
    return s && s->values ? pb_roughness(s->values, s->n) : NAN;
}

static double upturn_of(const pb_sample *s) {
    return s && s->values ? pb_upturn(s->values, s->n) : NAN;
}

static double correlation_of(const pb_sample *x, const pb_sample *y) {
    return x && y && x->values && y->values && x->n == y->n ? pb_correlation(x->values, y->values, x->n)
                                                            : NAN;
}

/* What the samples give for a quality, else what the metric says. */
static double expected_mean(const pb_record *r, const char *tag) {
    const pb_metric *m = pb_record_find(r, tag);
    const char *source = NULL;
    char how[16];
    double value = expected_quality(r, tag);
    if (!isnan(value) || !m || !pb_from_split(m->from, how, &source)) return value;
    const pb_sample *s = pb_record_find_sample(r, source);
    if (!s || !s->values || pb_derive(how, s->values, s->n, &value) != PB_OK) return NAN;
    return value;
}

/* A metric that more than one sample, or the memory table, gives; NaN when it is none of these. */
static double expected_value(const pb_record *r, const char *tag) {
    const pb_sample *step = pb_record_find_sample(r, "time/step"),
                    *warmup = pb_record_find_sample(r, "time/step/warmup");
    int64_t n = step ? step->n : 0;
    if (strcmp(tag, "time/train/total") == 0)
        return tail_sum(step, NULL, n) + (warmup ? tail_sum(warmup, NULL, warmup->n) : 0);
    const char *rate = strcmp(tag, "time/train/examples_per_s") == 0 ? "step/examples"
                       : strcmp(tag, "time/train/tokens_per_s") == 0 ? "step/tokens"
                                                                     : NULL;
    if (rate)
        return tail_sum(pb_record_find_sample(r, rate), NULL, n) / tail_sum(step, NULL, n);
    if (strcmp(tag, "loss/train/roughness") == 0)
        return roughness_of(pb_record_find_sample(r, "loss/train"));
    if (strcmp(tag, "curve/valid/upturn") == 0)
        return upturn_of(pb_record_find_sample(r, "curve/valid/nll"));
    if (strcmp(tag, "change/correlation") == 0)
        return correlation_of(pb_record_find_sample(r, "change/magnitude"),
                              pb_record_find_sample(r, "change/direction"));
    if (strcmp(tag, "quality/gap/nll") == 0)
        return expected_mean(r, "quality/test/nll") - expected_mean(r, "quality/train/nll");
    for (int i = 0; i < r->n_memory && strcmp(tag, "memory/peak/total") == 0; i++)
        if (strcmp(r->memory[i].tag, "total") == 0) return (double)r->memory[i].peak;
    return expected_quality(r, tag);
}

static void check_unsourced(const pb_record *r, int i, findings *f) {
    const pb_metric *m = &r->metrics[i];
    char found[PB_F64_CHARS], expected[PB_F64_CHARS];
    double value = expected_value(r, m->tag);
    if (isnan(value) || agree(m->value, value)) return;
    pb_format_f64(found, m->value);
    pb_format_f64(expected, value);
    finding(f, "metrics[%d] (%s): %s, but the samples and the memory table give %s", i, m->tag,
            found, expected);
}

static void check_metrics(const pb_record *r, findings *f) {
    for (int i = 0; i < r->n_metrics; i++) {
        const pb_metric *m = &r->metrics[i];
        const pb_tag_info *info = pb_tag_find(m->tag);
        const char *source = NULL;
        char how[16], found[PB_F64_CHARS], expected[PB_F64_CHARS];
        double value = NAN;
        if (info && strcmp(info->unit, m->unit) != 0)
            finding(f, "metrics[%d] (%s): unit \"%s\", expected \"%s\"", i, m->tag, m->unit,
                    info->unit);
        if (info && info->better != m->better)
            finding(f, "metrics[%d] (%s): better is %+d, expected %+d", i, m->tag, m->better,
                    info->better);
        if (!*m->from) check_unsourced(r, i, f);
        if (!pb_from_split(m->from, how, &source)) continue;
        const pb_sample *s = pb_record_find_sample(r, source);
        if (!s || (s->n && !s->values)) continue; /* said already */
        if (pb_derive(how, s->values, s->n, &value) != PB_OK) {
            finding(f, "metrics[%d] (%s): %s", i, m->tag, pb_error_message());
            continue;
        }
        pb_format_f64(found, m->value);
        pb_format_f64(expected, value);
        if (!agree(m->value, value))
            finding(f, "metrics[%d] (%s): %s, but %s is %s", i, m->tag, found, m->from, expected);
    }
}

/* The last two names of the folder are the suite and the run id. */
static void check_place(const pb_record *r, findings *f) {
    char *real = realpath(r->dir, NULL);
    if (!real) return;
    char *name = strrchr(real, '/');
    if (name && strcmp(name + 1, r->run_id) != 0)
        finding(f, "run_id: %s, but its folder is %s", r->run_id, name + 1);
    if (name) *name = 0;
    name = name ? strrchr(real, '/') : NULL;
    if (name && strcmp(name + 1, r->suite) != 0)
        finding(f, "suite: %s, but its folder is %s", r->suite, name + 1);
    free(real);
}

/* Every sum of the table has its metric, and every profile/{op,part,phase} metric is a sum. */
static void check_sums(const pb_record *r, const pb_profile_table *t, pb_profile_group by,
                       const char *key, findings *f) {
    pb_profile_sum *sums = NULL;
    int n = 0, found = 0;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "profile/%s/", key);
    if (pb_profile_sums(t, by, &sums, &n) != PB_OK) {
        finding(f, "%s", pb_error_message());
        return;
    }
    for (int i = 0; i < n; i++) {
        char tag[160];
        snprintf(tag, sizeof tag, "%s%s", prefix, sums[i].name);
        double value = pb_record_value(r, tag);
        if (isnan(value) || !agree(value, sums[i].seconds))
            finding(f, "%s: %g, but the profile's table gives %g", tag, value, sums[i].seconds);
    }
    for (int i = 0; i < r->n_metrics; i++)
        found += strncmp(r->metrics[i].tag, prefix, strlen(prefix)) == 0;
    if (found != n)
        finding(f, "profile: %d metrics %s*, but the table has %d names", found, prefix, n);
    free(sums);
}

static void check_profile(const pb_record *r, findings *f) {
    pb_profile_table t = {0};
    if (!r->profile) return;
    if (pb_profile_table_read(r, &t) != PB_OK) {
        finding(f, "%s", pb_error_message());
        return;
    }
    check_sums(r, &t, PB_GROUP_OP, "op", f);
    check_sums(r, &t, PB_GROUP_PART, "part", f);
    check_sums(r, &t, PB_GROUP_PHASE, "phase", f);
    double busy = pb_record_value(r, "profile/busy"), idle = pb_record_value(r, "profile/idle_share");
    double untraced = pb_record_value(r, "profile/untraced"), step_s = isnan(untraced) ? t.step_s : untraced;
    double expected = busy < step_s ? 1 - busy / step_s : 0;
    if (!isnan(idle) && !(fabs(idle - expected) <= 1e-9))
        finding(f, "profile/idle_share: %g, but busy and step give %g", idle, expected);
    pb_profile_table_free(&t);
}

static void check_record(const char *path, findings *f) {
    pb_record r;
    char id[PB_RUN_ID];
    if (pb_record_read(path, false, &r) != PB_OK) {
        finding(f, "%s", pb_error_message());
        return;
    }
    for (int i = 0; i < r.n_samples; i++)
        if (pb_sample_load(r.dir, &r.samples[i]) != PB_OK) finding(f, "%s", pb_error_message());
    if (pb_run_id_of(r.config, id) != PB_OK)
        finding(f, "%s", pb_error_message());
    else if (strcmp(id, r.run_id) != 0)
        finding(f, "run_id: %s, but the configuration's is %s", r.run_id, id);
    if (r.status == PB_RUN_OK && strcmp(r.verified, "incorrect") == 0)
        finding(f, "verified: incorrect in a run with status ok");
    check_place(&r, f);
    check_metrics(&r, f);
    check_profile(&r, f);
    pb_record_free(&r);
}

pb_status pb_records_verify(const char *dir, FILE *out, int *n_checked, int *n_bad) {
    pb_status status = PB_OK;
    char **paths = NULL;
    size_t n = 0;
    int bad = 0, bad_choices = 0;
    if (n_checked) *n_checked = 0;
    if (n_bad) *n_bad = 0;
    PB_TRY(pb_record_paths(dir, &paths, &n));
    if (n == 0) PB_FAIL(PB_E_INPUT, "%s: holds no run (a folder with a %s)", dir, PB_RECORD_FILE);
    for (size_t i = 0; i < n; i++) {
        findings f = {.out = out, .path = paths[i]};
        check_record(paths[i], &f);
        bad += f.n > 0;
    }
    if (n_checked) *n_checked = (int)n;
    if (n_bad) *n_bad = bad;
    PB_TRY(pb_tuning_verify(dir, out, &bad_choices));
    if (!bad && bad_choices)
        PB_FAIL(PB_E_CHECK, "%s: %d of its %s do not follow from the records", dir, bad_choices,
                PB_TUNING_FILE);
    if (bad) PB_FAIL(PB_E_CHECK, "%s: %d of %zu records failed verification", dir, bad, n);
done:
    pb_names_free(paths, n);
    return status;
}

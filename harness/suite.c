/* Finding suites, expanding rows into runs, naming the results folder. Reading: suite_parse.c.
 * Test: tests/test_suite.c. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/suite_impl.h"

#ifndef PB_HOME_DIR
#define PB_HOME_DIR "."
#endif
#define MAX_SUITE_BYTES (4u << 20)

const char *pb_home(void) {
    const char *home = getenv("PB_HOME");
    return home && *home ? home : PB_HOME_DIR;
}

static bool is_file_name(const char *name) {
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".json") == 0;
}

static bool word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           strchr("._-", c);
}

/* Letters, digits, ".", "_" and "-"; everything else becomes "-". */
static void clean_name(char *s) {
    for (char *p = s; *p; p++) {
        if (!word_char(*p)) *p = '-';
    }
    if (*s == '.') *s = '-';
}

pb_status pb_suite_names(char ***names, size_t *n) {
    pb_status status = PB_OK;
    char **all = NULL;
    size_t count = 0, kept = 0;
    *names = NULL;
    *n = 0;
    char *dir = pb_path_join(pb_home(), "harness/suites");
    if (!dir) PB_FAIL(PB_E_OOM, "no memory for a path");
    PB_TRY(pb_list_dir(dir, &all, &count));
    for (size_t i = 0; i < count; i++) {
        if (is_file_name(all[i])) {
            all[i][strlen(all[i]) - 5] = 0;
            all[kept++] = all[i];
        } else {
            free(all[i]);
        }
    }
    *names = all;
    *n = kept;
done:
    free(dir);
    return status;
}

static pb_status unknown_suite(const char *name) {
    char **names = NULL;
    size_t n = 0;
    pb_text all = {0};
    if (pb_suite_names(&names, &n) != PB_OK) n = 0;
    for (size_t i = 0; i < n; i++) pb_text_add(&all, "%s%s", i ? ", " : "", names[i]);
    const char *near = pb_nearest(name, (const char *const *)names, n);
    pb_status status = PB_ERROR(PB_E_INPUT,
                                "no suite '%s'; did you mean '%s'? There are: %s; or give a"
                                " file that ends in .json",
                                name, near ? near : "", all.data ? all.data : "none");
    pb_text_free(&all);
    pb_names_free(names, n);
    return status;
}

/* Path of the file, what messages call it, its folder, and the suite's name. */
static pb_status locate(const char *name, char **path, char **where, char **dir, char suite[64]) {
    pb_status status = PB_OK;
    char *suites = pb_path_join(pb_home(), "harness/suites"), file[96];
    const char *base = strrchr(name, '/');
    *path = *where = *dir = NULL;
    if (is_file_name(name)) {
        base = base ? base + 1 : name;
        *path = strdup(name);
        *where = strdup(name);
        *dir = base == name ? strdup(".") : strndup(name, (size_t)(base - name));
        snprintf(suite, 64, "%.*s", (int)(strlen(base) - 5), base);
    } else {
        if (base || strlen(name) > 63 || !*name) {
            status = unknown_suite(name);
            goto done;
        }
        snprintf(file, sizeof file, "%s.json", name);
        *path = suites ? pb_path_join(suites, file) : NULL;
        *where = strdup(file);
        *dir = suites ? strdup(suites) : NULL;
        snprintf(suite, 64, "%s", name);
        if (*path && !pb_file_exists(*path)) status = unknown_suite(name);
    }
    clean_name(suite);
    if (status == PB_OK && (!*path || !*where || !*dir)) PB_FAIL(PB_E_OOM, "no memory for a path");
done:
    free(suites);
    return status;
}

/* ---- the results folder ---- */

static void add_tag(pb_text *t, const char *tag) {
    char clean[128];
    pb_copy(clean, sizeof clean, tag);
    clean_name(clean);
    pb_text_add(t, "-%s", clean);
}

static void add_number(pb_text *t, const char *what, double value) {
    char number[PB_F64_CHARS];
    pb_format_f64(number, value);
    pb_text_add(t, "-%s%s", what, number);
}

/* Records that must not be compared must not share a folder: every override that changes settings
 * enters its name.
 * --seeds and --methods choose among runs and do not. */
static pb_status name_suite(const pb_suite_source *source, const pb_suite_overrides *o,
                            char name[64]) {
    pb_text t = {0};
    char part[1024];
    const pb_run_config *r = &source->defaults.run;
    pb_text_add(&t, "%s", name);
    if (o->data) pb_run_data_name(r, part, sizeof part);
    if (o->data) add_tag(&t, part);
    if (o->model) pb_run_model_name(r, part, sizeof part);
    if (o->model) add_tag(&t, part);
    if (o->dtype) add_tag(&t, o->dtype);
    if (o->device) add_tag(&t, o->device);
    if (o->steps) add_number(&t, "steps", (double)o->steps);
    if (o->batch) add_number(&t, "batch", (double)o->batch);
    if (o->max_len) add_number(&t, "len", (double)o->max_len);
    if (o->checkpoint) add_tag(&t, "checkpoint");
    if (o->has_lr) add_number(&t, "lr", o->lr);
    pb_status status = pb_text_status(&t);
    if (status == PB_OK && t.len >= 64) {
        char hex[PB_SHA256_HEX] = "";
        status = pb_sha256_bytes(t.data, t.len, hex);
        snprintf(name, 64, "%.54s-%.8s", t.data, hex);
    } else if (status == PB_OK) {
        pb_copy(name, 64, t.data);
    }
    pb_text_free(&t);
    return status;
}

/* ---- choosing and expanding ---- */

/* Is `word` (n bytes) this row's label or method? */
static bool names_row(const char *word, size_t n, const pb_suite_row *row) {
    const char *const names[] = {row->run.label, row->run.method->name};
    for (int i = 0; i < 2; i++) {
        if (strlen(names[i]) == n && strncmp(names[i], word, n) == 0) return true;
    }
    return false;
}

static pb_status no_row(const pb_suite_source *s, const char *word) {
    pb_text all = {0};
    for (int i = 0; i < s->n_rows; i++) {
        pb_text_add(&all, "%s%s (%s)", i ? ", " : "", s->rows[i].run.label,
                    s->rows[i].run.method->name);
    }
    pb_status status =
        PB_ERROR(PB_E_INPUT, "--methods: '%s' is no label or method of %s; there are: %s", word,
                 s->where, all.data ? all.data : "");
    pb_text_free(&all);
    return status;
}

/* keep[i] for every row that `list` (comma-separated labels or methods) names; NULL keeps all. */
static pb_status choose(const pb_suite_source *s, const char *list, bool *keep) {
    for (int i = 0; i < s->n_rows; i++) keep[i] = !list;
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        bool any = false;
        size_t n = strcspn(p, ",");
        for (int i = 0; i < s->n_rows; i++) {
            if (names_row(p, n, &s->rows[i])) keep[i] = any = true;
        }
        if (!any) {
            char word[128];
            snprintf(word, sizeof word, "%.*s", (int)(n < 120 ? n : 120), p);
            return no_row(s, word);
        }
    }
    return PB_OK;
}

/* "auto" is bf16 where this machine has it in hardware. The runs are forked from here: the device is only asked. */
static pb_status resolve_dtype(pb_suite_source *s, bool *fast_bf16) {
    pb_device_facts facts;
    pb_device_options options = {.threads = 1};
    PB_RETURN(pb_device_probe(s->defaults.run.device, &options, &facts));
    *fast_bf16 = facts.fast_bf16;
    return PB_OK;
}

void pb_suite_label(char *out, size_t cap, const char *label, const char *tail) {
    char start[64];
    int room = (int)(cap - 1 - strlen(tail));
    if (room > (int)strlen(label)) room = (int)strlen(label);
    while (room > 0 && (label[room] & 0xC0) == 0x80) room--; /* not inside a character */
    snprintf(start, sizeof start, "%.*s", room, label);
    snprintf(out, cap, "%s%s", start, tail);
}

static void expand_row(const pb_suite_source *s, const pb_suite_row *row, bool fast_bf16,
                       pb_suite *out) {
    bool bf16 = row->dtype == PB_DTYPE_BF16 || (row->dtype == PB_DTYPE_AUTO && fast_bf16);
    int n_lr = s->is_latency ? 1 : row->n_lr, n_seeds = row->n_seeds;
    int sizes = s->n_examples > 0 ? s->n_examples : 1;
    for (int k = 0; k < sizes * n_lr * n_seeds; k++) {
        int size = k / (n_lr * n_seeds), l = k / n_seeds % n_lr;
        pb_run_config *r = &out->runs[out->n_runs++];
        char number[PB_F64_CHARS], tail[48];
        *r = row->run;
        pb_copy(r->suite, sizeof r->suite, out->name);
        r->dtype = bf16 ? PB_BF16 : PB_F32;
        r->lr = row->lr[l];
        r->seed = row->seeds[k % n_seeds];
        if (s->n_examples > 0) {
            r->limit[0] = s->examples[size];
            snprintf(tail, sizeof tail, " n%" PRId64, r->limit[0]);
            pb_suite_label(r->label, sizeof r->label, r->label, tail);
        }
        if (n_lr == 1) continue;
        pb_format_f64(number, r->lr);
        snprintf(tail, sizeof tail, " lr %s", number);
        pb_suite_label(r->label, sizeof r->label, r->label, tail);
    }
}

/* Two runs with one identity would be one record under two names. */
static pb_status check_distinct(const pb_suite_source *s, const pb_suite *suite) {
    pb_status status = PB_OK;
    char(*ids)[PB_RUN_ID] = calloc((size_t)suite->n_runs + 1, sizeof *ids);
    pb_json *config = NULL;
    if (!ids) PB_FAIL(PB_E_OOM, "no memory for %d run ids", suite->n_runs);
    for (int i = 0; i < suite->n_runs; i++) {
        if (suite->runs[i].origin.lr_open) continue;
        PB_TRY(pb_run_config_json(&suite->runs[i], "", "", &config));
        PB_TRY(pb_run_id_of(config, ids[i]));
        pb_json_free(config);
        config = NULL;
        for (int j = 0; j < i; j++) {
            if (suite->runs[j].origin.lr_open || strcmp(ids[i], ids[j]) != 0) continue;
            PB_FAIL(PB_E_INPUT, "%s: runs '%s' and '%s' have the same settings (seed %" PRIu64 ")",
                    s->where, suite->runs[j].label, suite->runs[i].label, suite->runs[i].seed);
        }
    }
done:
    pb_json_free(config);
    free(ids);
    return status;
}

static pb_status expand(pb_suite_source *s, const pb_suite_overrides *o, pb_suite *out) {
    pb_status status = PB_OK;
    size_t total = 0;
    bool fast_bf16 = false, *keep = calloc((size_t)s->n_rows + 1, sizeof *keep);
    if (!keep) PB_FAIL(PB_E_OOM, "%s: no memory for %d rows", s->where, s->n_rows);
    PB_TRY(choose(s, o->methods, keep));
    PB_TRY(resolve_dtype(s, &fast_bf16));
    if (s->tuned) {
        PB_TRY(pb_suite_expand_tune(s, keep, fast_bf16, out));
        PB_TRY(check_distinct(s, out));
        goto done;
    }
    for (int i = 0; i < s->n_rows; i++) {
        size_t sizes = s->n_examples > 0 ? (size_t)s->n_examples : 1;
        size_t rates = s->is_latency ? 1 : (size_t)s->rows[i].n_lr;
        size_t runs = sizes * rates * (size_t)s->rows[i].n_seeds;
        if (keep[i]) total += runs;
    }
    if (total > 10000) PB_FAIL(PB_E_INPUT, "%s: %zu runs, expected at most 10000", s->where, total);
    out->runs = calloc(total + 1, sizeof *out->runs);
    if (!out->runs) PB_FAIL(PB_E_OOM, "%s: no memory for %zu runs", s->where, total);
    for (int i = 0; i < s->n_rows; i++) {
        if (keep[i]) expand_row(s, &s->rows[i], fast_bf16, out);
    }
    PB_TRY(check_distinct(s, out));
done:
    free(keep);
    return status;
}

static pb_status take_suites(const pb_suite_source *s, pb_suite *out) {
    out->suites = calloc((size_t)s->n_suites, sizeof *out->suites);
    if (!out->suites) return PB_ERROR(PB_E_OOM, "%s: no memory for %d suites", s->where, s->n_suites);
    memcpy(out->suites, s->suites, (size_t)s->n_suites * sizeof *out->suites);
    out->n_suites = s->n_suites;
    return PB_OK;
}

pb_status pb_suite_load(const char *name, const pb_suite_overrides *overrides, pb_suite *out) {
    static const pb_suite_overrides none = {0};
    pb_status status = PB_OK;
    char *path = NULL, *where = NULL, *text = NULL;
    size_t len = 0;
    pb_json *root = NULL;
    pb_suite_source *source = calloc(1, sizeof *source);
    const pb_suite_overrides *o = overrides ? overrides : &none;
    *out = (pb_suite){0};
    if (!source) PB_FAIL(PB_E_OOM, "no memory to read a suite");
    PB_TRY(locate(name, &path, &where, &source->dir, out->name));
    source->where = where;
    pb_copy(out->file, sizeof out->file, where);
    PB_TRY(pb_file_read(path, MAX_SUITE_BYTES, &text, &len));
    PB_TRY(pb_json_parse(where, text, len, &root));
    out->storage = root; /* method parameters point into it */
    PB_TRY(pb_suite_parse(root, o, source));
    pb_copy(out->title, sizeof out->title, source->title);
    out->profile = source->profile;
    out->drop_adapters = source->drop_adapters;
    out->is_latency = source->is_latency;
    out->latency = source->latency;
    if (source->n_suites > 0) {
        PB_TRY(take_suites(source, out));
        goto done;
    }
    PB_TRY(name_suite(source, o, out->name));
    PB_TRY(expand(source, o, out));
done:
    if (source) free(source->rows);
    if (source) free(source->dir);
    free(source);
    free(text);
    free(where);
    free(path);
    if (status != PB_OK) pb_suite_free(out);
    return status;
}

void pb_suite_free(pb_suite *suite) {
    free(suite->runs);
    free(suite->suites);
    pb_tune_free(suite->tune);
    pb_json_free(suite->storage);
    *suite = (pb_suite){0};
}

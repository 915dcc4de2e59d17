/* results/: what is written reads back bit for bit, what is wrong is refused by file and field, and
 * every changed byte is found. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "results/group.h"
#include "results/record.h"
#include "results/record_impl.h"
#include "tests/support.h"
#include "tests/synthetic_records.h"

static const pb_synthetic small = {.suite = "tiny",
                                   .method = "lora",
                                   .label = "LoRA r8",
                                   .seed = 7,
                                   .accuracy = 0.7,
                                   .nll = 0.9,
                                   .step_s = 0.01,
                                   .peak_mb = 200,
                                   .trainable = 680000,
                                   .steps = 12,
                                   .examples = 9};

static pb_record *make(const pb_synthetic *s) {
    pb_record *r = calloc(1, sizeof *r);
    ck_assert_ptr_nonnull(r);
    pb_assert_ok(pb_synthetic_record(s, r));
    return r;
}

static void drop(pb_record *r) {
    pb_record_free(r);
    free(r);
}

static char *path_of(const char *root, const pb_record *r, const char *file) {
    char *path = NULL;
    ck_assert_int_gt(asprintf(&path, "%s/%s/%s/%s", root, r->suite, r->run_id, file), 0);
    return path;
}

static char *text_of(const pb_json *json) {
    char *text = json ? pb_json_print(json, false) : strdup("");
    ck_assert_ptr_nonnull(text);
    return text;
}

static void same_json(const pb_json *a, const pb_json *b) {
    char *x = text_of(a), *y = text_of(b);
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
}

static void same_record(const pb_record *a, const pb_record *b) {
    ck_assert_str_eq(a->run_id, b->run_id);
    ck_assert_str_eq(a->suite, b->suite);
    ck_assert_str_eq(a->method, b->method);
    ck_assert_str_eq(a->label, b->label);
    ck_assert_int_eq(a->status, b->status);
    ck_assert_str_eq(a->reason, b->reason);
    ck_assert_str_eq(a->verified, b->verified);
    ck_assert(a->seed == b->seed);
    ck_assert_str_eq(a->started, b->started);
    ck_assert_str_eq(a->ended, b->ended);
    same_json(a->config, b->config);
    same_json(a->model, b->model);
    same_json(a->dataset, b->dataset);
    same_json(a->environment, b->environment);
    same_json(a->report, b->report);
    ck_assert_int_eq(a->n_metrics, b->n_metrics);
    for (int i = 0; i < a->n_metrics; i++) {
        ck_assert_str_eq(a->metrics[i].tag, b->metrics[i].tag);
        ck_assert_str_eq(a->metrics[i].unit, b->metrics[i].unit);
        ck_assert_str_eq(a->metrics[i].from, b->metrics[i].from);
        ck_assert_int_eq(a->metrics[i].better, b->metrics[i].better);
        ck_assert(a->metrics[i].n == b->metrics[i].n);
        ck_assert_mem_eq(&a->metrics[i].value, &b->metrics[i].value, sizeof(double));
    }
    ck_assert_int_eq(a->n_samples, b->n_samples);
    for (int i = 0; i < a->n_samples; i++) {
        ck_assert_str_eq(a->samples[i].tag, b->samples[i].tag);
        ck_assert_str_eq(a->samples[i].file, b->samples[i].file);
        ck_assert(a->samples[i].n == b->samples[i].n);
        if (a->samples[i].n)
            ck_assert_mem_eq(a->samples[i].values, b->samples[i].values,
                             (size_t)a->samples[i].n * sizeof(double));
    }
    ck_assert_int_eq(a->n_memory, b->n_memory);
    for (int i = 0; i < a->n_memory; i++) {
        ck_assert_str_eq(a->memory[i].tag, b->memory[i].tag);
        ck_assert(a->memory[i].predicted == b->memory[i].predicted);
        ck_assert(a->memory[i].peak == b->memory[i].peak);
    }
    ck_assert_int_eq(a->n_warnings, b->n_warnings);
    for (int i = 0; i < a->n_warnings; i++) ck_assert_str_eq(a->warnings[i], b->warnings[i]);
}

/* A record with every awkward value there is. */
static pb_record *awkward(void) {
    static const double odd[] = {0.0, -0.0, 5e-324, 1.7976931348623157e308, -INFINITY, INFINITY,
                                 NAN, 0.1,  1.0 / 3};
    pb_record *r = make(&small);
    r->seed = UINT64_MAX;
    pb_copy(r->label, sizeof r->label, "Größe <b>\"r8\"</b> 数 \\");
    pb_assert_ok(pb_record_metric(r, "quality/test/nll@rank=3", 0.1 + 0.2, "nats", -1,
                                  9007199254740993, ""));
    pb_assert_ok(pb_record_metric(r, "odd/tiny", 5e-324, "1", 0, 0, ""));
    pb_assert_ok(pb_record_metric(r, "odd/negative_zero", -0.0, "1", 0, 1, ""));
    pb_assert_ok(pb_record_metric(r, "odd/huge", -1.7976931348623157e308, "1", 0, 1, ""));
    pb_assert_ok(pb_record_sample(r, "odd/values", odd, sizeof odd / sizeof odd[0]));
    pb_assert_ok(pb_record_sample(r, "odd/none", NULL, 0));
    pb_assert_ok(pb_record_memory(r, "big", (UINT64_C(1) << 53) + 1, (UINT64_C(1) << 62) + 3));
    pb_assert_ok(pb_record_warn(r, "line one\nline \"two\" %d %%", 2));
    return r;
}

START_TEST(record_reads_back_bit_for_bit) {
    char *root = pb_test_dir();
    pb_record *r = awkward(), back;
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE);
    pb_assert_ok(pb_record_read(path, true, &back));
    same_record(r, &back);
    ck_assert_ptr_nonnull(strstr(path, back.dir));
    pb_record_free(&back);
    pb_assert_ok(pb_record_read(path, false, &back));
    ck_assert_ptr_null(back.samples[0].values);
    ck_assert_int_eq((int)back.samples[0].n, (int)r->samples[0].n);
    pb_record_free(&back);
    drop(r);
    free(path);
    free(root);
}
END_TEST

START_TEST(every_status_reads_back) {
    char *root = pb_test_dir();
    pb_synthetic s = small;
    pb_record back;
    s.status = (pb_run_status)_i;
    pb_record *r = make(&s);
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE);
    pb_assert_ok(pb_record_read(path, true, &back));
    same_record(r, &back);
    pb_record_free(&back);
    drop(r);
    free(path);
    free(root);
}
END_TEST

/* ---- the digest ---- */

static char *read_all(const char *path, size_t *len) {
    char *text = NULL;
    pb_assert_ok(pb_file_read(path, 1 << 26, &text, len));
    return text;
}

static void write_all(const char *path, const char *data, size_t len) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, len, f), len);
    ck_assert_int_eq(fclose(f), 0);
}

static bool is_intact(const char *path) {
    pb_record back;
    bool intact = pb_record_read(path, true, &back) == PB_OK;
    pb_record_free(&back);
    return intact;
}

START_TEST(every_flipped_byte_of_a_record_is_found) {
    char *root = pb_test_dir();
    pb_record *r = make(&small);
    size_t len = 0;
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE), *text = read_all(path, &len);
    ck_assert(is_intact(path));
    for (size_t i = 0; i < len; i++) {
        char old = text[i];
        /* one bit, the case bit, another white space, a digit, nothing: in turn, and never the byte
         * itself */
        static const char changes[] = {1, 0x20, 4, 2, 0x40};
        text[i] = (char)(old ^ changes[i % sizeof changes]);
        write_all(path, text, len);
        ck_assert_msg(!is_intact(path), "byte %zu ('%c' to '%c') was changed unnoticed", i, old,
                      text[i]);
        ck_assert_msg(strstr(pb_error_message(), PB_RECORD_FILE), "%s", pb_error_message());
        text[i] = old;
    }
    write_all(path, text, len);
    ck_assert(is_intact(path));
    for (size_t cut = 0; cut < len; cut += 97) {
        write_all(path, text, cut);
        ck_assert(!is_intact(path));
    }
    text[len] = '\n'; /* the terminating NUL's place */
    write_all(path, text, len + 1);
    ck_assert(!is_intact(path));
    free(text);
    drop(r);
    free(path);
    free(root);
}
END_TEST

START_TEST(every_flipped_byte_of_a_sample_is_found) {
    char *root = pb_test_dir();
    pb_record *r = make(&small);
    pb_assert_ok(pb_record_write(r, root));
    char *record = path_of(root, r, PB_RECORD_FILE);
    int checked = 0, bad = 0;
    for (int s = 0; s < r->n_samples; s++) {
        size_t len = 0;
        char *path = path_of(root, r, r->samples[s].file), *data = read_all(path, &len);
        for (size_t i = 0; i < len; i++) {
            data[i] = (char)(data[i] ^ (1 << (i % 8)));
            write_all(path, data, len);
            ck_assert_msg(!is_intact(record), "%s byte %zu", path, i);
            data[i] = (char)(data[i] ^ (1 << (i % 8)));
        }
        write_all(path, data, len - 8);
        pb_assert_fails(pb_records_verify(root, NULL, &checked, &bad), PB_E_CHECK, "1 of 1");
        write_all(path, data, len);
        free(data);
        free(path);
    }
    pb_assert_ok(pb_records_verify(root, NULL, &checked, &bad));
    ck_assert_int_eq(checked, 1);
    ck_assert_int_eq(bad, 0);
    drop(r);
    free(record);
    free(root);
}
END_TEST

/* Replaces the first `from` in a record's text and puts the right digest in, as someone with a
 * script would. */
static void edit(const char *path, const char *from, const char *to) {
    size_t len = 0;
    size_t at = 0, n = strlen(from);
    char *text = read_all(path, &len), digest[PB_SHA256_HEX], stored[PB_SHA256_HEX] = "";
    while (at < len && strncmp(text + at, from, n) != 0) at++;
    ck_assert_msg(at < len, "no %s in %s", from, path);
    pb_text t = {0};
    pb_text_add_bytes(&t, text, at);
    pb_text_add(&t, "%s%s", to, text + at + n);
    char *place = strstr(t.data, "\"digest\": \"");
    if (place) {
        memcpy(stored, place + 11, 64);
        pb_assert_ok(pb_record_digest(path, t.data, t.len, stored, digest));
        memcpy(place + 11, digest, 64);
    }
    write_all(path, t.data, t.len);
    pb_text_free(&t);
    free(text);
}

/* ---- refusals of the reader ---- */

static const struct {
    const char *from, *to, *field;
} faults[] = {
    {"\"schema\": \"1.1\"", "\"schema\": \"2.0\"", "schema: \"2.0\""},
    {"\"schema\": \"1.1\"", "\"schema\": \"1.x\"", "schema"},
    {"\"schema\": \"1.1\",", "", "schema: missing"},
    {"\"schema\": \"1.1\"", "\"schema\": 1", "schema"},
    {"\"digest\":", "\"digset\":", "digset"},
    {"\"run_id\":", "\"runid\":", "runid"},
    {"\"run_id\": \"", "\"run_id\": \"x", "run_id"},
    {"\"status\": \"ok\"", "\"status\": \"fine\"", "status"},
    {"\"status\": \"ok\"", "\"status\": \"failed\"", "reason: empty"},
    {"\"status\": \"ok\",", "", "status: missing"},
    {"\"reason\": \"\"", "\"reason\": 3", "reason"},
    {"\"verified\": \"passed\"", "\"verified\": \"yes\"", "verified: \"yes\""},
    {"\"suite\": \"tiny\"", "\"suite\": \"../tiny\"", "suite: \"../tiny\""},
    {"\"suite\": \"tiny\"", "\"suite\": \"\"", "suite"},
    {"\"method\": \"lora\"", "\"method\": \"Lo RA\"", "method: \"Lo RA\""},
    {"\"label\": \"LoRA r8\"", "\"label\": \"\"", "label"},
    {"\"label\": \"LoRA r8\"", "\"label\": \"a\\nb\"", "label"},
    {"\"label\": \"LoRA r8\"",
     "\"label\": \"0123456789012345678901234567890123456789012345678901234567890123456789\"",
     "label: longer than 63"},
    {"\"seed\": \"7\"", "\"seed\": 7", "seed"},
    {"\"seed\": \"7\"", "\"seed\": \"-7\"", "seed: \"-7\""},
    {"\"seed\": \"7\"", "\"seed\": \"07\"", "seed: \"07\""},
    {"\"seed\": \"7\"", "\"seed\": \"18446744073709551616\"", "seed: \"18446744073709551616\""},
    {"\"started\": \"2025-", "\"started\": \"25-", "started"},
    {"10:02:30.125Z", "10:02:30.Z", "ended"},
    {"10:02:30.125Z", "10:02:30+01:00", "ended"},
    {"\"config\": {", "\"config\": [], \"c\": {", "\"c\""},
    {"\"config\":", "\"report\":", "config: missing"},
    {"\"name\": \"all-MiniLM-L6-v2\",", "", "model.name: missing"},
    {"\"name\": \"all-MiniLM-L6-v2\"", "\"name\": 6", "model.name: expected a string"},
    {"\"sha256\": \"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db\"",
     "\"sha256\": 5", "model.sha256: expected a string"},
    {"\"metrics\": [", "\"metrics\": 3, \"m\": [", "\"m\""},
    {"\"tag\": \"time/step/median\"", "\"tag\": \"time//median\"",
     "metrics[0]: tag: \"time//median\""},
    {"\"tag\": \"time/forward/median\"", "\"tag\": \"time/step/median\"",
     "metrics[1]: tag: time/step/median"},
    {"\"unit\": \"s\"", "\"unit\": \"\"", "metrics[0].unit"},
    {"\"better\": \"lower\"", "\"better\": \"best\"", "metrics[0]: \"better\""},
    {"\"better\": \"lower\",", "", "metrics[0]: better: missing"},
    {"\"from\": \"median:time/step\"", "\"from\": \"mode:time/step\"",
     "metrics[0].from: \"mode:time/step\""},
    {"\"from\": \"median:time/step\"", "\"from\": \"time/step\"", "metrics[0].from: \"time/step\""},
    {"\"from\": \"median:time/step\"", "\"from\": \"median:time/walk\"",
     "metrics[0].from: \"median:time/walk\""},
    {"\"n\": 12,\n      \"from\"", "\"n\": 13,\n      \"from\"", "metrics[0].n: 13"},
    {"\"n\": 12,\n      \"from\"", "\"n\": -1,\n      \"from\"", "metrics[0]: \"n\""},
    {"\"n\": 12,\n      \"from\"", "\"n\": 1.5,\n      \"from\"", "metrics[0]: \"n\""},
    {"\"value\": ", "\"value\": null, \"worth\": ", "metrics[0]: unknown key \"worth\""},
    {"\"value\": ", "\"value\": 1e999, \"worth\": ", "too large for a double"},
    {"\"predicted\": {", "\"predicted\": [], \"p\": {", "memory: unknown key \"p\""},
    {"\"peak\": {", "\"peek\": {", "memory: unknown key \"peek\""},
    {"\"peak\": {", "\"peak\": {\"new\": 1, ", "new: missing"},
    {"\"predicted\": {", "\"predicted\": {\"new\": 1, ", "peak: \"new\" is missing"},
    {"\"peak\": {\n      \"base\": ", "\"peak\": {\n      \"base\": -", "memory: \"base\""},
    {"\"file\": \"loss-train.f64\"", "\"file\": \"../loss-train.f64\"",
     "samples[0]: file: \"../loss-train.f64\""},
    {"\"file\": \"loss-train.f64\"", "\"file\": \"/etc/passwd\"",
     "samples[0]: file: \"/etc/passwd\""},
    {"\"dtype\": \"f64le\"", "\"dtype\": \"f32\"", "samples[0]: dtype: \"f32\""},
    {"\"n\": 12,\n      \"sha256\"", "\"n\": 11,\n      \"sha256\"", ".f64: has 96 bytes"},
    {"\"n\": 12,\n      \"sha256\"", "\"n\": \"9223372036854775807\",\n      \"sha256\"",
     "samples[0]: n"},
    {"\"warnings\": []", "\"warnings\": [3]", "warnings[0]"},
    {"\"warnings\": []", "\"warnings\": {}", "warnings"},
    {"\"environment\": {", "\"environment\": 1, \"e\": {", "\"e\""},
    {"\"environment\": {", "\"label\": \"twice\", \"environment\": {", "stands twice"},
};

START_TEST(reader_names_file_and_field) {
    char *root = pb_test_dir();
    pb_record *r = make(&small), back;
    size_t len = 0;
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE), *text = read_all(path, &len);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        edit(path, faults[i].from, faults[i].to);
        pb_status got = pb_record_read(path, true, &back);
        ck_assert_msg(got == PB_E_INPUT, "case %zu: status %s", i, pb_status_name(got));
        ck_assert_msg(strstr(pb_error_message(), faults[i].field), "case %zu: %s", i,
                      pb_error_message());
        ck_assert_msg(strstr(pb_error_message(), root), "case %zu: no path in: %s", i,
                      pb_error_message());
        ck_assert_ptr_null(back.config); /* nothing is left to free */
        write_all(path, text, len);
    }
    pb_assert_ok(pb_record_read(path, true, &back));
    pb_record_free(&back);
    drop(r);
    free(text);
    free(path);
    free(root);
}
END_TEST

START_TEST(later_minor_schemas_may_bring_fields) {
    char *root = pb_test_dir();
    pb_record *r = make(&small), back;
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE);
    edit(path, "\"schema\": \"1.1\",", "\"schema\": \"1.7\", \"colour\": \"green\",");
    pb_assert_ok(pb_record_read(path, true, &back));
    same_record(r, &back);
    pb_record_free(&back);
    drop(r);
    free(path);
    free(root);
}
END_TEST

/* Records that were written before there were phases stay readable, as strictly as then. */
START_TEST(records_of_schema_1_0_are_read) {
    char *root = pb_test_dir();
    pb_record *r = make(&small), back;
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE);
    edit(path, "\"schema\": \"1.1\",", "\"schema\": \"1.0\",");
    pb_assert_ok(pb_record_read(path, true, &back));
    same_record(r, &back);
    pb_record_free(&back);
    edit(path, "\"schema\": \"1.0\",", "\"schema\": \"1.0\", \"phase\": \"trial\",");
    pb_assert_fails(pb_record_read(path, true, &back), PB_E_INPUT, "phase");
    drop(r);
    free(path);
    free(root);
}
END_TEST

START_TEST(phase_and_tuning_come_together) {
    char *root = pb_test_dir();
    pb_record *r = make(&small), back;
    strcpy(r->phase, "final");
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "phase and tuning");
    r->tuning = cJSON_CreateObject();
    pb_json_add_str(r->tuning, "row", "x");
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE);
    pb_assert_ok(pb_record_read(path, true, &back));
    ck_assert_str_eq(back.phase, "final");
    ck_assert(cJSON_Compare(back.tuning, r->tuning, true));
    pb_record_free(&back);
    edit(path, "\"final\"", "\"semi\"");
    pb_assert_fails(pb_record_read(path, true, &back), PB_E_INPUT, "expected trial or final");
    drop(r);
    free(path);
    free(root);
}
END_TEST

/* ---- refusals of the writer ---- */

START_TEST(writer_refuses_what_the_reader_would) {
    char *root = pb_test_dir();
    pb_record *r = make(&small);
    r->metrics[1].value = NAN;
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "metrics[1].value");
    r->metrics[1].value = 1;
    r->metrics[1].from[0] = 0;
    r->run_id[0] = r->run_id[0] == 'a' ? 'b' : 'a';
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "run_id");
    pb_assert_ok(pb_run_id_of(r->config, r->run_id));
    r->status = PB_RUN_OOM;
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "reason");
    r->status = PB_RUN_OK;
    strcpy(r->ended, "yesterday");
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "ended");
    strcpy(r->ended, r->started);
    strcpy(r->suite, "a/b");
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "suite");
    strcpy(r->suite, "tiny");
    pb_json *config = r->config;
    r->config = NULL;
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "config");
    r->config = config;
    strcpy(r->label, "bad \xff byte");
    pb_assert_fails(pb_record_write(r, root), PB_E_BUG, "label");
    strcpy(r->label, "fine");
    char **names = NULL;
    size_t n = 1;
    pb_assert_ok(pb_list_dir(root, &names, &n));
    ck_assert_uint_eq(n, 0); /* nothing half-written */
    pb_names_free(names, n);
    pb_assert_ok(pb_record_write(r, root));
    drop(r);
    free(root);
}
END_TEST

START_TEST(builders_refuse_duplicates_and_bad_tags) {
    pb_record r = {0};
    double one = 1;
    pb_assert_ok(pb_record_metric(&r, "a/b", 1, "s", -1, 1, NULL));
    pb_assert_fails(pb_record_metric(&r, "a/b", 2, "s", -1, 1, ""), PB_E_BUG, "a/b");
    pb_assert_fails(pb_record_metric(&r, "A", 2, "s", -1, 1, ""), PB_E_BUG, "\"A\"");
    pb_assert_fails(pb_record_metric(&r, "c", 2, "a unit that is much too long", -1, 1, ""),
                    PB_E_BUG, "c");
    pb_assert_ok(pb_record_sample(&r, "x/y", &one, 1));
    pb_assert_fails(pb_record_sample(&r, "x/y", &one, 1), PB_E_BUG, "x/y");
    pb_assert_fails(pb_record_sample(&r, "x-y", &one, 1), PB_E_BUG, "x-y.f64");
    pb_assert_fails(pb_record_sample(&r, "../x", &one, 1), PB_E_BUG, "../x");
    pb_assert_fails(pb_record_sample(&r, "x", &one, -1), PB_E_BUG, "x");
    pb_assert_ok(pb_record_memory(&r, "base", 1, 2));
    pb_assert_fails(pb_record_memory(&r, "base", 1, 2), PB_E_BUG, "base");
    ck_assert_int_eq(r.n_metrics, 1);
    ck_assert_ptr_null(pb_record_find(&r, "nothing"));
    ck_assert_ptr_null(pb_record_find_sample(&r, "nothing"));
    ck_assert(isnan(pb_record_value(&r, "nothing")));
    ck_assert(pb_record_value(&r, "a/b") == 1);
    pb_record_free(&r);
    pb_record_free(&r);
    pb_record_free(NULL);
}
END_TEST

START_TEST(tags_follow_the_grammar) {
    static const char *const good[] = {
        "a", "quality/test/nll", "a@rank=3", "a/b@lr=1e-05", "a@dtype=NF4", "x-1.5/y"};
    static const char *const bad[] = {"",        "/",  "a/",   "/a",   "a//b",    "A",
                                      "a b",     "a@", "a@b",  "a@b=", "a@=c",    "a@b=c@d=e",
                                      "a@b=c/d", "..", "../a", "a\n",  "\xc3\xa4"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(pb_tag_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!pb_tag_valid(bad[i]), "%s", bad[i]);
    ck_assert_str_eq(pb_tag_find("quality/test/accuracy@rank=3")->unit, "1");
    ck_assert_str_eq(pb_tag_find("time/train/tokens_per_s")->unit, "tokens/s");
    ck_assert_ptr_null(pb_tag_find("something/else"));
}
END_TEST

START_TEST(finished_records_are_never_overwritten) {
    char *root = pb_test_dir();
    pb_record *r = make(&small), back;
    r->status = PB_RUN_INTERRUPTED;
    strcpy(r->reason, "SIGTERM");
    pb_assert_ok(pb_record_write(r, root));
    r->status = PB_RUN_OK; /* the resumed run ends */
    r->reason[0] = 0;
    pb_assert_ok(pb_record_write(r, root));
    strcpy(r->label, "other");
    pb_assert_fails(pb_record_write(r, root), PB_E_INPUT, "exists already (ok)");
    char *path = path_of(root, r, PB_RECORD_FILE);
    pb_assert_ok(pb_record_read(path, true, &back));
    ck_assert_str_eq(back.label, "LoRA r8");
    pb_record_free(&back);
    edit(path, "\"label\"", "\"lable\"");
    pb_assert_fails(pb_record_write(r, root), PB_E_INPUT, "unreadable");
    free(path);
    drop(r);
    free(root);
}
END_TEST

START_TEST(concurrent_writers_leave_one_whole_record) {
    char *root = pb_test_dir();
    enum { WRITERS = 8 };
    pid_t pids[WRITERS];
    int won = 0;
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0) {
            pb_record *r = make(&small);
            for (int s = 0; s < r->n_samples; s++) { /* every writer has other numbers */
                if (strcmp(r->samples[s].tag, "time/step") == 0) continue; /* the total's source */
                for (int64_t k = 0; k < r->samples[s].n; k++) r->samples[s].values[k] += i;
            }
            for (int m = 0; m < r->n_metrics; m++) r->metrics[m].from[0] = 0;
            pb_status status = pb_record_write(r, root);
            drop(r);
            free(root);
            _exit(status == PB_OK ? 0 : status == PB_E_INPUT ? 1 : 2);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 0;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        won += WEXITSTATUS(status) == 0;
    }
    ck_assert_int_eq(won, 1);
    pb_assert_ok(pb_records_verify(root, NULL, NULL, NULL));
    free(root);
}
END_TEST

/* ---- identity ---- */

START_TEST(run_id_ignores_key_order_only) {
    static const char *const texts[] = {"{\"b\":{\"y\":1,\"x\":[2,1]},\"a\":0.1}",
                                        "{\"a\":0.1,\"b\":{\"x\":[2,1],\"y\":1}}",
                                        "{\"a\":0.1,\"b\":{\"x\":[1,2],\"y\":1}}"};
    char id[3][PB_RUN_ID];
    for (int i = 0; i < 3; i++) {
        pb_json *json = NULL;
        pb_assert_ok(pb_json_parse("test", texts[i], strlen(texts[i]), &json));
        pb_assert_ok(pb_run_id_of(json, id[i]));
        pb_json_free(json);
    }
    ck_assert_str_eq(id[0], id[1]);
    ck_assert_str_ne(id[1], id[2]);
    char hex[PB_SHA256_HEX];
    pb_assert_ok(pb_sha256_bytes(texts[1], strlen(texts[1]), hex));
    ck_assert_mem_eq(id[0], hex, 16);
}
END_TEST

/* ---- derivations ---- */

START_TEST(derivations_give_known_values) {
    static const double v[] = {3, 1, 2, 10, 4};
    static const struct {
        const char *how;
        double want;
    } cases[] = {{"mean", 4}, {"median", 3}, {"sum", 20},  {"last", 4}, {"min", 1},
                 {"max", 10}, {"count", 5},  {"p10", 1.4}, {"p90", 7.6}};
    double got;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pb_assert_ok(pb_derive(cases[i].how, v, 5, &got));
        pb_assert_close(&got, &cases[i].want, 1, 1e-12, 0, cases[i].how);
    }
    pb_assert_ok(pb_derive("median", v, 4, &got));
    ck_assert(got == 2.5);
    pb_assert_ok(pb_derive("count", NULL, 0, &got));
    ck_assert(got == 0);
    pb_assert_ok(pb_derive("sum", NULL, 0, &got));
    ck_assert(got == 0);
    pb_assert_fails(pb_derive("mean", NULL, 0, &got), PB_E_INPUT, "no values");
    ck_assert(isnan(got));
    pb_assert_fails(pb_derive("mode", v, 5, &got), PB_E_BUG, "mode");
    double hole[] = {1, NAN, 3};
    pb_assert_ok(pb_derive("max", hole, 3, &got));
    ck_assert(isnan(got));
    static const double x[] = {1, 2, 3}, y[] = {1, 3, 2}, down[] = {6, 4, 2}, flat[] = {5, 5, 5};
    const double r[] = {pb_correlation(x, y, 3), pb_correlation(x, down, 3)}, want[] = {0.5, -1};
    pb_assert_close(r, want, 2, 1e-15, 0, "correlations"); /* of numbers that are exact in binary */
    ck_assert(isnan(pb_correlation(x, y, 2)) && isnan(pb_correlation(x, flat, 3)));
    double cancel[] = {1e100, 1, -1e100};
    pb_assert_ok(pb_derive("sum", cancel, 3, &got));
    ck_assert(got == 1);
    double bits[1000];
    for (int i = 0; i < 1000; i++) bits[i] = i % 3 == 0;
    pb_assert_ok(pb_derive("mean", bits, 1000, &got));
    ck_assert(got == 334.0 / 1000);
}
END_TEST

/* ---- verify ---- */

static char *verify_text(const char *root, pb_status want) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    pb_status got = pb_records_verify(root, out, NULL, NULL);
    fclose(out);
    ck_assert_msg(got == want, "%s: %s\n%s", pb_status_name(got), pb_error_message(), text);
    return text;
}

/* Within the bound, at it, beyond it, never predicted; runs that ended badly are not looked at. */
START_TEST(memory_is_checked_against_its_prediction) {
    static const struct {
        uint64_t predicted;
        const char *status;
        pb_status want;
        double percent;
    } cases[] = {{1000, "ok", PB_OK, 0},     {950, "ok", PB_OK, 5},      {1051, "ok", PB_E_CHECK, 5.1},
                 {0, "ok", PB_E_CHECK, 100}, {0, "failed", PB_E_INPUT, 0}};
    char *root = pb_test_dir(), *text = NULL;
    size_t size = 0;
    pb_memory_check c;
    pb_record *r = make(&small);
    for (int i = 0; i < r->n_memory; i++) r->memory[i].predicted = r->memory[i].peak = 1000;
    r->memory[0].predicted = cases[_i].predicted;
    if (strcmp(cases[_i].status, "ok") != 0) {
        r->status = PB_RUN_FAILED;
        snprintf(r->reason, sizeof r->reason, "made to fail");
    }
    pb_assert_ok(pb_record_write(r, root));
    FILE *out = open_memstream(&text, &size);
    ck_assert_int_eq(pb_records_check_memory(root, 5, out, &c), cases[_i].want);
    fclose(out);
    ck_assert_double_eq_tol(c.worst_percent, cases[_i].percent, 1e-9);
    ck_assert_int_eq(c.bad, cases[_i].want == PB_E_CHECK);
    if (c.bad)
        ck_assert_msg(strstr(text, r->memory[0].tag) && strstr(text, "1000 measured") && strstr(c.worst, r->run_id) &&
                          strstr(pb_error_message(), c.worst), "%s%s", text, pb_error_message());
    free(text);
    drop(r);
    free(root);
}
END_TEST

START_TEST(verify_derives_every_number_again) {
    static const struct {
        const char *from, *to, *finding;
    } lies[] = {
        {"\"value\": 0.", "\"value\": 9.", "but median:time/step is"},
        {"\"unit\": \"s\"", "\"unit\": \"ms\"", "unit \"ms\", expected \"s\""},
        {"\"better\": \"lower\"", "\"better\": \"higher\"", "better is +1, expected -1"},
        {"\"lr\": ", "\"lr\": 1", "run_id"},
        {"\"suite\": \"tiny\"", "\"suite\": \"other\"", "suite: other, but its folder is tiny"},
        {"\"verified\": \"passed\"", "\"verified\": \"incorrect\"", "verified: incorrect"},
    };
    char *root = pb_test_dir();
    pb_record *r = make(&small);
    pb_assert_ok(pb_record_write(r, root));
    free(verify_text(root, PB_OK));
    char *path = path_of(root, r, PB_RECORD_FILE);
    edit(path, lies[_i].from, lies[_i].to);
    char *text = verify_text(root, PB_E_CHECK);
    ck_assert_msg(strstr(text, lies[_i].finding), "%s", text);
    ck_assert_msg(strstr(text, path), "%s", text);
    free(text);
    free(path);
    drop(r);
    free(root);
}
END_TEST

START_TEST(verify_goes_on_after_a_finding) {
    char *root = pb_test_dir();
    pb_assert_ok(pb_synthetic_suite(root, "quick", 1));
    pb_record *records = NULL;
    int n = 0, checked = 0, bad = 0;
    pb_assert_ok(pb_records_load(root, true, &records, &n));
    ck_assert_int_eq(n, 8);
    char *a = path_of(root, &records[0], PB_RECORD_FILE),
         *b = path_of(root, &records[3], "loss-train.f64");
    write_all(a, "{}", 2);
    ck_assert_int_eq(unlink(b), 0);
    pb_assert_fails(pb_records_verify(root, NULL, &checked, &bad), PB_E_CHECK, "2 of 8");
    ck_assert_int_eq(checked, 8);
    ck_assert_int_eq(bad, 2);
    free(a);
    free(b);
    pb_records_free(records, n);
    free(root);
}
END_TEST

/* ---- folders ---- */

START_TEST(loading_sorts_and_skips_what_is_no_run) {
    char *base = pb_test_dir(), *root = pb_path_join(base, "Ergebnisse für 數據"), *path = NULL;
    pb_record *records = NULL;
    int n = 0;
    pb_assert_ok(pb_synthetic_suite(root, "b suite", 2));
    pb_assert_ok(pb_synthetic_failures(root, "a"));
    ck_assert_int_gt(asprintf(&path, "%s/a/0123456789abcdef/deeper", root), 0);
    pb_assert_ok(pb_make_dirs(path)); /* a run that has not ended yet */
    pb_assert_ok(pb_records_load(root, true, &records, &n));
    ck_assert_int_eq(n, 20);
    ck_assert_str_eq(records[0].suite, "a");
    ck_assert_str_eq(records[19].suite, "b suite");
    for (int i = 4; i < 19; i++)
        ck_assert_int_le(strcmp(records[i].method, records[i + 1].method), 0);
    ck_assert(records[4].seed == 1 && records[5].seed == 2);
    pb_record *one = NULL;
    int n_one = 0;
    pb_assert_ok(pb_records_load(records[4].dir, false, &one, &n_one));
    ck_assert_int_eq(n_one, 1);
    ck_assert_str_eq(one->run_id, records[4].run_id);
    pb_records_free(one, n_one);
    pb_records_free(records, n);
    free(path);
    free(root);
    free(base);
}
END_TEST

START_TEST(empty_and_missing_folders_are_named) {
    char *root = pb_test_dir(), *missing = pb_path_join(root, "missing");
    pb_record *records = NULL;
    int n = 0;
    pb_assert_fails(pb_records_load(root, true, &records, &n), PB_E_INPUT, "holds no run");
    pb_assert_fails(pb_records_verify(root, NULL, NULL, NULL), PB_E_INPUT, "holds no run");
    pb_assert_fails(pb_records_load(missing, true, &records, &n), PB_E_INPUT, "missing");
    pb_assert_fails(pb_record_read(missing, true, &(pb_record){0}), PB_E_INPUT, "missing");
    ck_assert_ptr_null(records);
    free(missing);
    free(root);
}
END_TEST

START_TEST(rows_group_seeds_and_average_ok_runs_only) {
    char *root = pb_test_dir();
    pb_record *records = NULL;
    pb_chapter *chapters = NULL;
    int n = 0, n_chapters = 0;
    pb_assert_ok(pb_synthetic_suite(root, "quick", 3));
    pb_assert_ok(pb_synthetic_failures(root, "quick"));
    pb_assert_ok(pb_records_load(root, true, &records, &n));
    pb_assert_ok(pb_chapters_make(records, n, &chapters, &n_chapters));
    ck_assert_int_eq(n_chapters, 1);
    ck_assert_int_eq(chapters->n_rows, 12);
    ck_assert_int_eq(chapters->n_runs, 28);
    ck_assert_int_eq(chapters->n_ok, 24);
    ck_assert_str_eq(chapters->rows[0].label, "LoRA r64");
    ck_assert_str_eq(chapters->rows[1].label, "LoRA r8");
    ck_assert_str_eq(chapters->rows[11].method, "head");
    pb_stat s = pb_row_stat(&chapters->rows[1], "quality/test/accuracy");
    double v[3];
    for (int i = 0; i < 3; i++)
        v[i] = pb_record_value(chapters->rows[1].runs[i], "quality/test/accuracy");
    double mean = (v[0] + v[1] + v[2]) / 3, var = 0;
    for (int i = 0; i < 3; i++) var += (v[i] - mean) * (v[i] - mean) / 2;
    ck_assert_int_eq(s.n, 3);
    ck_assert(fabs(s.mean - mean) < 1e-15 && fabs(s.sd - sqrt(var)) < 1e-15 && s.min <= mean &&
              s.max >= mean);
    s = pb_row_stat(&chapters->rows[0], "quality/test/accuracy");
    ck_assert(s.n == 0 && isnan(s.mean) && isnan(s.sd));
    ck_assert_int_eq(pb_row_memory(&chapters->rows[0], "base", true).n, 1);
    ck_assert_int_eq(pb_row_memory(&chapters->rows[0], "base", false).n, 0);
    pb_chapters_free(chapters, n_chapters);
    pb_records_free(records, n);
    free(root);
}
END_TEST

static pb_record run_of_phase(const char *label, const char *phase, const char *tuning, const char *train, int number) {
    pb_record r = {.seed = 101, .status = PB_RUN_DIVERGED};
    char text[160];
    pb_copy(r.suite, sizeof r.suite, "tuned");
    pb_copy(r.label, sizeof r.label, label);
    pb_copy(r.phase, sizeof r.phase, phase);
    snprintf(r.run_id, sizeof r.run_id, "%016d", number);
    snprintf(text, sizeof text, "{\"train\":{\"batch\":8,\"accumulate\":2,%s}}", train);
    pb_assert_ok(pb_json_parse("test", tuning, strlen(tuning), &r.tuning));
    pb_assert_ok(pb_json_parse("test", text, strlen(text), &r.config));
    pb_assert_ok(pb_json_parse("test", "{\"splits\":{\"train\":100}}", 24, &r.dataset));
    return r;
}

/* What a tuning cost and where it looked: steps as asked for, also where the run diverged; the width of the grid
 * without what was tried beyond it or between. */
START_TEST(rows_know_what_their_tuning_tried) {
    static const struct {
        const char *label, *phase, *tuning, *train;
    } runs[] = {
        {"A", "final", "{\"row\":\"A\",\"edge\":\"none\"}", "\"steps\":64"},
        {"A lr 1", "trial", "{\"row\":\"A\",\"lr\":0.0001,\"why\":\"grid\"}", "\"steps\":16"},
        {"A lr 2", "trial", "{\"row\":\"A\",\"lr\":0.1,\"why\":\"grid\"}", "\"steps\":16"},
        {"A lr 2", "trial", "{\"row\":\"A\",\"lr\":0.1,\"why\":\"grid\"}", "\"steps\":17"},
        {"A lr 3", "trial", "{\"row\":\"A\",\"lr\":1,\"why\":\"extend\"}", "\"steps\":64"},
        {"B", "final", "{\"row\":\"B\",\"edge\":\"high\"}", "\"epochs\":1"},
        {"B lr 1", "trial", "{\"row\":\"B\",\"lr\":1e-9,\"why\":\"grid\"}", "\"epochs\":1"},
        {"B lr 2", "trial", "{\"row\":\"B\",\"lr\":1e-8,\"why\":\"grid\"}", "\"epochs\":0.5"},
        {"B lr 3", "trial", "{\"row\":\"B\",\"lr\":3e-9,\"why\":\"refine\"}", "\"epochs\":1"},
        {"C", "final", "{\"row\":\"C\"}", "\"steps\":64"},
        {"C lr 1", "trial", "{\"row\":\"C\",\"why\":\"grid\"}", "\"unknown\":1"},
    };
    enum { N = sizeof runs / sizeof runs[0] };
    pb_record records[N];
    pb_chapter *chapters = NULL;
    int n_chapters = 0;
    for (int i = 0; i < N; i++)
        records[i] = run_of_phase(runs[i].label, runs[i].phase, runs[i].tuning, runs[i].train, i);
    pb_assert_ok(pb_chapters_make(records, N, &chapters, &n_chapters));
    ck_assert_int_eq(n_chapters, 1);
    ck_assert_int_eq(chapters->n_rows, 3);
    const pb_row *row = chapters->rows;
    ck_assert(row[0].n_trials == 3 && row[0].n_trial_runs == 4 && row[0].n_trials_beyond == 1);
    ck_assert(row[0].trial_steps == 16 + 16 + 17 + 64 && fabs(row[0].trial_decades - 3) < 1e-12);
    ck_assert(row[1].n_trials == 3 && row[1].n_trials_beyond == 0);
    ck_assert(row[1].trial_steps == 7 + 4 + 7 && fabs(row[1].trial_decades - 1) < 1e-12); /* of 100 / 16 */
    ck_assert(row[2].n_trials == 1 && row[2].trial_steps == 0 && row[2].trial_decades == 0);
    pb_chapters_free(chapters, n_chapters);
    for (int i = 0; i < N; i++) pb_record_free(&records[i]);
}
END_TEST

START_TEST(comma_decimals_change_nothing) {
    char *root = pb_test_dir(), *command = NULL;
    ck_assert_int_gt(
        asprintf(&command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1", root),
        0);
    int made = system(command);
    setenv("LOCPATH", root, 1);
    if (made == 0 && setlocale(LC_ALL, "de_DE.UTF-8"))
        ck_assert_str_eq(localeconv()->decimal_point, ",");
    pb_record *r = awkward(), back;
    pb_assert_ok(pb_record_write(r, root));
    char *path = path_of(root, r, PB_RECORD_FILE);
    pb_assert_ok(pb_record_read(path, true, &back));
    same_record(r, &back);
    setlocale(LC_ALL, "C");
    pb_record_free(&back);
    pb_assert_ok(pb_record_read(path, true, &back));
    same_record(r, &back);
    pb_record_free(&back);
    drop(r);
    free(path);
    free(command);
    free(root);
}
END_TEST

int main(void) {
    Suite *s = suite_create("records");
    TCase *t = pb_test_case(s, "round trip");
    tcase_add_test(t, record_reads_back_bit_for_bit);
    tcase_add_loop_test(t, every_status_reads_back, 0, PB_RUN_STATUS_COUNT);
    tcase_add_test(t, comma_decimals_change_nothing);
    t = pb_test_case(s, "digest");
    tcase_add_test(t, every_flipped_byte_of_a_record_is_found);
    tcase_add_test(t, every_flipped_byte_of_a_sample_is_found);
    t = pb_test_case(s, "refusals");
    tcase_add_test(t, reader_names_file_and_field);
    tcase_add_test(t, later_minor_schemas_may_bring_fields);
    tcase_add_test(t, records_of_schema_1_0_are_read);
    tcase_add_test(t, phase_and_tuning_come_together);
    tcase_add_test(t, writer_refuses_what_the_reader_would);
    tcase_add_test(t, builders_refuse_duplicates_and_bad_tags);
    tcase_add_test(t, tags_follow_the_grammar);
    tcase_add_test(t, finished_records_are_never_overwritten);
    tcase_add_test(t, concurrent_writers_leave_one_whole_record);
    t = pb_test_case(s, "identity and derivation");
    tcase_add_test(t, run_id_ignores_key_order_only);
    tcase_add_test(t, derivations_give_known_values);
    tcase_add_loop_test(t, memory_is_checked_against_its_prediction, 0, 5);
    tcase_add_loop_test(t, verify_derives_every_number_again, 0, 6);
    tcase_add_test(t, verify_goes_on_after_a_finding);
    t = pb_test_case(s, "folders");
    tcase_add_test(t, loading_sorts_and_skips_what_is_no_run);
    tcase_add_test(t, empty_and_missing_folders_are_named);
    tcase_add_test(t, rows_group_seeds_and_average_ok_runs_only);
    tcase_add_test(t, rows_know_what_their_tuning_tried);
    return pb_run_suite(s);
}

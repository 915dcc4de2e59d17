/* Reading records: one file strictly after results/SCHEMA.md, or every record under a folder. Test:
 * tests/test_records.c. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "results/record_impl.h"

#define MAX_FOLDER_DEPTH 6

/* ---- digest ---- */

static const char *find_bytes(const char *text, size_t len, const char *needle, size_t n) {
    return memmem(text, len, needle, n);
}

pb_status pb_record_digest(const char *where, const char *text, size_t len, const char *stored,
                           char hex[PB_SHA256_HEX]) {
    char zeros[PB_SHA256_HEX - 1];
    pb_sha256 *h = NULL;
    const size_t n = sizeof zeros;
    const char *at = strlen(stored) == n ? find_bytes(text, len, stored, n) : NULL;
    if (!at)
        return PB_ERROR(PB_E_INPUT, "%s: digest: \"%.80s\", expected 64 hexadecimal digits", where,
                        stored);
    memset(zeros, '0', n);
    PB_RETURN(pb_sha256_new(&h));
    pb_sha256_add(h, text, (size_t)(at - text));
    pb_sha256_add(h, zeros, n);
    pb_sha256_add(h, at + n, len - (size_t)(at - text) - n);
    pb_sha256_end(h, hex);
    return PB_OK;
}

/* ---- fields ---- */

#define MUST true
#define MAY false

/* A string copied into a fixed field. */
static pb_status read_text(const pb_json *o, const char *where, const char *key, bool must,
                           char *dst, size_t cap) {
    const char *s = NULL;
    PB_RETURN(pb_json_read_str(o, where, key, &s));
    if (!s && must) return PB_ERROR(PB_E_INPUT, "%s: %s: missing, expected a string", where, key);
    if (s && !pb_copy(dst, cap, s))
        return PB_ERROR(PB_E_INPUT, "%s: %s: longer than %zu bytes", where, key, cap - 1);
    return PB_OK;
}

static pb_status read_count(const pb_json *o, const char *where, const char *key, int64_t *out) {
    if (!pb_json_get(o, key))
        return PB_ERROR(PB_E_INPUT, "%s: %s: missing, expected a count", where, key);
    PB_RETURN(pb_json_read_i64(o, where, key, 0, INT64_MAX, out));
    return PB_OK;
}

/* A decimal string, so that all 64 bits survive. */
static pb_status read_seed(const pb_json *o, const char *where, uint64_t *out) {
    char digits[24] = "";
    PB_RETURN(read_text(o, where, "seed", MUST, digits, sizeof digits));
    size_t n = strlen(digits);
    uint64_t v = 0;
    bool good =
        n > 0 && n <= 20 && strspn(digits, "0123456789") == n && (digits[0] != '0' || n == 1);
    for (size_t i = 0; good && i < n; i++)
        good = !__builtin_mul_overflow(v, 10, &v) &&
               !__builtin_add_overflow(v, (uint64_t)(digits[i] - '0'), &v);
    if (!good)
        return PB_ERROR(PB_E_INPUT, "%s: seed: \"%s\", expected a decimal number below 2^64", where,
                        digits);
    *out = v;
    return PB_OK;
}

/* A deep copy of an object. */
static pb_status read_part(const pb_json *o, const char *where, const char *key, bool must,
                           pb_json **out) {
    const pb_json *part = pb_json_get(o, key);
    if (!part && !must) return PB_OK;
    if (!cJSON_IsObject(part))
        return PB_ERROR(PB_E_INPUT, "%s: %s: %s, expected an object", where, key,
                        part ? "another type" : "missing");
    *out = cJSON_Duplicate(part, true);
    return *out ? PB_OK : PB_ERROR(PB_E_OOM, "%s: no memory for %s", where, key);
}

static pb_status read_list(const pb_json *o, const char *where, const char *key,
                           const pb_json **list) {
    *list = pb_json_get(o, key);
    if (cJSON_IsArray(*list)) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: %s: %s, expected an array", where, key,
                    *list ? "another type" : "missing");
}

static pb_status read_metric(const pb_json *e, const char *where, pb_record *r) {
    static const char *const keys[] = {"tag", "value", "unit", "better", "n", "from"};
    static const char *const directions[] = {"lower", "neither", "higher"};
    char tag[96] = "", unit[24] = "", from[96] = "";
    double value = 0;
    int64_t n = 0;
    int better = -1;
    PB_RETURN(pb_json_only_keys(e, where, keys, 6));
    PB_RETURN(read_text(e, where, "tag", MUST, tag, sizeof tag));
    PB_RETURN(read_text(e, where, "unit", MUST, unit, sizeof unit));
    PB_RETURN(read_text(e, where, "from", MAY, from, sizeof from));
    if (!pb_json_get(e, "value"))
        return PB_ERROR(PB_E_INPUT, "%s: value: missing, expected a number", where);
    PB_RETURN(pb_json_read_f64(e, where, "value", -1.7976931348623157e308, 1.7976931348623157e308,
                               &value));
    PB_RETURN(pb_json_read_choice(e, where, "better", directions, 3, &better));
    if (better < 0)
        return PB_ERROR(PB_E_INPUT, "%s: better: missing, expected lower, neither or higher",
                        where);
    PB_RETURN(read_count(e, where, "n", &n));
    if (!pb_tag_valid(tag))
        return PB_ERROR(PB_E_INPUT, "%s: tag: \"%s\" is no metric tag", where, tag);
    if (pb_record_find(r, tag))
        return PB_ERROR(PB_E_INPUT, "%s: tag: %s stands in the list twice", where, tag);
    PB_RETURN(pb_record_metric(r, tag, value, unit, better - 1, n, from));
    return PB_OK;
}

static pb_status read_sample(const pb_json *e, const char *where, pb_record *r) {
    static const char *const keys[] = {"tag", "file", "dtype", "n", "sha256"};
    char tag[96] = "", file[128] = "", dtype[16] = "", sha[PB_SHA256_HEX] = "", expected[128];
    int64_t n = 0;
    PB_RETURN(pb_json_only_keys(e, where, keys, 5));
    PB_RETURN(read_text(e, where, "tag", MUST, tag, sizeof tag));
    PB_RETURN(read_text(e, where, "file", MUST, file, sizeof file));
    PB_RETURN(read_text(e, where, "dtype", MUST, dtype, sizeof dtype));
    PB_RETURN(read_text(e, where, "sha256", MUST, sha, sizeof sha));
    PB_RETURN(read_count(e, where, "n", &n));
    if (!pb_tag_valid(tag))
        return PB_ERROR(PB_E_INPUT, "%s: tag: \"%s\" is no sample tag", where, tag);
    if (pb_record_find_sample(r, tag))
        return PB_ERROR(PB_E_INPUT, "%s: tag: %s stands in the list twice", where, tag);
    pb_sample_file_name(tag, expected);
    if (strcmp(file, expected) != 0)
        return PB_ERROR(PB_E_INPUT, "%s: file: \"%s\", expected \"%s\"", where, file, expected);
    if (strcmp(dtype, PB_SAMPLE_DTYPE) != 0)
        return PB_ERROR(PB_E_INPUT, "%s: dtype: \"%s\", expected \"%s\"", where, dtype,
                        PB_SAMPLE_DTYPE);
    if (n > INT64_MAX / 8)
        return PB_ERROR(PB_E_INPUT, "%s: n: %lld values do not fit a file", where, (long long)n);
    PB_RETURN(pb_record_sample(r, tag, NULL, 0));
    pb_sample *s = &r->samples[r->n_samples - 1];
    free(s->values);
    s->values = NULL;
    s->n = n;
    memcpy(s->sha256, sha, sizeof sha);
    return PB_OK;
}

static pb_status read_memory(const pb_json *o, const char *where, pb_record *r) {
    static const char *const keys[] = {"predicted", "peak"};
    const pb_json *memory = pb_json_get(o, "memory");
    char place[1200];
    snprintf(place, sizeof place, "%s: memory", where);
    if (!memory) return PB_ERROR(PB_E_INPUT, "%s: memory: missing, expected an object", where);
    PB_RETURN(pb_json_only_keys(memory, place, keys, 2));
    const pb_json *predicted = pb_json_get(memory, "predicted"),
                  *peak = pb_json_get(memory, "peak");
    if (!cJSON_IsObject(predicted) || !cJSON_IsObject(peak))
        return PB_ERROR(PB_E_INPUT, "%s: expected objects \"predicted\" and \"peak\"", place);
    for (const pb_json *c = peak->child; c; c = c->next) {
        int64_t bytes[2] = {0, 0};
        if (!pb_tag_valid(c->string) || strlen(c->string) >= sizeof r->memory->tag)
            return PB_ERROR(PB_E_INPUT, "%s: \"%.80s\" is no memory tag", place, c->string);
        PB_RETURN(read_count(peak, place, c->string, &bytes[0]));
        PB_RETURN(read_count(predicted, place, c->string, &bytes[1]));
        PB_RETURN(pb_record_memory(r, c->string, (uint64_t)bytes[1], (uint64_t)bytes[0]));
    }
    for (const pb_json *c = predicted->child; c; c = c->next)
        if (!pb_json_get(peak, c->string))
            return PB_ERROR(PB_E_INPUT, "%s: peak: \"%.80s\" is missing", place, c->string);
    return PB_OK;
}

static pb_status read_lists(const pb_json *o, const char *where, pb_record *r) {
    const pb_json *list = NULL;
    char place[1200];
    int i = 0;
    PB_RETURN(read_list(o, where, "samples", &list));
    for (const pb_json *e = list->child; e; e = e->next) {
        snprintf(place, sizeof place, "%s: samples[%d]", where, i++);
        PB_RETURN(read_sample(e, place, r));
    }
    PB_RETURN(read_list(o, where, "metrics", &list));
    i = 0;
    for (const pb_json *e = list->child; e; e = e->next) {
        snprintf(place, sizeof place, "%s: metrics[%d]", where, i++);
        PB_RETURN(read_metric(e, place, r));
    }
    PB_RETURN(read_list(o, where, "warnings", &list));
    i = 0;
    for (const pb_json *e = list->child; e; e = e->next, i++) {
        if (!cJSON_IsString(e))
            return PB_ERROR(PB_E_INPUT, "%s: warnings[%d]: expected a string", where, i);
        PB_RETURN(pb_record_warn(r, "%s", e->valuestring));
    }
    return PB_OK;
}

/* "1.x": the same major number reads; a higher minor one may bring fields that are unknown here. */
static pb_status read_schema(const pb_json *o, const char *where) {
    static const char *const keys[] = {
        "schema",  "digest", "run_id",  "status",   "reason", "verified", "suite",
        "method",  "label",  "seed",    "started",  "ended",  "model",    "dataset",
        "metrics", "memory", "samples", "warnings", "report", "config",   "environment",
        "profile", "phase",  "tuning"};
    const size_t n = sizeof keys / sizeof keys[0], since_1_1 = 3;
    char schema[16] = "";
    int64_t known = 0;
    pb_parse_i64(PB_RECORD_SCHEMA + 2, &known);
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(read_text(o, where, "schema", MUST, schema, sizeof schema));
    int64_t minor;
    if (strncmp(schema, PB_RECORD_SCHEMA, 2) != 0 || !pb_parse_i64(schema + 2, &minor) || minor < 0)
        return PB_ERROR(PB_E_INPUT, "%s: schema: \"%s\", expected \"%s\" or a later 1.x", where,
                        schema, PB_RECORD_SCHEMA);
    if (minor <= known) return pb_json_only_keys(o, where, keys, minor == 0 ? n - since_1_1 : n);
    return PB_OK;
}

static pb_status read_object(const pb_json *o, const char *where, pb_record *r) {
    const char *names[PB_RUN_STATUS_COUNT];
    int status = -1;
    for (int i = 0; i < PB_RUN_STATUS_COUNT; i++) names[i] = pb_run_status_name((pb_run_status)i);
    PB_RETURN(read_text(o, where, "run_id", MUST, r->run_id, sizeof r->run_id));
    PB_RETURN(pb_json_read_choice(o, where, "status", names, PB_RUN_STATUS_COUNT, &status));
    if (status < 0) return PB_ERROR(PB_E_INPUT, "%s: status: missing", where);
    r->status = (pb_run_status)status;
    PB_RETURN(read_text(o, where, "reason", MAY, r->reason, sizeof r->reason));
    PB_RETURN(read_text(o, where, "verified", MUST, r->verified, sizeof r->verified));
    PB_RETURN(read_text(o, where, "suite", MUST, r->suite, sizeof r->suite));
    PB_RETURN(read_text(o, where, "method", MUST, r->method, sizeof r->method));
    PB_RETURN(read_text(o, where, "label", MUST, r->label, sizeof r->label));
    PB_RETURN(read_seed(o, where, &r->seed));
    PB_RETURN(read_text(o, where, "started", MUST, r->started, sizeof r->started));
    PB_RETURN(read_text(o, where, "ended", MUST, r->ended, sizeof r->ended));
    PB_RETURN(read_part(o, where, "config", MUST, &r->config));
    PB_RETURN(read_part(o, where, "model", MUST, &r->model));
    PB_RETURN(read_part(o, where, "dataset", MUST, &r->dataset));
    PB_RETURN(read_part(o, where, "environment", MUST, &r->environment));
    PB_RETURN(read_part(o, where, "report", MAY, &r->report));
    PB_RETURN(read_part(o, where, "profile", MAY, &r->profile));
    PB_RETURN(read_text(o, where, "phase", MAY, r->phase, sizeof r->phase));
    PB_RETURN(read_part(o, where, "tuning", MAY, &r->tuning));
    PB_RETURN(read_lists(o, where, r));
    PB_RETURN(read_memory(o, where, r));
    PB_RETURN(pb_record_validate(r, where, PB_E_INPUT));
    return PB_OK;
}

/* ---- files ---- */

pb_status pb_sample_load(const char *dir, pb_sample *s) {
    pb_status status = PB_OK;
    pb_map map = {0};
    char hex[PB_SHA256_HEX];
    char *path = pb_path_join(dir, s->file);
    if (!path) PB_FAIL(PB_E_OOM, "%s: no memory for a file name", dir);
    PB_TRY(pb_map_open(path, &map));
    if (map.len % 8 || map.len / 8 != (uint64_t)s->n)
        PB_FAIL(PB_E_INPUT, "%s: has %zu bytes, expected %lld values of 8 bytes (sample %s)", path,
                map.len, (long long)s->n, s->tag);
    PB_TRY(pb_sha256_bytes(map.data, map.len, hex));
    if (strcmp(hex, s->sha256) != 0)
        PB_FAIL(PB_E_INPUT, "%s: sha256 is %s, but the record says %s: the file was changed", path,
                hex, s->sha256);
    free(s->values);
    s->values = malloc(map.len ? map.len : 1);
    if (!s->values) PB_FAIL(PB_E_OOM, "%s: no memory for %zu bytes", path, map.len);
    for (int64_t i = 0; i < s->n; i++) {
        uint64_t bits = 0;
        for (int b = 0; b < 8; b++) bits |= (uint64_t)map.data[i * 8 + b] << (8 * b);
        memcpy(&s->values[i], &bits, 8);
    }
done:
    pb_map_close(&map);
    free(path);
    return status;
}

/* dir = the folder part of path. */
static pb_status set_dir(pb_record *r, const char *path) {
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof r->dir)
        return PB_ERROR(PB_E_INPUT, "%s: the path is longer than %zu bytes", path,
                        sizeof r->dir - 1);
    memcpy(r->dir, slash ? path : ".", slash ? n : 1);
    r->dir[slash ? n : 1] = 0;
    if (slash == path) memcpy(r->dir, "/", 2);
    return PB_OK;
}

pb_status pb_record_read(const char *path, bool with_samples, pb_record *out) {
    pb_status status = PB_OK;
    pb_json *json = NULL;
    char *text = NULL, digest[PB_SHA256_HEX], stored[PB_SHA256_HEX] = "";
    size_t len = 0;
    *out = (pb_record){0};
    PB_TRY(pb_file_read(path, PB_RECORD_MAX_BYTES, &text, &len));
    PB_TRY(pb_json_parse(path, text, len, &json));
    PB_TRY(read_schema(json, path));
    PB_TRY(read_text(json, path, "digest", MUST, stored, sizeof stored));
    PB_TRY(pb_record_digest(path, text, len, stored, digest));
    if (strcmp(digest, stored) != 0)
        PB_FAIL(PB_E_INPUT,
                "%s: digest: the text gives %s, but %s stands in it: the file was changed", path,
                digest, stored);
    PB_TRY(read_object(json, path, out));
    PB_TRY(set_dir(out, path));
    for (int i = 0; with_samples && i < out->n_samples; i++)
        PB_TRY(pb_sample_load(out->dir, &out->samples[i]));
done:
    if (status != PB_OK) pb_record_free(out);
    pb_json_free(json);
    free(text);
    return status;
}

typedef struct path_list {
    char **paths;
    size_t n, cap;
} path_list;

static pb_status add_path(path_list *list, char *path) {
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        char **bigger = realloc(list->paths, cap * sizeof *bigger);
        if (!bigger) return PB_ERROR(PB_E_OOM, "no memory for a list of %zu records", cap);
        list->paths = bigger;
        list->cap = cap;
    }
    list->paths[list->n++] = path;
    return PB_OK;
}

/* A folder with a record is a run: nothing below it is looked at. Hidden names are skipped. */
static pb_status walk(const char *dir, int depth, path_list *list) {
    pb_status status = PB_OK;
    char **names = NULL, *path = pb_path_join(dir, PB_RECORD_FILE);
    size_t n = 0;
    if (!path) PB_FAIL(PB_E_OOM, "%s: no memory for a file name", dir);
    if (pb_file_exists(path)) {
        PB_TRY(add_path(list, path));
        path = NULL;
        goto done;
    }
    PB_TRY(pb_list_dir(dir, &names, &n));
    for (size_t i = 0; i < n && depth < MAX_FOLDER_DEPTH; i++) {
        if (names[i][0] == '.') continue;
        free(path);
        if (!(path = pb_path_join(dir, names[i])))
            PB_FAIL(PB_E_OOM, "%s: no memory for a file name", dir);
        if (pb_is_dir(path)) PB_TRY(walk(path, depth + 1, list));
    }
done:
    free(path);
    pb_names_free(names, n);
    return status;
}

pb_status pb_record_paths(const char *dir, char ***paths, size_t *n) {
    path_list list = {0};
    pb_status status = walk(dir, 0, &list);
    if (status != PB_OK) {
        pb_names_free(list.paths, list.n);
        list = (path_list){0};
        pb_error_frame(__FILE__, __LINE__);
    }
    *paths = list.paths;
    *n = list.n;
    return status;
}

static int by_place(const void *a, const void *b) {
    const pb_record *x = a, *y = b;
    int order = strcmp(x->suite, y->suite);
    if (!order) order = strcmp(x->method, y->method);
    if (!order) order = strcmp(x->label, y->label);
    if (!order) order = (x->seed > y->seed) - (x->seed < y->seed);
    if (!order) order = strcmp(x->run_id, y->run_id);
    return order ? order : strcmp(x->dir, y->dir);
}

pb_status pb_records_load(const char *dir, bool with_samples, pb_record **out, int *n) {
    pb_status status = PB_OK;
    char **paths = NULL;
    size_t count = 0;
    pb_record *records = NULL;
    *out = NULL;
    *n = 0;
    PB_TRY(pb_record_paths(dir, &paths, &count));
    if (count == 0)
        PB_FAIL(PB_E_INPUT, "%s: holds no run (a folder with a %s)", dir, PB_RECORD_FILE);
    if (count > 1000000) PB_FAIL(PB_E_INPUT, "%s: holds more than a million runs", dir);
    if (!(records = calloc(count, sizeof *records)))
        PB_FAIL(PB_E_OOM, "%s: no memory for %zu records", dir, count);
    for (size_t i = 0; i < count; i++) PB_TRY(pb_record_read(paths[i], with_samples, &records[i]));
    qsort(records, count, sizeof *records, by_place);
    *out = records;
    *n = (int)count;
    records = NULL;
done:
    if (records) pb_records_free(records, (int)count);
    pb_names_free(paths, count);
    return status;
}

void pb_records_free(pb_record *records, int n) {
    for (int i = 0; records && i < n; i++) pb_record_free(&records[i]);
    free(records);
}

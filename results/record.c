/* Building, validating and writing a run record. Format: results/SCHEMA.md. Test:
 * tests/test_records.c. */
#include "results/record.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "results/record_impl.h"

#define LOCK_SECONDS 60

void pb_record_free(pb_record *r) {
    if (!r) return;
    pb_json_free(r->config);
    pb_json_free(r->model);
    pb_json_free(r->dataset);
    pb_json_free(r->environment);
    pb_json_free(r->report);
    pb_json_free(r->profile);
    pb_json_free(r->tuning);
    for (int i = 0; i < r->n_samples; i++) free(r->samples[i].values);
    for (int i = 0; i < r->n_warnings; i++) free(r->warnings[i]);
    free(r->metrics);
    free(r->samples);
    free(r->memory);
    free(r->warnings);
    *r = (pb_record){0};
}

/* ---- builders ---- */

/* Room for one more element; arrays grow by doubling at powers of two. */
static pb_status grow(void **array, int n, size_t size) {
    if (n & (n - 1)) return PB_OK;
    void *bigger = realloc(*array, (n ? (size_t)n * 2 : 1) * size);
    if (!bigger) return PB_ERROR(PB_E_OOM, "no memory for a record of %d elements", n + 1);
    *array = bigger;
    return PB_OK;
}

pb_status pb_record_metric(pb_record *r, const char *tag, double value, const char *unit,
                           int better, int64_t n, const char *from) {
    pb_metric m = {.value = value, .better = better, .n = n};
    if (!pb_tag_valid(tag)) return PB_ERROR(PB_E_BUG, "\"%s\" is no metric tag", tag);
    if (pb_record_find(r, tag))
        return PB_ERROR(PB_E_BUG, "the metric %s stands in the record twice", tag);
    if (!pb_copy(m.tag, sizeof m.tag, tag) || !pb_copy(m.unit, sizeof m.unit, unit) ||
        !pb_copy(m.from, sizeof m.from, from ? from : ""))
        return PB_ERROR(PB_E_BUG, "metric %s: unit \"%s\" or source \"%s\" is too long", tag, unit,
                        from);
    PB_RETURN(grow((void **)&r->metrics, r->n_metrics, sizeof m));
    r->metrics[r->n_metrics++] = m;
    return PB_OK;
}

pb_status pb_record_sample(pb_record *r, const char *tag, const double *values, int64_t n) {
    pb_sample s = {.n = n};
    if (!pb_tag_valid(tag) || n < 0)
        return PB_ERROR(PB_E_BUG, "\"%s\" (%lld values) is no sample", tag, (long long)n);
    pb_copy(s.tag, sizeof s.tag, tag);
    pb_sample_file_name(tag, s.file);
    for (int i = 0; i < r->n_samples; i++)
        if (strcmp(r->samples[i].file, s.file) == 0)
            return PB_ERROR(PB_E_BUG, "the samples %s and %s would share the file %s",
                            r->samples[i].tag, tag, s.file);
    PB_RETURN(grow((void **)&r->samples, r->n_samples, sizeof s));
    s.values = malloc((n ? (size_t)n : 1) * sizeof *s.values);
    if (!s.values)
        return PB_ERROR(PB_E_OOM, "no memory for the %lld values of %s", (long long)n, tag);
    if (n) memcpy(s.values, values, (size_t)n * sizeof *s.values);
    r->samples[r->n_samples++] = s;
    return PB_OK;
}

pb_status pb_record_memory(pb_record *r, const char *tag, uint64_t predicted, uint64_t peak) {
    pb_mem_row row = {.predicted = predicted, .peak = peak};
    if (!pb_tag_valid(tag) || !pb_copy(row.tag, sizeof row.tag, tag))
        return PB_ERROR(PB_E_BUG, "\"%s\" is no memory tag", tag);
    for (int i = 0; i < r->n_memory; i++)
        if (strcmp(r->memory[i].tag, tag) == 0)
            return PB_ERROR(PB_E_BUG, "the memory of %s stands in the record twice", tag);
    PB_RETURN(grow((void **)&r->memory, r->n_memory, sizeof row));
    r->memory[r->n_memory++] = row;
    return PB_OK;
}

pb_status pb_record_warn(pb_record *r, const char *fmt, ...) {
    pb_status status = PB_OK;
    char *text = NULL;
    va_list args;
    PB_TRY(grow((void **)&r->warnings, r->n_warnings, sizeof *r->warnings));
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0) PB_FAIL(PB_E_OOM, "no memory for a warning");
    r->warnings[r->n_warnings++] = text;
done:
    return status;
}

const pb_metric *pb_record_find(const pb_record *r, const char *tag) {
    for (int i = 0; i < r->n_metrics; i++)
        if (strcmp(r->metrics[i].tag, tag) == 0) return &r->metrics[i];
    return NULL;
}

const pb_sample *pb_record_find_sample(const pb_record *r, const char *tag) {
    for (int i = 0; i < r->n_samples; i++)
        if (strcmp(r->samples[i].tag, tag) == 0) return &r->samples[i];
    return NULL;
}

double pb_record_value(const pb_record *r, const char *tag) {
    const pb_metric *m = pb_record_find(r, tag);
    return m ? m->value : NAN;
}

/* ---- run id ---- */

static int by_name(const void *a, const void *b) {
    return strcmp((*(cJSON *const *)a)->string, (*(cJSON *const *)b)->string);
}

/* Sorts the members of every object in the tree. */
static pb_status sort_keys(cJSON *json) {
    size_t n = 0, i = 0;
    for (cJSON *c = json->child; c; c = c->next, n++) PB_RETURN(sort_keys(c));
    if (!cJSON_IsObject(json) || n < 2) return PB_OK;
    cJSON **members = malloc(n * sizeof(cJSON *));
    if (!members) return PB_ERROR(PB_E_OOM, "no memory to sort %zu keys", n);
    for (cJSON *c = json->child; c; c = c->next) members[i++] = c;
    qsort(members, n, sizeof(cJSON *), by_name);
    for (i = 0; i < n; i++) { /* cJSON: the first one's prev is the last one */
        members[i]->prev = members[(i + n - 1) % n];
        members[i]->next = i + 1 < n ? members[i + 1] : NULL;
    }
    json->child = members[0];
    free(members);
    return PB_OK;
}

pb_status pb_run_id_of(const pb_json *config, char run_id[PB_RUN_ID]) {
    pb_status status = PB_OK;
    char hex[PB_SHA256_HEX], *text = NULL;
    cJSON *copy = cJSON_Duplicate(config, true);
    if (!copy) PB_FAIL(PB_E_OOM, "no memory for a copy of the configuration");
    PB_TRY(sort_keys(copy));
    if (!(text = pb_json_print(copy, false)))
        PB_FAIL(PB_E_OOM, "no memory for the configuration's text");
    PB_TRY(pb_sha256_bytes(text, strlen(text), hex));
    memcpy(run_id, hex, PB_RUN_ID - 1);
    run_id[PB_RUN_ID - 1] = 0;
done:
    free(text);
    cJSON_Delete(copy);
    return status;
}

/* ---- validation ---- */

/* Printable, valid UTF-8. */
static bool clean_text(const char *s) {
    size_t bad;
    if (!pb_utf8_valid(s, strlen(s), &bad)) return false;
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) return false;
    return true;
}

static bool is_run_id(const char *s) {
    return strlen(s) == PB_RUN_ID - 1 && strspn(s, "0123456789abcdef") == PB_RUN_ID - 1;
}

/* 2025-01-31T23:59:59Z, a fraction of a second allowed. */
static bool is_utc(const char *s) {
    static const char form[] = "0000-00-00T00:00:00";
    for (size_t i = 0; i < sizeof form - 1; i++, s++)
        if (form[i] == '0' ? !(*s >= '0' && *s <= '9') : *s != form[i]) return false;
    if (*s == '.') {
        size_t digits = strspn(s + 1, "0123456789");
        if (!digits) return false;
        s += 1 + digits;
    }
    return strcmp(s, "Z") == 0;
}

static bool is_folder_name(const char *s) {
    return *s && *s != '.' && !strchr(s, '/') && clean_text(s);
}

static bool is_method_name(const char *s) {
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(s);
}

#define EXPECT(cond, ...)                                                                          \
    do {                                                                                           \
        if (!(cond)) return PB_ERROR(code, __VA_ARGS__);                                           \
    } while (0)

static pb_status validate_metrics(const pb_record *r, const char *where, pb_status code) {
    for (int i = 0; i < r->n_metrics; i++) {
        const pb_metric *m = &r->metrics[i];
        char how[16];
        const char *source = "";
        EXPECT(pb_tag_valid(m->tag), "%s: metrics[%d].tag: \"%s\" is no metric tag", where, i,
               m->tag);
        EXPECT(pb_record_find(r, m->tag) == m, "%s: metrics[%d].tag: %s stands in the list twice",
               where, i, m->tag);
        EXPECT(isfinite(m->value),
               "%s: metrics[%d].value: %s is not finite: leave it out and say why in warnings",
               where, i, m->tag);
        EXPECT(*m->unit && clean_text(m->unit), "%s: metrics[%d].unit: %s has none", where, i,
               m->tag);
        EXPECT(m->better >= -1 && m->better <= 1, "%s: metrics[%d].better: %d, expected -1, 0 or 1",
               where, i, m->better);
        EXPECT(m->n >= 0, "%s: metrics[%d].n: %lld, expected at least 0", where, i,
               (long long)m->n);
        if (!*m->from) continue;
        EXPECT(pb_from_split(m->from, how, &source) && pb_derive_known(how),
               "%s: metrics[%d].from: \"%s\", expected a known derivation and a sample tag "
               "(\"mean:eval/test/correct\")",
               where, i, m->from);
        const pb_sample *s = pb_record_find_sample(r, source);
        EXPECT(s, "%s: metrics[%d].from: \"%s\" names no sample of this record", where, i, m->from);
        EXPECT(s->n == m->n, "%s: metrics[%d].n: %lld, but the sample %s has %lld values", where, i,
               (long long)m->n, s->tag, (long long)s->n);
    }
    return PB_OK;
}

static pb_status validate_lists(const pb_record *r, const char *where, pb_status code) {
    for (int i = 0; i < r->n_samples; i++) {
        const pb_sample *s = &r->samples[i];
        char file[128];
        EXPECT(pb_tag_valid(s->tag), "%s: samples[%d].tag: \"%s\" is no sample tag", where, i,
               s->tag);
        EXPECT(pb_record_find_sample(r, s->tag) == s,
               "%s: samples[%d].tag: %s stands in the list twice", where, i, s->tag);
        EXPECT(s->n >= 0, "%s: samples[%d].n: %lld, expected at least 0", where, i,
               (long long)s->n);
        pb_sample_file_name(s->tag, file);
        EXPECT(strcmp(s->file, file) == 0, "%s: samples[%d].file: \"%s\", expected \"%s\"", where,
               i, s->file, file);
    }
    for (int i = 0; i < r->n_memory; i++) {
        const pb_mem_row *m = &r->memory[i];
        EXPECT(pb_tag_valid(m->tag), "%s: memory.peak: \"%s\" is no memory tag", where, m->tag);
        EXPECT(m->predicted <= INT64_MAX && m->peak <= INT64_MAX,
               "%s: memory.peak.%s: 2^63 bytes or more", where, m->tag);
    }
    for (int i = 0; i < r->n_warnings; i++) {
        size_t bad;
        EXPECT(pb_utf8_valid(r->warnings[i], strlen(r->warnings[i]), &bad),
               "%s: warnings[%d]: not UTF-8", where, i);
    }
    return PB_OK;
}

/* NULL or an object; its name, where needed, and its sha256 are strings. */
static pb_status validate_part(const pb_json *part, const char *key, bool need_name,
                               const char *where, pb_status code) {
    const pb_json *name = pb_json_get(part, "name"), *sha = pb_json_get(part, "sha256");
    EXPECT(!part || cJSON_IsObject(part), "%s: %s: expected an object", where, key);
    EXPECT(!name || cJSON_IsString(name), "%s: %s.name: expected a string", where, key);
    EXPECT(!sha || cJSON_IsString(sha), "%s: %s.sha256: expected a string", where, key);
    EXPECT(!need_name || (name && *name->valuestring), "%s: %s.name: missing in a run that is ok",
           where, key);
    return PB_OK;
}

pb_status pb_record_validate(const pb_record *r, const char *where, pb_status code) {
    size_t bad;
    bool ok = r->status == PB_RUN_OK;
    EXPECT(is_run_id(r->run_id), "%s: run_id: \"%s\", expected 16 hexadecimal digits", where,
           r->run_id);
    EXPECT((int)r->status >= 0 && r->status < PB_RUN_STATUS_COUNT, "%s: status: %d is none", where,
           (int)r->status);
    EXPECT(ok || *r->reason, "%s: reason: empty in a run with status %s", where,
           pb_run_status_name(r->status));
    EXPECT(pb_utf8_valid(r->reason, strlen(r->reason), &bad), "%s: reason: not UTF-8", where);
    EXPECT(!*r->verified || strcmp(r->verified, "passed") == 0 ||
               strcmp(r->verified, "incorrect") == 0 || strcmp(r->verified, "not_verified") == 0,
           "%s: verified: \"%s\", expected passed, incorrect or not_verified", where, r->verified);
    EXPECT(!*r->phase || strcmp(r->phase, "trial") == 0 || strcmp(r->phase, "final") == 0,
           "%s: phase: \"%s\", expected trial or final", where, r->phase);
    EXPECT(!*r->phase == !r->tuning, "%s: phase and tuning: expected both or neither", where);
    PB_RETURN(validate_part(r->tuning, "tuning", false, where, code));
    EXPECT(is_folder_name(r->suite), "%s: suite: \"%s\", expected a name fit for a folder", where,
           r->suite);
    EXPECT(is_method_name(r->method),
           "%s: method: \"%s\", expected lower-case letters, digits, _ and -", where, r->method);
    EXPECT(*r->label && clean_text(r->label), "%s: label: empty or not clean UTF-8", where);
    EXPECT(is_utc(r->started), "%s: started: \"%s\", expected UTC as 2025-01-31T23:59:59Z", where,
           r->started);
    EXPECT(is_utc(r->ended), "%s: ended: \"%s\", expected UTC as 2025-01-31T23:59:59Z", where,
           r->ended);
    EXPECT(cJSON_IsObject(r->config), "%s: config: expected an object", where);
    PB_RETURN(validate_part(r->model, "model", ok, where, code));
    PB_RETURN(validate_part(r->dataset, "dataset", ok, where, code));
    PB_RETURN(validate_part(r->environment, "environment", false, where, code));
    PB_RETURN(validate_part(r->report, "report", false, where, code));
    PB_RETURN(validate_part(r->profile, "profile", false, where, code));
    PB_RETURN(validate_lists(r, where, code));
    PB_RETURN(validate_metrics(r, where, code));
    return PB_OK;
}

/* ---- JSON ---- */

/* A copy of `part` (an empty object for NULL) under key. */
static bool add_part(pb_json *o, const char *key, const pb_json *part) {
    if (!part) return pb_json_add_object(o, key);
    cJSON *copy = cJSON_Duplicate(part, true);
    if (copy && cJSON_AddItemToObject(o, key, copy)) return true;
    cJSON_Delete(copy);
    return false;
}

static bool add_metrics(pb_json *o, const pb_record *r) {
    static const char *const better[] = {"lower", "neither", "higher"};
    pb_json *list = pb_json_add_array(o, "metrics");
    for (int i = 0; i < r->n_metrics; i++) {
        const pb_metric *m = &r->metrics[i];
        pb_json *e = pb_json_add_object(list, NULL);
        if (!(pb_json_add_str(e, "tag", m->tag) && pb_json_add_f64(e, "value", m->value) &&
              pb_json_add_str(e, "unit", m->unit) &&
              pb_json_add_str(e, "better", better[m->better + 1]) &&
              pb_json_add_i64(e, "n", m->n) && pb_json_add_str(e, "from", m->from)))
            return false;
    }
    return list;
}

static bool add_memory(pb_json *o, const pb_record *r) {
    pb_json *memory = pb_json_add_object(o, "memory");
    pb_json *predicted = pb_json_add_object(memory, "predicted"),
            *peak = pb_json_add_object(memory, "peak");
    for (int i = 0; i < r->n_memory; i++) {
        const pb_mem_row *m = &r->memory[i];
        if (!pb_json_add_i64(predicted, m->tag, (int64_t)m->predicted) ||
            !pb_json_add_i64(peak, m->tag, (int64_t)m->peak))
            return false;
    }
    return peak;
}

static bool add_samples(pb_json *o, const pb_record *r, char (*hashes)[PB_SHA256_HEX]) {
    pb_json *list = pb_json_add_array(o, "samples");
    for (int i = 0; i < r->n_samples; i++) {
        const pb_sample *s = &r->samples[i];
        pb_json *e = pb_json_add_object(list, NULL);
        if (!(pb_json_add_str(e, "tag", s->tag) && pb_json_add_str(e, "file", s->file) &&
              pb_json_add_str(e, "dtype", PB_SAMPLE_DTYPE) && pb_json_add_i64(e, "n", s->n) &&
              pb_json_add_str(e, "sha256", hashes[i])))
            return false;
    }
    return list;
}

static bool add_warnings(pb_json *o, const pb_record *r) {
    pb_json *list = pb_json_add_array(o, "warnings");
    for (int i = 0; i < r->n_warnings; i++)
        if (!pb_json_add_str(list, NULL, r->warnings[i])) return false;
    return list;
}

/* The text of record.json, digest in place. *text is malloc'ed. */
static pb_status compose(const pb_record *r, const char *where, char (*hashes)[PB_SHA256_HEX],
                         char **text) {
    pb_status status = PB_OK;
    char zeros[PB_SHA256_HEX], digest[PB_SHA256_HEX], seed[24];
    cJSON *o = cJSON_CreateObject();
    memset(zeros, '0', sizeof zeros);
    zeros[sizeof zeros - 1] = 0;
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->seed);
    bool built = pb_json_add_str(o, "schema", PB_RECORD_SCHEMA) &&
                 pb_json_add_str(o, "digest", zeros) && pb_json_add_str(o, "run_id", r->run_id) &&
                 pb_json_add_str(o, "status", pb_run_status_name(r->status)) &&
                 pb_json_add_str(o, "reason", r->reason) &&
                 pb_json_add_str(o, "verified", *r->verified ? r->verified : "not_verified") &&
                 pb_json_add_str(o, "suite", r->suite) && pb_json_add_str(o, "method", r->method) &&
                 pb_json_add_str(o, "label", r->label) && pb_json_add_str(o, "seed", seed) &&
                 pb_json_add_str(o, "started", r->started) &&
                 pb_json_add_str(o, "ended", r->ended) && add_part(o, "model", r->model) &&
                 add_part(o, "dataset", r->dataset) && add_metrics(o, r) && add_memory(o, r) &&
                 add_samples(o, r, hashes) && add_warnings(o, r) &&
                 (!*r->phase || pb_json_add_str(o, "phase", r->phase)) &&
                 (!r->tuning || add_part(o, "tuning", r->tuning)) &&
                 (!r->report || add_part(o, "report", r->report)) &&
                 (!r->profile || add_part(o, "profile", r->profile)) &&
                 add_part(o, "config", r->config) && add_part(o, "environment", r->environment);
    if (!built || !(*text = pb_json_print(o, true)))
        PB_FAIL(PB_E_OOM, "%s: no memory for the record's text", where);
    PB_TRY(pb_record_digest(where, *text, strlen(*text), zeros, digest));
    memcpy(strstr(*text, zeros), digest, sizeof digest - 1);
done:
    cJSON_Delete(o);
    return status;
}

/* ---- writing ---- */

/* Writers of one run take turns. The lock goes with the file descriptor, so a dead writer holds
 * none. */
static pb_status lock_folder(const char *dir, int *fd) {
    struct timespec nap = {.tv_nsec = 20000000};
    int64_t until = pb_now_ns() + LOCK_SECONDS * INT64_C(1000000000);
    *fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) return PB_ERROR(PB_E_IO, "%s: cannot be opened: %s", dir, strerror(errno));
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == ENOTSUP || errno == ENOLCK || errno == ENOSYS)
            return PB_OK; /* no locks on this file system */
        if (errno != EWOULDBLOCK && errno != EINTR)
            return PB_ERROR(PB_E_IO, "%s: cannot be locked: %s", dir, strerror(errno));
        if (pb_now_ns() > until)
            return PB_ERROR(PB_E_IO, "%s: another writer has held it for %d seconds", dir,
                            LOCK_SECONDS);
        nanosleep(&nap, NULL);
    }
    return PB_OK;
}

static pb_status write_sample(const char *dir, const pb_sample *s, char hash[PB_SHA256_HEX]) {
    pb_status status = PB_OK;
    size_t len = (size_t)s->n * 8;
    char *path = pb_path_join(dir, s->file);
    unsigned char *bytes = malloc(len ? len : 1);
    if (!path || !bytes) PB_FAIL(PB_E_OOM, "%s: no memory to write %s", dir, s->file);
    for (int64_t i = 0; i < s->n; i++) {
        uint64_t bits;
        memcpy(&bits, &s->values[i], 8);
        for (int b = 0; b < 8; b++) bytes[i * 8 + b] = (unsigned char)(bits >> (8 * b));
    }
    PB_TRY(pb_sha256_bytes(bytes, len, hash));
    PB_TRY(pb_file_write_atomic(path, bytes, len));
done:
    free(bytes);
    free(path);
    return status;
}

/* A record may take the place of an interrupted one only; that one goes first, so that no moment
 * shows a mixture. */
static pb_status make_room(const char *path) {
    pb_record old = {0};
    if (!pb_file_exists(path)) return PB_OK;
    bool readable = pb_record_read(path, false, &old) == PB_OK,
         interrupted = old.status == PB_RUN_INTERRUPTED;
    const char *name = pb_run_status_name(old.status);
    pb_record_free(&old);
    if (!readable || !interrupted)
        return PB_ERROR(PB_E_INPUT,
                        "%s: exists already (%s) and records are never overwritten; move its "
                        "folder away to repeat the run",
                        path, readable ? name : "unreadable");
    if (unlink(path) != 0)
        return PB_ERROR(PB_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
    return PB_OK;
}

pb_status pb_record_write(const pb_record *r, const char *root) {
    pb_status status = PB_OK;
    char *suite = NULL, *dir = NULL, *path = NULL, *text = NULL, id[PB_RUN_ID], where[96];
    char(*hashes)[PB_SHA256_HEX] = NULL;
    int fd = -1;
    snprintf(where, sizeof where, "record %.20s (%.60s)", r->run_id, r->label);
    PB_TRY(pb_record_validate(r, where, PB_E_BUG));
    PB_TRY(pb_run_id_of(r->config, id));
    if (strcmp(id, r->run_id) != 0)
        PB_FAIL(PB_E_BUG, "%s: run_id: the configuration's is %s", where, id);
    for (int i = 0; i < r->n_samples; i++)
        if (r->samples[i].n && !r->samples[i].values)
            PB_FAIL(PB_E_BUG, "%s: samples[%d] has no values", where, i);
    suite = pb_path_join(root, r->suite);
    dir = suite ? pb_path_join(suite, r->run_id) : NULL;
    path = dir ? pb_path_join(dir, PB_RECORD_FILE) : NULL;
    hashes = calloc((size_t)r->n_samples + 1, sizeof *hashes);
    if (!path || !hashes) PB_FAIL(PB_E_OOM, "%s: no memory for file names", where);
    PB_TRY(pb_make_dirs(dir));
    PB_TRY(lock_folder(dir, &fd));
    PB_TRY(make_room(path));
    for (int i = 0; i < r->n_samples; i++) PB_TRY(write_sample(dir, &r->samples[i], hashes[i]));
    PB_TRY(compose(r, where, hashes, &text));
    PB_TRY(pb_file_write_atomic(path, text, strlen(text)));
done:
    if (fd >= 0) close(fd);
    free(text);
    free(hashes);
    free(path);
    free(dir);
    free(suite);
    return status;
}

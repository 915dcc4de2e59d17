/* Kernels from revision to revision: harness/kernel_history.h. */
#include "harness/kernel_history.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define MOST_BYTES ((size_t)256 << 20)
#define KEY 1 /* of the shuffles */

/* ---- writing ---- */

static const char *text_of(const pb_json *o, const char *group, const char *key) {
    return pb_json_text(group ? pb_json_get(o, group) : o, key);
}

static double number_of(const pb_json *o, const char *group, const char *key) {
    const pb_json *v = pb_json_get(group ? pb_json_get(o, group) : o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

/* What a time depends on, and may be the reason of a change; not the command line. */
static bool add_environment(pb_json *line, const pb_json *e) {
    static const char *const keys[] = {"machine",   "system", "build",   "libraries",
                                       "variables", "device", "threads", "cache"};
    pb_json *o = pb_json_add_object(line, "environment");
    bool ok = o != NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && ok; i++) {
        const pb_json *v = pb_json_get(e, keys[i]);
        pb_json *copy = v ? cJSON_Duplicate(v, true) : NULL;
        if (!v) continue;
        ok = copy && cJSON_AddItemToObject(o, keys[i], copy);
        if (!ok) pb_json_free(copy);
    }
    return ok;
}

static bool add_times(pb_json *line, const pb_saved_run *run) {
    pb_json *times = pb_json_add_object(line, "seconds");
    bool ok = times != NULL;
    char name[32];
    for (int i = 0; i < PB_SAVED_ANCHORS && ok; i++) {
        if (run->anchors[i].n == 0 || isnan(run->anchors[i].median)) continue;
        snprintf(name, sizeof name, "anchor/%s", pb_anchor_name(i));
        ok = pb_json_add_f64(times, name, run->anchors[i].median);
    }
    for (int i = 0; i < run->n && ok; i++)
        if (!run->kernels[i].wrong)
            ok = pb_json_add_f64(times, run->kernels[i].name, run->kernels[i].time.median);
    return ok;
}

static pb_status append(const char *path, const char *text) {
    size_t n = strlen(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return PB_ERROR(PB_E_IO, "%s: %s", path, strerror(errno));
    ssize_t written = write(fd, text, n); /* one write: lines of two programs do not mix */
    bool ok = written == (ssize_t)n && fsync(fd) == 0;
    int error = errno;
    close(fd);
    return ok ? PB_OK : PB_ERROR(PB_E_IO, "%s: writing failed: %s", path, strerror(error));
}

pb_status pb_history_append(const char *path, const pb_saved_run *run) {
    pb_status status = PB_OK;
    const pb_json *e = run->environment;
    pb_json *line = cJSON_CreateObject();
    pb_text text = {0};
    char *json = NULL;
    bool dirty = cJSON_IsTrue(pb_json_get(pb_json_get(e, "build"), "dirty"));
    bool ok = pb_json_add_str(line, "schema", PB_HISTORY_SCHEMA) &&
              pb_json_add_str(line, "time_utc", run->time_utc) &&
              pb_json_add_str(line, "revision", text_of(e, "build", "revision")) &&
              pb_json_add_bool(line, "dirty", dirty) &&
              pb_json_add_str(line, "binary_sha256", run->binary) &&
              pb_json_add_i64(line, "processes", run->processes) && add_environment(line, e) &&
              add_times(line, run);
    json = ok ? pb_json_print(line, false) : NULL;
    if (!json) PB_FAIL(PB_E_OOM, "no memory for a line of %s", path);
    pb_text_add(&text, "%s\n", json);
    PB_TRY(pb_text_status(&text));
    PB_TRY(append(path, text.data));
done:
    free(json);
    pb_text_free(&text);
    pb_json_free(line);
    return status;
}

/* ---- reading ---- */

typedef struct lines {
    pb_json **v;
    int n;
} lines;

static void free_lines(lines *l) {
    for (int i = 0; i < l->n; i++) pb_json_free(l->v[i]);
    free(l->v);
}

static pb_status read_lines(const char *path, char *text, lines *out) {
    char *save = NULL;
    size_t number = 0, most = 1;
    for (const char *p = text; *p; p++) most += *p == '\n';
    out->v = calloc(most, sizeof *out->v);
    if (!out->v) return PB_ERROR(PB_E_OOM, "%s: no memory for its lines", path);
    for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
        const char *schema = NULL;
        PB_RETURN(pb_json_parse_line(path, ++number, s, strlen(s), &out->v[out->n]));
        const pb_json *line = out->v[out->n++];
        PB_RETURN(pb_json_read_str(line, path, "schema", &schema));
        if (!schema || strcmp(schema, PB_HISTORY_SCHEMA) != 0)
            return PB_ERROR(PB_E_INPUT, "%s:%zu: schema %s; expected %s, as run --history writes",
                            path, number, schema ? schema : "(none)", PB_HISTORY_SCHEMA);
    }
    if (out->n == 0) return PB_ERROR(PB_E_INPUT, "%s: no lines", path);
    return PB_OK;
}

static const char *gpu_of(const pb_json *e) {
    return text_of(pb_json_get(e, "machine"), "gpu", "name");
}

/* Lines of before it was written down are from cold caches, as a run is that asks for nothing else. */
static bool is_hot(const pb_json *e) { return strcmp(text_of(e, NULL, "cache"), "hot") == 0; }

/* Can the times of two lines be points of one series? */
static bool same_kind(const pb_json *a, const pb_json *b) {
    const pb_json *x = pb_json_get(a, "environment"), *y = pb_json_get(b, "environment");
    return strcmp(text_of(x, "machine", "cpu"), text_of(y, "machine", "cpu")) == 0 &&
           number_of(x, "machine", "cores_online") == number_of(y, "machine", "cores_online") &&
           strcmp(text_of(x, NULL, "device"), text_of(y, NULL, "device")) == 0 &&
           strcmp(gpu_of(x), gpu_of(y)) == 0 && is_hot(x) == is_hot(y) &&
           number_of(x, NULL, "threads") == number_of(y, NULL, "threads") &&
           number_of(a, NULL, "processes") == number_of(b, NULL, "processes");
}

static bool is_dirty(const pb_json *line) {
    return cJSON_IsTrue(pb_json_get(line, "dirty"));
}

/* The same committed revision, built in the same way, measured again. */
static bool same_point(const pb_json *a, const pb_json *b) {
    const char *revision = text_of(a, NULL, "revision");
    const pb_json *x = pb_json_get(a, "environment"), *y = pb_json_get(b, "environment");
    return same_kind(a, b) && *revision && !is_dirty(a) && !is_dirty(b) &&
           strcmp(revision, text_of(b, NULL, "revision")) == 0 &&
           strcmp(text_of(x, "build", "compiler"), text_of(y, "build", "compiler")) == 0 &&
           strcmp(text_of(x, "build", "flags"), text_of(y, "build", "flags")) == 0 &&
           strcmp(text_of(x, "libraries", "products"), text_of(y, "libraries", "products")) == 0;
}

static void drop_line(lines *l, int i) {
    pb_json_free(l->v[i]);
    l->v[i] = NULL;
}

/* Leaves only points like the last one, NULL in the place of others, the newest PB_CHANGE_MOST.
 * What was measured again goes where it was first: an old revision must not look like the
 * newest. */
static void select_lines(lines *l, pb_history *out) {
    int kept = 0, last = l->n - 1;
    for (int i = 0; i < last; i++)
        if (!same_kind(l->v[i], l->v[last])) {
            out->others++;
            drop_line(l, i);
        }
    for (int i = 0; i < l->n; i++)
        for (int k = i + 1; l->v[i] && k < l->n; k++) {
            if (!l->v[k] || !same_point(l->v[i], l->v[k])) continue;
            pb_json_free(l->v[i]);
            l->v[i] = l->v[k];
            l->v[k] = NULL;
        }
    for (int i = last; i >= 0; i--)
        if (l->v[i] && ++kept > PB_CHANGE_MOST) drop_line(l, i);
}

static pb_status find_series(pb_history *h, const char *name, pb_history_series **out) {
    for (int i = 0; i < h->n; i++)
        if (strcmp(h->series[i].name, name) == 0) {
            *out = &h->series[i];
            return PB_OK;
        }
    pb_history_series *grown = realloc(h->series, (size_t)(h->n + 1) * sizeof *grown);
    if (!grown) return PB_ERROR(PB_E_OOM, "no memory for %d series", h->n + 1);
    h->series = grown;
    *out = &grown[h->n++];
    memset(*out, 0, sizeof **out);
    pb_copy((*out)->name, sizeof (*out)->name, name);
    return PB_OK;
}

static pb_status add_point(pb_history *h, const char *path, const pb_json *line) {
    const pb_json *v = NULL, *e = pb_json_get(line, "environment");
    int point = h->n_points++;
    h->environments[point] = e ? cJSON_Duplicate(e, true) : NULL;
    if (e && !h->environments[point]) return PB_ERROR(PB_E_OOM, "%s: no memory for a point", path);
    snprintf(h->revisions[point], sizeof h->revisions[point], "%.44s%s",
             text_of(line, NULL, "revision"), is_dirty(line) ? "+" : "");
    cJSON_ArrayForEach(v, pb_json_get(line, "seconds")) {
        pb_history_series *s = NULL;
        if (!cJSON_IsNumber(v) || !(v->valuedouble > 0))
            return PB_ERROR(PB_E_INPUT, "%s: %s: expected seconds above 0", path, v->string);
        PB_RETURN(find_series(h, v->string, &s));
        s->seconds[s->n] = v->valuedouble;
        s->point[s->n++] = point;
    }
    return PB_OK;
}

static pb_status find_changes(pb_history_series *s) {
    double logs[PB_CHANGE_MOST];
    for (int i = 0; i < s->n; i++) logs[i] = log(s->seconds[i]);
    PB_RETURN(pb_change_points(logs, s->n, KEY, s->changes, &s->n_changes));
    for (int i = 0; i < s->n_changes; i++) {
        s->changes[i].before = exp(s->changes[i].before);
        s->changes[i].after = exp(s->changes[i].after);
    }
    return PB_OK;
}

pb_status pb_history_read(const char *path, pb_history *out) {
    pb_status status = PB_OK;
    char *text = NULL;
    lines l = {.n = 0};
    *out = (pb_history){.n = 0};
    PB_TRY(pb_file_read(path, MOST_BYTES, &text, NULL));
    PB_TRY(read_lines(path, text, &l));
    select_lines(&l, out);
    out->revisions = calloc(PB_CHANGE_MOST, sizeof *out->revisions);
    out->environments = calloc(PB_CHANGE_MOST, sizeof *out->environments);
    if (!out->revisions || !out->environments)
        PB_FAIL(PB_E_OOM, "%s: no memory for its revisions", path);
    for (int i = 0; i < l.n; i++)
        if (l.v[i]) PB_TRY(add_point(out, path, l.v[i]));
    for (int i = 0; i < out->n; i++) PB_TRY(find_changes(&out->series[i]));
done:
    free(text);
    free_lines(&l);
    if (status != PB_OK) pb_history_free(out);
    return status;
}

pb_status pb_history_differences(const pb_history *h, const pb_history_series *s, int change,
                                 pb_text *out) {
    char other_machine[192];
    int at = s->changes[change].at;
    return pb_environment_differences(h->environments[s->point[at - 1]],
                                      h->environments[s->point[at]], out, other_machine);
}

void pb_history_free(pb_history *h) {
    for (int i = 0; h->environments && i < h->n_points; i++) pb_json_free(h->environments[i]);
    free(h->environments);
    free(h->revisions);
    free(h->series);
    *h = (pb_history){.n = 0};
}

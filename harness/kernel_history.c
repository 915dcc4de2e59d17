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
    const pb_json *v = pb_json_get(group ? pb_json_get(o, group) : o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static double number_of(const pb_json *o, const char *group, const char *key) {
    const pb_json *v = pb_json_get(group ? pb_json_get(o, group) : o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
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
              pb_json_add_str(line, "cpu", text_of(e, "machine", "cpu")) &&
              pb_json_add_f64(line, "cores", number_of(e, "machine", "cores_online")) &&
              pb_json_add_f64(line, "threads", number_of(e, NULL, "threads")) &&
              pb_json_add_i64(line, "processes", run->processes) && add_times(line, run);
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

static bool same_machine(const pb_json *a, const pb_json *b) {
    return strcmp(text_of(a, NULL, "cpu"), text_of(b, NULL, "cpu")) == 0 &&
           number_of(a, NULL, "cores") == number_of(b, NULL, "cores") &&
           number_of(a, NULL, "threads") == number_of(b, NULL, "threads");
}

static bool is_dirty(const pb_json *line) {
    return cJSON_IsTrue(pb_json_get(line, "dirty"));
}

/* A later line of the same committed revision stands for this one. */
static bool replaced(const lines *l, int i) {
    const char *revision = text_of(l->v[i], NULL, "revision");
    if (!*revision || is_dirty(l->v[i])) return false;
    for (int k = i + 1; k < l->n; k++)
        if (l->v[k] && !is_dirty(l->v[k]) &&
            strcmp(revision, text_of(l->v[k], NULL, "revision")) == 0)
            return true;
    return false;
}

/* Leaves only this machine's points, NULL in the place of others, the newest PB_CHANGE_MOST. */
static void select_lines(lines *l, pb_history *out) {
    const pb_json *last = l->v[l->n - 1];
    int kept = 0;
    for (int i = l->n - 1; i >= 0; i--) {
        bool other = !same_machine(l->v[i], last);
        out->others += other;
        if (!other && !replaced(l, i) && kept < PB_CHANGE_MOST) {
            kept++;
            continue;
        }
        pb_json_free(l->v[i]);
        l->v[i] = NULL;
    }
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
    const pb_json *v = NULL;
    int point = h->n_points++;
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
    if (!out->revisions) PB_FAIL(PB_E_OOM, "%s: no memory for its revisions", path);
    for (int i = 0; i < l.n; i++)
        if (l.v[i]) PB_TRY(add_point(out, path, l.v[i]));
    for (int i = 0; i < out->n; i++) PB_TRY(find_changes(&out->series[i]));
done:
    free(text);
    free_lines(&l);
    if (status != PB_OK) pb_history_free(out);
    return status;
}

void pb_history_free(pb_history *h) {
    free(h->revisions);
    free(h->series);
    *h = (pb_history){.n = 0};
}

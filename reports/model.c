/* From records to what the report compares: means and spreads per row, ratios to the baseline, who
 * leads in what. Only runs that are ok are averaged. Test: tests/test_reports.c. */
#include "reports/model.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static double number_at(const pb_json *o, const char *key) {
    const pb_json *v = pb_json_get(o, key);
    double parsed;
    if (cJSON_IsNumber(v)) return v->valuedouble;
    return cJSON_IsString(v) && pb_parse_f64(v->valuestring, &parsed) ? parsed : NAN;
}

#define MOST_RUNS 256 /* of a row that are described */

/* Of the metric, or of what it has more than another of the same run, over the finished runs. */
static pb_mean mean_of(const pb_row *row, const char *tag, const char *less) {
    double x[MOST_RUNS];
    int n = 0;
    for (int i = 0; i < row->n_runs && n < MOST_RUNS; i++) {
        double value = pb_record_value(row->runs[i], tag);
        if (less) value -= pb_record_value(row->runs[i], less);
        if (row->runs[i]->status == PB_RUN_OK && isfinite(value)) x[n++] = value;
    }
    return pb_mean_of(x, n, PB_STAT_LEVEL);
}

/* How often a run went through the training examples. */
static double epochs_of(const pb_record *r) {
    const pb_sample *s = pb_record_find_sample(r, "step/examples");
    double there = number_at(pb_json_get(r->dataset, "splits"), "train"), seen = 0;
    if (!s || !s->values || !(there > 0)) return NAN;
    for (int64_t i = 0; i < s->n; i++) seen += s->values[i];
    return seen / there;
}

static void fill_row(rp_row *r, const pb_row *row) {
    struct {
        const char *tag;
        pb_stat *to;
    } stats[] = {{"quality/test/accuracy", &r->accuracy},
                 {"quality/test/nll", &r->nll},
                 {"time/step/median", &r->step},
                 {"time/forward/median", &r->forward},
                 {"time/backward/median", &r->backward},
                 {"time/optimizer/median", &r->optimizer},
                 {"time/train/examples_per_s", &r->examples},
                 {"time/train/tokens_per_s", &r->tokens},
                 {"time/train/total", &r->total},
                 {"memory/peak/total", &r->peak},
                 {"memory/rss/peak", &r->rss},
                 {"size/adapter_file", &r->file}};
    for (size_t i = 0; i < sizeof stats / sizeof stats[0]; i++)
        *stats[i].to = pb_row_stat(row, stats[i].tag);
    const pb_record *example = pb_row_example(row);
    r->row = row;
    r->trainable = number_at(example->model, "params_trainable");
    r->params = number_at(example->model, "params_total");
    r->head = pb_is_head_only(row->method);
    r->gap = mean_of(row, "quality/test/nll", "quality/train/nll");
    r->upturn = mean_of(row, "curve/valid/upturn", NULL);
    r->epochs = epochs_of(example);
}

static int find_baseline(const rp_chapter *m, const char *wanted) {
    if (!wanted) return PB_BASELINE_AUTO;
    for (int i = 0; i < m->n_rows; i++)
        if (strcmp(m->rows[i].row->label, wanted) == 0) return i;
    for (int i = 0; i < m->n_rows; i++)
        if (strcmp(m->rows[i].row->method, wanted) == 0 && m->rows[i].row->n_ok) return i;
    return -1;
}

/* The row with the highest (sign 1) or lowest (-1) mean of the stat at `offset`. Head only always
 * costs least, so it competes in quality alone; what was hardly trained competes in cost alone. */
static int leader(const rp_chapter *m, size_t offset, int sign, bool quality) {
    int best = -1;
    double value = 0;
    for (int i = 0; i < m->n_rows; i++) {
        const pb_stat *s = (const pb_stat *)(const void *)((const char *)&m->rows[i] + offset);
        if ((quality ? !pb_is_trained(m->rows[i].row) : m->rows[i].head) || !s->n) continue;
        if (best >= 0 && !(sign * s->mean > sign * value)) continue;
        best = i;
        value = s->mean;
    }
    return best;
}

static void read_data(rp_chapter *m, const pb_json *data) {
    static const char *const splits[] = {"train", "valid", "test"};
    double share = number_at(data, "majority"), classes = number_at(data, "classes");
    const pb_json *task = pb_json_get(data, "task");
    if (share > 0 && share <= 1) m->majority = share;
    if (classes > 0 && classes < 1e6) m->classes = (int)classes;
    if (cJSON_IsString(task)) m->tokens = strcmp(task->valuestring, "classify") != 0;
    m->cut = m->examples = 0;
    for (int i = 0; i < 3; i++) {
        double cut = number_at(pb_json_get(data, "truncated"), splits[i]),
               all = number_at(pb_json_get(data, "splits"), splits[i]);
        if (!(cut >= 0 && cut <= all)) continue;
        m->cut += cut;
        m->examples += all;
    }
}

rp_view rp_view_of(const rp_chapter *m) {
    return (rp_view){
        .c = &m->comparison, .colours = m->colours, .waivers = m->waivers, .tokens = m->tokens};
}

static void ends(double out[2], pb_interval i) {
    out[0] = i.low;
    out[1] = i.high;
}

/* The figures' bars and probabilities. */
static pb_status mark_rows(rp_chapter *m) {
    m->marks = calloc((size_t)m->n_rows + 1, sizeof *m->marks);
    if (!m->marks) return PB_ERROR(PB_E_OOM, "no memory for the marks of %d rows", m->n_rows);
    for (int i = 0; i < m->n_rows; i++) {
        pb_row_marks *k = &m->marks[m->rows[i].row - m->c->rows];
        ends(k->accuracy, pb_estimate_of(&m->comparison, PB_ACCURACY, i)->interval);
        ends(k->step, pb_estimate_of(&m->comparison, PB_STEP, i)->interval);
        ends(k->memory, pb_estimate_of(&m->comparison, PB_MEMORY, i)->interval);
        ends(k->gap, m->rows[i].gap.interval);
        ends(k->upturn, m->rows[i].upturn.interval);
        k->front_step = m->comparison.front[0][i];
        k->front_memory = m->comparison.front[1][i];
        k->front_class = m->comparison.front_class[i];
        k->untrained = !pb_is_trained(m->rows[i].row);
    }
    return PB_OK;
}

static pb_status compare_rows(rp_chapter *m) {
    m->entries = calloc((size_t)m->n_rows + 1, sizeof *m->entries);
    m->colours = calloc((size_t)m->n_rows + 1, sizeof *m->colours);
    if (!m->entries || !m->colours)
        return PB_ERROR(PB_E_OOM, "no memory to compare %d rows", m->n_rows);
    for (int i = 0; i < m->n_rows; i++) {
        m->entries[i].row = m->rows[i].row;
        m->colours[i] = m->rows[i].colour;
        pb_copy(m->entries[i].name, sizeof m->entries[i].name, m->rows[i].row->label);
    }
    PB_RETURN(pb_comparison_make(m->entries, m->n_rows, m->baseline, m->waivers, &m->comparison));
    m->baseline = m->comparison.baseline;
    return mark_rows(m);
}

static pb_status make(const pb_chapter *c, const char *wanted, const pb_waivers *waivers,
                      rp_chapter *m) {
    m->c = c;
    m->waivers = waivers;
    m->majority = NAN;
    m->rows = calloc((size_t)c->n_rows + 1, sizeof *m->rows);
    if (!m->rows) return PB_ERROR(PB_E_OOM, "no memory for %d rows", c->n_rows);
    m->n_rows = c->n_rows;
    for (int k = 0, next = 0; k < 2 * c->n_rows; k++) { /* rows with results first */
        int i = k % c->n_rows;
        if ((c->rows[i].n_ok > 0) != (k < c->n_rows)) continue;
        read_data(m, pb_row_example(&c->rows[i])->dataset);
        fill_row(&m->rows[next], &c->rows[i]);
        m->rows[next++].colour = pb_row_colour(c, i);
    }
    m->baseline = find_baseline(m, wanted);
    m->best = leader(m, offsetof(rp_row, nll), -1, true);
    if (m->best < 0) m->best = leader(m, offsetof(rp_row, accuracy), 1, true);
    m->fastest = leader(m, offsetof(rp_row, step), -1, false);
    m->least = leader(m, offsetof(rp_row, peak), -1, false);
    return compare_rows(m);
}

pb_status rp_models_make(const pb_chapter *chapters, int n, const char *baseline,
                         const pb_waivers *waivers, rp_chapter **out) {
    pb_status status = PB_OK;
    bool found = false;
    *out = NULL;
    rp_chapter *models = calloc((size_t)n + 1, sizeof *models);
    if (!models) PB_FAIL(PB_E_OOM, "no memory for %d chapters", n);
    for (int i = 0; i < n; i++) {
        PB_TRY(make(&chapters[i], baseline, waivers, &models[i]));
        found = found || models[i].baseline >= 0;
    }
    if (baseline && !found)
        PB_FAIL(PB_E_INPUT,
                "baseline \"%s\": no row has this label, and no finished row this method",
                baseline);
    *out = models;
    models = NULL;
done:
    rp_models_free(models, n);
    return status;
}

void rp_models_free(rp_chapter *models, int n) {
    for (int i = 0; models && i < n; i++) {
        free(models[i].rows);
        free(models[i].entries);
        free(models[i].colours);
        free(models[i].marks);
        pb_comparison_free(&models[i].comparison);
        free(models[i].figures);
    }
    free(models);
}

/* ---- flat JSON ---- */

typedef struct flat_list {
    rp_flat *items;
    int n, cap;
} flat_list;

static pb_status add_flat(flat_list *list, const char *path, char *value) {
    if (list->n == list->cap) {
        int cap = list->cap ? list->cap * 2 : 32;
        rp_flat *bigger = realloc(list->items, (size_t)cap * sizeof *bigger);
        if (bigger) {
            list->items = bigger;
            list->cap = cap;
        }
    }
    char *copy = list->n < list->cap && value ? strdup(path) : NULL;
    if (!copy) {
        free(value);
        return PB_ERROR(PB_E_OOM, "no memory for a list of settings");
    }
    list->items[list->n++] = (rp_flat){copy, value};
    return PB_OK;
}

/* Arrays count as one value. */
static pb_status flatten(const pb_json *json, const char *path, flat_list *list) {
    pb_status status = PB_OK;
    pb_text deeper = {0};
    if (!cJSON_IsObject(json)) {
        char *value = cJSON_IsString(json) ? strdup(json->valuestring) : pb_json_print(json, false);
        PB_TRY(add_flat(list, path, value));
        goto done;
    }
    for (const pb_json *c = json->child; c; c = c->next) {
        pb_text_free(&deeper);
        pb_text_add(&deeper, "%s%s%s", path, *path ? "." : "", c->string);
        PB_TRY(pb_text_status(&deeper));
        PB_TRY(flatten(c, deeper.data, list));
    }
done:
    pb_text_free(&deeper);
    return status;
}

pb_status rp_flatten(const pb_json *json, rp_flat **out, int *n) {
    flat_list list = {0};
    pb_status status = json ? flatten(json, "", &list) : PB_OK;
    if (status != PB_OK) {
        rp_flat_free(list.items, list.n);
        list = (flat_list){0};
    }
    *out = list.items;
    *n = list.n;
    return status;
}

void rp_flat_free(rp_flat *flat, int n) {
    for (int i = 0; flat && i < n; i++) {
        free(flat[i].path);
        free(flat[i].value);
    }
    free(flat);
}

const char *rp_flat_find(const rp_flat *flat, int n, const char *path) {
    for (int i = 0; i < n; i++)
        if (strcmp(flat[i].path, path) == 0) return flat[i].value;
    return NULL;
}

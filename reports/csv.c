/* summary.csv: one line per run with every metric, for other programs. RFC 4180: CRLF, quotes
 * doubled. */
#include <stdlib.h>
#include <string.h>

#include "reports/model.h"

static void add_field(pb_text *t, const char *s) {
    bool quote = strpbrk(s, ",\"\r\n") || *s == ' ' || (*s && s[strlen(s) - 1] == ' ');
    if (!quote) {
        pb_text_add(t, "%s", s);
        return;
    }
    pb_text_add(t, "\"");
    for (; *s; s++) {
        if (*s == '"') pb_text_add(t, "\"");
        pb_text_add_bytes(t, s, 1);
    }
    pb_text_add(t, "\"");
}

static void next_field(pb_text *t, const char *s) {
    pb_text_add(t, ",");
    add_field(t, s);
}

static void next_number(pb_text *t, double v) {
    char buf[PB_F64_CHARS];
    pb_format_f64(buf, v);
    pb_text_add(t, ",%s", buf);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Distinct strings, sorted. */
static int unique(const char **list, int n) {
    int kept = 0;
    qsort(list, (size_t)n, sizeof *list, by_text);
    for (int i = 0; i < n; i++)
        if (i == 0 || strcmp(list[i], list[kept - 1]) != 0) list[kept++] = list[i];
    return kept;
}

static pb_status collect(const pb_record *records, int n, const char ***metrics, int *n_metrics,
                         const char ***memory, int *n_memory) {
    size_t m = 1, k = 1;
    for (int i = 0; i < n; i++) {
        m += (size_t)records[i].n_metrics;
        k += (size_t)records[i].n_memory;
    }
    *metrics = calloc(m, sizeof **metrics);
    *memory = calloc(k, sizeof **memory);
    if (!*metrics || !*memory)
        return PB_ERROR(PB_E_OOM, "no memory for the columns of summary.csv");
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < records[i].n_metrics; j++)
            (*metrics)[(*n_metrics)++] = records[i].metrics[j].tag;
        for (int j = 0; j < records[i].n_memory; j++)
            (*memory)[(*n_memory)++] = records[i].memory[j].tag;
    }
    *n_metrics = unique(*metrics, *n_metrics);
    *n_memory = unique(*memory, *n_memory);
    return PB_OK;
}

/* "tag [unit]", the unit of the first record that has it. */
static void metric_heading(pb_text *t, const pb_record *records, int n, const char *tag) {
    pb_text name = {0};
    const pb_metric *m = NULL;
    for (int i = 0; i < n && !m; i++) m = pb_record_find(&records[i], tag);
    pb_text_add(&name, "%s [%s]", tag, m ? m->unit : "");
    next_field(t, name.data ? name.data : tag);
    pb_text_free(&name);
}

static void count_at(pb_text *t, const pb_json *o, const char *key) {
    const pb_json *v = pb_json_get(o, key);
    if (cJSON_IsNumber(v))
        next_number(t, v->valuedouble);
    else
        next_field(t, pb_json_text(o, key));
}

static void add_run(pb_text *t, const pb_record *r, const char **metrics, int n_metrics,
                    const char **memory, int n_memory) {
    add_field(t, r->suite);
    next_field(t, r->run_id);
    next_field(t, r->label);
    next_field(t, r->method);
    pb_text_add(t, ",%llu", (unsigned long long)r->seed);
    next_field(t, pb_run_status_name(r->status));
    next_field(t, r->reason);
    next_field(t, r->verified);
    next_field(t, pb_json_text(r->model, "name"));
    next_field(t, pb_json_text(r->dataset, "name"));
    count_at(t, r->model, "params_total");
    count_at(t, r->model, "params_trainable");
    next_field(t, r->started);
    next_field(t, r->ended);
    for (int i = 0; i < n_metrics; i++) {
        const pb_metric *m = pb_record_find(r, metrics[i]);
        if (m)
            next_number(t, m->value);
        else
            pb_text_add(t, ",");
    }
    for (int i = 0; i < n_memory; i++) {
        const pb_mem_row *row = NULL;
        for (int k = 0; k < r->n_memory; k++)
            if (strcmp(r->memory[k].tag, memory[i]) == 0) row = &r->memory[k];
        if (row)
            pb_text_add(t, ",%llu,%llu", (unsigned long long)row->predicted,
                        (unsigned long long)row->peak);
        else
            pb_text_add(t, ",,");
    }
    pb_text_add(t, "\r\n");
}

pb_status rp_render_csv(const pb_record *records, int n, pb_text *t) {
    pb_status status = PB_OK;
    const char **metrics = NULL, **memory = NULL;
    int n_metrics = 0, n_memory = 0;
    PB_TRY(collect(records, n, &metrics, &n_metrics, &memory, &n_memory));
    pb_text_add(t, "suite,run_id,label,method,seed,status,reason,verified,model,dataset,params_"
                   "total,params_trainable,"
                   "started,ended");
    for (int i = 0; i < n_metrics; i++) metric_heading(t, records, n, metrics[i]);
    for (int i = 0; i < n_memory; i++)
        pb_text_add(t, ",memory/predicted/%s [bytes],memory/measured/%s [bytes]", memory[i],
                    memory[i]);
    pb_text_add(t, "\r\n");
    for (int i = 0; i < n; i++) add_run(t, &records[i], metrics, n_metrics, memory, n_memory);
    PB_TRY(pb_text_status(t));
done:
    free(metrics);
    free(memory);
    return status;
}

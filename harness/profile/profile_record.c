/* From a profile to the record: results/SCHEMA.md, Profile. */
#include <stdlib.h>
#include <string.h>

#include "harness/profile/profile.h"
#include "harness/trainer_impl.h"

static bool is_product(const char *op) {
    for (int i = 0; i < PB_OP_COUNT; i++) {
        if (strcmp(pb_op_name((pb_op)i), op) == 0) return pb_op_is_product((pb_op)i);
    }
    return false;
}

static const char *name_of(const pb_profile *p, const int *name, pb_by by) {
    return p->names[by].name[name[by]];
}

static bool in_step(const pb_profile *p, const pb_profile_row *row) {
    return strcmp(name_of(p, row->name, PB_BY_PHASE), "load") != 0;
}

/* profile/op/linear: seconds a step. */
static pb_status record_by(const pb_profile *p, const pb_profile_row *rows, int64_t n, pb_by by,
                           pb_record *r) {
    for (int k = 0; k < p->names[by].n; k++) {
        double seconds = 0.0;
        bool any = false;
        char tag[96];
        for (int64_t i = 0; i < n; i++) {
            if (rows[i].name[by] != k || !in_step(p, &rows[i])) continue;
            seconds += rows[i].seconds;
            any = true;
        }
        const char *name = p->names[by].name[k];
        if (!any) continue;
        snprintf(tag, sizeof tag, "profile/%s/%.60s", pb_by_name(by), *name ? name : "other");
        PB_RETURN(pb_record_known(r, tag, seconds / p->steps, p->steps));
    }
    return PB_OK;
}

/* The time that shares are of. CUPTI's times are the kernels' own, but its steps are handed over op by op: those that count are
 * the same ones without it. */
static pb_status steps_total(const pb_profile *p, pb_record *r, double *total) {
    *total = 0.0;
    for (int i = 0; i < p->steps; i++) *total += p->step_s[i];
    if (p->untraced == 0 || strcmp(p->tracer, pb_tracer_cupti.name) != 0) return PB_OK;
    PB_RETURN(pb_record_sample(r, "profile/untraced", p->untraced_s, p->untraced));
    PB_RETURN(pb_record_derived(r, "profile/untraced", "median", "profile/untraced"));
    *total = pb_record_value(r, "profile/untraced") * p->steps;
    return PB_OK;
}

static pb_status record_shares(const pb_profile *p, const pb_profile_row *rows, int64_t n,
                               pb_record *r) {
    double products = 0.0, busy = 0.0, total = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (is_product(name_of(p, rows[i].name, PB_BY_OP))) products += rows[i].seconds;
    }
    PB_RETURN(steps_total(p, r, &total));
    PB_RETURN(pb_profile_busy(p, &busy));
    if (!(total > 0.0)) return PB_OK;
    PB_RETURN(pb_record_known(r, "profile/busy", busy / p->steps, p->steps));
    PB_RETURN(pb_record_known(r, "profile/products_share", products / total, p->steps));
    /* Kernels may run into the event that ends the step. */
    double idle = busy < total ? 1.0 - busy / total : 0.0;
    return pb_record_known(r, "profile/idle_share", idle, p->steps);
}

/* --- the table --- */

static pb_status record_columns(const pb_profile_row *rows, int64_t n, bool counted, pb_record *r) {
    static const char *const numbers[] = {"calls", "seconds", "flops", "flops_else", "bytes"};
    pb_status status = PB_OK;
    double *column = calloc((size_t)n + 1, sizeof *column);
    char tag[96];
    if (column == NULL) PB_FAIL(PB_E_OOM, "no host memory for %lld rows", (long long)n);
    for (int by = 0; by < PB_BY_COUNT; by++) {
        for (int64_t i = 0; i < n; i++) column[i] = (double)rows[i].name[by];
        snprintf(tag, sizeof tag, "profile/table/%s", pb_by_name((pb_by)by));
        PB_TRY(pb_record_sample(r, tag, column, n));
    }
    for (int c = 0; c < 5; c++) {
        for (int64_t i = 0; i < n; i++) {
            const pb_profile_row *row = &rows[i];
            const double values[] = {(double)row->calls, row->seconds, row->work.flops,
                                     row->work.flops_else, row->work.bytes};
            column[i] = values[c];
        }
        snprintf(tag, sizeof tag, "profile/table/%s", numbers[c]);
        PB_TRY(pb_record_sample(r, tag, column, n));
    }
    for (int c = 0; counted && c < PB_COUNT_COUNT; c++) {
        for (int64_t i = 0; i < n; i++) column[i] = rows[i].counted[c];
        snprintf(tag, sizeof tag, "profile/table/counted_%s", pb_count_name((pb_count)c));
        PB_TRY(pb_record_sample(r, tag, column, n));
    }
done:
    free(column);
    return status;
}

static bool add_names(const pb_profile *p, pb_json *o) {
    pb_json *names = pb_json_add_object(o, "names");
    bool ok = names != NULL;
    for (int by = 0; ok && by < PB_BY_COUNT; by++) {
        pb_json *list = pb_json_add_array(names, pb_by_name((pb_by)by));
        ok = list != NULL;
        for (int i = 0; ok && i < p->names[by].n; i++)
            ok = pb_json_add_str(list, NULL, p->names[by].name[i]);
    }
    return ok;
}

static bool add_counters(const pb_counters *c, pb_json *o) {
    pb_json *e = pb_json_add_object(o, "counters");
    if (!pb_json_add_bool(e, "available", c->available)) return false;
    if (!c->available) return pb_json_add_str(e, "reason", c->reason);
    return pb_json_add_i64(e, "ranges", c->ranges) && pb_json_add_i64(e, "passes", c->passes);
}

static bool add_memory(const pb_device_memory *m, pb_json *o) {
    if (!m->known) return true;
    pb_json *e = pb_json_add_object(o, "device_memory");
    return pb_json_add_i64(e, "traced_peak", (int64_t)m->peak) &&
           pb_json_add_i64(e, "arenas", (int64_t)m->arenas) &&
           pb_json_add_i64(e, "device_used", (int64_t)m->used) &&
           pb_json_add_i64(e, "device_capacity", (int64_t)m->capacity);
}

static bool add_memory_seen(const pb_memory_seen *m, pb_json *o) {
    if (!m->known && m->reason[0] == 0) return true; /* no pass */
    pb_json *e = pb_json_add_object(o, "memory_pass"), *by = NULL;
    bool ok = e != NULL && pb_json_add_bool(e, "available", m->known);
    if (ok && !m->known) return pb_json_add_str(e, "reason", m->reason);
    ok = ok && pb_json_add_i64(e, "records", (int64_t)m->records) && pb_json_add_i64(e, "dropped", (int64_t)m->dropped) &&
         pb_json_add_i64(e, "peak", (int64_t)m->peak) && pb_json_add_i64(e, "other", (int64_t)m->other) &&
         pb_json_add_i64(e, "device_used", (int64_t)m->used) && pb_json_add_i64(e, "device_capacity", (int64_t)m->capacity);
    if (ok) ok = (by = pb_json_add_object(e, "by_purpose")) != NULL;
    for (int k = 0; ok && k < PB_MEM_COUNT; k++) {
        if (m->seen[k] == 0 && m->blocks[k] == 0) continue;
        pb_json *row = pb_json_add_object(by, pb_mem_name((pb_mem)k));
        ok = row != NULL && pb_json_add_i64(row, "recorded", (int64_t)m->seen[k]) &&
             pb_json_add_i64(row, "blocks", (int64_t)m->blocks[k]) && pb_json_add_i64(row, "arena", (int64_t)m->taken[k]);
    }
    return ok;
}

static pb_status record_object(const pb_profile *p, pb_record *r) {
    r->profile = cJSON_CreateObject();
    bool ok = r->profile != NULL && pb_json_add_str(r->profile, "tracer", p->tracer) &&
              pb_json_add_i64(r->profile, "steps", p->steps) && add_names(p, r->profile);
    pb_json *trace = ok ? pb_json_add_object(r->profile, "trace") : NULL;
    ok = ok && pb_json_add_i64(trace, "records", (int64_t)p->records) &&
         pb_json_add_i64(trace, "dropped", (int64_t)p->dropped) &&
         pb_json_add_i64(trace, "no_time", (int64_t)p->no_time) &&
         pb_json_add_f64(trace, "overhead_s", p->overhead_s) &&
         pb_json_add_bool(trace, "complete", p->dropped == 0) &&
         add_counters(&p->counters, r->profile) && add_memory(&p->memory, r->profile) &&
         add_memory_seen(&p->memory_seen, r->profile);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no host memory for the record's profile");
}

pb_status pb_profile_record(const pb_profile *p, bool table, pb_record *r) {
    pb_status status = PB_OK;
    pb_profile_row *rows = NULL;
    int64_t n = 0;
    if (p->steps == 0) return PB_OK;
    PB_TRY(pb_profile_rows(p, &rows, &n));
    PB_TRY(pb_record_sample(r, "profile/step", p->step_s, p->steps));
    PB_TRY(pb_record_derived(r, "profile/step", "mean", "profile/step"));
    PB_TRY(record_by(p, rows, n, PB_BY_OP, r));
    PB_TRY(record_shares(p, rows, n, r));
    if (!table) goto done;
    PB_TRY(record_by(p, rows, n, PB_BY_PART, r));
    PB_TRY(record_by(p, rows, n, PB_BY_PHASE, r));
    PB_TRY(record_columns(rows, n, p->counters.available, r));
    PB_TRY(record_object(p, r));
    if (p->dropped > 0)
        PB_TRY(pb_record_warn(r, "the trace is incomplete: %llu records were dropped",
                              (unsigned long long)p->dropped));
done:
    free(rows);
    return status;
}

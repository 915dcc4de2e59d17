/* What the report says of a traced pass: the parts of a step for every row, its operations against the machine's roofs, its
 * layers. From the records' profiles alone; rows without one do not appear. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/model.h"
#include "results/profile_table.h"

enum { MAX_LINES = 24 };

typedef struct rp_profiles {
    const rp_chapter *m;
    pb_profile_mean *mean; /* per row of the chapter, by one key */
} rp_profiles;

static void free_profiles(rp_profiles *p) {
    for (int i = 0; p->mean && i < p->m->n_rows; i++) pb_profile_mean_free(&p->mean[i]);
    free(p->mean);
    p->mean = NULL;
}

static pb_status load(const rp_chapter *m, pb_profile_group by, rp_profiles *p) {
    *p = (rp_profiles){.m = m, .mean = calloc((size_t)m->n_rows + 1, sizeof *p->mean)};
    if (!p->mean) return PB_ERROR(PB_E_OOM, "no memory for profiles");
    for (int i = 0; i < m->n_rows; i++)
        PB_RETURN(pb_profile_row_sums(m->rows[i].row, by, &p->mean[i]));
    return PB_OK;
}

static bool any_profile(const rp_chapter *m) {
    for (int i = 0; i < m->n_rows; i++)
        for (int k = 0; k < m->rows[i].row->n_runs; k++) {
            const pb_record *r = m->rows[i].row->runs[k];
            if (r->status == PB_RUN_OK && r->profile) return true;
        }
    return false;
}

/* ---- one line per row ---- */

static double number_of(const pb_json *o, const char *key) {
    const pb_json *e = pb_json_get(o, key);
    return cJSON_IsNumber(e) ? e->valuedouble : 0;
}

static void overview(const rp_chapter *m, const rp_profiles *parts, rp_doc *doc) {
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    rp_column_add(doc, "Traced step (ms)", true, "A few steps after the timed ones; tracing costs time");
    rp_column_add(doc, "Timed step (ms)", true, NULL);
    rp_column_add(doc, "In products (%)", true, "Inside matrix products; of the step that the idle share is of");
    rp_column_add(doc, "Idle (%)", true, "Of the same step without the tracer, with CUPTI; else of the traced one. The device ran nothing; on a CPU: between operations");
    rp_column_add(doc, "MFU (%)", true, "Model FLOP utilisation; needs a device with a known peak");
    for (int i = 0; i < m->n_rows; i++) {
        const rp_row *r = &m->rows[i];
        if (!parts->mean[i].n) continue;
        const char *const tags[] = {"profile/products_share", "profile/idle_share", "work/mfu"};
        rp_word w;
        rp_row_add(doc, r->colour);
        rp_cell_add(doc, i, "%s", r->row->label);
        rp_cell_add(doc, parts->mean[i].step_s, "%s", rp_number(w, parts->mean[i].step_s * 1e3));
        rp_cell_add(doc, r->step.mean, "%s", rp_spread(w, r->step, 1e3));
        for (int k = 0; k < 3; k++) {
            pb_stat s = pb_row_stat(r->row, tags[k]);
            rp_cell_add(doc, s.mean, "%s", rp_percent(w, s));
        }
    }
}

/* Names over all rows, the most time in any of them first. */
static int collect(const rp_profiles *p, pb_profile_sum *names, int cap, bool by_layer) {
    int n = 0;
    for (int i = 0; i < p->m->n_rows; i++)
        for (int k = 0; k < p->mean[i].n; k++) {
            const pb_profile_sum *s = &p->mean[i].sums[k];
            int at = 0;
            while (at < n && strcmp(names[at].name, s->name) != 0) at++;
            if (at == cap) continue;
            if (at == n) names[n++] = *s;
            else names[at].seconds = fmax(names[at].seconds, s->seconds);
        }
    for (int i = 1; i < n; i++) /* insertion: layers by number, others by time */
        for (int k = i; k > 0; k--) {
            int a = 0, b = 0;
            bool la = sscanf(names[k - 1].name, "layers.%d", &a) == 1,
                 lb = sscanf(names[k].name, "layers.%d", &b) == 1;
            bool swap = by_layer ? (la && lb ? a > b : lb && !la)
                                 : names[k - 1].seconds < names[k].seconds;
            if (!swap) break;
            pb_profile_sum t = names[k];
            names[k] = names[k - 1];
            names[k - 1] = t;
        }
    return n;
}

/* One column per row of the chapter, milliseconds a step. */
static pb_status by_name(const rp_profiles *p, const char *title, bool by_layer, int most, rp_doc *doc) {
    const rp_chapter *m = p->m;
    int cap = 4096;
    pb_profile_sum *names = calloc((size_t)cap, sizeof *names);
    if (!names) return PB_ERROR(PB_E_OOM, "no memory for a table");
    int n = collect(p, names, cap, by_layer);
    rp_add_table(doc);
    rp_column_add(doc, title, false, NULL);
    for (int i = 0; i < m->n_rows; i++)
        if (p->mean[i].n) rp_column_add(doc, m->rows[i].row->label, true, NULL);
    for (int k = 0; k < n && k < most; k++) {
        rp_word w;
        char name[96];
        snprintf(name, sizeof name, "%s", names[k].name);
        for (char *c = name; *c; c++)
            if (*c == '_') *c = ' ';
        rp_row_add(doc, 0);
        rp_cell_add(doc, k, "%s", name);
        for (int i = 0; i < m->n_rows; i++) {
            if (!p->mean[i].n) continue;
            double ms = pb_profile_mean_of(&p->mean[i], names[k].name) * 1e3;
            if (ms > 0) rp_cell_add(doc, ms, "%s", rp_number(w, ms));
            else rp_cell_add(doc, 0, "–");
        }
    }
    free(names);
    return PB_OK;
}

/* ---- operations or kernels of one row ---- */

static void kernels(const rp_row *r, const pb_profile_mean *mean, rp_doc *doc) {
    double bytes = pb_row_stat(r->row, "roof/bytes_per_s").mean,
           flops = pb_row_stat(r->row, "roof/flops_per_s").mean;
    rp_add_table(doc);
    rp_column_add(doc, "Kernel", false, NULL);
    rp_column_add(doc, "Calls", true, "Per step");
    rp_column_add(doc, "ms", true, "Per step");
    rp_column_add(doc, "Share (%)", true, "Of the traced step");
    rp_column_add(doc, "GFLOP/s", true, NULL);
    rp_column_add(doc, "GB/s", true,
                  mean->counted ? "From and to the GPU's memory, by its counters"
                                : "Least traffic: every operand once; what a cache holds may pass the roof");
    rp_column_add(doc, "Of roof (%)", true, "Of what the measured roofs allow at its work per byte");
    for (int i = 0; i < mean->n && i < MAX_LINES; i++) {
        const pb_profile_sum *s = &mean->sums[i];
        double work = s->flops + s->flops_else;
        double traffic = pb_profile_traffic(s, mean->counted);
        double limit = traffic > 0 ? fmin(flops, bytes * work / traffic) : flops;
        double part = work > 0 ? work / s->seconds / limit : traffic / s->seconds / bytes;
        rp_word w;
        rp_row_add(doc, 0);
        rp_cell_add(doc, i, "%s", s->name);
        rp_cell_add(doc, s->calls, "%s", rp_number(w, s->calls));
        rp_cell_add(doc, s->seconds, "%s", rp_number(w, s->seconds * 1e3));
        rp_cell_add(doc, s->seconds, "%s", rp_number(w, 100 * s->seconds / mean->step_s));
        rp_cell_add(doc, work / s->seconds, "%s", rp_number(w, work / s->seconds / 1e9));
        rp_cell_add(doc, traffic / s->seconds, "%s", rp_number(w, traffic / s->seconds / 1e9));
        rp_cell_add(doc, part, "%s", rp_number(w, 100 * part));
    }
}

static void say_how(const rp_chapter *m, rp_doc *doc) {
    double dropped = 0, used = 0, arenas = 0, traced = 0; /* memory: of the run that used most */
    rp_word a, b, c;
    const char *tracer = "", *reason = "";
    int counted = 0, profiles = 0;
    for (int i = 0; i < m->n_rows; i++)
        for (int k = 0; k < m->rows[i].row->n_runs; k++) {
            const pb_json *p = m->rows[i].row->runs[k]->profile;
            const pb_json *lost = pb_json_get(pb_json_get(p, "trace"), "dropped");
            if (!p) continue;
            tracer = pb_json_text(p, "tracer");
            if (*pb_json_text(pb_json_get(p, "counters"), "reason"))
                reason = pb_json_text(pb_json_get(p, "counters"), "reason");
            counted += cJSON_IsTrue(pb_json_get(pb_json_get(p, "counters"), "available"));
            profiles++;
            if (cJSON_IsNumber(lost)) dropped += lost->valuedouble;
            const pb_json *memory = pb_json_get(p, "device_memory");
            if (!memory || !(number_of(memory, "device_used") > used)) continue;
            used = number_of(memory, "device_used");
            arenas = number_of(memory, "arenas");
            traced = number_of(memory, "traced_peak");
        }
    rp_add(doc, RP_TEXT,
           "A few more steps after the timed ones, traced by \"%s\"; times are per step, mean over seeds. What loads a batch "
           "is left out.",
           tracer);
    if (counted > 0)
        rp_add(doc, RP_TEXT,
               "Hardware counters were read in %d of %d runs: where all runs of a row have them, bytes are what its GPU's memory "
               "moved. Work is always counted from shapes.",
               counted, profiles);
    if (*reason)
        rp_add(doc, RP_TEXT, "No hardware counters: %s. Rates are of the work counted from shapes%s.", reason,
               counted > 0 ? " there" : "");
    if (used > 0)
        rp_add(doc, RP_TEXT, "Device memory in use at the end of the trace: %s as the driver says, %s in the arenas; the rest is the driver's and the libraries' own. While tracing %s were allocated.",
               rp_bytes(a, used), rp_bytes(b, arenas), rp_bytes(c, traced));
    if (dropped > 0)
        rp_add(doc, RP_NOTE, "The traces are incomplete: %.0f records were dropped.", dropped);
}

/* CUPTI's records of allocations against the arenas and the driver, of the first run that has them. */
static void memory_pass(const rp_chapter *m, rp_doc *doc) {
    const pb_json *pass = NULL;
    rp_word w;
    for (int i = 0; i < m->n_rows && !pass; i++)
        for (int k = 0; k < m->rows[i].row->n_runs && !pass; k++)
            pass = pb_json_get(m->rows[i].row->runs[k]->profile, "memory_pass");
    if (!pass) return;
    if (!cJSON_IsTrue(pb_json_get(pass, "available"))) {
        rp_add(doc, RP_TEXT, "Device memory was not recorded: %s.", pb_json_text(pass, "reason"));
        return;
    }
    rp_add(doc, RP_SUBHEADING, "Device memory, as recorded");
    rp_add_table(doc);
    rp_column_add(doc, "Purpose", false, NULL);
    rp_column_add(doc, "Recorded", true, "CUPTI's records of allocations, in a process of its own");
    rp_column_add(doc, "Arena's blocks", true, "What the arena says of the same blocks");
    rp_column_add(doc, "Handed out", true, "The arena's peak inside its blocks");
    const pb_json *by = pb_json_get(pass, "by_purpose");
    for (const pb_json *e = by ? by->child : NULL; e; e = e->next) {
        static const char *const columns[] = {"recorded", "blocks", "arena"};
        rp_row_add(doc, 0);
        rp_cell_add(doc, 0, "%s", e->string);
        for (int c = 0; c < 3; c++)
            rp_cell_add(doc, number_of(e, columns[c]), "%s", rp_bytes(w, number_of(e, columns[c])));
    }
    rp_row_add(doc, 0);
    rp_cell_add(doc, 0, "libraries");
    rp_cell_add(doc, number_of(pass, "other"), "%s", rp_bytes(w, number_of(pass, "other")));
    rp_cell_add(doc, 0, "–");
    rp_cell_add(doc, 0, "–");
    rp_word a, b;
    rp_add(doc, RP_TEXT, "At most %s of device memory were allocated at once; the driver says %s in use, its own and other processes' included.",
           rp_bytes(a, number_of(pass, "peak")), rp_bytes(b, number_of(pass, "device_used")));
    if (number_of(pass, "dropped") > 0)
        rp_add(doc, RP_NOTE, "Incomplete: %.0f records were dropped.", number_of(pass, "dropped"));
}

pb_status rp_compose_profile(const rp_chapter *m, rp_doc *doc) {
    pb_status status = PB_OK;
    rp_profiles parts = {0}, layers = {0}, kernel = {0};
    int shown = m->baseline;
    if (!any_profile(m)) return PB_OK;
    PB_TRY(load(m, PB_GROUP_PART, &parts));
    PB_TRY(load(m, PB_GROUP_LAYER, &layers));
    PB_TRY(load(m, PB_GROUP_KERNEL, &kernel));
    rp_add(doc, RP_HEADING, "Where the time of a step goes");
    say_how(m, doc);
    overview(m, &parts, doc);
    rp_add(doc, RP_SUBHEADING, "By part of the method and the model (ms)");
    PB_TRY(by_name(&parts, "Part", false, MAX_LINES, doc));
    for (int i = 0; i < m->n_rows && (shown < 0 || !kernel.mean[shown].n); i++) shown = i;
    if (shown >= 0 && kernel.mean[shown].n) {
        rp_add(doc, RP_SUBHEADING, "By kernel: %s", m->rows[shown].row->label);
        kernels(&m->rows[shown], &kernel.mean[shown], doc);
    }
    rp_add(doc, RP_SUBHEADING, "By layer (ms)");
    PB_TRY(by_name(&layers, "Layer", true, 256, doc));
    memory_pass(m, doc);
done:
    free_profiles(&parts);
    free_profiles(&layers);
    free_profiles(&kernel);
    return status;
}

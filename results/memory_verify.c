/* Memory that was predicted before a run against what it took. Test: tests/test_records.c. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "results/record.h"

static double off_by(const pb_mem_row *m) {
    double off = fabs((double)m->predicted - (double)m->peak);
    if (off == 0) return 0;
    return m->peak == 0 ? INFINITY : 100 * off / (double)m->peak;
}

/* Runs that only time a model measure no memory; one that trained does. */
static bool has_memory(const pb_record *r) { return r->n_memory > 0 || pb_record_find_sample(r, "loss/train") != NULL; }

/* Lines of the record to `out`; the number of its figures that are out of bounds. */
static int check_run(const pb_record *r, double percent, FILE *out, pb_memory_check *c) {
    int bad = 0, total = 0;
    for (int i = 0; i < r->n_memory; i++) {
        const pb_mem_row *m = &r->memory[i];
        double off = off_by(m);
        total += strcmp(m->tag, "total") == 0;
        if (off > c->worst_percent || !c->worst[0]) {
            c->worst_percent = off;
            snprintf(c->worst, sizeof c->worst, "%s/%s, %s: predicted %" PRIu64 ", measured %" PRIu64 " bytes",
                     r->suite, r->run_id, m->tag, m->predicted, m->peak);
        }
        if (off <= percent) continue;
        bad++;
        if (out)
            fprintf(out, "%s: memory (%s): %" PRIu64 " bytes predicted, %" PRIu64 " measured, expected within %g %%\n",
                    r->dir, m->tag, m->predicted, m->peak, percent);
    }
    if (total) return bad;
    if (out) fprintf(out, "%s: memory: no total\n", r->dir);
    return bad + 1;
}

pb_status pb_records_check_memory(const char *dir, double percent, FILE *out, pb_memory_check *c) {
    pb_record *records = NULL;
    int n = 0;
    *c = (pb_memory_check){0};
    PB_RETURN(pb_records_load(dir, false, &records, &n));
    for (int i = 0; i < n; i++) {
        if (records[i].status != PB_RUN_OK || !has_memory(&records[i])) continue;
        c->runs++;
        c->bad += check_run(&records[i], percent, out, c) > 0;
    }
    pb_records_free(records, n);
    if (c->runs == 0) return PB_ERROR(PB_E_INPUT, "%s: holds no run that ended well and measured its memory", dir);
    if (c->bad == 0) return PB_OK;
    return PB_ERROR(PB_E_CHECK, "%s: the memory of %d of %d runs is not within %g %% of what was predicted; the worst: %s",
                    dir, c->bad, c->runs, percent, c->worst);
}

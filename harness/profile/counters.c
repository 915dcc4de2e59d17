/* Hardware counters of a step, op by op: the pass itself, and what each traced span gets of them. The reader is CUPTI's range
 * profiler on a GPU. Tests: tests/test_profile.c, tests/profile/test_counters.c. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness/profile/profile.h"

/* --- attribution --- */

static const char *name_of(const pb_profile *p, const pb_span *s, pb_by by) {
    return p->names[by].name[s->name[by]];
}

/* Is the span's op, by name and place, the one that was counted in its stead? */
static bool same_op(const pb_profile *p, const pb_span *s, const pb_counted *c) {
    return strcmp(name_of(p, s, PB_BY_OP), c->op) == 0 &&
           strcmp(name_of(p, s, PB_BY_SITE), c->scope[PB_SCOPE_SITE]) == 0 &&
           strcmp(name_of(p, s, PB_BY_PART), c->scope[PB_SCOPE_PART]) == 0 &&
           strcmp(name_of(p, s, PB_BY_PHASE), c->scope[PB_SCOPE_PHASE]) == 0;
}

static pb_status check_same(const pb_profile *p, const pb_counted *list, int64_t n) {
    if (n != p->ops_in_step)
        return PB_ERROR(PB_E_ENV, "the counted step had %lld operations, the traced ones %lld",
                        (long long)n, (long long)p->ops_in_step);
    for (int64_t i = 0; i < p->n_spans; i++) {
        const pb_span *s = &p->spans[i];
        if (s->op < 0 || s->op >= n || same_op(p, s, &list[s->op])) continue;
        return PB_ERROR(PB_E_ENV, "operation %lld of the counted step is %s at '%s', of a traced one %s at '%s'",
                        (long long)s->op, list[s->op].op, list[s->op].scope[PB_SCOPE_SITE],
                        name_of(p, s, PB_BY_OP), name_of(p, s, PB_BY_SITE));
    }
    return PB_OK;
}

/* Spans of one op in one step share its counts by time, or evenly when they took none. */
pb_status pb_profile_count(pb_profile *p, const pb_counted *list, int64_t n) {
    pb_status status = PB_OK;
    double *ns = NULL, *spans = NULL;
    PB_TRY(check_same(p, list, n));
    size_t cells = (size_t)(p->steps + 1) * (size_t)n + 1; /* ops behind the last step's end have a row too */
    ns = calloc(cells, sizeof *ns);
    spans = calloc(cells, sizeof *spans);
    if (ns == NULL || spans == NULL) PB_FAIL(PB_E_OOM, "no host memory to attribute counters");
    for (int64_t i = 0; i < p->n_spans; i++) {
        const pb_span *s = &p->spans[i];
        if (s->op < 0) continue;
        ns[s->step * n + s->op] += s->ns;
        spans[s->step * n + s->op] += 1.0;
    }
    for (int64_t i = 0; i < p->n_spans; i++) {
        pb_span *s = &p->spans[i];
        if (s->op < 0) continue;
        int64_t at = s->step * n + s->op;
        double share = ns[at] > 0.0 ? s->ns / ns[at] : 1.0 / spans[at];
        for (int c = 0; c < PB_COUNT_COUNT; c++) s->counted[c] = share * list[s->op].value[c];
    }
    p->counters.available = true;
    p->counters.ranges = n;
done:
    free(ns);
    free(spans);
    return status;
}

/* --- the pass --- */

enum { MAX_PASSES = 8 };

static pb_status one_pass(const pb_counter_reader *reader, void *r, pb_status (*step)(void *user),
                          void *user, pb_status *of_step, bool *again) {
    PB_RETURN(reader->pass_begin(r));
    *of_step = step(user);
    if (*of_step != PB_OK) return *of_step;
    return reader->pass_end(r, again);
}

static pb_status count(pb_profile *p, pb_device *dev, const pb_counter_reader *reader,
                       pb_status (*step)(void *user), void *user, pb_status *of_step) {
    pb_status status = PB_OK;
    void *r = NULL;
    const pb_counted *list = NULL;
    int64_t n = 0;
    bool again = true;
    PB_TRY(reader->open(dev, p->ops_in_step, &r));
    for (; again; p->counters.passes++) {
        if (p->counters.passes == MAX_PASSES)
            PB_FAIL(PB_E_ENV, "the counters need more than %d passes", MAX_PASSES);
        PB_TRY(one_pass(reader, r, step, user, of_step, &again));
    }
    PB_TRY(reader->read(r, &list, &n));
    PB_TRY(pb_profile_count(p, list, n));
done:
    reader->free(r);
    return status;
}

pb_status pb_profile_count_step(pb_profile *p, pb_device *dev, const pb_counter_reader *reader,
                                pb_status (*step)(void *user), void *user) {
    pb_status of_step = PB_OK;
    p->counters = (pb_counters){.available = false};
    if (count(p, dev, reader, step, user, &of_step) == PB_OK || of_step != PB_OK) return of_step;
    pb_copy(p->counters.reason, sizeof p->counters.reason, pb_error_message());
    pb_error_clear();
    return PB_OK;
}

/* From rows to one sentence: which method, and why. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/text.h"
#include "harness/advise.h"
#include "harness/cli.h"

#define GIB 1073741824.0
#define SAME_COST 0.05 /* above the least cost, and as good as it */

static bool in_question(const pb_advice *row) { return row->applies && row->fits && row->in_time != PB_TOO_SLOW; }

static bool is_cut(const pb_advice *row) { return row->use.length < row->asked.length; }

/* Shorter texts are another training: no row that needs them stands against one that does not. */
static bool candidate(const pb_advise *a, const pb_advice *row) {
    bool whole = false;
    for (int i = 0; i < a->n_rows; i++) whole |= in_question(&a->rows[i]) && !is_cut(&a->rows[i]);
    return in_question(row) && !(whole && is_cut(row));
}

/* Expected time, or work without a GPU's rates. */
static double cost_of(const pb_advice *row) {
    return row->mid_s > 0     ? row->mid_s
           : row->least_s > 0 ? row->least_s
                              : row->steps * row->use_p.step.flops;
}

static double mean_of(const pb_advise *a, int i) {
    return pb_evidence_mean(a->evidence, a->rows[i].quality.entry);
}

/* Do the records compare the row with the best expected one, and not find that better? */
static bool is_tied(const pb_advise *a, int i) {
    const pb_advise_quality *best = &a->rows[a->best].quality, *mine = &a->rows[i].quality;
    if (i == a->best) return true;
    return mine->known && pb_evidence_verdict(a->evidence, best->entry, mine->entry)->kind != PB_INCOMPARABLE &&
           !pb_evidence_beats(a->evidence, best->entry, mine->entry);
}

/* Of two rows whose costs are as good as equal: the one that does not page, larger micro-batches (larger products), then the
 * better mean, then less memory. */
static bool preferred(const pb_advise *a, int i, int k) {
    const pb_advice *x = &a->rows[i], *y = &a->rows[k];
    if (x->use.paged != y->use.paged) return y->use.paged;
    if (x->use.batch != y->use.batch) return x->use.batch > y->use.batch;
    if (x->quality.known && y->quality.known && mean_of(a, i) != mean_of(a, k))
        return mean_of(a, i) > mean_of(a, k);
    return x->use_p.total < y->use_p.total;
}

/* Numbers of rows that fit in the time: all; in the running with the best, found below it, not compared with
 * it, without any record; and those that only shorter texts would let fit. */
typedef struct counts {
    int fit, tied, beaten, apart, unknown, cut;
} counts;

/* In the running: tied with the best, or all where no record names one. */
static bool contender(const pb_advise *a, int i) {
    return candidate(a, &a->rows[i]) && (a->best < 0 || is_tied(a, i));
}

static counts choose(pb_advise *a) {
    counts n = {0};
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        n.cut += in_question(row) && !candidate(a, row);
        if (!candidate(a, row)) continue;
        n.fit++;
        n.unknown += !row->quality.known;
        if (row->quality.known && (a->best < 0 || mean_of(a, i) > mean_of(a, a->best))) a->best = i;
    }
    double least = INFINITY;
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advise_quality *q = &a->rows[i].quality;
        if (contender(a, i)) {
            n.tied++;
            least = fmin(least, cost_of(&a->rows[i]));
        } else if (candidate(a, &a->rows[i]) && q->known) {
            bool beaten = pb_evidence_beats(a->evidence, a->rows[a->best].quality.entry, q->entry);
            n.beaten += beaten;
            n.apart += !beaten;
        }
    }
    for (int i = 0; i < a->n_rows; i++) {
        if (!contender(a, i) || cost_of(&a->rows[i]) > (1 + SAME_COST) * least) continue;
        if (a->chosen < 0 || preferred(a, i, a->chosen)) a->chosen = i;
    }
    return n;
}

/* ---- in words ---- */

static void nothing_fits(pb_advise *a) {
    const pb_advice *least = NULL;
    bool late = false;
    for (int i = 0; i < a->n_rows; i++) {
        const pb_advice *row = &a->rows[i];
        late |= row->applies && row->fits;
        if (row->applies && (!least || row->least < least->least)) least = row;
    }
    if (late)
        snprintf(a->reason, sizeof a->reason,
                 "Nothing ends within the time: what fits takes longer even at the low end of its range; raise --time, or "
                 "lower --examples or --epochs.");
    else if (least)
        snprintf(a->reason, sizeof a->reason,
                 "Nothing fits: the least is %s, which needs %.1f GiB at batch 1 with every change "
                 "tried; %.1f GiB are usable.",
                 least->method->title, (double)least->least / GIB, (double)a->usable / GIB);
}

/* "test NLL -0.168 nats to LoRA"; "" for LoRA itself. */
static void say_lead(const pb_advise *a, const pb_advice *row, char out[96]) {
    const pb_measure *m = row->quality.lead ? pb_evidence_lead(a->evidence) : NULL;
    *out = 0;
    if (m) snprintf(out, 96, "%s %+.3g %s to LoRA", m->title, row->quality.lead->estimate * m->scale, m->unit);
}

static void explain_best(const pb_advise *a, counts n, char *at, size_t room) {
    char lead[96], best[64] = "have its mean as the best", apart[64] = "", unknown[64] = "";
    const pb_advice *row = &a->rows[a->chosen];
    say_lead(a, row, lead);
    if (n.beaten == n.fit - 1) snprintf(best, sizeof best, "show it above the others that fit");
    else if (n.beaten) snprintf(best, sizeof best, "show it above %d of the others that fit", n.beaten);
    if (n.apart) snprintf(apart, sizeof apart, "; they do not compare it with %d more", n.apart);
    if (n.unknown) snprintf(unknown, sizeof unknown, "; they say nothing of %d more", n.unknown);
    snprintf(at, room, ", and the records (%s) %s%s%s%s%s.", pb_evidence_where(a->evidence), best, *lead ? ": " : "",
             lead, apart, unknown);
}

static void explain_tied(const pb_advise *a, counts n, char *at, size_t room) {
    const pb_advice *row = &a->rows[a->chosen], *best = &a->rows[a->best];
    const char *what = row->least_s > 0 ? "time" : "work";
    if (row == best) {
        snprintf(at, room,
                 ": the best mean in the records (%s) and the least %s (within 5 %%) of the %d methods that fit and "
                 "that they cannot tell from it.",
                 pb_evidence_where(a->evidence), what, n.tied);
        return;
    }
    const pb_measure *m = pb_evidence_lead(a->evidence);
    double would = pb_evidence_verdict(a->evidence, best->quality.entry, row->quality.entry)->detectable;
    snprintf(at, room,
             " and takes the least %s (within 5 %%) of the %d methods that fit and that the records (%s) cannot tell "
             "from the best of them, %s (a difference of %.2g %s would have shown).",
             what, n.tied, pb_evidence_where(a->evidence), best->method->title, would * m->scale, m->unit);
}

/* ", perhaps ends within the 2 h 0 min given (40 min 0 s to 5 h 0 min)"; "" where it surely does. */
static void say_perhaps(const pb_advise *a, const pb_advice *row, char out[160]) {
    char given[32], low[32], high[32];
    *out = 0;
    if (row->in_time != PB_PERHAPS_IN_TIME) return;
    pb_format_seconds(given, a->request.time_s);
    pb_format_seconds(low, row->low_s > 0 ? row->low_s : row->least_s);
    pb_format_seconds(high, row->high_s);
    if (row->high_s > 0) snprintf(out, 160, ", perhaps ends within the %s given (%s to %s)", given, low, high);
    else snprintf(out, 160, ", perhaps ends within the %s given (at least %s)", given, low);
}

static void explain(pb_advise *a, counts n) {
    const pb_advice *row = &a->rows[a->chosen];
    char with[200] = "", perhaps[160];
    if (row->change[0]) snprintf(with, sizeof with, " with %s", row->change);
    say_perhaps(a, row, perhaps);
    int used = snprintf(a->reason, sizeof a->reason, "Run %s%s: it needs %.1f of %.1f GiB%s", row->method->title, with,
                        (double)row->use_p.total / GIB, (double)a->usable / GIB, perhaps);
    char *at = a->reason + used;
    size_t room = sizeof a->reason - (size_t)used;
    if (n.fit == 1)
        snprintf(at, room, ", and nothing else fits%s%s.", a->request.time_s > 0 ? " in the time" : "",
                 n.cut ? " without shorter texts" : "");
    else if (a->best < 0)
        snprintf(at, room,
                 " and takes the least %s of the %d methods that fit (within 5 %%); no record says "
                 "which of them is better.",
                 row->least_s > 0 ? "time" : "work", n.fit);
    else if (n.tied == 1) explain_best(a, n, at, room);
    else explain_tied(a, n, at, room);
}

void pb_advise_choose(pb_advise *a) {
    counts n = choose(a);
    if (a->chosen < 0) nothing_fits(a);
    else explain(a, n);
}

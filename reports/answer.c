/* The answer in plain sentences. Every word is bound to a verdict: "better" and "worse" to p <=
 * 0.05 after Holm, "cannot be told apart" to its absence, together with the difference that would
 * have shown; nothing is ever called equal. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "reports/verdicts.h"

#define PM " \xc2\xb1 "

const char *rp_amount(rp_word out, const pb_measure *m, double value) {
    double v = value * m->scale;
    if (m->ratio) return rp_ratio(out, value);
    int digits = m->scale > 1 ? (fabs(v) < 0.1 ? 2 : 1) : 3;
    return rp_word_set(out, "%.*f", digits, v);
}

static bool is_head(const rp_view *v, int i) {
    return pb_is_head_only(v->c->entries[i].row->method);
}

static const char *name(const rp_view *v, int i) {
    return v->c->entries[i].name;
}

/* "A", "A and B", "A, B and C". */
typedef struct list {
    pb_text text;
    int n, total;
} list;

static void add_name(list *l, const char *s) {
    const char *between = l->n == 0 ? "" : l->n + 1 == l->total ? " and " : ", ";
    pb_text_add(&l->text, "%s%s", between, s);
    l->n++;
}

static void say(rp_doc *doc, pb_text *t) {
    if (t->len) rp_add(doc, RP_ITEM, "%s", t->data);
    doc->failed = doc->failed || t->failed;
    pb_text_free(t);
}

/* ---- pieces ---- */

/* The verdict on a row against the row it is compared with. */
static const pb_verdict *against_base(const rp_view *v, int m, int i) {
    return pb_verdict_of(v->c, m, i, v->c->against[i]);
}

/* The measure that decides to which group a row belongs: NLL where any row has it, else accuracy; -1
 * where no row has a quality (forward passes alone). */
static int leading(const rp_view *v) {
    if (pb_measure_present(v->c, PB_NLL)) return PB_NLL;
    return pb_measure_present(v->c, PB_ACCURACY) ? PB_ACCURACY : -1;
}

/* "test NLL lower by 0.088 ± 0.020 nats", or what can be said without a verdict. */
static void add_quality(pb_text *t, const pb_measure *m, const pb_verdict *d) {
    rp_word a, b;
    double arm = (d->interval.high - d->interval.low) / 2;
    if (d->kind == PB_INCOMPARABLE) {
        pb_text_add(t, "%s not comparable (%s)", m->title, d->why);
        return;
    }
    rp_amount(a, m, fabs(d->estimate));
    rp_amount(b, m, arm);
    if (d->kind == PB_NO_DIFFERENCE) {
        pb_text_add(t, "no detectable difference in %s (%s%s" PM "%s %s)", m->title,
                    d->estimate < 0 ? "\xe2\x88\x92" : "+", a, b, m->unit);
        return;
    }
    pb_text_add(t, "%s %s by %s" PM "%s %s", m->title, d->estimate > 0 ? "higher" : "lower", a, b,
                m->unit);
}

/* "1.14× the time of a step and 1.26× the memory": what was detected and is left of it when rounded (bytes repeat to
 * the last one, and so a thousandth more is found); "" when nothing is. */
static void add_price(pb_text *t, const rp_view *v, int i) {
    static const struct {
        int measure;
        const char *what;
    } costs[] = {{PB_STEP, "the time of a step"},
                 {PB_MEMORY, "the memory"},
                 {PB_MERGED, "the time of a merged forward pass"},
                 {PB_UNMERGED, "the time of an unmerged forward pass"}};
    list l = {0};
    for (int pass = 0; pass < 2; pass++) /* counts, then writes */
        for (size_t k = 0; k < sizeof costs / sizeof costs[0]; k++) {
            const pb_verdict *d = against_base(v, costs[k].measure, i);
            rp_word w, none;
            char one[128];
            if (d->kind != PB_BETTER && d->kind != PB_WORSE) continue;
            if (strcmp(rp_ratio(w, d->estimate), rp_ratio(none, 1)) == 0) continue;
            snprintf(one, sizeof one, "%s %s", w, costs[k].what);
            if (pass == 0) l.total++;
            else add_name(&l, one);
        }
    if (l.n) pb_text_add(t, "%s", l.text.data);
    t->failed = t->failed || l.text.failed;
    pb_text_free(&l.text);
}

/* ---- sentences ---- */

/* A group of rows: those compared with one baseline, in the measure that leads. */
typedef struct group {
    const rp_view *v;
    int base, lead;
} group;

static bool belongs(const group *g, int i, pb_verdict_kind kind) {
    return i != g->base && g->v->c->against[i] == g->base &&
           against_base(g->v, g->lead, i)->kind == kind;
}

/* Largest difference that would have shown, over the rows not told apart from the baseline. */
static double would_have_shown(const group *g, int m) {
    double most = NAN;
    for (int i = 0; i < g->v->c->n; i++) {
        if (!belongs(g, i, PB_NO_DIFFERENCE)) continue;
        const pb_verdict *d = against_base(g->v, m, i);
        if (d->kind == PB_NO_DIFFERENCE) most = fmax(d->detectable, isnan(most) ? 0 : most);
    }
    return most;
}

static void alike(const group *g, rp_doc *doc) {
    const rp_view *v = g->v;
    list names = {0};
    pb_text t = {0};
    rp_word a, b;
    for (int i = 0; i < v->c->n; i++) names.total += belongs(g, i, PB_NO_DIFFERENCE);
    if (!names.total) return;
    for (int i = 0; i < v->c->n; i++)
        if (belongs(g, i, PB_NO_DIFFERENCE)) add_name(&names, name(v, i));
    const pb_measure *m = &pb_measures[g->lead], *second = &pb_measures[PB_ACCURACY];
    pb_text_add(&t,
                "On this task %s cannot be told apart from %s in %s (a difference of %s %s "
                "would have shown)",
                names.text.data, name(v, g->base), m->title,
                rp_amount(a, m, would_have_shown(g, g->lead)), m->unit);
    double shown = g->lead == PB_ACCURACY ? NAN : would_have_shown(g, PB_ACCURACY);
    bool all = true;
    for (int i = 0; i < v->c->n && g->lead != PB_ACCURACY; i++)
        all = all && (!belongs(g, i, PB_NO_DIFFERENCE) ||
                      against_base(v, PB_ACCURACY, i)->kind == PB_NO_DIFFERENCE);
    if (all && !isnan(shown))
        pb_text_add(&t, ", nor in %s (%s %s)", second->title, rp_amount(b, second, shown),
                    second->unit);
    pb_text_add(&t, ".");
    say(doc, &t);
    for (int i = 0; i < v->c->n; i++) { /* what sets a row of the group apart all the same */
        if (!belongs(g, i, PB_NO_DIFFERENCE)) continue;
        const pb_verdict *d = against_base(v, PB_ACCURACY, i);
        pb_text price = {0};
        add_price(&price, v, i);
        if (!all && g->lead != PB_ACCURACY && d->kind != PB_NO_DIFFERENCE) {
            pb_text_add(&t, "%s: ", name(v, i));
            add_quality(&t, second, d);
        }
        if (price.len)
            pb_text_add(&t, t.len ? "; it takes %s." : "%s takes %s of %s.",
                        t.len ? price.data : name(v, i), price.data, name(v, g->base));
        else if (t.len)
            pb_text_add(&t, ".");
        doc->failed = doc->failed || price.failed;
        pb_text_free(&price);
        say(doc, &t);
    }
    pb_text_free(&names.text);
}

static void apart(const group *g, pb_verdict_kind kind, rp_doc *doc) {
    const rp_view *v = g->v;
    for (int i = 0; i < v->c->n; i++) {
        pb_text t = {0}, price = {0};
        if (!belongs(g, i, kind)) continue;
        pb_text_add(&t, "%s%s is %s than %s: ", name(v, i), is_head(v, i) ? " (the floor)" : "",
                    pb_verdict_name(kind), name(v, g->base));
        add_quality(&t, &pb_measures[g->lead], against_base(v, g->lead, i));
        if (g->lead != PB_ACCURACY) {
            pb_text_add(&t, ", ");
            add_quality(&t, &pb_measures[PB_ACCURACY], against_base(v, PB_ACCURACY, i));
        }
        if (!is_head(v, i)) add_price(&price, v, i);
        if (price.len) pb_text_add(&t, "; it takes %s", price.data);
        pb_text_add(&t, ".");
        doc->failed = doc->failed || price.failed;
        pb_text_free(&price);
        say(doc, &t);
    }
}

/* Too few steps, which is said first, and nothing else keeps the quality of the two apart. */
static bool is_short(const rp_view *v, int i, int base) {
    bool trained = pb_is_trained(v->c->entries[i].row) && pb_is_trained(v->c->entries[base].row);
    return !trained && !pb_parity_stop(pb_parity_between(v->c, i, base), false);
}

/* Rows with one reason share a sentence. */
static void not_compared(const group *g, rp_doc *doc) {
    const rp_view *v = g->v;
    for (int i = 0; i < v->c->n; i++) {
        const char *why = against_base(v, g->lead, i)->why;
        list names = {0};
        pb_text t = {0};
        bool first = true;
        if (!belongs(g, i, PB_INCOMPARABLE) || is_short(v, i, g->base)) continue;
        for (int k = 0; k < v->c->n; k++) {
            bool same = belongs(g, k, PB_INCOMPARABLE) &&
                        strcmp(against_base(v, g->lead, k)->why, why) == 0;
            first = first && !(same && k < i);
            names.total += same;
        }
        if (!first) continue;
        for (int k = 0; k < v->c->n; k++)
            if (belongs(g, k, PB_INCOMPARABLE) &&
                strcmp(against_base(v, g->lead, k)->why, why) == 0)
                add_name(&names, name(v, k));
        const pb_parity_finding *stop = pb_parity_stop(pb_parity_between(v->c, i, g->base), false);
        pb_text_add(&t, "No verdict on %s against %s: %s.", names.text.data, name(v, g->base), why);
        if (stop)
            pb_text_add(&t, " Compared all the same with --waive %s.", stop->field);
        else if (strstr(why, "one seed"))
            pb_text_add(&t, " Three seeds are the least, five a fair comparison.");
        say(doc, &t);
        pb_text_free(&names.text);
    }
    for (int i = 0; i < v->c->n; i++) { /* costs may be compared where quality is not */
        pb_text t = {0}, price = {0};
        if (!belongs(g, i, PB_INCOMPARABLE)) continue;
        add_price(&price, v, i);
        if (price.len) pb_text_add(&t, "%s takes %s of %s.", name(v, i), price.data, name(v, g->base));
        doc->failed = doc->failed || price.failed;
        pb_text_free(&price);
        say(doc, &t);
    }
}

/* Who is likelier than not on the front of the class of one baseline; several: the classes are named. */
static void on_front(const rp_view *v, int f, int base, bool several, pb_text *t) {
    list names = {0};
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < v->c->n; i++) {
            char one[200];
            if (v->c->front_class[i] != base || !(v->c->front[f][i] >= 0.5)) continue;
            snprintf(one, sizeof one, "%s (%.0f %%)", name(v, i), 100 * v->c->front[f][i]);
            if (pass == 0) names.total++;
            else add_name(&names, one);
        }
    if (names.total && t->len) pb_text_add(t, "; ");
    if (names.total && several) pb_text_add(t, "at parity with %s: ", name(v, base));
    if (names.total) pb_text_add(t, "%s", names.text.data);
    t->failed = t->failed || names.text.failed;
    pb_text_free(&names.text);
}

static void on_fronts(const rp_view *v, rp_doc *doc) {
    static const char *const what[] = {"time of a step", "peak memory"};
    for (int f = 0; f < 2; f++) {
        int classes = 0;
        pb_text t = {0};
        for (int i = 0; i < v->c->n; i++)
            classes += v->c->front_class[i] == i && !isnan(v->c->front[f][i]);
        for (int i = 0; i < v->c->n; i++)
            if (v->c->front_class[i] == i) on_front(v, f, i, classes > 1, &t);
        if (t.len)
            rp_add(doc, RP_ITEM, "On the front of accuracy against %s, with the probability to be there: %s.",
                   what[f], t.data);
        doc->failed = doc->failed || t.failed;
        pb_text_free(&t);
    }
}

/* What a measure of forgetting says of the rows of one verdict: "full (+0.312 ± 0.050 nats)". */
static void forgetters(const group *g, pb_verdict_kind kind, const char *how, pb_text *t) {
    const rp_view *v = g->v;
    const pb_measure *q = &pb_measures[g->lead];
    list l = {0};
    for (int i = 0; i < v->c->n; i++) l.total += belongs(g, i, kind);
    for (int i = 0; i < v->c->n; i++) {
        const pb_verdict *d = against_base(v, g->lead, i);
        char one[256];
        rp_word a, b;
        if (!belongs(g, i, kind)) continue;
        if (kind == PB_NO_DIFFERENCE)
            snprintf(one, sizeof one, "%.150s (%s would have shown)", name(v, i),
                     rp_amount(a, q, d->detectable));
        else
            snprintf(one, sizeof one, "%.150s (%s%s" PM "%s%s%s)", name(v, i),
                     d->estimate < 0 ? "\xe2\x88\x92" : "+", rp_amount(a, q, fabs(d->estimate)),
                     rp_amount(b, q, (d->interval.high - d->interval.low) / 2), *q->unit ? " " : "",
                     q->unit);
        add_name(&l, one);
    }
    if (l.n) pb_text_add(t, "%s%s %s", t->len ? "; " : "", how, l.text.data);
    t->failed = t->failed || l.text.failed;
    pb_text_free(&l.text);
}

static void forgetting(const rp_view *v, int base, rp_doc *doc) {
    for (int m = PB_FORGOTTEN; m <= PB_DRIFT; m++) {
        group g = {v, base, m};
        pb_text t = {0}, whole = {0};
        forgetters(&g, PB_WORSE, "more by", &t);
        forgetters(&g, PB_BETTER, "less by", &t);
        forgetters(&g, PB_NO_DIFFERENCE, "not told apart:", &t);
        if (t.len)
            pb_text_add(&whole, "Forgetting (%s) beside %s: %s.", pb_measures[m].title,
                        name(v, base), t.data);
        whole.failed = whole.failed || t.failed;
        pb_text_free(&t);
        say(doc, &whole);
    }
}

/* Said first: it bounds everything that follows. */
static void few_seeds(const rp_view *v, rp_doc *doc) {
    bool same = true;
    int least = pb_fewest_seeds(v->c, -1, &same);
    list l = {0};
    if (v->c->n < 2 || !least || least >= PB_FAIR_SEEDS) return;
    const char *so = least == 1 ? "one seed decides nothing" : "only large differences can show";
    if (same) {
        rp_add(doc, RP_ITEM, "%d seed%s: fewer than five; %s. Five make a fair comparison.", least,
               least == 1 ? "" : "s", so);
        return;
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < v->c->n; i++) {
            char one[200];
            int n = pb_fewest_seeds(v->c, i, NULL);
            if (!n || n >= PB_FAIR_SEEDS) continue;
            snprintf(one, sizeof one, "%s (%d)", name(v, i), n);
            if (pass == 0) l.total++;
            else add_name(&l, one);
        }
    rp_add(doc, RP_ITEM, "Fewer than five seeds: %s; %s there. Five make a fair comparison.",
           l.text.data ? l.text.data : "", so);
    doc->failed = doc->failed || l.text.failed;
    pb_text_free(&l.text);
}

/* Runs too short for a quality: what is left of the comparison are costs. */
static void few_steps(const rp_view *v, rp_doc *doc) {
    list l = {0};
    int64_t most = 0;
    bool all = true;
    if (leading(v) < 0) return;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < v->c->n; i++) {
            const pb_row *row = v->c->entries[i].row;
            if (!row->n_ok) continue;
            if (pb_is_trained(row)) all = false;
            else if (pass == 0) l.total++;
            else add_name(&l, name(v, i));
            int64_t steps = pb_is_trained(row) ? 0 : pb_row_steps(row);
            most = steps > most ? steps : most;
        }
    if (l.n)
        rp_add(doc, RP_ITEM,
               "Quality is not judged%s%s: %" PRId64 " training steps train nothing worth comparing (%d "
               "are the least). What is compared is the cost.",
               all ? "" : " of ", all ? "" : l.text.data, most, PB_LEAST_STEPS);
    doc->failed = doc->failed || l.text.failed;
    pb_text_free(&l.text);
}

static void waived(const rp_view *v, rp_doc *doc) {
    pb_text t = {0};
    for (int i = 0; v->waivers && i < v->waivers->n; i++)
        pb_text_add(&t, "%s%s",
                    i ? ", "
                      : "Waived by name, so that these differences are mixed "
                        "into the verdicts: ",
                    v->waivers->names[i]);
    if (t.len) pb_text_add(&t, ".");
    say(doc, &t);
}

/* Several baselines: which, and what keeps their groups apart. */
static void own_baselines(const rp_view *v, rp_doc *doc) {
    list names = {.total = pb_count_baselines(v->c)};
    const pb_parity_finding *stop = NULL;
    if (names.total < 2) return;
    for (int i = 0; i < v->c->n; i++) {
        if (!pb_is_baseline(v->c, i)) continue;
        add_name(&names, name(v, i));
        if (!stop) stop = pb_parity_stop(pb_parity_between(v->c, i, v->c->baseline), false);
    }
    rp_add(doc, RP_ITEM,
           "Every row is compared with the one of these that it is at parity with: %s. They are not "
           "compared with each other: %s, %s against %s (--waive %s does so all the same).",
           names.text.data ? names.text.data : "", stop ? stop->title : "", stop ? stop->a : "",
           stop ? stop->b : "", stop ? stop->field : "");
    doc->failed = doc->failed || names.text.failed;
    pb_text_free(&names.text);
}

void rp_answer(const rp_view *v, rp_doc *doc) {
    int lead = leading(v);
    few_seeds(v, doc);
    few_steps(v, doc);
    waived(v, doc);
    if (v->anchored)
        rp_add(doc, RP_ITEM,
               "All rows are taken relative to %s, which ran in every folder: differences to it in "
               "quality, ratios to it in time and memory.",
               v->anchor);
    own_baselines(v, doc);
    for (int base = 0; base < v->c->n && lead >= 0; base++) {
        group g = {v, base, lead};
        if (!pb_is_baseline(v->c, base)) continue;
        alike(&g, doc);
        apart(&g, PB_BETTER, doc);
        apart(&g, PB_WORSE, doc);
        not_compared(&g, doc);
    }
    rp_shapes_answer(v, doc);
    if (lead < 0)
        rp_add(doc, RP_ITEM, "No quality to compare: nothing was evaluated in these runs.");
    for (int base = 0; base < v->c->n; base++)
        if (pb_is_baseline(v->c, base)) forgetting(v, base, doc);
    on_fronts(v, doc);
}

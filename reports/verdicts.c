/* A comparison in tables, and how it was made. */
#include "reports/verdicts.h"

#include <math.h>
#include <string.h>

#define PM " \xc2\xb1 "
#define MINUS "\xe2\x88\x92"

/* ---- cells ---- */

/* Digits behind the point that tell the ends of an interval apart, two digits of its width. */
static int digits_of(double width, double middle) {
    double a = width > 0 ? width : fabs(middle) / 100;
    if (!(a > 0) || !isfinite(a)) return 1;
    int d = 1 - (int)floor(log10(a) + 1e-9);
    return d < 0 ? 0 : d > 4 ? 4 : d;
}

const char *rp_estimate(rp_word out, const pb_measure *m, const pb_estimate *e) {
    double k = m->table_scale, low = e->interval.low * k, high = e->interval.high * k;
    if (!e->n_seeds) return rp_word_set(out, DASH);
    int d = digits_of((high - low) / 2, e->mean * k);
    if (m->scale > 1) d = d < 1 ? d : 1;
    if (isnan(low)) return rp_word_set(out, "%.*f", digits_of(0, e->mean * k), e->mean * k);
    if (high - low <= 1e-9 * fabs(high)) return rp_word_set(out, "%.*f", d, e->mean * k);
    return rp_word_set(out, "%.*f (%.*f" DASH "%.*f)", d, e->mean * k, d, low, d, high);
}

/* "better by 0.088 ± 0.020", "not told apart (0.061)", "1.14× (1.12–1.16)". */
static void verdict_cell(const rp_view *v, int m, int a, int b, rp_doc *doc) {
    const pb_verdict *d = pb_verdict_of(v->c, m, a, b);
    const pb_measure *measure = &pb_measures[m];
    rp_word x, y, z;
    if (d->kind == PB_INCOMPARABLE) {
        bool both = pb_estimate_of(v->c, m, a)->n_seeds && pb_estimate_of(v->c, m, b)->n_seeds;
        rp_cell_add(doc, NAN, a == b || !both ? DASH : "not comparable");
        return;
    }
    if (measure->ratio) {
        rp_cell_add(doc, d->estimate, "%s (%.2f" DASH "%.2f)", rp_ratio(x, d->estimate),
                    d->interval.low, d->interval.high);
        if (d->kind != PB_NO_DIFFERENCE) rp_cell_strong(doc);
        return;
    }
    double arm = (d->interval.high - d->interval.low) / 2;
    rp_amount(x, measure, fabs(d->estimate));
    rp_amount(y, measure, arm);
    rp_amount(z, measure, d->detectable);
    if (d->kind == PB_NO_DIFFERENCE) {
        rp_cell_add(doc, d->estimate, "%s%s" PM "%s, not told apart (%s)",
                    d->estimate < 0 ? MINUS : "+", x, y, z);
        return;
    }
    rp_cell_add(doc, d->estimate, "%s by %s" PM "%s", pb_verdict_name(d->kind), x, y);
    rp_cell_strong(doc);
}

static void estimate_cell(const rp_view *v, int m, int i, rp_doc *doc) {
    const pb_estimate *e = pb_estimate_of(v->c, m, i);
    rp_word w;
    rp_cell_add(doc, e->n_seeds ? e->mean : NAN, "%s", rp_estimate(w, &pb_measures[m], e));
}

static void rank_cell(const rp_view *v, int m, int i, rp_doc *doc) {
    int best = v->c->best[m * v->c->n + i], worst = v->c->worst[m * v->c->n + i];
    if (!best)
        rp_cell_add(doc, NAN, DASH);
    else if (best == worst)
        rp_cell_add(doc, best, "%d", best);
    else
        rp_cell_add(doc, best + worst / 1e3, "%d" DASH "%d", best, worst);
    if (best == 1) rp_cell_strong(doc);
}

static void front_cell(double p, rp_doc *doc) {
    if (isnan(p))
        rp_cell_add(doc, NAN, DASH);
    else
        rp_cell_add(doc, p, "%.0f %%", 100 * p);
}

static void name_cell(const rp_view *v, int i, rp_doc *doc) {
    rp_row_add(doc, v->colours ? v->colours[i] : 0);
    rp_cell_add(doc, i, "%s", v->c->entries[i].name);
    if (pb_is_baseline(v->c, i)) rp_cell_strong(doc);
}

/* Named where there is more than one. */
static void baseline_cell(const rp_view *v, int i, rp_doc *doc) {
    if (pb_count_baselines(v->c) < 2) return;
    rp_cell_add(doc, v->c->against[i], "%s",
                pb_is_baseline(v->c, i) ? DASH : v->c->entries[v->c->against[i]].name);
}

static void baseline_column(const rp_view *v, rp_doc *doc) {
    if (pb_count_baselines(v->c) > 1)
        rp_column_add(doc, "Against", false, "The row that this one is compared with");
}

/* ---- the tables ---- */

static const char *const shorts[PB_MEASURES] = {[PB_NLL] = "NLL",
                                                [PB_ACCURACY] = "Accuracy",
                                                [PB_FORGOTTEN] = "Forgetting",
                                                [PB_DRIFT] = "Drift"};
static const char *const means[PB_MEASURES] = {
    [PB_NLL] = "Mean and 95 % interval over new seeds and new examples; lower is better",
    [PB_ACCURACY] = "Mean and 95 % interval over new seeds and new examples",
    [PB_STEP] = "Median time of a training step behind the warm-up: geometric mean over seeds and 95 % "
                "interval",
    [PB_MEMORY] = "Peak of the program's own memory arenas during training: geometric mean over seeds and "
                  "95 % interval",
    [PB_MERGED] = "Median time of one test batch with the adapter folded into the weights: geometric mean "
                  "over seeds and 95 % interval",
    [PB_UNMERGED] = "Median time of one test batch with the adapter beside the weights: geometric mean "
                    "over seeds and 95 % interval",
    [PB_FORGOTTEN] = "NLL on text that is not the task's, after training less before: mean and 95 % "
                     "interval over new seeds; lower is better",
    [PB_DRIFT] = "1 - cosine between embeddings of text that is not the task's, after training and "
                 "before: mean and 95 % interval over new seeds and new texts; lower is better"};

/* The columns of a measure: the mean, and the verdict against the baseline. */
static void measure_columns(const rp_view *v, int m, rp_doc *doc) {
    const pb_measure *q = &pb_measures[m];
    bool one = pb_count_baselines(v->c) == 1;
    const char *base = one ? v->c->entries[v->c->baseline].name : "baseline";
    char title[192];
    if (!pb_measure_present(v->c, m)) return;
    if (!v->anchored || !q->ratio) {
        snprintf(title, sizeof title, "%s (%s%s)", q->column,
                 v->anchored && m == PB_ACCURACY ? "points" : q->table_unit,
                 v->anchored ? ", to the anchor" : "");
        rp_column_add(doc, title, true, means[m]);
    }
    if (q->ratio)
        snprintf(title, sizeof title, TIMES " %.150s", base);
    else
        snprintf(title, sizeof title, "%s against %.120s", shorts[m], base);
    rp_column_add(doc, title, q->ratio,
                  q->ratio ? "Ratio with its 95 % interval; bold: detected"
                           : "The verdict and the difference with half its 95 % interval; in "
                             "brackets what would have shown");
}

static void measure_cells(const rp_view *v, int m, int i, rp_doc *doc) {
    if (!pb_measure_present(v->c, m)) return;
    if (!v->anchored || !pb_measures[m].ratio) estimate_cell(v, m, i, doc);
    verdict_cell(v, m, i, v->c->against[i] >= 0 ? v->c->against[i] : i, doc);
}

static bool any_present(const rp_view *v, int from, int to) {
    for (int m = from; m < to; m++)
        if (pb_measure_present(v->c, m)) return true;
    return false;
}

static bool front_known(const rp_view *v, int f) {
    for (int i = 0; i < v->c->n; i++)
        if (!isnan(v->c->front[f][i])) return true;
    return false;
}

static void training_table(const rp_view *v, rp_doc *doc) {
    bool ranked = pb_measure_present(v->c, PB_NLL), front[2];
    for (int f = 0; f < 2; f++) front[f] = front_known(v, f);
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, "The suite's name for a method with its settings");
    rp_column_add(doc, "Runs", true, "Finished seeds");
    if (ranked)
        rp_column_add(doc, "Rank", true,
                      "By test NLL: 1 + the rows found better, to all rows less those found worse. "
                      "Rows that nothing separates share a rank");
    baseline_column(v, doc);
    for (int m = PB_NLL; m <= PB_MEMORY; m++) measure_columns(v, m, doc);
    if (front[0])
        rp_column_add(doc, "On the time front", true,
                      "Probability that no other row at parity with it is at least as accurate and as fast; "
                      "three seeds are the least");
    if (front[1])
        rp_column_add(doc, "On the memory front", true,
                      "Probability that no other row at parity with it is at least as accurate with as "
                      "little memory; three seeds are the least");
    for (int i = 0; i < v->c->n; i++) {
        name_cell(v, i, doc);
        const pb_row *row = v->c->entries[i].row;
        rp_cell_add(doc, row->n_ok, row->n_ok < row->n_runs ? "%d of %d" : "%d", row->n_ok,
                    row->n_runs);
        if (row->n_ok < row->n_runs) rp_cell_strong(doc);
        if (ranked) rank_cell(v, PB_NLL, i, doc);
        baseline_cell(v, i, doc);
        for (int m = PB_NLL; m <= PB_MEMORY; m++) measure_cells(v, m, i, doc);
        for (int f = 0; f < 2; f++)
            if (front[f]) front_cell(v->c->front[f][i], doc);
    }
}

static void afterwards_table(const rp_view *v, rp_doc *doc) {
    if (!any_present(v, PB_MERGED, PB_MEASURES)) return;
    rp_add(doc, RP_SUBHEADING,
           any_present(v, PB_FORGOTTEN, PB_MEASURES) ? "Inference and forgetting" : "Inference");
    rp_add_table(doc);
    rp_column_add(doc, "Row", false, NULL);
    baseline_column(v, doc);
    for (int m = PB_MERGED; m < PB_MEASURES; m++) measure_columns(v, m, doc);
    for (int i = 0; i < v->c->n; i++) {
        name_cell(v, i, doc);
        baseline_cell(v, i, doc);
        for (int m = PB_MERGED; m < PB_MEASURES; m++) measure_cells(v, m, i, doc);
    }
}

void rp_comparison_table(const rp_view *v, rp_doc *doc) {
    bool trained = any_present(v, PB_NLL, PB_MEMORY + 1);
    if (!any_present(v, PB_NLL, PB_MEASURES)) return;
    if (trained) training_table(v, doc);
    afterwards_table(v, doc);
    rp_add(
        doc, RP_TEXT,
        "Brackets behind a mean: its 95 %% interval. Bold: the baseline, rank 1, and what was "
        "detected. A number behind \xe2\x80\x9cnot told apart\xe2\x80\x9d is the difference that "
        "would have shown; it does not say that there is none. A dash: the number does not "
        "exist.");
}

/* ---- all pairs ---- */

static void p_cell(double p, rp_doc *doc) {
    if (isnan(p))
        rp_cell_add(doc, NAN, DASH);
    else if (p < 1e-4)
        rp_cell_add(doc, p, "< 0.0001");
    else
        rp_cell_add(doc, p, p < 0.001 ? "%.4f" : "%.3f", p);
}

static void pair_columns(rp_doc *doc) {
    rp_add_table(doc);
    rp_column_add(doc, "Pair", false, "The first row against the second");
    rp_column_add(doc, "Measure", false, NULL);
    rp_column_add(doc, "Verdict", false, "After Holm's correction over the family");
    rp_column_add(doc, "Difference or ratio", true, "With its 95 % interval, uncorrected");
    rp_column_add(doc, "p", true, "Two-sided: the level at which the interval reaches 0 (1)");
    rp_column_add(doc, "p, Holm", true, "Corrected over the family; a verdict needs 0.05");
    rp_column_add(doc, "p, flips of seeds", true,
                  "Permutation of the seeds' means; with n seeds at least 2 / 2^n");
    rp_column_add(doc, "p, flips of examples", true,
                  "Permutation over examples: do these trained models differ?");
    rp_column_add(doc, "Would have shown", true,
                  "Minimum detectable effect: found with probability 0.8 at the strictest level of "
                  "the family");
    rp_column_add(doc, "Seeds", true, "That both rows finished");
    rp_column_add(doc, "Why not", false, NULL);
}

/* Nothing where neither row has the measure; a row without a merged form is no failure either. */
static void pair_row(const rp_view *v, int m, int a, int b, rp_doc *doc) {
    const pb_verdict *d = pb_verdict_of(v->c, m, a, b);
    const pb_measure *measure = &pb_measures[m];
    rp_word x, y, z;
    int values = (pb_estimate_of(v->c, m, a)->n_seeds > 0) + (pb_estimate_of(v->c, m, b)->n_seeds > 0);
    if (values < (m >= PB_MERGED ? 2 : 1)) return;
    rp_row_add(doc, v->colours ? v->colours[a] : 0);
    rp_cell_add(doc, NAN, "%s / %s", v->c->entries[a].name, v->c->entries[b].name);
    rp_cell_add(doc, m, "%s", measure->title);
    rp_cell_add(doc, d->kind, "%s", pb_verdict_name(d->kind));
    if (d->kind == PB_BETTER || d->kind == PB_WORSE) rp_cell_strong(doc);
    if (d->kind == PB_INCOMPARABLE)
        rp_cell_add(doc, NAN, DASH);
    else if (measure->ratio)
        rp_cell_add(doc, d->estimate, "%s (%.3f" DASH "%.3f)", rp_ratio(x, d->estimate),
                    d->interval.low, d->interval.high);
    else
        rp_cell_add(doc, d->estimate, "%s (%s to %s) %s", rp_amount(x, measure, d->estimate),
                    rp_amount(y, measure, d->interval.low), rp_amount(z, measure, d->interval.high),
                    measure->unit);
    p_cell(d->p, doc);
    p_cell(d->p_holm, doc);
    p_cell(d->p_seeds, doc);
    p_cell(d->p_examples, doc);
    if (d->kind == PB_INCOMPARABLE)
        rp_cell_add(doc, NAN, DASH);
    else
        rp_cell_add(doc, d->detectable, "%s %s", rp_amount(x, measure, d->detectable),
                    measure->unit);
    rp_cell_add(doc, d->n_seeds, "%d", d->n_seeds);
    rp_cell_add(doc, NAN, "%s", d->why);
}

void rp_verdict_tables(const rp_view *v, rp_doc *doc) {
    bool based = pb_count_baselines(v->c) > 0;
    const int *against = v->c->against;
    if (v->c->n < 2 || !any_present(v, 0, PB_MEASURES)) return;
    rp_add(doc, RP_HEADING, "Verdicts");
    if (based) {
        pair_columns(doc);
        for (int m = 0; m < PB_MEASURES; m++)
            for (int i = 0; i < v->c->n; i++)
                if (!pb_is_baseline(v->c, i)) pair_row(v, m, i, against[i], doc);
    }
    if (v->c->n < (based ? 3 : 2)) return;
    rp_add(doc, RP_FOLD, based ? "Every other pair" : "Every pair");
    pair_columns(doc);
    for (int m = 0; m < PB_MEASURES; m++)
        for (int a = 0; a < v->c->n; a++)
            for (int b = a + 1; b < v->c->n; b++)
                if (against[a] != b && against[b] != a) pair_row(v, m, a, b, doc);
    rp_add(doc, RP_FOLD_END, " ");
}

/* ---- how ---- */

static void seeds_of(const rp_view *v, rp_doc *doc) {
    int least = 0, most = 0;
    for (int i = 0; i < v->c->n; i++) {
        int n = v->c->entries[i].row->n_ok;
        if (!n) continue;
        least = least && least < n ? least : n;
        most = most > n ? most : n;
    }
    char counts[64];
    snprintf(counts, sizeof counts, least == most ? "%d" : "%d to %d", least, most);
    rp_add(doc, RP_ITEM,
           "Seeds: %s per row%s. A seed moves initial values, dropout and the order of the data; "
           "equal seeds give all rows the same order.",
           counts, least == most ? "" : ", compared at those that both rows finished");
    if (most < PB_FAIR_SEEDS)
        rp_add(doc, RP_ITEM,
               "With fewer than five seeds only large differences can be detected: the interval "
               "over three seeds is 2.2 times as wide as the spread over them suggests.");
}

static void parity_of(const rp_view *v, rp_doc *doc) {
    pb_text t = {0};
    for (int k = 0; k < v->c->n * v->c->n; k++)
        for (int i = 0; i < v->c->parity[k].n; i++) {
            const pb_parity_finding *f = &v->c->parity[k].items[i];
            if (f->waived)
                pb_text_add(&t, "%s%s / %s: %s %s against %s", t.len ? "; " : "",
                            v->c->entries[k / v->c->n].name, v->c->entries[k % v->c->n].name,
                            f->title, f->a, f->b);
        }
    rp_add(
        doc, RP_ITEM,
        "Parity: before a verdict every pair is diffed on effective scale, target modules, "
        "precision of weights and optimizer, optimizer, steps, tokens, schedule, batch, clipping, "
        "weight decay, dropout, tuning budget, data and their order, software and machine. What is no "
        "difference of the method itself stops the comparison unless waived by name. The "
        "learning rate is each row's own.");
    rp_add(doc, RP_ITEM, "Waivers: %s.", t.len ? t.data : "none");
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

void rp_how(const rp_view *v, rp_doc *doc) {
    const int *nll = v->c->family[PB_NLL], *accuracy = v->c->family[PB_ACCURACY];
    if (!any_present(v, 0, PB_MEASURES)) {
        if (rp_shapes_present(v))
            rp_add(doc, RP_ITEM,
                   "Forward passes: every process times all rows in turns, so rows are divided by each other within a "
                   "process; the interval over the processes is Student's t on the log scale. Slower and faster: p of at "
                   "most 0.05 after Holm's correction, over the rows for the mean over all shapes, over rows and shapes "
                   "for single shapes; merged beside the base model is a family of its own.");
        rp_add(doc, RP_ITEM, "Nothing else is judged here: no run has a quality, a cost of training or the "
                             "time of a test batch.");
        return;
    }
    seeds_of(v, doc);
    rp_add(doc, RP_ITEM,
           "Test NLL is judged first, accuracy second: NLL uses how sure a model is and so sees "
           "smaller differences%s.",
           v->tokens ? "; both are means over target tokens" : "");
    rp_add(doc, RP_ITEM,
           "Intervals of 95 %% for differences: the same test examples at the same seeds are "
           "subtracted. Student's t over the seeds' means is joined with a BCa bootstrap (2000 "
           "resamples) over the examples' means, so that the interval speaks of new seeds and new "
           "examples. Times and bytes: Student's t over the seeds on the log scale.");
    rp_add(doc, RP_ITEM,
           "Verdicts: two-sided p from the same interval, corrected after Holm over two families a "
           "measure: the comparisons with the baseline (%d in NLL, %d in accuracy) and the other "
           "pairs (%d, %d). Better and worse: at most 0.05 after correction; in each family the "
           "chance of any false verdict is at most 5 %%. Intervals are not corrected, so one may "
           "leave out 0 without a verdict.",
           nll[0], accuracy[0], nll[1], accuracy[1]);
    rp_add(doc, RP_ITEM,
           "\xe2\x80\x9cWould have shown\xe2\x80\x9d: a true difference of this size is found with "
           "probability 0.8 at the strictest level of the family, given the spread that was seen. "
           "Where nothing was detected, equality is not claimed.");
    rp_add(doc, RP_ITEM,
           "Fronts: 2000 draws of what other seeds (Student's t) and other examples (resampled) might "
           "give, the same for all rows; the share of draws in which no other row at parity is at least "
           "as good in both. Fewer than three seeds give no such share.");
    parity_of(v, doc);
}

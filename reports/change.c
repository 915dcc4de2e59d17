/* Change points by energy statistics: reports/change.h. */
#include "reports/change.h"

#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/random.h"

enum { STREAM_SHUFFLES = 4 };

typedef struct best {
    double q;
    int at; /* place in the series */
} best;

typedef struct search {
    const double *x;
    int n;
    double *shuffled, *sums; /* sums: see fill_sums */
    pb_change *changes;
    int n_changes;
} search;

/* sums[i * (m + 1) + k] = sum of |x_a - x_b| over a < i and b < k: any block of pairs is four of them. */
static void fill_sums(const double *x, int m, double *sums) {
    size_t width = (size_t)m + 1;
    memset(sums, 0, width * sizeof *sums);
    for (int i = 0; i < m; i++) {
        double *row = sums + (size_t)(i + 1) * width, along = 0;
        const double *above = row - width;
        row[0] = 0;
        for (int k = 0; k < m; k++) {
            along += fabs(x[i] - x[k]);
            row[k + 1] = above[k + 1] + along;
        }
    }
}

/* Pairs of a in [from, to) and b in [first, last). */
static double block(const double *sums, int m, int from, int to, int first, int last) {
    size_t w = (size_t)m + 1;
    const double *high = sums + (size_t)to * w, *low = sums + (size_t)from * w;
    return high[last] - high[first] - low[last] + low[first];
}

/* The largest Q over splits t and ends k of one segment of m values. */
static best best_split(const double *x, int m, double *sums) {
    best b = {.q = -INFINITY, .at = -1};
    if (m < 2 * PB_CHANGE_SEGMENT) return b;
    fill_sums(x, m, sums);
    for (int t = PB_CHANGE_SEGMENT; t + PB_CHANGE_SEGMENT <= m; t++) {
        double left = block(sums, m, 0, t, 0, t), nx = t;
        for (int k = t + PB_CHANGE_SEGMENT; k <= m; k++) {
            double ny = k - t, right = block(sums, m, t, k, t, k);
            double between = block(sums, m, 0, t, t, k);
            /* both blocks hold each pair twice: mean |X - X'| = left / (nx (nx - 1)) */
            double e = 2 * between / (nx * ny) - left / (nx * (nx - 1)) - right / (ny * (ny - 1));
            double q = nx * ny / (nx + ny) * e;
            if (q > b.q) b = (best){q, t};
        }
    }
    return b;
}

/* The end of segment s: changes split the series. */
static int segment_end(const search *s, int segment) {
    return segment < s->n_changes ? s->changes[segment].at : s->n;
}

/* The best candidate of all segments of x. */
static best best_of_all(const search *s, const double *x) {
    best top = {.q = -INFINITY, .at = -1};
    for (int g = 0, from = 0; g <= s->n_changes; g++) {
        int to = segment_end(s, g);
        best b = best_split(x + from, to - from, s->sums);
        if (b.q > top.q) top = (best){b.q, from + b.at};
        from = to;
    }
    return top;
}

/* Values change places within their segments (Fisher and Yates). */
static void shuffle(const search *s, uint64_t base) {
    memcpy(s->shuffled, s->x, (size_t)s->n * sizeof *s->x);
    for (int g = 0, from = 0; g <= s->n_changes; g++) {
        int to = segment_end(s, g);
        for (int i = to - 1; i > from; i--) {
            int k = from + pb_draw_below(base, i, i - from + 1);
            double v = s->shuffled[i];
            s->shuffled[i] = s->shuffled[k];
            s->shuffled[k] = v;
        }
        from = to;
    }
}

/* Share of shuffles that reach q; the search for it ends once it cannot be below PB_CHANGE_P. */
static double permutation_p(const search *s, double q, uint64_t key) {
    int reached = 1;
    uint64_t stream = pb_draw_base(key, STREAM_SHUFFLES, (uint64_t)s->n_changes);
    for (int i = 0; i < PB_CHANGE_SHUFFLES; i++) {
        shuffle(s, pb_draw_base(stream, STREAM_SHUFFLES, (uint64_t)i));
        reached += best_of_all(s, s->shuffled).q >= q;
        if (reached >= PB_CHANGE_P * (PB_CHANGE_SHUFFLES + 1)) return 1;
    }
    return (double)reached / (PB_CHANGE_SHUFFLES + 1);
}

static void insert(search *s, pb_change c) {
    int i = s->n_changes++;
    for (; i > 0 && s->changes[i - 1].at > c.at; i--) s->changes[i] = s->changes[i - 1];
    s->changes[i] = c;
}

static double median(const double *x, int n, double *space) {
    memcpy(space, x, (size_t)n * sizeof *x);
    gsl_sort(space, 1, (size_t)n);
    return gsl_stats_median_from_sorted_data(space, 1, (size_t)n);
}

static void add_levels(search *s) {
    for (int i = 0; i < s->n_changes; i++) {
        pb_change *c = &s->changes[i];
        int from = i > 0 ? s->changes[i - 1].at : 0, to = segment_end(s, i + 1);
        c->before = median(s->x + from, c->at - from, s->shuffled);
        c->after = median(s->x + c->at, to - c->at, s->shuffled);
    }
}

pb_status pb_change_points(const double *x, int n, uint64_t key, pb_change *out, int *n_out) {
    pb_status status = PB_OK;
    search s = {.x = x, .n = n, .changes = out};
    *n_out = 0;
    if (n < 0 || n > PB_CHANGE_MOST)
        return PB_ERROR(PB_E_INPUT, "%d values; expected at most %d", n, PB_CHANGE_MOST);
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i])) return PB_ERROR(PB_E_INPUT, "value %d is not finite", i);
    s.shuffled = calloc((size_t)n + 1, sizeof *s.shuffled);
    s.sums = calloc(((size_t)n + 1) * ((size_t)n + 1), sizeof *s.sums);
    if (!s.shuffled || !s.sums) PB_FAIL(PB_E_OOM, "no memory for the pairs of %d values", n);
    for (;;) {
        best b = best_of_all(&s, x);
        if (b.at < 0) break;
        double p = permutation_p(&s, b.q, key);
        if (!(p < PB_CHANGE_P)) break;
        insert(&s, (pb_change){.at = b.at, .p = p});
    }
    add_levels(&s);
    *n_out = s.n_changes;
done:
    free(s.shuffled);
    free(s.sums);
    return status;
}

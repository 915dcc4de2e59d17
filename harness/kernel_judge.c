/* Comparing a kernel's outputs with the reference's: harness/kernel_judge.h. */
#include "harness/kernel_judge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define U32 0x1p-24
#define U16 0x1p-8 /* of bf16 */

static double value_at(const pb_contents *c, int i, int64_t k) {
    const void *p = c->bytes[i];
    switch (c->tensor[i].dtype) {
        case PB_F32: return (double)((const float *)p)[k];
        case PB_F64: return ((const double *)p)[k];
        case PB_BF16: return (double)pb_bf16_to_f32(((const uint16_t *)p)[k]);
        case PB_I32: return (double)((const int32_t *)p)[k];
        default: return (double)((const unsigned char *)p)[k];
    }
}

/* One output's element k is wrong: tells the worst one. */
static void blame(pb_kernel_verdict *v, double used, const char *name, int64_t k, double got,
                  double want) {
    if (isnan(used)) used = INFINITY;
    if (used <= v->worst) return;
    v->worst = used;
    if (used <= 1) return;
    v->wrong = true;
    snprintf(v->why, sizeof v->why, "%s, element %lld is %.9g; the reference is %.9g", name,
             (long long)k, got, want);
}

/* ---- real numbers ---- */

typedef struct allowed {
    double relative, absolute; /* of one element */
    double floor;              /* elements that take part in the mean */
    double spread, shift;      /* of the mean: spread / sqrt(elements) + shift */
} allowed;

static double rms_of(const pb_contents *want, int i) {
    int64_t n = pb_numel(want->tensor[i]), some = 0;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        double w = value_at(want, i, k);
        if (!isfinite(w) || fpclassify(w) == FP_ZERO) continue;
        sum += w * w;
        some++;
    }
    return some ? sqrt(sum / (double)some) : 0;
}

static double largest_position(const pb_kernel_output *o, const pb_layer *layer,
                               const pb_contents *start) {
    double most = 0;
    for (int i = 0; i < start->n; i++) {
        if (!pb_has(o->positions) || layer->tensors[i].data != o->positions.data) continue;
        int64_t n = pb_numel(start->tensor[i]);
        for (int64_t k = 0; k < n; k++) most = fmax(most, value_at(start, i, k));
    }
    return most;
}

/* inner: the unit of factors that may be rounded on the way, 0 for none. */
static allowed allowed_of(const pb_kernel_output *o, double inner, double angle, double rms) {
    double u = o->t.dtype == PB_BF16 ? U16 : U32;
    double e = U32 * (16 + 4 * sqrt(o->terms) + 2 * angle);
    allowed a = {.relative = 2 * u + e, .absolute = o->relative ? 0 : (e + 4 * inner) * rms};
    a.floor = o->relative ? 0 : rms / 2;
    a.spread = 6 * hypot(0.82 * u, 1.25 * inner);
    a.shift = 3 * e + inner / 8;
    return a;
}

static void judge_reals(const pb_kernel_output *o, const allowed a, const pb_contents *want,
                        const pb_contents *got, int i, pb_kernel_verdict *v) {
    int64_t n = pb_numel(want->tensor[i]), counted = 0;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        double g = value_at(got, i, k), w = value_at(want, i, k);
        bool equal = !(g < w) && !(g > w) && !isnan(g) && !isnan(w);
        if (!equal && !(isnan(g) && isnan(w)))
            blame(v, fabs(g - w) / (a.relative * fabs(w) + a.absolute), o->name, k, g, w);
        if (!isfinite(w) || !isfinite(g) || fpclassify(w) == FP_ZERO || fabs(w) < a.floor) continue;
        sum += (g - w) / w;
        counted++;
    }
    if (v->wrong || counted == 0) return;
    double mean = sum / (double)counted;
    double used = fabs(mean) / (a.spread / sqrt((double)counted) + a.shift);
    if (used <= v->worst) return;
    v->worst = used;
    if (used <= 1) return;
    v->wrong = true;
    snprintf(v->why, sizeof v->why,
             "%s: its %lld elements are %.3g times the reference's in the mean", o->name,
             (long long)counted, 1 + mean);
}

/* ---- codes and whole numbers ---- */

/* The place of a 4-bit code in its table's order. */
static int rank_of(pb_code table, int code) {
    const float *values = pb_code_table(table);
    int rank = 0;
    for (int c = 0; c < 16; c++) rank += values[c] < values[code];
    return rank;
}

static int steps_between(const pb_kernel_output *o, unsigned char a, unsigned char b) {
    if (o->codes == PB_CODES8) return a > b ? a - b : b - a;
    int top = rank_of(o->table, a >> 4) - rank_of(o->table, b >> 4);
    int low = rank_of(o->table, a & 15) - rank_of(o->table, b & 15);
    top = top < 0 ? -top : top;
    low = low < 0 ? -low : low;
    return top > low ? top : low;
}

static void judge_codes(const pb_kernel_output *o, const pb_contents *want, const pb_contents *got,
                        int i, pb_kernel_verdict *v) {
    int64_t n = pb_numel(want->tensor[i]), differ = 0;
    for (int64_t k = 0; k < n; k++) {
        unsigned char w = want->bytes[i][k], g = got->bytes[i][k];
        if (w == g) continue;
        differ++;
        if (steps_between(o, w, g) > 1) blame(v, INFINITY, o->name, k, g, w);
    }
    double codes = (double)n * (o->codes == PB_CODES4 ? 2 : 1);
    double used = (double)differ / (2 + codes / 5000);
    if (used <= v->worst) return;
    v->worst = used;
    if (used <= 1) return;
    v->wrong = true;
    snprintf(v->why, sizeof v->why, "%s: %lld of %.0f codes differ from the reference's", o->name,
             (long long)differ, codes);
}

static void judge_equal(const char *name, const pb_contents *want, const pb_contents *got, int i,
                        pb_kernel_verdict *v) {
    int64_t n = pb_numel(want->tensor[i]);
    size_t size = pb_dtype_size(want->tensor[i].dtype);
    for (int64_t k = 0; k < n && !v->wrong; k++)
        if (memcmp(want->bytes[i] + (size_t)k * size, got->bytes[i] + (size_t)k * size, size) != 0)
            blame(v, INFINITY, name, k, value_at(got, i, k), value_at(want, i, k));
}

/* ---- all of them ---- */

pb_status pb_kernel_judge(pb_op op, const void *args, const pb_layer *layer,
                          const pb_contents *start, const pb_contents *want,
                          const pb_contents *got, pb_kernel_verdict *out) {
    pb_kernel_output list[PB_KERNEL_OUTPUTS];
    char name[48];
    int n = pb_kernel_outputs(op, args, list);
    *out = (pb_kernel_verdict){.wrong = false};
    for (int i = 0; i < want->n && !out->wrong; i++) {
        const pb_kernel_output *o = NULL;
        for (int k = 0; k < n; k++)
            if (list[k].t.data == layer->tensors[i].data) o = &list[k];
        if (!o && pb_contents_differ(start, want, i))
            return PB_ERROR(PB_E_BUG, "%s: the reference writes tensor %d, which is no output of it",
                            pb_op_name(op), i);
        if (!pb_contents_differ(want, got, i)) continue;
        snprintf(name, sizeof name, "tensor %d, an input", i);
        if (!o) {
            judge_equal(name, want, got, i, out);
        } else if (o->codes != PB_NO_CODES) {
            judge_codes(o, want, got, i, out);
        } else if (o->t.dtype == PB_I32) {
            judge_equal(o->name, want, got, i, out);
        } else {
            double inner = o->inner && layer->dtype == PB_BF16 ? U16 : 0;
            double angle = largest_position(o, layer, start);
            judge_reals(o, allowed_of(o, inner, angle, rms_of(want, i)), want, got, i, out);
        }
    }
    return PB_OK;
}

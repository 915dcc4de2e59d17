/* The vocabulary of argument checks. */
#include "kernels/core/check.h"

#include <stdarg.h>
#include <stdio.h>

void pb_check_fail(pb_check *c, const char *fmt, ...) {
    if (c->status != PB_OK) return;
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->status = PB_ERROR(PB_E_BUG, "%s: %s", c->op, text);
}

bool pb_check_true(pb_check *c, bool cond, const char *what) {
    if (c->status == PB_OK && !cond) pb_check_fail(c, "does not hold: %s", what);
    return c->status == PB_OK;
}

static void list_dtypes(unsigned dtypes, char *out, size_t cap) {
    size_t len = 0;
    out[0] = '\0';
    for (int d = 0; d < PB_DTYPE_COUNT; d++) {
        if ((dtypes & PB_IS(d)) == 0 || len >= cap) continue;
        len += (size_t)snprintf(out + len, cap - len, "%s%s", len == 0 ? "" : "|",
                                pb_dtype_name((pb_dtype)d));
    }
}

static void list_extent(int64_t n, char *out, size_t cap) {
    if (n < 0) {
        snprintf(out, cap, "any");
    } else {
        snprintf(out, cap, "%lld", (long long)n);
    }
}

static bool well_formed(pb_tensor t) {
    if (!pb_has(t) || (unsigned)t.dtype >= PB_DTYPE_COUNT || t.ndim < 1 || t.ndim > PB_MAX_DIMS)
        return false;
    for (int i = 0; i < t.ndim; i++) {
        if (t.dim[i] < 0) return false;
    }
    return pb_rows(t) <= 1 || t.stride >= pb_cols(t);
}

bool pb_check_mat(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t rows,
                  int64_t cols) {
    if (c->status != PB_OK) return false;
    if (!pb_has(t)) {
        pb_check_fail(c, "%s is missing", name);
        return false;
    }
    bool fits = well_formed(t) && (dtypes & PB_IS(t.dtype)) != 0 &&
                (rows < 0 || pb_rows(t) == rows) && (cols < 0 || pb_cols(t) == cols);
    if (fits) return true;
    char want[40], r[24], k[24];
    list_dtypes(dtypes, want, sizeof want);
    list_extent(rows, r, sizeof r);
    list_extent(cols, k, sizeof k);
    pb_check_fail(c, "%s is %lld x %lld %s (%d dims, stride %lld), expected %s x %s %s", name,
                  (long long)pb_rows(t), (long long)pb_cols(t), pb_dtype_name(t.dtype), t.ndim,
                  (long long)t.stride, r, k, want);
    return false;
}

bool pb_check_vec(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t n) {
    if (!pb_check_mat(c, name, t, dtypes, -1, -1)) return false;
    if (!pb_contiguous(t) || (n >= 0 && pb_numel(t) != n)) {
        pb_check_fail(
            c, "%s has %lld elements (%lld x %lld, stride %lld), expected %lld contiguous ones",
            name, (long long)pb_numel(t), (long long)pb_rows(t), (long long)pb_cols(t),
            (long long)t.stride, (long long)n);
        return false;
    }
    return true;
}

bool pb_check_opt_mat(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t rows,
                      int64_t cols) {
    return pb_has(t) ? pb_check_mat(c, name, t, dtypes, rows, cols) : c->status == PB_OK;
}

bool pb_check_opt_vec(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t n) {
    return pb_has(t) ? pb_check_vec(c, name, t, dtypes, n) : c->status == PB_OK;
}

/* --- aliasing --------------------------------------------------------------------------------- */

static uintptr_t end_of(pb_tensor t) {
    int64_t rows = pb_rows(t), last = rows > 1 ? (rows - 1) * t.stride : 0;
    return (uintptr_t)t.data + (uintptr_t)(last + pb_cols(t)) * pb_dtype_size(t.dtype);
}

static bool overlap(pb_tensor a, pb_tensor b) {
    if (!pb_has(a) || !pb_has(b) || pb_numel(a) == 0 || pb_numel(b) == 0) return false;
    uintptr_t pa = (uintptr_t)a.data, pb = (uintptr_t)b.data;
    if (end_of(a) <= pb || end_of(b) <= pa) return false;
    uintptr_t sa = (uintptr_t)a.stride * pb_dtype_size(a.dtype),
              sb = (uintptr_t)b.stride * pb_dtype_size(b.dtype);
    if (sa != sb || pb_rows(a) <= 1 || pb_rows(b) <= 1) return true;
    uintptr_t wa = (uintptr_t)pb_cols(a) * pb_dtype_size(a.dtype),
              wb = (uintptr_t)pb_cols(b) * pb_dtype_size(b.dtype);
    /* Column slices of one matrix: compare where they stand within a row. */
    uintptr_t d = pb >= pa ? (pb - pa) % sa : (sa - (pa - pb) % sa) % sa;
    return !(d >= wa && d + wb <= sa);
}

bool pb_check_apart(pb_check *c, const char *an, pb_tensor a, const char *bn, pb_tensor b) {
    if (c->status == PB_OK && overlap(a, b))
        pb_check_fail(c, "%s and %s overlap in memory", an, bn);
    return c->status == PB_OK;
}

static bool same(pb_tensor a, pb_tensor b) {
    return a.data == b.data && a.dtype == b.dtype && pb_rows(a) == pb_rows(b) &&
           pb_cols(a) == pb_cols(b) && (a.stride == b.stride || pb_rows(a) <= 1);
}

bool pb_check_same_or_apart(pb_check *c, const char *an, pb_tensor a, const char *bn, pb_tensor b) {
    if (c->status == PB_OK && !same(a, b) && overlap(a, b)) {
        pb_check_fail(c, "%s and %s overlap in memory but are not the same tensor", an, bn);
    }
    return c->status == PB_OK;
}

bool pb_check_narrowed_or_apart(pb_check *c, const char *an, pb_tensor a, const char *bn, pb_tensor b) {
    if (c->status == PB_OK && pb_has(a) && pb_has(b) &&
        pb_dtype_size(a.dtype) < pb_dtype_size(b.dtype) && same(a, pb_narrowed(b, a.dtype)))
        return true;
    return pb_check_same_or_apart(c, an, a, bn, b);
}

/* --- compound arguments ----------------------------------------------------------------------- */

bool pb_check_drop(pb_check *c, pb_drop drop) {
    if (c->status == PB_OK && !(drop.p >= 0.0f && drop.p < 1.0f)) {
        pb_check_fail(c, "drop.p is %g, expected 0 <= p < 1", (double)drop.p);
    }
    return c->status == PB_OK;
}

bool pb_check_quant4(pb_check *c, const pb_quant4 *q) {
    if (c->status != PB_OK) return false;
    if ((unsigned)q->code >= PB_CODE_COUNT || q->block < 2 || q->block % 2 != 0 || q->out < 0 ||
        q->in < 0) {
        pb_check_fail(c, "q has code %d, block %d, shape %lld x %lld", (int)q->code, q->block,
                      (long long)q->out, (long long)q->in);
        return false;
    }
    int64_t n = q->out * q->in, blocks = (n + q->block - 1) / q->block;
    unsigned master = PB_IS(pb_dtype_master(q->compute));
    pb_check_vec(c, "q.codes", q->codes, PB_IS(PB_U8), (n + 1) / 2);
    if (!q->double_quant) return pb_check_vec(c, "q.absmax", q->absmax, master, blocks);
    pb_check_vec(c, "q.absmax_q", q->absmax_q, PB_IS(PB_U8), blocks);
    pb_check_vec(c, "q.absmax2", q->absmax2, master, (blocks + 255) / 256);
    return pb_check_vec(c, "q.offset", q->offset, master, 1);
}

bool pb_check_weight(pb_check *c, pb_weight w, pb_dtype dtype, int64_t out, int64_t in) {
    if (c->status != PB_OK) return false;
    if (pb_has(w.dense) == (w.quant != NULL)) {
        pb_check_fail(c, "w must be either dense or quantised");
        return false;
    }
    if (w.quant == NULL) return pb_check_mat(c, "w.dense", w.dense, PB_IS(dtype), out, in);
    if (!pb_check_quant4(c, w.quant)) return false;
    if (w.quant->compute != dtype || (out >= 0 && w.quant->out != out) ||
        (in >= 0 && w.quant->in != in)) {
        pb_check_fail(c, "w.quant is %lld x %lld %s, expected %lld x %lld %s (-1 = any)",
                      (long long)w.quant->out, (long long)w.quant->in,
                      pb_dtype_name(w.quant->compute), (long long)out, (long long)in,
                      pb_dtype_name(dtype));
        return false;
    }
    return true;
}

double pb_work_quant_bytes(const pb_quant4 *q) {
    return pb_work_bytes(q->codes) + pb_work_bytes(q->absmax) + pb_work_bytes(q->absmax_q) +
           pb_work_bytes(q->absmax2) + pb_work_bytes(q->offset);
}

double pb_work_weight_bytes(pb_weight w) {
    return w.quant != NULL ? pb_work_quant_bytes(w.quant) : pb_work_bytes(w.dense);
}

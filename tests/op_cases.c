/* Instances of op cases: values, binding, guards, comparison. The rows of the table are in
 * op_table.c. */
#include "tests/op_cases.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTE 0xA5

/* --- values ----------------------------------------------------------------------------------- */

double op_round(pb_dtype dtype, double v) {
    if (dtype == PB_F32) return (double)(float)v;
    if (dtype == PB_BF16) return (double)pb_bf16_to_f32(pb_f32_to_bf16((float)v));
    return v;
}

static bool is_real(pb_dtype dtype) {
    return dtype == PB_F32 || dtype == PB_BF16 || dtype == PB_F64;
}

bool op_has(const op_instance *t, unsigned flag) { return (t->def->flags & flag) != 0; }
pb_dtype op_master(const op_instance *t) { return pb_dtype_master(t->dtype); }

uint32_t op_draw(const op_instance *t, int slot, int64_t i) {
    return pb_random_u32(t->seed, (uint64_t)slot, (uint64_t)i);
}

pb_drop op_drop(const op_instance *t) {
    return (pb_drop){
        .p = op_has(t, OC_DROP) ? 0.25f : 0.0f, .key = t->seed, .stream = 0x1234567890abcdefu};
}

static op_slot *new_slot(op_instance *t, const char *name, pb_tensor *where, pb_dtype dtype,
                         op_role role) {
    PB_ASSERT(t->n < OP_SLOTS);
    op_slot *s = &t->slot[t->n++];
    *s = (op_slot){
        .name = name, .where = where, .dtype = dtype, .role = role, .alias_of = -1, .wrt = -1};
    s->exact = op_has(t, OC_EXACT);
    s->terms = 1.0;
    s->mag = 1.0;
    return s;
}

static void fill(op_instance *t, op_slot *s, double scale) {
    int64_t n = s->rows * s->cols;
    s->valid = n;
    s->init = malloc((size_t)(n + 1) * sizeof *s->init);
    PB_ASSERT(s->init != NULL);
    for (int64_t i = 0; i < n; i++) {
        uint32_t r = op_draw(t, op_index(t, s), i);
        double v = scale * (2.0 * (double)pb_u01(r) - 1.0);
        if (op_has(t, OC_EXACT)) v = (double)(r % 7) - 3.0;
        s->init[i] = s->role == OP_OUT ? NAN : op_round(s->dtype, v);
    }
}

op_slot *op_mat(op_instance *t, const char *name, pb_tensor *where, pb_dtype dtype, int64_t rows,
                int64_t cols, op_role role, double scale) {
    op_slot *s = new_slot(t, name, where, dtype, role);
    s->ndim = 2;
    s->rows = rows;
    s->cols = cols;
    s->stride = cols + (op_has(t, OC_STRIDED) ? 3 + 2 * t->n : 0);
    fill(t, s, scale);
    return s;
}

op_slot *op_vec(op_instance *t, const char *name, pb_tensor *where, pb_dtype dtype, int64_t n,
                op_role role, double scale) {
    op_slot *s = new_slot(t, name, where, dtype, role);
    s->ndim = 1;
    s->rows = 1;
    s->cols = s->stride = n;
    fill(t, s, scale);
    return s;
}

op_slot *op_ints(op_instance *t, const char *name, pb_tensor *where, pb_dtype dtype, int64_t n,
                 int64_t lo, int64_t hi) {
    op_slot *s = op_vec(t, name, where, dtype, n, OP_IN, 1.0);
    for (int64_t i = 0; i < n; i++) {
        s->init[i] = (double)(lo +
                              (int64_t)(op_draw(t, op_index(t, s), i) % (uint32_t)(hi - lo + 1)));
    }
    return s;
}

void op_positive(op_slot *s) {
    for (int64_t i = 0; i < s->rows * s->cols; i++)
        s->init[i] = op_round(s->dtype, fabs(s->init[i]) + 0.5);
}

op_slot *op_bound_by(op_slot *s, double terms, double mag, double mid) {
    s->terms = terms;
    s->mag = mag;
    s->mid = mid;
    return s;
}

int op_index(const op_instance *t, const op_slot *s) { return (int)(s - t->slot); }

void op_share(op_instance *t, op_slot *s, op_slot *owner) {
    s->alias_of = op_index(t, owner);
    s->stride = owner->stride * (int64_t)(pb_dtype_size(owner->dtype) / pb_dtype_size(s->dtype));
}

void op_gradient(op_instance *t, op_slot *grad, op_slot *of, double keeps) {
    grad->wrt = op_index(t, of);
    grad->keeps = keeps;
}

/* --- building --------------------------------------------------------------------------------- */

static void (*const builders[PB_OP_COUNT])(op_instance *t, const int64_t *d) = {
#define X(op_name) [PB_OP_##op_name] = op_build_##op_name,
    PB_OPS(X)
#undef X
};

op_instance *op_case_build(const op_case *def, pb_dtype dtype) {
    op_instance *t = calloc(1, sizeof *t);
    PB_ASSERT(t != NULL);
    t->def = def;
    t->op = def->op;
    t->dtype = dtype;
    t->dy = -1;
    t->weight = 1.0;
    snprintf(t->name, sizeof t->name, "%s/%s/%s", pb_op_name(def->op), def->name,
             pb_dtype_name(dtype));
    const char *seed = getenv("PB_SEED");
    t->seed = seed != NULL ? strtoull(seed, NULL, 0) : pb_random_stream(t->name, 0, 0);
    builders[def->op](t, def->d);
    return t;
}

void op_case_free(op_instance *t) {
    if (t == NULL) return;
    for (int i = 0; i < t->n; i++) free(t->slot[i].init);
    free(t);
}

/* --- device memory ---------------------------------------------------------------------------- */

static size_t body_bytes(const op_slot *s) {
    int64_t elements = s->rows > 0 ? (s->rows - 1) * s->stride + s->cols : 0;
    return (size_t)elements * pb_dtype_size(s->dtype);
}

static void encode(pb_dtype dtype, unsigned char *at, double v) {
    float f = (float)v;
    uint16_t h = pb_f32_to_bf16(f);
    int32_t i = isnan(v) ? -1 : (int32_t)v;
    unsigned char u = isnan(v) ? 0xff : (unsigned char)v;
    switch (dtype) {
    case PB_F32: memcpy(at, &f, sizeof f); break;
    case PB_BF16: memcpy(at, &h, sizeof h); break;
    case PB_F64: memcpy(at, &v, sizeof v); break;
    case PB_I32: memcpy(at, &i, sizeof i); break;
    default: *at = u; break;
    }
}

static double decode(pb_dtype dtype, const unsigned char *at) {
    float f = 0.0f;
    uint16_t h = 0;
    double v = 0.0;
    int32_t i = 0;
    switch (dtype) {
    case PB_F32: memcpy(&f, at, sizeof f); return (double)f;
    case PB_BF16: memcpy(&h, at, sizeof h); return (double)pb_bf16_to_f32(h);
    case PB_F64: memcpy(&v, at, sizeof v); return v;
    case PB_I32: memcpy(&i, at, sizeof i); return (double)i;
    default: return (double)*at;
    }
}

/* Around every operand; none where a memory checker watches its ends. */
static size_t guard(void) { return getenv("PB_MEMORY_SEPARATE") != NULL ? 0 : 256; }

/* The bytes of a slot with its guards, as they stand before the op. */
static unsigned char *image(const op_slot *s) {
    size_t bytes = 2 * guard() + body_bytes(s), size = pb_dtype_size(s->dtype);
    unsigned char *p = malloc(bytes);
    PB_ASSERT(p != NULL);
    memset(p, GUARD_BYTE, bytes);
    for (int64_t r = 0; r < s->rows; r++) {
        for (int64_t c = 0; c < s->cols; c++) {
            encode(s->dtype, p + guard() + (size_t)(r * s->stride + c) * size,
                   s->init[r * s->cols + c]);
        }
    }
    return p;
}

pb_status op_bind(op_instance *t, pb_device *dev, op_bound *bound) {
    *bound = (op_bound){0};
    for (int i = 0; i < t->n; i++) {
        op_slot *s = &t->slot[i];
        int owner = s->alias_of >= 0 ? s->alias_of : i;
        if (owner == i) {
            unsigned char *host = image(s);
            bound->bytes[i] = 2 * guard() + body_bytes(s);
            pb_status status = pb_alloc1(dev, PB_MEM_DATA, PB_U8, (int64_t)bound->bytes[i],
                                         &bound->memory[i]);
            if (status == PB_OK)
                status = pb_device_put(dev, bound->memory[i], host, bound->bytes[i]);
            free(host);
            PB_RETURN(status);
        }
        pb_tensor *w = s->where;
        *w = (pb_tensor){.dtype = s->dtype, .ndim = s->ndim, .stride = s->stride};
        w->data = (char *)bound->memory[owner].data + guard();
        w->dim[0] = s->ndim == 2 ? s->rows : s->cols;
        w->dim[1] = s->ndim == 2 ? s->cols : 0;
    }
    return PB_OK;
}

pb_status op_fetch(const op_instance *t, pb_device *dev, const op_bound *bound,
                   unsigned char *raw[OP_SLOTS]) {
    for (int i = 0; i < OP_SLOTS; i++) raw[i] = NULL;
    for (int i = 0; i < t->n; i++) {
        if (bound->bytes[i] == 0) continue;
        raw[i] = malloc(bound->bytes[i]);
        PB_ASSERT(raw[i] != NULL);
        PB_RETURN(pb_device_get(dev, raw[i], bound->memory[i], bound->bytes[i]));
    }
    return PB_OK;
}

void op_read(const op_instance *t, int i, unsigned char *const raw[OP_SLOTS], double *values) {
    const op_slot *s = &t->slot[i];
    const unsigned char *p = raw[s->alias_of >= 0 ? s->alias_of : i] + guard();
    for (int64_t r = 0; r < s->rows; r++) {
        for (int64_t c = 0; c < s->cols; c++) {
            values[r * s->cols + c] = decode(s->dtype, p + (size_t)(r * s->stride + c) *
                                                               pb_dtype_size(s->dtype));
        }
    }
}

/* True when an output of the op may write into slot i's memory. */
static bool is_written(const op_instance *t, int i) {
    if (t->slot[i].role != OP_IN) return true;
    for (int k = 0; k < t->n; k++) {
        if (t->slot[k].alias_of == i && t->slot[k].role != OP_IN) return true;
    }
    return false;
}

const char *op_damage(const op_instance *t, unsigned char *const raw[OP_SLOTS], char *text,
                      size_t cap) {
    for (int i = 0; i < t->n; i++) {
        if (raw[i] == NULL) continue;
        const op_slot *s = &t->slot[i];
        size_t bytes = 2 * guard() + body_bytes(s), size = pb_dtype_size(s->dtype), bad = SIZE_MAX;
        unsigned char *before = image(s);
        bool written = is_written(t, i);
        for (size_t k = 0; k < bytes && bad == SIZE_MAX; k++) {
            bool body = k >= guard() && k < bytes - guard();
            bool element = body && (k - guard()) / size % (size_t)s->stride < (size_t)s->cols;
            if (element && written) continue;
            if (raw[i][k] != before[k]) bad = k;
        }
        free(before);
        if (bad == SIZE_MAX) continue;
        snprintf(text, cap, "%s: %s of %s was overwritten, byte %zd of its %zu", t->name,
                 bad < guard() || bad >= bytes - guard() ? "the guard"
                 : written                           ? "a gap between rows"
                                                     : "the input",
                 s->name, (ssize_t)bad - (ssize_t)guard(), bytes - 2 * guard());
        return text;
    }
    return NULL;
}

/* --- derived values and comparison ------------------------------------------------------------ */

pb_status op_case_derive(op_instance *t, pb_device *ref) {
    if (t->forward == NULL) return PB_OK;
    op_bound bound;
    pb_tensor y;
    unsigned char *raw[OP_SLOTS] = {0};
    pb_status status = PB_OK;
    PB_TRY(op_bind(t, ref, &bound));
    PB_TRY(t->forward(ref, t, &y));
    PB_TRY(op_fetch(t, ref, &bound, raw));
    for (int i = 0; i < t->n; i++) {
        if (t->slot[i].derived) op_read(t, i, raw, t->slot[i].init);
    }
done:
    for (int i = 0; i < OP_SLOTS; i++) free(raw[i]);
    return status;
}

static double unit(pb_dtype dtype) {
    return dtype == PB_F64 ? 0x1p-52 : dtype == PB_F32 ? 0x1p-23 : dtype == PB_BF16 ? 0x1p-7 : 0.0;
}

static double allowed(const op_instance *t, const op_slot *s, double want) {
    if (s->exact || !is_real(s->dtype)) return s->code ? 1.0 : 0.0;
    double acc = unit(op_master(t)), root = sqrt(s->terms);
    return 2.0 * unit(s->dtype) * fabs(want) + acc * (4.0 + root) * s->terms * s->mag +
           s->mid * 6.0 * unit(t->dtype) * root * s->mag + s->extra;
}

const char *op_compare(const op_instance *t, unsigned char *const got[OP_SLOTS],
                       unsigned char *const want[OP_SLOTS], double *used, char *text, size_t cap) {
    const char *fault = NULL;
    *used = 0.0;
    for (int i = 0; i < t->n; i++) {
        const op_slot *s = &t->slot[i];
        if (s->role == OP_IN) continue;
        int64_t n = s->rows * s->cols;
        double *a = malloc((size_t)(n + 1) * sizeof *a), *b = malloc((size_t)(n + 1) * sizeof *b);
        PB_ASSERT(a != NULL && b != NULL);
        op_read(t, i, got, a);
        op_read(t, i, want, b);
        for (int64_t k = 0; k < s->valid; k++) {
            double tol = allowed(t, s, b[k]), err = fabs(a[k] - b[k]);
            double part = err == 0.0 ? 0.0 : err / tol;
            if (!(part <= *used)) *used = isnan(part) ? INFINITY : part;
            if (err <= tol || fault != NULL) continue; /* a NaN on either side is not <= */
            snprintf(text, cap,
                     "%s: %s[%" PRId64 ",%" PRId64 "] is %.9g, expected %.9g +- %.3g (seed %" PRIu64
                     ")",
                     t->name, s->name, k / s->cols, k % s->cols, a[k], b[k], tol, t->seed);
            fault = text;
        }
        free(a);
        free(b);
    }
    return fault;
}

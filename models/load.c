/* Weights from a checkpoint to the device, slab by slab, so that the host never holds more than a
 * few MB of them; and the names they have there. Test: tests/test_model.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "models/transformer.h"

#define SLAB ((int64_t)1 << 19) /* elements converted at a time */
#define RANDOM_SIGMA 0.02

/* --- names ----------------------------------------------------------------------------------- */

pb_status pb_part_name(const pb_family *family, const pb_part_ref *ref, bool tensor, char *out,
                       size_t cap) {
    const pb_part_source *source = &family->part[ref->part];
    const char *pattern = tensor && source->tensor ? source->tensor : source->name;
    if (!pattern)
        return PB_ERROR(PB_E_BUG, "family %s has no part %d", family->name, (int)ref->part);
    const char *mark = strchr(pattern, '#');
    int n = mark ? snprintf(out, cap, "%.*s%d%s.%s", (int)(mark - pattern), pattern, ref->layer,
                            mark + 1, ref->leaf)
                 : snprintf(out, cap, "%s.%s", pattern, ref->leaf);
    if (n < 0 || (size_t)n >= cap)
        return PB_ERROR(PB_E_BUG, "the name of part %d is too long", (int)ref->part);
    return PB_OK;
}

/* As named, with the family's prefix added, or taken off. */
static const pb_stored_tensor *find(const pb_safetensors *st, const pb_family *family,
                                    const char *name) {
    char other[160];
    const pb_stored_tensor *t = pb_safetensors_find(st, name);
    if (t || !family->prefix) return t;
    size_t n = strlen(family->prefix);
    if (!strncmp(name, family->prefix, n)) return pb_safetensors_find(st, name + n);
    int len = snprintf(other, sizeof other, "%s%s", family->prefix, name);
    return len > 0 && (size_t)len < sizeof other ? pb_safetensors_find(st, other) : NULL;
}

/* --- shapes ---------------------------------------------------------------------------------- */

static void shape_text(pb_text *out, const int64_t *dim, int ndim) {
    pb_text_add(out, "[");
    for (int i = 0; i < ndim; i++) pb_text_add(out, "%s%lld", i ? "," : "", (long long)dim[i]);
    pb_text_add(out, "]");
}

/* The stored shape that a part of [dim0,dim1] needs. */
static int stored_shape(const pb_part_source *s, const pb_part_ref *ref, int64_t want[2]) {
    int64_t rows = (s->slices ? ref->dim0 * s->slices : ref->dim0) + s->skip_rows;
    bool swap = ref->dim1 && s->transposed;
    want[0] = swap ? ref->dim1 : rows;
    want[1] = swap ? rows : ref->dim1;
    return ref->dim1 ? 2 : 1;
}

static pb_status locate(const pb_model *m, const pb_safetensors *st, const pb_part_ref *ref,
                        const pb_stored_tensor **out) {
    char name[128];
    int64_t want[2] = {0, 0};
    int ndim = stored_shape(&m->family->part[ref->part], ref, want);
    PB_RETURN(pb_part_name(m->family, ref, true, name, sizeof name));
    const pb_stored_tensor *t = find(st, m->family, name);
    pb_text expected = {0}, found = {0};
    pb_status status = PB_OK;
    shape_text(&expected, want, ndim);
    if (!t) {
        PB_FAIL(PB_E_INPUT,
                "%s: tensor %s is missing (with and without the prefix \"%s\"), expected shape %s",
                pb_safetensors_path(st), name, m->family->prefix ? m->family->prefix : "",
                expected.data ? expected.data : "");
    }
    shape_text(&found, t->dim, t->ndim);
    if (t->ndim != ndim || t->dim[0] != want[0] || (ndim == 2 && t->dim[1] != want[1])) {
        PB_FAIL(PB_E_INPUT, "%s: tensor %s has shape %s, expected %s", t->file, t->name,
                found.data ? found.data : "", expected.data ? expected.data : "");
    }
    *out = t;
done:
    pb_text_free(&expected);
    pb_text_free(&found);
    return status;
}

/* --- values ---------------------------------------------------------------------------------- */

/* Where a slab of rows goes: f64 for f64 tensors, else f32. */
typedef struct pb_slab {
    double *f64;
    float *f32;
    double *line64; /* scratch for one stored row of a transposed tensor */
    float *line32;
} pb_slab;

static pb_status read_run(const pb_stored_tensor *t, int64_t from, int64_t n, const pb_slab *s,
                          int64_t at) {
    return s->f64 ? pb_stored_tensor_f64(t, from, n, s->f64 + at)
                  : pb_stored_tensor_f32(t, from, n, s->f32 + at);
}

/* Rows [row, row+n) of the part out of a tensor stored [in, stored_out]: one strip of each stored
 * row, transposed. */
static pb_status read_transposed(const pb_stored_tensor *t, int64_t row, int64_t n, int64_t in,
                                 const pb_slab *s) {
    int64_t stored_out = t->dim[1];
    for (int64_t j = 0; j < in; j++) {
        if (s->f64) {
            PB_RETURN(pb_stored_tensor_f64(t, j * stored_out + row, n, s->line64));
            for (int64_t i = 0; i < n; i++) s->f64[i * in + j] = s->line64[i];
        } else {
            PB_RETURN(pb_stored_tensor_f32(t, j * stored_out + row, n, s->line32));
            for (int64_t i = 0; i < n; i++) s->f32[i * in + j] = s->line32[i];
        }
    }
    return PB_OK;
}

static pb_status copy_rows(pb_model *m, const pb_stored_tensor *t, const pb_part_ref *ref,
                           pb_tensor dst, const pb_slab *s, int64_t slab_rows) {
    const pb_part_source *source = &m->family->part[ref->part];
    int64_t cols = ref->dim1 ? ref->dim1 : 1;
    int64_t first = source->skip_rows + (source->slices ? source->slice * ref->dim0 : 0);
    pb_tensor rows = pb_reshape(dst, ref->dim0, cols);
    for (int64_t at = 0; at < ref->dim0; at += slab_rows) {
        int64_t n = ref->dim0 - at < slab_rows ? ref->dim0 - at : slab_rows;
        pb_tensor part = pb_rows_of(rows, at, n);
        if (ref->dim1 && source->transposed) PB_RETURN(read_transposed(t, first + at, n, cols, s));
        else PB_RETURN(read_run(t, (first + at) * cols, n * cols, s, 0));
        if (s->f64) PB_RETURN(pb_device_put_f64(m->dev, part, s->f64));
        else PB_RETURN(pb_device_put_f32(m->dev, part, s->f32));
    }
    return PB_OK;
}

static pb_status copy_stored(pb_model *m, const pb_stored_tensor *t, const pb_part_ref *ref,
                             pb_tensor dst) {
    pb_status status = PB_OK;
    int64_t cols = ref->dim1 ? ref->dim1 : 1, rows = SLAB / cols < 1 ? 1 : SLAB / cols;
    bool wide = dst.dtype == PB_F64;
    pb_slab s = {0};
    if (rows > ref->dim0) rows = ref->dim0;
    size_t n = (size_t)(rows * cols), line = (size_t)rows;
    if (wide) {
        s.f64 = malloc(n * sizeof *s.f64);
        s.line64 = malloc(line * sizeof *s.line64);
    } else {
        s.f32 = malloc(n * sizeof *s.f32);
        s.line32 = malloc(line * sizeof *s.line32);
    }
    if (wide ? !s.f64 || !s.line64 : !s.f32 || !s.line32) {
        PB_FAIL(PB_E_OOM, "%s: no memory to convert tensor %s", t->file, t->name);
    }
    PB_TRY(copy_rows(m, t, ref, dst, &s, rows));
done:
    free(s.f64);
    free(s.line64);
    free(s.f32);
    free(s.line32);
    return status;
}

/* Benchmarks: uniform with the usual standard deviation; norms are the identity, biases zero. */
static pb_status fill_random(pb_model *m, const pb_part_ref *ref, pb_tensor dst) {
    double half = RANDOM_SIGMA * sqrt(3.0);
    pb_part p = ref->part;
    bool norm = p == PB_PART_EMBED_NORM || p == PB_PART_ATTN_NORM || p == PB_PART_MLP_NORM ||
                p == PB_PART_FINAL_NORM;
    if (!strcmp(ref->leaf, "bias")) return PB_OK; /* zero as allocated */
    pb_fill_uniform_args args = {
        .x = dst,
        .lo = norm ? 1 : -half,
        .hi = norm ? 1 : half,
        .key = m->options.seed,
        .stream = pb_random_stream("base", (uint64_t)ref->part, (uint64_t)(ref->layer + 1))};
    return pb_fill_uniform(m->dev, &args);
}

pb_status pb_part_load(pb_model *m, const pb_safetensors *weights, const pb_part_ref *ref,
                       pb_tensor dst) {
    const pb_stored_tensor *t = NULL;
    if (!weights) return pb_device_computes(m->dev) ? fill_random(m, ref, dst) : PB_OK;
    PB_RETURN(locate(m, weights, ref, &t));
    /* A plan checks what a run would refuse: a read of nothing checks the dtype. */
    if (!pb_device_computes(m->dev)) return pb_stored_tensor_f32(t, 0, 0, NULL);
    return copy_stored(m, t, ref, dst);
}

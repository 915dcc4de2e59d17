/* One face for the C interfaces of oneDNN 2 and 3: the only place that knows the version. Private
 * to kernels/cpu.
 *
 * A dnnl_memory_desc_t is a struct in 2 and an owned pointer in 3; {0} is the empty one in both.
 * A constant factor of the product is an attribute that scales the bias as well in 2; in 3 it is
 * one more argument, a single f32, and the bias is added after it. */
#ifndef PB_KERNELS_CPU_DNNL_H
#define PB_KERNELS_CPU_DNNL_H

#include <dnnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if DNNL_VERSION_MAJOR >= 3

typedef const_dnnl_memory_desc_t pb_dnnl_view;
#define PB_DNNL_SCALES_BIAS false
#define PB_DNNL_ARG_SCALE (DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC)

static inline pb_dnnl_view pb_dnnl_look(const dnnl_memory_desc_t *md) { return *md; }

static inline void pb_dnnl_forget(dnnl_memory_desc_t *md) {
    if (*md != NULL) (void)dnnl_memory_desc_destroy(*md);
    *md = NULL;
}

/* A matrix of elements row_step and col_step apart. */
static inline bool pb_dnnl_matrix(dnnl_memory_desc_t *md, int64_t rows, int64_t cols,
                                  dnnl_data_type_t type, int64_t row_step, int64_t col_step) {
    dnnl_dims_t dims = {rows, cols}, steps = {row_step, col_step};
    return dnnl_memory_desc_create_with_strides(md, 2, dims, type, steps) == dnnl_success;
}

/* *md becomes the description of the argument PB_DNNL_ARG_SCALE. */
static inline bool pb_dnnl_scale(dnnl_primitive_attr_t attr, float factor, dnnl_memory_desc_t *md) {
    (void)factor;
    dnnl_dims_t one = {1};
    return dnnl_memory_desc_create_with_strides(md, 1, one, dnnl_f32, one) == dnnl_success &&
           dnnl_primitive_attr_set_scales_mask(attr, DNNL_ARG_SRC, 0) == dnnl_success;
}

static inline bool pb_dnnl_sum(dnnl_post_ops_t ops, float factor) {
    return dnnl_post_ops_append_sum(ops, factor, 0, dnnl_data_type_undef) == dnnl_success;
}

static inline bool pb_dnnl_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, pb_dnnl_view a,
                                  pb_dnnl_view b, pb_dnnl_view bias, pb_dnnl_view c,
                                  const_dnnl_primitive_attr_t attr) {
    return dnnl_matmul_primitive_desc_create(pd, engine, a, b, bias, c, attr) == dnnl_success;
}

#else

typedef const dnnl_memory_desc_t *pb_dnnl_view;
#define PB_DNNL_SCALES_BIAS true
#define PB_DNNL_ARG_SCALE 0 /* no such argument */

static inline pb_dnnl_view pb_dnnl_look(const dnnl_memory_desc_t *md) {
    return md->ndims > 0 ? md : NULL;
}

static inline void pb_dnnl_forget(dnnl_memory_desc_t *md) { (void)md; }

static inline bool pb_dnnl_matrix(dnnl_memory_desc_t *md, int64_t rows, int64_t cols,
                                  dnnl_data_type_t type, int64_t row_step, int64_t col_step) {
    dnnl_dims_t dims = {rows, cols}, steps = {row_step, col_step};
    return dnnl_memory_desc_init_by_strides(md, 2, dims, type, steps) == dnnl_success;
}

static inline bool pb_dnnl_scale(dnnl_primitive_attr_t attr, float factor, dnnl_memory_desc_t *md) {
    (void)md;
    return dnnl_primitive_attr_set_output_scales(attr, 1, 0, &factor) == dnnl_success;
}

static inline bool pb_dnnl_sum(dnnl_post_ops_t ops, float factor) {
    return dnnl_post_ops_append_sum(ops, factor) == dnnl_success;
}

static inline bool pb_dnnl_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, pb_dnnl_view a,
                                  pb_dnnl_view b, pb_dnnl_view bias, pb_dnnl_view c,
                                  const_dnnl_primitive_attr_t attr) {
    dnnl_matmul_desc_t desc;
    return dnnl_matmul_desc_init(&desc, a, b, bias, c) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &desc, attr, engine, NULL) == dnnl_success;
}

#endif
#endif

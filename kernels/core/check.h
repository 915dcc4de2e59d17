/* Argument checks and work counting of the ops: shared by kernels/ops*.c. Private to them.
 *
 * A pb_check remembers its first failure; later checks do nothing. Messages: "gemm: b is 4 x 5
 * bf16, expected 3 rows". */
#ifndef PB_KERNELS_CORE_CHECK_H
#define PB_KERNELS_CORE_CHECK_H

#include "kernels/ops.h"

typedef struct pb_check {
    const char *op;
    pb_status status;
} pb_check;

/* Sets of dtypes. */
#define PB_IS(dtype) (1u << (dtype))
#define PB_REAL      (PB_IS(PB_F32) | PB_IS(PB_BF16) | PB_IS(PB_F64))

#define PB_ARG(args, name) #name, (args)->name /* name and tensor of one argument */

void pb_check_fail(pb_check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* False and a failure unless cond. */
bool pb_check_true(pb_check *c, bool cond, const char *what);
/* A tensor with a dtype of the set that is rows x cols when its leading dimensions are flattened;
 * -1 = any. */
bool pb_check_mat(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t rows,
                  int64_t cols);
/* Contiguous, n elements in whatever shape. */
bool pb_check_vec(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t n);
/* The same for arguments that may be left out. */
bool pb_check_opt_mat(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t rows,
                      int64_t cols);
bool pb_check_opt_vec(pb_check *c, const char *name, pb_tensor t, unsigned dtypes, int64_t n);
/* No common element; one of them absent is fine. Column slices of one matrix do not overlap. */
bool pb_check_apart(pb_check *c, const char *an, pb_tensor a, const char *bn, pb_tensor b);
/* As apart, or exactly the same elements in the same places. */
bool pb_check_same_or_apart(pb_check *c, const char *an, pb_tensor a, const char *bn, pb_tensor b);
/* As same or apart, or matrix a is pb_narrowed(b): for ops that have read all of a row's beginning before they write it. */
bool pb_check_narrowed_or_apart(pb_check *c, const char *an, pb_tensor a, const char *bn, pb_tensor b);
bool pb_check_drop(pb_check *c, pb_drop drop);
/* A quantised matrix with all its tensors. */
bool pb_check_quant4(pb_check *c, const pb_quant4 *q);
/* Stored weight whose compute dtype is `dtype`; out, in: -1 = any. */
bool pb_check_weight(pb_check *c, pb_weight w, pb_dtype dtype, int64_t out, int64_t in);

/* Bytes of the elements as a double; 0 for "no tensor". */
static inline double pb_work_bytes(pb_tensor t) { return pb_has(t) ? (double)pb_bytes(t) : 0.0; }
double pb_work_quant_bytes(const pb_quant4 *q);
double pb_work_weight_bytes(pb_weight w);

/* Every op has these two. */
#define X(name)                                          \
    void pb_check_##name(pb_check *c, const void *args); \
    pb_work pb_work_##name(const void *args);
PB_OPS(X)
#undef X

#endif

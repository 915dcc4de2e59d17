/* The one table of op cases: correctness, same bits at any thread count, gradients and speed all
 * run the same rows.
 *
 * A row (op_case) names an op, dtypes, sizes and flags. op_case_build turns it into an instance: an
 * args struct and a slot for each of its tensors with initial values, so that the same call can be
 * made on any device. To add an op: one builder in op_build_*.c, its line in the table of builders
 * (op_cases.c), and rows in the table of cases. */
#ifndef PB_TESTS_OP_CASES_H
#define PB_TESTS_OP_CASES_H

#include "kernels/ops.h"

/* Flags. An op ignores those that mean nothing to it. */
#define OC_BETA    (1u << 0) /* the output's old content counts */
#define OC_OPT     (1u << 1) /* with optional arguments */
#define OC_STRIDED (1u << 2) /* matrices are column slices of wider ones */
#define OC_DROP    (1u << 3) /* dropout on */
#define OC_EXACT   (1u << 4) /* small whole numbers: any order of summation gives the same bits */
#define OC_ALIAS   (1u << 5) /* in place, as far as the op allows */
#define OC_TA      (1u << 6) /* transposed first operand; transpose; inverse; by column; square */
#define OC_TB      (1u << 7) /* transposed second operand */
#define OC_MASTER  (1u << 8) /* output (or operand) in the master dtype */
#define OC_NF4     (1u << 9) /* 4-bit weight in this code */
#define OC_FP4     (1u << 10)
#define OC_INT4    (1u << 11)
#define OC_DQ      (1u << 12) /* double quantisation */
#define OC_CAUSAL  (1u << 13)
#define OC_RMS     (1u << 14)
#define OC_ZERO    (1u << 15) /* hard values: zero blocks, mean far from 0, ignored targets, ties */
#define OC_BARE    (1u << 16) /* as few outputs as possible */
#define OC_SPEED   (1u << 17) /* large: only timed */

typedef struct op_case {
    const char *name;
    pb_op op;
    unsigned dtypes; /* 1u << pb_dtype */
    int64_t d[6];    /* sizes; their meaning is the builder's */
    unsigned flags;
} op_case;

extern const op_case op_cases[];
extern const int op_cases_count;

typedef enum op_role { OP_IN, OP_OUT, OP_INOUT } op_role;

/* One tensor argument. Values are doubles that the dtype represents exactly; NaN (0xff in codes) in
 * outputs. */
typedef struct op_slot {
    const char *name;
    pb_tensor *where; /* the field of the instance that op_bind fills */
    pb_dtype dtype;
    int ndim;
    int64_t rows, cols, stride;
    op_role role;
    int alias_of; /* shares the memory of this slot; -1 */
    bool derived; /* value comes from the instance's forward on the reference device */
    double *init; /* [rows*cols] */
    /* Comparison: |got - want| <= 2 u_out |want| + u_acc (4 + sqrt(terms)) terms mag + mid 6 u_T
     * sqrt(terms) mag + extra, u = distance of 1 to the next number. mid = products that may be
     * rounded to T before they are summed. */
    double terms, mag, mid, extra;
    bool exact, code; /* equal; indices of an 8-bit map: one step apart */
    int64_t valid;    /* elements compared, the first ones */
    int wrt;          /* gradient of the loss with respect to this slot; -1 */
    double keeps;     /* factor of the old content in a gradient output: 1 for += */
} op_slot;

#define OP_SLOTS 24

typedef struct op_instance op_instance;
struct op_instance {
    const op_case *def;
    pb_op op;
    pb_dtype dtype;
    char name[128]; /* "gemm/odd sizes/bf16" */
    uint64_t seed;  /* from the name; PB_SEED overrides */
    op_slot slot[OP_SLOTS];
    int n;
    union {
#define X(op_name) pb_##op_name##_args op_name;
        PB_OPS(X)
#undef X
    } args;
    pb_quant4 quant;
    pb_adamw_item items[2];
    pb_adamw8_item items8[2];
    pb_tensor list[3], extra[4]; /* tensors that are not fields of args */
    /* Backward ops: runs the forward op on the bound instance, writes derived slots, returns y. The
     * loss is sum y .* slot[dy], or weight * sum y when dy is -1. */
    pb_status (*forward)(pb_device *dev, op_instance *t, pb_tensor *y);
    int dy;
    double weight;
};

/* Builds row `def` for one of its dtypes. Aborts when memory runs out: a test has nothing better to
 * do. */
op_instance *op_case_build(const op_case *def, pb_dtype dtype);
void op_case_free(op_instance *t);
/* Computes derived slots on `ref` and stores them as initial values. */
pb_status op_case_derive(op_instance *t, pb_device *ref);

/* An instance in a device's memory: every tensor stands between guards, gaps between rows are
 * guards too. */
typedef struct op_bound {
    pb_tensor memory[OP_SLOTS]; /* u8, with guards */
    size_t bytes[OP_SLOTS];
} op_bound;
pb_status op_bind(op_instance *t, pb_device *dev, op_bound *bound);
/* Raw bytes of every slot after a run (malloc'ed, guards included; NULL for aliases); values by
 * op_read. */
pb_status op_fetch(const op_instance *t, pb_device *dev, const op_bound *bound,
                   unsigned char *raw[OP_SLOTS]);
/* Values of slot i out of its raw bytes, [rows*cols]. */
void op_read(const op_instance *t, int i, unsigned char *const raw[OP_SLOTS], double *values);
/* NULL, or what was overwritten that should not have been: a guard, a gap, an input. */
const char *op_damage(const op_instance *t, unsigned char *const raw[OP_SLOTS], char *text,
                      size_t cap);

/* Compares the outputs of two runs. NULL, or the worst element in words. *used = worst fraction of
 * the tolerance. */
const char *op_compare(const op_instance *t, unsigned char *const got[OP_SLOTS],
                       unsigned char *const want[OP_SLOTS], double *used, char *text, size_t cap);

/* --- for builders ----------------------------------------------------------------------------- */

bool op_has(const op_instance *t, unsigned flag);
pb_dtype op_master(const op_instance *t);
/* New slots; random values in [-scale, scale] (whole numbers in -3..3 with OC_EXACT), NaN for
 * OP_OUT. */
op_slot *op_mat(op_instance *t, const char *name, pb_tensor *where, pb_dtype dtype, int64_t rows,
                int64_t cols, op_role role, double scale);
op_slot *op_vec(op_instance *t, const char *name, pb_tensor *where, pb_dtype dtype, int64_t n,
                op_role role, double scale);
/* Whole numbers in lo..hi (i32 or u8). */
op_slot *op_ints(op_instance *t, const char *name, pb_tensor *where, pb_dtype dtype, int64_t n,
                 int64_t lo, int64_t hi);
/* value := fn(value): abs + 0.5 for scales that must not be near 0. */
void op_positive(op_slot *s);
op_slot *op_bound_by(op_slot *s, double terms, double mag, double mid);
void op_share(op_instance *t, op_slot *s, op_slot *owner);
int op_index(const op_instance *t, const op_slot *s);
void op_gradient(op_instance *t, op_slot *grad, op_slot *of, double keeps);
pb_drop op_drop(const op_instance *t);
double op_round(pb_dtype dtype, double v);
uint32_t op_draw(const op_instance *t, int slot, int64_t i);

#define X(op_name) void op_build_##op_name(op_instance *t, const int64_t *d);
PB_OPS(X)
#undef X

#endif

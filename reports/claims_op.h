/* Private to claims_op.c, claims_estimate.c and claims_assertion.c: what an assertion says, what it
 * comes to, and the operators between. */
#ifndef PB_REPORTS_CLAIMS_OP_H
#define PB_REPORTS_CLAIMS_OP_H

#include "reports/claims_impl.h"

#define CL_TERMS 16

/* What an assertion says, read from its JSON. */
typedef struct cl_settings {
    const pb_json *left, *right, *of;
    const pb_json *list[CL_TERMS];
    double x[CL_TERMS];
    int n_list, n_x;
    double margin, low, high, above, below, tolerance;
    int64_t digits;
    bool relative, falling;
    int better; /* of non_inferior: +1 higher, -1 lower */
} cl_settings;

/* ---- claims_estimate.c ---- */

typedef struct cl_estimate {
    double value, low, high;
    int n;
    int examples; /* that the interval is over, where no seed moves the value (n is 1 then); else 0 */
    bool exact;   /* no seeds: arithmetic */
} cl_estimate;

/* The level of an interval on its own, or of one in a family: 1 - (1 - level) x share. */
double cl_level(const cl_context *x, double level);
cl_estimate cl_exactly(double v);
/* One run says nothing about its spread: a value without an interval, which decides nothing. */
cl_estimate cl_alone(double v);
/* Several values: their mean and Student's interval; one alone has none, nor have measured values that
 * are equal for every seed. */
cl_estimate cl_mean(const double *v, int n, double level, bool exact, cl_grain grain);
/* left - right, or left / right when relative. n = 0 and value NaN: nothing pairs. */
pb_status cl_compared(cl_context *x, const cl_settings *s, double level, cl_estimate *out);

/* ---- claims_examples.c ---- */

/* A metric from before the training, which is the same for every seed. */
bool cl_is_before(const pb_json *term);

/* left - right of every example: d[seed * n_examples + example]; weights: tokens of the examples in
 * language modelling, else NULL. seedless: every metric is one from before the training and all seeds have
 * the same bits; n_seeds is 1 then. */
typedef struct cl_table {
    int n_seeds, n_examples;
    double *d, *weights;
    bool seedless;
} cl_table;
void cl_table_free(cl_table *t);
/* false, and nothing to free: left and right are no linear combinations of means over the same examples,
 * of two metrics at least, for each of the n seeds. */
bool cl_table_of(cl_context *x, const cl_settings *s, const uint64_t *seeds, int n, cl_table *out);

/* ---- claims_op.c ---- */

/* The keys that an operator takes. */
enum {
    K_LEFT_RIGHT = 1,
    K_OF = 2,
    K_LIST = 4,
    K_MARGIN = 8, /* required */
    K_RELATIVE = 16,
    K_RANGE = 32,
    K_THRESHOLD = 64,
    K_DIRECTION = 128,
    K_X = 256,
    K_BETTER = 512,
    K_PRECISION = 1024,
    K_MAY_MARGIN = 2048
};

typedef pb_status (*cl_operator_fn)(cl_context *x, const cl_settings *s, int64_t need,
                                    cl_outcome *out);
typedef struct cl_operator {
    const char *name;
    unsigned keys;
    cl_operator_fn run;
} cl_operator;
enum { CL_OPERATORS = 11 };
extern const cl_operator cl_operators[CL_OPERATORS];

#endif

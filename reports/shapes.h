/* Private to reports/shapes*.c: forward passes over batch x length, and what they are multiples of. */
#ifndef PB_REPORTS_SHAPES_H
#define PB_REPORTS_SHAPES_H

#include "reports/verdicts.h"

enum { RP_MOST_SHAPES = 16 };
enum { RP_MERGED, RP_UNMERGED };
extern const char *const rp_shape_forms[]; /* "merged", "unmerged" */
typedef char rp_shape_name[24];            /* "8x128" */

typedef struct rp_shape_ratio {
    pb_ratio ratio; /* over the processes (seeds) that both have; n 0 = none */
    double p_holm;  /* in its family; NaN = unknown */
} rp_shape_ratio;

/* One row with its adapter merged or beside the weights. */
typedef struct rp_shape_line {
    int row, form;
    bool is_reference;
    const pb_parity_finding *stop;     /* why it is not held against the reference; NULL = it may be */
    pb_ratio time[RP_MOST_SHAPES];     /* seconds */
    rp_shape_ratio at[RP_MOST_SHAPES]; /* beside the reference, one family over all lines and shapes */
    rp_shape_ratio all;                /* geometric mean over the shapes, a family over the lines */
} rp_shape_line;

typedef struct rp_shapes {
    rp_shape_name shapes[RP_MOST_SHAPES];
    int n_shapes;
    rp_shape_line *lines;
    int n_lines;
    char reference[200]; /* "LoRA r8, merged"; "the base model" where every process timed that in turns with its own
                            row; "" = none */
    bool has_base;       /* `base` beside a row that changes nothing inside the model */
    rp_shape_line base;  /* the reference of the others beside it: families of their own */
    char base_name[200]; /* "the base model (head only)" */
    bool failed;         /* memory ran out */
} rp_shapes;

/* False when no row was timed at a shape, or (failed) without memory. Free with rp_shapes_free. */
bool rp_shapes_make(const rp_view *v, rp_shapes *out);
void rp_shapes_free(rp_shapes *s);
/* Fills the lines of s, whose shapes are known (shapes_ratio.c). False without memory. */
bool rp_shapes_compare(const rp_view *v, rp_shapes *s);

bool rp_is_apart(const rp_shape_ratio *r);
/* "1.12× (1.08–1.16)"; without an interval "1.12×". */
const char *rp_shape_words(rp_word out, const pb_ratio *r);

#endif

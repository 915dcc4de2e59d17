/* Figures of single kernels: how much of the machine's roofs each one reaches, and how its time went from
 * revision to revision. Test: tests/test_kernel_history.c. */
#ifndef PB_PLOTS_KERNELS_H
#define PB_PLOTS_KERNELS_H

#include "plots/plots.h"

typedef enum pb_kernel_bound { PB_BOUND_COPY, PB_BOUND_PRODUCT, PB_BOUND_VECTOR, PB_BOUNDS } pb_kernel_bound;

typedef struct pb_kernel_point {
    const char *name;      /* "minilm/gemm/256 x 384 x 384/f32": the part before the first '/' is its chart */
    double work, bytes;    /* FLOP of one call, products and all else; least traffic */
    double seconds;        /* of one call */
    double share;          /* of the roof that binds, 1 = at it; NaN when none is known */
    pb_kernel_bound bound; /* the roof that binds */
    bool bf16;             /* else f32 */
} pb_kernel_point;

typedef struct pb_kernel_roofs {
    double bytes_per_s;    /* of a copy */
    double flops_per_s[2]; /* of products in f32 and bf16; 0 = none */
    double ops_per_s;      /* of vector units; 0 = none */
    bool hot;              /* the points are from hot caches; else from cold ones */
} pb_kernel_roofs;

#define PB_KERNEL_CHARTS 8 /* at most: one a model */

/* roofline_NAME and roof_share_NAME (.svg and .png) per chart, in out_dir. figures has room for 2 *
 * PB_KERNEL_CHARTS. Points without a share are left out. Errors as pb_plots_draw. */
pb_status pb_plots_draw_kernels(const pb_kernel_point *points, int n, const pb_kernel_roofs *roofs,
                                const char *out_dir, pb_figure *figures, int *n_figures);

typedef struct pb_trend_level {
    int from, to; /* points from..to-1 */
    double value;
} pb_trend_level;
typedef struct pb_trend_line {
    const char *name;
    const double *values;      /* microseconds, one a point */
    const char *const *labels; /* revision of each point */
    int n, n_levels;
    const pb_trend_level *levels; /* between changes; at least one */
} pb_trend_line;

/* trend_NUMBER (.svg and .png): points, the level between changes, each change marked by the revision
 * that it came with. */
pb_status pb_plots_draw_trend(const pb_trend_line *line, int number, const char *out_dir,
                              pb_figure *figure);

/* Private to plots/: builders of the above. */
struct figure;
pb_status pb_build_kernel_roofline(const pb_kernel_point *points, int n, const char *chart,
                                   const pb_kernel_roofs *roofs, struct figure *f);
pb_status pb_build_roof_share(const pb_kernel_point *points, int n, const char *chart,
                              const pb_kernel_roofs *roofs, struct figure *f);
pb_status pb_build_trend(const pb_trend_line *line, int number, struct figure *f);
/* The chart's points in an order (as of qsort, of pointers); *out is malloc'ed. */
pb_status pb_kernel_points_of(const pb_kernel_point *points, int n, const char *chart,
                              int (*order)(const void *, const void *), const pb_kernel_point ***out,
                              int *n_out);
/* Of a roof: its colour, and its name in legends ("the copy binds"). */
unsigned pb_bound_colour(pb_kernel_bound bound);
const char *pb_bound_name(pb_kernel_bound bound);
const char *pb_caches_name(const pb_kernel_roofs *roofs); /* "cold caches" */

#endif

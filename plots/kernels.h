/* Figures of single kernels: how much of the machine's roofs each one reaches, and how its time went from
 * revision to revision. Test: tests/test_kernel_history.c. */
#ifndef PB_PLOTS_KERNELS_H
#define PB_PLOTS_KERNELS_H

#include "plots/plots.h"

typedef struct pb_kernel_point {
    const char *name;     /* "minilm/gemm/256 x 384 x 384/f32": the part before the first '/' is its chart */
    double work, bytes;   /* FLOP of one call, products and all else; least traffic */
    double seconds;       /* of one call */
    double share;         /* of the roof that binds, 1 = at it; NaN when none is known */
    bool products;        /* the roof of products binds, not the copy's */
} pb_kernel_point;

#define PB_KERNEL_CHARTS 8 /* at most: one a model */

/* roofline_NAME and roof_share_NAME (.svg and .png) per chart, in out_dir; bytes_per_s and flops_per_s
 * are the roofs. figures has room for 2 * PB_KERNEL_CHARTS. Points without a share are left out.
 * Errors as pb_plots_draw. */
pb_status pb_plots_draw_kernels(const pb_kernel_point *points, int n, double bytes_per_s,
                                double flops_per_s, const char *out_dir, pb_figure *figures,
                                int *n_figures);

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
                                   double bytes_per_s, double flops_per_s, struct figure *f);
pb_status pb_build_roof_share(const pb_kernel_point *points, int n, const char *chart,
                              struct figure *f);
pb_status pb_build_trend(const pb_trend_line *line, int number, struct figure *f);

#endif

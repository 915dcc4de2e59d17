/* Private to plots/: where the numbers of numbered points go, so that none covers another, a point or a text.
 * Test: tests/test_place.c. */
#ifndef PB_PLOTS_PLACE_H
#define PB_PLOTS_PLACE_H

#include <stdbool.h>

/* All in pixels of the plot's area, from its left lower corner. */
typedef struct pb_place_box {
    double left, low, right, high;
} pb_place_box;

typedef struct pb_place_area {
    double width, height;
    double radius;             /* of a point */
    const double *x, *y;       /* every point that is drawn */
    int n;
    const pb_place_box *taken; /* texts that are there already */
    int n_taken;
} pb_place_area;

typedef struct pb_placed {
    pb_place_box box; /* the label's */
    bool far;         /* so far from its point that a line should lead to it */
} pb_placed;

/* A label of the given size for each of the points `which`, as near to it as there is room, to its
 * right above first. A label that finds none within the area is left at its point. */
void pb_place_labels(const pb_place_area *area, const int *which, const double *widths,
                     double height, int n, pb_placed *out);

#endif

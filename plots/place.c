/* Labels beside points: plots/place.h. */
#include "plots/place.h"

#include <math.h>

#define RINGS 12
#define RING 10.0 /* pixels from one distance that is tried to the next */
#define DIRECTIONS 16
#define GAP 2.0 /* between a label and anything else */

static bool overlap(pb_place_box a, pb_place_box b) {
    return a.left < b.right + GAP && b.left < a.right + GAP && a.low < b.high + GAP &&
           b.low < a.high + GAP;
}

static bool free_here(const pb_place_area *area, const pb_placed *placed, int n, pb_place_box box) {
    if (box.left < 0 || box.low < 0 || box.right > area->width || box.high > area->height)
        return false;
    for (int i = 0; i < area->n_taken; i++)
        if (overlap(box, area->taken[i])) return false;
    for (int i = 0; i < n; i++)
        if (overlap(box, placed[i].box)) return false;
    for (int i = 0; i < area->n; i++) {
        double x = area->x[i], y = area->y[i], r = area->radius;
        if (overlap(box, (pb_place_box){x - r, y - r, x + r, y + r})) return false;
    }
    return true;
}

/* The label's box when its nearest edge or corner lies on the square of that half width around the point. */
static pb_place_box beside(double x, double y, double width, double height, double distance,
                           int direction) {
    double angle = M_PI / 4 + 2 * M_PI * direction / DIRECTIONS;
    double side = fmax(fabs(cos(angle)), fabs(sin(angle)));
    double cx = x + cos(angle) / side * (distance + width / 2);
    double cy = y + sin(angle) / side * (distance + height / 2);
    return (pb_place_box){cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2};
}

void pb_place_labels(const pb_place_area *area, const int *which, const double *widths,
                     double height, int n, pb_placed *out) {
    for (int i = 0; i < n; i++) {
        double x = area->x[which[i]], y = area->y[which[i]], nearest = area->radius + GAP + 1e-6;
        bool found = false;
        out[i].box = beside(x, y, widths[i], height, nearest, 0);
        out[i].far = false;
        for (int ring = 0; ring < RINGS && !found; ring++)
            for (int d = 0; d < DIRECTIONS && !found; d++) {
                pb_place_box box = beside(x, y, widths[i], height, nearest + RING * ring, d);
                if (!free_here(area, out, i, box)) continue;
                out[i] = (pb_placed){.box = box, .far = ring > 0};
                found = true;
            }
    }
}

/* Numbers beside points: no two of them, no point and no text may cover each other. */
#include <math.h>

#include "plots/place.h"
#include "tests/support.h"

#define CROWD 10

static bool meet(pb_place_box a, pb_place_box b) {
    return a.left < b.right && b.left < a.right && a.low < b.high && b.low < a.high;
}

static void assert_apart(const pb_place_area *area, const pb_placed *p, int n) {
    for (int i = 0; i < n; i++) {
        pb_place_box b = p[i].box;
        ck_assert_msg(b.left >= 0 && b.low >= 0 && b.right <= area->width && b.high <= area->height,
                      "label %d leaves the area", i);
        for (int k = 0; k < i; k++)
            ck_assert_msg(!meet(b, p[k].box), "labels %d and %d cover each other", k, i);
        for (int k = 0; k < area->n_taken; k++)
            ck_assert_msg(!meet(b, area->taken[k]), "label %d covers a text", i);
        for (int k = 0; k < area->n; k++) {
            double dx = fmax(fmax(b.left - area->x[k], area->x[k] - b.right), 0);
            double dy = fmax(fmax(b.low - area->y[k], area->y[k] - b.high), 0);
            ck_assert_msg(hypot(dx, dy) >= area->radius, "label %d covers point %d", i, k);
        }
    }
}

START_TEST(a_crowd_of_points_keeps_its_numbers_apart) {
    double x[CROWD], y[CROWD], widths[CROWD];
    int which[CROWD];
    pb_placed placed[CROWD];
    const pb_place_box text = {120, 100, 190, 115};
    for (int i = 0; i < CROWD; i++) { /* nearly all of them in one place, two in the corners */
        x[i] = i == 8 ? 399 : i == 9 ? 0 : 100 + 0.5 * i;
        y[i] = i == 8 ? 299 : i == 9 ? 0 : 100 + 3 * (i % 3);
        which[i] = i;
        widths[i] = i == 9 ? 20 : 10;
    }
    pb_place_area area = {
        .width = 400, .height = 300, .radius = 5, .x = x, .y = y, .n = CROWD, .taken = &text, .n_taken = 1};
    pb_place_labels(&area, which, widths, 15, CROWD, placed);
    assert_apart(&area, placed, CROWD);
    int far = 0;
    for (int i = 0; i < 8; i++) far += placed[i].far;
    ck_assert_int_gt(far, 0);
    ck_assert(!placed[9].far);
}
END_TEST

START_TEST(a_point_alone_has_its_number_to_the_right_above) {
    double x = 100, y = 100, width = 10;
    int which = 0;
    pb_placed placed;
    pb_place_area area = {.width = 400, .height = 300, .radius = 5, .x = &x, .y = &y, .n = 1};
    pb_place_labels(&area, &which, &width, 15, 1, &placed);
    assert_apart(&area, &placed, 1);
    ck_assert(!placed.far);
    ck_assert_double_gt(placed.box.left, 100);
    ck_assert_double_gt(placed.box.low, 100);
    ck_assert_double_lt(hypot(placed.box.left - 100, placed.box.low - 100), 20);
}
END_TEST

int main(void) {
    Suite *s = suite_create("place");
    TCase *t = pb_test_case(s, "place");
    tcase_add_test(t, a_crowd_of_points_keeps_its_numbers_apart);
    tcase_add_test(t, a_point_alone_has_its_number_to_the_right_above);
    return pb_run_suite(s);
}

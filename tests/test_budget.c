/* AdaLoRA's budget schedule and selection against values worked out by hand. */
#include <math.h>

#include "methods/budget.h"
#include "tests/support.h"

START_TEST(the_budget_follows_the_released_code) {
    pb_budget s = {
        .total_steps = 100, .tinit = 10, .tfinal = 30, .delta_t = 5, .initial = 120, .target = 40};
    ck_assert_int_eq(pb_budget_last(&s), 70);
    ck_assert_int_eq(pb_budget_at(&s, 0), 120);
    ck_assert_int_eq(pb_budget_at(&s, 10), 120);
    ck_assert_int_eq(pb_budget_at(&s, 11), 116); /* 40 + 80 (59/60)^3 = 116.07 */
    ck_assert_int_eq(pb_budget_at(&s, 40), 50);  /* 40 + 80/8 */
    ck_assert_int_eq(pb_budget_at(&s, 55), 41);  /* 40 + 80/64 = 41.25 */
    ck_assert_int_eq(pb_budget_at(&s, 69), 40);
    ck_assert_int_eq(pb_budget_at(&s, 70), 40);
    ck_assert_int_eq(pb_budget_at(&s, 99), 40);
    ck_assert_int_eq(pb_budget_action_at(&s, 0), PB_BUDGET_NONE);
    ck_assert_int_eq(pb_budget_action_at(&s, 10), PB_BUDGET_NONE);
    ck_assert_int_eq(pb_budget_action_at(&s, 14), PB_BUDGET_NONE);
    ck_assert_int_eq(pb_budget_action_at(&s, 15), PB_BUDGET_ALLOCATE);
    ck_assert_int_eq(pb_budget_action_at(&s, 70), PB_BUDGET_FINAL);
    ck_assert_int_eq(pb_budget_action_at(&s, 71), PB_BUDGET_REAPPLY);
    ck_assert(pb_budget_watches(&s, 69) && !pb_budget_watches(&s, 70));
}
END_TEST

START_TEST(the_budget_at_its_edges) {
    pb_budget none = {
        .total_steps = 10, .delta_t = 1, .initial = 12, .target = 4}; /* tinit = tfinal = 0 */
    ck_assert_int_eq(pb_budget_action_at(&none, 0), PB_BUDGET_NONE);
    ck_assert_int_eq(pb_budget_action_at(&none, 1), PB_BUDGET_ALLOCATE);
    ck_assert_int_eq(pb_budget_last(&none), 9);
    ck_assert_int_eq(pb_budget_action_at(&none, 9), PB_BUDGET_FINAL);
    ck_assert_int_eq(pb_budget_at(&none, 9), 4);
    ck_assert(pb_budget_watches(&none, 9)); /* the scores of the last step count */
    pb_budget unknown = {.delta_t = 1, .initial = 12, .target = 4};
    for (int64_t t = 0; t < 5; t++) {
        ck_assert_int_eq(pb_budget_action_at(&unknown, t), PB_BUDGET_NONE);
        ck_assert_int_eq(pb_budget_at(&unknown, t), 12);
        ck_assert(pb_budget_watches(&unknown, t));
    }
}
END_TEST

START_TEST(the_mask_drops_ties_and_guards_a_full_budget) {
    const double score[6] = {3, 1, 2, 2, 5, 4};
    double keep[6], scratch[6];
    const double two[6] = {1, 0, 0, 0, 1, 1}; /* k = 2: the threshold 2 takes both of its ties */
    ck_assert(pb_budget_mask(score, 6, 4, scratch, keep));
    ck_assert(memcmp(keep, two, sizeof two) == 0);
    const double one[6] = {1, 0, 1, 1, 1, 1};
    ck_assert(pb_budget_mask(score, 6, 5, scratch, keep));
    ck_assert(memcmp(keep, one, sizeof one) == 0);
    ck_assert(pb_budget_mask(score, 6, 6, scratch, keep)); /* k = 0 */
    for (int i = 0; i < 6; i++) ck_assert(keep[i] == 1);
    ck_assert(pb_budget_mask(score, 6, 0, scratch, keep)); /* k = n */
    for (int i = 0; i < 6; i++) ck_assert(keep[i] == 0);
    const double bad[2] = {1, NAN};
    ck_assert(!pb_budget_mask(bad, 2, 1, scratch, keep));
}
END_TEST

int main(void) {
    Suite *s = suite_create("budget");
    TCase *t = pb_test_case(s, "schedule");
    tcase_add_test(t, the_budget_follows_the_released_code);
    tcase_add_test(t, the_budget_at_its_edges);
    tcase_add_test(t, the_mask_drops_ties_and_guards_a_full_budget);
    return pb_run_suite(s);
}

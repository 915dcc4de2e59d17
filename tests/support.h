/* What every test program shares: the runner, comparisons with tolerances, statuses, folders. A test program is
 *
 *     START_TEST(merge_then_unmerge_restores_weights) { ... } END_TEST
 *     int main(void) {
 *         Suite *s = suite_create("lora");
 *         TCase *t = pb_test_case(s, "merge");
 *         tcase_add_test(t, merge_then_unmerge_restores_weights);
 *         return pb_run_suite(s);
 *     }
 *
 * Check forks for each test: start no threads (OpenMP regions too) in main or in unchecked fixtures. */
#ifndef PB_TESTS_SUPPORT_H
#define PB_TESTS_SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/status.h"

/* Every assertion that passes notes where it stands: what a crash is said to come after. Check sends each note to its parent
 * through a file, which takes longer than most assertions: the first 32 of each place are sent. */
#define _mark_point(file, line) pb_mark_point((file), (line))
void pb_mark_point(const char *file, int line);

/* Adds a test case whose timeout suits sanitizer builds (240 s, or CK_DEFAULT_TIMEOUT). */
TCase *pb_test_case(Suite *s, const char *name);

/* Runs and frees the suite and gives main's exit status: 0 only when at least one check ran and none failed. */
int pb_run_suite(Suite *s);

/* The source root; PB_TEST_ROOT names another one. */
const char *pb_test_root(void);

/* A new empty folder (malloc'ed path, caller frees); pb_run_suite removes it with its content. They are made in the build's
 * tests/tmp, or where PB_TEST_TMP says. */
char *pb_test_dir(void);

/* Each element must satisfy |got - want| <= abs_tol + rel_tol * |want|. A NaN on either side never passes, an infinity
 * only against the same infinity; tolerances must be finite and >= 0, n > 0. Fails with the first worst element: index,
 * values, how many times the tolerance it is off, how many elements are outside. */
#define pb_assert_close(got, want, n, abs_tol, rel_tol, what) \
    pb_assert_close_at(__FILE__, __LINE__, (got), (want), (n), (abs_tol), (rel_tol), (what))
#define pb_assert_close_f32(got, want, n, abs_tol, rel_tol, what) \
    pb_assert_close_f32_at(__FILE__, __LINE__, (got), (want), (n), (abs_tol), (rel_tol), (what))
void pb_assert_close_at(const char *file, int line, const double *got, const double *want, size_t n, double abs_tol,
                        double rel_tol, const char *what);
void pb_assert_close_f32_at(const char *file, int line, const float *got, const float *want, size_t n, double abs_tol,
                            double rel_tol, const char *what);

/* The comparison behind them, without failing the test: false and a message in `message` (cap bytes) when outside.
 * *used (may be NULL) = the worst fraction of the tolerance, infinity for what no tolerance allows. */
bool pb_compare_f64(const double *got, const double *want, size_t n, double abs_tol, double rel_tol, const char *what,
                    double *used, char *message, size_t cap);
bool pb_compare_f32(const float *got, const float *want, size_t n, double abs_tol, double rel_tol, const char *what,
                    double *used, char *message, size_t cap);

/* The status is PB_OK; else the test fails with the error's message and trace. */
#define pb_assert_ok(expr) pb_assert_ok_at(__FILE__, __LINE__, #expr, (expr))
void pb_assert_ok_at(const char *file, int line, const char *expr, pb_status status);

/* The status is `code` and the error message contains `part` (a literal; "" matches all). */
#define pb_assert_fails(expr, code, part) pb_assert_fails_at(__FILE__, __LINE__, #expr, (expr), (code), (part))
void pb_assert_fails_at(const char *file, int line, const char *expr, pb_status status, pb_status code, const char *part);

#endif

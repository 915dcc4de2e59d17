/* The parts that every test program shares. Their own test, planted faults included: tests/test_base.c. */
#include "tests/support.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define TMP_VARIABLE "PB_TEST_TMP_RUN" /* this run's folder: set before the tests fork */

void pb_mark_point(const char *file, int line) {
    enum { PLACES = 256, MOST = 32 };
    static _Thread_local struct place {
        const char *file; /* a literal of its program: the same one is the same file */
        int line, sent;
    } places[PLACES];
    struct place *p = &places[(size_t)line % PLACES];
    if (p->file != file || p->line != line) *p = (struct place){.file = file, .line = line};
    if (p->sent == MOST) return;
    p->sent++;
    (_mark_point)(file, line);
}

TCase *pb_test_case(Suite *s, const char *name) {
    TCase *t = tcase_create(name);
    if (!getenv("CK_DEFAULT_TIMEOUT")) tcase_set_timeout(t, 240);
    suite_add_tcase(s, t);
    return t;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}

/* A build may run on another machine than its own: both folders can be named in the environment. */
static const char *folder_of(const char *variable, const char *built) {
    const char *given = getenv(variable);
    return given && *given ? given : built;
}

int pb_run_suite(Suite *s) {
    char folder[PATH_MAX];
    const char *tmp = folder_of("PB_TEST_TMP", PB_TEST_TMP);
    SRunner *runner = srunner_create(s);
    snprintf(folder, sizeof folder, "%s/XXXXXX", tmp);
    if (pb_make_dirs(tmp) != PB_OK || !mkdtemp(folder) || setenv(TMP_VARIABLE, folder, 1) != 0) {
        fprintf(stderr, "cannot create a folder in %s: %s\n", tmp, strerror(errno));
        srunner_free(runner);
        return EXIT_FAILURE;
    }
    srunner_run_all(runner, CK_ENV);
    int ran = srunner_ntests_run(runner), failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (ran == 0) fprintf(stderr, "no check ran: that counts as a failure\n");
    return ran > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

const char *pb_test_root(void) {
    return folder_of("PB_TEST_ROOT", PB_TEST_ROOT);
}

char *pb_test_dir(void) {
    const char *run = getenv(TMP_VARIABLE);
    if (!run) ck_abort_msg("pb_test_dir needs pb_run_suite around it");
    char *path = pb_path_join(run, "XXXXXX");
    if (!path || !mkdtemp(path)) ck_abort_msg("cannot create a folder in %s: %s", run, strerror(errno));
    return path;
}

/* One of the pair is set. */
typedef struct series {
    const double *f64;
    const float *f32;
} series;

static double element(series s, size_t i) {
    return s.f64 ? s.f64[i] : (double)s.f32[i];
}

/* The fraction of the tolerance that is used: <= 1 passes. */
static double fraction(double got, double want, double abs_tol, double rel_tol) {
    if (isnan(got) || isnan(want)) return INFINITY;
    if (got == want) return 0; /* also 0 within a tolerance of 0, and equal infinities */
    if (isinf(got) || isinf(want)) return INFINITY;
    double used = fabs(got - want) / (abs_tol + rel_tol * fabs(want)); /* x/0 = inf; no 0/0, that was equality */
    return used >= 0 ? used : INFINITY;
}

static bool compare(series got, series want, size_t n, double abs_tol, double rel_tol, const char *what, double *used,
                    char *message, size_t cap) {
    size_t worst = 0, outside = 0, not_finite = 0;
    double most = -1;
    snprintf(message, cap, "%s", "");
    if (used) *used = INFINITY;
    if (n == 0) {
        snprintf(message, cap, "%s: nothing to compare (n = 0)", what);
        return false;
    }
    if (!(abs_tol >= 0 && rel_tol >= 0 && isfinite(abs_tol) && isfinite(rel_tol))) {
        snprintf(message, cap, "%s: tolerances must be finite and >= 0, got %g and %g", what, abs_tol, rel_tol);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        double f = fraction(element(got, i), element(want, i), abs_tol, rel_tol);
        if (!(f <= 1)) outside++;
        if (!isfinite(element(got, i))) not_finite++;
        if (f > most) {
            most = f;
            worst = i;
        }
    }
    if (used) *used = most;
    if (outside == 0 && most <= 1) return true;
    double g = element(got, worst), w = element(want, worst);
    snprintf(message, cap,
             "%s: element %zu of %zu: got %.9g, want %.9g, difference %.3g = %.3g times the tolerance (%g + %g * |want|); "
             "%zu outside, %zu not finite",
             what, worst, n, g, w, g - w, most, abs_tol, rel_tol, outside, not_finite);
    return false;
}

bool pb_compare_f64(const double *got, const double *want, size_t n, double abs_tol, double rel_tol, const char *what,
                    double *used, char *message, size_t cap) {
    return compare((series){.f64 = got}, (series){.f64 = want}, n, abs_tol, rel_tol, what, used, message, cap);
}

bool pb_compare_f32(const float *got, const float *want, size_t n, double abs_tol, double rel_tol, const char *what,
                    double *used, char *message, size_t cap) {
    return compare((series){.f32 = got}, (series){.f32 = want}, n, abs_tol, rel_tol, what, used, message, cap);
}

void pb_assert_close_at(const char *file, int line, const double *got, const double *want, size_t n, double abs_tol,
                        double rel_tol, const char *what) {
    char message[512];
    _mark_point(file, line);
    if (!pb_compare_f64(got, want, n, abs_tol, rel_tol, what, NULL, message, sizeof message))
        _ck_assert_failed(file, line, "Not close", "%s", message);
}

void pb_assert_close_f32_at(const char *file, int line, const float *got, const float *want, size_t n, double abs_tol,
                            double rel_tol, const char *what) {
    char message[512];
    _mark_point(file, line);
    if (!pb_compare_f32(got, want, n, abs_tol, rel_tol, what, NULL, message, sizeof message))
        _ck_assert_failed(file, line, "Not close", "%s", message);
}

void pb_assert_ok_at(const char *file, int line, const char *expr, pb_status status) {
    _mark_point(file, line);
    if (status != PB_OK)
        _ck_assert_failed(file, line, "Not ok", "%s gave %s: %s (%s)", expr, pb_status_name(status), pb_error_message(),
                          pb_error_trace());
}

void pb_assert_fails_at(const char *file, int line, const char *expr, pb_status status, pb_status code, const char *part) {
    _mark_point(file, line);
    if (status != code)
        _ck_assert_failed(file, line, "Wrong status", "%s gave %s, expected %s: %s", expr, pb_status_name(status),
                          pb_status_name(code), status == PB_OK ? "" : pb_error_message());
    if (status != PB_OK && !strstr(pb_error_message(), part))
        _ck_assert_failed(file, line, "Wrong message", "%s: \"%s\" does not contain \"%s\"", expr, pb_error_message(), part);
}

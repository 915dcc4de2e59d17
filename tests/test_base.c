/* base/ and the test support itself. `test_base planted` runs checks that must fail; the suite runs it as a child and
 * demands that it does. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "tests/support.h"

/* ---- status ---- */

static pb_status fails(int value) {
    return PB_ERROR(PB_E_INPUT, "value %d is wrong", value);
}

static pb_status passes_on(int value) {
    PB_RETURN(fails(value));
    return PB_OK;
}

static pb_status cleans_up(int value, int *freed) {
    pb_status status = PB_OK;
    if (value == 0) PB_FAIL(PB_E_ENV, "nothing there");
    PB_TRY(passes_on(value));
done:
    *freed = 1;
    return status;
}

static pb_status deep(int n) {
    if (n == 0) return PB_ERROR(PB_E_BUG, "bottom");
    PB_RETURN(deep(n - 1));
    return PB_OK;
}

START_TEST(error_chain_keeps_message_and_frames) {
    int freed = 0;
    pb_assert_fails(cleans_up(7, &freed), PB_E_INPUT, "value 7 is wrong");
    ck_assert_int_eq(freed, 1);
    const char *trace = pb_error_trace();
    int links = 0;
    for (const char *p = trace; (p = strstr(p, " < ")); p++) links++;
    ck_assert_int_eq(links, 2);
    ck_assert_msg(strncmp(trace, "tests/test_base.c:", 18) == 0, "%s", trace);
    pb_assert_fails(cleans_up(0, &freed), PB_E_ENV, "nothing there");
    ck_assert_ptr_null(strstr(pb_error_trace(), " < "));
    pb_error_clear();
    ck_assert_str_eq(pb_error_message(), "");
    ck_assert_str_eq(pb_error_trace(), "");
}
END_TEST

START_TEST(error_chain_is_bounded) {
    pb_assert_fails(deep(40), PB_E_BUG, "bottom");
    ck_assert_ptr_nonnull(strstr(pb_error_trace(), " < 25 more"));
    char *big = malloc(5000);
    memset(big, 'x', 4999);
    big[4999] = 0;
    errno = 77;
    ck_assert_int_eq(PB_ERROR(PB_E_IO, "%s", big), PB_E_IO);
    ck_assert_int_eq(errno, 77);
    size_t n = strlen(pb_error_message());
    ck_assert_uint_eq(n, 2047);
    ck_assert_str_eq(pb_error_message() + n - 3, "...");
    free(big);
}
END_TEST

START_TEST(error_message_may_quote_the_previous_one) {
    (void)PB_ERROR(PB_E_INPUT, "inner");
    (void)PB_ERROR(PB_E_CHECK, "outer: %s", pb_error_message());
    ck_assert_str_eq(pb_error_message(), "outer: inner");
}
END_TEST

static void *set_in_thread(void *seen) {
    *(int *)seen = (int)strlen(pb_error_message());
    (void)PB_ERROR(PB_E_INPUT, "thread");
    return NULL;
}

START_TEST(error_chain_is_per_thread) {
    pthread_t thread;
    int seen = -1;
    (void)PB_ERROR(PB_E_INPUT, "main");
    ck_assert_int_eq(pthread_create(&thread, NULL, set_in_thread, &seen), 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(seen, 0);
    ck_assert_str_eq(pb_error_message(), "main");
}
END_TEST

START_TEST(status_names_and_exit_codes) {
    ck_assert_str_eq(pb_status_name(PB_OK), "ok");
    ck_assert_str_eq(pb_status_name(PB_E_BUG), "bug");
    ck_assert_str_eq(pb_status_name((pb_status)99), "unknown");
    ck_assert_int_eq(pb_status_exit_code(PB_OK), 0);
    ck_assert_int_eq(pb_status_exit_code(PB_E_CHECK), 1);
    ck_assert_int_eq(pb_status_exit_code(PB_E_INPUT), 2);
    ck_assert_int_eq(pb_status_exit_code(PB_E_ENV), 3);
    ck_assert_int_eq(pb_status_exit_code(PB_E_IO), 3);
    ck_assert_int_eq(pb_status_exit_code(PB_E_INTERRUPTED), 130);
    for (int s = 1; s <= PB_E_BUG; s++) ck_assert_int_ne(pb_status_exit_code((pb_status)s), 0);
}
END_TEST

START_TEST(assert_aborts_in_every_build) {
    PB_ASSERT(1 + 1 == 2);
    if (!freopen("/dev/null", "w", stderr)) return;
    PB_ASSERT(1 + 1 == 3);
}
END_TEST

/* ---- text ---- */

START_TEST(text_grows) {
    pb_text t = {0};
    size_t want = 0;
    pb_text_add_bytes(&t, NULL, 0);
    ck_assert_str_eq(t.data, "");
    for (int i = 0; i < 2000; i++) {
        pb_text_add(&t, "%d,", i);
        want += (size_t)snprintf(NULL, 0, "%d,", i);
        ck_assert_uint_eq(t.len, want);
        ck_assert_uint_eq(strlen(t.data), want);
    }
    pb_text_add_bytes(&t, "a\0b", 3);
    ck_assert_uint_eq(t.len, want + 3);
    ck_assert_mem_eq(t.data + want, "a\0b", 4);
    pb_assert_ok(pb_text_status(&t));
    pb_text_free(&t);
    ck_assert_ptr_null(t.data);
    pb_text_free(&t);
}
END_TEST

START_TEST(text_remembers_failed_allocation) {
    pb_text t = {0};
    pb_text_add(&t, "kept");
    t.failed = true;
    pb_text_add(&t, "dropped");
    pb_text_add_bytes(&t, "dropped", 7);
    ck_assert_str_eq(t.data, "kept");
    pb_assert_fails(pb_text_status(&t), PB_E_OOM, "memory");
    pb_text_free(&t);
}
END_TEST

START_TEST(integers_are_strict) {
    static const struct {
        const char *s;
        int64_t v;
    } good[] = {{"0", 0},   {"-0", 0}, {"42", 42}, {"-7", -7}, {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}, {"007", 7}};
    static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "1x", "0x10", "1.0", "1e3", "9223372036854775808",
                                      "-9223372036854775809", "99999999999999999999999", "--1", "١"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t v = 5;
        ck_assert_msg(pb_parse_i64(good[i].s, &v), "%s", good[i].s);
        ck_assert_int_eq(v, good[i].v);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t v = 5;
        ck_assert_msg(!pb_parse_i64(bad[i], &v), "%s", bad[i]);
        ck_assert_int_eq(v, 5);
    }
}
END_TEST

START_TEST(doubles_are_strict) {
    static const struct {
        const char *s;
        double v;
    } good[] = {{"0", 0}, {"1.5", 1.5}, {"-2e-3", -2e-3}, {".5", .5}, {"5.", 5}, {"0x1.8p1", 3}, {"5e-324", 5e-324},
                {"1e308", 1e308}};
    static const char *const bad[] = {"",    "-",   ".",     "+1",    " 1",  "1 ",  "1,5",  "nan",
                                      "inf", "-inf", "infinity", "1e999", "-1e999", "1e", "1.5x", "0x"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        double v = 5;
        ck_assert_msg(pb_parse_f64(good[i].s, &v), "%s", good[i].s);
        ck_assert(v == good[i].v);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        double v = 5;
        ck_assert_msg(!pb_parse_f64(bad[i], &v), "%s", bad[i]);
        ck_assert(v == 5);
    }
}
END_TEST

START_TEST(sizes_know_their_units) {
    static const struct {
        const char *s;
        uint64_t v;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"4096B", 4096},
                {"4K", 4000},
                {"4Ki", 4096},
                {"4KiB", 4096},
                {"4KB", 4000},
                {"1.5G", 1500000000},
                {"48GiB", 48ull << 30},
                {"2.25Mi", 9ull << 18},
                {"0.1Ki", 102},
                {"1.99999999999999999999Gi", 2147483646},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"", "K", "-1", "1.5", "1.5B", "1k", "1T", "1KiBs", "1 K", "18446744073709551616",
                                      "18446744073709551615K", "1.G", ".5G", "1.x", "1iB", "1BB", "1e3", "17179869184.9Gi"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t v = 5;
        ck_assert_msg(pb_parse_size(good[i].s, &v), "%s", good[i].s);
        ck_assert_uint_eq(v, good[i].v);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t v = 5;
        ck_assert_msg(!pb_parse_size(bad[i], &v), "%s", bad[i]);
        ck_assert_uint_eq(v, 5);
    }
}
END_TEST

START_TEST(times_know_their_units) {
    static const struct {
        const char *s;
        double v;
    } good[] = {{"30", 30},    {"30s", 30},   {"5min", 300},  {"90m", 5400},
                {"2h", 7200},  {"1.5", 1.5},  {"0.5h", 1800}, {"1e3s", 1000}};
    static const char *const bad[] = {"", "s", "min", "0", "-1s", "5 min", "5minutes", "1d", "nan",
                                      "1e300h"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        double v = 5;
        ck_assert_msg(pb_parse_seconds(good[i].s, &v), "%s", good[i].s);
        ck_assert(v == good[i].v);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        double v = 5;
        ck_assert_msg(!pb_parse_seconds(bad[i], &v), "%s", bad[i]);
        ck_assert(v == 5);
    }
}
END_TEST

START_TEST(formatted_doubles_read_back_bit_for_bit) {
    static const struct {
        double v;
        const char *s;
    } exact[] = {{0, "0"}, {-0.0, "-0"}, {0.1, "0.1"}, {0.1 + 0.2, "0.30000000000000004"}, {1e15, "1000000000000000"},
                 {9007199254740991.0, "9007199254740991"}, {1e300, "1e+300"}, {-2.5, "-2.5"}, {NAN, "nan"},
                 {INFINITY, "inf"}, {-INFINITY, "-inf"}};
    char buf[PB_F64_CHARS];
    for (size_t i = 0; i < sizeof exact / sizeof exact[0]; i++) {
        pb_format_f64(buf, exact[i].v);
        ck_assert_str_eq(buf, exact[i].s);
    }
    uint64_t bits = 88172645463325252u; /* xorshift64, fixed seed */
    for (int i = 0; i < 200000; i++) {
        double v, back = 0;
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        pb_format_f64(buf, v);
        ck_assert_msg(pb_parse_f64(buf, &back), "%s", buf);
        ck_assert_msg(memcmp(&v, &back, sizeof v) == 0, "%a became %s", v, buf);
    }
}
END_TEST

START_TEST(nearest_name_has_least_edit_distance) {
    static const char *const names[] = {"rank", "alpha", "dropout", "target_modules"};
    ck_assert_str_eq(pb_nearest("rnak", names, 4), "rank");
    ck_assert_str_eq(pb_nearest("drop_out", names, 4), "dropout");
    ck_assert_str_eq(pb_nearest("zzzz", names, 4), "rank"); /* of equals the first */
    ck_assert_str_eq(pb_nearest("targets_module", names, 4), "target_modules");
    ck_assert_str_eq(pb_nearest("", names, 4), "rank");
    ck_assert_ptr_null(pb_nearest("x", names, 0));
    char big[2000];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = 0;
    const char *const long_names[] = {"b", big};
    ck_assert_ptr_eq(pb_nearest(big, long_names, 2), big);
}
END_TEST

START_TEST(globs_match_like_a_shell) {
    static const struct {
        const char *pattern, *name;
        bool match;
    } cases[] = {{"", "", true},
                 {"", "a", false},
                 {"*", "", true},
                 {"*", "layers.3.attn.q", true},
                 {"layers.*.attn.?", "layers.3.attn.q", true},
                 {"layers.*.attn.?", "layers.3.attn.qq", false},
                 {"*.q", "layers.3.attn.q", true},
                 {"*.q", "layers.3.attn.k", false},
                 {"a*b*c", "aXbXbXc", true},
                 {"a*b*c", "aXbXbX", false},
                 {"?", "", false},
                 {"**a", "ba", true},
                 {"a", "A", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_msg(pb_glob(cases[i].pattern, cases[i].name) == cases[i].match, "%s %s", cases[i].pattern,
                      cases[i].name);
    char name[4001]; /* a backtracking matcher would not come back */
    memset(name, 'a', 4000);
    name[4000] = 0;
    ck_assert(!pb_glob("*a*a*a*a*a*a*a*a*a*b", name));
}
END_TEST

START_TEST(utf8_refuses_surrogates_and_overlong_forms) {
    static const char *const good[] = {"", "plain", "ä€😀", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"};
    static const struct {
        const char *s;
        size_t bad;
    } bad[] = {{"\x80", 0},         {"ab\xC0\x80", 2},         {"a\xE0\x80\x80", 1}, {"\xED\xA0\x80", 0}, {"\xF4\x90\x80\x80", 0},
               {"\xF0\x80\x80\x80", 0}, {"x\xE2\x82", 1}, {"\xFF", 0},           {"\xC3(", 0},        {"ok\xF0\x9F\x98", 2}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) ck_assert(pb_utf8_valid(good[i], strlen(good[i]), NULL));
    ck_assert(pb_utf8_valid("\0", 1, NULL));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t at = 99;
        ck_assert_msg(!pb_utf8_valid(bad[i].s, strlen(bad[i].s), &at), "case %zu", i);
        ck_assert_uint_eq(at, bad[i].bad);
    }
}
END_TEST

START_TEST(copy_says_when_it_cuts) {
    char buf[4];
    ck_assert(pb_copy(buf, sizeof buf, "abc"));
    ck_assert_str_eq(buf, "abc");
    ck_assert(!pb_copy(buf, sizeof buf, "abcd"));
    ck_assert_str_eq(buf, "abc");
    ck_assert(!pb_copy(buf, 1, "x"));
    ck_assert_str_eq(buf, "");
}
END_TEST

START_TEST(clock_goes_forward) {
    int64_t a = pb_now_ns();
    usleep(2000);
    int64_t b = pb_now_ns();
    ck_assert_int_ge(b - a, 2000000);
    ck_assert_int_lt(b - a, 60000000000);
}
END_TEST

/* Builds a locale with a decimal comma with localedef: images often ship only C. */
START_TEST(numbers_ignore_a_comma_locale) {
    char *dir = pb_test_dir(), command[512];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1", dir);
    if (system(command) < 0) ck_abort();
    setenv("LOCPATH", dir, 1);
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) {
        fprintf(stderr, "note: no de_DE locale sources here: the comma test only checks the C locale\n");
    } else {
        char printed[32];
        snprintf(printed, sizeof printed, "%.1f", 1.5);
        ck_assert_str_eq(printed, "1,5");
    }
    double v = 0;
    char buf[PB_F64_CHARS];
    pb_text t = {0};
    pb_json *json = NULL;
    ck_assert(pb_parse_f64("1.5", &v) && v == 1.5);
    ck_assert(!pb_parse_f64("1,5", &v));
    pb_format_f64(buf, 0.25);
    ck_assert_str_eq(buf, "0.25");
    pb_text_add(&t, "%.2f %g", 1.25, 0.5);
    ck_assert_str_eq(t.data, "1.25 0.5");
    pb_assert_ok(pb_json_parse("x", "[0.5,1e2]", 9, &json));
    char *text = pb_json_print(json, false);
    ck_assert_str_eq(text, "[0.5,100]");
    free(text);
    pb_json_free(json);
    pb_text_free(&t);
    setlocale(LC_ALL, "C");
    free(dir);
}
END_TEST

/* ---- file ---- */

static char *file_in(const char *dir, const char *name, const void *data, size_t len) {
    char *path = pb_path_join(dir, name);
    pb_assert_ok(pb_file_write_atomic(path, data, len));
    return path;
}

static size_t entries_in(const char *dir) {
    char **names = NULL;
    size_t n = 0;
    pb_assert_ok(pb_list_dir(dir, &names, &n));
    pb_names_free(names, n);
    return n;
}

START_TEST(file_round_trip) {
    char *dir = pb_test_dir(), *data = NULL;
    size_t len = 99, big_len = 3000001;
    char *path = file_in(dir, "a", "x\0y", 3);
    pb_assert_ok(pb_file_read(path, 3, &data, &len));
    ck_assert_uint_eq(len, 3);
    ck_assert_mem_eq(data, "x\0y", 4);
    free(data);
    char *big = malloc(big_len);
    for (size_t i = 0; i < big_len; i++) big[i] = (char)(i * 7 % 251);
    pb_assert_ok(pb_file_write_atomic(path, big, big_len));
    pb_assert_ok(pb_file_read(path, SIZE_MAX, &data, &len));
    ck_assert_uint_eq(len, big_len);
    ck_assert(memcmp(data, big, len) == 0 && data[len] == 0);
    ck_assert_uint_eq(entries_in(dir), 1);
    free(big);
    free(data);
    pb_assert_ok(pb_file_write_atomic(path, NULL, 0));
    pb_assert_ok(pb_file_read(path, 0, &data, &len));
    ck_assert_uint_eq(len, 0);
    ck_assert_str_eq(data, "");
    free(data);
    free(path);
    free(dir);
}
END_TEST

START_TEST(file_read_names_what_is_wrong) {
    char *dir = pb_test_dir(), *data = (char *)1;
    char *path = file_in(dir, "a", "12345", 5), *missing = pb_path_join(dir, "missing"), *fifo = pb_path_join(dir, "fifo");
    pb_assert_fails(pb_file_read(missing, 10, &data, NULL), PB_E_INPUT, "missing: cannot be opened: No such file");
    ck_assert_ptr_null(data);
    pb_assert_fails(pb_file_read(dir, 10, &data, NULL), PB_E_INPUT, "is a folder, expected a regular file");
    pb_assert_fails(pb_file_read(path, 4, &data, NULL), PB_E_INPUT, "has 5 bytes, expected at most 4");
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    pb_assert_fails(pb_file_read(fifo, 10, &data, NULL), PB_E_INPUT, "is a special file");
    pb_assert_ok(pb_file_read("/proc/self/status", 1 << 20, &data, NULL));
    ck_assert_ptr_nonnull(strstr(data, "VmPeak"));
    free(data);
    pb_assert_fails(pb_file_read("/proc/self/status", 10, &data, NULL), PB_E_INPUT, "more than the 10 bytes");
    free(fifo);
    free(missing);
    free(path);
    free(dir);
}
END_TEST

START_TEST(map_shows_the_file) {
    char *dir = pb_test_dir();
    char *path = file_in(dir, "a", "mapped", 6), *empty = file_in(dir, "empty", "", 0);
    pb_map map = {0};
    pb_assert_ok(pb_map_open(path, &map));
    ck_assert_uint_eq(map.len, 6);
    ck_assert_mem_eq(map.data, "mapped", 6);
    pb_map_close(&map);
    pb_map_close(&map);
    pb_map_close(NULL);
    ck_assert_ptr_null(map.data);
    pb_assert_ok(pb_map_open(empty, &map));
    ck_assert_uint_eq(map.len, 0);
    ck_assert_ptr_nonnull(map.data);
    pb_map_close(&map);
    pb_assert_fails(pb_map_open(dir, &map), PB_E_INPUT, "is a folder");
    pb_assert_fails(pb_map_open("no/such/file", &map), PB_E_INPUT, "no/such/file");
    free(empty);
    free(path);
    free(dir);
}
END_TEST

START_TEST(atomic_write_leaves_old_content_and_no_temp_on_failure) {
    char *dir = pb_test_dir(), *data = NULL, *block = calloc(1, 1 << 20);
    char *path = file_in(dir, "a", "old", 3);
    struct rlimit old, small;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 4096; /* the first write is short, the second fails with EFBIG */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    pb_status status = pb_file_write_atomic(path, block, 1 << 20);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    pb_assert_fails(status, PB_E_IO, "/a: writing failed: File too large");
    ck_assert_uint_eq(entries_in(dir), 1);
    pb_assert_ok(pb_file_read(path, 100, &data, NULL));
    ck_assert_str_eq(data, "old");
    free(data);
    free(path);
    path = pb_path_join(dir, "folder");
    pb_assert_ok(pb_make_dirs(path));
    pb_assert_fails(pb_file_write_atomic(path, "x", 1), PB_E_IO, "folder: renaming into place failed: Is a directory");
    ck_assert_uint_eq(entries_in(dir), 2);
    free(path);
    path = pb_path_join(dir, "no/such");
    pb_assert_fails(pb_file_write_atomic(path, "x", 1), PB_E_IO, "no/such: cannot create a file in its folder");
    free(path);
    free(block);
    free(dir);
}
END_TEST

START_TEST(atomic_write_honours_umask_and_bare_names) {
    char *dir = pb_test_dir();
    struct stat st;
    umask(027);
    ck_assert_int_eq(chdir(dir), 0);
    pb_assert_ok(pb_file_write_atomic("bare", "x", 1));
    ck_assert_int_eq(stat("bare", &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0640);
    ck_assert_int_eq(chdir(pb_test_root()), 0);
    free(dir);
}
END_TEST

START_TEST(make_dirs_creates_parents) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "a//b/c/"), *file = file_in(dir, "f", "x", 1);
    char *below = pb_path_join(file, "g");
    pb_assert_ok(pb_make_dirs(path));
    pb_assert_ok(pb_make_dirs(path));
    pb_assert_ok(pb_make_dirs("/"));
    ck_assert(pb_is_dir(path) && pb_file_exists(path));
    ck_assert(pb_file_exists(file) && !pb_is_dir(file));
    ck_assert(!pb_file_exists(below) && !pb_is_dir(below));
    pb_assert_fails(pb_make_dirs(file), PB_E_IO, "a file of that name is in the way");
    pb_assert_fails(pb_make_dirs(below), PB_E_IO, "a file of that name is in the way");
    pb_assert_fails(pb_make_dirs(""), PB_E_INPUT, "without a name");
    free(below);
    free(file);
    free(path);
    free(dir);
}
END_TEST

START_TEST(temporary_folders_come_and_go) {
    char *dir = pb_test_dir(), a[600], b[600], small[20] = "x";
    setenv("TMPDIR", dir, 1);
    pb_assert_ok(pb_temp_folder("x", a, sizeof a));
    pb_assert_ok(pb_temp_folder("x", b, sizeof b));
    ck_assert(pb_is_dir(a) && pb_is_dir(b) && strcmp(a, b) != 0 && strncmp(a, dir, strlen(dir)) == 0);
    char *inside = pb_path_join(a, "deep/er");
    pb_assert_ok(pb_make_dirs(inside));
    free(file_in(inside, "f", "x", 1));
    char *link = pb_path_join(inside, "link");
    ck_assert_int_eq(symlink(b, link), 0);
    pb_assert_ok(pb_remove_tree(a));
    ck_assert(!pb_is_dir(a) && pb_is_dir(b));
    pb_assert_ok(pb_remove_tree(a));
    pb_assert_fails(pb_temp_folder("x", small, sizeof small), PB_E_IO, "too long");
    ck_assert_str_eq(small, "");
    setenv("TMPDIR", b, 1);
    pb_assert_ok(pb_remove_tree(b));
    pb_assert_fails(pb_temp_folder("x", a, sizeof a), PB_E_IO, ": cannot make a folder");
    free(link);
    free(inside);
    free(dir);
}
END_TEST

START_TEST(path_join_puts_one_slash) {
    static const struct {
        const char *a, *b, *want;
    } cases[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "/b", "a/b"}, {"/", "b", "/b"},
                 {"", "b", "b"},    {"a", "", "a"},     {"/", "", "/"},       {"", "/b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *joined = pb_path_join(cases[i].a, cases[i].b);
        ck_assert_str_eq(joined, cases[i].want);
        free(joined);
    }
}
END_TEST

START_TEST(list_dir_is_sorted_by_bytes) {
    char *dir = pb_test_dir(), **names = NULL;
    size_t n = 9;
    pb_assert_ok(pb_list_dir(dir, &names, &n));
    ck_assert_uint_eq(n, 0);
    pb_names_free(names, n);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "%c%02d", i % 2 ? 'b' : 'A', i);
        free(file_in(dir, name, "", 0));
    }
    free(file_in(dir, ".hidden", "", 0));
    pb_assert_ok(pb_list_dir(dir, &names, &n));
    ck_assert_uint_eq(n, 41);
    ck_assert_str_eq(names[0], ".hidden");
    ck_assert_str_eq(names[1], "A00");
    ck_assert_str_eq(names[40], "b39");
    for (size_t i = 1; i < n; i++) ck_assert_str_lt(names[i - 1], names[i]);
    pb_names_free(names, n);
    pb_names_free(NULL, 0);
    pb_assert_fails(pb_list_dir("no/such", &names, &n), PB_E_INPUT, "no/such: cannot be listed");
    free(dir);
}
END_TEST

/* ---- hash ---- */

START_TEST(sha256_gives_the_standard_examples) {
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char empty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    static const char million[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    char hex[PB_SHA256_HEX], *dir = pb_test_dir(), *block = malloc(1000000);
    pb_assert_ok(pb_sha256_bytes("abc", 3, hex));
    ck_assert_str_eq(hex, abc);
    pb_assert_ok(pb_sha256_bytes(NULL, 0, hex));
    ck_assert_str_eq(hex, empty);
    pb_sha256 *h = NULL;
    pb_assert_ok(pb_sha256_new(&h));
    pb_sha256_add(h, "a", 1);
    pb_sha256_add(h, NULL, 0);
    pb_sha256_add(h, "bc", 2);
    pb_sha256_end(h, hex);
    ck_assert_str_eq(hex, abc);
    memset(block, 'a', 1000000);
    char *path = file_in(dir, "million", block, 1000000), *none = file_in(dir, "none", "", 0);
    pb_assert_ok(pb_sha256_file(path, hex));
    ck_assert_str_eq(hex, million);
    pb_assert_ok(pb_sha256_file(none, hex));
    ck_assert_str_eq(hex, empty);
    pb_assert_fails(pb_sha256_file(dir, hex), PB_E_INPUT, "is a folder");
    pb_assert_fails(pb_sha256_file("no/such", hex), PB_E_INPUT, "no/such: cannot be opened");
    pb_assert_ok(pb_sha256_new(&h));
    pb_sha256_free(h);
    pb_sha256_free(NULL);
    free(none);
    free(path);
    free(block);
    free(dir);
}
END_TEST

/* ---- json ---- */

static pb_json *parsed(const char *text) {
    pb_json *json = NULL;
    pb_assert_ok(pb_json_parse("t", text, strlen(text), &json));
    return json;
}

static const struct {
    const char *text, *part;
} bad_json[] = {
    {"", "t:1:1: expected a value, found the end of the text"},
    {"{\n  \"a\": 1,\n}", "t:3:1: expected a key in double quotes, found '}'"},
    {"[1, 2", "t:1:6: expected ',' or ']' in an array, found the end"},
    {"{\"a\" 1}", "t:1:6: expected ':'"},
    {"{\"ä\": tru}", "t:1:7: expected a value, found 't'"},
    {"[1] x", "t:1:5: expected nothing after the value, found 'x'"},
    {"{} {}", "t:1:4: expected nothing"},
    {"nullx", "t:1:5: expected nothing"},
    {"{\"a\":1 // no\n}", "t:1:8: expected ',' or '}'"},
    {"[\n1,\n01]", "t:3:2: a number must not start with 0"},
    {"[1.]", "t:1:4: expected a digit"},
    {"[.5]", "t:1:2: expected a value"},
    {"[+1]", "t:1:2: expected a value"},
    {"[-]", "t:1:3: expected a digit"},
    {"[1e]", "t:1:4: expected a digit"},
    {"[1e999]", "t:1:2: the number is too large"},
    {"[-1e999]", "t:1:2: the number is too large"},
    {"[1234567890123456789012345678901234567890123456789012345678901234]", "t:1:2: a number must not be longer"},
    {"[NaN]", "t:1:2: expected a value, found 'N'"},
    {"['a']", "t:1:2: expected a value"},
    {"[\"a]", "t:1:2: the string is never closed"},
    {"[\"a\tb\"]", "t:1:4: a control character"},
    {"[\"\\x\"]", "t:1:4: expected one of"},
    {"[\"\\", "t:1:4: expected one of"},
    {"[\"\\u12g4\"]", "t:1:7: expected four hexadecimal digits"},
    {"[\"a\\u0000\"]", "t:1:4: \\u0000 is not supported"},
    {"[\"\\ud800\"]", "t:1:3: a high surrogate"},
    {"[\"\\ud800\\u0041\"]", "t:1:3: a high surrogate"},
    {"[\"\\udc00\"]", "t:1:3: a low surrogate"},
    {"[\"\xFF\"]", "t:1:3: the text is not valid UTF-8, found byte 0xff"},
    {"\xEF\xBB\xBF{}", "t:1:1: the text must not start with a byte order mark"},
    {"[1\f]", "t:1:3: expected ',' or ']'"},
    {"{\"a\":1,\n \"b\":{\"a\":2,\n  \"\\u0061\":3}}", "t:3:3: the key \"a\" stands twice in one object, found '\"'"},
    {"[{\"k\":[\"k\",{\"x\":1}],\n\"z\":\"z\",\"k\":0}]", "t:2:9: the key \"k\" stands twice"},
};

START_TEST(json_faults_are_placed) {
    pb_json *json = (pb_json *)1;
    pb_assert_fails(pb_json_parse("t", bad_json[_i].text, strlen(bad_json[_i].text), &json), PB_E_INPUT,
                    bad_json[_i].part);
    ck_assert_ptr_null(json);
}
END_TEST

START_TEST(json_refuses_nul_bytes_and_respects_length) {
    pb_json *json = NULL;
    pb_assert_fails(pb_json_parse("t", "[1]\0", 4, &json), PB_E_INPUT, "t:1:4: expected nothing");
    pb_assert_fails(pb_json_parse("t", "[\"a\0b\"]", 7, &json), PB_E_INPUT, "t:1:4: a control character");
    char *exact = malloc(3); /* no NUL after it: the address sanitizer watches */
    memcpy(exact, "123", 3);
    pb_assert_ok(pb_json_parse("t", exact, 3, &json));
    ck_assert(json->valuedouble == 123);
    pb_json_free(json);
    pb_assert_ok(pb_json_parse("t", "true!", 4, &json));
    pb_json_free(json);
    free(exact);
}
END_TEST

START_TEST(json_depth_is_limited) {
    char text[1025];
    pb_json *json = NULL;
    memset(text, '[', 512);
    memset(text + 512, ']', 512);
    pb_assert_fails(pb_json_parse("t", text, 1024, &json), PB_E_INPUT, "t:1:257: nested deeper than 256");
    pb_assert_ok(pb_json_parse("t", text + 256, 512, &json));
    char *printed = pb_json_print(json, true);
    ck_assert_ptr_nonnull(printed);
    free(printed);
    pb_json_free(json);
}
END_TEST

START_TEST(json_round_trips_values_exactly) {
    static const char text[] =
        "{\"t\":true,\"f\":false,\"n\":null,\"s\":\"q\\\"\\\\\\n\\u0001ä😀/\",\"e\":{},\"a\":[],\"A\":[[1],{\"x\":2}],"
        "\"d\":[0.1,0.30000000000000004,9007199254740991,-0,1e+300,5e-324,-2.5]}";
    pb_json *json = parsed(text);
    char *printed = pb_json_print(json, false);
    /* cJSON and %.17g may write the smallest double with more digits: compare what is read back */
    pb_json *again = parsed(printed);
    ck_assert(cJSON_Compare(json, again, true));
    const pb_json *x = pb_json_get(json, "d")->child, *y = pb_json_get(again, "d")->child;
    for (; x; x = x->next, y = y->next) ck_assert_mem_eq(&x->valuedouble, &y->valuedouble, sizeof(double));
    ck_assert_ptr_nonnull(strstr(printed, "\"s\":\"q\\\"\\\\\\n\\u0001ä😀/\",\"e\":{},\"a\":[],\"A\":[[1],{\"x\":2}]"));
    ck_assert_ptr_nonnull(strstr(printed, "[0.1,0.30000000000000004,9007199254740991,-0,1e+300,"));
    free(printed);
    printed = pb_json_print(json, true);
    pb_json_free(again);
    again = parsed(printed);
    ck_assert(cJSON_Compare(json, again, true));
    ck_assert_ptr_nonnull(strstr(printed, "{\n  \"t\": true,\n"));
    ck_assert_ptr_nonnull(strstr(printed, "\"A\": [\n    [1],\n    {\n      \"x\": 2\n    }\n  ],\n"));
    free(printed);
    pb_json_free(again);
    pb_json_free(json);
}
END_TEST

START_TEST(json_keys_are_case_sensitive) {
    pb_json *json = parsed("{\"sum\":1,\"SUM\":2}");
    ck_assert(pb_json_get(json, "SUM")->valuedouble == 2);
    ck_assert_ptr_null(pb_json_get(json, "Sum"));
    ck_assert_ptr_null(pb_json_get(NULL, "sum"));
    pb_json_free(json);
}
END_TEST

START_TEST(json_typed_reads) {
    static const char *const kinds[] = {"lora", "dora"};
    pb_json *o = parsed("{\"f\":1.5,\"i\":7,\"b\":true,\"s\":\"dora\",\"big\":\"9223372036854775807\",\"z\":null,"
                        "\"small\":\"7\",\"huge\":9007199254740992,\"list\":[1]}");
    double f = 9;
    int64_t i = 9;
    bool b = false;
    const char *s = "default";
    int choice = 9;
    pb_assert_ok(pb_json_read_f64(o, "w", "absent", 0, 1, &f));
    pb_assert_ok(pb_json_read_i64(o, "w", "absent", 0, 1, &i));
    pb_assert_ok(pb_json_read_bool(o, "w", "absent", &b));
    pb_assert_ok(pb_json_read_str(o, "w", "absent", &s));
    pb_assert_ok(pb_json_read_choice(o, "w", "absent", kinds, 2, &choice));
    pb_assert_ok(pb_json_read_f64(NULL, "w", "f", 0, 1, &f));
    ck_assert(f == 9 && i == 9 && !b && choice == 9);
    ck_assert_str_eq(s, "default");
    pb_assert_ok(pb_json_read_f64(o, "w", "f", 1.5, 1.5, &f));
    pb_assert_ok(pb_json_read_i64(o, "w", "i", 0, 7, &i));
    pb_assert_ok(pb_json_read_bool(o, "w", "b", &b));
    pb_assert_ok(pb_json_read_str(o, "w", "s", &s));
    pb_assert_ok(pb_json_read_choice(o, "w", "s", kinds, 2, &choice));
    ck_assert(f == 1.5 && i == 7 && b && choice == 1);
    ck_assert_str_eq(s, "dora");
    pb_assert_ok(pb_json_read_i64(o, "w", "big", 0, INT64_MAX, &i));
    ck_assert_int_eq(i, INT64_MAX);

    i = 9, f = 9;
    pb_assert_fails(pb_json_read_f64(o, "suite.json: methods[2]", "f", 0, 1, &f), PB_E_INPUT,
                    "suite.json: methods[2]: \"f\": expected a number from 0 to 1, got 1.5");
    pb_assert_fails(pb_json_read_f64(o, "w", "f", 2, INFINITY, &f), PB_E_INPUT, "a number of at least 2, got 1.5");
    pb_assert_fails(pb_json_read_f64(o, "w", "f", -INFINITY, 0.1, &f), PB_E_INPUT, "a number of at most 0.1, got 1.5");
    pb_assert_fails(pb_json_read_f64(o, "w", "z", -INFINITY, INFINITY, &f), PB_E_INPUT, "a number, got null");
    pb_assert_fails(pb_json_read_i64(o, "w", "f", 0, 9, &i), PB_E_INPUT, "a whole number from 0 to 9, got 1.5");
    pb_assert_fails(pb_json_read_i64(o, "w", "i", 8, 9, &i), PB_E_INPUT, "a whole number from 8 to 9, got 7");
    pb_assert_fails(pb_json_read_i64(o, "w", "small", 0, 9, &i), PB_E_INPUT, "got \"7\"");
    pb_assert_fails(pb_json_read_i64(o, "w", "huge", 0, INT64_MAX, &i), PB_E_INPUT, "(in quotes from 2^53 on)");
    pb_assert_fails(pb_json_read_bool(o, "w", "i", &b), PB_E_INPUT, "\"i\": expected true or false, got 7");
    pb_assert_fails(pb_json_read_str(o, "w", "list", &s), PB_E_INPUT, "expected a string, got an array");
    static const char *const other[] = {"qlora", "dory"};
    pb_assert_fails(pb_json_read_choice(o, "w", "s", other, 2, &choice), PB_E_INPUT,
                    "expected one of \"qlora\", \"dory\" (nearest: \"dory\"), got \"dora\"");
    pb_assert_fails(pb_json_read_choice(o, "w", "i", other, 2, &choice), PB_E_INPUT, "\"dory\", got 7");
    pb_assert_fails(pb_json_read_f64(pb_json_get(o, "list"), "w", "f", 0, 1, &f), PB_E_INPUT,
                    "expected an object with \"f\", got an array");
    ck_assert(f == 9 && i == 9 && b && choice == 1);
    pb_json_free(o);
}
END_TEST

START_TEST(json_unknown_keys_are_refused) {
    static const char *const keys[] = {"rank", "alpha"};
    pb_json *o = parsed("{\"rank\":1,\"alhpa\":2}"), *list = parsed("[]");
    pb_assert_fails(pb_json_only_keys(o, "w", keys, 2), PB_E_INPUT, "w: unknown key \"alhpa\": did you mean \"alpha\"?");
    pb_assert_fails(pb_json_only_keys(o, "w", NULL, 0), PB_E_INPUT, "no key is allowed here");
    pb_assert_fails(pb_json_only_keys(list, "w", keys, 2), PB_E_INPUT, "expected an object, got an array");
    pb_assert_ok(pb_json_only_keys(NULL, "w", keys, 2));
    cJSON_DeleteItemFromObjectCaseSensitive(o, "alhpa");
    pb_assert_ok(pb_json_only_keys(o, "w", keys, 2));
    pb_json_free(list);
    pb_json_free(o);
}
END_TEST

START_TEST(json_builders_write_what_reads_back) {
    pb_json *o = cJSON_CreateObject();
    ck_assert(pb_json_add_f64(o, "third", 1.0 / 3) && pb_json_add_f64(o, "nan", NAN) && pb_json_add_f64(o, "inf", -INFINITY));
    ck_assert(pb_json_add_i64(o, "i", -(1ll << 53) + 1) && pb_json_add_i64(o, "j", 1ll << 53));
    ck_assert(pb_json_add_i64(o, "min", INT64_MIN));
    ck_assert(pb_json_add_str(o, "s", "bad \xFF\xC3 utf8\x7F") && pb_json_add_str(o, "none", NULL));
    ck_assert(pb_json_add_bool(o, "b", true));
    pb_json *list = pb_json_add_array(o, "list"), *sub = pb_json_add_object(o, "sub");
    ck_assert(pb_json_add_f64(list, NULL, 0.5) && pb_json_add_i64(list, NULL, 3) && pb_json_add_bool(sub, "x", false));
    ck_assert(!pb_json_add_f64(NULL, "x", 1) && !pb_json_add_str(NULL, "x", "y") && !pb_json_add_object(NULL, "x"));
    double f = 0;
    pb_assert_ok(pb_json_read_f64(o, "w", "third", 0, 1, &f)); /* the built tree reads like a parsed one */
    ck_assert(f == 1.0 / 3);
    char *text = pb_json_print(o, false);
    ck_assert_str_eq(text, "{\"third\":0.3333333333333333,\"nan\":null,\"inf\":null,\"i\":-9007199254740991,"
                           "\"j\":\"9007199254740992\",\"min\":\"-9223372036854775808\",\"s\":\"bad \\ufffd\\ufffd utf8\x7F\","
                           "\"none\":null,\"b\":true,\"list\":[0.5,3],\"sub\":{\"x\":false}}");
    pb_json *back = parsed(text);
    int64_t i = 0;
    pb_assert_ok(pb_json_read_i64(back, "w", "min", INT64_MIN, 0, &i));
    ck_assert_int_eq(i, INT64_MIN);
    pb_assert_ok(pb_json_read_i64(back, "w", "i", INT64_MIN, 0, &i));
    ck_assert_int_eq(i, -(1ll << 53) + 1);
    ck_assert_ptr_null(pb_json_print(NULL, true));
    pb_json_free(back);
    free(text);
    pb_json_free(o);
}
END_TEST

/* A vocabulary of 130,000 keys and a record of 200,000 numbers: quadratic work would take minutes. */
START_TEST(json_stays_fast_when_large) {
    pb_text t = {0};
    pb_json *json = NULL;
    int64_t start = pb_now_ns();
    pb_text_add(&t, "{");
    for (int i = 0; i < 130000; i++) pb_text_add(&t, "\"token%d\":%d,\n", i * 7919 % 130000, i);
    size_t cut = t.len;
    pb_text_add(&t, "\"end\":[0");
    for (int i = 1; i < 200000; i++) pb_text_add(&t, ",%.17g", 1.0 / i);
    pb_text_add(&t, "]}");
    pb_assert_ok(pb_text_status(&t));
    pb_assert_ok(pb_json_parse("big", t.data, t.len, &json));
    char *printed = pb_json_print(json, true);
    ck_assert_ptr_nonnull(printed);
    free(printed);
    pb_json_free(json);
    t.len = cut;
    pb_text_add(&t, "\"token5\":0}");
    pb_assert_fails(pb_json_parse("big", t.data, t.len, &json), PB_E_INPUT, "big:130001:1: the key \"token5\" stands twice");
    pb_text_free(&t);
    ck_assert_int_lt((pb_now_ns() - start) / 1000000, 20000);
}
END_TEST

START_TEST(json_loads_a_file) {
    char *dir = pb_test_dir(), *path = file_in(dir, "a.json", "{\n\"a\":}", 7), want[32] = "a.json:2:5: expected a value";
    pb_json *json = NULL;
    pb_assert_fails(pb_json_load(path, 100, &json), PB_E_INPUT, want);
    pb_assert_fails(pb_json_load(path, 3, &json), PB_E_INPUT, "expected at most 3");
    pb_assert_ok(pb_file_write_atomic(path, "{\"a\":1}", 7));
    pb_assert_ok(pb_json_load(path, 100, &json));
    ck_assert(pb_json_get(json, "a")->valuedouble == 1);
    pb_json_free(json);
    free(path);
    free(dir);
}
END_TEST

START_TEST(json_is_saved_as_it_loads) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "a.json");
    pb_json *json = cJSON_CreateObject(), *back = NULL;
    ck_assert(pb_json_add_f64(json, "a", 0.1));
    pb_assert_fails(pb_json_save(NULL, path), PB_E_OOM, "a.json: no memory");
    ck_assert(!pb_file_exists(path));
    pb_assert_ok(pb_json_save(json, path));
    pb_assert_ok(pb_json_load(path, 100, &back));
    ck_assert(pb_json_get(back, "a")->valuedouble == 0.1);
    pb_json_free(back);
    pb_json_free(json);
    free(path);
    free(dir);
}
END_TEST

/* ---- the test support itself ---- */

START_TEST(compiler_keeps_nan_visible) {
    volatile double zero = 0;
    ck_assert(isnan(zero / zero) && !isfinite(1 / zero) && !(zero / zero == zero / zero));
}
END_TEST

START_TEST(comparison_passes_only_what_is_close) {
    const double nan = NAN, inf = INFINITY;
    const struct {
        double got, want, abs_tol, rel_tol;
        bool close;
    } cases[] = {{1, 1, 0, 0, true},       {0, 0, 0, 0, true},       {0, -0.0, 0, 0, true},     {1, 1.5, 0.5, 0, true},
                 {1, 1.5, 0.49, 0, false}, {100, 101, 0, 0.01, true}, {101, 100, 0, 0.0099, false}, {nan, nan, 1, 1, false},
                 {nan, 0, 1e300, 1, false}, {0, nan, 1e300, 1, false}, {inf, inf, 0, 0, true},   {inf, -inf, 1, 1, false},
                 {1, inf, 1, 1, false},    {inf, 1, 1e300, 1, false}, {0, 1e-300, 0, 0, false}, {1e308, -1e308, 1, 1, false},
                 {0, 0, nan, 0, false},    {0, 0, 0, nan, false},    {0, 0, -1, 0, false},      {0, 0, inf, 0, false}};
    char message[512];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float g = (float)cases[i].got, w = (float)cases[i].want;
        bool close = pb_compare_f64(&cases[i].got, &cases[i].want, 1, cases[i].abs_tol, cases[i].rel_tol, "x", NULL, message,
                                    sizeof message);
        ck_assert_msg(close == cases[i].close, "case %zu: %s", i, message);
        ck_assert_int_eq(close, message[0] == 0);
        if (isnan(g) || isnan(w))
            ck_assert(!pb_compare_f32(&g, &w, 1, cases[i].abs_tol, cases[i].rel_tol, "x", NULL, message, sizeof message));
    }
    ck_assert(!pb_compare_f64(&nan, &nan, 0, 1, 1, "x", NULL, message, sizeof message));
    ck_assert_str_eq(message, "x: nothing to compare (n = 0)");
}
END_TEST

START_TEST(comparison_reports_the_first_worst_element) {
    const double want[] = {1, 2, 3, 4, 5}, got[] = {1, 2.5, 4, 3, 5.25};
    const float want32[] = {1, 2, 3}, got32[] = {1, NAN, 9};
    char message[512];
    double used = 0;
    ck_assert(!pb_compare_f64(got, want, 5, 0.5, 0, "y", &used, message, sizeof message));
    ck_assert(used == 2);
    ck_assert_str_eq(message, "y: element 2 of 5: got 4, want 3, difference 1 = 2 times the tolerance (0.5 + 0 * |want|); "
                              "2 outside, 0 not finite");
    ck_assert(pb_compare_f64(got, want, 5, 2, 0, "y", &used, message, sizeof message));
    ck_assert(used == 0.5);
    ck_assert(!pb_compare_f32(got32, want32, 3, 0.5, 0, "dA", &used, message, sizeof message));
    ck_assert(isinf(used));
    ck_assert_msg(strncmp(message, "dA: element 1 of 3: got ", 24) == 0, "%s", message);
    ck_assert_ptr_nonnull(strstr(message, "2 outside, 1 not finite"));
}
END_TEST

START_TEST(planted_nan_f64) {
    const double got[] = {1, NAN, 3}, want[] = {1, 2, 3};
    pb_assert_close(got, want, 3, 1e300, 1, "planted");
}
END_TEST

START_TEST(planted_nan_f32) {
    const float got[] = {1, NAN}, want[] = {1, NAN};
    pb_assert_close_f32(got, want, 2, 1, 1, "planted");
}
END_TEST

START_TEST(planted_off_by_a_little) {
    const double got[] = {1, 2.0001}, want[] = {1, 2};
    pb_assert_close(got, want, 2, 1e-5, 0, "planted");
}
END_TEST

START_TEST(planted_status) {
    pb_assert_ok(passes_on(3));
}
END_TEST

START_TEST(planted_wrong_code) {
    pb_assert_fails(passes_on(3), PB_E_IO, "");
}
END_TEST

START_TEST(planted_wrong_message) {
    pb_assert_fails(passes_on(3), PB_E_INPUT, "another text");
}
END_TEST

START_TEST(planted_success) {
    pb_assert_fails(PB_OK, PB_E_INPUT, "");
}
END_TEST

/* The last place is named, also where it was noted before. */
START_TEST(planted_crash) {
    for (int i = 0; i < 3; i++) pb_mark_point("first place", 17);
    for (int i = 0; i < 3; i++) pb_mark_point("second place", 17);
    pb_mark_point("second place", 18);
    for (int i = 0; i < 3; i++) pb_mark_point("first place", 17);
    abort();
}
END_TEST

/* Places that are noted again and again hide none that comes after. */
START_TEST(planted_crash_after_loops) {
    for (int i = 0; i < 1000; i++) {
        pb_mark_point("a loop", 1);
        pb_mark_point("a loop", 2);
    }
    pb_mark_point("after it", 3);
    for (int i = 0; i < 1000; i++) pb_mark_point("a loop", 1);
    abort();
}
END_TEST

static const struct {
    const char *name;
    const TTest *const *test;
    const char *message;
} planted[] = {
    {"nan_f64", &planted_nan_f64, "planted: element 1 of 3: got nan, want 2"},
    {"nan_f32", &planted_nan_f32, "planted: element 1 of 2"},
    {"off", &planted_off_by_a_little, "10 times the tolerance"},
    {"status", &planted_status, "passes_on(3) gave input: value 3 is wrong (tests/test_base.c:"},
    {"code", &planted_wrong_code, "gave input, expected io"},
    {"message", &planted_wrong_message, "does not contain \"another text\""},
    {"success", &planted_success, "gave ok, expected input"},
    {"crash", &planted_crash, "first place:17:E:"},
    {"crash_after_loops", &planted_crash_after_loops, "after it:3:E:"},
    {"empty", NULL, "no check ran"},
};
#define N_PLANTED (sizeof planted / sizeof planted[0])

static int run_planted(const char *name) {
    Suite *s = suite_create("planted");
    TCase *t = pb_test_case(s, name);
    for (size_t i = 0; i < N_PLANTED; i++)
        if (planted[i].test && strcmp(planted[i].name, name) == 0) tcase_add_test(t, *planted[i].test);
    return pb_run_suite(s);
}

START_TEST(json_members_without_ceremony) {
    pb_json *o = NULL;
    pb_assert_ok(pb_json_parse("t", "{\"a\":\"x\",\"n\":2.5}", 17, &o));
    ck_assert_str_eq(pb_json_text(o, "a"), "x");
    ck_assert_str_eq(pb_json_text(o, "n"), "");
    ck_assert_str_eq(pb_json_text(NULL, "a"), "");
    ck_assert_double_eq(pb_json_number(o, "n"), 2.5);
    ck_assert(isnan(pb_json_number(o, "a")) && isnan(pb_json_number(o, "b")));
    pb_json_free(o);
}
END_TEST

START_TEST(the_program_knows_its_folder) {
    char self[4096], beside[4096];
    pb_assert_ok(pb_own_program(self, sizeof self));
    pb_assert_ok(pb_beside_program(strrchr(self, '/') + 1, beside, sizeof beside));
    ck_assert_str_eq(beside, self);
    ck_assert_int_eq(pb_own_program(beside, strlen(self) + 1), PB_OK);
    ck_assert_int_eq(pb_own_program(beside, strlen(self)), PB_E_ENV);
    ck_assert_int_eq(pb_beside_program("longer-than-its-name", beside, strlen(self) + 1), PB_E_ENV);
    pb_error_clear();
}
END_TEST

START_TEST(planted_faults_turn_the_program_red) {
    char self[4096], command[4200], output[4096];
    pb_assert_ok(pb_own_program(self, sizeof self));
    snprintf(command, sizeof command, "'%s' planted %s 2>&1", self, planted[_i].name);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t got = fread(output, 1, sizeof output - 1, pipe);
    output[got] = 0;
    int status = pclose(pipe);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE, "status %d: %s", status, output);
    ck_assert_msg(strstr(output, planted[_i].message), "%s", output);
}
END_TEST

START_TEST(test_folders_are_new_and_below_the_build) {
    char *a = pb_test_dir(), *b = pb_test_dir(), *list = pb_path_join(pb_test_root(), "CMakeLists.txt");
    ck_assert(pb_is_dir(a) && pb_is_dir(b) && strcmp(a, b) != 0);
    ck_assert_uint_eq(entries_in(a), 0);
    ck_assert(pb_file_exists(list));
    ck_assert(pb_file_exists("tests/support.c")); /* tests run in the source root */
    setenv("PB_TEST_ROOT", "/elsewhere", 1);       /* of a build that was carried to another machine */
    ck_assert_str_eq(pb_test_root(), "/elsewhere");
    unsetenv("PB_TEST_ROOT");
    free(list);
    free(b);
    free(a);
}
END_TEST

static Suite *base_suite(void) {
    Suite *s = suite_create("base");
    TCase *t = pb_test_case(s, "status");
    tcase_add_test(t, error_chain_keeps_message_and_frames);
    tcase_add_test(t, error_chain_is_bounded);
    tcase_add_test(t, error_message_may_quote_the_previous_one);
    tcase_add_test(t, error_chain_is_per_thread);
    tcase_add_test(t, status_names_and_exit_codes);
    tcase_add_test_raise_signal(t, assert_aborts_in_every_build, SIGABRT);
    t = pb_test_case(s, "text");
    tcase_add_test(t, text_grows);
    tcase_add_test(t, text_remembers_failed_allocation);
    tcase_add_test(t, integers_are_strict);
    tcase_add_test(t, doubles_are_strict);
    tcase_add_test(t, sizes_know_their_units);
    tcase_add_test(t, times_know_their_units);
    tcase_add_test(t, formatted_doubles_read_back_bit_for_bit);
    tcase_add_test(t, nearest_name_has_least_edit_distance);
    tcase_add_test(t, globs_match_like_a_shell);
    tcase_add_test(t, utf8_refuses_surrogates_and_overlong_forms);
    tcase_add_test(t, copy_says_when_it_cuts);
    tcase_add_test(t, clock_goes_forward);
    tcase_add_test(t, numbers_ignore_a_comma_locale);
    t = pb_test_case(s, "file");
    tcase_add_test(t, file_round_trip);
    tcase_add_test(t, file_read_names_what_is_wrong);
    tcase_add_test(t, map_shows_the_file);
    tcase_add_test(t, atomic_write_leaves_old_content_and_no_temp_on_failure);
    tcase_add_test(t, atomic_write_honours_umask_and_bare_names);
    tcase_add_test(t, make_dirs_creates_parents);
    tcase_add_test(t, temporary_folders_come_and_go);
    tcase_add_test(t, path_join_puts_one_slash);
    tcase_add_test(t, list_dir_is_sorted_by_bytes);
    t = pb_test_case(s, "hash");
    tcase_add_test(t, sha256_gives_the_standard_examples);
    t = pb_test_case(s, "json");
    tcase_add_loop_test(t, json_faults_are_placed, 0, (int)(sizeof bad_json / sizeof bad_json[0]));
    tcase_add_test(t, json_refuses_nul_bytes_and_respects_length);
    tcase_add_test(t, json_depth_is_limited);
    tcase_add_test(t, json_round_trips_values_exactly);
    tcase_add_test(t, json_keys_are_case_sensitive);
    tcase_add_test(t, json_typed_reads);
    tcase_add_test(t, json_unknown_keys_are_refused);
    tcase_add_test(t, json_builders_write_what_reads_back);
    tcase_add_test(t, json_stays_fast_when_large);
    tcase_add_test(t, json_loads_a_file);
    tcase_add_test(t, json_is_saved_as_it_loads);
    t = pb_test_case(s, "support");
    tcase_add_test(t, compiler_keeps_nan_visible);
    tcase_add_test(t, comparison_passes_only_what_is_close);
    tcase_add_test(t, comparison_reports_the_first_worst_element);
    tcase_add_test(t, json_members_without_ceremony);
    tcase_add_test(t, the_program_knows_its_folder);
    tcase_add_loop_test(t, planted_faults_turn_the_program_red, 0, (int)N_PLANTED);
    tcase_add_test(t, test_folders_are_new_and_below_the_build);
    return s;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "planted") == 0) return run_planted(argv[2]);
    return pb_run_suite(base_suite());
}

/* Builds of git revisions, of a repository whose "program" is copied by its build. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "harness/kernel_process.h"
#include "harness/kernel_revision.h"
#include "tests/support.h"

static void write_text(const char *dir, const char *name, const char *text) {
    char *path = pb_path_join(dir, name);
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    free(path);
}

static void sh(const char *dir, const char *command) {
    const char *const argv[] = {"sh", "-ec", command, NULL};
    char *log = pb_path_join(dir, "log");
    int code = 0;
    pb_assert_ok(pb_process_run(argv, NULL, dir, log, &code));
    ck_assert_msg(code == 0, "%s: exit status %d", command, code);
    unlink(log);
    free(log);
}

/* Three commits: one, two (tag `second`), and a third that does not build. */
static char *repository(void) {
    char *dir = pb_test_dir();
    setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
    setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
    write_text(dir, "CMakeLists.txt",
               "cmake_minimum_required(VERSION 3.20)\nproject(p LANGUAGES NONE)\n"
               "add_custom_target(peftbench COMMAND ${CMAKE_COMMAND} -E copy "
               "${CMAKE_SOURCE_DIR}/program ${CMAKE_BINARY_DIR}/peftbench)\n"
               "if(PB_CUDA AND NOT DEFINED ENV{NO_NVCC})\n"
               "add_custom_target(cuda_backend COMMAND ${CMAKE_COMMAND} -E copy "
               "${CMAKE_SOURCE_DIR}/program ${CMAKE_BINARY_DIR}/libpeftbench_cuda.so)\n"
               "else()\nadd_custom_target(cuda_backend)\nendif()\n");
    write_text(dir, "program", "#!/bin/sh\necho one\n");
    sh(dir, "git init -q . && git config user.name t && git config user.email t@example.org && "
            "git add . && git commit -qm one && printf '#!/bin/sh\\necho two\\n' >program && "
            "git commit -qam two && git tag second && "
            "echo 'message(FATAL_ERROR \"the third is broken\")' >>CMakeLists.txt && "
            "git commit -qam three");
    return dir;
}

static void assert_says(const char *program, const char *want) {
    const char *const argv[] = {program, NULL};
    char *dir = pb_test_dir(), *log = pb_path_join(dir, "log"), line[64];
    int code = 1;
    pb_assert_ok(pb_process_run(argv, NULL, NULL, log, &code));
    ck_assert_int_eq(code, 0);
    pb_process_last_line(log, line, sizeof line);
    ck_assert_str_eq(line, want);
    free(dir);
    free(log);
}

static size_t entries(const char *dir) {
    char **names = NULL;
    size_t n = 0;
    pb_assert_ok(pb_list_dir(dir, &names, &n));
    pb_names_free(names, n);
    return n;
}

START_TEST(revisions_are_built_once_and_apart) {
    char *dir = repository(), *cache = pb_test_dir(), *tmp = pb_test_dir();
    char program[1024], again[1024];
    setenv("TMPDIR", tmp, 1);
    write_text(dir, "program", "#!/bin/sh\necho not committed\n");
    pb_assert_ok(pb_kernel_revision(dir, "second", cache, false, program));
    assert_says(program, "two");
    pb_assert_ok(pb_kernel_revision(dir, "HEAD~2", cache, false, again));
    assert_says(again, "one");
    ck_assert_uint_eq(entries(tmp), 0);
    /* The same commit by another name, with a cmake that would fail. */
    write_text(dir, "cmake", "#!/bin/sh\nexit 1\n");
    sh(dir, "chmod 755 cmake");
    pb_text path = {0};
    pb_text_add(&path, "%s:%s", dir, getenv("PATH"));
    setenv("PATH", path.data, 1);
    pb_assert_ok(pb_kernel_revision(dir, "HEAD~1", cache, false, again));
    ck_assert_str_eq(program, again);
    setenv("CFLAGS", "-O1", 1); /* another compiler's program is another one */
    pb_assert_fails(pb_kernel_revision(dir, "HEAD~1", cache, false, again), PB_E_ENV, "failed with 1");
    pb_text_free(&path);
    free(dir);
    free(cache);
    free(tmp);
}
END_TEST

/* For a GPU the backend is built and kept with the program, apart from a program without one. */
START_TEST(a_backend_is_kept_beside_its_program) {
    char *dir = repository(), *cache = pb_test_dir(), *tmp = pb_test_dir();
    char program[1024], backend[1024], again[1024];
    setenv("TMPDIR", tmp, 1);
    unsetenv("PB_CUDA_PLUGIN");
    pb_assert_ok(pb_kernel_revision(dir, "second", cache, false, program));
    pb_assert_fails(pb_kernel_backend(program, backend), PB_E_ENV, "no libpeftbench_cuda.so beside it");
    pb_assert_ok(pb_kernel_revision(dir, "second", cache, true, again));
    ck_assert_str_ne(program, again);
    pb_assert_ok(pb_kernel_backend(again, backend));
    assert_says(backend, "two");
    assert_says(again, "two");
    setenv("NO_NVCC", "1", 1);
    pb_assert_ok(pb_kernel_revision(dir, "second", cache, true, again)); /* is there already */
    static const char *const others[] = {"CUDAFLAGS", "CUDAHOSTCXX", "CXX", "CXXFLAGS"};
    for (int i = 0; i < 4; i++) { /* flags or a host compiler of another kind: another backend */
        setenv(others[i], "-O1", 1);
        pb_assert_ok(pb_kernel_revision(dir, "second", cache, false, again));
        pb_assert_fails(pb_kernel_revision(dir, "second", cache, true, again), PB_E_ENV, "no cuda backend");
        unsetenv(others[i]);
    }
    pb_assert_fails(pb_kernel_revision(dir, "HEAD~2", cache, true, program), PB_E_ENV,
                    "HEAD~2: its build has no cuda backend: no nvcc was found");
    ck_assert(!pb_file_exists(program));
    unsetenv("NO_NVCC");
    ck_assert_uint_eq(entries(tmp), 0);
    free(dir);
    free(cache);
    free(tmp);
}
END_TEST

START_TEST(what_does_not_build_is_said_in_a_line) {
    char *dir = repository(), *cache = pb_test_dir(), *tmp = pb_test_dir(), program[1024];
    setenv("TMPDIR", tmp, 1);
    pb_assert_fails(pb_kernel_revision(dir, "third", cache, false, program), PB_E_INPUT,
                    "third: no program peftbench there, nor a revision of this name");
    pb_assert_fails(pb_kernel_revision(dir, "--help", cache, false, program), PB_E_INPUT, "nor a revision");
    pb_assert_fails(pb_kernel_revision("/", "HEAD", cache, false, program), PB_E_INPUT, "no git repository");
    pb_assert_fails(pb_kernel_revision(dir, "HEAD", cache, false, program), PB_E_ENV,
                    "HEAD: cmake build of this revision failed with 1: CMake Error");
    ck_assert(strstr(pb_error_message(), "the third is broken (log: ") != NULL);
    ck_assert_uint_eq(entries(tmp), 0);
    ck_assert_uint_eq(entries(cache), 1); /* the log */
    setenv("TMPDIR", "/nowhere", 1);
    pb_assert_fails(pb_kernel_revision(dir, "HEAD", cache, false, program), PB_E_IO, "/nowhere/");
    free(dir);
    free(cache);
    free(tmp);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernel_revision");
    TCase *t = pb_test_case(s, "revisions");
    tcase_add_test(t, revisions_are_built_once_and_apart);
    tcase_add_test(t, a_backend_is_kept_beside_its_program);
    tcase_add_test(t, what_does_not_build_is_said_in_a_line);
    return pb_run_suite(s);
}

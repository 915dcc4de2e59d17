/* Builds of git revisions: harness/kernel_revision.h. */
#include "harness/kernel_revision.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/process.h"
#include "base/text.h"
#include "kernels/cuda/plugin.h"

#define PATH_CHARS 1024
#define MOST_BYTES ((size_t)1 << 30)

typedef struct revision {
    const char *folder, *name;
    bool cuda;
    char top[PATH_CHARS];  /* of the repository */
    char commit[80];
    char key[96], log[PATH_CHARS], kept[PATH_CHARS]; /* kept: CACHE/KEY */
    char temp[PATH_CHARS];
} revision;

/* PATH_CHARS are enough, or it is said which path is too long. */
static pb_status put(char out[PATH_CHARS], const char *a, const char *b, const char *c) {
    int n = snprintf(out, PATH_CHARS, "%s%s%s", a, b, c);
    if (n > 0 && n < PATH_CHARS) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s%s%s: the path is too long", a, b, c);
}

/* ---- commands ---- */

/* One line of a failed build that says something: the first with an error (cmake puts what is wrong
 * into the line after it), else the last. */
static void first_error(const char *log, char out[256]) {
    char *text = NULL, *save = NULL;
    size_t len = 0;
    pb_process_last_line(log, out, 256);
    if (pb_file_read(log, MOST_BYTES, &text, &len) != PB_OK) pb_error_clear();
    for (char *s = text ? strtok_r(text, "\n", &save) : NULL; s; s = strtok_r(NULL, "\n", &save)) {
        bool of_cmake = strncmp(s, "CMake Error", 11) == 0;
        if (!of_cmake && !strstr(s, "rror:") && !strstr(s, "fatal:")) continue;
        const char *more = of_cmake ? strtok_r(NULL, "\n", &save) : NULL;
        snprintf(out, 256, "%.120s%.120s", s, more ? more : "");
        break;
    }
    free(text);
}

static pb_status must_run(const revision *r, const char *const *argv) {
    char line[256];
    int code = 0;
    PB_RETURN(pb_process_run(argv, NULL, NULL, r->log, &code));
    if (code == 0) return PB_OK;
    first_error(r->log, line);
    return PB_ERROR(PB_E_ENV, "%s: %s %s of this revision failed with %d: %s (log: %s)", r->name,
                    argv[0], strcmp(argv[0], "git") == 0 ? "clone" : "build", code, line, r->log);
}

/* What a command says in one line; "" when it fails. */
static pb_status ask(const char *const *argv, const char *folder, const char *log, char *out,
                     size_t cap) {
    int code = 0;
    *out = 0;
    PB_RETURN(pb_process_run(argv, NULL, folder, log, &code));
    if (code == 0) pb_process_last_line(log, out, cap);
    return PB_OK;
}

/* ---- which ---- */

static pb_status find_commit(revision *r) {
    char wanted[512];
    const char *const top[] = {"git", "rev-parse", "--show-toplevel", NULL};
    const char *const commit[] = {"git",      "rev-parse", "--verify", "--quiet", "--end-of-options",
                                  wanted, NULL};
    snprintf(wanted, sizeof wanted, "%s^{commit}", r->name);
    PB_RETURN(ask(top, r->folder, r->log, r->top, sizeof r->top));
    if (!*r->top)
        return PB_ERROR(PB_E_INPUT, "%s: no program peftbench there, and %s is in no git repository "
                        "that could have such a revision", r->name, r->folder);
    PB_RETURN(ask(commit, r->folder, r->log, r->commit, sizeof r->commit));
    if (*r->commit && strspn(r->commit, "0123456789abcdef") == strlen(r->commit)) return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "%s: no program peftbench there, nor a revision of this name in %s; expected a "
                    "build folder, a program or a git revision",
                    r->name, r->top);
}

static pb_status add_answer(pb_sha256 *h, const char *const *argv, const char *log) {
    char *text = NULL;
    size_t len = 0;
    int code = 0;
    PB_RETURN(pb_process_run(argv, NULL, NULL, log, &code));
    PB_RETURN(pb_file_read(log, MOST_BYTES, &text, &len));
    pb_sha256_add(h, text, len);
    free(text);
    return PB_OK;
}

/* Another compiler gives another program of the same commit. */
static pb_status make_key(revision *r, const char *cache) {
    static const char *const variables[] = {
        "CC",        "CFLAGS",    "LDFLAGS",   "CMAKE_PREFIX_PATH", "CUDACXX", "CUDA_HOME",
        "CUDAARCHS", "CUDAFLAGS", "CUDAHOSTCXX", "CXX",             "CXXFLAGS"};
    const size_t n = r->cuda ? 11 : 4; /* CUDA's host compiler is one for C++ */
    const char *cc = getenv("CC"), *nvcc = getenv("CUDACXX");
    const char *const ask_cc[] = {cc && *cc ? cc : "cc", "--version", NULL};
    const char *const ask_nvcc[] = {nvcc && *nvcc ? nvcc : "nvcc", "--version", NULL};
    char hex[PB_SHA256_HEX];
    pb_sha256 *h = NULL;
    PB_RETURN(pb_sha256_new(&h));
    pb_status status = add_answer(h, ask_cc, r->log);
    /* cmake looks for it elsewhere too: one that is not on the PATH has no version here. */
    if (status == PB_OK && r->cuda && add_answer(h, ask_nvcc, r->log) != PB_OK) pb_error_clear();
    for (size_t i = 0; i < n && status == PB_OK; i++) {
        const char *v = getenv(variables[i]);
        pb_sha256_add(h, v ? v : "", (v ? strlen(v) : 0) + 1);
    }
    if (status == PB_OK)
        pb_sha256_end(h, hex);
    else
        pb_sha256_free(h);
    PB_RETURN(status);
    unlink(r->log);
    snprintf(r->key, sizeof r->key, "%.64s-%.8s%s", r->commit, hex, r->cuda ? "-cuda" : "");
    PB_RETURN(put(r->log, cache, "/", r->key));
    PB_RETURN(put(r->kept, r->log, "", ""));
    return put(r->log, r->kept, ".log", "");
}

/* ---- the build ---- */

static pb_status keep_file(const revision *r, const char *built, const char *file) {
    pb_status status = PB_OK;
    pb_map map = {.len = 0};
    PB_TRY(pb_map_open(built, &map));
    PB_TRY(pb_make_dirs(r->kept));
    PB_TRY(pb_file_write_atomic(file, map.data, map.len));
    if (chmod(file, 0755) != 0) PB_FAIL(PB_E_IO, "%s: %s", file, strerror(errno));
done:
    pb_map_close(&map);
    return status;
}

/* The backend first: where there is a program, everything is there. */
static pb_status keep_all(const revision *r, const char *folder, const char *program) {
    char built[PATH_CHARS], backend[PATH_CHARS];
    if (r->cuda) {
        PB_RETURN(put(built, folder, "/" PB_CUDA_PLUGIN_FILE, ""));
        PB_RETURN(put(backend, r->kept, "/" PB_CUDA_PLUGIN_FILE, ""));
        if (!pb_file_exists(built))
            return PB_ERROR(PB_E_ENV,
                            "%s: its build has no cuda backend: no nvcc was found, or none that works (log: "
                            "%s)",
                            r->name, r->log);
        PB_RETURN(keep_file(r, built, backend));
    }
    PB_RETURN(put(built, folder, "/peftbench", ""));
    return keep_file(r, built, program);
}

static pb_status build(revision *r, const char *program) {
    char source[PATH_CHARS], folder[PATH_CHARS], jobs[16];
    const char *const clone[] = {"git", "clone",  "--quiet", "--shared", "--no-checkout",
                                 "--", r->top, source,    NULL};
    const char *const checkout[] = {"git",      "-C",       source, "checkout", "--quiet",
                                    "--detach", r->commit, NULL};
    const char *const configure[] = {"cmake",
                                     "-S",
                                     source,
                                     "-B",
                                     folder,
                                     "-DCMAKE_BUILD_TYPE=Release",
                                     "-DBUILD_TESTING=OFF",
                                     r->cuda ? "-DPB_CUDA=ON" : "-DPB_CUDA=OFF",
                                     NULL};
    const char *const compile[] = {"cmake",      "--build", folder,
                                   "--parallel", jobs,      "--target",
                                   "peftbench",  r->cuda ? "cuda_backend" : NULL, NULL};
    snprintf(jobs, sizeof jobs, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    PB_RETURN(put(source, r->temp, "/source", ""));
    PB_RETURN(put(folder, r->temp, "/build", ""));
    fprintf(stderr, "building %s (%.12s), log in %s\n", r->name, r->commit, r->log);
    PB_RETURN(must_run(r, clone));
    PB_RETURN(must_run(r, checkout));
    PB_RETURN(must_run(r, configure));
    PB_RETURN(must_run(r, compile));
    PB_RETURN(keep_all(r, folder, program));
    unlink(r->log); /* of what went well nobody asks */
    return PB_OK;
}

pb_status pb_kernel_revision(const char *folder, const char *name, const char *cache,
                             bool cuda, char program[1024]) {
    pb_status status = PB_OK;
    revision r = {.folder = folder, .name = name, .cuda = cuda};
    PB_TRY(pb_temp_folder("revision", r.temp, sizeof r.temp));
    PB_TRY(put(r.log, r.temp, "/answer", ""));
    PB_TRY(find_commit(&r));
    PB_TRY(make_key(&r, cache));
    PB_TRY(put(program, r.kept, "/peftbench", ""));
    if (access(program, X_OK) == 0) goto done;
    PB_TRY(pb_make_dirs(cache));
    PB_TRY(build(&r, program));
done:
    if (*r.temp) {
        pb_status removed = pb_remove_tree(r.temp);
        if (status == PB_OK) status = removed;
    }
    return status;
}

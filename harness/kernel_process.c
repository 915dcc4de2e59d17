/* `kernels run` in a process of its own: harness/kernel_process.h. */
#include "harness/kernel_process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "kernels/cuda/plugin.h"

#define MOST_ARGS 40
#define MOST_BYTES ((size_t)64 << 20)
#define EXIT_WRONG 5 /* of `kernels run`: its output is there */

pb_status pb_kernel_folder_open(pb_kernel_folder *f) {
    PB_RETURN(pb_temp_folder("kernels", f->path, sizeof f->path));
    snprintf(f->samples, sizeof f->samples, "%s/samples.json", f->path);
    snprintf(f->log, sizeof f->log, "%s/log", f->path);
    return PB_OK;
}

void pb_kernel_folder_close(pb_kernel_folder *f) {
    if (*f->path && pb_remove_tree(f->path) != PB_OK) pb_error_clear();
    *f->path = 0;
}

pb_status pb_kernel_backend(const char *program, char out[1024]) {
    const char *given = getenv("PB_CUDA_PLUGIN");
    char *real = given && *given ? NULL : realpath(program, NULL); /* links are followed, as it does */
    int n = 0;
    if (given && *given)
        n = snprintf(out, 1024, "%s", given);
    else if (real)
        n = snprintf(out, 1024, "%.*s%s", (int)(strrchr(real, '/') + 1 - real), real, PB_CUDA_PLUGIN_FILE);
    free(real);
    if (n > 0 && n < 1024 && access(out, R_OK) == 0) return PB_OK;
    return PB_ERROR(PB_E_ENV,
                    "%s: no %s beside it; build the target cuda_backend in its build folder, on a machine "
                    "with nvcc",
                    program, PB_CUDA_PLUGIN_FILE);
}

static pb_status complain(const pb_kernel_folder *f, const char *program, const char *what,
                          int code) {
    char *text = NULL;
    size_t len = 0;
    if (pb_file_read(f->log, MOST_BYTES, &text, &len) != PB_OK) text = NULL;
    const char *end = text ? text + (len > 400 ? len - 400 : 0) : "";
    pb_status status =
        PB_ERROR(PB_E_ENV, "%s kernels %s: exit status %d: %s", program, what, code, end);
    free(text);
    return status;
}

/* A command line that grows. */
typedef struct command {
    const char *argv[MOST_ARGS];
    int n;
} command;

static void add(command *c, const char *word) {
    if (c->n < MOST_ARGS - 1) c->argv[c->n++] = word;
}

static void add_pair(command *c, const char *option, const char *value) {
    if (!value) return;
    add(c, option);
    add(c, value);
}

static void start(command *c, const pb_kernel_process *p, const char *what) {
    add(c, p->program);
    add(c, "kernels");
    add(c, what);
    for (int i = 0; p->options && p->options[i]; i++) add(c, p->options[i]);
}

pb_status pb_kernel_process_run(const pb_kernel_process *p, const pb_kernel_folder *f,
                                pb_json **out) {
    command c = {.n = 0};
    char budget[PB_F64_CHARS];
    int code = 0;
    start(&c, p, "run");
    add_pair(&c, "--save", f->samples);
    if (!p->check) add(&c, "--unchecked");
    if (p->anchors && !p->check) add(&c, "--anchors");
    pb_format_f64(budget, p->budget_s);
    if (p->budget_s > 0) add_pair(&c, "--budget", budget);
    add_pair(&c, "--filter", p->filter);
    unlink(f->samples);
    PB_RETURN(pb_process_run(c.argv, NULL, NULL, f->log, &code));
    if (p->code) *p->code = code;
    if (code != 0 && code != EXIT_WRONG) return complain(f, p->program, "run", code);
    return pb_json_load(f->samples, MOST_BYTES, out);
}

/* "3 of 10: NAME": what `kernels run` says before each case. */
static const char *announced(const char *line) {
    int i = 0, n = 0, end = 0;
    return sscanf(line, "%d of %d: %n", &i, &n, &end) == 2 && end > 0 ? line + end : NULL;
}

void pb_kernel_process_last(const pb_kernel_folder *f, char name[160], char line[160]) {
    char *text = NULL, *save = NULL;
    *name = *line = 0;
    if (pb_file_read(f->log, MOST_BYTES, &text, NULL) != PB_OK) pb_error_clear();
    for (char *s = text ? strtok_r(text, "\n", &save) : NULL; s; s = strtok_r(NULL, "\n", &save)) {
        const char *of = announced(s);
        if (of) pb_copy(name, 160, of);
        if (strcmp(s, PB_KERNELS_MEASURED) == 0) *name = 0;
        pb_copy(line, 160, s);
    }
    free(text);
}

pb_status pb_kernel_process_list(const pb_kernel_process *p, const pb_kernel_folder *f,
                                 pb_json **out) {
    /* Its stdout alone: what libraries warn of goes to stderr, and `list` has no --save. */
    command c = {.argv = {"sh", "-c", "exec \"$@\" >\"$0\"", f->samples}, .n = 4};
    int code = 0;
    start(&c, p, "list");
    add_pair(&c, "--format", "json");
    PB_RETURN(pb_process_run(c.argv, NULL, NULL, f->log, &code));
    if (code != 0) return complain(f, p->program, "list", code);
    return pb_json_load(f->samples, MOST_BYTES, out);
}

pb_status pb_kernel_process_count(const pb_kernel_process *p, const char *gauge,
                                  const pb_kernel_folder *f) {
    command c = {.n = 0};
    int code = 0;
    start(&c, p, "count");
    add_pair(&c, "--save", f->samples);
    add_pair(&c, "--gauge", gauge);
    add_pair(&c, "--filter", p->filter);
    unlink(f->samples);
    PB_RETURN(pb_process_run(c.argv, NULL, NULL, f->log, &code));
    return code == 0 ? PB_OK : complain(f, p->program, "count", code);
}

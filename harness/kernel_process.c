/* `kernels run` in a process of its own: harness/kernel_process.h. */
#include "harness/kernel_process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/process.h"

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

static pb_status complain(const pb_kernel_folder *f, const char *program, int code) {
    char *text = NULL;
    size_t len = 0;
    if (pb_file_read(f->log, MOST_BYTES, &text, &len) != PB_OK) text = NULL;
    const char *end = text ? text + (len > 400 ? len - 400 : 0) : "";
    pb_status status = PB_ERROR(PB_E_ENV, "%s kernels run: exit status %d: %s", program, code, end);
    free(text);
    return status;
}

pb_status pb_kernel_process_run(const pb_kernel_process *p, const pb_kernel_folder *f,
                                pb_json **out) {
    const char *argv[MOST_ARGS] = {p->program, "kernels", "run", "--save", f->samples};
    int n = 5, code = 0;
    if (!p->check) argv[n++] = "--unchecked";
    if (p->anchors && !p->check) argv[n++] = "--anchors";
    if (p->filter) {
        argv[n++] = "--filter";
        argv[n++] = p->filter;
    }
    for (int i = 0; p->options && p->options[i] && n < MOST_ARGS - 1; i++)
        argv[n++] = p->options[i];
    unlink(f->samples);
    PB_RETURN(pb_process_run(argv, NULL, f->log, &code));
    if (code != 0 && code != EXIT_WRONG) return complain(f, argv[0], code);
    return pb_json_load(f->samples, MOST_BYTES, out);
}

pb_status pb_kernel_own_program(char out[1024]) {
    ssize_t n = readlink("/proc/self/exe", out, 1023);
    if (n < 0) return PB_ERROR(PB_E_ENV, "/proc/self/exe: %s", strerror(errno));
    out[n] = 0;
    return PB_OK;
}

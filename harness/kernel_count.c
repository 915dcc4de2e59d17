/* Instructions of every case: harness/kernel_count.h. */
#include "harness/kernel_count.h"

#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/process.h"
#include "base/text.h"
#include "harness/environment.h"
#include "harness/kernel_contents.h"
#include "harness/kernel_process.h"
#include "kernels/core/about.h"

#define CALLS 3 /* counted: an interrupt can add a few instructions to a processor's count */
#define MOST_BYTES ((size_t)1 << 20)
#define MOST_ARGS 48

void pb_counts_free(pb_counts *counts) {
    free(counts->items);
    *counts = (pb_counts){.n = 0};
}

bool pb_count_of_library(const pb_count *c) { return strstr(c->variant, "onednn") != NULL; }

/* ---- the setup ---- */

static pb_status describe(pb_count_setup *s) {
    pb_status status = PB_OK;
    pb_json *environment = NULL;
    const char *compiler = "", *flags = "";
    PB_TRY(pb_environment_json("cpu", 1, &environment));
    const pb_json *build = pb_json_get(environment, "build");
    PB_TRY(pb_json_read_str(build, "build", "compiler", &compiler));
    PB_TRY(pb_json_read_str(build, "build", "flags", &flags));
    pb_copy(s->compiler, sizeof s->compiler, compiler);
    pb_copy(s->flags, sizeof s->flags, flags);
    pb_copy(s->isa, sizeof s->isa, pb_kernels_isa());
    pb_copy(s->library, sizeof s->library, pb_kernels_library());
    pb_copy(s->library_isa, sizeof s->library_isa, pb_kernels_library_isa());
    snprintf(s->libc, sizeof s->libc, "glibc %s", gnu_get_libc_version());
done:
    pb_json_free(environment);
    return status;
}

/* ---- counting ---- */

/* One walk over a group of a layer serves all of its cases: they follow each other in the table. */
typedef struct walk {
    const pb_kernel_case *next, *end;
    pb_counter *counter;
    pb_counts *out;
    int index, calls, done; /* done: cases so far, counted or left out */
    bool own_only;          /* kernels of the library are left out */
} walk;

static bool same_walk(const pb_kernel_case *x, const pb_kernel_case *y) {
    const pb_layer *a = &x->layer, *b = &y->layer;
    return x->group == y->group && a->dtype == b->dtype && a->rows == b->rows && a->C == b->C &&
           a->FF == b->FF && a->V == b->V && a->NH == b->NH && a->NKV == b->NKV && a->HS == b->HS;
}

/* Uncounted calls come first: oneDNN compiles in the first one. */
static pb_status count_calls(walk *w, const pb_layer *layer, pb_op op, const void *args,
                             double *least) {
    pb_status status = PB_OK;
    pb_contents before = {.n = 0};
    PB_TRY(pb_contents_take(layer, &before));
    for (int i = -1; i < w->calls; i++) {
        double n = 0;
        if (i >= 0) PB_TRY(pb_counter_start(w->counter));
        PB_TRY(pb_op_run(layer->dev, op, args));
        if (i >= 0) PB_TRY(pb_counter_stop(w->counter, &n));
        if (i == 0 || (i > 0 && n < *least)) *least = n;
        PB_TRY(pb_contents_put(layer, &before, NULL));
    }
done:
    pb_contents_free(&before);
    return status;
}

static pb_status count_case(pb_layer *layer, pb_op op, const void *args, const char *shape) {
    walk *w = layer->user;
    const pb_kernel_case *c = w->next;
    (void)shape;
    if (w->index++ != c->index) return PB_OK;
    if (op != c->op) return PB_ERROR(PB_E_BUG, "%s is not the case that the table lists", c->name);
    pb_count *count = &w->out->items[w->out->n];
    const char *variant = pb_op_variant(layer->dev, op);
    pb_copy(count->name, sizeof count->name, c->name);
    pb_copy(count->variant, sizeof count->variant, variant ? variant : "");
    if (!w->own_only || !pb_count_of_library(count)) {
        fprintf(stderr, "%s\n", c->name);
        PB_RETURN(count_calls(w, layer, op, args, &count->instructions));
        w->out->n++;
    }
    w->done++;
    if (w->next + 1 < w->end && same_walk(c, w->next + 1)) w->next++;
    return PB_OK;
}

static pb_status count_cases(const pb_kernel_cases *cases, pb_gauge gauge, pb_counts *out) {
    pb_status status = PB_OK;
    pb_device *dev = NULL;
    pb_device_options options = {.threads = 1};
    walk w = {.end = cases->items + cases->n, .out = out};
    out->items = calloc((size_t)cases->n + 1, sizeof *out->items);
    if (!out->items) PB_FAIL(PB_E_OOM, "no memory for %d counts", cases->n);
    PB_TRY(pb_counter_open(gauge, &w.counter));
    PB_TRY(pb_device_open("cpu", &options, &dev));
    w.calls = gauge == PB_GAUGE_PERF ? CALLS : 1;
    w.own_only = gauge == PB_GAUGE_STEP;
    while (w.done < cases->n) {
        int before = w.done;
        w.next = cases->items + w.done;
        pb_layer layer = w.next->layer;
        layer.dev = dev;
        layer.visit = count_case;
        layer.user = &w;
        w.index = 0;
        PB_TRY(pb_layer_walk(&layer, w.next->group));
        if (w.done == before)
            PB_FAIL(PB_E_BUG, "%s is in the table and not in its layer", w.next->name);
    }
    pb_copy(out->setup.gauge, sizeof out->setup.gauge, pb_counter_name(w.counter));
done:
    pb_device_close(dev);
    pb_counter_close(w.counter);
    return status;
}

pb_status pb_counts_take(const pb_count_table *table, const char *filter, pb_gauge gauge,
                         pb_counts *out) {
    pb_status status = PB_OK;
    pb_kernel_cases cases = {0};
    *out = (pb_counts){.table = *table};
    if (table->f32)
        PB_TRY(pb_kernel_cases_add(&cases, table->model, table->rows, PB_F32, PB_LAYER_EACH,
                                   filter));
    if (table->bf16)
        PB_TRY(pb_kernel_cases_add(&cases, table->model, table->rows, PB_BF16, PB_LAYER_EACH,
                                   filter));
    if (cases.n == 0)
        PB_FAIL(PB_E_INPUT, "--filter %s: no case has this in its name; see peftbench kernels list",
                filter ? filter : "");
    PB_TRY(describe(&out->setup));
    PB_TRY(count_cases(&cases, gauge, out));
    if (out->n == 0)
        PB_FAIL(PB_E_INPUT, "all of these cases are the library's kernels, which --gauge step leaves "
                            "out; perf or callgrind count them");
done:
    pb_kernel_cases_free(&cases);
    if (status != PB_OK) pb_counts_free(out);
    return status;
}

/* ---- under callgrind ---- */

static pb_status complain(const char *log, int code) {
    char *text = NULL;
    size_t len = 0;
    if (pb_file_read(log, MOST_BYTES, &text, &len) != PB_OK) text = NULL;
    const char *end = text ? text + (len > 600 ? len - 600 : 0) : "";
    pb_status status = PB_ERROR(PB_E_ENV, "counting under valgrind: exit status %d%s: %s", code,
                                code == 127 ? " (on Debian: apt-get install valgrind)" : "", end);
    free(text);
    return status;
}

/* The command line of a process that counts under callgrind into folder->samples. Its
 * environment is small and the same each time: its size moves the stack. */
typedef struct command {
    const char *argv[MOST_ARGS];
    int n;
    char text[20][4200]; /* what argv points to */
    int n_text;
    bool cut;
} command;

static void append(command *c, const char *word) {
    if (c->n < MOST_ARGS - 1) c->argv[c->n++] = word;
}

static void append_made(command *c, const char *format, const char *a, const char *b) {
    char *text = c->text[c->n_text++];
    int n = snprintf(text, sizeof c->text[0], format, a, b);
    c->cut = c->cut || n >= (int)sizeof c->text[0];
    append(c, text);
}

static pb_status make_command(command *c, const pb_count_table *table, const char *filter,
                              const pb_kernel_folder *folder) {
    static const char *const kept[] = {"PATH", "LD_LIBRARY_PATH", "VALGRIND_LIB"};
    /* Entering one of them stops the count, leaving it goes on: every parallel region of libgomp
     * allocates, and what that takes depends on all that was allocated before. */
    static const char *const allocators[] = {"malloc",        "free",           "calloc",
                                             "realloc",       "memalign",       "aligned_alloc",
                                             "posix_memalign", "__libc_memalign"};
    char rows[32], self[1024];
    PB_RETURN(pb_own_program(self, sizeof self));
    snprintf(rows, sizeof rows, "%lld", (long long)table->rows);
    append(c, "env");
    append(c, "-i");
    append(c, "OMP_NUM_THREADS=1");
    append(c, "OMP_WAIT_POLICY=passive"); /* set: main would start the program once more */
    append(c, "LC_ALL=C");
    append_made(c, "%s=%s/part", PB_CALLGRIND_PART, folder->path);
    for (int i = 0; i < 3; i++)
        if (getenv(kept[i])) append_made(c, "%s=%s", kept[i], getenv(kept[i]));
    append(c, "valgrind");
    append(c, "--tool=callgrind");
    append(c, "--quiet");
    append(c, "--collect-atstart=no");
    for (size_t i = 0; i < sizeof allocators / sizeof allocators[0]; i++)
        append_made(c, "--toggle-collect=%s%s", allocators[i], "");
    append_made(c, "--callgrind-out-file=%s/part%s", folder->path, "");
    append_made(c, "%s%s", self, "");
    append(c, "kernels");
    append(c, "count");
    append_made(c, "--save=%s%s", folder->samples, "");
    append_made(c, "--model=%s%s", table->model, "");
    append_made(c, "--rows=%s%s", rows, "");
    if (!table->f32 || !table->bf16) append(c, table->f32 ? "--dtype=f32" : "--dtype=bf16");
    if (filter) append_made(c, "--filter=%s%s", filter, "");
    if (c->cut) return PB_ERROR(PB_E_INPUT, "PATH, LD_LIBRARY_PATH or --filter is too long");
    return PB_OK;
}

pb_status pb_counts_take_under_callgrind(const pb_count_table *table, const char *filter,
                                         pb_counts *out) {
    pb_status status = PB_OK;
    pb_kernel_folder folder = {.path = ""};
    int code = 0;
    *out = (pb_counts){.n = 0};
    command *c = calloc(1, sizeof *c);
    if (!c) return PB_ERROR(PB_E_OOM, "no memory for a command line");
    if (!pb_counter_has_callgrind())
        PB_FAIL(PB_E_ENV, "this build cannot count under callgrind: valgrind's headers were not "
                          "there; on Debian apt-get install valgrind, then configure and build");
    PB_TRY(pb_kernel_folder_open(&folder));
    PB_TRY(make_command(c, table, filter, &folder));
    PB_TRY(pb_process_run(c->argv, NULL, NULL, folder.log, &code));
    if (code != 0) {
        status = complain(folder.log, code);
        goto done;
    }
    PB_TRY(pb_counts_read(folder.samples, out));
done:
    pb_kernel_folder_close(&folder);
    free(c);
    return status;
}

/* peftbench advise: options and what they mean. Printing: cli_advise_print.c. */
#include "harness/cli_advise.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/cli.h"
#include "harness/suite.h"

typedef struct request {
    const char *model, *data, *gpu, *device, *time, *records, *suite, *map, *calibrate;
    uint64_t memory, reserve;
    int64_t examples, length, batch, rank, threads;
    double epochs;
    int dtype, format;
    bool json, has_memory, has_length, has_dtype;
} request;

static const char *const dtypes[] = {"bf16", "f32", NULL};

#define MAX_ROWS 24

static int list_options(request *q, pb_option out[MAX_ROWS]) {
    const pb_option rows[] = {
        {.name = "gpu-memory", .kind = PB_OPT_SIZE, .value = &q->memory, .arg = "SIZE",
         .given = &q->has_memory,
         .help = "memory of the GPU, as 16GiB (default: that of --gpu)"},
        PB_OPTION_TEXT("gpu", &q->gpu, "NAME",
                       "h200, rtx-3090, ...: memory and published rates; without\n"
                       "it no time is predicted (`list gpus` has them all)"),
        PB_OPTION_TEXT("model", &q->model, "NAME|DIR|FILE",
                       "a shape (`list models`), a folder with config.json, or\n"
                       "that file (required)"),
        PB_OPTION_INT("examples", &q->examples, "N", 1, 2147483647, "training examples (default 10000)"),
        {.name = "length", .kind = PB_OPT_INT, .value = &q->length, .arg = "N", .lo = 16,
         .hi = 1048576, .given = &q->has_length,
         .help = "tokens of an example, all of them (default 512, or the\nmodel's positions)"},
        PB_OPTION_INT("batch", &q->batch, "N", 1, 65536,
                      "examples per optimizer step (default 16)"),
        {.name = "epochs", .kind = PB_OPT_NUMBER, .value = &q->epochs, .arg = "X", .lo = 1e-6,
         .hi = 1e6, .help = "passes over the examples (default 1)"},
        PB_OPTION_TEXT("time", &q->time, "T", "the training must end within 90m, 2h or 3600s; what perhaps\n"
                       "does (the limit lies within its range) stays, and is marked"),
        PB_OPTION_INT("rank", &q->rank, "N", 1, 65536,
                      "rank of every method that has one (default: that of the row\n"
                      "whose quality is quoted, else the method's own)"),
        {.name = "dtype", .kind = PB_OPT_CHOICE, .value = &q->dtype, .arg = "TYPE", .choices = dtypes,
         .given = &q->has_dtype,
         .help = "bf16 or f32 (default bf16; f32 where --gpu has no bf16)"},
        PB_OPTION_SIZE("reserve", &q->reserve, "SIZE",
                       "kept free for driver, context and libraries: an assumption,\n"
                       "not a measurement (default 512MiB)"),
        PB_OPTION_TEXT("device", &q->device, "NAME",
                       "what trains: cuda, or cpu, where paging frees nothing\n"
                       "(default cuda, with the workspaces of cpu where its backend\n"
                       "cannot be opened; of --calibrate: cpu)"),
        PB_OPTION_TEXT("records", &q->records, "DIR",
                       "where quality and efficiency come from\n(default results/reference)"),
        PB_OPTION_TEXT("suite", &q->suite, "FILE", "write the suite that would test the advice"),
        PB_OPTION_TEXT("data", &q->data, "NAME|DIR",
                       "data of that suite: a folder with train.jsonl, or a source\n"
                       "(default: as an example, the first of `list datasets` that\n"
                       "the model can learn)"),
        PB_OPTION_TEXT("map", &q->map, "DIR",
                       "draw the budget map instead: the method that wins at each\n"
                       "memory and model size (needs no --model)"),
        PB_OPTION_TEXT("calibrate", &q->calibrate, "FILE",
                       "time steps on --device here and write how near they come to\n"
                       "its roofline; put it into --records as calibration-NAME.json"),
        PB_OPTION_INT("threads", &q->threads, "N", 1, 4096,
                      "of --calibrate (default: all)"),
        PB_OPTION_FLAG("json", &q->json, "as --format json"),
        PB_OPTION_FORMAT(&q->format),
    };
    enum { N = sizeof rows / sizeof rows[0] };
    PB_ASSERT(N <= MAX_ROWS);
    memcpy(out, rows, sizeof rows);
    return N;
}

static pb_status read_time(const char *text, double *out) {
    if (pb_parse_seconds(text, out)) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "--time: '%s', expected a time above 0 as 2h, 90m or 3600s", text);
}

/* A file, a folder, else the name of a shape. */
static pb_status read_model(const char *name, pb_model_config *out) {
    char *text = NULL;
    size_t len = 0;
    if (strncmp(name, "shape:", 6) == 0) return pb_model_shape(name + 6, out);
    if (pb_is_dir(name)) return pb_model_config_load(name, out);
    if (!strchr(name, '/') && !pb_file_exists(name)) return pb_model_shape(name, out);
    pb_status status = pb_file_read(name, 1 << 20, &text, &len);
    if (status == PB_OK) status = pb_model_config_parse(name, text, len, out);
    free(text);
    return status;
}

/* Without --device a GPU is meant, also where this build cannot plan for one. */
static pb_status choose_device(const request *q, pb_advise_request *r) {
    pb_device *dev = NULL;
    r->device = q->device ? q->device : "cuda";
    if (q->device) return PB_OK;
    pb_status status = pb_device_open("plan:cuda", &(pb_device_options){.threads = 1}, &dev);
    pb_device_close(dev);
    if (status != PB_E_ENV) return status;
    pb_error_clear();
    r->stand_in = true;
    return PB_OK;
}

/* Options that would be of no effect beside others. */
static pb_status check_together(const request *q) {
    if (q->threads && !q->calibrate)
        return PB_ERROR(PB_E_INPUT, "--threads is of --calibrate alone: advice is planned, not run");
    if (q->map && (q->model || q->has_memory || q->data || q->suite || q->json || q->format))
        return PB_ERROR(PB_E_INPUT, "--map draws its own models and memories and writes files: no --model, --gpu-memory, "
                                    "--data, --suite or --json beside it");
    return PB_OK;
}

static pb_status fill(request *q, pb_advise_request *r) {
    *r = (pb_advise_request){.model = q->model,
                             .data = q->data,
                             .memory = q->memory,
                             .reserve = q->reserve,
                             .examples = q->examples,
                             .length = q->length,
                             .batch = q->batch,
                             .rank = q->rank,
                             .epochs = q->epochs,
                             .dtype = q->dtype == 0 ? PB_BF16 : PB_F32,
                             .records = q->records};
    PB_RETURN(choose_device(q, r));
    if (q->gpu) PB_RETURN(pb_gpu_find(q->gpu, &r->gpu));
    if (r->gpu && r->gpu->bf16_tflops == 0 && !q->has_dtype) r->dtype = PB_F32;
    if (q->time) PB_RETURN(read_time(q->time, &r->time_s));
    if (q->time && !q->gpu)
        return PB_ERROR(PB_E_INPUT, "--time needs --gpu: without its rates no time is known");
    if (q->map) return PB_OK;
    if (!q->model)
        return PB_ERROR(PB_E_INPUT, "--model is missing: a shape as llama-2-7b, a folder or a config.json");
    if (!q->has_memory && !q->gpu)
        return PB_ERROR(PB_E_INPUT, "--gpu-memory is missing: the GPU's memory as 16GiB, or --gpu NAME");
    if (!q->has_memory) r->memory = (uint64_t)(r->gpu->memory_gib * 1073741824.0);
    PB_RETURN(read_model(q->model, &r->config));
    if (!q->has_length && r->config.P < r->length) r->length = r->config.P;
    return PB_OK;
}

static pb_status check_records(request *q, bool given, char standard[1024]) {
    if (given && !pb_is_dir(q->records))
        return PB_ERROR(PB_E_INPUT, "--records: %s is no folder", q->records);
    if (given) return PB_OK;
    snprintf(standard, 1024, "%s/results/reference", pb_home());
    q->records = standard;
    return PB_OK;
}

static pb_status advise(const request *q, const pb_advise_request *r) {
    pb_status status = PB_OK;
    pb_advise a = {0};
    PB_TRY(pb_advise_make(r, &a));
    if (q->suite && a.suite) PB_TRY(pb_file_write_atomic(q->suite, a.suite, strlen(a.suite)));
    PB_TRY(q->json || q->format != 0 ? pb_advise_print_json(&a) : pb_advise_print_text(&a, q->suite));
    if (a.chosen < 0) PB_FAIL(PB_E_CHECK, "%s", a.reason);
done:
    pb_advise_free(&a);
    return status;
}

static pb_status run_advise(pb_cli *cli, int argc, char **argv) {
    request q = {.examples = 10000,
                 .length = 512,
                 .batch = 16,
                 .epochs = 1,
                 .reserve = (uint64_t)512 << 20};
    pb_option options[MAX_ROWS];
    pb_command_line line;
    pb_advise_request r;
    char standard[1024];
    int n = list_options(&q, options);
    PB_RETURN(pb_cli_parse(cli, options, n, argc, argv, &line));
    if (line.help) return PB_OK;
    if (q.calibrate) return pb_advise_calibrate(q.device ? q.device : "cpu", (int)q.threads, q.calibrate);
    PB_RETURN(check_together(&q));
    PB_RETURN(check_records(&q, q.records != NULL, standard));
    PB_RETURN(fill(&q, &r));
    if (q.map) return pb_advise_map(&r, q.map, stdout);
    return advise(&q, &r);
}

const pb_command pb_command_advise = {
    .name = "advise",
    .args = "",
    .summary = "what to run on a GPU of this size",
    .details =
        "For every method: memory by purpose (the trainer's own steps on a plan device, so it is what "
        "this program will\n"
        "take), the largest batch and length that fit, the smallest change that makes the rest fit, "
        "the time at the GPU's\n"
        "published rates and with the efficiency this program was measured at, and the verdicts of "
        "the records on quality\n"
        "against LoRA, on their own model and data. Then one recommendation (of what fits in the time, the "
        "least work that the\n"
        "records cannot tell from the best), what three rules of thumb come to here, and the suite that "
        "would test it: every\n"
        "row that fits with one setting for all, equal tuning budgets, five fresh seeds. Exit status 1 "
        "when nothing fits, or nothing\n"
        "can end within --time.\n",
    .min_args = 0,
    .max_args = 0,
    .run = run_advise,
};

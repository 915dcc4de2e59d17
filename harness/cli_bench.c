/* peftbench bench step: the speed of a training step per method, on random tokens. bench ops:
 * cli_bench_ops.c. */
#include "harness/cli_bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/cli_table.h"
#include "harness/suite_impl.h"

pb_status pb_bench_dtype(const pb_bench_request *q, pb_dtype *out) {
    pb_device_facts facts;
    pb_device_options options = {.threads = 1};
    *out = q->dtype == 1 ? PB_BF16 : PB_F32;
    if (q->dtype != 2) return PB_OK;
    PB_RETURN(pb_device_probe(q->device, &options, &facts));
    if (facts.fast_bf16) *out = PB_BF16;
    return PB_OK;
}

/* ---- one result ---- */

static const char *const traces[] = {"none", "ops", "nodes", NULL}; /* by pb_bench_trace */

static pb_status add_result(pb_json *list, const pb_method *m, pb_dtype dtype,
                            pb_bench_trace trace, const pb_bench_step_result *r) {
    pb_json *o = pb_json_add_object(list, NULL);
    bool ok = pb_json_add_str(o, "method", m->name) &&
              pb_json_add_str(o, "dtype", pb_dtype_name(dtype)) &&
              pb_json_add_f64(o, "step_s_median", r->median_s) &&
              pb_json_add_f64(o, "step_s_p10", r->p10_s) &&
              pb_json_add_f64(o, "step_s_p90", r->p90_s) &&
              pb_json_add_f64(o, "forward_s", r->forward_s) &&
              pb_json_add_f64(o, "backward_s", r->backward_s) &&
              pb_json_add_f64(o, "optimizer_s", r->optimizer_s) &&
              pb_json_add_f64(o, "examples_per_s", r->examples_per_s) &&
              pb_json_add_f64(o, "tokens_per_s", r->tokens_per_s) &&
              pb_json_add_f64(o, "flops_per_step", r->flops) &&
              pb_json_add_f64(o, "flops_per_s", r->flops_per_s) &&
              pb_json_add_f64(o, "gemm_limit", r->gemm_limit) &&
              pb_json_add_f64(o, "limit_share", r->limit_share) &&
              pb_json_add_f64(o, "product_share", r->product_share) &&
              pb_json_add_f64(o, "idle_share", r->idle_share) && pb_json_add_str(o, "tracer", r->tracer) &&
              (r->mfu >= 0 ? pb_json_add_f64(o, "mfu", r->mfu) : cJSON_AddNullToObject(o, "mfu") != NULL) &&
              pb_json_add_i64(o, "params_total", r->params_total) &&
              pb_json_add_i64(o, "params_trainable", r->params_trainable) &&
              pb_json_add_i64(o, "peak_bytes", (int64_t)r->peak_total) &&
              pb_json_add_i64(o, "predicted_bytes", (int64_t)r->predicted_total) &&
              (r->device_bytes > 0 ? pb_json_add_i64(o, "device_bytes", (int64_t)r->device_bytes)
                                   : cJSON_AddNullToObject(o, "device_bytes") != NULL) &&
              pb_json_add_i64(o, "head_bytes", (int64_t)r->head_bytes) &&
              pb_json_add_i64(o, "logits_bytes", (int64_t)r->logits_bytes) &&
              pb_json_add_str(o, "traced", traces[trace]) &&
              pb_json_add_i64(o, "trace_records", (int64_t)r->trace_records) &&
              pb_json_add_i64(o, "trace_dropped", (int64_t)r->trace_dropped);
    pb_json *memory = pb_json_add_object(o, "memory_bytes"), *ops = pb_json_add_object(o, "op_s");
    pb_json *steps = pb_json_add_array(o, "step_s");
    for (int i = 0; i < PB_MEM_COUNT; i++) {
        ok = ok && pb_json_add_i64(memory, pb_mem_name((pb_mem)i), (int64_t)r->peak[i]);
    }
    for (int i = 0; i < PB_OP_COUNT; i++) {
        if (r->op_s[i] > 0) ok = ok && pb_json_add_f64(ops, pb_op_name((pb_op)i), r->op_s[i]);
    }
    for (int64_t i = 0; i < r->steps; i++) ok = ok && pb_json_add_f64(steps, NULL, r->step_s[i]);
    return pb_cli_built(ok);
}

static void add_row(pb_table *t, const pb_method *m, const pb_bench_step_result *r) {
    char bytes[32];
    const double ms[] = {r->median_s,  r->p10_s,      r->p90_s,
                         r->forward_s, r->backward_s, r->optimizer_s};
    pb_table_row(t);
    pb_table_cell(t, 0, "%s", m->name);
    for (int i = 0; i < 6; i++) pb_table_cell(t, i + 1, "%.2f", ms[i] * 1e3);
    pb_table_cell(t, 7, "%.1f", r->examples_per_s);
    pb_table_cell(t, 8, "%.1f", r->flops_per_s / 1e9);
    pb_table_cell(t, 9, "%.0f %%", r->limit_share * 100);
    pb_format_bytes(bytes, (double)r->peak_total);
    pb_table_cell(t, 10, "%s", bytes);
    pb_table_cell(t, 11, "%" PRId64, r->params_trainable);
}

/* ---- choosing methods ---- */

static bool listed(const char *list, const char *name) {
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        if (strcspn(p, ",") == strlen(name) && strncmp(p, name, strlen(name)) == 0) return true;
    }
    return !list;
}

/* Every name of the list is a method. */
static pb_status check_methods(const char *list) {
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        const pb_method *m = NULL;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(strcspn(p, ",") < 60 ? strcspn(p, ",") : 60), p);
        PB_RETURN(pb_method_lookup(name, "--methods", &m));
    }
    return PB_OK;
}

static pb_status check_params(const pb_bench_request *q, pb_json **params) {
    *params = NULL;
    if (!q->params) return PB_OK;
    if (!q->methods || strchr(q->methods, ',')) {
        return PB_ERROR(PB_E_INPUT, "--params belongs to one method: name it with --methods");
    }
    return pb_json_parse("--params", q->params, strlen(q->params), params);
}

static pb_status bench_step(const pb_bench_request *q) {
    static const char *const head[] = {"METHOD",   "MS/STEP",   "P10",        "P90",     "FORWARD",
                                       "BACKWARD", "OPTIMIZER", "EXAMPLES/S", "GFLOP/S", "OF GEMM",
                                       "PEAK",     "TRAINABLE", NULL};
    pb_status status = PB_OK;
    pb_table t = {0};
    pb_json *params = NULL, *list = NULL;
    char model[1024];
    pb_bench_step_options o = {.model = model,
                               .device = q->device,
                               .threads = (int)q->threads,
                               .memory_budget = q->budget,
                               .optimizer = (pb_optimizer)q->optimizer,
                               .batch = q->batch,
                               .min_len = q->min_len,
                               .max_len = q->max_len,
                               .accumulate = q->accumulate,
                               .checkpoint = q->checkpoint ? PB_CHECKPOINT_ALL : 0,
                               .steps = q->steps,
                               .warmup = q->warmup,
                               .trace = (pb_bench_trace)q->trace,
                               .seed = 1};
    PB_TRY(check_methods(q->methods));
    PB_TRY(check_params(q, &params));
    if (q->shape) {
        pb_model_config known;
        PB_TRY(pb_model_shape(q->shape, &known));
        snprintf(model, sizeof model, "shape:%s", q->shape);
    } else {
        PB_TRY(pb_suite_model("--model", q->model, NULL, model));
    }
    PB_TRY(pb_bench_dtype(q, &o.dtype));
    o.params = params;
    list = cJSON_CreateArray();
    pb_table_start(&t, head, 1);
    for (int i = 0; i < pb_method_registry_count; i++) {
        pb_bench_step_result r = {0};
        o.method = pb_method_registry[i];
        if (!listed(q->methods, o.method->name)) continue;
        fprintf(stderr, "timing %s\n", o.method->name);
        PB_TRY(pb_bench_step(&o, &r));
        add_row(&t, o.method, &r);
        status = add_result(list, o.method, o.dtype, o.trace, &r);
        pb_bench_step_free(&r);
        if (status != PB_OK) goto done;
    }
    if (q->format != 0) {
        status = pb_cli_print_json(list);
        list = NULL;
        goto done;
    }
    printf("%s, %s, batch %" PRId64 ", up to %" PRId64 " tokens a sequence, medians of %" PRId64
           " steps in ms\n",
           model, pb_dtype_name(o.dtype), q->batch, q->max_len, q->steps);
    status = pb_table_end(&t, stdout);
done:
    free(t.rows);
    pb_json_free(list);
    pb_json_free(params);
    return status;
}

/* ---- the command ---- */

#define MAX_ROWS 26

static int list_options(pb_bench_request *q, pb_option out[MAX_ROWS]) {
    static const char *const dtypes[] = {"f32", "bf16", "auto", NULL};
    static const char *const optimizers[] = {"adamw", "adamw8", NULL};
    const pb_option rows[] = {
        PB_OPTION_TEXT("model", &q->model, "NAME",
                       "shape:NAME (random weights), a name from `list models` or\n"
                       "a folder (default shape:minilm)"),
        PB_OPTION_TEXT("shape", &q->shape, "NAME",
                       "as --model shape:NAME: minilm, gpt2-124m, llama-3.2-1b,\n"
                       "llama-3.2-3b, llama-3.1-8b, llama-65b, ... (`list models`)"),
        PB_OPTION_CHOICE("dtype", &q->dtype, "TYPE", dtypes,
                         "f32, bf16 or auto = bf16 where the machine has it\n(default auto)"),
        PB_OPTION_TEXT("device", &q->device, "NAME", "cpu, cuda or ref (default cpu)"),
        PB_OPTION_INT("threads", &q->threads, "N", 1, 4096, "CPU threads (default: all)"),
        PB_OPTION_TEXT("methods", &q->methods, "A,B", "step: which methods (default: all)"),
        PB_OPTION_TEXT("params", &q->params, "JSON",
                       "step: parameters of the one method, as {\"rank\": 16}\n"
                       "(default: the method's own)"),
        PB_OPTION_INT("batch", &q->batch, "N", 1, 65536, "step: sequences (default 32)"),
        PB_OPTION_INT("max-len", &q->max_len, "N", 2, 1048576,
                      "step: tokens of the longest sequence (default 64)"),
        PB_OPTION_INT("min-len", &q->min_len, "N", 1, 1048576,
                      "step: tokens of the shortest (default: as max-len)"),
        PB_OPTION_INT("accumulate", &q->accumulate, "N", 1, 4096,
                      "step: micro-batches per step (default 1)"),
        PB_OPTION_FLAG("checkpoint", &q->checkpoint,
                       "step: keep only each layer's input, run it again in backward"),
        PB_OPTION_CHOICE("optimizer", &q->optimizer, "NAME", optimizers,
                         "step: adamw or adamw8 (default adamw)"),
        PB_OPTION_INT("steps", &q->steps, "N", 1, 100000, "step: timed steps; infer: rounds (default 20)"),
        PB_OPTION_INT("warmup", &q->warmup, "N", 1, 100000, "step: steps before them (default 3)"),
        PB_OPTION_CHOICE("trace", &q->trace, "HOW", traces,
                         "step: what the timed steps run under: none, a tracer that\n"
                         "sees every op on its own (ops), or on a GPU the nodes of\n"
                         "steps as they are (nodes); the difference is what it costs\n"
                         "(default none)"),
        PB_OPTION_SIZE("memory-budget", &q->budget, "SIZE",
                       "bytes the arenas may take; a step that would need more is\n"
                       "refused before it starts, with the numbers\n(default: no limit)"),
        PB_OPTION_INT("rows", &q->rows, "N", 64, 1048576, "ops: token rows (default 2048)"),
        PB_OPTION_INT("algorithms", &q->algorithms, "N", 2, 32,
                      "ops: on a GPU, the products alone with each of the first N\n"
                      "algorithms that its library proposes: is the first the best?"),
        PB_OPTION_TEXT("batches", &q->batches, "N,N", "infer: batches (default 1,8,32)"),
        PB_OPTION_TEXT("lengths", &q->lengths, "N,N", "infer: tokens (default 32,128)"),
        PB_OPTION_INT("rank", &q->rank, "N", 1, 65536,
                      "infer: of the low-rank methods; adapters get the size with\n"
                      "LoRA's parameter count at it (default 8)"),
        PB_OPTION_TEXT("out", &q->out, "DIR", "infer: results root (default: results)"),
        PB_OPTION_FORMAT(&q->format),
    };
    enum { N = sizeof rows / sizeof rows[0] };
    PB_ASSERT(N <= MAX_ROWS);
    memcpy(out, rows, sizeof rows);
    return N;
}

static pb_status run_bench(pb_cli *cli, int argc, char **argv) {
    pb_bench_request q = {.model = "shape:minilm",
                          .device = "cpu",
                          .dtype = 2,
                          .batch = 32,
                          .max_len = 64,
                          .accumulate = 1,
                          .steps = 20,
                          .warmup = 3,
                          .rows = 2048,
                          .batches = "1,8,32",
                          .lengths = "32,128",
                          .rank = 8,
                          .out = "results"};
    pb_option options[MAX_ROWS];
    pb_command_line line;
    int n = list_options(&q, options);
    PB_RETURN(pb_cli_parse(cli, options, n, argc, argv, &line));
    if (line.help) return PB_OK;
    if (q.min_len > q.max_len) {
        return PB_ERROR(PB_E_INPUT, "--min-len %" PRId64 " is above --max-len %" PRId64, q.min_len,
                        q.max_len);
    }
    if (strcmp(line.args[0], "step") == 0) return bench_step(&q);
    if (strcmp(line.args[0], "ops") == 0) return pb_bench_ops(&q);
    if (strcmp(line.args[0], "infer") == 0) return pb_bench_infer(&q);
    return PB_ERROR(PB_E_INPUT, "no benchmark '%s'; expected step, infer or ops", line.args[0]);
}

const pb_command pb_command_bench = {
    .name = "bench",
    .args = "step|infer|ops",
    .summary = "time training steps, forward passes or single ops",
    .details = "step: one training step of each method on random tokens: medians, rates, how near "
               "the products come to\n"
               "the model's largest layer alone, and memory. No data set, no record.\n"
               "infer: forward passes of each method over batch x length, merged and unmerged in "
               "turns, --steps rounds;\n"
               "records as a suite has them (harness/suites/README.md, Latency).\n"
               "ops: the ops of one layer, each alone: median time, GFLOP/s and GB/s from the op's "
               "own work count.\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_bench,
};

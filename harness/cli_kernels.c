/* peftbench kernels: single kernels, checked against the reference and timed from cold caches. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/cli_kernels.h"
#include "harness/cli_table.h"
#include "harness/environment.h"
#include "harness/kernel_measure.h"
#include "harness/rates.h"
#include "results/record.h"

/* What is measured when no model is named. Fewer rows where a layer is wide: the reference computes
 * every case too, and is slow. */
static const struct {
    const char *model;
    int64_t rows;
} usual[] = {{"shape:minilm", 2048}, {"shape:gpt2-124m", 512}, {"shape:llama-3.2-1b", 128}};
enum { USUAL = sizeof usual / sizeof usual[0] };

typedef struct request {
    const char *model, *filter, *save;
    int dtype, format;
    int64_t rows, threads, budget_s;
    bool unchecked, allow_unclear;
    const char *junit, *markdown;
} request;

/* ---- the table of cases ---- */

static pb_status find_cases(const request *q, pb_kernel_cases *cases) {
    pb_dtype dtype = q->dtype == 1 ? PB_BF16 : PB_F32;
    for (int i = 0; i < USUAL; i++) {
        const char *model = q->model ? q->model : usual[i].model;
        int64_t rows = q->rows ? q->rows : usual[i].rows;
        PB_RETURN(pb_kernel_cases_add(cases, model, rows, dtype, q->filter));
        if (q->model) break;
    }
    if (cases->n == 0)
        return PB_ERROR(PB_E_INPUT,
                        "--filter %s: no case has this in its name; see peftbench kernels list",
                        q->filter ? q->filter : "");
    return PB_OK;
}

static bool describe_case(pb_json *o, const pb_kernel_case *c) {
    return pb_json_add_str(o, "name", c->name) && pb_json_add_str(o, "op", pb_op_name(c->op)) &&
           pb_json_add_str(o, "shape", c->shape) &&
           pb_json_add_str(o, "dtype", pb_dtype_name(c->layer.dtype)) &&
           pb_json_add_f64(o, "flops", c->work.flops) &&
           pb_json_add_f64(o, "flops_else", c->work.flops_else) &&
           pb_json_add_f64(o, "bytes", c->work.bytes);
}

static pb_status list_cases(const request *q) {
    static const char *const head[] = {"CASE", "MFLOP", "MB", NULL};
    pb_status status = PB_OK;
    pb_kernel_cases cases = {0};
    pb_table table = {0};
    pb_json *list = cJSON_CreateArray();
    PB_TRY(find_cases(q, &cases));
    pb_table_start(&table, head, 1);
    for (int i = 0; i < cases.n; i++) {
        const pb_kernel_case *c = &cases.items[i];
        PB_TRY(pb_cli_built(describe_case(pb_json_add_object(list, NULL), c)));
        pb_table_row(&table);
        pb_table_cell(&table, 0, "%s", c->name);
        pb_table_cell(&table, 1, "%.2f", (c->work.flops + c->work.flops_else) / 1e6);
        pb_table_cell(&table, 2, "%.2f", c->work.bytes / 1e6);
    }
    if (q->format != 0) {
        status = pb_cli_print_json(list);
        list = NULL;
        goto done;
    }
    PB_TRY(pb_table_end(&table, stdout));
done:
    if (status != PB_OK || q->format != 0) free(table.rows);
    pb_json_free(list);
    pb_kernel_cases_free(&cases);
    return status;
}

/* ---- runs ---- */

typedef struct report {
    bool unchecked;
    pb_rates roof;
    pb_table table;
    pb_json *kernels; /* part of the whole */
    bool samples;     /* keep them in the JSON */
    int wrong;
} report;

static pb_status add_timing(pb_json *o, report *rep, const pb_kernel_case *c,
                            const pb_kernel_result *r) {
    double median, p10, p90, least = pb_rates_seconds(c->work, rep->roof.flops_per_s,
                                                      rep->roof.bytes_per_s);
    bool products = c->work.flops * rep->roof.bytes_per_s > c->work.bytes * rep->roof.flops_per_s;
    PB_RETURN(pb_derive("median", r->samples, r->n, &median));
    PB_RETURN(pb_derive("p10", r->samples, r->n, &p10));
    PB_RETURN(pb_derive("p90", r->samples, r->n, &p90));
    const double us[] = {median * 1e6, p10 * 1e6, p90 * 1e6};
    for (int i = 0; i < 3; i++) pb_table_cell(&rep->table, 2 + i, "%.1f", us[i]);
    pb_table_cell(&rep->table, 5, c->work.flops > 0 ? "%.1f" : "-", c->work.flops / median / 1e9);
    pb_table_cell(&rep->table, 6, "%.1f", c->work.bytes / median / 1e9);
    if (least > 0) pb_table_cell(&rep->table, 7, "%.0f %%", 100 * least / median);
    bool ok = pb_json_add_f64(o, "median_s", median) && pb_json_add_f64(o, "p10_s", p10) &&
              pb_json_add_f64(o, "p90_s", p90) && pb_json_add_i64(o, "n", r->n) &&
              pb_json_add_str(o, "bound", least <= 0 ? NULL : products ? "products" : "traffic") &&
              pb_json_add_f64(o, "roof_share", least > 0 ? least / median : NAN);
    pb_json *samples = ok && rep->samples ? pb_json_add_array(o, "samples_s") : NULL;
    for (int64_t i = 0; samples && i < r->n; i++)
        ok = ok && pb_json_add_f64(samples, NULL, r->samples[i]);
    return pb_cli_built(ok && (samples || !rep->samples));
}

static pb_status tell(report *rep, const pb_kernel_case *c, const pb_kernel_result *r) {
    pb_json *o = pb_json_add_object(rep->kernels, NULL);
    PB_RETURN(pb_cli_built(describe_case(o, c) && pb_json_add_str(o, "variant", r->variant) &&
                           pb_json_add_bool(o, "checked", !rep->unchecked) &&
                           pb_json_add_bool(o, "verified", !rep->unchecked && !r->wrong) &&
                           pb_json_add_bool(o, "wrong", r->wrong) &&
                           pb_json_add_f64(o, "error_of_allowed",
                                           rep->unchecked ? NAN : r->worst) &&
                           pb_json_add_str(o, "output_sha256", r->sha256) &&
                           pb_json_add_str(o, "why", r->wrong ? r->why : NULL)));
    pb_table_row(&rep->table);
    pb_table_cell(&rep->table, 0, "%s", c->name);
    pb_table_cell(&rep->table, 1, "%s", r->variant);
    if (!r->wrong) return add_timing(o, rep, c, r);
    pb_table_cell(&rep->table, 2, "WRONG");
    fprintf(stderr, "WRONG: %s: %s\n", c->name, r->why);
    rep->wrong++;
    return PB_OK;
}

static pb_status start_json(const request *q, const pb_rates *roof, pb_json *root) {
    char binary[PB_SHA256_HEX];
    pb_json *environment = NULL, *roofs;
    PB_RETURN(pb_sha256_file("/proc/self/exe", binary));
    PB_RETURN(pb_environment_json("cpu", (int)q->threads, &environment));
    if (!cJSON_AddItemToObject(root, "environment", environment)) {
        pb_json_free(environment);
        return pb_cli_built(false);
    }
    roofs = pb_json_add_object(root, "roofs");
    return pb_cli_built(pb_json_add_str(root, "schema", "peftbench-kernels-1") &&
                        pb_json_add_str(root, "binary_sha256", binary) &&
                        pb_json_add_f64(roofs, "flops_per_s", roof->flops_per_s) &&
                        pb_json_add_f64(roofs, "bytes_per_s", roof->bytes_per_s));
}

static pb_status save(const char *path, const pb_json *root) {
    char *text = pb_json_print(root, true);
    if (!text) return pb_cli_built(false);
    pb_status status = pb_file_write_atomic(path, text, strlen(text));
    free(text);
    return status;
}

static pb_status measure_all(const request *q, const pb_kernel_cases *cases, report *rep) {
    pb_status status = PB_OK;
    pb_device *ref = NULL, *dev = NULL;
    pb_device_options options = {.threads = (int)q->threads};
    double limit = q->budget_s > 0 ? (double)q->budget_s / cases->n : 0;
    PB_TRY(pb_device_open("ref", NULL, &ref));
    PB_TRY(pb_device_open("cpu", &options, &dev));
    for (int i = 0; i < cases->n; i++) {
        pb_kernel_result r;
        fprintf(stderr, "%d of %d: %s\n", i + 1, cases->n, cases->items[i].name);
        PB_TRY(pb_kernel_measure(&cases->items[i], ref, dev, !q->unchecked, limit, &r));
        status = tell(rep, &cases->items[i], &r);
        pb_kernel_result_free(&r);
        if (status != PB_OK) goto done;
    }
done:
    pb_device_close(ref);
    pb_device_close(dev);
    return status;
}

static pb_status run_cases(pb_cli *cli, const request *q) {
    static const char *const head[] = {"CASE", "KERNEL",  "MEDIAN US", "P10", "P90",
                                       "GFLOP/S", "GB/S", "OF ROOF",   NULL};
    pb_status status = PB_OK;
    pb_kernel_cases cases = {0};
    report rep = {.samples = q->save != NULL, .unchecked = q->unchecked};
    pb_json *root = cJSON_CreateObject();
    PB_TRY(find_cases(q, &cases));
    pb_dtype dtype = q->dtype == 1 ? PB_BF16 : PB_F32;
    if (!q->unchecked) PB_TRY(pb_rates_measure("cpu", (int)q->threads, dtype, &rep.roof));
    PB_TRY(start_json(q, &rep.roof, root));
    rep.kernels = pb_json_add_array(root, "kernels");
    pb_table_start(&rep.table, head, 3);
    PB_TRY(measure_all(q, &cases, &rep));
    if (q->save) PB_TRY(save(q->save, root));
    if (rep.wrong > 0) cli->exit_code = 5;
    if (q->format != 0) {
        status = pb_cli_print_json(root);
        root = NULL;
        goto done;
    }
    status = pb_table_end(&rep.table, stdout);
    rep.table.rows = NULL;
    printf("roofs: %.1f GFLOP/s of products, %.1f GB/s\n", rep.roof.flops_per_s / 1e9,
           rep.roof.bytes_per_s / 1e9);
done:
    free(rep.table.rows);
    pb_json_free(root);
    pb_kernel_cases_free(&cases);
    return status;
}

/* ---- comparisons ---- */

/* The options that both programs are run with. */
static pb_status compare(pb_cli *cli, const request *q, const char *a, const char *b) {
    char rows[32], threads[32], budget[32];
    const char *options[16] = {"--dtype", q->dtype == 1 ? "bf16" : "f32"};
    int n = 2;
    const struct {
        const char *name;
        int64_t value;
        char *text;
    } numbers[] = {{"--rows", q->rows, rows},
                   {"--threads", q->threads, threads},
                   {"--budget", q->budget_s, budget}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (!numbers[i].value) continue;
        snprintf(numbers[i].text, 32, "%lld", (long long)numbers[i].value);
        options[n++] = numbers[i].name;
        options[n++] = numbers[i].text;
    }
    if (q->model) {
        options[n++] = "--model";
        options[n++] = q->model;
    }
    pb_kernels_compare_request r = {.a = a,
                                    .b = b,
                                    .filter = q->filter,
                                    .junit = q->junit,
                                    .markdown = q->markdown,
                                    .options = options,
                                    .allow_unclear = q->allow_unclear,
                                    .json = q->format != 0};
    return pb_kernels_compare(cli, &r);
}

/* ---- the command ---- */

static pb_status run_kernels(pb_cli *cli, int argc, char **argv) {
    static const char *const dtypes[] = {"f32", "bf16", NULL};
    request q = {0};
    const pb_option options[] = {
        PB_OPTION_TEXT("model", &q.model, "NAME",
                       "shape or folder whose layer gives the sizes (default: shape:minilm, "
                       "shape:gpt2-124m and shape:llama-3.2-1b)"),
        PB_OPTION_INT("rows", &q.rows, "N", 64, 1048576,
                      "token rows (default: 2048, 512 and 128 for these)"),
        PB_OPTION_CHOICE("dtype", &q.dtype, "f32|bf16", dtypes, "of the tensors (default f32)"),
        PB_OPTION_TEXT("filter", &q.filter, "TEXT",
                       "only cases with this, or one of A|B|C, in their names"),
        PB_OPTION_INT("threads", &q.threads, "N", 1, 1024, "run: CPU threads (default: all cores)"),
        PB_OPTION_INT("budget", &q.budget_s, "SECONDS", 1, 86400,
                      "run: for all samples together (default: up to 5 s a case). References take "
                      "their own time"),
        PB_OPTION_FLAG("unchecked", &q.unchecked,
                       "run: only outputs' hashes, no reference and no roofs: as compare runs all "
                       "but the first process"),
        PB_OPTION_TEXT("save", &q.save, "FILE", "run: writes all with the raw samples as JSON"),
        PB_OPTION_FLAG("allow-unclear", &q.allow_unclear,
                       "compare: what could not be decided does not fail"),
        PB_OPTION_TEXT("junit", &q.junit, "FILE", "compare: verdicts as JUnit XML"),
        PB_OPTION_TEXT("markdown", &q.markdown, "FILE", "compare: a table for a pull request"),
        PB_OPTION_FORMAT(&q.format),
    };
    pb_command_line line;
    if (argc > 0 && strcmp(argv[0], "compare") == 0) cli->error_code = 1; /* 2 is REGRESSED */
    enum { N = sizeof options / sizeof options[0] };
    PB_RETURN(pb_cli_parse(cli, options, N, argc, argv, &line));
    if (line.help) return PB_OK;
    const char *what = line.args[0];
    if (strcmp(what, "compare") == 0) {
        cli->error_code = 1;
        if (line.n_args != 3)
            return PB_ERROR(PB_E_INPUT, "usage: peftbench kernels compare A B: two build folders");
        return compare(cli, &q, line.args[1], line.args[2]);
    }
    if (line.n_args > 1) return PB_ERROR(PB_E_INPUT, "too many arguments after kernels %s", what);
    if (strcmp(what, "list") == 0) return list_cases(&q);
    if (strcmp(what, "run") == 0) return run_cases(cli, &q);
    return PB_ERROR(PB_E_INPUT, "kernels has no '%s'; expected list, run or compare", what);
}

const pb_command pb_command_kernels = {
    .name = "kernels",
    .args = "list|run|compare [A B]",
    .summary = "check, time, compare single kernels",
    .details =
        "list: the cases and their analytic work.\n"
        "run: every case must agree with the reference before it is timed, and the last timed "
        "output must have\n"
        "the bytes of the checked one. At least 60 samples, each with the op's tensors out of the "
        "caches and its\n"
        "outputs put back. OF ROOF is the least time that the analytic work takes at the machine's "
        "measured rates,\n"
        "over the median. CPU only. Exit status 5 when a result is wrong.\n"
        "compare: is build B slower than build A? 10 fresh processes of each, in random order "
        "within each pair; what\n"
        "looks slower is measured again with 10 more. reports/gate.h says how it is decided. "
        "--budget is for each\n"
        "process. Exit status: 0 all SAME or FASTER, 1 usage or a build that does not run, 2 "
        "REGRESSED, 3 UNCLEAR or\n"
        "UNSTABLE, 4 INCOMPARABLE, 5 WRONG.\n",
    .min_args = 1,
    .max_args = 3,
    .run = run_kernels,
};

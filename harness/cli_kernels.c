/* peftbench kernels: single kernels, checked against the reference and timed from cold caches. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/cli_kernels.h"
#include "harness/cli_table.h"
#include "harness/kernel_counter.h"
#include "plots/plots.h"
#include "reports/gate.h"

/* What is measured when no model is named. Fewer rows where a layer is wide: the reference computes
 * every case too, and is slow. */
static const struct {
    const char *model;
    int64_t rows;
    bool all; /* with --all only */
} usual[] = {{"shape:minilm", 2048, false},
             {"shape:gpt2-124m", 512, false},
             {"shape:llama-3.2-1b", 128, false},
             {"shape:llama-3.1-8b", 128, true}};
enum { USUAL = sizeof usual / sizeof usual[0] };

/* ---- the table of cases ---- */

/* f32, and bf16 where the device multiplies it, unless one is named. */
static pb_status choose_dtypes(const pb_kernels_request *q, bool wanted[2]) {
    pb_device_facts facts;
    pb_device_options options = {.threads = 1};
    wanted[0] = q->dtype != 1;
    wanted[1] = q->dtype == 1;
    if (q->dtype >= 0) return PB_OK;
    PB_RETURN(pb_device_probe(q->device, &options, &facts));
    wanted[1] = facts.fast_bf16;
    return PB_OK;
}

pb_status pb_kernels_cases(const pb_kernels_request *q, pb_kernel_cases *cases) {
    static const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    pb_layer_rank most = q->all ? PB_LAYER_ALL : PB_LAYER_USUAL;
    bool wanted[2];
    PB_RETURN(choose_dtypes(q, wanted));
    for (int i = 0; i < USUAL && (i == 0 || !q->model); i++) {
        const char *model = q->model ? q->model : usual[i].model;
        int64_t rows = q->rows ? q->rows : usual[i].rows;
        if (usual[i].all && !q->all) continue;
        for (int d = 0; d < 2; d++)
            if (wanted[d])
                PB_RETURN(pb_kernel_cases_add(cases, model, rows, dtypes[d], most, q->filter));
    }
    if (cases->n == 0)
        return PB_ERROR(PB_E_INPUT,
                        "--filter %s: no case has this in its name; see peftbench kernels list%s",
                        q->filter ? q->filter : "", q->all ? "" : " --all");
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

static pb_status list_cases(const pb_kernels_request *q) {
    static const char *const head[] = {"CASE", "MFLOP", "MB", NULL};
    pb_status status = PB_OK;
    pb_kernel_cases cases = {0};
    pb_table table = {0};
    pb_json *list = cJSON_CreateArray();
    PB_TRY(pb_kernels_cases(q, &cases));
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

/* ---- processes of their own ---- */

void pb_kernels_child_options(const pb_kernels_request *q, pb_kernels_options *out) {
    static const char *const dtypes[] = {"f32", "bf16"};
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"--rows", q->rows},
                   {"--threads", q->threads}};
    int n = 0;
    *out = (pb_kernels_options){.argv = {NULL}};
    if (q->all) out->argv[n++] = "--all";
    if (q->device && strcmp(q->device, "cpu") != 0) {
        out->argv[n++] = "--device";
        out->argv[n++] = q->device;
    }
    if (q->cache == 1) {
        out->argv[n++] = "--cache";
        out->argv[n++] = "hot";
    }
    if (q->dtype >= 0) {
        out->argv[n++] = "--dtype";
        out->argv[n++] = dtypes[q->dtype == 1];
    }
    for (int i = 0; i < 2; i++) {
        if (!numbers[i].value) continue;
        snprintf(out->numbers[i], sizeof out->numbers[i], "%lld", (long long)numbers[i].value);
        out->argv[n++] = numbers[i].name;
        out->argv[n++] = out->numbers[i];
    }
    if (q->model) {
        out->argv[n++] = "--model";
        out->argv[n++] = q->model;
    }
}

/* ---- files that are written ---- */

/* Its folder must be there now, before hours are spent on what shall go into it. */
static pb_status check_file(const char *option, const char *path) {
    char folder[1024];
    if (!path) return PB_OK;
    const char *slash = strrchr(path, '/');
    int n = slash ? (int)(slash - path) + (slash == path) : 1;
    snprintf(folder, sizeof folder, "%.*s", n, slash ? path : ".");
    if (pb_is_dir(path)) return PB_ERROR(PB_E_INPUT, "%s %s: is a folder; expected a file", option, path);
    if (pb_is_dir(folder)) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s %s: there is no folder %s; make it first", option, path, folder);
}

/* builds: --save names a folder, which is made. */
static pb_status check_files(const pb_kernels_request *q, bool builds) {
    PB_RETURN(check_file("--save", builds ? NULL : q->save));
    PB_RETURN(check_file("--junit", q->junit));
    PB_RETURN(check_file("--markdown", q->markdown));
    return check_file("--history", q->history);
}

void pb_kernels_written(pb_status *first, pb_status next) {
    if (next == PB_OK) return;
    fprintf(stderr, "%s\n", pb_error_message());
    pb_error_clear();
    if (*first == PB_OK) *first = next;
}

pb_status pb_kernels_all_written(pb_status first) {
    if (first == PB_OK) return PB_OK;
    return PB_ERROR(first, "not every file could be written, as said above; what was measured is on stdout");
}

/* ---- the command ---- */

static pb_status compare(pb_cli *cli, const pb_kernels_request *q, const pb_command_line *line) {
    const char *a = line->args[1], *b = line->args[2];
    if (q->gauge != PB_GAUGE_AUTO && !q->instructions)
        return PB_ERROR(PB_E_INPUT, "compare --gauge says how --instructions counts, which is not asked for");
    if (q->stored && (q->aa || q->instructions || q->revisions))
        return PB_ERROR(PB_E_INPUT, "compare --stored takes no --aa, --instructions or --revisions: it runs "
                                    "no builds");
    bool asks = q->model || q->all || q->rows || q->dtype >= 0 || q->device_given || q->cache_given ||
                q->threads || q->budget || q->save;
    if (q->stored && line->n_args == 3 && asks)
        return PB_ERROR(PB_E_INPUT, "compare --stored A B: both were measured already; it takes --filter, "
                                    "and nothing that is for a run made now");
    if (q->stored && (line->n_args == 2 || line->n_args == 3))
        return pb_kernels_compare_stored(cli, q, a, line->n_args == 3 ? b : NULL);
    if (q->instructions && strcmp(q->device, "cpu") != 0)
        return PB_ERROR(PB_E_INPUT, "compare --device %s --instructions: the counts are of the CPU's "
                                    "kernels; compare without one of them", q->device);
    if (q->aa && line->n_args == 2) return pb_kernels_compare(cli, q, a, a);
    if (q->aa)
        return PB_ERROR(PB_E_INPUT, "usage: peftbench kernels compare --aa A: one build");
    if (line->n_args != 3)
        return PB_ERROR(PB_E_INPUT, "usage: peftbench kernels compare A B: build folders, programs or "
                                    "git revisions");
    return pb_kernels_compare(cli, q, a, b);
}

static pb_status run(pb_cli *cli, const pb_kernels_request *q) {
    if (q->plots && q->unchecked && !q->anchors && q->processes == 1)
        return PB_ERROR(PB_E_INPUT, "run --unchecked --plots: there would be no roofs to draw; --anchors "
                                    "measures them");
    if (q->plots) PB_RETURN(pb_plots_available());
    if (q->plots) PB_RETURN(pb_make_dirs(q->plots));
    return pb_kernels_run(cli, q);
}

/* Counted as a CI machine of any kind can. */
static pb_status write_baseline(pb_cli *cli, pb_kernels_request q, const pb_command_line *line) {
    if (line->n_args != 2) return PB_ERROR(PB_E_INPUT, "usage: peftbench kernels baseline FILE");
    if (q.filter || q.baseline || q.save)
        return PB_ERROR(PB_E_INPUT,
                        "kernels baseline FILE takes no --filter, --baseline or --save: it writes all "
                        "counts");
    PB_RETURN(check_file("baseline", line->args[1]));
    q.save = line->args[1];
    if (q.gauge == PB_GAUGE_AUTO) q.gauge = PB_GAUGE_CALLGRIND;
    return pb_kernels_count(cli, &q);
}

/* Which commands an option is for. An option of another one is refused: a file that nobody wrote, or a
 * machine that was not asked, would be found out late. */
static pb_status check_options(const pb_option *options, const bool *given, int n, const char *what) {
    static const struct {
        const char *option, *commands;
    } of[] = {{"model", " list run compare count baseline "},
              {"all", " list run compare "},
              {"rows", " list run compare count baseline "},
              {"dtype", " list run compare count baseline "},
              {"device", " list run compare "},
              {"cache", " list run compare "},
              {"filter", " list run compare count "},
              {"threads", " list run compare "},
              {"budget", " run compare "},
              {"processes", " run "},
              {"unchecked", " run "},
              {"anchors", " run "},
              {"save", " run compare count "},
              {"instructions", " compare "},
              {"history", " run "},
              {"plots", " run trend "},
              {"below", " run show "},
              {"stored", " compare "},
              {"aa", " compare "},
              {"revisions", " compare "},
              {"gauge", " compare count baseline "},
              {"baseline", " count "},
              {"allow-unclear", " compare "},
              {"junit", " compare count "},
              {"markdown", " compare "},
              {"json", " list run compare count baseline trend "},
              {"format", " list run compare count baseline trend "}};
    char word[32];
    int length = snprintf(word, sizeof word, " %s ", what);
    if (length >= (int)sizeof word) return PB_OK; /* no command: said below */
    if (!strstr(" list run show plot trend compare count baseline ", word)) return PB_OK;
    for (int i = 0; i < n; i++) {
        const char *commands = NULL;
        for (size_t k = 0; k < sizeof of / sizeof of[0]; k++)
            if (strcmp(of[k].option, options[i].name) == 0) commands = of[k].commands;
        if (!commands) return PB_ERROR(PB_E_BUG, "--%s belongs to no command", options[i].name);
        if (given[i] && !strstr(commands, word))
            return PB_ERROR(PB_E_INPUT, "kernels %s takes no --%s: it is for%.*s", what,
                            options[i].name, (int)strlen(commands) - 1, commands);
    }
    return PB_OK;
}

static pb_status run_kernels(pb_cli *cli, int argc, char **argv) {
    static const char *const dtypes[] = {"f32", "bf16", NULL};
    static const char *const gauges[] = {"auto", "perf", "callgrind", "step", NULL};
    static const char *const caches[] = {"cold", "hot", NULL};
    pb_kernels_request q = {.processes = 1, .dtype = -1, .device = "cpu"};
    bool json = false;
    pb_option options[] = {
        PB_OPTION_TEXT("model", &q.model, "NAME",
                       "shape or folder whose layer gives the sizes (default: shape:minilm, "
                       "shape:gpt2-124m and\nshape:llama-3.2-1b; with --all shape:llama-3.1-8b too)"),
        PB_OPTION_FLAG("all", &q.all,
                       "also attention over 1024 and 4096 tokens, rank 64, thin products, fp4, int4, all "
                       "activations, an 8B layer"),
        PB_OPTION_INT("rows", &q.rows, "N", 64, 1048576,
                      "token rows (default: 2048, 512, 128 and 128 for these; count: 64 of "
                      "shape:minilm)"),
        PB_OPTION_CHOICE("dtype", &q.dtype, "f32|bf16", dtypes,
                         "of the tensors (default: f32, and bf16 where the device multiplies it; count: "
                         "both)"),
        PB_OPTION_TEXT("device", &q.device, "NAME", "run, compare: cpu or cuda (default cpu)"),
        PB_OPTION_CHOICE("cache", &q.cache, "cold|hot", caches,
                         "run, compare: before each sample all caches are flushed, or none (default "
                         "cold)"),
        PB_OPTION_TEXT("filter", &q.filter, "TEXT",
                       "only cases with this, or one of A|B|C, in their names"),
        PB_OPTION_INT("threads", &q.threads, "N", 1, 1024, "run: CPU threads (default: all cores)"),
        PB_OPTION_TEXT("budget", &q.budget, "TIME",
                       "run, compare: for all samples of all processes together, as 5min or 30s "
                       "(default: up to 5 s a case\nand process). References take their own time"),
        PB_OPTION_INT("processes", &q.processes, "N", 1, PB_GATE_PROCESSES,
                      "run: that many fresh processes, the first checked (default 1)"),
        PB_OPTION_FLAG("unchecked", &q.unchecked,
                       "run: only outputs' hashes, no reference and no roofs: as compare runs all "
                       "but the first process"),
        PB_OPTION_FLAG("anchors", &q.anchors, "run: measures the roofs, --unchecked or not"),
        PB_OPTION_TEXT("save", &q.save, "FILE",
                       "run: writes all with the raw samples as JSON; count: the counts; compare: a "
                       "folder, for the raw samples of\neach process, which are gone without it; compare "
                       "--stored A: the run made now"),
        PB_OPTION_FLAG("instructions", &q.instructions,
                       "compare: counts instructions of both too (as count does, with --gauge): "
                       "MORE_WORK"),
        PB_OPTION_TEXT("history", &q.history, "FILE",
                       "run: appends the medians as one line, for trend"),
        PB_OPTION_TEXT("plots", &q.plots, "DIR",
                       "run: roofline and share of the roof, trend: the first 24 series that changed; as "
                       "SVG and PNG"),
        {.name = "below",
         .kind = PB_OPT_NUMBER,
         .value = &q.below,
         .arg = "PERCENT",
         .lo = 0,
         .hi = 1000,
         .help = "run, show: only what is below this share of its roof, worst first"},
        PB_OPTION_FLAG("stored", &q.stored,
                       "compare: A and B are saved runs (without B: a run made now as A was); suspicions, "
                       "no more"),
        PB_OPTION_FLAG("aa", &q.aa,
                       "compare: A against itself: what this machine can tell apart, before B is "
                       "asked about"),
        PB_OPTION_TEXT("revisions", &q.revisions, "DIR",
                       "compare: where builds of git revisions are kept (default: revisions/ beside "
                       "this program)"),
        PB_OPTION_CHOICE("gauge", &q.gauge, "auto|perf|callgrind|step", gauges,
                         "count, compare --instructions: who counts (default auto: as the baseline was counted; else the "
                         "processor's counter\nwhere it may be read, or callgrind; baseline: "
                         "callgrind). step: each instruction traps, so that AVX-512 forms are counted "
                         "anywhere, slowly"),
        PB_OPTION_TEXT("baseline", &q.baseline, "FILE",
                       "count: compares with what kernels baseline FILE wrote"),
        PB_OPTION_FLAG("allow-unclear", &q.allow_unclear,
                       "compare: what could not be decided does not fail"),
        PB_OPTION_TEXT("junit", &q.junit, "FILE", "compare, count --baseline: verdicts as JUnit XML"),
        PB_OPTION_TEXT("markdown", &q.markdown, "FILE", "compare: a table for a pull request"),
        PB_OPTION_FLAG("json", &json, "as --format json"),
        PB_OPTION_FORMAT(&q.format),
    };
    pb_command_line line;
    cli->error_code = 1; /* of all of them: 2 is REGRESSED or MORE_WORK */
    enum { N = sizeof options / sizeof options[0] };
    bool given[N] = {false};
    for (int i = 0; i < N; i++) options[i].given = &given[i];
    PB_RETURN(pb_cli_parse(cli, options, N, argc, argv, &line));
    if (line.help) return PB_OK;
    const char *what = line.args[0];
    PB_RETURN(check_options(options, given, N, what));
    if (json) q.format = 1;
    for (int i = 0; i < N; i++) {
        q.device_given = q.device_given || (given[i] && strcmp(options[i].name, "device") == 0);
        q.cache_given = q.cache_given || (given[i] && strcmp(options[i].name, "cache") == 0);
    }
    if (q.budget && !pb_parse_seconds(q.budget, &q.budget_s))
        return PB_ERROR(PB_E_INPUT, "--budget: '%s', expected a time above 0 as 5min or 30s",
                        q.budget);
    PB_RETURN(check_files(&q, strcmp(what, "compare") == 0 && !q.stored));
    if (strcmp(what, "compare") == 0) return compare(cli, &q, &line);
    if (strcmp(what, "baseline") == 0) return write_baseline(cli, q, &line);
    if (strcmp(what, "trend") == 0 && line.n_args == 2) return pb_kernels_trend(&q, line.args[1]);
    if (strcmp(what, "show") == 0 && line.n_args == 2) return pb_kernels_show(&q, line.args[1]);
    if (strcmp(what, "plot") == 0 && line.n_args == 3)
        return pb_kernels_plot(line.args[1], line.args[2]);
    if (line.n_args > 1) return PB_ERROR(PB_E_INPUT, "too many arguments after kernels %s", what);
    if (strcmp(what, "list") == 0) return list_cases(&q);
    if (strcmp(what, "run") == 0) return run(cli, &q);
    if (strcmp(what, "count") == 0) return pb_kernels_count(cli, &q);
    return PB_ERROR(PB_E_INPUT,
                    "kernels has no '%s' with as many arguments; expected list, run, show FILE, plot FILE "
                    "DIR, trend FILE, compare A B, count or baseline FILE",
                    what);
}

const pb_command pb_command_kernels = {
    .name = "kernels",
    .args = "list|run|show|plot|trend|compare|count|baseline [A B|FILE]",
    .summary = "check, time, compare single kernels",
    .details =
        "list: the cases and their analytic work.\n"
        "run: every case must agree with the reference before it is timed, and the last timed "
        "output must have\n"
        "the bytes of the checked one. At least 60 samples, each with the op's tensors out of the "
        "caches and its\n"
        "outputs put back. OF ROOF is the least time that the analytic work takes at the machine's "
        "measured rates,\n"
        "over the median. Exit status 5 when a result is wrong.\n"
        "show, plot: a saved run as a table, or as figures in a folder. trend: where the times of a "
        "history changed, by\n"
        "energy statistics with p below 0.001. docs/kernels.md derives every number.\n"
        "compare: is B slower than A? Build folders, programs or git revisions, which are built "
        "apart, once. 10 fresh\n"
        "processes of each, in random order within each pair; what looks slower is measured again "
        "with 10 more.\n"
        "With a --budget that leaves fewer than 60 samples a process a kernel is UNCLEAR at best. "
        "--instructions counts\n"
        "both as well: over 1 % more is MORE_WORK, however noisy the machine.\n"
        "reports/gate.h says how it is decided. Exit status: 0 all SAME or FASTER, 1 usage or a "
        "build that does not\n"
        "run, 2 REGRESSED or MORE_WORK, 3 UNCLEAR, UNSTABLE or SUSPECT, 4 INCOMPARABLE, 5 WRONG.\n"
        "compare --stored: A and B are files of run --save, made with --processes 10. The copy and "
        "the library's\n"
        "product must be within 2 % of each other in both; it never says REGRESSED.\n"
        "count: instructions that one call of each kernel executes, with one thread: they repeat "
        "where time cannot decide.\n"
        "With --baseline, over 1 % more is MORE_WORK. Exit status: 0 all SAME or LESS_WORK, 1 "
        "usage or a baseline of other\n"
        "cases, 2 MORE_WORK, 4 INCOMPARABLE: another compiler, gauge or instruction set than the "
        "baseline's.\n"
        "baseline FILE: writes the counts for that.\n",
    .min_args = 1,
    .max_args = 3,
    .run = run_kernels,
};

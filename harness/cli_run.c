/* peftbench run: a suite from file to table and report. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/cli.h"
#include "harness/cli_run.h"
#include "harness/cli_table.h"
#include "harness/suite_run.h"
#include "reports/report.h"
#include "results/group.h"

/* ---- the table at the end ---- */

static void cell_stat(pb_table *t, int column, pb_stat s, double scale, const char *fmt) {
    char mean[32], sd[32];
    if (s.n == 0) {
        pb_table_cell(t, column, "-");
        return;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(mean, sizeof mean, fmt, s.mean * scale);
    snprintf(sd, sizeof sd, fmt, s.sd * scale);
#pragma GCC diagnostic pop
    pb_table_cell(t, column, s.n > 1 ? "%s ± %s" : "%s", mean, sd);
}

/* "3 ok, 1 failed" */
static void cell_status(pb_table *t, int column, const pb_row *row) {
    char text[PB_TABLE_CELL] = "";
    for (int s = 0; s < PB_RUN_STATUS_COUNT; s++) {
        int n = 0;
        for (int i = 0; i < row->n_runs; i++) n += row->runs[i]->status == (pb_run_status)s;
        size_t len = strlen(text);
        if (n > 0) {
            snprintf(text + len, sizeof text - len, "%s%d %s", len ? ", " : "", n,
                     pb_run_status_name((pb_run_status)s));
        }
    }
    pb_table_cell(t, column, "%s", text);
}

static pb_status print_chapter(const pb_chapter *c) {
    static const char *const head[] = {"RUN",      "ACCURACY", "NLL", "MS/STEP",
                                       "PEAK MIB", "STATUS",   NULL};
    pb_table t;
    pb_table_start(&t, head, 1 | 32);
    for (int i = 0; i < c->n_rows; i++) {
        const pb_row *row = &c->rows[i];
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", row->label);
        cell_stat(&t, 1, pb_row_stat(row, "quality/test/accuracy"), 1, "%.3f");
        cell_stat(&t, 2, pb_row_stat(row, "quality/test/nll"), 1, "%.3f");
        cell_stat(&t, 3, pb_row_stat(row, "time/step/median"), 1e3, "%.1f");
        pb_stat peak = pb_row_stat(row, "memory/peak/total");
        pb_table_cell(&t, 4, peak.n ? "%.1f" : "-", peak.mean / 1048576.0);
        cell_status(&t, 5, row);
    }
    printf("%s on %s\n", c->model, c->dataset);
    return pb_table_end(&t, stdout);
}

static pb_status add_chapter(pb_json *list, const pb_chapter *c) {
    static const struct {
        const char *key, *tag;
    } values[] = {{"accuracy", "quality/test/accuracy"},
                  {"nll", "quality/test/nll"},
                  {"step_s", "time/step/median"},
                  {"peak_bytes", "memory/peak/total"}};
    for (int i = 0; i < c->n_rows; i++) {
        pb_json *o = pb_json_add_object(list, NULL);
        bool ok = pb_json_add_str(o, "label", c->rows[i].label) &&
                  pb_json_add_str(o, "method", c->rows[i].method) &&
                  pb_json_add_str(o, "model", c->model) && pb_json_add_str(o, "data", c->dataset) &&
                  pb_json_add_i64(o, "runs", c->rows[i].n_runs) &&
                  pb_json_add_i64(o, "ok", c->rows[i].n_ok);
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            pb_stat s = pb_row_stat(&c->rows[i], values[k].tag);
            pb_json *v = pb_json_add_object(o, values[k].key);
            ok = ok && pb_json_add_f64(v, "mean", s.mean) && pb_json_add_f64(v, "sd", s.sd);
        }
        PB_RETURN(pb_cli_built(ok));
    }
    return PB_OK;
}

static pb_status print_results(const char *folder, bool json) {
    pb_status status = PB_OK;
    pb_record *records = NULL;
    pb_chapter *chapters = NULL;
    pb_json *list = NULL;
    int n = 0, n_chapters = 0;
    PB_TRY(pb_records_load(folder, false, &records, &n));
    PB_TRY(pb_chapters_make(records, n, &chapters, &n_chapters));
    if (json) list = cJSON_CreateArray();
    for (int i = 0; i < n_chapters; i++)
        PB_TRY(json ? add_chapter(list, &chapters[i]) : print_chapter(&chapters[i]));
    if (json) status = pb_cli_print_json(list);
    list = NULL;
done:
    pb_json_free(list);
    pb_chapters_free(chapters, n_chapters);
    pb_records_free(records, n);
    return status;
}

/* ---- the command ---- */

/* How a reader can make it again. */
static char *command_line(int argc, char **argv) {
    pb_text t = {0};
    pb_text_add(&t, "peftbench run");
    for (int i = 0; i < argc; i++) {
        bool plain =
            strcspn(argv[i], " \t\n\"'\\$&|;<>()*?#~`{}[]!") == strlen(argv[i]) && argv[i][0];
        if (plain) {
            pb_text_add(&t, " %s", argv[i]);
            continue;
        }
        pb_text_add(&t, " '");
        for (const char *p = argv[i]; *p; p++) pb_text_add(&t, *p == '\'' ? "'\\''" : "%c", *p);
        pb_text_add(&t, "'");
    }
    if (!t.failed) return t.data;
    pb_text_free(&t);
    return NULL;
}

static pb_status write_report(const char *folder, const char *command, FILE *paths) {
    pb_report_options report = {.command = command};
    bool no_plots = false;
    PB_RETURN(pb_report_write(folder, &report, paths, &no_plots));
    if (no_plots) {
        fprintf(stderr, "peftbench: the report has no plots: gnuplot is missing (apt-get install "
                        "gnuplot-nox)\n");
    }
    return PB_OK;
}

static pb_status verdict(const pb_runner_summary *s, const char *folder) {
    if (s->n_elsewhere > 0) {
        fprintf(stderr, "peftbench: %d runs are claimed on another machine\n", s->n_elsewhere);
    }
    if (s->n_bad == 0) return PB_OK;
    return PB_ERROR(
        PB_E_CHECK,
        "%d of %d runs failed; their records under %s say why; the same command repeats them",
        s->n_bad, s->n_runs, folder);
}

static pb_status run_suite(pb_cli *cli, const pb_suite *suite, const pb_run_request *q,
                           const char *command) {
    pb_status status = PB_OK;
    pb_runner_options options = {.out_dir = q->out,
                                 .threads = (int)q->threads,
                                 .memory_budget = q->budget,
                                 .again = q->again,
                                 .profile = q->profile,
                                 .counters = q->counters,
                                 .log = stderr};
    pb_runner_summary summary;
    char *folder = pb_path_join(q->out, suite->name);
    if (!folder) PB_FAIL(PB_E_OOM, "no memory for a path");
    status = pb_suite_execute(suite, &options, &summary);
    if (summary.signal) {
        cli->exit_code = 128 + summary.signal;
        status = PB_ERROR(PB_E_INTERRUPTED,
                          "stopped after %d of %d runs; the same command goes on from here",
                          summary.n_done + summary.n_skipped, summary.n_runs);
        goto done;
    }
    if (status != PB_OK) goto done;
    PB_TRY(print_results(folder, q->json));
    if (!q->no_report) PB_TRY(write_report(folder, command, q->json ? stderr : stdout));
    PB_TRY(verdict(&summary, folder));
done:
    free(folder);
    return status;
}

static pb_status run_one(pb_cli *cli, const pb_suite *suite, const pb_run_request *q,
                         const char *command) {
    return q->dry_run ? pb_run_dry(suite, q) : run_suite(cli, suite, q, command);
}

/* Each suite of a collection, records below OUT/COLLECTION/, one report over all at the end. A failed
 * run of one suite does not keep the others from running; whatever else goes wrong does. */
static pb_status run_collection(pb_cli *cli, const pb_suite *collection, const pb_run_request *q,
                                const char *command) {
    pb_status status = PB_OK, worst = PB_OK;
    pb_run_request part = *q;
    pb_suite suite = {0};
    char *folder = pb_path_join(q->out, collection->name);
    if (!folder) PB_FAIL(PB_E_OOM, "no memory for a path");
    part.out = folder;
    part.no_report = true;
    for (int i = 0; i < collection->n_suites; i++) {
        PB_TRY(pb_suite_load(collection->suites[i], &q->over, &suite));
        if (suite.n_suites > 0)
            PB_FAIL(PB_E_INPUT, "%s: suites: %s is a collection itself", collection->file,
                    collection->suites[i]);
        fprintf(stderr, "%s, suite %d of %d: %s\n", collection->name, i + 1, collection->n_suites,
                suite.name);
        status = run_one(cli, &suite, &part, command);
        if (status == PB_E_CHECK) {
            fprintf(stderr, "peftbench: %s: %s\n", suite.name, pb_error_message());
            worst = status;
            status = PB_OK;
        }
        PB_TRY(status);
        pb_suite_free(&suite);
    }
    if (!q->no_report && !q->dry_run)
        PB_TRY(write_report(folder, command, q->json ? stderr : stdout));
    if (worst != PB_OK)
        PB_FAIL(worst, "some runs failed; their records under %s say why; the same command repeats them",
                folder);
done:
    pb_suite_free(&suite);
    free(folder);
    return status;
}

static const char *const dtype_choices[] = {"f32", "bf16", "auto", NULL};

static pb_status resolve(pb_run_request *q) {
    q->over.dtype = q->dtype >= 0 ? dtype_choices[q->dtype] : NULL;
    q->over.seeds = (int)q->seeds;
    q->json = q->format != 0;
    if (pb_is_dir(q->out) || !pb_file_exists(q->out)) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "--out: %s is a file, expected a folder", q->out);
}

#define MAX_ROWS 24

static int list_options(pb_run_request *q, pb_option out[MAX_ROWS]) {
    const pb_option rows[] = {
        PB_OPTION_INT("seeds", &q->seeds, "N", 1, 1000, "seeds 1 to N (default: the suite's list)"),
        PB_OPTION_TEXT("methods", &q->over.methods, "A,B",
                       "only these rows: labels or methods (default: all)"),
        PB_OPTION_TEXT("model", &q->over.model, "DIR",
                       "another model: a Hugging Face folder, or a name from\n"
                       "`list models` (default: the suite's)"),
        PB_OPTION_TEXT("data", &q->over.data, "NAME|DIR",
                       "another data set: a source from `list datasets`, or a\n"
                       "folder with train.jsonl (default: the suite's)"),
        PB_OPTION_CHOICE("dtype", &q->dtype, "TYPE", dtype_choices,
                         "f32, bf16 or auto = bf16 where the machine has it\n"
                         "(default: the suite's)"),
        PB_OPTION_TEXT("device", &q->over.device, "NAME",
                       "cpu, cuda or ref (default: the suite's, else cpu)"),
        PB_OPTION_INT("steps", &q->over.steps, "N", 1, 1e9,
                      "optimizer steps (default: the suite's)"),
        PB_OPTION_INT("batch", &q->over.batch, "N", 1, 65536,
                      "sequences per micro-batch (default: the suite's)"),
        PB_OPTION_INT("max-len", &q->over.max_len, "N", 2, 1048576,
                      "tokens per sequence (default: the suite's)"),
        PB_OPTION_FLAG("checkpoint", &q->over.checkpoint,
                       "keep only the input of each layer and run it again in\n"
                       "backward: less memory, longer steps, the same bits\n"
                       "(default: the suite's)"),
        {.name = "lr",
         .kind = PB_OPT_NUMBER,
         .value = &q->over.lr,
         .arg = "X",
         .lo = 1e-12,
         .hi = 10,
         .given = &q->over.has_lr,
         .help = "one learning rate for every row (default: the rows')"},
        PB_OPTION_INT("threads", &q->threads, "N", 1, 4096, "CPU threads (default: all)"),
        PB_OPTION_SIZE("memory-budget", &q->budget, "SIZE",
                       "bytes a run may take from its arenas, as 500M or 2Gi; a\n"
                       "run that would need more is not started, status oom\n(default: none)"),
        PB_OPTION_TEXT("out", &q->out, "DIR", "results root (default: results)"),
        PB_OPTION_FLAG("dry-run", &q->dry_run,
                       "print every run with its predicted memory and time, train\n"
                       "nothing; exit status 1 when one is over the budget"),
        PB_OPTION_FLAG("again", &q->again, "repeat finished runs: removes their folders first"),
        PB_OPTION_FLAG("profile", &q->profile,
                       "after timing, trace a few steps op by op: the report shows\n"
                       "where the time goes; trace.json for ui.perfetto.dev.\n"
                       "Finished runs stay as they are"),
        PB_OPTION_FLAG("counters", &q->counters,
                       "--profile, and one more step under the GPU's hardware\n"
                       "counters: the roofline then shows measured traffic. Where\n"
                       "they are refused the record says why"),
        PB_OPTION_FLAG("no-report", &q->no_report, "records only"),
        PB_OPTION_FORMAT(&q->format),
    };
    enum { N = sizeof rows / sizeof rows[0] };
    PB_ASSERT(N <= MAX_ROWS);
    memcpy(out, rows, sizeof rows);
    return N;
}

static pb_status run_run(pb_cli *cli, int argc, char **argv) {
    pb_status status = PB_OK;
    pb_run_request q = {.out = "results", .dtype = -1};
    pb_option options[MAX_ROWS];
    pb_command_line line;
    pb_suite suite = {0};
    char *command = NULL;
    int n = list_options(&q, options);
    PB_RETURN(pb_cli_parse(cli, options, n, argc, argv, &line));
    if (line.help) return PB_OK;
    PB_RETURN(resolve(&q));
    PB_RETURN(pb_suite_load(line.args[0], &q.over, &suite));
    command = command_line(argc, argv);
    if (!command) PB_FAIL(PB_E_OOM, "no memory for the command line");
    PB_TRY(suite.n_suites > 0 ? run_collection(cli, &suite, &q, command)
                              : run_one(cli, &suite, &q, command));
done:
    free(command);
    pb_suite_free(&suite);
    return status;
}

const pb_command pb_command_run = {
    .name = "run",
    .args = "SUITE|FILE.json",
    .summary = "run a suite and write its report",
    .details =
        "Trains every row of a suite with every seed, each in its own process, and writes one "
        "record per run under\n"
        "OUT/SUITE/, then a table to stdout and the report. What changes settings (--data, "
        "--model, --dtype, --device,\n"
        "--steps, --batch, --max-len, --checkpoint, --lr) is added to the folder's name, so that a report never "
        "mixes them.\n"
        "Finished runs are skipped, failed and interrupted ones repeated: after a crash or Ctrl-C "
        "the same command\n"
        "goes on. Several processes may share one folder. Suites: peftbench list suites; grammar:\n"
        "harness/suites/README.md. Exit status 1 when a run failed or ran out of memory.\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_run,
};

/* peftbench report, plot, verify: what is done with records alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "harness/cli.h"
#include "plots/plots.h"
#include "reports/report.h"

/* ---- report ---- */

static pb_status run_report(pb_cli *cli, int argc, char **argv) {
    pb_report_options report = {.command = NULL};
    pb_command_line line;
    bool no_plots = false;
    const pb_option options[] = {
        PB_OPTION_TEXT("out", &report.out_dir, "DIR",
                       "where the report goes (default: DIR itself)"),
        PB_OPTION_TEXT("baseline", &report.baseline, "NAME",
                       "label or method that the others are compared with\n"
                       "(default: the lora row that the most others are at parity with;\n"
                       "without a lora row, the row that they are)"),
        PB_OPTION_TEXT("waive", &report.waive, "FIELDS",
                       "compare although rows differ in these fields, separated by commas;\n"
                       "peftbench compare --help lists them (default: none)"),
    };
    PB_RETURN(pb_cli_parse(cli, options, 3, argc, argv, &line));
    if (line.help) return PB_OK;
    if (report.out_dir) PB_RETURN(pb_make_dirs(report.out_dir));
    PB_RETURN(pb_report_write(line.args[0], &report, stdout, &no_plots));
    if (no_plots)
        fprintf(stderr, "peftbench: no plots: gnuplot is missing (apt-get install gnuplot-nox)\n");
    return PB_OK;
}

const pb_command pb_command_report = {
    .name = "report",
    .args = "DIR",
    .summary = "write the report of a results folder",
    .details = "Writes report.html, report.md, report.tex and summary.csv from the records under DIR (a run, a "
               "suite or a results\n"
               "root) and prints their paths. Needs nothing but the records.\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_report,
};

/* ---- plot ---- */

static pb_status draw(const char *dir, const char *out) {
    pb_status status = PB_OK;
    pb_record *records = NULL;
    pb_figure *figures = NULL;
    int n = 0, n_figures = 0;
    PB_TRY(pb_records_load(dir, true, &records, &n));
    PB_TRY(pb_make_dirs(out));
    PB_TRY(pb_plots_draw(records, n, pb_report_marks, out, &figures, &n_figures));
    for (int i = 0; i < n_figures; i++) {
        const char *const files[] = {figures[i].svg, figures[i].png};
        for (int k = 0; k < 2; k++) {
            if (files[k][0]) printf("%s/%s\n", out, files[k]);
        }
    }
    if (n_figures == 0) fprintf(stderr, "peftbench: no figure has data in these records\n");
done:
    free(figures);
    pb_records_free(records, n);
    return status;
}

static pb_status run_plot(pb_cli *cli, int argc, char **argv) {
    const char *out = NULL;
    pb_command_line line;
    const pb_option options[] = {{.name = "out",
                                  .kind = PB_OPT_TEXT,
                                  .value = &out,
                                  .arg = "DIR",
                                  .help = "where the figures go (default: DIR/plots)"}};
    PB_RETURN(pb_cli_parse(cli, options, 1, argc, argv, &line));
    if (line.help) return PB_OK;
    PB_RETURN(pb_plots_available());
    char *place = out ? strdup(out) : pb_path_join(line.args[0], "plots");
    if (!place) return pb_cli_built(false);
    pb_status status = draw(line.args[0], place);
    free(place);
    return status;
}

const pb_command pb_command_plot = {
    .name = "plot",
    .args = "DIR",
    .summary = "draw the figures of a results folder",
    .details = "Draws every figure that the records under DIR have data for, as SVG and PNG, and "
               "prints their paths.\n"
               "Needs gnuplot (exit status 3 without it).\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_plot,
};

/* ---- verify ---- */

static pb_status add_findings(pb_json *list, char *text) {
    for (char *p = text, *end; p && *p; p = end) {
        end = strchr(p, '\n');
        if (end) *end++ = 0;
        if (!pb_json_add_str(list, NULL, p)) return pb_cli_built(false);
    }
    return PB_OK;
}

typedef struct verification {
    const char *dir;
    double percent; /* of predicted and measured memory; not asked for when 0 */
    bool has_percent;
    int checked, bad;
    pb_memory_check memory;
} verification;

/* Everything that was asked for, also where the first part has findings. */
static pb_status verify(verification *v, FILE *out) {
    pb_status verdict = pb_records_verify(v->dir, out, &v->checked, &v->bad);
    if (!v->has_percent || (verdict != PB_OK && verdict != PB_E_CHECK)) return verdict;
    pb_status memory = pb_records_check_memory(v->dir, v->percent, out, &v->memory);
    return memory == PB_OK ? verdict : memory;
}

static bool add_memory(pb_json *root, const verification *v) {
    if (!v->has_percent) return true;
    pb_json *m = pb_json_add_object(root, "memory");
    return pb_json_add_i64(m, "runs", v->memory.runs) && pb_json_add_i64(m, "bad", v->memory.bad) &&
           pb_json_add_f64(m, "worst_percent", fmin(v->memory.worst_percent, 1e9)) &&
           pb_json_add_str(m, "worst", v->memory.worst);
}

static pb_status verify_json(verification *v) {
    char *text = NULL;
    size_t len = 0;
    FILE *findings = open_memstream(&text, &len);
    if (!findings) return pb_cli_built(false);
    pb_status verdict = verify(v, findings);
    if (fclose(findings) != 0 || (verdict != PB_OK && verdict != PB_E_CHECK)) {
        free(text);
        return verdict != PB_OK ? verdict : pb_cli_built(false);
    }
    pb_json *root = cJSON_CreateObject();
    bool ok = pb_json_add_i64(root, "checked", v->checked) && pb_json_add_i64(root, "bad", v->bad) && add_memory(root, v);
    pb_json *list = pb_json_add_array(root, "findings");
    pb_status status = ok && list ? add_findings(list, text) : pb_cli_built(false);
    free(text);
    if (status != PB_OK) {
        pb_json_free(root);
        return status;
    }
    PB_RETURN(pb_cli_print_json(root));
    return verdict;
}

static pb_status run_verify(pb_cli *cli, int argc, char **argv) {
    int format = 0;
    verification v = {0};
    pb_command_line line;
    const pb_option options[] = {
        {.name = "memory-within", .kind = PB_OPT_NUMBER, .value = &v.percent, .arg = "PERCENT", .lo = 0, .hi = 1000,
         .given = &v.has_percent,
         .help = "also demand that the peak memory of every run that ended well,\n"
                 "by purpose and in total, is what was predicted before it, or\n"
                 "off by no more than that; names the worst (default: not asked)"},
        PB_OPTION_FORMAT(&format)};
    PB_RETURN(pb_cli_parse(cli, options, 2, argc, argv, &line));
    if (line.help) return PB_OK;
    v.dir = line.args[0];
    if (format != 0) return verify_json(&v);
    PB_RETURN(verify(&v, stdout));
    printf("%d record%s: every hash, identity and derived number holds\n", v.checked, v.checked == 1 ? "" : "s");
    if (!v.has_percent) return PB_OK;
    printf("%d run%s: predicted and measured peak memory ", v.memory.runs, v.memory.runs == 1 ? "" : "s");
    if (v.memory.worst_percent > 0) printf("differ by %.3g %% at most (%s)\n", v.memory.worst_percent, v.memory.worst);
    else printf("are the same\n");
    return PB_OK;
}

const pb_command pb_command_verify = {
    .name = "verify",
    .args = "DIR",
    .summary = "check every record of a results folder",
    .details = "Reads every record under DIR, checks hashes, identities and names, and derives "
               "each metric again from its\n"
               "samples. One line per finding; exit status 1 when there is any.\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_verify,
};

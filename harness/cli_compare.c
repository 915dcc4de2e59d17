/* peftbench compare: verdicts from records alone. */
#include "harness/cli.h"
#include "reports/compare.h"

static pb_status run_compare(pb_cli *cli, int argc, char **argv) {
    static const char *const formats[] = {"text", "json", "markdown", "latex", NULL};
    pb_compare_options o = {0};
    pb_command_line line;
    int format = PB_COMPARE_TEXT;
    const pb_option options[] = {
        PB_OPTION_TEXT("baseline", &o.baseline, "NAME",
                       "label or method that the others are compared with\n"
                       "(default: the lora row that the most others are at parity with;\n"
                       "without a lora row, the row that they are)"),
        PB_OPTION_TEXT("rows", &o.rows, "LABELS",
                       "only these rows, separated by commas; each must exist (default: all)"),
        PB_OPTION_TEXT("anchor", &o.anchor, "NAME",
                       "label or method of a row in every folder: all others are taken\n"
                       "relative to it, which is how folders of different machines compare"),
        PB_OPTION_TEXT("waive", &o.waive, "FIELDS",
                       "compare although rows differ in these fields, separated by commas:\n"
                       "scale, targets, dropout, precision, optimizer, steps, tokens, schedule,\n"
                       "batch, accumulate, checkpoint, paged, clip, decay, model, data, order,\n"
                       "tuning, device, machine, software, threads, row, or a setting's path\n"
                       "(default: none)"),
        PB_OPTION_TEXT("fail-on", &o.fail_on, "GATES",
                       "exit with 1 when a row is found worse (or better) than the baseline by at\n"
                       "least an amount in nats, points or per cent, or cannot be judged, or when\n"
                       "none was judged:\n"
                       "worse:accuracy:1.0,worse:step:5 (measures nll, accuracy, step, memory,\n"
                       "infer-merged, infer-unmerged, forgetting, drift)"),
        PB_OPTION_CHOICE("format", &format, "text|json|markdown|latex", formats,
                         "how stdout is written (default text)"),
    };
    PB_RETURN(pb_cli_parse(cli, options, sizeof options / sizeof options[0], argc, argv, &line));
    if (line.help) return PB_OK;
    o.format = (pb_compare_format)format;
    return pb_compare(line.args, line.n_args, &o, stdout);
}

const pb_command pb_command_compare = {
    .name = "compare",
    .args = "DIR...",
    .summary = "verdicts: which rows differ, by how much, how surely",
    .details =
        "Compares the rows of a results folder, or of up to eight folders, in test loss, accuracy, "
        "step time and\n"
        "memory: better, worse, no detectable difference (with what would have shown), not "
        "comparable (with why).\n"
        "Rows that differ in more than the method are not compared unless waived. Needs nothing "
        "but "
        "the records;\n"
        "reports/STATISTICS.md derives every number.\n",
    .min_args = 1,
    .max_args = 8,
    .run = run_compare,
};

/* The commands of peftbench. stdout is data; stderr is log and progress. */
#ifndef PB_HARNESS_CLI_H
#define PB_HARNESS_CLI_H

#include "harness/cli_options.h"

#ifndef PB_VERSION
#define PB_VERSION "0"
#endif

typedef struct pb_command pb_command;

/* One call of the program. */
typedef struct pb_cli {
    const pb_command *command;
    bool debug;    /* errors with the frames they came through */
    int exit_code; /* what PB_OK or PB_E_INTERRUPTED exits with when it is not the usual code (128 +
                      signal) */
    int error_code; /* what errors exit with when it is not the status's own code */
} pb_cli;

struct pb_command {
    const char *name;
    const char *args;    /* "SUITE|FILE.json", "" */
    const char *summary; /* one line */
    const char *details; /* paragraphs of the help, each ends in a line break */
    int min_args, max_args;
    pb_status (*run)(pb_cli *cli, int argc, char **argv); /* argv without the command's name */
};

extern const pb_command pb_command_list, pb_command_run, pb_command_report, pb_command_plot,
    pb_command_verify, pb_command_bench, pb_command_info, pb_command_compare, pb_command_advise,
    pb_command_claims, pb_command_kernels;
extern const pb_command *const pb_commands[];
extern const int pb_command_count;

/* Parses argv against the command's options; prints the help to stdout when asked for, then
 * line->help is true and the command is done. Checks the number of arguments. */
pb_status pb_cli_parse(pb_cli *cli, const pb_option *options, int n, int argc, char **argv,
                       pb_command_line *line);

/* The rows that several commands share. */
#define PB_OPTION_FORMAT(var)                                                        \
    {                                                                                \
        .name = "format", .kind = PB_OPT_CHOICE, .value = (var), .arg = "text|json", \
        .help = "how stdout is written (default text)", .choices = pb_format_choices \
    }
extern const char *const pb_format_choices[]; /* "text", "json" */

/* Prints a JSON tree with line breaks to stdout and frees it. */
struct cJSON;
pb_status pb_cli_print_json(struct cJSON *json);
/* PB_E_OOM unless ok: for chains of pb_json_add_*. */
pb_status pb_cli_built(bool ok);

/* The whole program: what main calls. */
int pb_cli_main(int argc, char **argv);

/* "1.5 GiB", "340 MiB", "12 B"; "3.2 GFLOP/s" style with powers of 1000. */
void pb_format_bytes(char out[32], double bytes);
/* "820 ms", "12.3 s", "4 min 5 s", "2 h 3 min". */
void pb_format_seconds(char out[32], double seconds);
/* Columns a terminal needs for the text (UTF-8, one per character). */
int pb_text_columns(const char *s);

#endif

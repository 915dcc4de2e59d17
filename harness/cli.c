/* Dispatch, help and errors of the program; what its commands share. Test: tests/test_cli.c. */
#include "harness/cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "harness/environment.h"

const pb_command *const pb_commands[] = {
    &pb_command_list,    &pb_command_run,    &pb_command_report, &pb_command_plot,
    &pb_command_compare, &pb_command_verify, &pb_command_bench,  &pb_command_info,
    &pb_command_advise,  &pb_command_claims, &pb_command_kernels,
};
const int pb_command_count = sizeof pb_commands / sizeof pb_commands[0];
const char *const pb_format_choices[] = {"text", "json", NULL};

static void print_usage(FILE *out) {
    fprintf(out, "peftbench compares fine-tuning methods on one model and one data set: quality, "
                 "time, memory.\n\n"
                 "usage: peftbench COMMAND [ARGUMENTS] [OPTIONS]\n\n");
    for (int i = 0; i < pb_command_count; i++) {
        const pb_command *c = pb_commands[i];
        char head[64];
        snprintf(head, sizeof head, "%s %s", c->name, c->args);
        fprintf(out, "  %-32s%s\n", head, c->summary);
    }
    fprintf(out,
            "\n  --help       this text; after a command: its options\n"
            "  --version    the version\n"
            "  --debug      errors show where they came from (also PB_DEBUG=1)\n\n"
            "Exit status: 0 done, 1 a check or a run failed, 2 usage or bad input, 3 the "
            "environment lacks\n"
            "something, 130 and 143 after SIGINT and SIGTERM.\n\n"
            "First steps: peftbench run quick --seeds 1, then open results/quick/report.html\n");
}

static void print_command_help(const pb_command *c, const pb_option *options, int n) {
    printf("usage: peftbench %s%s%s [OPTIONS]\n\n%s\n", c->name, *c->args ? " " : "", c->args,
           c->details);
    printf("options:\n");
    pb_options_help(stdout, options, n);
}

pb_status pb_cli_parse(pb_cli *cli, const pb_option *options, int n, int argc, char **argv,
                       pb_command_line *line) {
    const pb_command *c = cli->command;
    PB_RETURN(pb_options_parse(options, n, argc, argv, line));
    if (line->help) {
        print_command_help(c, options, n);
        return PB_OK;
    }
    if (line->n_args >= c->min_args && line->n_args <= c->max_args) return PB_OK;
    return PB_ERROR(PB_E_INPUT, "%s: usage: peftbench %s %s; see peftbench %s --help",
                    line->n_args < c->min_args ? "an argument is missing" : "too many arguments",
                    c->name, c->args, c->name);
}

pb_status pb_cli_built(bool ok) {
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the output");
}

pb_status pb_cli_print_json(pb_json *json) {
    char *text = json ? pb_json_print(json, true) : NULL;
    pb_json_free(json);
    if (!text) return pb_cli_built(false);
    puts(text);
    free(text);
    return PB_OK;
}

/* ---- main ---- */

static const pb_command *find(const char *name) {
    for (int i = 0; i < pb_command_count; i++) {
        if (strcmp(pb_commands[i]->name, name) == 0) return pb_commands[i];
    }
    return NULL;
}

static pb_status unknown_command(const char *name) {
    const char *names[16];
    for (int i = 0; i < pb_command_count; i++) names[i] = pb_commands[i]->name;
    return PB_ERROR(PB_E_INPUT, "unknown command '%s'; did you mean '%s'? See peftbench --help",
                    name, pb_nearest(name, names, (size_t)pb_command_count));
}

/* Takes --debug out of argv wherever it stands before "--"; returns the new argc. */
static int take_debug(pb_cli *cli, int argc, char **argv) {
    const char *variable = getenv("PB_DEBUG");
    int kept = 0;
    bool only_args = false;
    cli->debug = variable && strcmp(variable, "1") == 0;
    for (int i = 0; i < argc; i++) {
        only_args = only_args || strcmp(argv[i], "--") == 0;
        if (!only_args && strcmp(argv[i], "--debug") == 0) {
            cli->debug = true;
        } else {
            argv[kept++] = argv[i];
        }
    }
    return kept;
}

static pb_status dispatch(pb_cli *cli, int argc, char **argv) {
    if (argc == 0) {
        print_usage(stderr);
        return PB_ERROR(PB_E_INPUT, "a command is missing; see peftbench --help");
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "help") == 0) {
        print_usage(stdout);
        return PB_OK;
    }
    if (strcmp(argv[0], "--version") == 0) {
        printf("peftbench %s\n", PB_VERSION);
        return PB_OK;
    }
    cli->command = find(argv[0]);
    if (!cli->command) return unknown_command(argv[0]);
    return cli->command->run(cli, argc - 1, argv + 1);
}

int pb_cli_main(int argc, char **argv) {
    pb_cli cli = {0};
    char **words = calloc((size_t)argc + 1, sizeof *words);
    if (!words) return 3;
    pb_environment_set_argv(argc, argv);
    for (int i = 1; i < argc; i++) words[i - 1] = argv[i];
    argc = take_debug(&cli, argc > 0 ? argc - 1 : 0, words);
    pb_status status = dispatch(&cli, argc, words);
    if (status == PB_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        status = PB_ERROR(PB_E_IO, "stdout could not be written");
    }
    fflush(stdout);
    if (status != PB_OK) {
        fprintf(stderr, "peftbench: %s\n", pb_error_message());
        if (cli.debug) fprintf(stderr, "peftbench: at %s\n", pb_error_trace());
    }
    free(words);
    if (cli.error_code && status != PB_OK && status != PB_E_INTERRUPTED) return cli.error_code;
    if (cli.exit_code && (status == PB_OK || status == PB_E_INTERRUPTED)) return cli.exit_code;
    return pb_status_exit_code(status);
}

/* ---- numbers for people ---- */

void pb_format_bytes(char out[32], double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    while (bytes >= 1024 && u < 5) {
        bytes /= 1024;
        u++;
    }
    snprintf(out, 32, u == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[u]);
}

void pb_format_seconds(char out[32], double s) {
    long long whole = (long long)(s + 0.5);
    if (!(s >= 0 && s < 1e12)) {
        snprintf(out, 32, "unknown");
    } else if (s < 1e-3) {
        snprintf(out, 32, "%.0f us", s * 1e6);
    } else if (s < 1) {
        snprintf(out, 32, "%.0f ms", s * 1e3);
    } else if (s < 60) {
        snprintf(out, 32, "%.1f s", s);
    } else if (whole < 3600) {
        snprintf(out, 32, "%lld min %lld s", whole / 60, whole % 60);
    } else {
        snprintf(out, 32, "%lld h %lld min", whole / 3600, whole % 3600 / 60);
    }
}

int pb_text_columns(const char *s) {
    int n = 0;
    for (; *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}

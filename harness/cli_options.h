/* One table-driven option parser: long options only, "--name value" and "--name=value". The table
 * also makes the help, so that no option can be accepted without being described. */
#ifndef PB_HARNESS_CLI_OPTIONS_H
#define PB_HARNESS_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef enum pb_option_kind {
    PB_OPT_FLAG,   /* bool: present or not */
    PB_OPT_TEXT,   /* const char *: points into argv */
    PB_OPT_INT,    /* int64_t in [lo, hi] */
    PB_OPT_NUMBER, /* double in [lo, hi] */
    PB_OPT_SIZE,   /* uint64_t bytes: 4096, 4K, 1.5G, 48GiB */
    PB_OPT_CHOICE  /* int: index into choices */
} pb_option_kind;

typedef struct pb_option {
    const char *name; /* without the dashes */
    pb_option_kind kind;
    void *value;      /* of the type above; keeps what it holds (the default) when not given */
    const char *arg;  /* "N": how the help calls the value; NULL for flags */
    const char *help; /* with default and unit; may have several lines */
    double lo, hi;
    const char *const *choices; /* NULL-terminated */
    bool *given;                /* may be NULL */
} pb_option;

/* Rows of a table. `help` says default and unit. */
#define PB_OPTION_FLAG(n, v, h) \
    { .name = (n), .kind = PB_OPT_FLAG, .value = (v), .help = (h) }
#define PB_OPTION_TEXT(n, v, a, h) \
    { .name = (n), .kind = PB_OPT_TEXT, .value = (v), .arg = (a), .help = (h) }
#define PB_OPTION_SIZE(n, v, a, h) \
    { .name = (n), .kind = PB_OPT_SIZE, .value = (v), .arg = (a), .help = (h) }
#define PB_OPTION_INT(n, v, a, low, high, h)                                                  \
    {                                                                                         \
        .name = (n), .kind = PB_OPT_INT, .value = (v), .arg = (a), .lo = (low), .hi = (high), \
        .help = (h)                                                                           \
    }
#define PB_OPTION_CHOICE(n, v, a, c, h) \
    { .name = (n), .kind = PB_OPT_CHOICE, .value = (v), .arg = (a), .choices = (c), .help = (h) }

#define PB_MAX_ARGS 256 /* a command may take fewer */

typedef struct pb_command_line {
    const char *args[PB_MAX_ARGS]; /* what is no option, in order */
    int n_args;
    bool help; /* --help was there: nothing else was checked */
} pb_command_line;

/* argv[0..argc-1] without the command's name. PB_E_INPUT names the option, what was found and what
 * was expected; an unknown option names the nearest. No option may stand twice. "--" ends the
 * options. */
pb_status pb_options_parse(const pb_option *options, int n, int argc, char **argv,
                           pb_command_line *out);

/* The options part of a help text: one entry per row, aligned. */
void pb_options_help(FILE *out, const pb_option *options, int n);

#endif

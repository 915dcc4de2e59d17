/* The option parser. Test: tests/test_cli.c. */
#include "harness/cli_options.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

#define MAX_OPTIONS 64
#define COLUMN 26 /* where descriptions start */

static const pb_option *find(const pb_option *options, int n, const char *name, size_t len) {
    for (int i = 0; i < n; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
            return &options[i];
    }
    return NULL;
}

static pb_status unknown(const pb_option *options, int n, const char *word) {
    const char *names[MAX_OPTIONS];
    char name[128];
    const char *bare = word + strspn(word, "-");
    snprintf(name, sizeof name, "%.*s", (int)(strcspn(bare, "=") < 120 ? strcspn(bare, "=") : 120),
             bare);
    names[0] = "help";
    for (int i = 0; i < n; i++) names[i + 1] = options[i].name;
    return PB_ERROR(PB_E_INPUT, "unknown option '%s'; did you mean --%s? See --help", word,
                    pb_nearest(name, names, (size_t)n + 1));
}

static pb_status wrong(const pb_option *o, const char *text, const char *expected) {
    return PB_ERROR(PB_E_INPUT, "--%s: '%s', expected %s", o->name, text, expected);
}

static pb_status read_choice(const pb_option *o, const char *text) {
    char all[256] = "";
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], text) == 0) {
            *(int *)o->value = i;
            return PB_OK;
        }
        size_t len = strlen(all);
        const char *glue = i == 0 ? "" : o->choices[i + 1] ? ", " : " or ";
        snprintf(all + len, sizeof all - len, "%s%s", glue, o->choices[i]);
    }
    return wrong(o, text, all);
}

static pb_status read_value(const pb_option *o, const char *text) {
    char expected[128], lo[PB_F64_CHARS], hi[PB_F64_CHARS];
    int64_t i = 0;
    double d = 0;
    pb_format_f64(lo, o->lo);
    pb_format_f64(hi, o->hi);
    switch (o->kind) {
    case PB_OPT_FLAG: *(bool *)o->value = true; return PB_OK;
    case PB_OPT_TEXT:
        if (!*text) return wrong(o, text, "a value that is not empty");
        *(const char **)o->value = text;
        return PB_OK;
    case PB_OPT_INT:
        snprintf(expected, sizeof expected, "a whole number from %s to %s", lo, hi);
        if (!pb_parse_i64(text, &i) || (double)i < o->lo || (double)i > o->hi)
            return wrong(o, text, expected);
        *(int64_t *)o->value = i;
        return PB_OK;
    case PB_OPT_NUMBER:
        snprintf(expected, sizeof expected, "a number from %s to %s", lo, hi);
        if (!pb_parse_f64(text, &d) || !(d >= o->lo && d <= o->hi)) return wrong(o, text, expected);
        *(double *)o->value = d;
        return PB_OK;
    case PB_OPT_SIZE:
        if (pb_parse_size(text, o->value)) return PB_OK;
        return wrong(o, text, "bytes, with K, M, G (1000) or Ki, Mi, Gi (1024)");
    case PB_OPT_CHOICE: return read_choice(o, text);
    }
    return PB_ERROR(PB_E_BUG, "--%s has kind %d", o->name, (int)o->kind);
}

/* One option at argv[*i], its value maybe at argv[*i + 1]. */
static pb_status take(const pb_option *options, int n, int argc, char **argv, int *i, bool *seen) {
    const char *word = argv[*i], *equals = strchr(word, '='), *text = "";
    size_t len = equals ? (size_t)(equals - word - 2) : strlen(word + 2);
    const pb_option *o = find(options, n, word + 2, len);
    if (!o) return unknown(options, n, word);
    if (seen[o - options]) return PB_ERROR(PB_E_INPUT, "--%s stands twice", o->name);
    seen[o - options] = true;
    if (o->kind == PB_OPT_FLAG) {
        if (equals) return PB_ERROR(PB_E_INPUT, "--%s takes no value", o->name);
    } else if (equals) {
        text = equals + 1;
    } else if (*i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0) {
        text = argv[++*i];
    } else {
        return PB_ERROR(PB_E_INPUT, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
    }
    PB_RETURN(read_value(o, text));
    if (o->given) *o->given = true;
    return PB_OK;
}

pb_status pb_options_parse(const pb_option *options, int n, int argc, char **argv,
                           pb_command_line *out) {
    bool seen[MAX_OPTIONS] = {false}, only_args = false;
    PB_ASSERT(n < MAX_OPTIONS);
    *out = (pb_command_line){0};
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        out->help = out->help || strcmp(argv[i], "--help") == 0;
    }
    if (out->help) return PB_OK;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!only_args && strcmp(word, "--") == 0) {
            only_args = true;
        } else if (!only_args && strncmp(word, "--", 2) == 0) {
            PB_RETURN(take(options, n, argc, argv, &i, seen));
        } else if (!only_args && word[0] == '-' && word[1]) {
            return unknown(options, n, word);
        } else if (out->n_args == (int)(sizeof out->args / sizeof out->args[0])) {
            return PB_ERROR(PB_E_INPUT, "too many arguments from '%s' on", word);
        } else {
            out->args[out->n_args++] = word;
        }
    }
    return PB_OK;
}

static void help_row(FILE *out, const char *name, const char *arg, const char *help) {
    int n = fprintf(out, "  --%s%s%s", name, arg ? " " : "", arg ? arg : "");
    if (n >= COLUMN) n = fprintf(out, "\n") - 1;
    fprintf(out, "%*s", COLUMN - n, "");
    for (const char *p = help; *p; p++) {
        fputc(*p, out);
        if (*p == '\n') fprintf(out, "%*s", COLUMN, "");
    }
    fputc('\n', out);
}

void pb_options_help(FILE *out, const pb_option *options, int n) {
    for (int i = 0; i < n; i++) help_row(out, options[i].name, options[i].arg, options[i].help);
    help_row(out, "help", NULL, "this text");
}

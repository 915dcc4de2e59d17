/* peftbench claims: claims of papers against records. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/claims_facts.h"
#include "harness/cli.h"
#include "harness/cli_table.h"
#include "harness/suite_run.h"
#include "reports/claims.h"

typedef struct claims_request {
    const char *out, *only; /* only: ids, comma-separated */
    int64_t threads, steps, seeds;
    int scale, format, fail_on; /* indices of choices; scale -1 = not given */
} claims_request;

static const char *const scale_choices[] = {"small", "full", "arithmetic", "all", NULL};
static const char *const format_choices[] = {"text", "json", "markdown", NULL};
static const char *const fail_choices[] = {"nothing", "contradicted", NULL};

/* ---- which claims ---- */

typedef struct selection {
    pb_claim_file *all;
    const pb_claim_file **chosen;
    int n_all, n;
} selection;

static void selection_free(selection *s) {
    free(s->chosen);
    pb_claims_free(s->all, s->n_all);
    *s = (selection){0};
}

static void choose(selection *s, const pb_claim_file *c) {
    for (int i = 0; i < s->n; i++)
        if (s->chosen[i] == c) return;
    s->chosen[s->n++] = c;
}

/* "art-a,art-b" */
static pb_status choose_ids(selection *s, const char *list) {
    char id[64];
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        const pb_claim_file *c = NULL;
        snprintf(id, sizeof id, "%.*s", (int)(n < 60 ? n : 60), p);
        PB_RETURN(pb_claims_find(s->all, s->n_all, id, &c));
        choose(s, c);
        p += n + (p[n] == ',');
    }
    return PB_OK;
}

static pb_status selection_load(selection *s) {
    pb_status status = PB_OK;
    char *dir = pb_path_join(pb_home(), "reports/claims");
    *s = (selection){0};
    if (!dir) return pb_cli_built(false);
    PB_TRY(pb_claims_load(dir, &s->all, &s->n_all));
    for (int i = 0; i < s->n_all; i++) PB_TRY(pb_claim_facts_check(&s->all[i]));
    s->chosen = calloc((size_t)s->n_all + 1, sizeof *s->chosen);
    if (!s->chosen) PB_FAIL(PB_E_OOM, "no memory for %d claims", s->n_all);
done:
    free(dir);
    return status;
}

static void choose_scale(selection *s, int scale) {
    static const pb_claim_scale scales[] = {PB_SCALE_SMALL, PB_SCALE_FULL, PB_SCALE_ARITHMETIC};
    for (int i = 0; i < s->n_all; i++)
        if (scale == 3 || s->all[i].scale == scales[scale]) choose(s, &s->all[i]);
}

/* ---- list ---- */

static pb_status list_json(const selection *s) {
    pb_json *list = cJSON_CreateArray();
    for (int i = 0; i < s->n; i++) {
        const pb_claim_file *c = s->chosen[i];
        pb_json *o = pb_json_add_object(list, NULL);
        bool ok = pb_json_add_str(o, "id", c->id) && pb_json_add_str(o, "method", c->method) &&
                  pb_json_add_str(o, "statement", c->statement) &&
                  pb_json_add_str(o, "scale", pb_claim_scale_name(c->scale)) &&
                  pb_json_add_str(o, "why", c->why) && pb_json_add_i64(o, "seeds", c->seeds);
        pb_json *suites = pb_json_add_array(o, "suites");
        for (int k = 0; k < c->n_suites; k++) ok = ok && pb_json_add_str(suites, NULL, c->suites[k]);
        if (ok && suites) continue;
        pb_json_free(list);
        return pb_cli_built(false);
    }
    return pb_cli_print_json(list);
}

/* As many bytes as the cell holds, no character cut in two. */
static int fitting(const char *text, int bytes) {
    int n = (int)strlen(text);
    if (n <= bytes) return n;
    for (n = bytes; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80; n--) {}
    return n;
}

static pb_status list_text(const selection *s) {
    static const char *const head[] = {"CLAIM", "SCALE", "SUITES", "STATEMENT", NULL};
    pb_table t;
    pb_table_start(&t, head, 15);
    for (int i = 0; i < s->n; i++) {
        const pb_claim_file *c = s->chosen[i];
        char suites[PB_TABLE_CELL] = "";
        for (int k = 0; k < c->n_suites; k++) {
            size_t len = strlen(suites);
            snprintf(suites + len, sizeof suites - len, "%s%s", k ? "," : "", c->suites[k]);
        }
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", c->id);
        pb_table_cell(&t, 1, "%s", pb_claim_scale_name(c->scale));
        pb_table_cell(&t, 2, "%s", *suites ? suites : "-");
        int n = fitting(c->statement, PB_TABLE_CELL - 5);
        pb_table_cell(&t, 3, "%.*s%s", n, c->statement, c->statement[n] ? "..." : "");
    }
    return pb_table_end(&t, stdout);
}

/* ---- check ---- */

static pb_status print_verdicts(const pb_json *results) {
    static const char *const head[] = {"CLAIM", "VERDICT", "SCALE", "SEEN", NULL};
    pb_table t;
    const pb_json *c = NULL, *a = NULL;
    pb_table_start(&t, head, 15);
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) {
        bool first = true;
        cJSON_ArrayForEach (a, pb_json_get(c, "assertions")) {
            pb_table_row(&t);
            if (first) {
                pb_table_cell(&t, 0, "%s", pb_json_text(c, "id"));
                pb_table_cell(&t, 1, "%s", pb_json_text(c, "verdict"));
                pb_table_cell(&t, 2, "%s", pb_json_text(c, "scale"));
            }
            const pb_json *decides = pb_json_get(a, "decides");
            pb_table_cell(&t, 3, "%s: %s, wanted %s%s%s", pb_json_text(a, "finding"), pb_json_text(a, "seen"),
                          pb_json_text(a, "wanted"),
                          cJSON_IsFalse(decides)    ? " (reported only)"
                          : cJSON_IsString(decides) ? " (a part of it)"
                                                    : "",
                          cJSON_IsTrue(pb_json_get(a, "optional")) ? " (optional)" : "");
            first = false;
        }
        if (!first) continue;
        pb_table_row(&t);
        pb_table_cell(&t, 0, "%s", pb_json_text(c, "id"));
        pb_table_cell(&t, 1, "%s", pb_json_text(c, "verdict"));
        pb_table_cell(&t, 2, "%s", pb_json_text(c, "scale"));
        const char *why = pb_json_text(c, "why");
        pb_table_cell(&t, 3, "%.*s", fitting(why, PB_TABLE_CELL - 1), why);
    }
    PB_RETURN(pb_table_end(&t, stdout));
    printf("\n");
    for (int v = 0; v < PB_CLAIM_VERDICTS; v++)
        printf("%d %s%s", pb_claims_count(results, (pb_verdict_of_claim)v),
               pb_claim_verdict_name((pb_verdict_of_claim)v),
               v + 1 < PB_CLAIM_VERDICTS ? ", " : "\n");
    return PB_OK;
}

static pb_status print_markdown(const char *dir) {
    char *path = pb_path_join(dir, "claims.md"), *data = NULL;
    if (!path) return pb_cli_built(false);
    pb_status status = pb_file_read(path, 16u << 20, &data, NULL);
    if (status == PB_OK) fputs(data, stdout);
    free(data);
    free(path);
    return status;
}

/* The records of one more folder. */
static pb_status add_records(const char *dir, pb_record **records, int *n) {
    pb_record *more = NULL;
    int n_more = 0;
    PB_RETURN(pb_records_load(dir, true, &more, &n_more));
    pb_record *all = realloc(*records, (size_t)(*n + n_more) * sizeof *all);
    if (!all) {
        pb_records_free(more, n_more);
        return PB_ERROR(PB_E_OOM, "no memory for %d records", *n + n_more);
    }
    memcpy(all + *n, more, (size_t)n_more * sizeof *all);
    free(more);
    *records = all;
    *n += n_more;
    return PB_OK;
}

/* dirs: folders of records; none = arithmetic alone. */
static pb_status check(const selection *s, const claims_request *q, const char *const *dirs, int n_dirs,
                       const char *out) {
    pb_status status = PB_OK;
    pb_record *records = NULL;
    pb_json *facts = NULL, *results = NULL;
    int n = 0;
    for (int i = 0; i < n_dirs; i++) PB_TRY(add_records(dirs[i], &records, &n));
    PB_TRY(pb_claim_facts(s->chosen, s->n, (int)q->threads, &facts));
    PB_TRY(pb_claims_check(s->chosen, s->n, records, n, facts, &results));
    PB_TRY(pb_claims_write(results, out, stderr));
    if (q->format == 0) PB_TRY(print_verdicts(results));
    if (q->format == 2) PB_TRY(print_markdown(out));
    int contradicted = pb_claims_count(results, PB_CLAIM_CONTRADICTED);
    if (q->format == 1) {
        status = pb_cli_print_json(results);
        results = NULL;
        if (status != PB_OK) goto done;
    }
    if (q->fail_on == 1 && contradicted > 0)
        PB_FAIL(PB_E_CHECK, "%d claim%s contradicted (--fail-on contradicted)", contradicted,
                contradicted == 1 ? " is" : "s are");
done:
    pb_json_free(facts);
    pb_json_free(results);
    pb_records_free(records, n);
    return status;
}

/* ---- table ---- */

/* What `check` has left in a folder, in brief; no record is read. */
static pb_status verb_table(pb_cli *cli, selection *s, const claims_request *q, const pb_command_line *line) {
    pb_status status = PB_OK;
    pb_json *results = NULL;
    pb_text table = {0};
    (void)cli;
    (void)s;
    if (line->n_args != 2 || q->only || q->scale >= 0)
        return PB_ERROR(PB_E_INPUT, "claims table: expected one folder with a claims.json, and nothing else");
    char *path = pb_path_join(line->args[1], "claims.json");
    if (!path) return pb_cli_built(false);
    PB_TRY(pb_json_load(path, 16u << 20, &results));
    status = pb_claims_table(results, &table);
    if (status == PB_OK) fputs(table.data, stdout);
done:
    free(path);
    pb_json_free(results);
    pb_text_free(&table);
    return status;
}

/* ---- run ---- */

typedef struct needed {
    const char *suite;
    pb_text labels; /* comma-separated */
    bool whole;     /* a glob: every row */
} needed;

static pb_status need_row(void *user, const char *suite, const char *label, const char *tag) {
    needed *need = user;
    (void)tag;
    if (strcmp(suite, need->suite) != 0) return PB_OK;
    need->whole = need->whole || strpbrk(label, "*?,") != NULL;
    pb_text_add(&need->labels, "%s%s", need->labels.len ? "," : "", label);
    return pb_text_status(&need->labels);
}

static pb_status run_suite(pb_cli *cli, const selection *s, const claims_request *q,
                           const char *name, bool all_rows) {
    pb_status status = PB_OK;
    needed need = {.suite = name, .whole = all_rows};
    pb_suite suite = {0};
    pb_runner_summary summary = {0};
    pb_suite_overrides over = {.steps = q->steps, .seeds = (int)q->seeds};
    pb_runner_options options = {.out_dir = q->out, .threads = (int)q->threads, .log = stderr};
    for (int i = 0; i < s->n; i++) PB_TRY(pb_claim_rows(s->chosen[i], need_row, &need));
    if (!need.whole) over.methods = need.labels.data;
    PB_TRY(pb_suite_load(name, &over, &suite));
    status = pb_suite_execute(&suite, &options, &summary);
    if (summary.signal) {
        cli->exit_code = 128 + summary.signal;
        PB_FAIL(PB_E_INTERRUPTED, "%s: stopped after %d of %d runs; the same command goes on from here",
                name, summary.n_done + summary.n_skipped, summary.n_runs);
    }
    if (status == PB_OK && summary.n_bad > 0)
        fprintf(stderr, "peftbench: %s: %d of %d runs failed; the claims that need them stay open\n",
                name, summary.n_bad, summary.n_runs);
done:
    pb_suite_free(&suite);
    pb_text_free(&need.labels);
    return status;
}

/* The suites that the chosen claims name, each once, in order of appearance. */
static pb_status run_missing(pb_cli *cli, const selection *s, const claims_request *q,
                             bool all_rows, bool *any) {
    const char *done[64];
    int n = 0;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < s->chosen[i]->n_suites; k++) {
            const char *suite = s->chosen[i]->suites[k];
            bool before = false;
            for (int j = 0; j < n; j++) before = before || strcmp(done[j], suite) == 0;
            if (before || n == 64) continue;
            done[n++] = suite;
            if (strchr(suite, '*')) {
                fprintf(stderr,
                        "peftbench: %s: left out (optional parts of claims): peftbench run %.*s --model "
                        "DIR makes it\n",
                        suite, (int)strlen(suite) - 2, suite);
                continue;
            }
            *any = true;
            PB_RETURN(run_suite(cli, s, q, suite, all_rows));
        }
    return PB_OK;
}

/* ---- the command ---- */

static pb_status verb_list(pb_cli *cli, selection *s, const claims_request *q,
                           const pb_command_line *line) {
    (void)cli;
    if (line->n_args > 1)
        return PB_ERROR(PB_E_INPUT, "claims list: '%s': no further argument is taken", line->args[1]);
    if (q->only) PB_RETURN(choose_ids(s, q->only));
    else choose_scale(s, q->scale >= 0 ? q->scale : 3);
    return q->format == 1 ? list_json(s) : list_text(s);
}

static pb_status verb_check(pb_cli *cli, selection *s, const claims_request *q,
                            const pb_command_line *line) {
    (void)cli;
    if (line->n_args < 2)
        return PB_ERROR(PB_E_INPUT, "claims check: expected a folder of records, or several");
    if (q->only) PB_RETURN(choose_ids(s, q->only));
    else choose_scale(s, q->scale >= 0 ? q->scale : 3);
    return check(s, q, line->args + 1, line->n_args - 1, q->out ? q->out : line->args[1]);
}

static pb_status verb_run(pb_cli *cli, selection *s, const claims_request *given,
                          const pb_command_line *line) {
    claims_request q = *given;
    bool any = false;
    if (!q.out) q.out = "results/claims-small";
    for (int i = 1; i < line->n_args; i++) PB_RETURN(choose_ids(s, line->args[i]));
    if (q.only) PB_RETURN(choose_ids(s, q.only));
    bool by_id = s->n > 0;
    if (by_id == (q.scale >= 0))
        return PB_ERROR(PB_E_INPUT, "claims run: expected ids or --scale; see peftbench claims list");
    if (!by_id) choose_scale(s, q.scale);
    PB_RETURN(run_missing(cli, s, &q, !by_id, &any));
    return check(s, &q, &q.out, any ? 1 : 0, q.out);
}

static pb_status run_claims(pb_cli *cli, int argc, char **argv) {
    static const struct {
        const char *name;
        pb_status (*run)(pb_cli *, selection *, const claims_request *, const pb_command_line *);
    } verbs[] = {{"list", verb_list}, {"run", verb_run}, {"check", verb_check}, {"table", verb_table}};
    enum { N = sizeof verbs / sizeof verbs[0] };
    const char *names[N];
    claims_request q = {.scale = -1};
    pb_command_line line;
    selection s = {0};
    const pb_option options[] = {
        PB_OPTION_CHOICE("scale", &q.scale, "SCALE", scale_choices,
                         "claims of this kind: small, full, arithmetic or all\n"
                         "(default of list and check: all)"),
        PB_OPTION_TEXT("claims", &q.only, "A,B", "only these ids (default: all)"),
        PB_OPTION_TEXT("out", &q.out, "DIR",
                       "run: results root (default results/claims-small); check: where\n"
                       "claims.json, .md and .html go (default: the first folder checked)"),
        PB_OPTION_INT("seeds", &q.seeds, "N", 1, 1000, "run: seeds 1 to N (default: the suites')"),
        PB_OPTION_INT("steps", &q.steps, "N", 1, 1e9,
                      "run: optimizer steps, for a rehearsal (default: the suites')"),
        PB_OPTION_INT("threads", &q.threads, "N", 1, 4096, "CPU threads (default: all)"),
        PB_OPTION_CHOICE("fail-on", &q.fail_on, "WHAT", fail_choices,
                         "exit status 1 when a claim is contradicted, or never\n"
                         "(default nothing)"),
        PB_OPTION_CHOICE("format", &q.format, "text|json|markdown", format_choices,
                         "how stdout is written (default text)"),
    };
    PB_RETURN(pb_cli_parse(cli, options, sizeof options / sizeof options[0], argc, argv, &line));
    if (line.help) return PB_OK;
    for (int i = 0; i < N; i++) {
        names[i] = verbs[i].name;
        if (strcmp(line.args[0], names[i]) != 0) continue;
        pb_status status = selection_load(&s);
        if (status == PB_OK) status = verbs[i].run(cli, &s, &q, &line);
        selection_free(&s);
        return status;
    }
    return PB_ERROR(PB_E_INPUT, "claims: unknown action '%s'; did you mean '%s'?", line.args[0],
                    pb_nearest(line.args[0], names, N));
}

const pb_command pb_command_claims = {
    .name = "claims",
    .args = "list|run|check|table [ID...|DIR...]",
    .summary = "claims of papers, tested against records",
    .details =
        "  list               what is claimed, at which scale it can be tested, which suites it needs\n"
        "  run ID...          makes the runs that these claims need and that are missing, then checks\n"
        "  run --scale small  the same for every claim of that kind\n"
        "  check DIR...       verdicts from the records under DIR, to stdout and DIR/claims.*; of several\n"
        "                     folders they go into the first\n"
        "  table DIR          DIR/claims.json in brief: a Markdown table, as in README.md\n\n"
        "Verdicts: supported (in part), same direction (in part) at small scale, contradicted,\n"
        "inconclusive, not run, not testable at this scale. A claim is one file, reports/claims/<id>.json; grammar:\n"
        "reports/claims/README.md. Finished runs are skipped: after a crash or Ctrl-C the same command\n"
        "goes on.\n",
    .min_args = 1,
    .max_args = 8,
    .run = run_claims,
};

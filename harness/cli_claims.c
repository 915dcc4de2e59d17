/* peftbench claims: claims of papers against records. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "harness/claims_facts.h"
#include "harness/cli_claims.h"
#include "harness/cli_table.h"
#include "harness/suite.h"

static const char *const scale_choices[] = {"small", "full", "arithmetic", "all", NULL};
static const char *const format_choices[] = {"text", "json", "markdown", NULL};
static const char *const fail_choices[] = {"nothing", "contradicted", NULL};

/* ---- which claims ---- */

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
    if (!*list) return PB_ERROR(PB_E_INPUT, "claims: an id is empty; see peftbench claims list");
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

/* None is an error: verdicts on nothing contradict nothing. */
static pb_status choose_scale(selection *s, int scale) {
    static const pb_claim_scale scales[] = {PB_SCALE_SMALL, PB_SCALE_FULL, PB_SCALE_ARITHMETIC};
    int count[PB_SCALE_COUNT] = {0};
    pb_text there = {0};
    for (int i = 0; i < s->n_all; i++) {
        count[s->all[i].scale]++;
        if (scale == 3 || s->all[i].scale == scales[scale]) choose(s, &s->all[i]);
    }
    if (s->n) return PB_OK;
    for (int k = 0; k < PB_SCALE_COUNT; k++)
        if (count[k])
            pb_text_add(&there, "%s%d %s", there.len ? ", " : "", count[k], pb_claim_scale_name((pb_claim_scale)k));
    pb_status status = PB_ERROR(PB_E_INPUT, "--scale %s: no claim is tested at it; there are %s (all: --scale all)",
                                scale_choices[scale], there.data ? there.data : "none");
    pb_text_free(&there);
    return status;
}

/* Of list and check: all where nothing is said. */
static pb_status choose_by_option(selection *s, const claims_request *q) {
    if (q->only && q->scale >= 0)
        return PB_ERROR(PB_E_INPUT, "claims: expected --claims or --scale, not both");
    return q->only ? choose_ids(s, q->only) : choose_scale(s, q->scale >= 0 ? q->scale : 3);
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

static pb_status print_markdown(const pb_json *results) {
    pb_text text = {0};
    pb_status status = pb_claims_markdown(results, &text);
    if (status == PB_OK) fputs(text.data, stdout);
    pb_text_free(&text);
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

/* The chosen claims and the others that claims.json of a folder holds, in the order of all. */
typedef struct standing {
    const pb_claim_file **claims;
    int n, n_others;
    double records; /* behind the others */
} standing;

static bool is_chosen(const selection *s, const pb_claim_file *c) {
    for (int i = 0; i < s->n; i++)
        if (s->chosen[i] == c) return true;
    return false;
}

static bool is_in(const pb_json *results, const pb_claim_file *c) {
    const pb_json *e = NULL;
    cJSON_ArrayForEach (e, pb_json_get(results, "claims"))
        if (strcmp(pb_json_text(e, "id"), c->id) == 0) return true;
    return false;
}

static pb_status find_standing(const selection *s, const char *out, standing *k) {
    pb_status status = PB_OK;
    pb_json *old = NULL;
    char *path = pb_path_join(out, "claims.json");
    k->claims = calloc((size_t)s->n_all + 1, sizeof *k->claims);
    if (!path || !k->claims) PB_FAIL(PB_E_OOM, "no memory for %d claims", s->n_all);
    if (s->n < s->n_all && pb_file_exists(path)) PB_TRY(pb_json_load(path, 16u << 20, &old));
    for (int i = 0; i < s->n_all; i++) {
        bool chosen = is_chosen(s, &s->all[i]), other = !chosen && is_in(old, &s->all[i]);
        if (chosen || other) k->claims[k->n++] = &s->all[i];
        k->n_others += other;
    }
    if (k->n_others) k->records = fmax(pb_json_number(old, "records"), 0); /* NaN: 0 */
done:
    free(path);
    pb_json_free(old);
    return status;
}

/* The others keep their verdicts where this check has not the records they were made from. */
static pb_status write_verdicts(const pb_json *results, const standing *k, int n_records, const char *out) {
    if (n_records >= k->records) return pb_claims_write(results, out, stderr);
    fprintf(stderr,
            "peftbench: %s: claims.* stay as they are: they hold %d other claims over %.0f records, this check has %d; "
            "check all folders together, or give another --out\n",
            out, k->n_others, k->records, n_records);
    return PB_OK;
}

/* A gate that nothing went through has not been passed. */
static pb_status check_gate(const pb_json *results, int n) {
    int contradicted = pb_claims_count(results, PB_CLAIM_CONTRADICTED);
    if (contradicted > 0)
        return PB_ERROR(PB_E_CHECK, "%d claim%s contradicted (--fail-on contradicted)", contradicted,
                        contradicted == 1 ? " is" : "s are");
    if (pb_claims_judged(results) > 0) return PB_OK;
    return PB_ERROR(PB_E_CHECK,
                    "--fail-on contradicted: of %d claim%s none was judged (%d not run, %d not testable, %d "
                    "inconclusive)",
                    n, n == 1 ? "" : "s", pb_claims_count(results, PB_CLAIM_NOT_RUN),
                    pb_claims_count(results, PB_CLAIM_NOT_TESTABLE), pb_claims_count(results, PB_CLAIM_INCONCLUSIVE));
}

/* dirs: folders of records; none = arithmetic alone, but for what stands in `out` already. */
static pb_status check(const selection *s, const claims_request *q, const char *const *dirs, int n_dirs,
                       const char *out) {
    pb_status status = PB_OK;
    pb_record *records = NULL;
    pb_json *facts = NULL, *results = NULL, *shown = NULL;
    standing k = {0};
    int n = 0;
    PB_TRY(find_standing(s, out, &k));
    for (int i = 0; i < n_dirs; i++) PB_TRY(add_records(dirs[i], &records, &n));
    if (n_dirs == 0 && k.records > 0) PB_TRY(add_records(out, &records, &n));
    PB_TRY(pb_claim_facts(k.claims, k.n, (int)q->threads, &facts));
    PB_TRY(pb_claims_check(k.claims, k.n, records, n, facts, &results));
    PB_TRY(pb_claims_select(results, s->chosen, s->n, &shown));
    PB_TRY(write_verdicts(results, &k, n, out));
    if (q->format == 0) PB_TRY(pb_claims_print(shown, stdout));
    if (q->format == 2) PB_TRY(print_markdown(shown));
    status = q->fail_on == 1 ? check_gate(shown, s->n) : PB_OK;
    if (q->format == 1) {
        pb_status printed = pb_cli_print_json(shown);
        shown = NULL;
        status = printed != PB_OK ? printed : status;
    }
done:
    free(k.claims);
    pb_json_free(facts);
    pb_json_free(results);
    pb_json_free(shown);
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

/* ---- the command ---- */

static pb_status verb_list(pb_cli *cli, selection *s, const claims_request *q,
                           const pb_command_line *line) {
    (void)cli;
    if (line->n_args > 1)
        return PB_ERROR(PB_E_INPUT, "claims list: '%s': no further argument is taken", line->args[1]);
    PB_RETURN(choose_by_option(s, q));
    return q->format == 1 ? list_json(s) : list_text(s);
}

static pb_status verb_check(pb_cli *cli, selection *s, const claims_request *q,
                            const pb_command_line *line) {
    (void)cli;
    if (line->n_args < 2)
        return PB_ERROR(PB_E_INPUT, "claims check: expected a folder of records, or several");
    PB_RETURN(choose_by_option(s, q));
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
    if (!by_id) PB_RETURN(choose_scale(s, q.scale));
    PB_RETURN(pb_claims_run_missing(cli, s, &q, !by_id, &any));
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
                         "exit status 1 when a claim is contradicted or none was judged,\n"
                         "or never (default nothing)"),
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
        "  check DIR...       verdicts from the records under DIR, to stdout (with what each part says, saw and\n"
        "                     wanted) and to DIR/claims.*; of several folders they go into the first\n"
        "  table DIR          DIR/claims.json in brief: a Markdown table, as in README.md\n\n"
        "run and check print the claims that were asked for. Other claims that claims.* of the folder hold\n"
        "stay there, renewed from the same records; where these are fewer than before, the files stay as\n"
        "they are.\n"
        "Verdicts: supported (in part), same direction (in part) at small scale, contradicted,\n"
        "inconclusive, not run, not testable at this scale. A claim is one file, reports/claims/<id>.json; grammar:\n"
        "reports/claims/README.md. Finished runs are skipped: after a crash or Ctrl-C the same command\n"
        "goes on.\n",
    .min_args = 1,
    .max_args = PB_MAX_ARGS,
    .run = run_claims,
};

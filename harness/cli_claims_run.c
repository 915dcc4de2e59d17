/* peftbench claims run: the runs that are missing. */
#include <string.h>

#include "base/text.h"
#include "harness/cli_claims.h"
#include "harness/suite_run.h"

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

pb_status pb_claims_run_missing(pb_cli *cli, const selection *s, const claims_request *q, bool all_rows, bool *any) {
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

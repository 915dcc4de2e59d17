/* Verdicts for readers: a page of their own (claims.md, claims.html) and a section of a report. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "reports/claims_impl.h"

/* What was seen for the parts that decide, in one line. */
static void seen_cell(const pb_json *claim, rp_doc *doc) {
    const pb_json *a = NULL;
    pb_text t = {0};
    cJSON_ArrayForEach (a, pb_json_get(claim, "assertions")) {
        if (cl_role_of_result(a) == CL_REPORTED) continue;
        pb_text_add(&t, "%s%s: %s (%s)", t.len ? "; " : "", pb_json_text(a, "says"), pb_json_text(a, "seen"),
                    pb_json_text(a, "finding"));
    }
    const char *why = pb_json_text(claim, "why");
    if (*why) pb_text_add(&t, "%s%s", t.len ? ". " : "", why);
    rp_cell_add(doc, NAN, "%s", t.data ? t.data : "");
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

static int place_of(const char *verdict) {
    for (int v = 0; v < PB_CLAIM_VERDICTS; v++)
        if (strcmp(verdict, pb_claim_verdict_name((pb_verdict_of_claim)v)) == 0) return v;
    return PB_CLAIM_VERDICTS;
}

static void claims_table(const pb_json *results, rp_doc *doc) {
    const pb_json *c = NULL;
    int i = 0;
    rp_add_table(doc);
    rp_column_add(doc, "Claim", false, "Its file: reports/claims/<id>.json");
    rp_column_add(doc, "Statement", false, "In our words");
    rp_column_add(doc, "Source", false, NULL);
    rp_column_add(doc, "Reported", false, "Figures of the source, under its conditions");
    rp_column_add(doc, "Tested at", false, "Scale of the test here");
    rp_column_add(doc, "Verdict", false, NULL);
    rp_column_add(doc, "Family-wise", false,
                  "The verdict when Holm's correction holds the chance of any false decision, over the "
                  "parts of all claims that data decide, at 5 %");
    rp_column_add(doc, "Seen here", false, "Value with its interval; what it had to be: the table of what each verdict rests on");
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) {
        const pb_json *source = pb_json_get(c, "source");
        const char *verdict = pb_json_text(c, "verdict"), *arxiv = pb_json_text(source, "arxiv");
        rp_row_add(doc, 0);
        rp_cell_add(doc, i++, "%s", pb_json_text(c, "id"));
        rp_cell_add(doc, NAN, "%s", pb_json_text(c, "statement"));
        rp_cell_add(doc, NAN, "%s%s%s, %s", pb_json_text(source, "work"), *arxiv ? ", arXiv " : "", arxiv,
                    pb_json_text(source, "place"));
        rp_cell_add(doc, NAN, "%s", pb_json_text(c, "reported"));
        rp_cell_add(doc, NAN, "%s", pb_json_text(c, "scale"));
        rp_cell_add(doc, place_of(verdict), "%s", verdict);
        rp_cell_strong(doc);
        const char *family = pb_claim_family_verdict(c);
        rp_cell_add(doc, place_of(pb_json_text(c, "verdict_family")), "%s", family ? family : "the same");
        seen_cell(c, doc);
    }
}

static void assertions_table(const pb_json *results, rp_doc *doc) {
    static const char *const roles[] = {"yes", cl_in_part, cl_condition, "no"};
    const pb_json *c = NULL, *a = NULL;
    int i = 0;
    rp_add_table(doc);
    rp_column_add(doc, "Claim", false, NULL);
    rp_column_add(doc, "What was tested", false, NULL);
    rp_column_add(doc, "Decides", false,
                  "In part: when it alone fails, the rest still stands. Condition: where it does not hold, nothing is "
                  "decided. No: reported only. Where it ran: the "
                  "claim stands without runs of it");
    rp_column_add(doc, "Seen", false, "95 % interval; 90 % for equivalence and non-inferiority");
    rp_column_add(doc, "Holds when", false, "Where the whole interval must lie");
    rp_column_add(doc, "Seeds", true, "0 = arithmetic");
    rp_column_add(doc, "Finding", false, NULL);
    cJSON_ArrayForEach (c, pb_json_get(results, "claims"))
        cJSON_ArrayForEach (a, pb_json_get(c, "assertions")) {
            rp_row_add(doc, 0);
            rp_cell_add(doc, i++, "%s", pb_json_text(c, "id"));
            rp_cell_add(doc, NAN, "%s", pb_json_text(a, "says"));
            rp_cell_add(doc, NAN, "%s%s", roles[cl_role_of(a)],
                        cl_is_optional(a) ? ", where it ran" : "");
            rp_cell_add(doc, pb_json_number(a, "value"), "%s", pb_json_text(a, "seen"));
            rp_cell_add(doc, NAN, "%s", pb_json_text(a, "wanted"));
            rp_cell_add(doc, pb_json_number(a, "n"), "%.0f", pb_json_number(a, "n"));
            rp_cell_add(doc, NAN, "%s%s%s%s%s", pb_json_text(a, "finding"), *pb_json_text(a, "note") ? ": " : "",
                        pb_json_text(a, "note"), *pb_json_text(a, "waived") ? "; waived: " : "",
                        pb_json_text(a, "waived"));
        }
}

static void counts_line(const pb_json *results, rp_doc *doc) {
    pb_text t = {0};
    int total = 0;
    for (int v = 0; v < PB_CLAIM_VERDICTS; v++) {
        int n = pb_claims_count(results, (pb_verdict_of_claim)v);
        total += n;
        if (n) pb_text_add(&t, "%s%d %s", t.len ? ", " : "", n,
                           pb_claim_verdict_name((pb_verdict_of_claim)v));
    }
    rp_add(doc, RP_TEXT, "%d claims over %.0f records: %s.", total, pb_json_number(results, "records"),
           t.data ? t.data : "none");
    doc->failed = doc->failed || t.failed;
    pb_text_free(&t);
}

static void overridden_note(const pb_json *results, rp_doc *doc) {
    const pb_json *c = NULL;
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) {
        const char *suite = pb_json_text(c, "overridden");
        if (!*suite) continue;
        rp_add(doc, RP_NOTE,
               "Some of these runs were made with settings other than their suite's (%s): the "
               "verdicts are a rehearsal.",
               suite);
        return;
    }
}

void cl_compose(const pb_json *results, bool alone, rp_doc *doc) {
    if (alone) rp_add(doc, RP_TITLE, "Claims of papers, tested here");
    else rp_add(doc, RP_HEADING, "Claims of papers, tested here");
    const pb_json *family = pb_json_get(results, "family");
    double parts = fmax(pb_json_number(family, "parts"), 0); /* NaN: 0 */
    counts_line(results, doc);
    overridden_note(results, doc);
    rp_add(doc, RP_TEXT,
           "A test at small scale (a small model, little data, a CPU) shows a direction and no "
           "more: such a claim is never called reproduced, and one that is contradicted there may "
           "hold where it was made. What did not run supports nothing. Each interval is at 95 %% on "
           "its own (90 %% for equivalence and non-inferiority): %.0f parts are decided by data, and over "
           "so many %.1f false decisions may be expected, one at least with a chance of up to %.0f %%. "
           "The column \xe2\x80\x9c""Family-wise\xe2\x80\x9d holds what remains when that chance is held at 5 %% "
           "over all of them (Holm): %.0f parts.",
           parts, parts * 0.05, 100 * (1 - pow(0.95, parts)), pb_json_number(family, "decided"));
    claims_table(results, doc);
}

void cl_compose_basis(const pb_json *results, rp_doc *doc) {
    rp_add(doc, RP_HEADING, "What each verdict on a claim rests on");
    assertions_table(results, doc);
}

void cl_compose_brief(const pb_json *results, rp_doc *doc) {
    const pb_json *c = NULL;
    rp_add(doc, RP_HEADING, "Claims of papers, tested here");
    counts_line(results, doc);
    overridden_note(results, doc);
    cJSON_ArrayForEach (c, pb_json_get(results, "claims"))
        rp_add(doc, RP_TEXT, "%s: %s", pb_json_text(c, "id"), pb_json_text(c, "statement"));
    rp_add_table(doc);
    rp_column_add(doc, "Claim", false, NULL);
    rp_column_add(doc, "Source", false, NULL);
    rp_column_add(doc, "Tested at", false, NULL);
    rp_column_add(doc, "Verdict", false, NULL);
    rp_column_add(doc, "Family-wise", false, NULL);
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) {
        const pb_json *source = pb_json_get(c, "source");
        rp_row_add(doc, 0);
        rp_cell_add(doc, NAN, "%s", pb_json_text(c, "id"));
        rp_cell_add(doc, NAN, "%s, %s", pb_json_text(source, "work"), pb_json_text(source, "place"));
        rp_cell_add(doc, NAN, "%s", pb_json_text(c, "scale"));
        rp_cell_add(doc, NAN, "%s", pb_json_text(c, "verdict"));
        rp_cell_add(doc, NAN, "%s", pb_json_text(c, "verdict_family"));
    }
}

static pb_status write_one(const char *dir, const char *name, const char *data, size_t len,
                           FILE *log) {
    char *path = pb_path_join(dir, name);
    if (!path) return PB_ERROR(PB_E_OOM, "no memory for a path");
    pb_status status = pb_file_write_atomic(path, data, len);
    if (status == PB_OK && log) fprintf(log, "%s\n", path);
    free(path);
    return status;
}

static pb_status compose_page(const pb_json *results, rp_doc *doc) {
    doc->title = strdup("Claims");
    if (!doc->title) return PB_ERROR(PB_E_OOM, "no memory for the claims");
    cl_compose(results, true, doc);
    cl_compose_basis(results, doc);
    return rp_doc_status(doc);
}

pb_status pb_claims_markdown(const pb_json *results, pb_text *out) {
    pb_status status = PB_OK;
    rp_doc doc = {0};
    PB_TRY(compose_page(results, &doc));
    PB_TRY(rp_render_markdown(&doc, out));
    status = pb_text_status(out);
done:
    rp_doc_free(&doc);
    return status;
}

pb_status pb_claims_write(const pb_json *results, const char *dir, FILE *log) {
    pb_status status = PB_OK;
    rp_doc doc = {0};
    pb_text markdown = {0}, html = {0};
    char *json = pb_json_print(results, true);
    if (!json) PB_FAIL(PB_E_OOM, "no memory for the claims");
    PB_TRY(pb_claims_markdown(results, &markdown));
    PB_TRY(compose_page(results, &doc));
    PB_TRY(rp_render_html(&doc, dir, &html));
    PB_TRY(pb_text_status(&html));
    PB_TRY(pb_make_dirs(dir));
    PB_TRY(write_one(dir, "claims.json", json, strlen(json), log));
    PB_TRY(write_one(dir, "claims.md", markdown.data, markdown.len, log));
    PB_TRY(write_one(dir, "claims.html", html.data, html.len, log));
done:
    free(json);
    rp_doc_free(&doc);
    pb_text_free(&markdown);
    pb_text_free(&html);
    return status;
}

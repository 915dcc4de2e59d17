/* The verdicts in brief, as README.md shows them: one row a claim with the part that decided. Test:
 * tests/test_claims.c, which holds README.md to the committed verdicts. */
#include <math.h>
#include <string.h>

#include "reports/claims_impl.h"

#define MARK "\xe2\x80\xa0" /* a dagger */

static void add_cell(pb_text *t, const char *cell) {
    for (; *cell; cell++) pb_text_add(t, *cell == '|' ? "\\%c" : "%c", *cell);
}

/* 37,748,736 */
static void add_count(pb_text *t, double v) {
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(v));
    pb_text_add(t, "%s", v < 0 ? "-" : "");
    for (int i = 0; i < n; i++) pb_text_add(t, "%c%s", digits[i], i + 1 < n && (n - i) % 3 == 1 ? "," : "");
}

/* Whole numbers from 100,000 on in full, bytes (their part speaks of GB) in GiB, others with three digits. */
static void add_number(pb_text *t, const char *says, double v) {
    bool whole = fabs(v) >= 1e5 && v == floor(v);
    if (whole && fabs(v) < 1e9) add_count(t, v);
    else if (whole && (strstr(says, "GB") || strstr(says, "GiB"))) pb_text_add(t, "%.1f GiB", v / 1073741824.0);
    else pb_text_add(t, "%.3g", v);
}

static void add_seen(pb_text *t, const pb_json *part) {
    const char *what = pb_json_text(part, "what"), *says = pb_json_text(part, "says");
    double v = pb_json_number(part, "value"), low = pb_json_number(part, "low"), high = pb_json_number(part, "high");
    if (isnan(v)) {
        pb_text_add(t, "nothing");
        return;
    }
    if (strcmp(what, "value") != 0) pb_text_add(t, "%s ", what);
    add_number(t, says, v);
    if (pb_json_number(part, "n") == 0 || isnan(low) || isnan(high) || low == high) return;
    pb_text_add(t, " [");
    add_number(t, says, low);
    pb_text_add(t, ", ");
    add_number(t, says, high);
    pb_text_add(t, "]");
}

/* A count that must come out to the last digit: that the shape is the source's, seldom what is claimed of it. */
static bool is_count(const pb_json *part) {
    return strcmp(pb_json_text(part, "op"), "equal") == 0 &&
           strncmp(pb_json_text(part, "wanted"), "equal to ", 9) == 0; /* not "0.127 to 3 digits" */
}

static int weight(const pb_json *part) { return 2 * (cl_role_of(part) == CL_DECIDES) + !is_count(part); }

/* The first part that made the verdict what it is; where all hold, the first of those that decide wholly, and no count
 * unless all of them are. */
static const pb_json *deciding(const pb_json *claim) {
    const pb_json *a = NULL, *first = NULL, *failed = NULL, *open = NULL;
    cJSON_ArrayForEach (a, pb_json_get(claim, "assertions")) {
        const char *finding = pb_json_text(a, "finding");
        if (cl_role_of_result(a) == CL_REPORTED) continue;
        bool fails = strcmp(finding, cl_finding_name(CL_FAILS)) == 0;
        bool missing = strcmp(finding, cl_finding_name(CL_MISSING)) == 0;
        if (cl_role_of(a) == CL_CONDITION) {
            if (strcmp(finding, cl_finding_name(CL_HOLDS)) != 0) return a;
            continue;
        }
        if (!first || weight(a) > weight(first)) first = a;
        /* A part that fails alone decides only where nothing worse does. */
        if (fails && (!failed || (cl_role_of(failed) == CL_IN_PART && cl_role_of(a) == CL_DECIDES))) failed = a;
        if (fails || strcmp(finding, cl_finding_name(CL_HOLDS)) == 0) continue;
        if (!open || (missing && strcmp(pb_json_text(open, "finding"), finding) != 0)) open = a; /* not run goes first */
    }
    if (failed && (cl_role_of(failed) == CL_DECIDES || !open)) return failed;
    return open ? open : first;
}

/* What Holm's correction over the parts of all claims leaves of the verdicts. */
static void add_family(pb_text *t, const pb_json *results) {
    const pb_json *c = NULL;
    double parts = pb_json_number(pb_json_get(results, "family"), "parts");
    int others = 0, open = 0;
    if (!(parts > 0)) return;
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) {
        const char *family = pb_claim_family_verdict(c);
        others += family != NULL;
        open += family && strcmp(family, pb_claim_verdict_name(PB_CLAIM_INCONCLUSIVE)) == 0;
    }
    pb_text_add(t,
                "Each interval stands by itself: when the chance of any false decision over all %.0f parts that data "
                "decide is held at\n5 %% (Holm), ",
                parts);
    if (others)
        pb_text_add(t, "%d verdict%s (" MARK ") become%s another, %d of them inconclusive.\n", others,
                    others == 1 ? "" : "s", others == 1 ? "s" : "", open);
    else pb_text_add(t, "every verdict stays.\n");
}

static void add_counts(pb_text *t, const pb_json *results) {
    int n[PB_CLAIM_VERDICTS];
    for (int v = 0; v < PB_CLAIM_VERDICTS; v++) n[v] = pb_claims_count(results, (pb_verdict_of_claim)v);
    pb_text_add(t,
                "%.0f records: %d claims supported and %d in part, %d in the same direction at small scale and %d in "
                "part, %d contradicted,\n%d inconclusive",
                pb_json_number(results, "records"), n[PB_CLAIM_SUPPORTED], n[PB_CLAIM_IN_PART],
                n[PB_CLAIM_SAME_DIRECTION], n[PB_CLAIM_DIRECTION_IN_PART], n[PB_CLAIM_CONTRADICTED],
                n[PB_CLAIM_INCONCLUSIVE]);
    if (n[PB_CLAIM_NOT_RUN]) pb_text_add(t, ", %d not run", n[PB_CLAIM_NOT_RUN]);
    pb_text_add(t,
                "; %d need a larger model, another task or a method that is not here. For each claim the part\nthat "
                "decided, with its 95 %% interval (90 %% where it is whether two are equal, or one no worse).\n",
                n[PB_CLAIM_NOT_TESTABLE]);
    add_family(t, results);
    pb_text_add(t, "\n");
}

pb_status pb_claims_table(const pb_json *results, pb_text *out) {
    const pb_json *c = NULL;
    if (!cJSON_IsArray(pb_json_get(results, "claims")))
        return PB_ERROR(PB_E_INPUT, "expected verdicts as `peftbench claims check` leaves them in claims.json");
    add_counts(out, results);
    pb_text_add(out, "| claim | what is claimed | here | what decided |\n| --- | --- | --- | --- |\n");
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) {
        const pb_json *part = deciding(c);
        if (!part) continue; /* not testable here */
        pb_text_add(out, "| %s | ", pb_json_text(c, "id"));
        add_cell(out, pb_json_text(c, "statement"));
        pb_text_add(out, " | %s%s | ", pb_json_text(c, "verdict"), pb_claim_family_verdict(c) ? " " MARK : "");
        add_cell(out, pb_json_text(part, "says"));
        pb_text_add(out, ": ");
        add_seen(out, part);
        pb_text_add(out, " |\n");
    }
    return pb_text_status(out);
}

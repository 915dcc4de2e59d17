/* Verdicts as a terminal shows them: two lines a part. Test: tests/test_claims_print.c. */
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "harness/cli_claims.h"

enum { LEFT = 14 }; /* columns of a finding: "not comparable" */

static void print_line(FILE *out, const char *left, const char *right) {
    fprintf(out, "  %-*s  %s\n", LEFT, left, right);
}

static const char *role_of(const pb_json *part) {
    const pb_json *decides = pb_json_get(part, "decides");
    if (cJSON_IsFalse(decides)) return " (reported only)";
    if (!cJSON_IsString(decides)) return "";
    return strcmp(decides->valuestring, "in part") == 0 ? " (a part of it)" : " (the condition)";
}

/* "; labeltext" unless the text is empty. */
static void add_note(pb_text *t, const char *label, const char *text) {
    if (*text) pb_text_add(t, "; %s%s", label, text);
}

static pb_status print_part(const pb_json *part, FILE *out) {
    pb_text t = {0};
    const char *finding = pb_json_text(part, "finding"), *family = pb_json_text(part, "finding_family");
    pb_text_add(&t, "%s%s%s", pb_json_text(part, "says"), role_of(part),
                cJSON_IsTrue(pb_json_get(part, "optional")) ? " (optional)" : "");
    if (t.data) print_line(out, finding, t.data);
    t.len = 0;
    pb_text_add(&t, "%s, wanted %s", pb_json_text(part, "seen"), pb_json_text(part, "wanted"));
    add_note(&t, "", pb_json_text(part, "note"));
    add_note(&t, "waived: ", pb_json_text(part, "waived"));
    if (strcmp(family, finding) != 0) add_note(&t, "over all parts ", family);
    if (t.data) print_line(out, "", t.data);
    pb_status status = pb_text_status(&t);
    pb_text_free(&t);
    return status;
}

static pb_status print_claim(const pb_json *claim, FILE *out) {
    const char *family = pb_claim_family_verdict(claim), *suite = pb_json_text(claim, "overridden"),
               *why = pb_json_text(claim, "why"), *scale = pb_json_text(claim, "scale");
    const pb_json *part = NULL;
    fprintf(out, "%-*s  %s", LEFT + 2, pb_json_text(claim, "id"), pb_json_text(claim, "verdict"));
    if (strcmp(scale, pb_claim_scale_name(PB_SCALE_NONE)) != 0) fprintf(out, " (tested at: %s)", scale);
    if (family) fprintf(out, "; over all parts %s", family);
    if (*suite) fprintf(out, "; a rehearsal, with runs of %s", suite);
    fprintf(out, "\n");
    print_line(out, "", pb_json_text(claim, "statement"));
    if (*why) print_line(out, "why", why);
    cJSON_ArrayForEach (part, pb_json_get(claim, "assertions")) PB_RETURN(print_part(part, out));
    return PB_OK;
}

/* What "over all parts" means, and for how many. */
static void print_family(const pb_json *results, FILE *out) {
    const pb_json *family = pb_json_get(results, "family"), *c = NULL;
    double parts = pb_json_number(family, "parts");
    int others = 0;
    if (!(parts > 0)) return;
    cJSON_ArrayForEach (c, pb_json_get(results, "claims")) others += pb_claim_family_verdict(c) != NULL;
    fprintf(out,
            "over all %.0f parts that data decide, the chance of any false decision held at 5 %% (Holm): %.0f decided, "
            "%d of these verdicts another\n",
            parts, pb_json_number(family, "decided"), others);
}

pb_status pb_claims_print(const pb_json *results, FILE *out) {
    const pb_json *claim = NULL;
    cJSON_ArrayForEach (claim, pb_json_get(results, "claims")) PB_RETURN(print_claim(claim, out));
    fprintf(out, "\n");
    for (int v = 0; v < PB_CLAIM_VERDICTS; v++)
        fprintf(out, "%d %s%s", pb_claims_count(results, (pb_verdict_of_claim)v),
                pb_claim_verdict_name((pb_verdict_of_claim)v), v + 1 < PB_CLAIM_VERDICTS ? ", " : "\n");
    print_family(results, out);
    return PB_OK;
}

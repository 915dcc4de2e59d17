/* Verdicts for a terminal: a reader learns what each part tested, what came of it and why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "harness/cli_claims.h"
#include "tests/support.h"

static const char results_text[] =
    "{\"records\":9,\"family\":{\"parts\":7,\"decided\":3,\"alpha\":0.05},\"claims\":["
    "{\"id\":\"loraplus-01\",\"statement\":\"it is good\",\"scale\":\"small\",\"verdict\":\"supported in part\","
    "\"verdict_family\":\"inconclusive\",\"why\":\"the part that fails: b\",\"overridden\":\"quick-steps8\",\"assertions\":["
    "{\"says\":\"a is below b by a margin that has a longer name than a cell of a table is wide, to its last word\","
    "\"decides\":true,\"finding\":\"holds\",\"finding_family\":\"unclear\",\"seen\":\"difference 1 [0.5, 2]\","
    "\"wanted\":\"above 0\",\"note\":\"\",\"waived\":\"target modules (a / b)\"},"
    "{\"says\":\"b\",\"decides\":\"in part\",\"optional\":true,\"finding\":\"fails\",\"finding_family\":\"fails\",\"seen\":\"value 3\","
    "\"wanted\":\"at most 2\",\"note\":\"\",\"waived\":\"\"},"
    "{\"says\":\"c\",\"decides\":false,\"finding\":\"missing\",\"finding_family\":\"missing\",\"seen\":\"nothing\","
    "\"wanted\":\"at most 2\",\"note\":\"missing: suite: row\",\"waived\":\"\"},"
    "{\"says\":\"d\",\"decides\":\"condition\",\"finding\":\"not comparable\",\"finding_family\":\"not comparable\",\"seen\":\"value 1\","
    "\"wanted\":\"at most 2\",\"note\":\"a / b differ in steps\",\"waived\":\"\"}]},"
    "{\"id\":\"x\",\"statement\":\"s\",\"scale\":\"not testable\",\"verdict\":\"not testable at this scale\","
    "\"verdict_family\":\"not testable at this scale\",\"why\":\"no room\",\"assertions\":[]}]}";

static const char page[] =
    "loraplus-01       supported in part (tested at: small); over all parts inconclusive; a rehearsal, with runs of quick-steps8\n"
    "                  it is good\n"
    "  why             the part that fails: b\n"
    "  holds           a is below b by a margin that has a longer name than a cell of a table is wide, to its last word\n"
    "                  difference 1 [0.5, 2], wanted above 0; waived: target modules (a / b); over all parts unclear\n"
    "  fails           b (a part of it) (optional)\n"
    "                  value 3, wanted at most 2\n"
    "  missing         c (reported only)\n"
    "                  nothing, wanted at most 2; missing: suite: row\n"
    "  not comparable  d (the condition)\n"
    "                  value 1, wanted at most 2; a / b differ in steps\n"
    "x                 not testable at this scale\n"
    "                  s\n"
    "  why             no room\n"
    "\n"
    "0 supported, 1 supported in part, 0 same direction at small scale, 0 same direction in part at small scale, 0 contradicted, "
    "0 inconclusive, 0 not run, 1 not testable at this scale\n"
    "over all 7 parts that data decide, the chance of any false decision held at 5 % (Holm): 3 decided, 1 of these verdicts "
    "another\n";

START_TEST(a_terminal_shows_what_was_tested) {
    pb_json *results = NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    pb_assert_ok(pb_json_parse("test", results_text, sizeof results_text - 1, &results));
    ck_assert_ptr_nonnull(out);
    pb_assert_ok(pb_claims_print(results, out));
    fclose(out);
    ck_assert_str_eq(text, page);
    free(text);
    pb_json_free(results);
}
END_TEST

int main(void) {
    Suite *s = suite_create("claims_print");
    TCase *t = pb_test_case(s, "text");
    tcase_add_test(t, a_terminal_shows_what_was_tested);
    return pb_run_suite(s);
}

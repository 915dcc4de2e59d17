/* Claims of papers, tested against records: reports/claims/<id>.json says what was claimed and what
 * records must show (grammar: reports/claims/README.md); this reads such files, evaluates them over
 * records and facts, and renders the verdicts. Facts are numbers that follow from a formula, computed
 * by the program's own prediction (harness/claims_facts.h); they come in as JSON, so that this wing
 * knows nothing of models. Tests: tests/test_claims.c. */
#ifndef PB_REPORTS_CLAIMS_H
#define PB_REPORTS_CLAIMS_H

#include "base/hash.h"
#include "base/text.h"
#include "results/record.h"

typedef enum pb_claim_scale {
    PB_SCALE_FULL,       /* what is tested here is what was claimed */
    PB_SCALE_SMALL,      /* a smaller model or other data: the direction can be seen, no more */
    PB_SCALE_ARITHMETIC, /* follows from shapes and formulas; no run */
    PB_SCALE_NONE,       /* cannot be tested here; `why` says why */
    PB_SCALE_COUNT
} pb_claim_scale;
const char *pb_claim_scale_name(pb_claim_scale s); /* "full", "small", "arithmetic", "not testable" */

typedef enum pb_verdict_of_claim {
    PB_CLAIM_SUPPORTED,
    PB_CLAIM_IN_PART,            /* but for a part or figure of the statement that fails */
    PB_CLAIM_SAME_DIRECTION,     /* holds at small scale: never called reproduced */
    PB_CLAIM_DIRECTION_IN_PART,  /* the same, but for a part that fails */
    PB_CLAIM_CONTRADICTED,
    PB_CLAIM_INCONCLUSIVE,
    PB_CLAIM_NOT_RUN,
    PB_CLAIM_NOT_TESTABLE,
    PB_CLAIM_VERDICTS
} pb_verdict_of_claim;
/* "supported", "supported in part", "same direction at small scale", "same direction in part at small
 * scale", "contradicted", "inconclusive", "not run", "not testable at this scale" */
const char *pb_claim_verdict_name(pb_verdict_of_claim v);

#define PB_CLAIM_SUITES 8

/* The numbers a fact may have, NULL-terminated; meaning: reports/claims/README.md. */
extern const char *const pb_claim_fact_fields[];

typedef struct pb_claim_file {
    char id[32], file[512]; /* file: for messages */
    const char *method, *statement, *why;
    pb_claim_scale scale;
    int64_t seeds;                       /* the least number that decides */
    const char *suites[PB_CLAIM_SUITES]; /* those its assertions name, in order of appearance */
    int n_suites;
    const pb_json *facts; /* {name: recipe}, NULL when there are none; the harness knows recipes */
    pb_json *json;        /* owns everything above */
} pb_claim_file;

/* Reads and checks every *.json of a folder, sorted by id. An unknown key, operator, metric, field,
 * scale or fact is PB_E_INPUT with file, place and the nearest known name; so is a claim whose id is
 * not its file's name. */
pb_status pb_claims_load(const char *dir, pb_claim_file **out, int *n);
pb_status pb_claim_load(const char *path, pb_claim_file *out);
void pb_claims_free(pb_claim_file *claims, int n);
/* PB_E_INPUT names the nearest id. */
pb_status pb_claims_find(const pb_claim_file *claims, int n, const char *id,
                         const pb_claim_file **out);

/* SHA-256 of the file's JSON without its spaces: what a verdict is a verdict on. */
pb_status pb_claim_sha256(const pb_claim_file *claim, char hex[PB_SHA256_HEX]);

/* Calls visit for every row of a suite that the claim's assertions name: suite, label (a glob), and
 * the metric or sample tag it reads, NULL when it reads something else. For tests and for `claims
 * run`. */
typedef pb_status (*pb_claim_visit)(void *user, const char *suite, const char *label,
                                    const char *tag);
pb_status pb_claim_rows(const pb_claim_file *claim, pb_claim_visit visit, void *user);

/* Evaluates claims over records (samples loaded) and facts: {claim id: {fact: {field: number}}}, a
 * fact that could not be had is {"missing": reason}. *out is one JSON object, results/SCHEMA.md
 * "claims.json"; free with pb_json_free. */
pb_status pb_claims_check(const pb_claim_file *const *claims, int n, const pb_record *records,
                          int n_records, const pb_json *facts, pb_json **out);
/* How many claims of a result have the verdict. */
int pb_claims_count(const pb_json *results, pb_verdict_of_claim verdict);
/* The verdict on a claim of a result that remains over the family of all parts (Holm), where it is another one than
 * its own; else NULL. */
const char *pb_claim_family_verdict(const pb_json *claim);
/* How many were judged: a part that decides held, failed or had an interval across its bound. Not those that did not
 * run, are not testable, have a condition that does not hold, or nothing but too few seeds and rows that are not
 * comparable. */
int pb_claims_judged(const pb_json *results);
/* A copy of a result with these claims alone, counts included; `family` stays that of the whole check. Free with
 * pb_json_free. */
pb_status pb_claims_select(const pb_json *results, const pb_claim_file *const *claims, int n, pb_json **out);

/* The same in brief, as it stands in README.md: the counts and a Markdown table, one row for each claim that can be
 * tested here, with the part that decided; marked are verdicts that are others over the family. PB_E_INPUT: no such
 * result. The caller frees *out. */
pb_status pb_claims_table(const pb_json *results, pb_text *out);

/* claims.md. The caller frees *out. */
pb_status pb_claims_markdown(const pb_json *results, pb_text *out);
/* Writes claims.json, claims.md and claims.html of a result into a folder; paths go to `log`. */
pb_status pb_claims_write(const pb_json *results, const char *dir, FILE *log);

#endif

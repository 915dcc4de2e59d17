/* Private to reports/claims*.c: terms, estimates and assertions of a claim. */
#ifndef PB_REPORTS_CLAIMS_IMPL_H
#define PB_REPORTS_CLAIMS_IMPL_H

#include "reports/claims.h"
#include "reports/doc.h"
#include "reports/parity.h"

/* ---- values of a term (claims_term.c) ---- */

typedef struct cl_grain {
    bool determined; /* by settings alone: no seed can move it, and equal values say all there is to say */
    double reach;    /* what stands there for a value may be off by so much each way; 0 = as measured */
} cl_grain;

/* That of a sum or difference. */
cl_grain cl_grain_of(cl_grain a, cl_grain b);

/* One number per seed, in the order of the seeds, or one number for all (`constant`: facts and
 * values, which have no seed). */
typedef struct cl_values {
    bool constant;
    cl_grain grain;
    int n;
    uint64_t *seed; /* distinct and rising unless `raw`; NULL for a constant */
    double *value;
    bool *bad; /* raw: the run diverged; its value counts as beyond every threshold */
} cl_values;
void cl_values_free(cl_values *v);

typedef struct cl_context {
    const pb_claim_file *claim;
    const pb_record *records;
    int n_records;
    const pb_json *facts;  /* of this claim: {fact: {field: number} or {"missing": reason}} */
    char missing[256];     /* the first thing that was looked for and is not there, "" = all there */
    char overridden[64];   /* a suite that ran with other settings than its file's, "" = none */
    int n_lost;            /* runs that were there and ended without the value */
    double share;          /* of the error that an interval may have; 0 or 1 = its own 5 % */
} cl_context;

/* PB_E_INPUT: a term that cannot be read, with file, place and the nearest known name. */
pb_status cl_check_term(const pb_claim_file *claim, const char *where, const pb_json *term);
/* Nothing there is no error: n is 0 and context->missing says what. */
pb_status cl_term(cl_context *x, const pb_json *term, cl_values *out);
/* One value per run of a term over rows: no mean over equal seeds, diverged runs included. */
pb_status cl_term_raw(cl_context *x, const pb_json *term, cl_values *out);
/* Mean over runs of equal seed, seeds rising. */
void cl_merge_seeds(cl_values *v);
/* Joins by seed: rows of a and b with the same seed, constants repeated. PB_OK with *n = 0 when
 * nothing pairs. *a and *b (malloc'ed) have n values each. */
pb_status cl_pair(const cl_values *a, const cl_values *b, double **va, double **vb,
                  uint64_t **seeds, int *n);
/* The run of a plain metric term (no `over`) with the seed, NULL when the term is none or there is
 * no single one. */
const pb_record *cl_term_run(const cl_context *x, const pb_json *term, uint64_t seed);
/* A term's suite "NAME-*": every run of a suite whose model the user names. */
bool cl_is_pattern(const char *suite);
bool cl_row_matches(const cl_context *x, const pb_json *term, const pb_record *r);
pb_status cl_term_rows(const pb_json *term, pb_claim_visit visit, void *user);

/* Reads the i-th element of an array or a member as a term with a place for messages. */
#define CL_WHERE 640

/* ---- assertions (claims_assertion.c) ---- */

typedef enum cl_finding {
    CL_HOLDS,
    CL_FAILS,
    CL_UNCLEAR,
    CL_TOO_FEW,
    CL_MISSING,
    CL_INCOMPARABLE, /* its rows differ in what the claim does not waive */
    CL_FINDINGS
} cl_finding;
const char *cl_finding_name(cl_finding f);

typedef struct cl_outcome {
    cl_finding finding;
    double value, low, high; /* NaN when unknown; of what `what` says */
    char what[64];           /* "ratio", "difference", "share", "slope", ... */
    char wanted[128];        /* "below 1.5" */
    int n;                   /* seeds behind it; 0 = arithmetic */
    int examples;            /* that the interval is over where no seed moves the value, else 0 */
} cl_outcome;

pb_status cl_check_assertion(const pb_claim_file *claim, const char *where, const pb_json *a);
/* need: the least number of seeds. */
pb_status cl_assert(cl_context *x, const pb_json *a, int64_t need, cl_outcome *out);
pb_status cl_assertion_rows(const pb_json *a, pb_claim_visit visit, void *user);

/* What an assertion is to its claim. */
typedef enum cl_role {
    CL_DECIDES,
    CL_IN_PART, /* a figure or a part of the statement: when it alone fails, the rest still stands */
    CL_CONDITION, /* must be so for the other parts to say anything: where it is not, nothing is decided */
    CL_REPORTED
} cl_role;
cl_role cl_role_of(const pb_json *assertion);
/* "optional": counts where its runs are there; where they are not, the claim stands without it. */
bool cl_is_optional(const pb_json *assertion);
/* Its role in what was found: an optional part that is missing has none. */
cl_role cl_role_found(const pb_json *assertion, cl_finding finding);
/* The same of an assertion among the results (claims.json), and its finding. */
cl_finding cl_finding_of(const pb_json *result);
cl_role cl_role_of_result(const pb_json *result);
extern const char cl_in_part[], cl_condition[]; /* the values of `decides` that say so */

/* PB_E_INPUT unless name is one of names[0..n-1], with the nearest. */
pb_status cl_known(const char *where, const char *what, const char *name, const char *const *names,
                   size_t n);

/* Adds `counts` to a result: verdict: number. */
pb_status cl_add_counts(pb_json *results);

/* ---- parity (claims_parity.c) ---- */

#define CL_WAIVERS 16
/* The claim's waivers; names point into its JSON. PB_E_INPUT names the nearest field. */
pb_status cl_waivers(const pb_claim_file *claim, const char *names[CL_WAIVERS], pb_waivers *out);
/* Diffs the runs of every two rows that an assertion reads, at equal seeds. stop: the first difference
 * that is not waived, in words; "" = none. What was waived is appended to `waived`. */
pb_status cl_parity(const cl_context *x, const pb_json *assertion, char stop[400], pb_text *waived);

/* ---- over all claims (claims_family.c) ---- */

/* Findings of the assertions that decide, wholly or in part. */
typedef struct cl_counts {
    int of[CL_FINDINGS]; /* without failed_parts */
    int failed_parts;    /* CL_IN_PART and CL_FAILS */
    int unmet;           /* CL_CONDITION and not CL_HOLDS */
} cl_counts;
void cl_count(cl_counts *counts, cl_role role, cl_finding finding);
/* One failing part contradicts the whole, unless it decides in part alone; what is not there is never
 * support. A condition that is not met leaves open what the other parts found. */
pb_verdict_of_claim cl_verdict_of(const pb_claim_file *c, const cl_counts *counts);
/* Adds `finding_family` to every assertion, `verdict_family` to every claim and `family` to the results:
 * what stays when the chance of any false decision over all parts is held at 5 %. */
pb_status cl_family(const pb_claim_file *const *claims, int n, const pb_record *records,
                    int n_records, const pb_json *facts, pb_json *results);

/* ---- rendering (claims_render.c) ---- */

/* The section of a report: counts and the table of verdicts. alone: under a title of its own. */
void cl_compose(const pb_json *results, bool alone, rp_doc *doc);
/* What was seen, assertion by assertion: for the end. */
void cl_compose_basis(const pb_json *results, rp_doc *doc);
/* Counts and a table narrow enough for a paper; the statements as sentences before it. */
void cl_compose_brief(const pb_json *results, rp_doc *doc);

#endif

/* Facts for claims: numbers that follow from shapes and formulas. They come from the program itself,
 * never from a claim's file: parameter counts and bytes from a plan device that runs the trainer's
 * own set-up and step, quantisation from the kernels that store the weights. Recipes:
 * reports/claims/README.md. Test: tests/test_claims.c. */
#ifndef PB_HARNESS_CLAIMS_FACTS_H
#define PB_HARNESS_CLAIMS_FACTS_H

#include "reports/claims.h"

/* *out: {claim id: {fact: {field: number}}}, for pb_claims_check. A recipe that needs a model which is
 * not here gives {"missing": reason}; one that cannot be read is PB_E_INPUT with file, place and what
 * was expected. The caller frees it with pb_json_free. */
pb_status pb_claim_facts(const pb_claim_file *const *claims, int n, int threads, pb_json **out);
/* Reads every recipe without computing it. */
pb_status pb_claim_facts_check(const pb_claim_file *claim);

#endif

/* Claims written down in a test, checked against records made there. */
#ifndef PB_TESTS_CLAIM_LAB_H
#define PB_TESTS_CLAIM_LAB_H

#include "reports/claims_impl.h"

/* Loads a claim file `t.json` with this text; claim->json is the caller's. */
pb_status pb_lab_claim(const char *text, pb_claim_file *claim);
/* The verdicts on that one claim over the records: as pb_claims_check; the caller frees. */
pb_json *pb_lab_checked(const char *text, const pb_record *records, int n);

#endif

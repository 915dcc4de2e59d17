/* Claims written down in a test: tests/claim_lab.h. */
#include "tests/claim_lab.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/support.h"

pb_status pb_lab_claim(const char *text, pb_claim_file *claim) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "t.json");
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    pb_status status = pb_claim_load(path, claim);
    free(path);
    free(dir);
    return status;
}

pb_json *pb_lab_checked(const char *text, const pb_record *records, int n) {
    pb_claim_file claim;
    pb_json *results = NULL;
    pb_status status = pb_lab_claim(text, &claim);
    ck_assert_msg(status == PB_OK, "%s: %s", text, pb_error_message());
    const pb_claim_file *list[] = {&claim};
    pb_assert_ok(pb_claims_check(list, 1, records, n, NULL, &results));
    pb_json_free(claim.json);
    return results;
}

/* What a result (claims.json) holds: findings, counts, who was judged, a part of it. */
#include <string.h>

#include "reports/claims_impl.h"

cl_finding cl_finding_of(const pb_json *result) {
    const pb_json *name = pb_json_get(result, "finding");
    for (int f = 0; cJSON_IsString(name) && f < CL_FINDINGS; f++)
        if (strcmp(name->valuestring, cl_finding_name((cl_finding)f)) == 0) return (cl_finding)f;
    return CL_MISSING;
}

cl_role cl_role_of_result(const pb_json *result) {
    return cl_role_found(result, cl_finding_of(result));
}

int pb_claims_count(const pb_json *results, pb_verdict_of_claim verdict) {
    const pb_json *e = NULL;
    int n = 0;
    cJSON_ArrayForEach (e, pb_json_get(results, "claims"))
        n += strcmp(pb_json_text(e, "verdict"), pb_claim_verdict_name(verdict)) == 0;
    return n;
}

const char *pb_claim_family_verdict(const pb_json *claim) {
    const char *family = pb_json_text(claim, "verdict_family");
    return *family && strcmp(family, pb_json_text(claim, "verdict")) != 0 ? family : NULL;
}

/* An interval or a number was held against what the claim says, whatever came of it, and its conditions hold. */
static bool is_judged(const pb_json *claim) {
    const pb_json *a = NULL;
    bool judged = false;
    if (strcmp(pb_json_text(claim, "verdict"), pb_claim_verdict_name(PB_CLAIM_NOT_RUN)) == 0) return false;
    cJSON_ArrayForEach (a, pb_json_get(claim, "assertions")) {
        cl_finding f = cl_finding_of(a);
        cl_role role = cl_role_of_result(a);
        if (role == CL_CONDITION && f != CL_HOLDS) return false;
        if (role == CL_DECIDES || role == CL_IN_PART)
            judged = judged || f == CL_HOLDS || f == CL_FAILS || f == CL_UNCLEAR;
    }
    return judged;
}

int pb_claims_judged(const pb_json *results) {
    const pb_json *e = NULL;
    int n = 0;
    cJSON_ArrayForEach (e, pb_json_get(results, "claims")) n += is_judged(e);
    return n;
}

pb_status cl_add_counts(pb_json *results) {
    pb_json *counts = pb_json_add_object(results, "counts");
    for (int v = 0; v < PB_CLAIM_VERDICTS; v++) {
        const char *name = pb_claim_verdict_name((pb_verdict_of_claim)v);
        if (!pb_json_add_i64(counts, name, pb_claims_count(results, (pb_verdict_of_claim)v)))
            return PB_ERROR(PB_E_OOM, "no memory for the verdicts");
    }
    return PB_OK;
}

pb_status pb_claims_select(const pb_json *results, const pb_claim_file *const *claims, int n, pb_json **out) {
    pb_json *root = cJSON_Duplicate(results, true);
    *out = NULL;
    if (!root) return PB_ERROR(PB_E_OOM, "no memory for the verdicts");
    pb_json *list = cJSON_GetObjectItemCaseSensitive(root, "claims");
    for (int i = cJSON_GetArraySize(list) - 1; i >= 0; i--) {
        const char *id = pb_json_text(cJSON_GetArrayItem(list, i), "id");
        bool wanted = false;
        for (int k = 0; k < n; k++) wanted = wanted || strcmp(claims[k]->id, id) == 0;
        if (!wanted) cJSON_DeleteItemFromArray(list, i);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(root, "counts");
    pb_status status = cl_add_counts(root);
    if (status == PB_OK) *out = root;
    else pb_json_free(root);
    return status;
}

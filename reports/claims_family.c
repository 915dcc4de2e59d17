/* The family of all parts that data decide, over all claims of one check: Holm's step-down correction
 * (Holm 1979), so that the chance of any false decision stays at 5 %. Findings come from intervals and
 * not from p values: a part is decided at level alpha when its interval at 1 - alpha lies wholly inside or
 * outside. Holm's condition is found by raising alpha from 0.05 / m to 0.05 / (m - k), k = the parts
 * decided so far, until no further part is. */
#include <stdlib.h>
#include <string.h>

#include "reports/claims_impl.h"
#include "reports/stats.h"

typedef struct part {
    const pb_claim_file *claim;
    const pb_json *assertion; /* of the claim's file */
    pb_json *result;          /* of the results */
    int64_t need;
    cl_finding finding; /* corrected */
    bool member;
} part;

static bool is_decided(cl_finding f) { return f == CL_HOLDS || f == CL_FAILS; }

/* What decides a claim, by an interval over runs: no arithmetic, and no comparison bit for bit. */
static bool is_member(const pb_json *result, cl_finding f) {
    return cl_role_of(result) != CL_REPORTED &&
           pb_json_get(result, "n")->valuedouble > 0 &&
           strcmp(pb_json_get(result, "op")->valuestring, "equal") != 0 &&
           (is_decided(f) || f == CL_UNCLEAR);
}

static int collect(const pb_claim_file *const *claims, int n, const pb_json *list, part *parts) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        const pb_json *result = cJSON_GetArrayItem(list, i), *a = NULL;
        int k = 0;
        cJSON_ArrayForEach (a, pb_json_get(claims[i]->json, "assertions")) {
            part *p = &parts[count++];
            *p = (part){.claim = claims[i], .assertion = a};
            p->result = cJSON_GetArrayItem(pb_json_get(result, "assertions"), k++);
            p->need = (int64_t)pb_json_get(p->result, "need")->valuedouble;
            p->finding = cl_finding_of(p->result);
            p->member = is_member(p->result, p->finding);
        }
    }
    return count;
}

/* Findings of the members at alpha x share; how many are decided. A part that is open on its own stays so. */
static pb_status judge(part *parts, int n, const pb_record *records, int n_records,
                       const pb_json *facts, double share, int *decided) {
    *decided = 0;
    for (int i = 0; i < n; i++) {
        part *p = &parts[i];
        cl_context x = {.claim = p->claim,
                        .records = records,
                        .n_records = n_records,
                        .facts = pb_json_get(facts, p->claim->id),
                        .share = share};
        cl_outcome o;
        if (!p->member) continue;
        cl_finding alone = cl_finding_of(p->result);
        if (is_decided(alone)) {
            PB_RETURN(cl_assert(&x, p->assertion, p->need, &o));
            p->finding = o.finding == alone ? alone : CL_UNCLEAR;
        }
        *decided += is_decided(p->finding);
    }
    return PB_OK;
}

static pb_status write_back(const pb_claim_file *const *claims, int n, const part *parts, int n_parts,
                            pb_json *list) {
    bool ok = true;
    for (int i = 0; i < n_parts && ok; i++)
        ok = pb_json_add_str(parts[i].result, "finding_family", cl_finding_name(parts[i].finding));
    for (int i = 0, k = 0; i < n && ok; i++) {
        cl_counts counts = {0};
        for (; k < n_parts && parts[k].claim == claims[i]; k++)
            cl_count(&counts, cl_role_found(parts[k].assertion, parts[k].finding), parts[k].finding);
        ok = pb_json_add_str(cJSON_GetArrayItem(list, i), "verdict_family",
                             pb_claim_verdict_name(cl_verdict_of(claims[i], &counts)));
    }
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the verdicts");
}

pb_status cl_family(const pb_claim_file *const *claims, int n, const pb_record *records,
                    int n_records, const pb_json *facts, pb_json *results) {
    pb_status status = PB_OK;
    pb_json *list = cJSON_GetObjectItemCaseSensitive(results, "claims");
    int cap = 1, members = 0, decided = 0, before = -1;
    for (int i = 0; i < n; i++) cap += cJSON_GetArraySize(pb_json_get(claims[i]->json, "assertions"));
    part *parts = calloc((size_t)cap, sizeof *parts);
    if (!parts) PB_FAIL(PB_E_OOM, "no memory for %d parts of claims", cap);
    int count = collect(claims, n, list, parts);
    for (int i = 0; i < count; i++) members += parts[i].member;
    while (members && decided > before) {
        int rest = members - (before = decided);
        if (rest < 1) break;
        PB_TRY(judge(parts, count, records, n_records, facts, 1.0 / rest, &decided));
    }
    PB_TRY(write_back(claims, n, parts, count, list));
    pb_json *family = pb_json_add_object(results, "family");
    if (!family || !pb_json_add_i64(family, "parts", members) ||
        !pb_json_add_i64(family, "decided", decided) ||
        !pb_json_add_f64(family, "alpha", PB_STAT_ALPHA))
        PB_FAIL(PB_E_OOM, "no memory for the verdicts");
done:
    free(parts);
    return status;
}

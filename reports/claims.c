/* Claim files: reading, checking, evaluating. */
#include "reports/claims.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "reports/claims_impl.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define MAX_BYTES (1u << 20)

static const char *const scale_names[] = {"full", "small", "arithmetic", "not testable"};

const char *pb_claim_scale_name(pb_claim_scale s) {
    return (int)s >= 0 && s < PB_SCALE_COUNT ? scale_names[s] : "unknown";
}

const char *pb_claim_verdict_name(pb_verdict_of_claim v) {
    static const char *const names[PB_CLAIM_VERDICTS] = {
        "supported",    "supported in part", "same direction at small scale",
        "same direction in part at small scale", "contradicted",
        "inconclusive", "not run",           "not testable at this scale"};
    return (int)v >= 0 && v < PB_CLAIM_VERDICTS ? names[v] : "unknown";
}

const char *const pb_claim_fact_fields[] = {
    "params_total",      "params_trainable",  "params_base",       "params_adapter",
    "params_head",       "params_embedding",  "params_norm",       "bytes.base",
    "bytes.quant_constants", "bytes.adapter", "bytes.master",      "bytes.gradient",
    "bytes.optimizer",   "bytes.activation",  "bytes.workspace",   "bytes.data",
    "bytes.total",       "bytes.static",      "flops",             "weights_quantised",
    "bits_per_weight",   "constant_bits",     "relative_error",    "constant_error",
    NULL};

/* ---- reading ---- */

static pb_status read_text(const pb_claim_file *c, const char *key, const char **out) {
    const pb_json *v = pb_json_get(c->json, key);
    if (!cJSON_IsString(v) || !*v->valuestring)
        return PB_ERROR(PB_E_INPUT, "%s: %s: expected a text", c->file, key);
    *out = v->valuestring;
    return PB_OK;
}

static pb_status read_source(const pb_claim_file *c) {
    static const char *const keys[] = {"work", "arxiv", "place", "evidence"};
    static const char *const evidence[] = {"paper", "secondary", "repository", "unverified",
                                           "informal"};
    char where[CL_WHERE];
    int choice = -1;
    const char *work = NULL;
    const pb_json *o = pb_json_get(c->json, "source");
    snprintf(where, sizeof where, "%s: source", c->file);
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    PB_RETURN(pb_json_only_keys(o, where, keys, COUNT(keys)));
    PB_RETURN(pb_json_read_str(o, where, "work", &work));
    PB_RETURN(pb_json_read_choice(o, where, "evidence", evidence, COUNT(evidence), &choice));
    if (!work || choice < 0)
        return PB_ERROR(PB_E_INPUT, "%s: expected work, place and evidence", where);
    return PB_OK;
}

static pb_status add_suite(void *user, const char *suite, const char *label, const char *tag) {
    pb_claim_file *c = user;
    (void)label;
    (void)tag;
    for (int i = 0; i < c->n_suites; i++)
        if (strcmp(c->suites[i], suite) == 0) return PB_OK;
    if (c->n_suites == PB_CLAIM_SUITES)
        return PB_ERROR(PB_E_INPUT, "%s: more than %d suites", c->file, PB_CLAIM_SUITES);
    c->suites[c->n_suites++] = suite;
    return PB_OK;
}

static pb_status read_assertions(pb_claim_file *c) {
    const pb_json *list = pb_json_get(c->json, "assertions"), *e = NULL;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0, decisive = 0, i = 0;
    char where[CL_WHERE];
    if (c->scale == PB_SCALE_NONE) {
        if (list)
            return PB_ERROR(PB_E_INPUT, "%s: a claim that is not testable has no assertions",
                            c->file);
        return PB_OK;
    }
    cJSON_ArrayForEach (e, list) {
        snprintf(where, sizeof where, "%s: assertions[%d]", c->file, i++);
        int suites = c->n_suites;
        PB_RETURN(cl_check_assertion(c, where, e));
        PB_RETURN(cl_assertion_rows(e, add_suite, c));
        decisive += cl_role_of(e) == CL_DECIDES && !cl_is_optional(e);
        if (c->scale == PB_SCALE_ARITHMETIC && c->n_suites > suites && !cl_is_optional(e))
            return PB_ERROR(PB_E_INPUT,
                            "%s: an arithmetic claim reads facts only (but in optional parts), this one "
                            "suite %s",
                            where, c->suites[suites]);
    }
    if (n == 0 || decisive == 0)
        return PB_ERROR(PB_E_INPUT,
                        "%s: assertions: expected at least one that decides and is not optional",
                        c->file);
    return PB_OK;
}

static pb_status read_claim(pb_claim_file *c) {
    static const char *const keys[] = {"id",       "method",     "statement",  "source",
                                       "reported", "conditions", "full_scale", "small_scale",
                                       "scale",    "why",        "seeds",      "facts",
                                       "waive",    "assertions"};
    const char *id = NULL, *text = NULL;
    int scale = -1;
    PB_RETURN(pb_json_only_keys(c->json, c->file, keys, COUNT(keys)));
    PB_RETURN(read_text(c, "id", &id));
    if (!pb_copy(c->id, sizeof c->id, id))
        return PB_ERROR(PB_E_INPUT, "%s: id: longer than %d characters", c->file,
                        (int)sizeof c->id - 1);
    PB_RETURN(read_text(c, "method", &c->method));
    PB_RETURN(read_text(c, "statement", &c->statement));
    PB_RETURN(read_text(c, "reported", &text));
    PB_RETURN(read_text(c, "full_scale", &text));
    PB_RETURN(read_text(c, "small_scale", &text));
    PB_RETURN(pb_json_read_str(c->json, c->file, "conditions", &text));
    PB_RETURN(read_source(c));
    PB_RETURN(pb_json_read_choice(c->json, c->file, "scale", scale_names, COUNT(scale_names),
                                  &scale));
    if (scale < 0) return PB_ERROR(PB_E_INPUT, "%s: scale: missing", c->file);
    c->scale = (pb_claim_scale)scale;
    c->why = "";
    if (c->scale == PB_SCALE_NONE) PB_RETURN(read_text(c, "why", &c->why));
    else PB_RETURN(pb_json_read_str(c->json, c->file, "why", &c->why));
    c->seeds = c->scale == PB_SCALE_SMALL || c->scale == PB_SCALE_FULL ? 5 : 1;
    PB_RETURN(pb_json_read_i64(c->json, c->file, "seeds", 1, 1000, &c->seeds));
    const char *names[CL_WAIVERS];
    pb_waivers waivers;
    PB_RETURN(cl_waivers(c, names, &waivers));
    c->facts = pb_json_get(c->json, "facts");
    if (c->facts && !cJSON_IsObject(c->facts))
        return PB_ERROR(PB_E_INPUT, "%s: facts: expected an object", c->file);
    return read_assertions(c);
}

pb_status pb_claim_load(const char *path, pb_claim_file *out) {
    pb_status status = PB_OK;
    *out = (pb_claim_file){0};
    char want[40];
    const char *name = strrchr(path, '/');
    snprintf(out->file, sizeof out->file, "%.500s", path);
    PB_TRY(pb_json_load(path, MAX_BYTES, &out->json));
    if (!cJSON_IsObject(out->json)) PB_FAIL(PB_E_INPUT, "%s: expected an object", path);
    PB_TRY(read_claim(out));
    snprintf(want, sizeof want, "%s.json", out->id);
    if (strcmp(name ? name + 1 : path, want) != 0)
        PB_FAIL(PB_E_INPUT, "%s: id: found \"%s\", expected the file's name without .json", path,
                out->id);
done:
    if (status != PB_OK) pb_json_free(out->json), *out = (pb_claim_file){0};
    return status;
}

pb_status pb_claims_load(const char *dir, pb_claim_file **out, int *n) {
    pb_status status = PB_OK;
    char **names = NULL, *path = NULL;
    size_t count = 0;
    pb_claim_file *claims = NULL;
    int found = 0;
    *out = NULL;
    *n = 0;
    PB_TRY(pb_list_dir(dir, &names, &count));
    claims = calloc(count + 1, sizeof *claims);
    if (!claims) PB_FAIL(PB_E_OOM, "no memory for %zu claims", count);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]);
        if (len < 6 || names[i][0] == '.' || strcmp(names[i] + len - 5, ".json") != 0) continue;
        free(path);
        if (!(path = pb_path_join(dir, names[i]))) PB_FAIL(PB_E_OOM, "no memory for a path");
        PB_TRY(pb_claim_load(path, &claims[found]));
        found++;
    }
    if (found == 0) PB_FAIL(PB_E_INPUT, "%s: no claim file (*.json)", dir);
    *out = claims;
    *n = found;
    claims = NULL;
done:
    free(path);
    pb_names_free(names, count);
    pb_claims_free(claims, found);
    return status;
}

void pb_claims_free(pb_claim_file *claims, int n) {
    for (int i = 0; claims && i < n; i++) pb_json_free(claims[i].json);
    free(claims);
}

pb_status pb_claims_find(const pb_claim_file *claims, int n, const char *id,
                         const pb_claim_file **out) {
    for (int i = 0; i < n; i++) {
        if (strcmp(claims[i].id, id) != 0) continue;
        *out = &claims[i];
        return PB_OK;
    }
    const char **names = calloc((size_t)n + 1, sizeof *names);
    if (!names) return PB_ERROR(PB_E_OOM, "no memory for names");
    for (int i = 0; i < n; i++) names[i] = claims[i].id;
    const char *nearest = pb_nearest(id, names, (size_t)n);
    pb_status status =
        PB_ERROR(PB_E_INPUT, "unknown claim '%s'; did you mean '%s'? See peftbench claims list", id,
                 nearest ? nearest : "");
    free(names);
    return status;
}

pb_status pb_claim_sha256(const pb_claim_file *claim, char hex[PB_SHA256_HEX]) {
    char *text = pb_json_print(claim->json, false);
    if (!text) return PB_ERROR(PB_E_OOM, "%s: no memory for its checksum", claim->file);
    pb_status status = pb_sha256_bytes(text, strlen(text), hex);
    free(text);
    return status;
}

pb_status pb_claim_rows(const pb_claim_file *claim, pb_claim_visit visit, void *user) {
    const pb_json *e = NULL;
    cJSON_ArrayForEach (e, pb_json_get(claim->json, "assertions"))
        PB_RETURN(cl_assertion_rows(e, visit, user));
    return PB_OK;
}

/* ---- evaluating ---- */

/* "difference -0.012 [-0.020, -0.004]"; counts in full. */
static void seen_text(const cl_outcome *o, char out[256]) {
    if (!isfinite(o->value)) {
        snprintf(out, 256, "nothing");
    } else if (o->n == 0 || o->low == o->high || isnan(o->low)) {
        bool count = fabs(o->value) < 1e15 && fmod(o->value, 1) == 0;
        snprintf(out, 256, count ? "%s %.0f" : "%s %.5g", o->what, o->value);
    } else {
        int n = snprintf(out, 256, "%s %.4g [%.4g, %.4g]", o->what, o->value, o->low, o->high);
        if (o->examples) snprintf(out + n, 256 - (size_t)n, " over %d examples", o->examples);
    }
}

static pb_status add_assertion(pb_json *list, const pb_json *a, const cl_outcome *o, int64_t need,
                               const char *missing, const char *stop, const char *waived) {
    char seen[256], note[400] = "";
    seen_text(o, seen);
    if (o->finding == CL_MISSING) snprintf(note, sizeof note, "missing: %s", missing);
    if (o->finding == CL_TOO_FEW)
        snprintf(note, sizeof note, "%d of %d seeds", o->n, (int)need);
    if (o->finding == CL_INCOMPARABLE) snprintf(note, sizeof note, "%s", stop);
    cl_role role = cl_role_of(a);
    pb_json *r = pb_json_add_object(list, NULL);
    bool ok = pb_json_add_str(r, "says", pb_json_get(a, "says")->valuestring) &&
              pb_json_add_str(r, "op", pb_json_get(a, "op")->valuestring) &&
              (role == CL_IN_PART || role == CL_CONDITION
                   ? pb_json_add_str(r, "decides", role == CL_IN_PART ? cl_in_part : cl_condition)
                   : pb_json_add_bool(r, "decides", role == CL_DECIDES)) &&
              (!cl_is_optional(a) || pb_json_add_bool(r, "optional", true)) &&
              pb_json_add_str(r, "finding", cl_finding_name(o->finding)) &&
              pb_json_add_f64(r, "value", o->value) && pb_json_add_f64(r, "low", o->low) &&
              pb_json_add_f64(r, "high", o->high) && pb_json_add_str(r, "what", o->what) &&
              pb_json_add_str(r, "seen", seen) && pb_json_add_str(r, "wanted", o->wanted) &&
              pb_json_add_i64(r, "n", o->n) &&
              (!o->examples || pb_json_add_i64(r, "examples", o->examples)) && pb_json_add_i64(r, "need", need) &&
              pb_json_add_str(r, "note", note) && pb_json_add_str(r, "waived", waived);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the verdicts");
}

const char cl_in_part[] = "in part", cl_condition[] = "condition";

cl_role cl_role_of(const pb_json *assertion) {
    const pb_json *decides = pb_json_get(assertion, "decides");
    if (cJSON_IsFalse(decides)) return CL_REPORTED;
    if (!cJSON_IsString(decides)) return CL_DECIDES;
    return strcmp(decides->valuestring, cl_condition) == 0 ? CL_CONDITION : CL_IN_PART;
}

bool cl_is_optional(const pb_json *assertion) {
    return cJSON_IsTrue(pb_json_get(assertion, "optional"));
}

cl_role cl_role_found(const pb_json *assertion, cl_finding finding) {
    if (finding == CL_MISSING && cl_is_optional(assertion)) return CL_REPORTED;
    return cl_role_of(assertion);
}

void cl_count(cl_counts *counts, cl_role role, cl_finding finding) {
    if (role == CL_REPORTED) return;
    if (role == CL_CONDITION && finding != CL_HOLDS) counts->unmet++;
    if (role == CL_IN_PART && finding == CL_FAILS) counts->failed_parts++;
    else if (role != CL_CONDITION || finding != CL_FAILS) counts->of[finding]++;
}

pb_verdict_of_claim cl_verdict_of(const pb_claim_file *c, const cl_counts *counts) {
    const int *of = counts->of;
    bool small = c->scale == PB_SCALE_SMALL;
    if (c->scale == PB_SCALE_NONE) return PB_CLAIM_NOT_TESTABLE;
    if (counts->unmet) return of[CL_MISSING] ? PB_CLAIM_NOT_RUN : PB_CLAIM_INCONCLUSIVE;
    if (of[CL_FAILS]) return PB_CLAIM_CONTRADICTED;
    if (of[CL_MISSING]) return PB_CLAIM_NOT_RUN;
    if (of[CL_INCOMPARABLE] || of[CL_TOO_FEW] || of[CL_UNCLEAR]) return PB_CLAIM_INCONCLUSIVE;
    if (counts->failed_parts) return small ? PB_CLAIM_DIRECTION_IN_PART : PB_CLAIM_IN_PART;
    return small ? PB_CLAIM_SAME_DIRECTION : PB_CLAIM_SUPPORTED;
}

/* What the verdict of one claim hangs on, gathered over its assertions. */
typedef struct tally {
    cl_counts counts;
    char missing[256], stop[400]; /* the first ones */
    char failed[400];             /* the parts that fail alone */
    char unmet[400];              /* the first condition that does not hold */
    bool bare;                    /* what is unclear is so for want of an interval */
    int fewest;                   /* seeds, of the assertions with too few */
    int64_t need;
} tally;

static void take(tally *t, const pb_json *a, const cl_outcome *o, int64_t need, const char *missing,
                 const char *stop) {
    cl_role role = cl_role_found(a, o->finding);
    if (role == CL_REPORTED) return;
    if (o->finding == CL_UNCLEAR)
        t->bare = (t->bare || !t->counts.of[CL_UNCLEAR]) && (isnan(o->low) || isnan(o->high));
    cl_count(&t->counts, role, o->finding);
    if (o->finding == CL_INCOMPARABLE && !*t->stop) snprintf(t->stop, sizeof t->stop, "%s", stop);
    if (o->finding == CL_MISSING && !*t->missing)
        snprintf(t->missing, sizeof t->missing, "%s", missing);
    if (o->finding == CL_TOO_FEW && (t->need == 0 || o->n < t->fewest)) {
        t->fewest = o->n;
        t->need = need;
    }
    if (role == CL_CONDITION && o->finding != CL_HOLDS && !*t->unmet)
        snprintf(t->unmet, sizeof t->unmet, "%s", pb_json_get(a, "says")->valuestring);
    if (role != CL_IN_PART || o->finding != CL_FAILS) return;
    size_t len = strlen(t->failed);
    snprintf(t->failed + len, sizeof t->failed - len, "%s%s", len ? "; " : "",
             pb_json_get(a, "says")->valuestring);
}

static void because(const pb_claim_file *c, pb_verdict_of_claim v, const tally *t, char out[512]) {
    *out = 0;
    if (v == PB_CLAIM_NOT_TESTABLE) snprintf(out, 512, "%.500s", c->why);
    if (v == PB_CLAIM_NOT_RUN) snprintf(out, 512, "missing: %.480s", t->missing);
    if (v == PB_CLAIM_IN_PART || v == PB_CLAIM_DIRECTION_IN_PART)
        snprintf(out, 512, "the part that fails: %.480s", t->failed);
    if (v == PB_CLAIM_INCONCLUSIVE && *t->unmet)
        snprintf(out, 512, "a condition that does not hold: %.400s", t->unmet);
    else if (v == PB_CLAIM_INCONCLUSIVE && t->counts.of[CL_INCOMPARABLE])
        snprintf(out, 512, "not comparable: %.480s", t->stop);
    else if (v == PB_CLAIM_INCONCLUSIVE && t->counts.of[CL_TOO_FEW])
        snprintf(out, 512, "too few seeds: %d there, %d needed", t->fewest, (int)t->need);
    else if (v == PB_CLAIM_INCONCLUSIVE)
        snprintf(out, 512, "%s", t->bare ? "no interval: one run, or equal for every seed" : "an interval crosses its bound");
}

static bool add_head(pb_json *o, const pb_claim_file *c) {
    static const char *const texts[] = {"reported", "conditions", "full_scale", "small_scale"};
    bool ok = pb_json_add_str(o, "id", c->id) && pb_json_add_str(o, "method", c->method) &&
              pb_json_add_str(o, "statement", c->statement);
    for (size_t i = 0; i < COUNT(texts) && ok; i++) {
        const pb_json *v = pb_json_get(c->json, texts[i]);
        ok = pb_json_add_str(o, texts[i], cJSON_IsString(v) ? v->valuestring : "");
    }
    pb_json *source = cJSON_Duplicate(pb_json_get(c->json, "source"), true);
    ok = ok && source && cJSON_AddItemToObject(o, "source", source);
    return ok && pb_json_add_str(o, "scale", pb_claim_scale_name(c->scale)) &&
           pb_json_add_i64(o, "seeds", c->seeds);
}

/* What was found between rows that are not comparable is no finding. */
static pb_status guard(const cl_context *x, const pb_json *a, cl_outcome *o, char stop[400],
                       pb_text *waived) {
    pb_status status = cl_parity(x, a, stop, waived);
    if (status != PB_OK) pb_text_free(waived);
    if (status == PB_OK && *stop && o->finding != CL_MISSING) o->finding = CL_INCOMPARABLE;
    return status;
}

static pb_status check_one(const pb_claim_file *c, const pb_record *records, int n,
                           const pb_json *facts, pb_json *list) {
    cl_context x = {.claim = c,
                    .records = records,
                    .n_records = n,
                    .facts = pb_json_get(facts, c->id)};
    const pb_json *a = NULL;
    tally t = {0};
    char why[512], stop[400], sha256[PB_SHA256_HEX];
    PB_RETURN(pb_claim_sha256(c, sha256));
    pb_json *o = pb_json_add_object(list, NULL), *results = NULL;
    bool ok = o && add_head(o, c) && pb_json_add_str(o, "sha256", sha256) &&
              (results = pb_json_add_array(o, "assertions")) != NULL;
    cJSON_ArrayForEach (a, pb_json_get(c->json, "assertions")) {
        int64_t need = c->seeds;
        cl_outcome outcome;
        pb_text waived = {0};
        PB_RETURN(pb_json_read_i64(a, c->file, "seeds", 1, 1000, &need));
        *x.missing = 0;
        PB_RETURN(cl_assert(&x, a, need, &outcome));
        if (outcome.finding == CL_MISSING && !*x.missing)
            snprintf(x.missing, sizeof x.missing, "no seed that all its rows have");
        PB_RETURN(guard(&x, a, &outcome, stop, &waived));
        pb_status added = add_assertion(results, a, &outcome, need, x.missing, stop,
                                        waived.data ? waived.data : "");
        pb_text_free(&waived);
        PB_RETURN(added);
        take(&t, a, &outcome, need, x.missing, stop);
    }
    pb_verdict_of_claim v = cl_verdict_of(c, &t.counts);
    because(c, v, &t, why);
    ok = ok && pb_json_add_str(o, "verdict", pb_claim_verdict_name(v)) &&
         pb_json_add_str(o, "why", why) && pb_json_add_str(o, "overridden", x.overridden) &&
         pb_json_add_i64(o, "runs_lost", x.n_lost);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for the verdicts");
}

pb_status pb_claims_check(const pb_claim_file *const *claims, int n, const pb_record *records,
                          int n_records, const pb_json *facts, pb_json **out) {
    pb_status status = PB_OK;
    pb_json *root = cJSON_CreateObject(), *list = NULL;
    *out = NULL;
    bool ok = root && pb_json_add_str(root, "schema", PB_RECORD_SCHEMA) &&
              pb_json_add_str(root, "kind", "claims") && pb_json_add_i64(root, "records", n_records);
    list = ok ? pb_json_add_array(root, "claims") : NULL;
    if (!list) PB_FAIL(PB_E_OOM, "no memory for the verdicts");
    for (int i = 0; i < n; i++) PB_TRY(check_one(claims[i], records, n_records, facts, list));
    PB_TRY(cl_family(claims, n, records, n_records, facts, root));
    PB_TRY(cl_add_counts(root));
    *out = root;
    root = NULL;
done:
    pb_json_free(root);
    return status;
}

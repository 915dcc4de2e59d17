/* Parameters to plan and to suggest: of the row whose quality is quoted, every low-rank branch at one scale. Test:
 * tests/test_advise.c. */
#include <math.h>
#include <string.h>

#include "harness/advise.h"

static bool has_key(const pb_method *m, const char *key) {
    for (int i = 0; m->keys[i]; i++)
        if (strcmp(m->keys[i], key) == 0) return true;
    return false;
}

/* Instead of a member that may be there. */
static bool put(pb_json *o, const char *key, double v) {
    cJSON_DeleteItemFromObjectCaseSensitive(o, key);
    return v == floor(v) && fabs(v) < 1e15 ? pb_json_add_i64(o, key, (int64_t)v) : pb_json_add_f64(o, key, v);
}

/* The members that are the method's own parameters; what its description adds is left out. */
static bool copy_known(const pb_method *m, const pb_json *from, pb_json *to) {
    const pb_json *e = NULL;
    cJSON_ArrayForEach (e, from) {
        if (!has_key(m, e->string)) continue;
        pb_json *copy = cJSON_Duplicate(e, true);
        if (copy && cJSON_AddItemToObject(to, e->string, copy)) continue;
        pb_json_free(copy);
        return false;
    }
    return true;
}

/* Every parameter of the method with these ones given, defaults included. */
static pb_status resolve(const pb_method *m, const pb_json *params, pb_json **out) {
    pb_status status = PB_OK;
    void *self = NULL;
    *out = cJSON_CreateObject();
    if (!*out) PB_FAIL(PB_E_OOM, "no memory for the parameters of %s", m->name);
    PB_TRY(m->create(params, m->name, &self));
    PB_TRY(m->describe(self, *out));
done:
    if (self) m->destroy(self);
    return status;
}

static double number(const pb_json *o, const char *key, double otherwise) {
    const pb_json *v = pb_json_get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : otherwise;
}

/* As the parity guard reads it (reports/parity.c). */
static double scale_of(const pb_json *resolved) {
    return number(resolved, "scale", number(resolved, "alpha", NAN) / number(resolved, "rank", NAN));
}

/* alpha = scale x rank; methods that divide by another rank (AdaLoRA: its initial one), or by its
 * root, state the scale. */
static pb_status set_scale(const pb_method *m, double scale, pb_json *params) {
    pb_status status = PB_OK;
    pb_json *all = NULL;
    if (!has_key(m, "alpha")) return PB_OK;
    cJSON_DeleteItemFromObjectCaseSensitive(params, "scale");
    PB_TRY(resolve(m, params, &all));
    double rank = number(all, "target_rank", number(all, "rank", 1));
    bool ok = put(params, "alpha", scale * rank);
    pb_json_free(all);
    all = NULL;
    PB_TRY(resolve(m, params, &all));
    if (fabs(scale_of(all) - scale) > 1e-9 * scale && has_key(m, "scale")) ok = ok && put(params, "scale", scale);
    if (!ok) PB_FAIL(PB_E_OOM, "no memory for the parameters of %s", m->name);
done:
    pb_json_free(all);
    return status;
}

pb_status pb_advise_params(const pb_method *method, const pb_json *quoted, double scale, int64_t rank, pb_json **out) {
    *out = cJSON_CreateObject();
    bool ok = *out && copy_known(method, quoted, *out);
    if (ok && rank > 0 && has_key(method, "rank")) ok = put(*out, "rank", (double)rank);
    if (ok && rank > 0 && has_key(method, "target_rank")) ok = put(*out, "target_rank", (double)rank);
    if (ok && rank > 0 && has_key(method, "init_rank")) ok = put(*out, "init_rank", (double)(rank + (rank + 1) / 2));
    if (!ok) return PB_ERROR(PB_E_OOM, "no memory for the parameters of %s", method->name);
    return set_scale(method, scale, *out);
}

/* Finding methods by name and sites by pattern (method.h). The table itself is generated from the
 * folder. Test: tests/test_methods_unit.c. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "methods/method.h"

const pb_method *pb_method_find(const char *name) {
    for (int i = 0; i < pb_method_registry_count; i++)
        if (strcmp(pb_method_registry[i]->name, name) == 0) return pb_method_registry[i];
    return NULL;
}

pb_status pb_method_lookup(const char *name, const char *where, const pb_method **out) {
    *out = pb_method_find(name);
    if (*out) return PB_OK;
    const char *names[64];
    int n = 0;
    pb_text all = {0};
    for (; n < pb_method_registry_count && n < 64; n++) {
        names[n] = pb_method_registry[n]->name;
        pb_text_add(&all, "%s%s", n ? ", " : "", names[n]);
    }
    const char *nearest = pb_nearest(name, names, (size_t)n);
    pb_status status = PB_ERROR(PB_E_INPUT, "%s: unknown method '%s'; did you mean '%s'? Known: %s",
                                where, name, nearest ? nearest : "", all.data ? all.data : "");
    pb_text_free(&all);
    return status;
}

pb_status pb_method_check_keys(const pb_json *params, const char *where, const char *const *keys) {
    if (!params) return PB_OK;
    if (!cJSON_IsObject(params))
        return PB_ERROR(PB_E_INPUT, "%s: a method's parameters must be an object", where);
    size_t n = 0;
    while (keys[n]) n++;
    return pb_json_only_keys(params, where, keys, n);
}

pb_status pb_described(bool ok) {
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for a JSON value");
}

static pb_status no_match(const char *where, const char *pattern, const pb_site *sites,
                          int n_sites) {
    pb_text some = {0};
    int named = 0;
    for (int i = 0; i < n_sites && named < 8; i++)
        if (sites[i].kind == PB_SITE_LINEAR)
            pb_text_add(&some, "%s%s", named++ ? ", " : "", sites[i].name);
    pb_status status =
        PB_ERROR(PB_E_INPUT, "%s: target '%s' matches no linear layer; there are: %s, ...", where,
                 pattern, some.data ? some.data : "none");
    pb_text_free(&some);
    return status;
}

pb_status pb_targets_check(const pb_json *array, const char *where) {
    const pb_json *e = NULL;
    int i = 0;
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) == 0)
        return PB_ERROR(PB_E_INPUT,
                        "%s.targets: expected a list of at least one pattern such as "
                        "\"layers.*.attn.q\"",
                        where);
    cJSON_ArrayForEach (e, array) {
        if (!cJSON_IsString(e) || !*e->valuestring)
            return PB_ERROR(PB_E_INPUT, "%s.targets[%d]: expected a string that is a pattern", where, i);
        i++;
    }
    return PB_OK;
}

pb_status pb_targets_match(const char *where, const char *const *patterns, int n_patterns,
                           const pb_site *sites, int n_sites, bool *hit) {
    for (int i = 0; i < n_sites; i++) hit[i] = false;
    for (int p = 0; p < n_patterns; p++) {
        bool any = false;
        for (int i = 0; i < n_sites; i++) {
            if (sites[i].kind != PB_SITE_LINEAR || !pb_glob(patterns[p], sites[i].name)) continue;
            hit[i] = any = true;
        }
        if (!any) PB_RETURN(no_match(where, patterns[p], sites, n_sites));
    }
    return PB_OK;
}

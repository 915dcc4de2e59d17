/* From config.json to pb_model_config: picks the family by model_type, reads 1_Pooling/config.json
 * of sentence encoders, and checks what all families share. The keys of each family:
 * family_<name>.c. */
#include "models/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "models/family.h"

#define MAX_CONFIG_BYTES ((size_t)1 << 20)
#define MAX_FAMILIES 32

const pb_family *pb_family_find(const char *name) {
    for (int i = 0; i < pb_family_registry_count; i++) {
        if (!strcmp(pb_family_registry[i]->name, name)) return pb_family_registry[i];
    }
    return NULL;
}

/* --- reads ----------------------------------------------------------------------------------- */

static bool absent(const pb_json *o, const char *key) {
    const pb_json *v = pb_json_get(o, key);
    return !v || cJSON_IsNull(v);
}

pb_status pb_config_i64(const pb_json *o, const char *where, const char *key, int64_t hi,
                        int64_t *out) {
    return absent(o, key) ? PB_OK : pb_json_read_i64(o, where, key, 1, hi, out);
}

pb_status pb_config_need_i64(const pb_json *o, const char *where, const char *key, int64_t hi,
                             int64_t *out) {
    if (absent(o, key))
        return PB_ERROR(PB_E_INPUT, "%s: key \"%s\" is missing, expected 1..%lld", where, key,
                        (long long)hi);
    return pb_json_read_i64(o, where, key, 1, hi, out);
}

pb_status pb_config_f64(const pb_json *o, const char *where, const char *key, double lo, double hi,
                        double *out) {
    return absent(o, key) ? PB_OK : pb_json_read_f64(o, where, key, lo, hi, out);
}

pb_status pb_config_bool(const pb_json *o, const char *where, const char *key, bool *out) {
    return absent(o, key) ? PB_OK : pb_json_read_bool(o, where, key, out);
}

pb_status pb_config_act(const pb_json *o, const char *where, const char *key, pb_act *out) {
    static const struct {
        const char *name;
        pb_act act;
    } known[] = {
        {"gelu", PB_ACT_GELU},
        {"gelu_new", PB_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", PB_ACT_GELU_TANH},
        {"relu", PB_ACT_RELU},
        {"silu", PB_ACT_SILU},
        {"swish", PB_ACT_SILU},
    };
    const char *names[sizeof known / sizeof *known];
    const size_t n = sizeof known / sizeof *known;
    int i = -1;
    for (size_t k = 0; k < n; k++) names[k] = known[k].name;
    if (absent(o, key)) return PB_OK;
    PB_RETURN(pb_json_read_choice(o, where, key, names, n, &i));
    if (i >= 0) *out = known[i].act;
    return PB_OK;
}

pb_status pb_config_check(const char *where, const pb_model_config *c) {
    if (c->NH % c->NKV) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: %lld attention heads are not a multiple of %lld key/value heads",
                        where, (long long)c->NH, (long long)c->NKV);
    }
    if (c->HS < 1 || (c->rope && c->HS % 2)) {
        return PB_ERROR(
            PB_E_INPUT,
            "%s: head size %lld (hidden size %lld, %lld heads), expected a positive%s number",
            where, (long long)c->HS, (long long)c->C, (long long)c->NH, c->rope ? " even" : "");
    }
    return PB_OK;
}

/* --- files ----------------------------------------------------------------------------------- */

static pb_status unknown_family(const char *where, const char *type) {
    const char *names[MAX_FAMILIES];
    pb_text list = {0};
    int n = 0;
    for (; n < pb_family_registry_count && n < MAX_FAMILIES; n++) {
        names[n] = pb_family_registry[n]->model_type;
        pb_text_add(&list, "%s%s", n ? ", " : "", names[n]);
    }
    const char *nearest = pb_nearest(type, names, (size_t)n);
    pb_status status =
        PB_ERROR(PB_E_INPUT, "%s: model_type \"%s\" is not supported; supported: %s (nearest: %s)",
                 where, type, list.data ? list.data : "none", nearest ? nearest : "none");
    pb_text_free(&list);
    return status;
}

static pb_status family_of(const char *where, const char *type, const pb_family **out) {
    for (int i = 0; i < pb_family_registry_count; i++) {
        if (!strcmp(pb_family_registry[i]->model_type, type)) {
            *out = pb_family_registry[i];
            return PB_OK;
        }
    }
    return unknown_family(where, type);
}

pb_status pb_model_config_parse(const char *where, const char *text, size_t len,
                                pb_model_config *out) {
    pb_status status = PB_OK;
    pb_json *root = NULL;
    const char *type = NULL;
    const pb_family *family = NULL;
    pb_model_config c = {0};
    PB_TRY(pb_json_parse(where, text, len, &root));
    if (!cJSON_IsObject(root)) PB_FAIL(PB_E_INPUT, "%s: expected an object", where);
    PB_TRY(pb_json_read_str(root, where, "model_type", &type));
    if (!type) PB_FAIL(PB_E_INPUT, "%s: key \"model_type\" is missing", where);
    PB_TRY(family_of(where, type, &family));
    (void)pb_copy(c.family, sizeof c.family, family->name);
    (void)pb_copy(c.name, sizeof c.name, where);
    PB_TRY(family->config(root, where, &c));
    PB_TRY(pb_config_check(where, &c));
    *out = c;
done:
    pb_json_free(root);
    return status;
}

static pb_status load_pooling(const char *path, pb_pool *out) {
    static const struct {
        const char *key;
        int pool; /* -1 = not supported */
    } modes[] = {
        {"pooling_mode_cls_token", PB_POOL_CLS},  {"pooling_mode_mean_tokens", PB_POOL_MEAN},
        {"pooling_mode_lasttoken", PB_POOL_LAST}, {"pooling_mode_max_tokens", -1},
        {"pooling_mode_weightedmean_tokens", -1}, {"pooling_mode_mean_sqrt_len_tokens", -1},
    };
    pb_status status = PB_OK;
    pb_json *root = NULL;
    int found = 0;
    PB_TRY(pb_json_load(path, MAX_CONFIG_BYTES, &root));
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        bool on = false;
        PB_TRY(pb_config_bool(root, path, modes[i].key, &on));
        if (!on) continue;
        if (modes[i].pool < 0)
            PB_FAIL(PB_E_INPUT, "%s: %s is not supported: mean, cls or last token", path,
                    modes[i].key);
        if (found++)
            PB_FAIL(PB_E_INPUT, "%s: %s: more than one pooling mode is on", path, modes[i].key);
        *out = (pb_pool)modes[i].pool;
    }
done:
    pb_json_free(root);
    return status;
}

/* The last component of a path without trailing slashes. */
static void folder_name(const char *path, char *out, size_t cap) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t from = end;
    while (from > 0 && path[from - 1] != '/') from--;
    size_t n = end - from < cap - 1 ? end - from : cap - 1;
    memcpy(out, path + from, n);
    out[n] = 0;
}

pb_status pb_model_config_load(const char *dir, pb_model_config *out) {
    pb_status status = PB_OK;
    char *text = NULL;
    size_t len = 0;
    char *path = pb_path_join(dir, "config.json"),
         *pooling = pb_path_join(dir, "1_Pooling/config.json");
    if (!path || !pooling) PB_FAIL(PB_E_OOM, "%s: no memory for a file name", dir);
    PB_TRY(pb_file_read(path, MAX_CONFIG_BYTES, &text, &len));
    PB_TRY(pb_model_config_parse(path, text, len, out));
    folder_name(dir, out->name, sizeof out->name);
    if (!out->causal && pb_file_exists(pooling)) PB_TRY(load_pooling(pooling, &out->pool));
done:
    free(text);
    free(path);
    free(pooling);
    return status;
}

/* --- counts ---------------------------------------------------------------------------------- */

int64_t pb_model_config_params(const pb_model_config *c) {
    int64_t q = c->NH * c->HS, kv = c->NKV * c->HS,
            norm = c->norm == PB_NORM_LAYER ? 2 * c->C : c->C;
    int64_t layer = c->C * (2 * q + 2 * kv) + c->C * c->FF * (c->gated_mlp ? 3 : 2) + 2 * norm;
    if (c->biases || c->qkv_biases) layer += q + 2 * kv;
    if (c->biases) layer += c->C + c->FF * (c->gated_mlp ? 2 : 1) + c->C;
    int64_t embed = c->V * c->C + c->type_vocab * c->C + (c->rope ? 0 : c->P * c->C);
    int64_t head = c->causal && !c->tied_head ? c->V * c->C : 0;
    return embed + c->L * layer + norm +
           head; /* one norm outside the layers: behind the embedding or at the end */
}

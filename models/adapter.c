/* Adapter files: what a run added to or changed in the base model, as safetensors. Test:
 * tests/test_model.c. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/transformer.h"

static bool belongs(const pb_param *p) { return p->trainable || p->role != PB_ROLE_BASE; }

static int64_t numel(const pb_param *p) { return p->ndim == 2 ? p->dim[0] * p->dim[1] : p->dim[0]; }

/* A parameter on the host as f32 (malloc'ed). */
static pb_status fetch(pb_model *m, const pb_param *p, float **out) {
    pb_status status = PB_OK;
    size_t n = (size_t)numel(p);
    double *wide = malloc(n * sizeof *wide);
    *out = malloc(n * sizeof **out);
    if (!wide || !*out) PB_FAIL(PB_E_OOM, "no memory to save %s", p->name);
    PB_TRY(pb_param_get(m->params, p, wide));
    for (size_t i = 0; i < n; i++) (*out)[i] = (float)wide[i];
done:
    free(wide);
    return status;
}

static pb_status file_size(const char *path, uint64_t *bytes) {
    pb_status status = PB_OK;
    pb_map map = {0};
    PB_TRY(pb_map_open(path, &map));
    *bytes = map.len;
done:
    pb_map_close(&map);
    return status;
}

pb_status pb_model_save_adapter(pb_model *m, const char *path, const pb_json *metadata,
                                uint64_t *bytes) {
    pb_status status = PB_OK;
    int total = pb_params_count(m->params), n = 0;
    pb_write_tensor *tensors = calloc((size_t)total, sizeof *tensors);
    float **data = calloc((size_t)total, sizeof *data);
    if (!tensors || !data) PB_FAIL(PB_E_OOM, "%s: no memory to save", path);
    for (int i = 0; i < total; i++) {
        const pb_param *p = pb_params_at(m->params, i);
        if (!belongs(p)) continue;
        PB_TRY(fetch(m, p, &data[n]));
        tensors[n] = (pb_write_tensor){.name = p->name,
                                       .dtype = "F32",
                                       .ndim = p->ndim,
                                       .dim = {p->dim[0], p->dim[1]},
                                       .data = data[n],
                                       .bytes = (uint64_t)numel(p) * sizeof(float)};
        n++;
    }
    PB_TRY(pb_safetensors_write(path, tensors, n, metadata));
    if (bytes) PB_TRY(file_size(path, bytes));
done:
    for (int i = 0; data && i < total; i++) free(data[i]);
    free(data);
    free(tensors);
    return status;
}

static pb_status check_tensor(const char *path, const pb_param *p, const pb_stored_tensor *t) {
    if (!t) return PB_ERROR(PB_E_INPUT, "%s: tensor %s is missing", path, p->name);
    if (t->ndim == p->ndim && t->dim[0] == p->dim[0] && (p->ndim == 1 || t->dim[1] == p->dim[1]))
        return PB_OK;
    return PB_ERROR(PB_E_INPUT,
                    "%s: tensor %s has %d dimensions, first [%lld,%lld], expected %d, [%lld,%lld]",
                    path, p->name, t->ndim, t->ndim > 0 ? (long long)t->dim[0] : 0LL,
                    t->ndim > 1 ? (long long)t->dim[1] : 0LL, p->ndim, (long long)p->dim[0],
                    (long long)p->dim[1]);
}

static pb_status restore(pb_model *m, pb_param *p, const pb_stored_tensor *t) {
    pb_status status = PB_OK;
    double *host = malloc((size_t)numel(p) * sizeof *host);
    if (!host) PB_FAIL(PB_E_OOM, "no memory to load %s", p->name);
    PB_TRY(pb_stored_tensor_f64(t, 0, numel(p), host));
    PB_TRY(pb_param_set(m->params, p, host));
done:
    free(host);
    return status;
}

/* Everything is checked before the first value changes. */
static pb_status check_file(pb_model *m, const char *path, const pb_safetensors *st) {
    for (int i = 0; i < pb_params_count(m->params); i++) {
        const pb_param *p = pb_params_at(m->params, i);
        if (belongs(p)) PB_RETURN(check_tensor(path, p, pb_safetensors_find(st, p->name)));
    }
    for (int i = 0; i < pb_safetensors_count(st); i++) {
        const pb_stored_tensor *t = pb_safetensors_at(st, i);
        const pb_param *p = pb_params_find(m->params, t->name);
        if (!p || !belongs(p)) {
            return PB_ERROR(
                PB_E_INPUT,
                "%s: tensor %s: the model with this method has no such trained parameter", path,
                t->name);
        }
        if (strcmp(t->dtype, "F32")) {
            return PB_ERROR(PB_E_INPUT, "%s: tensor %s: dtype %s, expected F32", path, t->name,
                            t->dtype);
        }
    }
    return PB_OK;
}

pb_status pb_model_load_adapter(pb_model *m, const char *path) {
    pb_status status = PB_OK;
    pb_safetensors *st = NULL;
    PB_TRY(pb_safetensors_open(path, &st));
    PB_TRY(check_file(m, path, st));
    for (int i = 0; i < pb_params_count(m->params); i++) {
        pb_param *p = pb_params_at(m->params, i);
        if (belongs(p)) PB_TRY(restore(m, p, pb_safetensors_find(st, p->name)));
    }
done:
    pb_safetensors_close(st);
    return status;
}

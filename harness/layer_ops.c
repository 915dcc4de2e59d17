/* The walk over a layer's ops: its groups, and the tensors they are made of. */
#include "harness/layer_ops_impl.h"

#include <stdlib.h>
#include <string.h>

#include "harness/suite_impl.h"
#include "models/config.h"

/* ---- tensors ---- */

pb_status pb_layer_keep(pb_layer *b, pb_tensor t) {
    if (b->n_tensors >= PB_LAYER_TENSORS)
        return PB_ERROR(PB_E_BUG, "a group of ops has over %d tensors", PB_LAYER_TENSORS);
    if (pb_has(t)) b->tensors[b->n_tensors++] = t;
    return PB_OK;
}

static pb_status fill(pb_layer *b, pb_tensor t, double lo, double hi) {
    pb_fill_uniform_args args = {.x = t, .lo = lo, .hi = hi, .key = 1, .stream = b->stream++};
    return pb_fill_uniform(b->dev, &args);
}

pb_status pb_layer_between(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, double lo,
                           double hi, pb_tensor *out) {
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_DATA, dtype, rows, cols, out));
    PB_RETURN(pb_layer_keep(b, *out));
    return fill(b, *out, lo, hi);
}

pb_status pb_layer_matrix(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out) {
    return pb_layer_between(b, dtype, rows, cols, -1, 1, out);
}

pb_status pb_layer_vector(pb_layer *b, pb_dtype dtype, int64_t n, double lo, double hi,
                          pb_tensor *out) {
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_DATA, dtype, n, out));
    PB_RETURN(pb_layer_keep(b, *out));
    return fill(b, *out, lo, hi);
}

pb_status pb_layer_zeros(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out) {
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_DATA, dtype, rows, cols, out));
    return pb_layer_keep(b, *out);
}

static pb_status put(pb_layer *b, pb_dtype dtype, int64_t n, const void *host, pb_tensor *out) {
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_DATA, dtype, n, out));
    PB_RETURN(pb_device_put(b->dev, *out, host, pb_bytes(*out)));
    return pb_layer_keep(b, *out);
}

pb_status pb_layer_codes(pb_layer *b, int64_t n, pb_tensor *out) {
    unsigned char *host = malloc((size_t)n + 1);
    if (!host) return PB_ERROR(PB_E_OOM, "no memory for %lld codes", (long long)n);
    for (int64_t i = 0; i < n; i++) host[i] = (unsigned char)(((uint64_t)i * 2654435761u) >> 13);
    pb_status status = put(b, PB_U8, n, host, out);
    free(host);
    return status;
}

pb_status pb_layer_indices(pb_layer *b, int64_t n, int64_t modulus, int64_t factor,
                           pb_tensor *out) {
    int32_t *host = calloc((size_t)n + 1, sizeof *host);
    if (!host) return PB_ERROR(PB_E_OOM, "no memory for indices");
    for (int64_t i = 0; i < n; i++) host[i] = (int32_t)(modulus ? i % modulus : i * factor);
    pb_status status = put(b, PB_I32, n, host, out);
    free(host);
    return status;
}

/* ---- all of them ---- */

static const struct {
    pb_status (*visit)(pb_layer *, int64_t);
    int64_t value;
    pb_layer_rank rank;
} groups[] = {
    {pb_layer_dense, 0, PB_LAYER_EACH},
    {pb_layer_gelu, 0, PB_LAYER_EACH},
    {pb_layer_coded, PB_CODE_NF4, PB_LAYER_EACH},
    {pb_layer_low_rank, 8, PB_LAYER_EACH},
    {pb_layer_activations, 0, PB_LAYER_EACH},
    {pb_layer_elements, 0, PB_LAYER_EACH},
    {pb_layer_norms, 0, PB_LAYER_EACH},
    {pb_layer_attention, PB_LAYER_SEQUENCE, PB_LAYER_EACH},
    {pb_layer_attention_backward, PB_LAYER_SEQUENCE, PB_LAYER_EACH},
    {pb_layer_pooling, 0, PB_LAYER_EACH},
    {pb_layer_embedding, 0, PB_LAYER_EACH},
    {pb_layer_rotation, 0, PB_LAYER_EACH},
    {pb_layer_some_rows, 0, PB_LAYER_EACH},
    {pb_layer_loss, 0, PB_LAYER_EACH},
    {pb_layer_adamw, 0, PB_LAYER_EACH},
    {pb_layer_adamw8, 0, PB_LAYER_EACH},
    {pb_layer_dora, 0, PB_LAYER_EACH},
    {pb_layer_adalora, 0, PB_LAYER_EACH},
    {pb_layer_backward, 0, PB_LAYER_USUAL},
    {pb_layer_coded_backward, PB_CODE_NF4, PB_LAYER_USUAL},
    {pb_layer_norm_weights, 0, PB_LAYER_USUAL},
    {pb_layer_attention, 256, PB_LAYER_USUAL},
    {pb_layer_attention_backward, 256, PB_LAYER_USUAL},
    {pb_layer_low_rank, 64, PB_LAYER_ALL},
    {pb_layer_thin, 8, PB_LAYER_ALL},
    {pb_layer_thin, 64, PB_LAYER_ALL},
    {pb_layer_coded, PB_CODE_FP4, PB_LAYER_ALL},
    {pb_layer_coded, PB_CODE_INT4, PB_LAYER_ALL},
    {pb_layer_other_activations, 0, PB_LAYER_ALL},
    {pb_layer_attention, 1024, PB_LAYER_ALL},
    {pb_layer_attention_backward, 1024, PB_LAYER_ALL},
    {pb_layer_attention, 4096, PB_LAYER_ALL},
    {pb_layer_attention_backward, 4096, PB_LAYER_ALL},
};
enum { GROUPS = sizeof groups / sizeof groups[0] };

int pb_layer_groups(void) { return GROUPS; }

pb_layer_rank pb_layer_group_rank(int group) {
    PB_ASSERT(group >= 0 && group < GROUPS);
    return groups[group].rank;
}

pb_status pb_layer_sizes(const char *model, int64_t rows, pb_layer *out) {
    pb_model_config c;
    char path[1024];
    PB_RETURN(pb_suite_model("--model", model, NULL, path));
    if (strncmp(path, "shape:", 6) == 0) {
        PB_RETURN(pb_model_shape(path + 6, &c));
    } else {
        PB_RETURN(pb_model_config_load(path, &c));
    }
    *out = (pb_layer){.rows = rows,
                      .C = c.C,
                      .FF = c.FF,
                      .V = c.V,
                      .NH = c.NH,
                      .NKV = c.NKV,
                      .HS = c.HS,
                      .causal = c.causal,
                      .norm = c.norm,
                      .act = c.act};
    return PB_OK;
}

pb_status pb_layer_walk(pb_layer *b, int group) {
    static const pb_mem memories[] = {PB_MEM_DATA, PB_MEM_BASE, PB_MEM_QUANT};
    pb_mark marks[3];
    PB_ASSERT(group >= 0 && group < GROUPS);
    for (int i = 0; i < 3; i++) marks[i] = pb_device_mark(b->dev, memories[i]);
    b->stream = 0;
    b->n_tensors = 0;
    pb_status status = groups[group].visit(b, groups[group].value);
    for (int i = 0; i < 3; i++) pb_device_rewind(b->dev, memories[i], marks[i]);
    b->n_tensors = 0;
    return status;
}

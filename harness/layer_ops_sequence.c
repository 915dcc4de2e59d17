/* What knows tokens and sequences: attention, pooling, embedding, rotation, rows. */
#include <math.h>
#include <string.h>

#include "harness/layer_ops_impl.h"

#define LONG_SUM (INT64_C(1) << 30) /* multiply-adds of a long attention's scores: see heads_for */
#define TABLE (INT64_C(1) << 24)    /* elements of a table of embeddings: 64 MiB of f32 */

/* ---- attention ---- */

/* All heads up to 256 tokens. Of longer sequences as many groups of query heads as the reference
 * computes in some ten seconds, at least two: attention works head by head. */
static void heads_for(const pb_layer *b, int64_t length, int64_t rows, int64_t *heads,
                      int64_t *kv_heads) {
    int64_t group = b->NH / b->NKV, groups = b->NKV;
    while (length > 256 && groups > 2 && rows * length * groups * group * b->HS > LONG_SUM)
        groups = (groups + 1) / 2;
    *heads = groups * group;
    *kv_heads = groups;
}

static pb_status attention(pb_layer *b, int64_t length, bool backward) {
    pb_tensor q, k, v, o, lse, cu, dout, dq, dk, dv;
    char shape[PB_LAYER_SHAPE];
    int64_t sequences = b->rows / length > 1 ? b->rows / length : 1, rows = sequences * length;
    int64_t NH, NKV;
    heads_for(b, length, rows, &NH, &NKV);
    pb_tensor *const queries[] = {&q, &o, &dout, &dq}, *const keys[] = {&k, &v, &dk, &dv};
    for (int i = 0; i < 4; i++)
        PB_RETURN(pb_layer_matrix(b, b->dtype, rows, NH * b->HS, queries[i]));
    for (int i = 0; i < 4; i++)
        PB_RETURN(pb_layer_matrix(b, b->dtype, rows, NKV * b->HS, keys[i]));
    PB_RETURN(pb_layer_vector(b, pb_dtype_master(b->dtype), rows * NH, 0, 1, &lse));
    PB_RETURN(pb_layer_indices(b, sequences + 1, 0, length, &cu));
    pb_attention_fwd_args fwd = {.q = q,
                                 .k = k,
                                 .v = v,
                                 .o = o,
                                 .lse = lse,
                                 .cu = cu,
                                 .heads = NH,
                                 .kv_heads = NKV,
                                 .head_dim = b->HS,
                                 .sequences = sequences,
                                 .max_len = length,
                                 .causal = b->causal,
                                 .scale = 1 / sqrt((double)b->HS)};
    pb_attention_bwd_args bwd = {.q = q,
                                 .k = k,
                                 .v = v,
                                 .o = o,
                                 .lse = lse,
                                 .cu = cu,
                                 .d_o = dout,
                                 .dq = dq,
                                 .dk = dk,
                                 .dv = dv,
                                 .heads = NH,
                                 .kv_heads = NKV,
                                 .head_dim = b->HS,
                                 .sequences = sequences,
                                 .max_len = length,
                                 .causal = b->causal,
                                 .scale = fwd.scale};
    snprintf(shape, sizeof shape, "%lld x %lld, %lld heads of %lld%s", (long long)sequences,
             (long long)length, (long long)NH, (long long)b->HS, b->causal ? " causal" : "");
    if (!backward) return b->visit(b, PB_OP_attention_fwd, &fwd, shape);
    PB_RETURN(pb_attention_fwd(b->dev, &fwd)); /* o and lse are those of q, k and v */
    return b->visit(b, PB_OP_attention_bwd, &bwd, shape);
}

pb_status pb_layer_attention(pb_layer *b, int64_t length) { return attention(b, length, false); }

pb_status pb_layer_attention_backward(pb_layer *b, int64_t length) {
    return attention(b, length, true);
}

/* ---- tokens ---- */

static int64_t sequences_of(const pb_layer *b) { return b->rows / PB_LAYER_SEQUENCE; }
static int64_t rows_of(const pb_layer *b) { return sequences_of(b) * PB_LAYER_SEQUENCE; }

pb_status pb_layer_pooling(pb_layer *b, int64_t none) {
    pb_tensor x, dx, cu, pooled;
    char shape[PB_LAYER_SHAPE];
    int64_t sequences = sequences_of(b), rows = rows_of(b), cols = b->NH * b->HS;
    (void)none;
    PB_RETURN(pb_layer_matrix(b, b->dtype, rows, cols, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, rows, cols, &dx));
    PB_RETURN(pb_layer_indices(b, sequences + 1, 0, PB_LAYER_SEQUENCE, &cu));
    PB_RETURN(pb_layer_matrix(b, b->dtype, sequences, cols, &pooled));
    pb_pool_fwd_args pool = {.pool = PB_POOL_MEAN, .x = x, .cu = cu, .y = pooled};
    pb_pool_bwd_args pool_bwd = {.pool = PB_POOL_MEAN, .dy = pooled, .cu = cu, .dx = dx};
    snprintf(shape, sizeof shape, "%lld x %lld", (long long)rows, (long long)cols);
    PB_RETURN(b->visit(b, PB_OP_pool_fwd, &pool, shape));
    return b->visit(b, PB_OP_pool_bwd, &pool_bwd, shape);
}

pb_status pb_layer_embedding(pb_layer *b, int64_t none) {
    pb_tensor word, dword, ids, y;
    char shape[PB_LAYER_SHAPE];
    int64_t rows = rows_of(b), V = b->V * b->C > TABLE ? TABLE / b->C : b->V;
    (void)none;
    PB_RETURN(pb_layer_matrix(b, b->dtype, V, b->C, &word));
    PB_RETURN(pb_layer_matrix(b, b->dtype, rows, b->C, &y));
    PB_RETURN(pb_layer_indices(b, rows, V, 0, &ids));
    PB_RETURN(pb_layer_zeros(b, pb_dtype_master(b->dtype), V, b->C, &dword));
    pb_embed_fwd_args embed = {.word = word, .ids = ids, .y = y};
    pb_embed_bwd_args embed_bwd = {.ids = ids, .dy = y, .dword = dword};
    snprintf(shape, sizeof shape, "%lld of %lld x %lld", (long long)rows, (long long)V,
             (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_embed_fwd, &embed, shape));
    return b->visit(b, PB_OP_embed_bwd, &embed_bwd, shape);
}

pb_status pb_layer_rotation(pb_layer *b, int64_t none) {
    pb_tensor x, inv_freq, positions;
    char shape[PB_LAYER_SHAPE];
    int64_t rows = rows_of(b);
    (void)none;
    PB_RETURN(pb_layer_indices(b, rows, PB_LAYER_SEQUENCE, 0, &positions));
    PB_RETURN(pb_layer_matrix(b, b->dtype, rows, b->NH * b->HS, &x));
    PB_RETURN(pb_layer_vector(b, pb_dtype_master(b->dtype), b->HS / 2, 0, 1, &inv_freq));
    pb_rope_args rope = {.x = x, .inv_freq = inv_freq, .positions = positions, .heads = b->NH};
    snprintf(shape, sizeof shape, "%lld x %lld heads of %lld", (long long)rows, (long long)b->NH,
             (long long)b->HS);
    return b->visit(b, PB_OP_rope, &rope, shape);
}

pb_status pb_layer_some_rows(pb_layer *b, int64_t none) {
    pb_tensor all, few, first;
    char shape[PB_LAYER_SHAPE];
    int64_t sequences = sequences_of(b), rows = rows_of(b);
    (void)none;
    PB_RETURN(pb_layer_matrix(b, b->dtype, rows, b->C, &all));
    PB_RETURN(pb_layer_indices(b, sequences, 0, PB_LAYER_SEQUENCE, &first));
    PB_RETURN(pb_layer_matrix(b, b->dtype, sequences, b->C, &few));
    pb_gather_rows_args gather = {.x = all, .idx = first, .y = few};
    pb_scatter_rows_args scatter = {.x = few, .idx = first, .y = all};
    snprintf(shape, sizeof shape, "%lld of %lld x %lld", (long long)sequences, (long long)rows,
             (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_gather_rows, &gather, shape));
    return b->visit(b, PB_OP_scatter_rows, &scatter, shape);
}

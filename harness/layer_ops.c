/* The ops of one layer of a model: tensors, arguments and shapes. */
#include "harness/layer_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/suite_impl.h"
#include "kernels/ops.h"
#include "models/config.h"

#define SEQUENCE 64 /* tokens, for attention and pooling */
#define RANK 8

/* ---- tensors ---- */

/* Notes a tensor that the ops of a group may read or write. */
static pb_status keep(pb_layer *b, pb_tensor t) {
    if (b->n_tensors >= PB_LAYER_TENSORS)
        return PB_ERROR(PB_E_BUG, "a group of ops has over %d tensors", PB_LAYER_TENSORS);
    if (pb_has(t)) b->tensors[b->n_tensors++] = t;
    return PB_OK;
}

static pb_status fill(pb_layer *b, pb_tensor t, double lo, double hi) {
    pb_fill_uniform_args args = {.x = t, .lo = lo, .hi = hi, .key = 1, .stream = b->stream++};
    return pb_fill_uniform(b->dev, &args);
}

static pb_status matrix(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out) {
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_DATA, dtype, rows, cols, out));
    PB_RETURN(keep(b, *out));
    return fill(b, *out, -1, 1);
}

static pb_status vector(pb_layer *b, pb_dtype dtype, int64_t n, double lo, double hi,
                        pb_tensor *out) {
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_DATA, dtype, n, out));
    PB_RETURN(keep(b, *out));
    return fill(b, *out, lo, hi);
}

/* Filled with zeros. */
static pb_status zeros(pb_layer *b, pb_dtype dtype, int64_t rows, int64_t cols, pb_tensor *out) {
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_DATA, dtype, rows, cols, out));
    return keep(b, *out);
}

/* value(i) for i in 0..n-1: i % modulus, or i * factor when modulus is 0. */
static pb_status indices(pb_layer *b, int64_t n, int64_t modulus, int64_t factor, pb_tensor *out) {
    int32_t *host = calloc((size_t)n + 1, sizeof *host);
    if (!host) return PB_ERROR(PB_E_OOM, "no memory for indices");
    for (int64_t i = 0; i < n; i++) host[i] = (int32_t)(modulus ? i % modulus : i * factor);
    pb_status status = pb_alloc1(b->dev, PB_MEM_DATA, PB_I32, n, out);
    if (status == PB_OK) status = pb_device_put(b->dev, *out, host, pb_bytes(*out));
    if (status == PB_OK) status = keep(b, *out);
    free(host);
    return status;
}

/* ---- the ops ---- */

static pb_status products(pb_layer *b) {
    pb_tensor x, y, wide, w, up, bias, a, bb, h, da, db;
    pb_quant4 q;
    char shape[64];
    pb_dtype M = pb_dtype_master(b->dtype);
    PB_RETURN(matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->C, &y));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->FF, &wide));
    PB_RETURN(matrix(b, b->dtype, b->C, b->C, &w));
    PB_RETURN(matrix(b, b->dtype, b->FF, b->C, &up));
    PB_RETURN(vector(b, b->dtype, b->FF, -1, 1, &bias));
    PB_RETURN(matrix(b, b->dtype, RANK, b->C, &a));
    PB_RETURN(matrix(b, b->dtype, b->C, RANK, &bb));
    PB_RETURN(matrix(b, b->dtype, b->rows, RANK, &h));
    PB_RETURN(matrix(b, M, RANK, b->C, &da));
    PB_RETURN(matrix(b, M, b->C, RANK, &db));
    PB_RETURN(pb_quant4_alloc(b->dev, PB_CODE_NF4, 64, true, b->dtype, b->FF, b->C, &q));
    PB_RETURN(keep(b, q.codes));
    PB_RETURN(keep(b, q.absmax_q));
    PB_RETURN(keep(b, q.absmax2));
    PB_RETURN(keep(b, q.offset));
    pb_gemm_args gemm = {.a = x, .b = w, .c = y, .trans_b = true, .alpha = 1};
    pb_linear_args linear = {.x = x, .y = wide, .bias = bias, .w = {.dense = up}};
    pb_linear_args nf4 = {.x = x, .y = wide, .bias = bias, .w = {.quant = &q}};
    pb_quantize4_args quantize = {.src = up, .q = q};
    pb_dequantize4_args dequantize = {.q = q, .dst = up};
    pb_lowrank_args low = {.x = x, .a = a, .b = bb, .y = y, .h = h, .scale = 2};
    pb_lowrank_bwd_args low_bwd = {.x = x,
                                   .h = h,
                                   .a = a,
                                   .b = bb,
                                   .dy = y,
                                   .dx = x,
                                   .da = da,
                                   .db = db,
                                   .scale = 2,
                                   .beta_dx = 1};
    PB_RETURN(matrix(b, b->dtype, b->rows, b->C, &low_bwd.dx));
    snprintf(shape, sizeof shape, "%lld x %lld x %lld", (long long)b->rows, (long long)b->C,
             (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_gemm, &gemm, shape));
    snprintf(shape, sizeof shape, "%lld x %lld -> %lld", (long long)b->rows, (long long)b->C,
             (long long)b->FF);
    PB_RETURN(b->visit(b, PB_OP_linear, &linear, shape));
    PB_RETURN(pb_quantize4(b->dev, &quantize));
    strncat(shape, " nf4", sizeof shape - strlen(shape) - 1);
    PB_RETURN(b->visit(b, PB_OP_linear, &nf4, shape));
    snprintf(shape, sizeof shape, "%lld x %lld nf4", (long long)b->FF, (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_quantize4, &quantize, shape));
    PB_RETURN(b->visit(b, PB_OP_dequantize4, &dequantize, shape));
    snprintf(shape, sizeof shape, "%lld x %lld rank %d", (long long)b->rows, (long long)b->C, RANK);
    PB_RETURN(b->visit(b, PB_OP_lowrank, &low, shape));
    return b->visit(b, PB_OP_lowrank_bwd, &low_bwd, shape);
}

static pb_status pointwise(pb_layer *b) {
    pb_tensor x, y, d, res, gamma, beta, mean, rstd, wide, wide2, wide3,
        wide4, sums, one;
    char shape[64];
    pb_dtype M = pb_dtype_master(b->dtype);
    PB_RETURN(matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->C, &y));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->C, &d));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->C, &res));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->FF, &wide));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->FF, &wide2));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->FF, &wide3));
    PB_RETURN(matrix(b, b->dtype, b->rows, b->FF, &wide4));
    PB_RETURN(vector(b, M, b->C, -1, 1, &sums));
    PB_RETURN(vector(b, M, 1, -1, 1, &one));
    PB_RETURN(vector(b, b->dtype, b->C, 0.5, 1.5, &gamma));
    PB_RETURN(vector(b, b->dtype, b->C, -1, 1, &beta));
    PB_RETURN(vector(b, M, b->rows, -1, 1, &mean));
    PB_RETURN(vector(b, M, b->rows, 0.5, 1.5, &rstd));
    pb_act_fwd_args act = {.act = PB_ACT_GELU, .x = wide, .y = wide2};
    pb_act_bwd_args act_bwd = {.act = PB_ACT_GELU, .x = wide, .dy = wide2, .dx = wide3};
    pb_swiglu_fwd_args swiglu = {.gate = wide, .up = wide2, .y = wide3};
    pb_swiglu_bwd_args swiglu_bwd = {
        .gate = wide, .up = wide2, .dy = wide3, .dgate = wide3, .dup = wide4};
    pb_scale_cols_args scale_cols = {.x = x, .c = gamma, .bias = beta, .y = y};
    pb_coldot_args coldot = {.a = x, .b = d, .y = sums};
    pb_reduce_args reduce = {.x = x, .y = one, .square = true, .alpha = 1};
    pb_fill_uniform_args uniform = {.x = y, .lo = -1, .hi = 1, .key = 3, .stream = 4};
    pb_dropout_args dropout = {.x = x, .y = y, .drop = {.p = 0.1f, .key = 1, .stream = 2}};
    pb_norm_fwd_args norm = {.norm = PB_NORM_LAYER,
                             .x = x,
                             .res = res,
                             .gamma = gamma,
                             .beta = beta,
                             .y = y,
                             .sum = d,
                             .mean = mean,
                             .rstd = rstd,
                             .eps = 1e-5};
    pb_norm_bwd_args norm_bwd = {.norm = PB_NORM_LAYER,
                                 .dy = y,
                                 .sum = d,
                                 .gamma = gamma,
                                 .mean = mean,
                                 .rstd = rstd,
                                 .dx = x};
    pb_axpby_args axpby = {.x = x, .y = y, .alpha = 1, .beta = 1};
    snprintf(shape, sizeof shape, "%lld x %lld gelu", (long long)b->rows, (long long)b->FF);
    PB_RETURN(b->visit(b, PB_OP_act_fwd, &act, shape));
    PB_RETURN(b->visit(b, PB_OP_act_bwd, &act_bwd, shape));
    snprintf(shape, sizeof shape, "%lld x %lld", (long long)b->rows, (long long)b->FF);
    PB_RETURN(b->visit(b, PB_OP_swiglu_fwd, &swiglu, shape));
    PB_RETURN(b->visit(b, PB_OP_swiglu_bwd, &swiglu_bwd, shape));
    snprintf(shape, sizeof shape, "%lld x %lld", (long long)b->rows, (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_dropout, &dropout, shape));
    PB_RETURN(b->visit(b, PB_OP_axpby, &axpby, shape));
    PB_RETURN(b->visit(b, PB_OP_scale_cols, &scale_cols, shape));
    PB_RETURN(b->visit(b, PB_OP_coldot, &coldot, shape));
    PB_RETURN(b->visit(b, PB_OP_reduce, &reduce, shape));
    PB_RETURN(b->visit(b, PB_OP_fill_uniform, &uniform, shape));
    strncat(shape, " layer", sizeof shape - strlen(shape) - 1);
    PB_RETURN(b->visit(b, PB_OP_norm_fwd, &norm, shape));
    return b->visit(b, PB_OP_norm_bwd, &norm_bwd, shape);
}

static pb_status sequence(pb_layer *b) {
    pb_tensor q, k, v, o, lse, cu, dout, dq, dk, dv, pooled, word, ids, positions, y,
        inv_freq, dword, first, rows_of;
    char shape[64];
    int64_t sequences = b->rows / SEQUENCE, rows = sequences * SEQUENCE;
    pb_dtype M = pb_dtype_master(b->dtype);
    int64_t heads = b->NH * b->HS, kv = b->NKV * b->HS;
    pb_tensor *const queries[] = {&q, &o, &dout, &dq}, *const keys[] = {&k, &v, &dk, &dv};
    for (int i = 0; i < 4; i++) PB_RETURN(matrix(b, b->dtype, rows, heads, queries[i]));
    for (int i = 0; i < 4; i++) PB_RETURN(matrix(b, b->dtype, rows, kv, keys[i]));
    PB_RETURN(vector(b, M, rows * b->NH, 0, 1, &lse));
    PB_RETURN(indices(b, sequences + 1, 0, SEQUENCE, &cu));
    pb_attention_fwd_args fwd = {.q = q,
                                 .k = k,
                                 .v = v,
                                 .o = o,
                                 .lse = lse,
                                 .cu = cu,
                                 .heads = b->NH,
                                 .kv_heads = b->NKV,
                                 .head_dim = b->HS,
                                 .sequences = sequences,
                                 .max_len = SEQUENCE,
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
                                 .heads = b->NH,
                                 .kv_heads = b->NKV,
                                 .head_dim = b->HS,
                                 .sequences = sequences,
                                 .max_len = SEQUENCE,
                                 .scale = fwd.scale};
    snprintf(shape, sizeof shape, "%lld x %d, %lld heads of %lld", (long long)sequences, SEQUENCE,
             (long long)b->NH, (long long)b->HS);
    PB_RETURN(b->visit(b, PB_OP_attention_fwd, &fwd, shape));
    PB_RETURN(b->visit(b, PB_OP_attention_bwd, &bwd, shape));
    PB_RETURN(matrix(b, b->dtype, sequences, heads, &pooled));
    pb_pool_fwd_args pool = {.pool = PB_POOL_MEAN, .x = q, .cu = cu, .y = pooled};
    snprintf(shape, sizeof shape, "%lld x %lld", (long long)rows, (long long)heads);
    PB_RETURN(b->visit(b, PB_OP_pool_fwd, &pool, shape));
    pb_pool_bwd_args pool_bwd = {.pool = PB_POOL_MEAN, .dy = pooled, .cu = cu, .dx = dq};
    PB_RETURN(b->visit(b, PB_OP_pool_bwd, &pool_bwd, shape));
    PB_RETURN(matrix(b, b->dtype, b->V, b->C, &word));
    PB_RETURN(matrix(b, b->dtype, rows, b->C, &y));
    PB_RETURN(indices(b, rows, b->V, 0, &ids));
    PB_RETURN(indices(b, rows, SEQUENCE, 0, &positions));
    pb_embed_fwd_args embed = {.word = word, .ids = ids, .positions = positions, .y = y};
    snprintf(shape, sizeof shape, "%lld of %lld x %lld", (long long)rows, (long long)b->V,
             (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_embed_fwd, &embed, shape));
    PB_RETURN(zeros(b, M, b->V, b->C, &dword));
    pb_embed_bwd_args embed_bwd = {.ids = ids, .positions = positions, .dy = y, .dword = dword};
    PB_RETURN(b->visit(b, PB_OP_embed_bwd, &embed_bwd, shape));
    PB_RETURN(vector(b, M, b->HS / 2, 0, 1, &inv_freq));
    pb_rope_args rope = {.x = q, .inv_freq = inv_freq, .positions = positions, .heads = b->NH};
    snprintf(shape, sizeof shape, "%lld x %lld heads of %lld", (long long)rows, (long long)b->NH,
             (long long)b->HS);
    PB_RETURN(b->visit(b, PB_OP_rope, &rope, shape));
    PB_RETURN(indices(b, sequences, 0, SEQUENCE, &first));
    PB_RETURN(matrix(b, b->dtype, sequences, b->C, &rows_of));
    pb_gather_rows_args gather = {.x = y, .idx = first, .y = rows_of};
    pb_scatter_rows_args scatter = {.x = rows_of, .idx = first, .y = y};
    snprintf(shape, sizeof shape, "%lld of %lld x %lld", (long long)sequences, (long long)rows,
             (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_gather_rows, &gather, shape));
    return b->visit(b, PB_OP_scatter_rows, &scatter, shape);
}

static pb_status training(pb_layer *b) {
    pb_tensor logits, target, loss, pred, w, g, m, v, copy = {0}, m8, v8, ma, va, norm, coef,
                                                      weight, w2, a, bb, n, c, mag,
                                                      score, gram, term;
    char shape[64];
    pb_dtype M = pb_dtype_master(b->dtype);
    int64_t numel = b->FF * b->C, blocks = (numel + 255) / 256, rows = 64;
    PB_RETURN(matrix(b, b->dtype, rows, b->V, &logits));
    PB_RETURN(indices(b, rows, b->V, 0, &target));
    PB_RETURN(vector(b, M, rows, 0, 1, &loss));
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_DATA, PB_I32, rows, &pred));
    PB_RETURN(keep(b, pred));
    pb_tensor *const vectors[] = {&w, &g, &m};
    for (int i = 0; i < 3; i++) PB_RETURN(matrix(b, M, b->FF, b->C, vectors[i]));
    PB_RETURN(zeros(b, M, b->FF, b->C, &v)); /* second moments are not negative */
    if (b->dtype == PB_BF16) PB_RETURN(matrix(b, b->dtype, b->FF, b->C, &copy));
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_DATA, PB_U8, numel, &m8));
    PB_RETURN(keep(b, m8));
    PB_RETURN(pb_alloc1(b->dev, PB_MEM_DATA, PB_U8, numel, &v8));
    PB_RETURN(keep(b, v8));
    PB_RETURN(vector(b, M, blocks, 0.1, 0.2, &ma));
    PB_RETURN(vector(b, M, blocks, 0.1, 0.2, &va));
    PB_RETURN(vector(b, M, 1, 0, 1, &norm));
    PB_RETURN(vector(b, M, 1, 0, 1, &coef));
    pb_cross_entropy_args ce = {.logits = logits,
                                .target = target,
                                .loss = loss,
                                .pred = pred,
                                .dlogits = logits,
                                .scale = 1.0 / (double)rows};
    pb_adamw_item item = {
        .w = w, .g = g, .m = m, .v = v, .copy = copy, .lr = 1e-3, .weight_decay = 0.01};
    pb_adamw_args adamw = {
        .items = &item, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 10};
    pb_adamw8_item item8 = {.w = w,
                            .g = g,
                            .copy = copy,
                            .m = m8,
                            .v = v8,
                            .m_absmax = ma,
                            .v_absmax = va,
                            .lr = 1e-3,
                            .weight_decay = 0.01};
    pb_adamw8_args adamw8 = {
        .items = &item8, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 10};
    pb_grad_norm_args grad_norm = {.grads = &g, .n = 1, .norm = norm, .coef = coef, .max_norm = 1};
    snprintf(shape, sizeof shape, "%lld x %lld", (long long)rows, (long long)b->V);
    PB_RETURN(b->visit(b, PB_OP_cross_entropy, &ce, shape));
    snprintf(shape, sizeof shape, "%lld x %lld", (long long)b->FF, (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_grad_norm, &grad_norm, shape));
    PB_RETURN(b->visit(b, PB_OP_adamw, &adamw, shape));
    PB_RETURN(b->visit(b, PB_OP_adamw8, &adamw8, shape));
    PB_RETURN(matrix(b, b->dtype, b->FF, b->C, &weight));
    PB_RETURN(matrix(b, b->dtype, RANK, b->C, &a));
    PB_RETURN(matrix(b, b->dtype, b->FF, RANK, &bb));
    pb_tensor *const sums[] = {&w2, &n, &c, &mag};
    for (int i = 0; i < 4; i++) PB_RETURN(vector(b, M, b->FF, 1, 2, sums[i]));
    pb_weight_norm2_args norm2 = {.w = {.dense = weight}, .y = w2};
    pb_dora_norm_args dora = {
        .w = {.dense = weight}, .w2 = w2, .a = a, .b = bb, .m = mag, .n = n, .c = c, .scale = 2};
    PB_RETURN(b->visit(b, PB_OP_weight_norm2, &norm2, shape));
    PB_RETURN(pb_weight_norm2(b->dev, &norm2)); /* the next op believes it */
    PB_RETURN(b->visit(b, PB_OP_dora_norm, &dora, shape));
    PB_RETURN(vector(b, M, b->FF, 0, 1, &score));
    PB_RETURN(matrix(b, M, RANK, RANK, &gram));
    PB_RETURN(vector(b, M, 1, 0, 1, &term));
    pb_dora_exact_args exact = {.g = g, .v = w, .m = mag, .n = n};
    pb_importance_args importance = {
        .w = w, .g = g, .ibar = m, .ubar = v, .score = score, .beta1 = 0.85, .beta2 = 0.85};
    pb_orthogonality_args orthogonality = {.gram = gram, .loss = term, .weight = 0.5};
    PB_RETURN(b->visit(b, PB_OP_dora_exact, &exact, shape));
    PB_RETURN(b->visit(b, PB_OP_importance, &importance, shape));
    snprintf(shape, sizeof shape, "%d x %d", RANK, RANK);
    return b->visit(b, PB_OP_orthogonality, &orthogonality, shape);
}

/* ---- all of them ---- */

pb_status pb_layer_sizes(const char *model, int64_t rows, pb_layer *out) {
    pb_model_config c;
    char path[1024];
    PB_RETURN(pb_suite_model("--model", model, NULL, path));
    if (strncmp(path, "shape:", 6) == 0) {
        PB_RETURN(pb_model_shape(path + 6, &c));
    } else {
        PB_RETURN(pb_model_config_load(path, &c));
    }
    *out = (pb_layer){
        .rows = rows, .C = c.C, .FF = c.FF, .V = c.V, .NH = c.NH, .NKV = c.NKV, .HS = c.HS};
    return PB_OK;
}

pb_status pb_layer_walk(pb_layer *b, int group) {
    static pb_status (*const groups[PB_LAYER_GROUPS])(pb_layer *) = {products, pointwise, sequence,
                                                                     training};
    static const pb_mem memories[] = {PB_MEM_DATA, PB_MEM_BASE, PB_MEM_QUANT};
    pb_mark marks[3];
    PB_ASSERT(group >= 0 && group < PB_LAYER_GROUPS);
    for (int i = 0; i < 3; i++) marks[i] = pb_device_mark(b->dev, memories[i]);
    b->stream = 0;
    b->n_tensors = 0;
    pb_status status = groups[group](b);
    for (int i = 0; i < 3; i++) pb_device_rewind(b->dev, memories[i], marks[i]);
    b->n_tensors = 0;
    return status;
}

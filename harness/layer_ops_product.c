/* Products of a layer: dense and 4-bit weights, forward and for the input's gradient; the low-rank
 * branch. */
#include <string.h>

#include "harness/layer_ops_impl.h"

static void shape_of(char out[PB_LAYER_SHAPE], int64_t rows, int64_t in, int64_t to,
                     const char *more) {
    snprintf(out, PB_LAYER_SHAPE, "%lld x %lld -> %lld%s", (long long)rows, (long long)in,
             (long long)to, more);
}

pb_status pb_layer_dense(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor x, y, wide, w, up, bias;
    char shape[PB_LAYER_SHAPE];
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &y));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &wide));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->C, b->C, &w));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &up));
    PB_RETURN(pb_layer_vector(b, b->dtype, b->FF, -1, 1, &bias));
    pb_gemm_args gemm = {.a = x, .b = w, .c = y, .trans_b = true, .alpha = 1};
    pb_linear_args linear = {.x = x, .y = wide, .bias = bias, .w = {.dense = up}};
    snprintf(shape, sizeof shape, "%lld x %lld x %lld", (long long)b->rows, (long long)b->C,
             (long long)b->C);
    PB_RETURN(b->visit(b, PB_OP_gemm, &gemm, shape));
    shape_of(shape, b->rows, b->C, b->FF, "");
    return b->visit(b, PB_OP_linear, &linear, shape);
}

/* A product with its activation, and the gradient back through both. */
pb_status pb_layer_gelu(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor x, wide, pre, up, down, bias;
    char shape[PB_LAYER_SHAPE];
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &wide));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &pre));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &up));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->C, b->FF, &down));
    PB_RETURN(pb_layer_vector(b, b->dtype, b->FF, -1, 1, &bias));
    pb_linear_gelu_args fwd = {.x = x, .w = up, .bias = bias, .y = wide, .pre = pre};
    pb_gelu_linear_bwd_args bwd = {.dy = x, .w = down, .pre = pre, .dx = wide};
    shape_of(shape, b->rows, b->C, b->FF, "");
    PB_RETURN(b->visit(b, PB_OP_linear_gelu, &fwd, shape));
    return b->visit(b, PB_OP_gelu_linear_bwd, &bwd, shape);
}

/* The gradient of the input, dx = dy W, and the product back to the layer's width; where keys and values
 * are narrower than queries, theirs too. */
pb_status pb_layer_backward(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor x, wide, up, down, kv_weight, kv;
    char shape[PB_LAYER_SHAPE];
    int64_t narrow = b->NKV * b->HS;
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &wide));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &up));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->C, b->FF, &down));
    pb_linear_args back = {.x = wide, .y = x, .w = {.dense = up}, .transpose = true};
    pb_linear_args linear = {.x = wide, .y = x, .w = {.dense = down}};
    shape_of(shape, b->rows, b->FF, b->C, " transposed");
    PB_RETURN(b->visit(b, PB_OP_linear, &back, shape));
    shape_of(shape, b->rows, b->FF, b->C, "");
    PB_RETURN(b->visit(b, PB_OP_linear, &linear, shape));
    if (b->NKV >= b->NH) return PB_OK;
    PB_RETURN(pb_layer_matrix(b, b->dtype, narrow, b->C, &kv_weight));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, narrow, &kv));
    pb_linear_args keys = {.x = x, .y = kv, .w = {.dense = kv_weight}};
    shape_of(shape, b->rows, b->C, narrow, "");
    return b->visit(b, PB_OP_linear, &keys, shape);
}

/* ---- 4-bit weights ---- */

static pb_status make_quant(pb_layer *b, pb_code code, pb_quant4 *q) {
    PB_RETURN(pb_quant4_alloc(b->dev, code, 64, true, b->dtype, b->FF, b->C, q));
    PB_RETURN(pb_layer_keep(b, q->codes));
    PB_RETURN(pb_layer_keep(b, q->absmax_q));
    PB_RETURN(pb_layer_keep(b, q->absmax2));
    return pb_layer_keep(b, q->offset);
}

pb_status pb_layer_coded(pb_layer *b, int64_t value) {
    pb_code code = (pb_code)value;
    pb_tensor x, wide, up, bias;
    pb_quant4 q;
    char shape[PB_LAYER_SHAPE], more[16];
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &wide));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &up));
    PB_RETURN(pb_layer_vector(b, b->dtype, b->FF, -1, 1, &bias));
    PB_RETURN(make_quant(b, code, &q));
    pb_linear_args linear = {.x = x, .y = wide, .bias = bias, .w = {.quant = &q}};
    pb_quantize4_args quantize = {.src = up, .q = q};
    pb_dequantize4_args dequantize = {.q = q, .dst = up};
    snprintf(more, sizeof more, " %s", pb_code_name(code));
    snprintf(shape, sizeof shape, "%lld x %lld%s", (long long)b->FF, (long long)b->C, more);
    PB_RETURN(b->visit(b, PB_OP_quantize4, &quantize, shape));
    PB_RETURN(pb_quantize4(b->dev, &quantize)); /* the others read what it writes */
    PB_RETURN(b->visit(b, PB_OP_dequantize4, &dequantize, shape));
    shape_of(shape, b->rows, b->C, b->FF, more);
    return b->visit(b, PB_OP_linear, &linear, shape);
}

pb_status pb_layer_coded_backward(pb_layer *b, int64_t value) {
    pb_code code = (pb_code)value;
    pb_tensor x, wide, up;
    pb_quant4 q;
    char shape[PB_LAYER_SHAPE], more[24];
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &wide));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &up));
    PB_RETURN(make_quant(b, code, &q));
    pb_quantize4_args quantize = {.src = up, .q = q};
    pb_linear_args back = {.x = wide, .y = x, .w = {.quant = &q}, .transpose = true};
    PB_RETURN(pb_quantize4(b->dev, &quantize));
    snprintf(more, sizeof more, " %s transposed", pb_code_name(code));
    shape_of(shape, b->rows, b->FF, b->C, more);
    return b->visit(b, PB_OP_linear, &back, shape);
}

/* ---- low rank ---- */

pb_status pb_layer_low_rank(pb_layer *b, int64_t rank) {
    pb_tensor x, y, a, bb, h, da, db;
    char shape[PB_LAYER_SHAPE];
    pb_dtype M = pb_dtype_master(b->dtype);
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &y));
    PB_RETURN(pb_layer_matrix(b, b->dtype, rank, b->C, &a));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->C, rank, &bb));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, rank, &h));
    PB_RETURN(pb_layer_matrix(b, M, rank, b->C, &da));
    PB_RETURN(pb_layer_matrix(b, M, b->C, rank, &db));
    pb_lowrank_args low = {.x = x, .a = a, .b = bb, .y = y, .h = h, .scale = 2};
    pb_lowrank_bwd_args back = {
        .x = x, .h = h, .a = a, .b = bb, .dy = y, .da = da, .db = db, .scale = 2, .beta_dx = 1};
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &back.dx));
    snprintf(shape, sizeof shape, "%lld x %lld rank %lld", (long long)b->rows, (long long)b->C,
             (long long)rank);
    PB_RETURN(b->visit(b, PB_OP_lowrank, &low, shape));
    return b->visit(b, PB_OP_lowrank_bwd, &back, shape);
}

/* A product with one short side, as the low-rank branch makes it. */
pb_status pb_layer_thin(pb_layer *b, int64_t rank) {
    pb_tensor x, a, h;
    char shape[PB_LAYER_SHAPE];
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, rank, b->C, &a));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, rank, &h));
    pb_gemm_args gemm = {.a = x, .b = a, .c = h, .trans_b = true, .alpha = 1};
    snprintf(shape, sizeof shape, "%lld x %lld x %lld", (long long)b->rows, (long long)b->C,
             (long long)rank);
    return b->visit(b, PB_OP_gemm, &gemm, shape);
}

/* Elementwise ops of a layer, and its norms. */
#include <string.h>

#include "harness/layer_ops_impl.h"

static void shape_of(char out[PB_LAYER_SHAPE], int64_t rows, int64_t cols, const char *more) {
    snprintf(out, PB_LAYER_SHAPE, "%lld x %lld%s%s", (long long)rows, (long long)cols,
             *more ? " " : "", more);
}

static pb_status activation(pb_layer *b, pb_act act, pb_tensor x, pb_tensor y, pb_tensor dx) {
    char shape[PB_LAYER_SHAPE];
    pb_act_fwd_args fwd = {.act = act, .x = x, .y = y};
    pb_act_bwd_args bwd = {.act = act, .x = x, .dy = y, .dx = dx};
    shape_of(shape, b->rows, b->FF, pb_act_name(act));
    PB_RETURN(b->visit(b, PB_OP_act_fwd, &fwd, shape));
    return b->visit(b, PB_OP_act_bwd, &bwd, shape);
}

pb_status pb_layer_activations(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor wide[4];
    char shape[PB_LAYER_SHAPE];
    for (int i = 0; i < 4; i++)
        PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &wide[i]));
    pb_swiglu_fwd_args swiglu = {.gate = wide[0], .up = wide[1], .y = wide[2]};
    pb_swiglu_bwd_args swiglu_bwd = {
        .gate = wide[0], .up = wide[1], .dy = wide[2], .dgate = wide[2], .dup = wide[3]};
    PB_RETURN(activation(b, b->act, wide[0], wide[1], wide[2]));
    shape_of(shape, b->rows, b->FF, "");
    PB_RETURN(b->visit(b, PB_OP_swiglu_fwd, &swiglu, shape));
    return b->visit(b, PB_OP_swiglu_bwd, &swiglu_bwd, shape);
}

pb_status pb_layer_other_activations(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor wide[3];
    for (int i = 0; i < 3; i++)
        PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->FF, &wide[i]));
    for (int act = 0; act < PB_ACT_COUNT; act++)
        if ((pb_act)act != b->act)
            PB_RETURN(activation(b, (pb_act)act, wide[0], wide[1], wide[2]));
    return PB_OK;
}

pb_status pb_layer_elements(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor x, y, d, scale, bias, sums, one;
    char shape[PB_LAYER_SHAPE];
    pb_dtype M = pb_dtype_master(b->dtype);
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &y));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &d));
    PB_RETURN(pb_layer_vector(b, M, b->C, -1, 1, &sums));
    PB_RETURN(pb_layer_vector(b, M, 1, -1, 1, &one));
    PB_RETURN(pb_layer_vector(b, b->dtype, b->C, 0.5, 1.5, &scale));
    PB_RETURN(pb_layer_vector(b, b->dtype, b->C, -1, 1, &bias));
    pb_scale_cols_args scale_cols = {.x = x, .c = scale, .bias = bias, .y = y};
    pb_coldot_args coldot = {.a = x, .b = d, .y = sums};
    pb_reduce_args reduce = {.x = x, .y = one, .square = true, .alpha = 1};
    pb_fill_uniform_args uniform = {.x = y, .lo = -1, .hi = 1, .key = 3, .stream = 4};
    pb_dropout_args dropout = {.x = x, .y = y, .drop = {.p = 0.1f, .key = 1, .stream = 2}};
    pb_axpby_args axpby = {.x = x, .y = y, .alpha = 1, .beta = 1};
    shape_of(shape, b->rows, b->C, "");
    PB_RETURN(b->visit(b, PB_OP_dropout, &dropout, shape));
    PB_RETURN(b->visit(b, PB_OP_axpby, &axpby, shape));
    PB_RETURN(b->visit(b, PB_OP_scale_cols, &scale_cols, shape));
    PB_RETURN(b->visit(b, PB_OP_coldot, &coldot, shape));
    PB_RETURN(b->visit(b, PB_OP_reduce, &reduce, shape));
    return b->visit(b, PB_OP_fill_uniform, &uniform, shape);
}

/* ---- norms ---- */

/* weights: the backward pass gives the gradients of gamma and beta too. */
static pb_status norms(pb_layer *b, bool weights) {
    pb_tensor x, y, sum, res, gamma, beta = {0}, mean = {0}, rstd, dgamma = {0}, dbeta = {0};
    char shape[PB_LAYER_SHAPE];
    pb_dtype M = pb_dtype_master(b->dtype);
    bool layer = b->norm == PB_NORM_LAYER;
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &x));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &y));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &sum));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->rows, b->C, &res));
    PB_RETURN(pb_layer_vector(b, b->dtype, b->C, 0.5, 1.5, &gamma));
    PB_RETURN(pb_layer_vector(b, M, b->rows, 0.5, 1.5, &rstd));
    if (layer) {
        PB_RETURN(pb_layer_vector(b, b->dtype, b->C, -1, 1, &beta));
        PB_RETURN(pb_layer_vector(b, M, b->rows, -1, 1, &mean));
    }
    if (weights) PB_RETURN(pb_layer_vector(b, M, b->C, -1, 1, &dgamma));
    if (weights && layer) PB_RETURN(pb_layer_vector(b, M, b->C, -1, 1, &dbeta));
    pb_norm_fwd_args fwd = {.norm = b->norm,
                            .x = x,
                            .res = res,
                            .gamma = gamma,
                            .beta = beta,
                            .y = y,
                            .sum = sum,
                            .mean = mean,
                            .rstd = rstd,
                            .eps = 1e-5};
    pb_norm_bwd_args bwd = {.norm = b->norm,
                            .dy = y,
                            .sum = sum,
                            .gamma = gamma,
                            .mean = mean,
                            .rstd = rstd,
                            .dx = x,
                            .dgamma = dgamma,
                            .dbeta = dbeta};
    shape_of(shape, b->rows, b->C, layer ? "layer" : "rms");
    if (weights) strncat(shape, " weights", sizeof shape - strlen(shape) - 1);
    if (!weights) PB_RETURN(b->visit(b, PB_OP_norm_fwd, &fwd, shape));
    return b->visit(b, PB_OP_norm_bwd, &bwd, shape);
}

pb_status pb_layer_norms(pb_layer *b, int64_t none) {
    (void)none;
    return norms(b, false);
}

pb_status pb_layer_norm_weights(pb_layer *b, int64_t none) {
    (void)none;
    return norms(b, true);
}

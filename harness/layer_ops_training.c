/* What a training step does beside the model: loss, optimizers, and what single methods need. */
#include "harness/layer_ops_impl.h"

#define LOSS_ROWS 64
#define RANK 8

static void shape_of(char out[PB_LAYER_SHAPE], int64_t rows, int64_t cols) {
    snprintf(out, PB_LAYER_SHAPE, "%lld x %lld", (long long)rows, (long long)cols);
}

pb_status pb_layer_loss(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor logits, target, loss, pred;
    char shape[PB_LAYER_SHAPE];
    PB_RETURN(pb_layer_matrix(b, b->dtype, LOSS_ROWS, b->V, &logits));
    PB_RETURN(pb_layer_indices(b, LOSS_ROWS, b->V, 0, &target));
    PB_RETURN(pb_layer_vector(b, pb_dtype_master(b->dtype), LOSS_ROWS, 0, 1, &loss));
    PB_RETURN(pb_layer_indices(b, LOSS_ROWS, 1, 0, &pred));
    pb_cross_entropy_args ce = {.logits = logits,
                                .target = target,
                                .loss = loss,
                                .pred = pred,
                                .dlogits = logits,
                                .scale = 1.0 / LOSS_ROWS};
    shape_of(shape, LOSS_ROWS, b->V);
    return b->visit(b, PB_OP_cross_entropy, &ce, shape);
}

/* ---- optimizers ---- */

/* Of one weight. Second moments as after some steps with such gradients: not 0, where the update would
 * be as large as it can be, and its error too. */
pb_status pb_layer_adamw(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor w, g, m, v, copy = {0}, norm, coef;
    char shape[PB_LAYER_SHAPE];
    pb_dtype M = pb_dtype_master(b->dtype);
    pb_tensor *const matrices[] = {&w, &g, &m};
    for (int i = 0; i < 3; i++) PB_RETURN(pb_layer_matrix(b, M, b->FF, b->C, matrices[i]));
    PB_RETURN(pb_layer_between(b, M, b->FF, b->C, 0.01, 1, &v));
    if (b->dtype == PB_BF16) PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &copy));
    PB_RETURN(pb_layer_vector(b, M, 1, 0, 1, &norm));
    PB_RETURN(pb_layer_vector(b, M, 1, 0, 1, &coef));
    pb_adamw_item item = {
        .w = w, .g = g, .m = m, .v = v, .copy = copy, .lr = 1e-3, .weight_decay = 0.01};
    pb_adamw_args adamw = {
        .items = &item, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 10};
    pb_grad_norm_args grad_norm = {.grads = &g, .n = 1, .norm = norm, .coef = coef, .max_norm = 1};
    shape_of(shape, b->FF, b->C);
    PB_RETURN(b->visit(b, PB_OP_grad_norm, &grad_norm, shape));
    return b->visit(b, PB_OP_adamw, &adamw, shape);
}

pb_status pb_layer_adamw8(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor w, g, copy = {0}, m, v, ma, va;
    char shape[PB_LAYER_SHAPE];
    pb_dtype M = pb_dtype_master(b->dtype);
    int64_t numel = b->FF * b->C, blocks = (numel + 255) / 256;
    PB_RETURN(pb_layer_matrix(b, M, b->FF, b->C, &w));
    PB_RETURN(pb_layer_matrix(b, M, b->FF, b->C, &g));
    if (b->dtype == PB_BF16) PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &copy));
    PB_RETURN(pb_layer_codes(b, numel, &m));
    PB_RETURN(pb_layer_codes(b, numel, &v));
    PB_RETURN(pb_layer_vector(b, M, blocks, 0.1, 0.2, &ma));
    PB_RETURN(pb_layer_vector(b, M, blocks, 0.1, 0.2, &va));
    pb_adamw8_item item = {.w = w,
                           .g = g,
                           .copy = copy,
                           .m = m,
                           .v = v,
                           .m_absmax = ma,
                           .v_absmax = va,
                           .lr = 1e-3,
                           .weight_decay = 0.01};
    pb_adamw8_args adamw8 = {
        .items = &item, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 10};
    shape_of(shape, b->FF, b->C);
    return b->visit(b, PB_OP_adamw8, &adamw8, shape);
}

/* ---- methods ---- */

pb_status pb_layer_dora(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor weight, a, bb, w2, n, c, mag, g, v;
    char shape[PB_LAYER_SHAPE];
    pb_dtype M = pb_dtype_master(b->dtype);
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, b->C, &weight));
    PB_RETURN(pb_layer_matrix(b, b->dtype, RANK, b->C, &a));
    PB_RETURN(pb_layer_matrix(b, b->dtype, b->FF, RANK, &bb));
    PB_RETURN(pb_layer_matrix(b, M, b->FF, b->C, &g));
    PB_RETURN(pb_layer_matrix(b, M, b->FF, b->C, &v));
    pb_tensor *const sums[] = {&w2, &n, &c, &mag};
    for (int i = 0; i < 4; i++) PB_RETURN(pb_layer_vector(b, M, b->FF, 1, 2, sums[i]));
    pb_weight_norm2_args norm2 = {.w = {.dense = weight}, .y = w2};
    pb_dora_norm_args dora = {
        .w = {.dense = weight}, .w2 = w2, .a = a, .b = bb, .m = mag, .n = n, .c = c, .scale = 2};
    pb_dora_exact_args exact = {.g = g, .v = v, .m = mag, .n = n};
    shape_of(shape, b->FF, b->C);
    PB_RETURN(b->visit(b, PB_OP_weight_norm2, &norm2, shape));
    PB_RETURN(pb_weight_norm2(b->dev, &norm2)); /* the next op believes it */
    PB_RETURN(b->visit(b, PB_OP_dora_norm, &dora, shape));
    return b->visit(b, PB_OP_dora_exact, &exact, shape);
}

pb_status pb_layer_adalora(pb_layer *b, int64_t none) {
    (void)none;
    pb_tensor w, g, ibar, ubar, score, gram, term;
    char shape[PB_LAYER_SHAPE];
    pb_dtype M = pb_dtype_master(b->dtype);
    PB_RETURN(pb_layer_matrix(b, M, b->FF, b->C, &w));
    PB_RETURN(pb_layer_matrix(b, M, b->FF, b->C, &g));
    PB_RETURN(pb_layer_between(b, M, b->FF, b->C, 0, 1, &ibar));
    PB_RETURN(pb_layer_between(b, M, b->FF, b->C, 0, 1, &ubar));
    PB_RETURN(pb_layer_vector(b, M, b->FF, 0, 1, &score));
    PB_RETURN(pb_layer_matrix(b, M, RANK, RANK, &gram));
    PB_RETURN(pb_layer_vector(b, M, 1, 0, 1, &term));
    pb_importance_args importance = {
        .w = w, .g = g, .ibar = ibar, .ubar = ubar, .score = score, .beta1 = 0.85, .beta2 = 0.85};
    pb_orthogonality_args orthogonality = {.gram = gram, .loss = term, .weight = 0.5};
    shape_of(shape, b->FF, b->C);
    PB_RETURN(b->visit(b, PB_OP_importance, &importance, shape));
    shape_of(shape, RANK, RANK);
    return b->visit(b, PB_OP_orthogonality, &orthogonality, shape);
}

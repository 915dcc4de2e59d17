/* What hooks share at a site (site.h): dropout streams, memory for what backward needs, and the
 * base path y = x W^T + b with its gradients. Test: tests/test_methods_unit.c. */
#include "methods/site.h"

#include "kernels/core/rng.h"

pb_drop pb_pass_dropout(const pb_pass *pass, int site_id, int slot, double p) {
    if (!pass->train || p == 0) return (pb_drop){0};
    PB_ASSERT(site_id >= 0 && site_id < 1 << 20 && slot >= 0 && slot < 1 << 8);
    PB_ASSERT(pass->step >= 0 && pass->micro >= 0 && pass->micro < (int64_t)1 << 32);
    uint64_t place = (uint64_t)pass->micro << 28 | (uint64_t)site_id << 8 | (uint64_t)slot;
    return (pb_drop){.p = (float)p,
                     .key = pass->seed,
                     .stream = pb_random_stream("dropout", (uint64_t)pass->step, place)};
}

pb_mem pb_pass_keep(const pb_pass *pass) { return pass->train ? PB_MEM_ACT : PB_MEM_WORK; }

pb_weight pb_site_weight(const pb_site *site) {
    PB_ASSERT(site->kind == PB_SITE_LINEAR && site->weight);
    return (pb_weight){.dense = site->weight->value, .quant = site->weight->quant};
}

pb_status pb_site_base_fwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor y,
                           bool with_bias) {
    pb_linear_args args = {.x = x, .y = y, .w = pb_site_weight(site)};
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_BASE);
    if (with_bias && site->bias) args.bias = site->bias->value;
    return pb_linear(pass->dev, &args);
}

pb_status pb_linear_grads(pb_device *dev, const pb_param *weight, const pb_param *bias, pb_tensor x,
                          pb_tensor dy) {
    if (weight && weight->trainable) {
        pb_gemm_args gemm = {
            .a = dy, .b = x, .c = weight->grad, .trans_a = true, .alpha = 1, .beta = 1};
        PB_RETURN(pb_gemm(dev, &gemm));
    }
    if (bias && bias->trainable)
        PB_RETURN(pb_coldot(dev, &(pb_coldot_args){.a = dy, .y = bias->grad}));
    return PB_OK;
}

pb_status pb_site_base_bwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor dy,
                           pb_tensor dx, double beta_dx) {
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_GRADS);
    PB_RETURN(pb_linear_grads(pass->dev, site->weight, site->bias, x, dy));
    if (!pb_has(dx)) return PB_OK;
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_BASE);
    pb_linear_args args = {
        .x = dy, .y = dx, .w = pb_site_weight(site), .transpose = true, .beta = beta_dx};
    return pb_linear(pass->dev, &args);
}

bool pb_site_takes_gelu(const pb_site *site, pb_act act) {
    return act == PB_ACT_GELU_TANH && !site->hooked && site->weight->quant == NULL;
}

pb_status pb_site_gelu_fwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor y,
                           pb_tensor pre) {
    pb_linear_gelu_args args = {.x = x, .w = site->weight->value, .y = y, .pre = pre};
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_BASE);
    if (site->bias) args.bias = site->bias->value;
    return pb_linear_gelu(pass->dev, &args);
}

pb_status pb_site_gelu_bwd(const pb_pass *pass, const pb_site *site, pb_tensor x, pb_tensor dy,
                           pb_tensor pre, pb_tensor dx) {
    pb_gelu_linear_bwd_args args = {.dy = dy, .w = site->weight->value, .pre = pre, .dx = dx};
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_GRADS);
    PB_RETURN(pb_linear_grads(pass->dev, site->weight, site->bias, x, dy));
    pb_device_scope(pass->dev, PB_SCOPE_PART, PB_SCOPED_BASE);
    return pb_gelu_linear_bwd(pass->dev, &args);
}

/* AdamW's bookkeeping: which tensors, which state, which rate. The arithmetic is in kernels/
 * (Loshchilov & Hutter 2019; 8-bit moments: Dettmers et al. 2022). Test: tests/test_trainer.c. */
#include "harness/optimizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

struct pb_optim {
    pb_device *dev;
    pb_params *params;
    pb_optim_config config;
    int64_t warmup_steps;
    int n, n8, n_grads; /* items with M and with 8-bit moments, all gradients */
    pb_adamw_item *items;
    pb_adamw8_item *items8;
    double *scale, *scale8; /* lr_scale of each item */
    pb_tensor *grads;
    pb_tensor norm, coef; /* M [1] */
};

double pb_schedule_factor(pb_schedule schedule, int64_t step, int64_t warmup_steps, int64_t steps) {
    if (step < warmup_steps) return (double)step / (double)(warmup_steps > 1 ? warmup_steps : 1);
    if (schedule == PB_SCHEDULE_CONSTANT) return 1.0;
    int64_t span = steps - warmup_steps > 1 ? steps - warmup_steps : 1;
    if (schedule == PB_SCHEDULE_LINEAR) {
        double left = (double)(steps - step) / (double)span;
        return left > 0.0 ? left : 0.0;
    }
    double progress = (double)(step - warmup_steps) / (double)span;
    double factor = 0.5 * (1.0 + cos(M_PI * progress)); /* half a period */
    return progress < 1.0 && factor > 0.0 ? factor : 0.0;
}

int64_t pb_schedule_warmup_steps(double warmup, int64_t steps) {
    double n = warmup < 1.0 ? ceil(warmup * (double)steps) : warmup;
    return n > 0.0 ? (int64_t)n : 0;
}

pb_status pb_read_scalar(pb_device *dev, pb_tensor t, double *out) {
    if (t.dtype == PB_F64) return pb_device_get(dev, out, t, sizeof *out);
    if (t.dtype != PB_F32) return pb_device_get_f64(dev, out, t);
    float value = 0.0f;
    PB_RETURN(pb_device_get(dev, &value, t, sizeof value));
    *out = (double)value;
    return PB_OK;
}

double pb_optim_lr(const pb_optim *o, int64_t step) {
    return o->config.lr *
           pb_schedule_factor(o->config.schedule, step, o->warmup_steps, o->config.steps);
}

pb_tensor pb_optim_grad_scale(const pb_optim *o) { return o->coef; }

/* The compute copy that must follow the master, no tensor when they are one. */
static pb_tensor copy_of(const pb_param *p) {
    return p->value.dtype == p->master.dtype ? (pb_tensor){0} : p->value;
}

static pb_status add_item(pb_optim *o, const pb_param *p) {
    pb_dtype M = pb_params_master(o->params);
    pb_adamw_item *item = &o->items[o->n];
    *item = (pb_adamw_item){.w = p->master, .g = p->grad, .copy = copy_of(p)};
    item->weight_decay = p->decay ? o->config.weight_decay : 0.0;
    PB_RETURN(pb_device_alloc(o->dev, PB_MEM_OPTIM, M, p->master.ndim, p->master.dim, &item->m));
    PB_RETURN(pb_device_alloc(o->dev, PB_MEM_OPTIM, M, p->master.ndim, p->master.dim, &item->v));
    o->scale[o->n++] = p->lr_scale;
    return PB_OK;
}

static pb_status add_item8(pb_optim *o, const pb_param *p) {
    pb_dtype M = pb_params_master(o->params);
    pb_adamw8_item *item = &o->items8[o->n8];
    *item = (pb_adamw8_item){.w = p->master, .g = p->grad, .copy = copy_of(p)};
    item->weight_decay = p->decay ? o->config.weight_decay : 0.0;
    int64_t blocks = (pb_numel(p->master) + 255) / 256;
    PB_RETURN(
        pb_device_alloc(o->dev, PB_MEM_OPTIM, PB_U8, p->master.ndim, p->master.dim, &item->m));
    PB_RETURN(
        pb_device_alloc(o->dev, PB_MEM_OPTIM, PB_U8, p->master.ndim, p->master.dim, &item->v));
    PB_RETURN(pb_alloc1(o->dev, PB_MEM_OPTIM, M, blocks, &item->m_absmax));
    PB_RETURN(pb_alloc1(o->dev, PB_MEM_OPTIM, M, blocks, &item->v_absmax));
    o->scale8[o->n8++] = p->lr_scale;
    return PB_OK;
}

static pb_status add_all(pb_optim *o) {
    int count = pb_params_count(o->params);
    for (int i = 0; i < count; i++) {
        const pb_param *p = pb_params_at(o->params, i);
        if (!p->trainable) continue;
        o->grads[o->n_grads++] = p->grad;
        bool small = o->config.kind == PB_OPT_ADAMW || pb_numel(p->master) < PB_MIN_8BIT_ELEMENTS;
        PB_RETURN(small ? add_item(o, p) : add_item8(o, p));
    }
    /* No bad input: a suite for any model may hold a row that does not apply to this one. */
    if (o->n_grads == 0)
        return PB_ERROR(PB_E_UNSUPPORTED,
                        "nothing to train: no parameter is trainable (a decoder has no task head)");
    return PB_OK;
}

pb_status pb_optim_new(pb_device *dev, pb_params *params, const pb_optim_config *config,
                       pb_optim **out) {
    pb_status status = PB_OK;
    *out = NULL;
    pb_optim *o = calloc(1, sizeof *o);
    if (o == NULL) return PB_ERROR(PB_E_OOM, "no host memory for an optimizer");
    o->dev = dev;
    o->params = params;
    o->config = *config;
    o->warmup_steps = pb_schedule_warmup_steps(config->warmup, config->steps);
    size_t n = (size_t)pb_params_count(params) + 1;
    o->items = calloc(n, sizeof *o->items);
    o->items8 = calloc(n, sizeof *o->items8);
    o->scale = calloc(n, sizeof *o->scale);
    o->scale8 = calloc(n, sizeof *o->scale8);
    o->grads = calloc(n, sizeof *o->grads);
    if (o->items == NULL || o->items8 == NULL || o->scale == NULL || o->scale8 == NULL ||
        o->grads == NULL) {
        PB_FAIL(PB_E_OOM, "no host memory for an optimizer over %zu parameters", n);
    }
    PB_TRY(pb_alloc1(dev, PB_MEM_DATA, pb_params_master(params), 1, &o->norm));
    PB_TRY(pb_alloc1(dev, PB_MEM_DATA, pb_params_master(params), 1, &o->coef));
    PB_TRY(add_all(o));
    *out = o;
    o = NULL;
done:
    pb_optim_free(o);
    return status;
}

void pb_optim_free(pb_optim *o) {
    if (o == NULL) return;
    free(o->items);
    free(o->items8);
    free(o->scale);
    free(o->scale8);
    free(o->grads);
    free(o);
}

/* Index of the first value that is not finite, -1 when there is none. */
static pb_status first_bad(const pb_optim *o, const pb_param *p, int64_t *at, double *value) {
    int64_t n = pb_numel(p->grad);
    double *g = malloc((size_t)n * sizeof *g);
    *at = -1;
    if (g == NULL) return PB_OK; /* the divergence matters more than its place */
    pb_status status = pb_device_get_f64(o->dev, g, p->grad);
    for (int64_t i = 0; i < n && status == PB_OK && *at < 0; i++) {
        if (isfinite(g[i])) continue;
        *at = i;
        *value = g[i];
    }
    free(g);
    return status;
}

pb_status pb_optim_diverged(const pb_optim *o, int64_t step, const char *what, double value) {
    for (int i = 0; i < pb_params_count(o->params); i++) {
        const pb_param *p = pb_params_at(o->params, i);
        int64_t at = -1;
        double bad = 0.0;
        if (p->trainable) PB_RETURN(first_bad(o, p, &at, &bad));
        if (at < 0) continue;
        return PB_ERROR(PB_E_DIVERGED,
                        "step %" PRId64 ": %s is %g; gradients: first in %s[%" PRId64 "] = %g",
                        step, what, value, p->name, at, bad);
    }
    return PB_ERROR(PB_E_DIVERGED, "step %" PRId64 ": %s is %g although every gradient is finite",
                    step, what, value);
}

pb_status pb_optim_step(pb_optim *o, int64_t step, double *norm) {
    pb_grad_norm_args grad_norm = {.grads = o->grads,
                                   .n = o->n_grads,
                                   .norm = o->norm,
                                   .coef = o->coef,
                                   .max_norm = o->config.clip};
    pb_device_scope(o->dev, PB_SCOPE_PART, "gradient_norm");
    PB_RETURN(pb_grad_norm(o->dev, &grad_norm));
    PB_RETURN(pb_read_scalar(o->dev, o->norm, norm));
    if (!isfinite(*norm)) return pb_optim_diverged(o, step, "the gradient norm", *norm);
    double lr = pb_optim_lr(o, step);
    pb_device_scope(o->dev, PB_SCOPE_PART, "optimizer");
    for (int i = 0; i < o->n; i++) o->items[i].lr = lr * o->scale[i];
    for (int i = 0; i < o->n8; i++) o->items8[i].lr = lr * o->scale8[i];
    const pb_optim_config *c = &o->config;
    if (o->n > 0) {
        pb_adamw_args a = {.items = o->items,
                           .n = o->n,
                           .beta1 = c->beta1,
                           .beta2 = c->beta2,
                           .eps = c->eps,
                           .step = step + 1,
                           .grad_scale = o->coef};
        PB_RETURN(pb_adamw(o->dev, &a));
    }
    if (o->n8 > 0) {
        pb_adamw8_args a = {.items = o->items8,
                            .n = o->n8,
                            .beta1 = c->beta1,
                            .beta2 = c->beta2,
                            .eps = c->eps,
                            .step = step + 1,
                            .grad_scale = o->coef};
        PB_RETURN(pb_adamw8(o->dev, &a));
    }
    return PB_OK;
}

/* Backward through the layers. dh is the gradient of the residual stream: overwritten on the way
 * down by post-norm layers, added to by pre-norm ones. It stops below the lowest place where
 * something is trained (needs.c). */
#include <math.h>

#include "models/transformer.h"

static pb_status linear_bwd(pb_run *r, pb_site *site, pb_tensor x, pb_tensor dy, pb_tensor dx,
                            double beta_dx) {
    const pb_method *method = r->m->method;
    if (!pb_has(dx) && !pb_site_trains(site)) return PB_OK;
    pb_device_scope(r->m->dev, PB_SCOPE_SITE, site->name);
    if (site->hooked && method && method->linear_bwd) {
        return method->linear_bwd(r->m->self, r->pass, site, x, dy, dx, beta_dx);
    }
    return pb_site_base_bwd(r->pass, site, x, dy, dx, beta_dx);
}

static pb_tensor grad_of(const pb_param *p) { return p && p->trainable ? p->grad : (pb_tensor){0}; }

/* dx = beta_dx*dx + gradient of the norm's input. */
static pb_status norm_bwd(pb_run *r, const pb_norm_part *n, pb_tensor dy, pb_tensor dx,
                          double beta_dx) {
    pb_norm_bwd_args args = {.norm = n->site->norm,
                             .dy = dy,
                             .sum = n->sum,
                             .gamma = n->site->gamma->value,
                             .mean = n->mean,
                             .rstd = n->rstd,
                             .dx = dx,
                             .dgamma = grad_of(n->site->gamma),
                             .dbeta = grad_of(n->site->beta),
                             .beta_dx = beta_dx};
    pb_scope_of(r->m, n->site->name, "norm");
    return pb_norm_bwd(r->m->dev, &args);
}

/* From dh behind the residual add to the gradient of the body's output: dh itself, or a buffer
 * where dropout or a hook stands between. What a hook sends to the residual is added to dh. */
static pb_status enter(pb_run *r, pb_sublayer *s, pb_tensor dh, pb_drop drop, pb_tensor *dout) {
    pb_model *m = r->m;
    int64_t C = m->config.C;
    *dout = dh;
    if (pb_hooks_sublayer(m, s->out)) {
        pb_tensor dy = {0}, dx = {0};
        PB_RETURN(pb_buffer(r, false, m->T, r->rows, C, &dy));
        PB_RETURN(pb_buffer(r, false, m->T, r->rows, C, &dx));
        pb_scope_of(m, s->out->name, "bottleneck"); /* the copy is the hook's */
        PB_RETURN(pb_device_copy(m->dev, dy, dh));
        PB_RETURN(m->method->sublayer_bwd(m->self, r->pass, s->out, dy, dx, dh));
        pb_scope_of(m, s->out->name, "dropout");
        if (drop.p > 0)
            PB_RETURN(pb_dropout(m->dev, &(pb_dropout_args){.x = dx, .y = dx, .drop = drop}));
        *dout = dx;
    } else if (drop.p > 0) {
        PB_RETURN(pb_buffer(r, false, m->T, r->rows, C, dout));
        pb_scope_of(m, s->out->name, "dropout");
        PB_RETURN(pb_dropout(m->dev, &(pb_dropout_args){.x = dh, .y = *dout, .drop = drop}));
    }
    return PB_OK;
}

/* The products that read one input; dx = beta*dx + all of their gradients, when dx is a tensor. */
static pb_status fan_in(pb_run *r, pb_site *const *site, const pb_tensor *dy, int n, pb_tensor x,
                        pb_tensor dx, double beta) {
    for (int i = 0; i < n; i++) PB_RETURN(linear_bwd(r, site[i], x, dy[i], dx, i ? 1 : beta));
    return PB_OK;
}

static pb_status attention_grads(pb_run *r, int64_t i, pb_tensor dcontext, pb_tensor d[3]) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    const pb_model_config *c = &m->config;
    PB_RETURN(pb_buffer(r, false, m->T, r->rows, c->NH * c->HS, &d[0]));
    PB_RETURN(pb_buffer(r, false, m->T, r->rows, c->NKV * c->HS, &d[1]));
    PB_RETURN(pb_buffer(r, false, m->T, r->rows, c->NKV * c->HS, &d[2]));
    pb_attention_bwd_args args = {.q = l->tq,
                                  .k = l->tk,
                                  .v = l->tv,
                                  .o = l->context,
                                  .lse = l->lse,
                                  .cu = r->batch->cu,
                                  .d_o = dcontext,
                                  .dq = d[0],
                                  .dk = d[1],
                                  .dv = d[2],
                                  .heads = c->NH,
                                  .kv_heads = c->NKV,
                                  .head_dim = c->HS,
                                  .sequences = r->batch->sequences,
                                  .max_len = r->batch->max_len,
                                  .scale = 1.0 / sqrt((double)c->HS),
                                  .causal = c->causal,
                                  .drop = pb_drop_in_layer(m, r->pass, i, PB_PLACE_PROBS)};
    pb_scope_of(m, l->attention->name, "attention");
    PB_RETURN(pb_attention_bwd(m->dev, &args));
    if (!c->rope) return PB_OK;
    pb_rope_args q = {.x = d[0],
                      .inv_freq = m->inv_freq,
                      .positions = r->batch->positions,
                      .heads = c->NH,
                      .inverse = true};
    pb_rope_args k = {.x = d[1],
                      .inv_freq = m->inv_freq,
                      .positions = r->batch->positions,
                      .heads = c->NKV,
                      .inverse = true};
    PB_RETURN(pb_rope(m->dev, &q));
    return pb_rope(m->dev, &k);
}

static pb_status attention_bwd(pb_run *r, int64_t i, pb_tensor dout, pb_tensor dx, double beta) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    pb_tensor dcontext = {0}, d[3] = {{0}};
    if (l->attn.mid_grad) {
        PB_RETURN(pb_buffer(r, false, m->T, r->rows, m->config.NH * m->config.HS, &dcontext));
    }
    PB_RETURN(
        linear_bwd(r, l->o, l->attn.keep_mid ? l->context : (pb_tensor){0}, dout, dcontext, 0));
    if (!l->attn.mid_grad) return PB_OK;
    PB_RETURN(attention_grads(r, i, dcontext, d));
    return fan_in(r, (pb_site *const[]){l->q, l->k, l->v}, d, 3, l->attn.in, dx, beta);
}

/* Through the product down and, where the gradient goes on, the activation in front of it: dact becomes its input's. */
static pb_status down_bwd(pb_run *r, pb_layer *l, pb_tensor dout, pb_tensor dact) {
    pb_model *m = r->m;
    pb_tensor act = l->mlp.keep_mid ? l->act : (pb_tensor){0};
    if (l->mlp.mid_grad && pb_takes_gelu(m, l->down)) {
        pb_device_scope(m->dev, PB_SCOPE_SITE, l->down->name);
        return pb_site_gelu_bwd(r->pass, l->down, act, dout, l->tup, dact);
    }
    PB_RETURN(linear_bwd(r, l->down, act, dout, dact, 0));
    if (!l->mlp.mid_grad || m->config.gated_mlp) return PB_OK;
    pb_act_bwd_args args = {.act = m->config.act, .x = l->tup, .dy = dact, .dx = dact};
    pb_scope_of(m, l->mlp.out->name, "activation");
    return pb_act_bwd(m->dev, &args);
}

static pb_status mlp_bwd(pb_run *r, int64_t i, pb_tensor dout, pb_tensor dx, double beta) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    pb_tensor d[2] = {{0}};
    if (l->mlp.mid_grad) PB_RETURN(pb_buffer(r, false, m->T, r->rows, m->config.FF, &d[0]));
    PB_RETURN(down_bwd(r, l, dout, d[0]));
    if (!l->mlp.mid_grad) return PB_OK;
    if (!m->config.gated_mlp) return linear_bwd(r, l->up, l->mlp.in, d[0], dx, beta);
    PB_RETURN(pb_buffer(r, false, m->T, r->rows, m->config.FF, &d[1]));
    pb_swiglu_bwd_args args = {
        .gate = l->tgate, .up = l->tup, .dy = d[0], .dgate = d[0], .dup = d[1]};
    pb_scope_of(m, l->mlp.out->name, "activation");
    PB_RETURN(pb_swiglu_bwd(m->dev, &args));
    return fan_in(r, (pb_site *const[]){l->gate, l->up}, d, 2, l->mlp.in, dx, beta);
}

/* One sub-layer: dh behind it becomes dh before it. */
static pb_status half(pb_run *r, int64_t i, bool is_mlp, pb_tensor dh) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    pb_sublayer *s = is_mlp ? &l->mlp : &l->attn;
    bool post = m->config.post_norm;
    pb_drop drop = pb_drop_in_layer(m, r->pass, i, is_mlp ? PB_PLACE_MLP : PB_PLACE_ATTN);
    pb_tensor dout = {0}, dx = {0};
    if (post && s->norm.bwd) PB_RETURN(norm_bwd(r, &s->norm, dh, dh, 0));
    if (s->out_grad) PB_RETURN(enter(r, s, dh, drop, &dout));
    if (s->body_grad) {
        if (s->in_grad && post) dx = dh;
        else if (s->in_grad) PB_RETURN(pb_buffer(r, false, m->T, r->rows, m->config.C, &dx));
        PB_RETURN(is_mlp ? mlp_bwd(r, i, dout, dx, post) : attention_bwd(r, i, dout, dx, post));
    }
    if (!post && s->norm.bwd) PB_RETURN(norm_bwd(r, &s->norm, dx, dh, 1));
    return PB_OK;
}

static pb_status embed_bwd(pb_run *r, pb_tensor dh) {
    pb_model *m = r->m;
    pb_drop drop = pb_drop_embed(m, r->pass);
    bool norm = m->embed_norm.site && m->embed_norm.bwd;
    if (!norm && !m->embed_grad) return PB_OK;
    pb_scope_of(m, "embed", "dropout");
    if (drop.p > 0)
        PB_RETURN(pb_dropout(m->dev, &(pb_dropout_args){.x = dh, .y = dh, .drop = drop}));
    if (norm) PB_RETURN(norm_bwd(r, &m->embed_norm, dh, dh, 0));
    if (!m->embed_grad) return PB_OK;
    pb_embed_bwd_args args = {.ids = r->batch->ids,
                              .positions = r->batch->positions,
                              .types = r->batch->types,
                              .dy = dh,
                              .dword = grad_of(m->word),
                              .dpos = grad_of(m->position),
                              .dtype = grad_of(m->type)};
    pb_scope_of(m, "embed", "embedding");
    return pb_embed_bwd(m->dev, &args);
}

pb_status pb_backward_hidden(pb_run *r, pb_tensor dh) {
    pb_model *m = r->m;
    if (m->final_norm.site && m->final_norm.bwd) PB_RETURN(norm_bwd(r, &m->final_norm, dh, dh, 0));
    for (int64_t i = m->config.L - 1; i >= 0 && m->layers[i].active; i--) {
        if (m->layers[i].checkpoint) PB_RETURN(pb_forward_layer_again(r, i));
        for (int k = 1; k >= 0; k--) {
            pb_mark mark = pb_device_mark(m->dev, PB_MEM_WORK);
            PB_RETURN(half(r, i, k == 1, dh));
            pb_device_rewind(m->dev, PB_MEM_WORK, mark);
        }
        pb_device_rewind(m->dev, PB_MEM_ACT, m->layers[i].before); /* room for layers made again */
    }
    return embed_bwd(r, dh);
}

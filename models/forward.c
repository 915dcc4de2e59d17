/* Forward from ids to final hidden rows. Buffers: what backward needs goes to PB_MEM_ACT; the
 * stream between sub-layers lives in three pass-long workspace buffers; everything else of a
 * sub-layer is workspace given back at its end. */
#include <math.h>

#include "models/transformer.h"

/* --- shared with backward.c and head.c ------------------------------------------------------- */

pb_status pb_buffer(const pb_run *r, bool keep, pb_dtype dtype, int64_t rows, int64_t cols,
                    pb_tensor *out) {
    return pb_alloc2_raw(r->m->dev, keep ? PB_MEM_ACT : PB_MEM_WORK, dtype, rows, cols, out);
}

static pb_drop drop_at(const pb_model *m, const pb_pass *pass, int64_t place, double p) {
    return pb_pass_dropout(pass, m->n_sites + (int)place, 0, p);
}

pb_drop pb_drop_in_layer(const pb_model *m, const pb_pass *pass, int64_t layer, pb_place place) {
    double p = place == PB_PLACE_PROBS ? m->options.attention_dropout : m->options.hidden_dropout;
    return drop_at(m, pass, layer * PB_PLACE_LAYER_COUNT + place, p);
}

pb_drop pb_drop_embed(const pb_model *m, const pb_pass *pass) {
    return drop_at(m, pass, m->config.L * PB_PLACE_LAYER_COUNT, m->options.hidden_dropout);
}

pb_drop pb_drop_head(const pb_model *m, const pb_pass *pass) {
    return drop_at(m, pass, m->config.L * PB_PLACE_LAYER_COUNT + 1, m->options.head_dropout);
}

void pb_scope_of(const pb_model *m, const char *site, const char *part) {
    pb_device_scope(m->dev, PB_SCOPE_SITE, site);
    pb_device_scope(m->dev, PB_SCOPE_PART, part);
}

/* --- pieces ---------------------------------------------------------------------------------- */

static pb_status linear(pb_run *r, pb_site *site, pb_tensor x, pb_tensor y) {
    const pb_method *method = r->m->method;
    pb_device_scope(r->m->dev, PB_SCOPE_SITE, site->name);
    if (site->hooked && method && method->linear_fwd) {
        return method->linear_fwd(r->m->self, r->pass, site, x, y);
    }
    return pb_site_base_fwd(r->pass, site, x, y, true);
}

/* A vector of n statistics (M). */
static pb_status stats(pb_run *r, bool keep, int64_t n, pb_tensor *out) {
    PB_RETURN(pb_buffer(r, keep, r->m->M, 1, n, out));
    out->ndim = 1;
    out->dim[0] = n;
    out->dim[1] = 0;
    return PB_OK;
}

/* y = norm(drop(pend) + h); moves the stream on. keep: the sum and its statistics outlive the
 * sub-layer, keep_y: so does y. */
static pb_status norm_step(pb_run *r, pb_norm_part *n, bool keep, bool keep_y) {
    pb_model *m = r->m;
    int64_t C = m->config.C;
    pb_scope_of(m, n->site->name, "norm");
    bool pre = !m->config.post_norm;
    pb_tensor sum = {0}, mean = {0}, rstd = {0}, y = {0};
    if (keep) PB_RETURN(pb_buffer(r, true, m->T, r->rows, C, &sum));
    else if (pre) sum = r->hidden[0]; /* may be h itself: in place */
    if (n->site->norm == PB_NORM_LAYER) PB_RETURN(stats(r, keep, r->rows, &mean));
    PB_RETURN(stats(r, keep, r->rows, &rstd));
    if (pre || keep_y) PB_RETURN(pb_buffer(r, keep_y, m->T, r->rows, C, &y));
    else y = r->hidden[r->turn ^= 1];
    pb_norm_fwd_args args = {.norm = n->site->norm,
                             .x = r->pend,
                             .res = r->h,
                             .gamma = n->site->gamma->value,
                             .y = y,
                             .sum = sum,
                             .mean = mean,
                             .rstd = rstd,
                             .eps = n->site->norm_eps,
                             .drop = r->pend_drop};
    if (n->site->beta) args.beta = n->site->beta->value;
    PB_RETURN(pb_norm_fwd(m->dev, &args));
    n->sum = keep ? sum : (pb_tensor){0};
    n->mean = keep ? mean : (pb_tensor){0};
    n->rstd = keep ? rstd : (pb_tensor){0};
    r->h = pre ? sum : y;
    r->in = y;
    r->pend_drop = (pb_drop){0};
    return PB_OK;
}

/* The body's last product into pend; its dropout and hook when there is one. */
static pb_status finish(pb_run *r, pb_sublayer *s, pb_site *last, pb_tensor x, pb_drop drop) {
    pb_model *m = r->m;
    if (!pb_hooks_sublayer(m, s->out)) {
        r->pend_drop = drop; /* in the norm that follows */
        return linear(r, last, x, r->pend);
    }
    pb_tensor out = {0};
    PB_RETURN(pb_buffer(r, false, m->T, r->rows, m->config.C, &out));
    PB_RETURN(linear(r, last, x, out));
    pb_scope_of(m, s->out->name, "dropout");
    if (drop.p > 0)
        PB_RETURN(pb_dropout(m->dev, &(pb_dropout_args){.x = out, .y = out, .drop = drop}));
    PB_RETURN(m->method->sublayer_fwd(m->self, r->pass, s->out, out, r->h, r->pend));
    r->pend_drop = (pb_drop){0};
    return PB_OK;
}

static pb_status qkv(pb_run *r, pb_layer *l) {
    pb_model *m = r->m;
    const pb_model_config *c = &m->config;
    bool keep = r->keep && l->attn.mid_grad;
    PB_RETURN(pb_buffer(r, keep, m->T, r->rows, c->NH * c->HS, &l->tq));
    PB_RETURN(pb_buffer(r, keep, m->T, r->rows, c->NKV * c->HS, &l->tk));
    PB_RETURN(pb_buffer(r, keep, m->T, r->rows, c->NKV * c->HS, &l->tv));
    PB_RETURN(linear(r, l->q, r->in, l->tq));
    PB_RETURN(linear(r, l->k, r->in, l->tk));
    PB_RETURN(linear(r, l->v, r->in, l->tv));
    if (!c->rope) return PB_OK;
    pb_scope_of(m, l->attention->name, "attention");
    pb_rope_args q = {
        .x = l->tq, .inv_freq = m->inv_freq, .positions = r->batch->positions, .heads = c->NH};
    pb_rope_args k = {
        .x = l->tk, .inv_freq = m->inv_freq, .positions = r->batch->positions, .heads = c->NKV};
    PB_RETURN(pb_rope(m->dev, &q));
    return pb_rope(m->dev, &k);
}

static pb_status attention(pb_run *r, int64_t i) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    const pb_model_config *c = &m->config;
    bool grad = r->keep && l->attn.mid_grad;
    l->attn.in = r->keep && l->attn.keep_in ? r->in : (pb_tensor){0};
    PB_RETURN(qkv(r, l));
    PB_RETURN(pb_buffer(r, grad || (r->keep && l->attn.keep_mid), m->T, r->rows, c->NH * c->HS,
                        &l->context));
    PB_RETURN(stats(r, grad, r->rows * c->NH, &l->lse));
    pb_attention_fwd_args args = {.q = l->tq,
                                  .k = l->tk,
                                  .v = l->tv,
                                  .o = l->context,
                                  .lse = l->lse,
                                  .cu = r->batch->cu,
                                  .heads = c->NH,
                                  .kv_heads = c->NKV,
                                  .head_dim = c->HS,
                                  .sequences = r->batch->sequences,
                                  .max_len = r->batch->max_len,
                                  .scale = 1.0 / sqrt((double)c->HS),
                                  .causal = c->causal,
                                  .drop = pb_drop_in_layer(m, r->pass, i, PB_PLACE_PROBS)};
    pb_scope_of(m, l->attention->name, "attention");
    PB_RETURN(pb_attention_fwd(m->dev, &args));
    return finish(r, &l->attn, l->o, l->context, pb_drop_in_layer(m, r->pass, i, PB_PLACE_ATTN));
}

/* From r->in to the input of the product down. */
static pb_status hidden(pb_run *r, pb_layer *l, bool grad) {
    pb_model *m = r->m;
    const pb_model_config *c = &m->config;
    if (pb_takes_gelu(m, l->up)) {
        pb_tensor pre = l->act.data != l->tup.data ? l->tup : (pb_tensor){0};
        pb_device_scope(m->dev, PB_SCOPE_SITE, l->up->name);
        return pb_site_gelu_fwd(r->pass, l->up, r->in, l->act, pre);
    }
    PB_RETURN(linear(r, l->up, r->in, l->tup));
    if (!c->gated_mlp) {
        pb_scope_of(m, l->mlp.out->name, "activation");
        return pb_act_fwd(m->dev, &(pb_act_fwd_args){.act = c->act, .x = l->tup, .y = l->act});
    }
    PB_RETURN(pb_buffer(r, grad, m->T, r->rows, c->FF, &l->tgate));
    PB_RETURN(linear(r, l->gate, r->in, l->tgate));
    pb_scope_of(m, l->mlp.out->name, "activation");
    pb_swiglu_fwd_args args = {.gate = l->tgate, .up = l->tup, .y = l->act};
    return pb_swiglu_fwd(m->dev, &args);
}

static pb_status mlp(pb_run *r, int64_t i) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    const pb_model_config *c = &m->config;
    bool grad = r->keep && l->mlp.mid_grad, keep_act = r->keep && l->mlp.keep_mid;
    l->mlp.in = r->keep && l->mlp.keep_in ? r->in : (pb_tensor){0};
    PB_RETURN(pb_buffer(r, grad, m->T, r->rows, c->FF, &l->tup));
    /* A checkpointed layer's first run asks for what its second will: another product might round otherwise. */
    bool pre = pb_takes_gelu(m, l->up) && r->pass->train && l->mlp.mid_grad;
    if (grad || keep_act || c->gated_mlp || pre)
        PB_RETURN(pb_buffer(r, keep_act, m->T, r->rows, c->FF, &l->act));
    else l->act = l->tup;
    PB_RETURN(hidden(r, l, grad));
    /* Made again, a pre-norm layer's output has no reader: only a hook may keep something there. */
    if (r->again && !c->post_norm && !l->down->hooked && !pb_hooks_sublayer(m, l->mlp.out))
        return PB_OK;
    return finish(r, &l->mlp, l->down, l->act, pb_drop_in_layer(m, r->pass, i, PB_PLACE_MLP));
}

/* --- whole passes ---------------------------------------------------------------------------- */

static pb_status embed(pb_run *r) {
    pb_model *m = r->m;
    pb_embed_fwd_args args = {.word = m->word->value, .ids = r->batch->ids, .y = r->pend};
    if (m->position) {
        args.pos = m->position->value;
        args.positions = r->batch->positions;
    }
    if (m->type) {
        args.type = m->type->value;
        args.types = r->batch->types;
    }
    pb_scope_of(m, "embed", "embedding");
    PB_RETURN(pb_embed_fwd(m->dev, &args));
    pb_drop drop = pb_drop_embed(m, r->pass);
    if (!m->embed_norm.site) {
        r->pend_drop = drop;
        return PB_OK;
    }
    bool keep_y = r->keep && (m->layers[0].attn.keep_in || m->layers[0].checkpoint);
    PB_RETURN(norm_step(r, &m->embed_norm, r->keep && m->embed_norm.bwd, keep_y));
    pb_scope_of(m, "embed", "dropout");
    if (drop.p > 0)
        PB_RETURN(pb_dropout(m->dev, &(pb_dropout_args){.x = r->h, .y = r->h, .drop = drop}));
    return PB_OK;
}

/* From the input of the attention's body to the output of the MLP's. WORK is given back to `work`
 * between the two. */
static pb_status inside(pb_run *r, int64_t i, pb_mark work) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    bool post = m->config.post_norm;
    pb_norm_part *n = post ? &l->attn.norm : &l->mlp.norm;
    PB_RETURN(attention(r, i));
    if (!post) pb_device_rewind(m->dev, PB_MEM_WORK, work);
    PB_RETURN(norm_step(r, n, r->keep && n->bwd, r->keep && l->mlp.keep_in));
    if (post) pb_device_rewind(m->dev, PB_MEM_WORK, work);
    return mlp(r, i);
}

/* A pre-norm layer's first norm. */
static pb_status norm_before(pb_run *r, pb_layer *l) {
    bool all = r->keep && l->checkpoint;
    PB_RETURN(norm_step(r, &l->attn.norm, all || (r->keep && l->attn.norm.bwd),
                        all || (r->keep && l->attn.keep_in)));
    l->normed = r->in;
    return PB_OK;
}

/* A post-norm layer's last norm; it makes the input of the next layer. */
static pb_status norm_behind(pb_run *r, int64_t i, bool train) {
    pb_layer *l = &r->m->layers[i];
    bool keep_y = i + 1 < r->m->config.L && (l[1].attn.keep_in || l[1].checkpoint);
    return norm_step(r, &l->mlp.norm, r->keep && l->mlp.norm.bwd, train && keep_y);
}

/* A checkpointed layer runs as in inference; what its hooks kept is given back too. */
static pb_status layer_fwd(pb_run *r, int64_t i) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    bool train = r->keep, post = m->config.post_norm;
    pb_mark work = pb_device_mark(m->dev, PB_MEM_WORK);
    if (!post) PB_RETURN(norm_before(r, l));
    l->input = r->h;
    l->before = pb_device_mark(m->dev, PB_MEM_ACT);
    r->keep = train && !l->checkpoint;
    PB_RETURN(inside(r, i, work));
    if (train && l->checkpoint) pb_device_rewind(m->dev, PB_MEM_ACT, l->before);
    if (post) PB_RETURN(norm_behind(r, i, train));
    r->keep = train;
    pb_device_rewind(m->dev, PB_MEM_WORK, work);
    return PB_OK;
}

/* The stream between sub-layers. */
static pb_status stream_buffers(pb_run *r) {
    pb_model *m = r->m;
    int64_t C = m->config.C;
    PB_RETURN(pb_buffer(r, false, m->T, r->rows, C, &r->pend));
    PB_RETURN(pb_buffer(r, false, m->T, r->rows, C, &r->hidden[0]));
    if (!m->config.post_norm) return PB_OK;
    return pb_buffer(r, false, m->T, r->rows, C, &r->hidden[1]);
}

pb_status pb_forward_layer_again(pb_run *r, int64_t i) {
    pb_model *m = r->m;
    pb_layer *l = &m->layers[i];
    bool post = m->config.post_norm;
    pb_mark outside = pb_device_mark(m->dev, PB_MEM_WORK);
    PB_RETURN(stream_buffers(r));
    r->again = true;
    r->h = l->input;
    r->in = post ? l->input : l->normed;
    r->pend_drop = (pb_drop){0};
    PB_RETURN(inside(r, i, pb_device_mark(m->dev, PB_MEM_WORK)));
    if (post) PB_RETURN(norm_step(r, &l->mlp.norm, l->mlp.norm.bwd, false));
    r->again = false;
    pb_device_rewind(m->dev, PB_MEM_WORK, outside);
    return PB_OK;
}

pb_status pb_forward_hidden(pb_run *r) {
    pb_model *m = r->m;
    r->rows = r->batch->rows;
    PB_RETURN(stream_buffers(r));
    PB_RETURN(embed(r));
    for (int64_t i = 0; i < m->config.L; i++) PB_RETURN(layer_fwd(r, i));
    if (m->final_norm.site) {
        PB_RETURN(norm_step(r, &m->final_norm, r->keep && m->final_norm.bwd,
                            r->keep && m->head_trained));
        r->h = r->in;
    }
    return PB_OK;
}

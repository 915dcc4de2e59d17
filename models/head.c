/* The task head. Encoder: pool, dropout, linear, cross-entropy. Decoder: the rows with a target are
 * gathered and go through the language-model head PB_HEAD_CHUNK at a time, so that the logits of a
 * batch never exist together. Logits are made in the master type M: a bf16 logit of 16 has steps of
 * 1/16. Their gradient, in T, takes the place of the logits, row by row. */
#include "models/transformer.h"

/* logits[n,V] = x head^T (+ bias). */
static pb_status make_logits(pb_run *r, pb_tensor x, pb_tensor logits) {
    pb_model *m = r->m;
    pb_gemm_args args = {
        .a = x, .b = m->head_weight->value, .c = logits, .trans_b = true, .alpha = 1};
    if (m->head_bias) args.bias = m->head_bias->value;
    return pb_gemm(m->dev, &args);
}

/* Head gradients from dlogits (T) and its input x; dx = dlogits head when wanted. */
static pb_status logits_bwd(pb_run *r, pb_tensor x, pb_tensor dlogits, pb_tensor dx) {
    pb_model *m = r->m;
    if (m->head_weight->trainable) {
        pb_gemm_args dw = {.a = dlogits,
                           .b = x,
                           .c = m->head_weight->grad,
                           .trans_a = true,
                           .alpha = 1,
                           .beta = 1};
        PB_RETURN(pb_gemm(m->dev, &dw));
    }
    if (m->head_bias && m->head_bias->trainable) {
        PB_RETURN(pb_coldot(m->dev, &(pb_coldot_args){.a = dlogits, .y = m->head_bias->grad}));
    }
    if (!pb_has(dx)) return PB_OK;
    return pb_gemm(m->dev,
                   &(pb_gemm_args){.a = dlogits, .b = m->head_weight->value, .c = dx, .alpha = 1});
}

/* Cross-entropy over rows of logits (M). dlogits, when a tensor: T, scaled. */
static pb_status losses(pb_run *r, pb_tensor logits, pb_tensor target, pb_tensor loss,
                        pb_tensor pred, pb_tensor dlogits, double scale) {
    pb_model *m = r->m;
    int64_t n = logits.dim[0];
    if (!pb_has(loss)) PB_RETURN(pb_alloc1(m->dev, PB_MEM_WORK, m->M, n, &loss));
    if (!pb_has(pred)) PB_RETURN(pb_alloc1(m->dev, PB_MEM_WORK, PB_I32, n, &pred));
    pb_cross_entropy_args args = {.logits = logits,
                                  .target = target,
                                  .loss = loss,
                                  .pred = pred,
                                  .dlogits = dlogits,
                                  .scale = scale};
    return pb_cross_entropy(m->dev, &args);
}

/* --- encoder --------------------------------------------------------------------------------- */

static pb_status pool(pb_run *r, bool keep, pb_tensor *out) {
    pb_model *m = r->m;
    PB_RETURN(pb_buffer(r, keep, m->T, r->batch->sequences, m->config.C, out));
    pb_pool_fwd_args args = {.pool = m->config.pool, .x = r->h, .cu = r->batch->cu, .y = *out};
    return pb_pool_fwd(m->dev, &args);
}

static pb_status need_head(const pb_model *m) {
    if (m->head_weight) return PB_OK;
    return PB_ERROR(PB_E_BUG, "model %s was built without a task head (classes 0)", m->config.name);
}

static pb_status encoder_fwd(pb_run *r, pb_tensor loss, pb_tensor pred) {
    pb_model *m = r->m;
    pb_drop drop = pb_drop_head(m, r->pass);
    PB_RETURN(need_head(m));
    PB_RETURN(pool(r, r->keep, &m->pooled));
    if (drop.p > 0)
        PB_RETURN(
            pb_dropout(m->dev, &(pb_dropout_args){.x = m->pooled, .y = m->pooled, .drop = drop}));
    PB_RETURN(pb_buffer(r, r->keep, m->M, r->batch->sequences, m->options.classes, &m->logits));
    PB_RETURN(make_logits(r, m->pooled, m->logits));
    return losses(r, m->logits, r->batch->target, loss, pred, (pb_tensor){0}, 0);
}

/* The logits are few: the cross-entropy runs again, now with the scale. */
static pb_status encoder_bwd(pb_run *r, double scale, pb_tensor dh) {
    pb_model *m = r->m;
    pb_drop drop = pb_drop_head(m, r->pass);
    pb_tensor dlogits = pb_narrowed(m->logits, m->T), dpooled = {0};
    PB_RETURN(
        losses(r, m->logits, r->batch->target, (pb_tensor){0}, (pb_tensor){0}, dlogits, scale));
    if (pb_has(dh))
        PB_RETURN(pb_buffer(r, false, m->T, r->batch->sequences, m->config.C, &dpooled));
    PB_RETURN(logits_bwd(r, m->pooled, dlogits, dpooled));
    if (!pb_has(dh)) return PB_OK;
    if (drop.p > 0)
        PB_RETURN(pb_dropout(m->dev, &(pb_dropout_args){.x = dpooled, .y = dpooled, .drop = drop}));
    pb_pool_bwd_args args = {.pool = m->config.pool, .dy = dpooled, .cu = r->batch->cu, .dx = dh};
    return pb_pool_bwd(m->dev, &args);
}

/* --- decoder --------------------------------------------------------------------------------- */

/* One chunk of target rows [from, from+n). With dgathered: its rows := gradient of the chunk's head
 * input. */
typedef struct pb_chunk {
    pb_tensor hidden; /* final hidden rows of the batch */
    int64_t from, n;
    pb_tensor loss, pred;
    bool grad;
    double scale;
    pb_tensor dgathered; /* [targets,C] or no tensor */
} pb_chunk;

static pb_status chunk_run(pb_run *r, const pb_chunk *c) {
    pb_model *m = r->m;
    pb_tensor x = {0}, logits = {0}, dlogits = {0}, dx = {0};
    pb_tensor rows = pb_rows_of(r->batch->loss_rows, c->from, c->n);
    pb_tensor target = pb_rows_of(r->batch->target, c->from, c->n);
    pb_tensor loss = pb_has(c->loss) ? pb_rows_of(c->loss, c->from, c->n) : c->loss;
    pb_tensor pred = pb_has(c->pred) ? pb_rows_of(c->pred, c->from, c->n) : c->pred;
    PB_RETURN(pb_buffer(r, false, m->T, c->n, m->config.C, &x));
    PB_RETURN(pb_buffer(r, false, m->M, c->n, m->config.V, &logits));
    PB_RETURN(pb_gather_rows(m->dev, &(pb_gather_rows_args){.x = c->hidden, .idx = rows, .y = x}));
    PB_RETURN(make_logits(r, x, logits));
    if (c->grad) dlogits = pb_narrowed(logits, m->T);
    PB_RETURN(losses(r, logits, target, loss, pred, dlogits, c->scale));
    if (!c->grad) return PB_OK;
    if (pb_has(c->dgathered)) dx = pb_rows_of(c->dgathered, c->from, c->n);
    return logits_bwd(r, x, dlogits, dx);
}

static pb_status chunks(pb_run *r, pb_chunk c) {
    for (c.from = 0; c.from < r->batch->targets; c.from += PB_HEAD_CHUNK) {
        int64_t left = r->batch->targets - c.from;
        c.n = left < PB_HEAD_CHUNK ? left : PB_HEAD_CHUNK;
        pb_mark mark = pb_device_mark(r->m->dev, PB_MEM_WORK);
        PB_RETURN(chunk_run(r, &c));
        pb_device_rewind(r->m->dev, PB_MEM_WORK, mark);
    }
    return PB_OK;
}

static pb_status decoder_fwd(pb_run *r, pb_tensor loss, pb_tensor pred) {
    pb_model *m = r->m;
    pb_chunk c = {.hidden = r->h, .loss = loss, .pred = pred, .scale = 1};
    if (r->keep && m->head_trained) m->final = r->h; /* backward makes the logits again */
    c.grad = r->keep && !m->head_trained && m->hidden_grad;
    if (c.grad) PB_RETURN(pb_buffer(r, true, m->T, r->batch->targets, m->config.C, &m->dgathered));
    c.dgathered = c.grad ? m->dgathered : (pb_tensor){0};
    return chunks(r, c);
}

static pb_status decoder_bwd(pb_run *r, double scale, pb_tensor dh) {
    pb_model *m = r->m;
    pb_tensor dx = m->dgathered;
    if (m->head_trained) {
        pb_chunk c = {.hidden = m->final, .grad = true, .scale = scale};
        if (pb_has(dh)) PB_RETURN(pb_buffer(r, false, m->T, r->batch->targets, m->config.C, &dx));
        c.dgathered = dx;
        PB_RETURN(chunks(r, c));
    } else if (pb_has(dh)) {
        PB_RETURN(pb_axpby(m->dev, &(pb_axpby_args){.x = dx, .y = dx, .alpha = scale}));
    }
    if (!pb_has(dh)) return PB_OK;
    return pb_scatter_rows(m->dev,
                           &(pb_scatter_rows_args){.x = dx, .idx = r->batch->loss_rows, .y = dh});
}

/* --- shared ---------------------------------------------------------------------------------- */

pb_status pb_head_fwd(pb_run *r, pb_tensor loss, pb_tensor pred) {
    pb_scope_of(r->m, "head", "head");
    return r->m->config.causal ? decoder_fwd(r, loss, pred) : encoder_fwd(r, loss, pred);
}

pb_status pb_head_bwd(pb_run *r, double scale, pb_tensor dh) {
    pb_scope_of(r->m, "head", "head");
    return r->m->config.causal ? decoder_bwd(r, scale, dh) : encoder_bwd(r, scale, dh);
}

pb_status pb_head_features(pb_run *r, pb_tensor out) {
    pb_model *m = r->m;
    pb_scope_of(m, "head", "head");
    if (m->config.causal) return pb_device_copy(m->dev, out, r->h);
    pb_pool_fwd_args args = {.pool = m->config.pool, .x = r->h, .cu = r->batch->cu, .y = out};
    return pb_pool_fwd(m->dev, &args);
}

pb_status pb_head_logits(pb_run *r, pb_tensor out) {
    pb_tensor x = r->h;
    pb_scope_of(r->m, "head", "head");
    PB_RETURN(need_head(r->m));
    if (!r->m->config.causal) PB_RETURN(pool(r, false, &x));
    return make_logits(r, x, out);
}

/* The public passes: checks of the batch, marks and rewinds, what may follow what. Test:
 * tests/test_model.c. */
#include "models/transformer.h"

static pb_status check_vector(const pb_model *m, const char *what, pb_tensor t, int64_t n) {
    if (pb_has(t) && t.dtype == PB_I32 && pb_numel(t) == n && pb_contiguous(t)) return PB_OK;
    return PB_ERROR(PB_E_BUG, "model %s: batch.%s: %s of %lld elements, expected i32 of %lld",
                    m->config.name, what, pb_has(t) ? pb_dtype_name(t.dtype) : "no tensor",
                    pb_has(t) ? (long long)pb_numel(t) : 0LL, (long long)n);
}

static pb_status check_batch(const pb_model *m, const pb_batch *b, bool targets) {
    const pb_model_options *o = &m->options;
    if (b->sequences < 1 || b->rows < 1 || b->rows % PB_ROW_ROUND || b->tokens < 1 ||
        b->tokens > b->rows || b->max_len < 1 || b->max_len > b->tokens) {
        return PB_ERROR(PB_E_BUG,
                        "model %s: batch of %lld sequences, %lld rows, %lld tokens, longest %lld",
                        m->config.name, (long long)b->sequences, (long long)b->rows,
                        (long long)b->tokens, (long long)b->max_len);
    }
    if (b->max_len > m->config.P) {
        return PB_ERROR(PB_E_INPUT,
                        "model %s: a sequence of %lld tokens, but it has %lld positions",
                        m->config.name, (long long)b->max_len, (long long)m->config.P);
    }
    if ((o->max_rows > 0 && b->rows > o->max_rows) ||
        (o->max_sequences > 0 && b->sequences > o->max_sequences) ||
        (o->max_len > 0 && b->max_len > o->max_len)) {
        return PB_ERROR(PB_E_BUG,
                        "model %s: batch of %lld rows, %lld sequences, longest %lld; built for "
                        "%lld, %lld, %lld",
                        m->config.name, (long long)b->rows, (long long)b->sequences,
                        (long long)b->max_len, (long long)o->max_rows, (long long)o->max_sequences,
                        (long long)o->max_len);
    }
    PB_RETURN(check_vector(m, "ids", b->ids, b->rows));
    PB_RETURN(check_vector(m, "positions", b->positions, b->rows));
    if (pb_has(b->types)) PB_RETURN(check_vector(m, "types", b->types, b->rows));
    PB_RETURN(check_vector(m, "cu", b->cu, b->sequences + 1));
    if (!targets) return PB_OK;
    int64_t n = m->config.causal ? b->targets : b->sequences;
    if (b->targets != n || n < 1) {
        return PB_ERROR(PB_E_BUG, "model %s: batch of %lld sequences with %lld targets",
                        m->config.name, (long long)b->sequences, (long long)b->targets);
    }
    PB_RETURN(check_vector(m, "target", b->target, n));
    if (m->config.causal) PB_RETURN(check_vector(m, "loss_rows", b->loss_rows, n));
    return PB_OK;
}

static void forget(pb_model *m) {
    pb_device_rewind(m->dev, PB_MEM_ACT, m->act_mark);
    m->in_flight = false;
}

pb_status pb_model_forward(pb_model *m, const pb_pass *pass, const pb_batch *batch, pb_tensor loss,
                           pb_tensor pred) {
    pb_status status = PB_OK;
    pb_run r = {.m = m, .pass = pass, .batch = batch, .keep = pass->train};
    if (pass->train && m->in_flight) {
        return PB_ERROR(PB_E_BUG, "model %s: a forward pass waits for its backward",
                        m->config.name);
    }
    PB_RETURN(check_batch(m, batch, true));
    pb_mark work = pb_device_mark(m->dev, PB_MEM_WORK);
    if (pass->train) {
        pb_model_decide_needs(m);
        m->act_mark = pb_device_mark(m->dev, PB_MEM_ACT);
        m->pass = *pass;
        m->in_flight = true;
    }
    PB_TRY(pb_forward_hidden(&r));
    PB_TRY(pb_head_fwd(&r, loss, pred));
done:
    pb_device_rewind(m->dev, PB_MEM_WORK, work);
    if (status != PB_OK && pass->train) forget(m);
    return status;
}

static bool same_pass(const pb_pass *a, const pb_pass *b) {
    return a->train && b->train && a->dev == b->dev && a->seed == b->seed && a->step == b->step &&
           a->micro == b->micro;
}

pb_status pb_model_backward(pb_model *m, const pb_pass *pass, const pb_batch *batch, double scale) {
    pb_status status = PB_OK;
    pb_run r = {.m = m, .pass = pass, .batch = batch, .keep = true, .rows = batch->rows};
    pb_tensor dh = {0};
    if (!m->in_flight || !same_pass(pass, &m->pass)) {
        return PB_ERROR(PB_E_BUG, "model %s: backward without its forward pass", m->config.name);
    }
    pb_mark work = pb_device_mark(m->dev, PB_MEM_WORK);
    if (m->hidden_grad) PB_TRY(pb_buffer(&r, false, m->T, batch->rows, m->config.C, &dh));
    if (m->hidden_grad || m->head_trained) {
        pb_mark head = pb_device_mark(m->dev, PB_MEM_WORK);
        PB_TRY(pb_head_bwd(&r, scale, dh));
        pb_device_rewind(m->dev, PB_MEM_WORK, head);
    }
    if (m->hidden_grad) PB_TRY(pb_backward_hidden(&r, dh));
done:
    pb_device_rewind(m->dev, PB_MEM_WORK, work);
    forget(m);
    return status;
}

pb_status pb_model_discard(pb_model *m) {
    if (m->in_flight) forget(m);
    return PB_OK;
}

/* Forward without dropout or anything kept, then `head`. */
static pb_status infer(pb_model *m, const pb_pass *pass, const pb_batch *batch, pb_tensor out,
                       pb_status (*head)(pb_run *, pb_tensor)) {
    pb_status status = PB_OK;
    pb_pass quiet = *pass;
    quiet.train = false;
    pb_run r = {.m = m, .pass = &quiet, .batch = batch};
    if (m->in_flight)
        return PB_ERROR(PB_E_BUG, "model %s: a forward pass waits for its backward",
                        m->config.name);
    PB_RETURN(check_batch(m, batch, false));
    pb_mark work = pb_device_mark(m->dev, PB_MEM_WORK);
    PB_TRY(pb_forward_hidden(&r));
    PB_TRY(head(&r, out));
done:
    pb_device_rewind(m->dev, PB_MEM_WORK, work);
    return status;
}

pb_status pb_model_features(pb_model *m, const pb_pass *pass, const pb_batch *batch,
                            pb_tensor out) {
    return infer(m, pass, batch, out, pb_head_features);
}

pb_status pb_model_logits(pb_model *m, const pb_pass *pass, const pb_batch *batch, pb_tensor out) {
    return infer(m, pass, batch, out, pb_head_logits);
}

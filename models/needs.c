/* What backward needs: a walk over the model from its input to its output that finds, for every
 * place, whether a gradient is wanted there, and with that what forward must keep. Decided from the
 * parameters and hooks as they are, before each training pass: it is host work of a few comparisons
 * a site. */
#include "models/transformer.h"

static bool trained(const pb_param *p) { return p && p->trainable; }

static bool hooks_linear(const pb_site *s) { return s && s->hooked; }

bool pb_site_trains(const pb_site *s) {
    return s && (hooks_linear(s) || trained(s->weight) || trained(s->bias));
}

bool pb_site_reads_input(const pb_site *s) { return s && (hooks_linear(s) || trained(s->weight)); }

bool pb_hooks_sublayer(const pb_model *m, const pb_site *s) {
    return s->hooked && m->method && m->method->sublayer_fwd;
}

static void norm_needs(pb_norm_part *n, bool sum_grad) {
    n->sum_grad = sum_grad;
    n->bwd = sum_grad || trained(n->site->gamma) || trained(n->site->beta);
}

/* From the body's input to the hook's output. */
static void body_needs(const pb_model *m, pb_sublayer *s, const pb_site *const *first,
                       const pb_site *last) {
    s->mid_grad = s->in_grad;
    s->keep_in = false;
    for (int i = 0; i < 3; i++) {
        s->mid_grad |= pb_site_trains(first[i]);
        s->keep_in |= pb_site_reads_input(first[i]);
    }
    s->keep_mid = pb_site_reads_input(last);
    s->body_grad = s->mid_grad || pb_site_trains(last);
    s->out_grad = s->body_grad || pb_hooks_sublayer(m, s->out);
}

/* `below`: a gradient is wanted of the stream that enters the sub-layer. Returns the same for the
 * one that leaves it. */
static bool sublayer_needs(const pb_model *m, pb_sublayer *s, const pb_site *const *first,
                           const pb_site *last, bool below) {
    if (m->config.post_norm) {
        s->in_grad = below;
        body_needs(m, s, first, last);
        norm_needs(&s->norm, s->out_grad || below);
        return s->norm.bwd;
    }
    norm_needs(&s->norm, below);
    s->in_grad = s->norm.bwd;
    body_needs(m, s, first, last);
    return s->out_grad || below;
}

void pb_model_decide_needs(pb_model *m) {
    m->embed_grad = trained(m->word) || trained(m->position) || trained(m->type);
    m->head_trained = trained(m->head_weight) || trained(m->head_bias);
    bool below = m->embed_grad;
    if (m->embed_norm.site) {
        norm_needs(&m->embed_norm, below);
        below = m->embed_norm.bwd;
    }
    for (int64_t i = 0; i < m->config.L; i++) {
        pb_layer *l = &m->layers[i];
        const pb_site *qkv[3] = {l->q, l->k, l->v}, *up[3] = {l->gate, l->up, NULL};
        below = sublayer_needs(m, &l->attn, qkv, l->o, below);
        below = sublayer_needs(m, &l->mlp, up, l->down, below);
        l->active = below;
        l->checkpoint = below && i < m->options.checkpoint;
    }
    if (m->final_norm.site) {
        norm_needs(&m->final_norm, below);
        below = m->final_norm.bwd;
    }
    m->hidden_grad = below;
}

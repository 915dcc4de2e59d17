/* Builds a model: sites and parameters in one fixed order, storage dense or 4-bit, the task head.
 * Values come from load.c. Test: tests/test_model.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "models/transformer.h"

#define SITES_PER_LAYER 12
#define LINEARS_PER_LAYER 7
#define HEAD_SIGMA 0.02

typedef struct pb_builder {
    pb_model *m;
    const pb_safetensors *weights;
} pb_builder;

/* --- sites and parameters -------------------------------------------------------------------- */

static pb_site *add_site(pb_model *m, pb_site_kind kind, int layer, const char *name) {
    pb_site *s = &m->sites[m->n_sites];
    *s = (pb_site){.kind = kind,
                   .layer = layer,
                   .id = m->n_sites,
                   .in = m->config.C,
                   .out = m->config.C,
                   .norm = m->config.norm,
                   .norm_eps = m->config.norm_eps};
    if (layer < 0) (void)pb_copy(s->name, sizeof s->name, name);
    else (void)snprintf(s->name, sizeof s->name, "layers.%d.%s", layer, name);
    m->n_sites++;
    return s;
}

static pb_status add_param(pb_builder *b, const pb_part_ref *ref, pb_param **out) {
    pb_model *m = b->m;
    char name[sizeof(*out)->name];
    PB_RETURN(pb_part_name(m->family, ref, false, name, sizeof name));
    PB_RETURN(pb_params_add(m->params, PB_ROLE_BASE, name, ref->dim0, ref->dim1, out));
    return pb_part_load(m, b->weights, ref, (*out)->value);
}

/* A 4-bit weight: the dense matrix exists only here, in workspace, in the master type. */
static pb_status add_quantised(pb_builder *b, const pb_part_ref *ref, pb_param **out) {
    pb_model *m = b->m;
    pb_status status = PB_OK;
    pb_quant4 *q = &m->quants[m->n_quants++];
    const pb_storage *s = &m->options.storage;
    char name[sizeof(*out)->name];
    pb_tensor stage = {0};
    pb_mark mark = pb_device_mark(m->dev, PB_MEM_WORK);
    PB_TRY(pb_part_name(m->family, ref, false, name, sizeof name));
    PB_TRY(
        pb_quant4_alloc(m->dev, s->code, s->block, s->double_quant, m->T, ref->dim0, ref->dim1, q));
    PB_TRY(pb_alloc2_raw(m->dev, PB_MEM_WORK, m->M, ref->dim0, ref->dim1, &stage));
    PB_TRY(pb_part_load(m, b->weights, ref, stage));
    PB_TRY(pb_quantize4(m->dev, &(pb_quantize4_args){.src = stage, .q = *q}));
    PB_TRY(pb_params_add_quant(m->params, name, q, out));
done:
    pb_device_rewind(m->dev, PB_MEM_WORK, mark);
    return status;
}

static pb_status add_linear(pb_builder *b, pb_part part, int layer, const char *name, int64_t in,
                            int64_t out, bool bias, pb_site **site) {
    pb_site *s = add_site(b->m, PB_SITE_LINEAR, layer, name);
    pb_part_ref weight = {part, layer, "weight", out, in}, offset = {part, layer, "bias", out, 0};
    s->in = in;
    s->out = out;
    if (b->m->options.storage.quantised) PB_RETURN(add_quantised(b, &weight, &s->weight));
    else PB_RETURN(add_param(b, &weight, &s->weight));
    if (bias) PB_RETURN(add_param(b, &offset, &s->bias));
    *site = s;
    return PB_OK;
}

static pb_status add_norm(pb_builder *b, pb_part part, int layer, const char *name,
                          pb_norm_part *norm) {
    int64_t C = b->m->config.C;
    pb_site *s = add_site(b->m, PB_SITE_NORM, layer, name);
    PB_RETURN(add_param(b, &(pb_part_ref){part, layer, "weight", C, 0}, &s->gamma));
    if (s->norm == PB_NORM_LAYER)
        PB_RETURN(add_param(b, &(pb_part_ref){part, layer, "bias", C, 0}, &s->beta));
    norm->site = s;
    return PB_OK;
}

static pb_status add_embedding(pb_builder *b) {
    pb_model *m = b->m;
    const pb_model_config *c = &m->config;
    add_site(m, PB_SITE_EMBED, -1, "embed");
    PB_RETURN(add_param(b, &(pb_part_ref){PB_PART_WORD, -1, "weight", c->V, c->C}, &m->word));
    m->sites[m->n_sites - 1].weight = m->word;
    if (!c->rope)
        PB_RETURN(
            add_param(b, &(pb_part_ref){PB_PART_POSITION, -1, "weight", c->P, c->C}, &m->position));
    if (c->type_vocab) {
        PB_RETURN(add_param(b, &(pb_part_ref){PB_PART_TYPE, -1, "weight", c->type_vocab, c->C},
                            &m->type));
    }
    if (c->post_norm) PB_RETURN(add_norm(b, PB_PART_EMBED_NORM, -1, "embed.norm", &m->embed_norm));
    return PB_OK;
}

/* The norm that follows the residual add, as methods see it. */
static void link_out(pb_site *out, const pb_norm_part *norm, bool post_norm) {
    if (!post_norm) return;
    out->gamma = norm->site->gamma;
    out->beta = norm->site->beta;
}

static pb_status add_layer(pb_builder *b, int i) {
    pb_model *m = b->m;
    const pb_model_config *c = &m->config;
    pb_layer *l = &m->layers[i];
    int64_t q = c->NH * c->HS, kv = c->NKV * c->HS;
    bool qkv = c->biases || c->qkv_biases;
    PB_RETURN(add_linear(b, PB_PART_Q, i, "attn.q", c->C, q, qkv, &l->q));
    PB_RETURN(add_linear(b, PB_PART_K, i, "attn.k", c->C, kv, qkv, &l->k));
    PB_RETURN(add_linear(b, PB_PART_V, i, "attn.v", c->C, kv, qkv, &l->v));
    l->attention = add_site(m, PB_SITE_ATTENTION, i, "attn");
    PB_RETURN(add_linear(b, PB_PART_O, i, "attn.o", q, c->C, c->biases, &l->o));
    l->attn.out = add_site(m, PB_SITE_SUBLAYER_OUT, i, "attn.out");
    PB_RETURN(add_norm(b, PB_PART_ATTN_NORM, i, "attn.norm", &l->attn.norm));
    link_out(l->attn.out, &l->attn.norm, c->post_norm);
    if (c->gated_mlp)
        PB_RETURN(add_linear(b, PB_PART_GATE, i, "mlp.gate", c->C, c->FF, c->biases, &l->gate));
    PB_RETURN(add_linear(b, PB_PART_UP, i, "mlp.up", c->C, c->FF, c->biases, &l->up));
    PB_RETURN(add_linear(b, PB_PART_DOWN, i, "mlp.down", c->FF, c->C, c->biases, &l->down));
    l->mlp.out = add_site(m, PB_SITE_SUBLAYER_OUT, i, "mlp.out");
    PB_RETURN(add_norm(b, PB_PART_MLP_NORM, i, "mlp.norm", &l->mlp.norm));
    link_out(l->mlp.out, &l->mlp.norm, c->post_norm);
    return PB_OK;
}

static pb_status add_head(pb_builder *b) {
    pb_model *m = b->m;
    const pb_model_config *c = &m->config;
    if (c->causal) {
        if (c->tied_head) m->head_weight = m->word;
        else
            PB_RETURN(add_param(b, &(pb_part_ref){PB_PART_HEAD, -1, "weight", c->V, c->C},
                                &m->head_weight));
        return PB_OK;
    }
    if (m->options.classes < 1) return PB_OK; /* embeddings only */
    PB_RETURN(pb_params_add(m->params, PB_ROLE_HEAD, "head.weight", m->options.classes, c->C,
                            &m->head_weight));
    PB_RETURN(
        pb_params_add(m->params, PB_ROLE_HEAD, "head.bias", m->options.classes, 0, &m->head_bias));
    PB_RETURN(pb_param_train(m->params, m->head_weight));
    PB_RETURN(pb_param_train(m->params, m->head_bias));
    return pb_param_init_normal(m->params, m->head_weight, HEAD_SIGMA, 0, m->options.seed,
                                pb_random_stream("head", 0, 0));
}

/* --- rotary frequencies ---------------------------------------------------------------------- */

/* Su et al. 2021; the "llama3" scaling keeps short wavelengths, divides long ones, and blends
 * between (Grattafiori et al. 2024; as in Hugging Face's rope utilities). */
static double frequency(const pb_model_config *c, int64_t i) {
    double f = pow(c->rope_theta, -2.0 * (double)i / (double)c->HS);
    if (c->rope_factor <= 0) return f;
    double wavelength = 2.0 * 3.14159265358979323846 / f;
    if (wavelength < c->rope_original / c->rope_high) return f;
    if (wavelength > c->rope_original / c->rope_low) return f / c->rope_factor;
    double smooth = (c->rope_original / wavelength - c->rope_low) / (c->rope_high - c->rope_low);
    return (1 - smooth) * f / c->rope_factor + smooth * f;
}

static pb_status add_rope(pb_model *m) {
    int64_t n = m->config.HS / 2;
    if (!m->config.rope) return PB_OK;
    double *host = malloc((size_t)n * sizeof *host);
    if (!host) return PB_ERROR(PB_E_OOM, "no memory for %lld rotary frequencies", (long long)n);
    for (int64_t i = 0; i < n; i++) host[i] = frequency(&m->config, i);
    pb_status status = pb_alloc1(m->dev, PB_MEM_BASE, m->M, n, &m->inv_freq);
    if (status == PB_OK) status = pb_device_put_f64(m->dev, m->inv_freq, host);
    free(host);
    if (status != PB_OK) pb_error_frame(__FILE__, __LINE__);
    return status;
}

/* --- public ---------------------------------------------------------------------------------- */

static pb_status check_options(const pb_model_config *c, const pb_model_options *o) {
    if (c->L < 1 || c->C < 1 || c->V < 1 || c->NH < 1 || c->NKV < 1 || c->HS < 1 || c->FF < 1 ||
        c->P < 1) {
        return PB_ERROR(PB_E_BUG, "model %s: a size of its configuration is not set", c->name);
    }
    if (c->causal == c->post_norm) {
        return PB_ERROR(PB_E_UNSUPPORTED,
                        "model %s: only post-norm encoders and pre-norm decoders are there",
                        c->name);
    }
    if (o->dtype != PB_F32 && o->dtype != PB_BF16 && o->dtype != PB_F64) {
        return PB_ERROR(PB_E_INPUT, "model %s: compute dtype %s, expected f32, bf16 or f64",
                        c->name, pb_dtype_name(o->dtype));
    }
    if (o->max_len > c->P) {
        return PB_ERROR(PB_E_INPUT,
                        "model %s: sequences of up to %lld tokens, but it has %lld positions",
                        c->name, (long long)o->max_len, (long long)c->P);
    }
    if (o->hidden_dropout >= 1 || o->attention_dropout >= 1 || o->head_dropout >= 1) {
        return PB_ERROR(PB_E_INPUT, "model %s: dropout %g, %g, %g: expected below 1", c->name,
                        o->hidden_dropout, o->attention_dropout, o->head_dropout);
    }
    return PB_OK;
}

static pb_status build(pb_builder *b) {
    pb_model *m = b->m;
    size_t L = (size_t)m->config.L;
    PB_RETURN(pb_params_new(m->dev, m->T, &m->params));
    m->sites = calloc(SITES_PER_LAYER * L + 3, sizeof *m->sites);
    m->layers = calloc(L, sizeof *m->layers);
    m->quants = calloc(LINEARS_PER_LAYER * L, sizeof *m->quants);
    if (!m->sites || !m->layers || !m->quants)
        return PB_ERROR(PB_E_OOM, "model %s: no memory", m->config.name);
    PB_RETURN(add_embedding(b));
    for (int i = 0; i < (int)L; i++) PB_RETURN(add_layer(b, i));
    if (!m->config.post_norm)
        PB_RETURN(add_norm(b, PB_PART_FINAL_NORM, -1, "final.norm", &m->final_norm));
    PB_RETURN(add_rope(m));
    return add_head(b);
}

pb_status pb_model_new(pb_device *dev, const pb_model_config *config,
                       const pb_model_options *options, const pb_safetensors *weights,
                       pb_model **out) {
    pb_status status = PB_OK;
    pb_model *m = NULL;
    *out = NULL;
    PB_TRY(check_options(config, options));
    m = calloc(1, sizeof *m);
    if (!m) PB_FAIL(PB_E_OOM, "model %s: no memory", config->name);
    m->dev = dev;
    m->config = *config;
    m->options = *options;
    m->T = options->dtype;
    m->M = m->T == PB_F64 ? PB_F64 : PB_F32;
    m->family = pb_family_find(config->family);
    if (!m->family)
        PB_FAIL(PB_E_BUG, "model %s: unknown family \"%s\"", config->name, config->family);
    if (options->hidden_dropout < 0) m->options.hidden_dropout = config->hidden_dropout;
    if (options->attention_dropout < 0) m->options.attention_dropout = config->attention_dropout;
    if (options->head_dropout < 0) m->options.head_dropout = config->hidden_dropout;
    PB_TRY(build(&(pb_builder){.m = m, .weights = weights}));
    pb_model_decide_needs(m);
    *out = m;
    m = NULL;
done:
    pb_model_free(m);
    return status;
}

void pb_model_free(pb_model *m) {
    if (!m) return;
    pb_params_free(m->params);
    free(m->sites);
    free(m->layers);
    free(m->quants);
    free(m);
}

const pb_model_config *pb_model_get_config(const pb_model *m) { return &m->config; }

pb_params *pb_model_params(pb_model *m) { return m->params; }

pb_site *pb_model_sites(pb_model *m, int *n) {
    *n = m->n_sites;
    return m->sites;
}

pb_status pb_model_attach(pb_model *m, const pb_method *method, void *self, uint64_t seed,
                          int64_t total_steps) {
    if (m->method) {
        return PB_ERROR(PB_E_BUG, "model %s: method %s is attached already, cannot attach %s",
                        m->config.name, m->method->name, method->name);
    }
    pb_attach ctx = {.dev = m->dev,
                     .params = m->params,
                     .sites = m->sites,
                     .n_sites = m->n_sites,
                     .seed = seed,
                     .total_steps = total_steps,
                     .max_rows = m->options.max_rows};
    PB_RETURN(method->attach(self, &ctx));
    m->method = method;
    m->self = self;
    pb_model_decide_needs(m);
    return PB_OK;
}

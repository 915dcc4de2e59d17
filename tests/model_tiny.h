/* Tiny models and batches for the model tests: sizes that are all different, values that are large
 * enough for every part to matter, sequences of different lengths with padding rows behind them. */
#ifndef PB_TESTS_MODEL_TINY_H
#define PB_TESTS_MODEL_TINY_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "models/model.h"
#include "tests/support.h"

#define MAX_ROWS 400
#define MAX_SEQUENCES 20

typedef enum pb_kind {
    TINY_BERT,
    TINY_LLAMA,
    TINY_LLAMA_UNTIED,
    TINY_GPT2,
    TINY_QWEN2,
    TINY_COUNT
} pb_kind;

static inline pb_model_config tiny_config(pb_kind kind) {
    static const char *const family[TINY_COUNT] = {"bert", "llama", "llama", "gpt2", "qwen2"};
    pb_model_config c = {
        .V = 23, .C = 8, .L = 2, .NH = 2, .NKV = 2, .HS = 4, .FF = 12, .P = 20, .norm_eps = 1e-5};
    (void)pb_copy(c.family, sizeof c.family, family[kind]);
    (void)pb_copy(c.name, sizeof c.name, "tiny");
    c.causal = kind != TINY_BERT;
    c.post_norm = !c.causal;
    c.biases = kind == TINY_BERT || kind == TINY_GPT2;
    c.qkv_biases = kind == TINY_QWEN2;
    c.norm = c.biases ? PB_NORM_LAYER : PB_NORM_RMS;
    c.act = kind == TINY_BERT ? PB_ACT_GELU : kind == TINY_GPT2 ? PB_ACT_GELU_TANH : PB_ACT_SILU;
    if (kind == TINY_BERT) c.type_vocab = 2;
    c.tied_head = kind == TINY_LLAMA || kind == TINY_GPT2;
    if (c.biases) return c;
    c.gated_mlp = true;
    c.rope = true;
    c.rope_theta = 10000;
    c.NH = 4; /* head size 4 although width / heads is 2: grouped queries, wide attention */
    c.rope_factor = 8;
    c.rope_low = 1;
    c.rope_high = 4;
    c.rope_original = 16;
    return c;
}

static inline pb_model_options tiny_options(pb_kind kind, pb_dtype dtype) {
    return (pb_model_options){.dtype = dtype,
                              .classes = kind == TINY_BERT ? 3 : 0,
                              .seed = 5,
                              .max_rows = MAX_ROWS,
                              .max_sequences = MAX_SEQUENCES,
                              .max_len = 20};
}

static inline int64_t numel_of(const pb_param *p) {
    return p->ndim == 2 ? p->dim[0] * p->dim[1] : p->dim[0];
}

/* Values a reader would call trained: gains around 1, matrices of standard deviation near 0.3. The
 * same for every dtype and device (rounded through bf16). */
static inline void tiny_fill(pb_model *m) {
    pb_params *params = pb_model_params(m);
    for (int i = 0; i < pb_params_count(params); i++) {
        pb_param *p = pb_params_at(params, i);
        if (p->quant) continue;
        int64_t n = numel_of(p);
        double *v = malloc((size_t)n * sizeof *v);
        ck_assert_ptr_nonnull(v);
        size_t len = strlen(p->name);
        bool gain = p->ndim == 1 && (len < 4 || strcmp(p->name + len - 4, "bias") != 0);
        for (int64_t k = 0; k < n; k++) {
            double z = pb_random_normal(77, (uint64_t)i, (uint64_t)k);
            v[k] = (double)pb_bf16_to_f32(pb_f32_to_bf16((float)(gain ? 1 + 0.2 * z : 0.3 * z)));
        }
        pb_assert_ok(pb_param_set(params, p, v));
        free(v);
    }
}

typedef struct pb_tiny_batch {
    pb_batch b;
    pb_tensor loss, pred;
} pb_tiny_batch;

static inline pb_tensor put_i32(pb_device *dev, const int32_t *v, int64_t n) {
    pb_tensor t = {0};
    pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_I32, n, &t));
    pb_assert_ok(pb_device_put(dev, t, v, (size_t)n * sizeof *v));
    return t;
}

/* Sequences number first .. first+n-1 with lengths len[]: tokens are a function of (sequence
 * number, position) alone. */
static inline pb_tiny_batch tiny_batch(pb_device *dev, const pb_model_config *c, pb_dtype M,
                                       const int *len, int first, int n) {
    int32_t ids[MAX_ROWS] = {0}, positions[MAX_ROWS] = {0}, types[MAX_ROWS] = {0},
            cu[MAX_SEQUENCES + 1] = {0};
    int32_t rows[MAX_ROWS] = {0}, target[MAX_ROWS] = {0};
    pb_tiny_batch t = {.b = {.sequences = n}};
    int64_t at = 0;
    for (int s = 0; s < n; s++) {
        for (int k = 0; k < len[s]; k++, at++) {
            ids[at] =
                (int32_t)pb_random_below(1, (uint64_t)(first + s), (uint64_t)k, (uint64_t)c->V);
            positions[at] = k;
            types[at] = k % 3 == 1;
        }
        cu[s + 1] = (int32_t)at;
        if (len[s] > t.b.max_len) t.b.max_len = len[s];
        if (!c->causal) target[t.b.targets++] = (first + s) % 3;
        for (int k = 0; c->causal && k + 1 < len[s]; k++) {
            if ((first + s + k) % 4 == 3) continue; /* rows without a target */
            rows[t.b.targets] = cu[s] + k;
            target[t.b.targets++] =
                (int32_t)pb_random_below(1, (uint64_t)(first + s), (uint64_t)k + 1, (uint64_t)c->V);
        }
    }
    t.b.tokens = at;
    t.b.rows = (at + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
    ck_assert_int_le(t.b.rows, MAX_ROWS);
    t.b.ids = put_i32(dev, ids, t.b.rows);
    t.b.positions = put_i32(dev, positions, t.b.rows);
    if (c->type_vocab) t.b.types = put_i32(dev, types, t.b.rows);
    t.b.cu = put_i32(dev, cu, n + 1);
    if (c->causal && t.b.targets) t.b.loss_rows = put_i32(dev, rows, t.b.targets);
    if (t.b.targets) t.b.target = put_i32(dev, target, t.b.targets);
    if (t.b.targets) pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, M, t.b.targets, &t.loss));
    if (t.b.targets) pb_assert_ok(pb_alloc1(dev, PB_MEM_DATA, PB_I32, t.b.targets, &t.pred));
    return t;
}

/* A model on its own device with one batch. */
typedef struct pb_tiny {
    pb_device *dev;
    pb_model_config config;
    pb_model *m;
    pb_pass pass;
    pb_tiny_batch batch;
} pb_tiny;

static const int tiny_lengths[3] = {5, 1, 7}; /* 13 tokens, 3 padding rows */

static inline pb_tiny tiny_open(const char *backend, pb_kind kind,
                                const pb_model_options *options) {
    pb_tiny t = {.config = tiny_config(kind)};
    pb_assert_ok(pb_device_open(backend, &(pb_device_options){.threads = 2}, &t.dev));
    pb_assert_ok(pb_model_new(t.dev, &t.config, options, NULL, &t.m));
    tiny_fill(t.m);
    t.pass = (pb_pass){.dev = t.dev, .dtype = options->dtype, .train = true, .seed = 11, .step = 3};
    t.batch =
        tiny_batch(t.dev, &t.config, pb_params_master(pb_model_params(t.m)), tiny_lengths, 0, 3);
    return t;
}

static inline void tiny_close(pb_tiny *t) {
    pb_model_free(t->m);
    pb_device_close(t->dev);
}

static inline void train_all(pb_tiny *t) {
    pb_params *params = pb_model_params(t->m);
    for (int i = 0; i < pb_params_count(params); i++)
        pb_assert_ok(pb_param_train(params, pb_params_at(params, i)));
}

/* Sum of the losses of a training forward pass; activations dropped. */
static inline double tiny_loss(pb_tiny *t) {
    double host[MAX_ROWS], sum = 0;
    pb_assert_ok(pb_model_forward(t->m, &t->pass, &t->batch.b, t->batch.loss, t->batch.pred));
    pb_assert_ok(pb_model_discard(t->m));
    pb_assert_ok(pb_device_get_f64(t->dev, host, t->batch.loss));
    for (int64_t i = 0; i < t->batch.b.targets; i++) sum += host[i];
    return sum;
}

static inline void tiny_step(pb_tiny *t, double scale) {
    pb_assert_ok(pb_params_zero_grads(pb_model_params(t->m)));
    pb_assert_ok(pb_model_forward(t->m, &t->pass, &t->batch.b, t->batch.loss, t->batch.pred));
    pb_assert_ok(pb_model_backward(t->m, &t->pass, &t->batch.b, scale));
}

/* malloc'ed doubles of a tensor. */
static inline double *fetched(pb_device *dev, pb_tensor t) {
    double *v = malloc((size_t)pb_numel(t) * sizeof *v);
    ck_assert_ptr_nonnull(v);
    pb_assert_ok(pb_device_get_f64(dev, v, t));
    return v;
}

#endif

/* Published model shapes without weights, for benchmarks, plans and advice. Figures from the
 * models' own config files; tests/test_model.c compares the parameter counts that follow with the
 * published ones. */
#include <string.h>

#include "base/text.h"
#include "models/config.h"
#include "models/family.h"

typedef struct pb_shape {
    const char *name;
    const char *family;
    int64_t V, C, L, NH, NKV, FF, P;
    double eps, theta, factor; /* factor: of llama3 scaling */
    bool tied;
} pb_shape;

static const pb_shape shapes[] = {
    {"minilm", "bert", 30522, 384, 6, 12, 12, 1536, 512, 1e-12, 0, 0, false},
    {"bert-base", "bert", 30522, 768, 12, 12, 12, 3072, 512, 1e-12, 0, 0, false},
    {"bert-large", "bert", 30522, 1024, 24, 16, 16, 4096, 512, 1e-12, 0, 0, false},
    {"roberta-base", "roberta", 50265, 768, 12, 12, 12, 3072, 512, 1e-5, 0, 0, false},
    {"roberta-large", "roberta", 50265, 1024, 24, 16, 16, 4096, 512, 1e-5, 0, 0, false},
    {"gpt2-124m", "gpt2", 50257, 768, 12, 12, 12, 3072, 1024, 1e-5, 0, 0, true},
    {"gpt2-355m", "gpt2", 50257, 1024, 24, 16, 16, 4096, 1024, 1e-5, 0, 0, true},
    {"llama-3.2-1b", "llama", 128256, 2048, 16, 32, 8, 8192, 131072, 1e-5, 500000, 32, true},
    {"llama-3.2-3b", "llama", 128256, 3072, 28, 24, 8, 8192, 131072, 1e-5, 500000, 32, true},
    {"llama-3.1-8b", "llama", 128256, 4096, 32, 32, 8, 14336, 131072, 1e-5, 500000, 8, false},
    {"llama-7b", "llama", 32000, 4096, 32, 32, 32, 11008, 2048, 1e-6, 10000, 0, false},
    {"llama-13b", "llama", 32000, 5120, 40, 40, 40, 13824, 2048, 1e-6, 10000, 0, false},
    {"llama-33b", "llama", 32000, 6656, 60, 52, 52, 17920, 2048, 1e-6, 10000, 0, false},
    {"llama-65b", "llama", 32000, 8192, 80, 64, 64, 22016, 2048, 1e-5, 10000, 0, false},
    {"mistral-7b", "mistral", 32000, 4096, 32, 32, 8, 14336, 32768, 1e-5, 10000, 0, false},
    {"qwen2.5-0.5b", "qwen2", 151936, 896, 24, 14, 2, 4864, 32768, 1e-6, 1000000, 0, true},
};

enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void decoder(const pb_shape *s, pb_model_config *c) {
    c->causal = true;
    c->tied_head = s->tied;
    c->pool = PB_POOL_LAST;
    if (!strcmp(s->family, "gpt2")) {
        c->biases = true;
        c->norm = PB_NORM_LAYER;
        c->act = PB_ACT_GELU_TANH;
        c->hidden_dropout = 0.1;
        c->attention_dropout = 0.1;
        return;
    }
    c->gated_mlp = true;
    c->rope = true;
    c->norm = PB_NORM_RMS;
    c->act = PB_ACT_SILU;
    c->qkv_biases = !strcmp(s->family, "qwen2");
    c->rope_theta = s->theta;
    c->rope_factor = s->factor;
    if (s->factor > 0) {
        c->rope_low = 1;
        c->rope_high = 4;
        c->rope_original = 8192;
    }
}

static void encoder(const pb_shape *s, pb_model_config *c) {
    c->post_norm = true;
    c->biases = true;
    c->norm = PB_NORM_LAYER;
    c->act = PB_ACT_GELU;
    c->type_vocab = strcmp(s->family, "roberta") ? 2 : 1;
    c->hidden_dropout = 0.1;
    c->attention_dropout = 0.1;
    c->pool = PB_POOL_MEAN;
}

pb_status pb_model_shape(const char *name, pb_model_config *out) {
    for (int i = 0; i < N_SHAPES; i++) {
        const pb_shape *s = &shapes[i];
        if (strcmp(s->name, name)) continue;
        pb_model_config c = {.V = s->V,
                             .C = s->C,
                             .L = s->L,
                             .NH = s->NH,
                             .NKV = s->NKV,
                             .HS = s->C / s->NH,
                             .FF = s->FF,
                             .P = s->P,
                             .norm_eps = s->eps};
        (void)pb_copy(c.family, sizeof c.family, s->family);
        (void)pb_copy(c.name, sizeof c.name, s->name);
        if (!strcmp(s->family, "bert") || !strcmp(s->family, "roberta")) encoder(s, &c);
        else decoder(s, &c);
        *out = c;
        return PB_OK;
    }
    const char *const *names = pb_model_shape_names();
    const char *nearest = pb_nearest(name, names, N_SHAPES);
    pb_text list = {0};
    for (int i = 0; i < N_SHAPES; i++) pb_text_add(&list, "%s%s", i ? ", " : "", names[i]);
    pb_status status =
        PB_ERROR(PB_E_INPUT, "unknown model shape \"%s\", did you mean \"%s\"? Known: %s", name,
                 nearest, list.data ? list.data : "");
    pb_text_free(&list);
    return status;
}

const char *const *pb_model_shape_names(void) {
    static const char *const names[] = {
        "minilm",       "bert-base", "bert-large",   "roberta-base", "roberta-large",
        "gpt2-124m",    "gpt2-355m", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b",
        "llama-7b",     "llama-13b", "llama-33b",    "llama-65b",    "mistral-7b",
        "qwen2.5-0.5b", NULL,
    };
    _Static_assert(sizeof names / sizeof *names == N_SHAPES + 1,
                   "one name for each shape, in the same order");
    return names;
}

/* Published model shapes without weights, for benchmarks, plans and advice: models/shapes.def
 * as configurations. */
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
#define PB_SHAPE(...) {__VA_ARGS__},
#include "models/shapes.def"
#undef PB_SHAPE
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
#define PB_SHAPE(name, ...) name,
#include "models/shapes.def"
#undef PB_SHAPE
        NULL};
    _Static_assert(sizeof names / sizeof *names == N_SHAPES + 1,
                   "one name for each shape, in the same order");
    return names;
}

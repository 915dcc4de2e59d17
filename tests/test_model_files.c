/* What a model reads and writes: config.json of every family, checkpoints with their names, shapes
 * and layouts, adapter files, the published shapes. */
#include "base/file.h"
#include "tests/model_tiny.h"

/* --- config.json ----------------------------------------------------------------------------- */

static pb_status parse(const char *json, pb_model_config *c) {
    return pb_model_config_parse("dir/config.json", json, strlen(json), c);
}

#define BERT_SIZES                                                                                 \
    "\"model_type\":\"bert\",\"vocab_size\":100,\"hidden_size\":12,\"num_hidden_layers\":3,"       \
    "\"num_attention_heads\":4,\"intermediate_size\":20,\"max_position_embeddings\":64"
#define LLAMA_SIZES                                                                                \
    "\"vocab_size\":100,\"hidden_size\":12,\"num_hidden_layers\":3,\"num_attention_heads\":6,"     \
    "\"intermediate_size\":20,\"max_position_embeddings\":64"

START_TEST(bert_config_reads) {
    pb_model_config c;
    pb_assert_ok(parse(
        "{" BERT_SIZES ",\"hidden_act\":\"gelu_new\",\"layer_norm_eps\":1e-6,\"type_vocab_size\":2,"
        "\"hidden_dropout_prob\":0.2,\"attention_probs_dropout_prob\":0,\"pad_token_id\":0}",
        &c));
    ck_assert_str_eq(c.family, "bert");
    ck_assert(!c.causal && c.post_norm && c.biases && !c.rope && !c.gated_mlp);
    ck_assert_int_eq(c.HS, 3);
    ck_assert_int_eq(c.NKV, 4);
    ck_assert_int_eq(c.type_vocab, 2);
    ck_assert_int_eq(c.act, PB_ACT_GELU_TANH);
    ck_assert(c.norm_eps == 1e-6 && c.hidden_dropout == 0.2 && c.attention_dropout == 0);
    pb_assert_fails(parse("{" BERT_SIZES ",\"position_embedding_type\":\"relative_key\"}", &c),
                    PB_E_INPUT, "relative_key");
    pb_assert_fails(parse("{" BERT_SIZES ",\"hidden_act\":\"mish\"}", &c), PB_E_INPUT, "mish");
    pb_assert_fails(parse("{\"model_type\":\"bert\",\"vocab_size\":100}", &c), PB_E_INPUT,
                    "hidden_size");
    pb_assert_fails(parse("{\"model_type\":\"bert\",\"vocab_size\":-1}", &c), PB_E_INPUT,
                    "vocab_size");
}
END_TEST

START_TEST(llama_config_reads) {
    pb_model_config c;
    pb_assert_ok(parse("{\"model_type\":\"llama\"," LLAMA_SIZES
                       ",\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,"
                       "\"tie_word_embeddings\":true,\"rope_scaling\":null,\"head_dim\":null}",
                       &c));
    ck_assert(c.causal && !c.post_norm && !c.biases && c.rope && c.gated_mlp && c.tied_head);
    ck_assert_int_eq(c.NKV, 2);
    ck_assert_int_eq(c.HS, 2);
    ck_assert(c.rope_theta == 10000 && c.rope_factor == 0);
    pb_assert_ok(
        parse("{\"model_type\":\"llama\"," LLAMA_SIZES ",\"head_dim\":8,\"rope_theta\":500000.0,"
              "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":32.0,\"low_freq_factor\":1.0,"
              "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}}",
              &c));
    ck_assert(c.HS == 8 && c.NKV == 6 && !c.tied_head);
    ck_assert(c.rope_theta == 500000 && c.rope_factor == 32 && c.rope_original == 8192);
    pb_assert_ok(parse("{\"model_type\":\"llama\"," LLAMA_SIZES
                       ",\"rope_parameters\":{\"rope_theta\":7e5,"
                       "\"rope_type\":\"default\"}}",
                       &c));
    ck_assert(c.rope_theta == 7e5 && c.rope_factor == 0);
    pb_assert_fails(parse("{\"model_type\":\"llama\"," LLAMA_SIZES
                          ",\"rope_scaling\":{\"type\":\"yarn\"}}",
                          &c),
                    PB_E_INPUT, "yarn");
    pb_assert_fails(
        parse("{\"model_type\":\"llama\"," LLAMA_SIZES ",\"num_key_value_heads\":4}", &c),
        PB_E_INPUT, "not a multiple of 4");
    pb_assert_fails(parse("{\"model_type\":\"llama\"," LLAMA_SIZES ",\"head_dim\":3}", &c),
                    PB_E_INPUT, "head size 3");
    pb_assert_fails(parse("{\"model_type\":\"llama\"," LLAMA_SIZES ",\"hidden_act\":\"gelu\"}", &c),
                    PB_E_INPUT, "gelu");
    pb_assert_fails(parse("{\"model_type\":\"llama\"," LLAMA_SIZES ",\"attention_bias\":true}", &c),
                    PB_E_INPUT, "mlp_bias");
}
END_TEST

START_TEST(variants_read) {
    pb_model_config c;
    pb_assert_ok(parse("{\"model_type\":\"mistral\"," LLAMA_SIZES ",\"sliding_window\":32}", &c));
    ck_assert_int_eq(c.P, 32);
    pb_assert_ok(parse("{\"model_type\":\"mistral\"," LLAMA_SIZES ",\"sliding_window\":null}", &c));
    ck_assert_int_eq(c.P, 64);
    pb_assert_ok(parse("{\"model_type\":\"qwen2\"," LLAMA_SIZES
                       ",\"sliding_window\":32,\"use_sliding_window\":false}",
                       &c));
    ck_assert(c.P == 64 && c.qkv_biases && !c.biases);
    pb_assert_ok(parse("{\"model_type\":\"gpt2\",\"vocab_size\":50,\"n_embd\":8,\"n_layer\":2,\"n_"
                       "head\":2,\"n_positions\":16,"
                       "\"n_inner\":null,\"activation_function\":\"gelu_new\"}",
                       &c));
    ck_assert(c.FF == 32 && c.tied_head && c.biases && c.causal && !c.rope);
    pb_assert_fails(
        parse("{\"model_type\":\"gpt2\",\"scale_attn_by_inverse_layer_idx\":true}", &c),
        PB_E_INPUT, "scale_attn_by_inverse_layer_idx true is not supported");
    pb_assert_fails(parse("{\"model_type\":\"gpt2\",\"scale_attn_weights\":false}", &c), PB_E_INPUT,
                    "scale_attn_weights false is not supported");
    pb_assert_ok(parse(
        "{\"model_type\":\"roberta\",\"vocab_size\":100,\"hidden_size\":12,\"num_hidden_layers\":3,"
        "\"num_attention_heads\":4,\"intermediate_size\":20,\"max_position_embeddings\":66,"
        "\"type_vocab_size\":1}",
        &c));
    ck_assert(c.P == 64 && c.type_vocab == 1);
}
END_TEST

START_TEST(unknown_families_are_refused_by_name) {
    pb_model_config c;
    pb_assert_fails(parse("{\"model_type\":\"mamba\"}", &c), PB_E_INPUT,
                    "\"mamba\" is not supported; supported: bert, gpt2, llama");
    ck_assert(strstr(pb_error_message(), "dir/config.json") != NULL);
    pb_assert_fails(parse("{}", &c), PB_E_INPUT, "model_type");
    pb_assert_fails(parse("[]", &c), PB_E_INPUT, "expected an object");
    pb_assert_fails(parse("{\"model_type\":7}", &c), PB_E_INPUT, "model_type");
}
END_TEST

static void write_text(const char *dir, const char *file, const char *text) {
    char *path = pb_path_join(dir, file);
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    free(path);
}

START_TEST(folders_name_models_and_poolings) {
    char *dir = pb_test_dir(), *pool = pb_path_join(dir, "1_Pooling");
    pb_model_config c;
    pb_assert_fails(pb_model_config_load(dir, &c), PB_E_INPUT, "config.json");
    write_text(dir, "config.json", "{" BERT_SIZES "}");
    pb_assert_ok(pb_model_config_load(dir, &c));
    ck_assert_int_eq(c.pool, PB_POOL_MEAN);
    ck_assert_str_eq(c.name, strrchr(dir, '/') + 1);
    pb_assert_ok(pb_make_dirs(pool));
    write_text(pool, "config.json",
               "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}");
    pb_assert_ok(pb_model_config_load(dir, &c));
    ck_assert_int_eq(c.pool, PB_POOL_CLS);
    write_text(pool, "config.json", "{\"pooling_mode_max_tokens\":true}");
    pb_assert_fails(pb_model_config_load(dir, &c), PB_E_INPUT, "pooling_mode_max_tokens");
    write_text(pool, "config.json",
               "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true}");
    pb_assert_fails(pb_model_config_load(dir, &c), PB_E_INPUT, "more than one");
    free(pool);
    free(dir);
}
END_TEST

/* Published counts, less the pooler of BERT and the two unused position rows of RoBERTa. */
START_TEST(shapes_have_the_published_parameters) {
    static const struct {
        const char *name;
        int64_t params;
    } known[] = {
        {"minilm", 22713216 - 384 * 385},
        {"bert-base", 109482240 - 768 * 769},
        {"bert-large", 335141888 - 1024 * 1025},
        {"roberta-base", 124645632 - 768 * 769 - 2 * 768},
        {"roberta-large", 355359744 - 1024 * 1025 - 2 * 1024},
        {"gpt2-124m", 124439808},
        {"gpt2-355m", 354823168},
        {"gpt2-774m", 774030080},
        {"gpt2-1.5b", 1557611200},
        /* 12 L C^2 + 13 L C + (V + P + 2) C: the paper says 174,600 million */
        {"gpt3-175b", 174604259328},
        {"llama-7b", 6738415616},
        {"llama-13b", 13015864320},
        {"llama-33b", 32528943616},
        {"llama-65b", 65285660672},
        {"llama-2-7b", 6738415616},
        {"llama-2-13b", 13015864320},
        {"llama-2-70b", 68976648192},
        {"llama-3-8b", 8030261248},
        {"llama-3-70b", 70553706496},
        {"llama-3.1-8b", 8030261248},
        {"llama-3.1-70b", 70553706496},
        {"llama-3.1-405b", 405853388800},
        {"llama-3.2-1b", 1235814400},
        {"llama-3.2-3b", 3212749824},
        {"mistral-7b", 7241732096},
        {"qwen2.5-0.5b", 494032768},
        {"qwen2.5-1.5b", 1543714304},
        {"qwen2.5-3b", 3085938688},
        {"qwen2.5-7b", 7615616512},
        {"qwen2.5-14b", 14770033664},
        {"qwen2.5-32b", 32763876352},
        {"qwen2.5-72b", 72706203648},
    };
    pb_model_config c;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        pb_assert_ok(pb_model_shape(known[i].name, &c));
        ck_assert_msg(pb_model_config_params(&c) == known[i].params,
                      "%s: %lld parameters, published %lld", known[i].name,
                      (long long)pb_model_config_params(&c), (long long)known[i].params);
    }
    for (const char *const *name = pb_model_shape_names(); *name; name++) {
        pb_assert_ok(pb_model_shape(*name, &c));
        ck_assert_str_eq(c.name, *name);
        bool checked = false; /* no shape without its published count */
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            checked |= strcmp(known[i].name, *name) == 0;
        ck_assert_msg(checked, "%s has no published count here", *name);
    }
    pb_assert_fails(pb_model_shape("llama-3b", &c), PB_E_INPUT, "did you mean \"llama-");
}
END_TEST

/* A model built from a shape holds what the count says. */
START_TEST(counts_are_what_is_built) {
    for (int k = 0; k < TINY_COUNT; k++) {
        pb_model_config c = tiny_config((pb_kind)k);
        pb_model_options o = tiny_options((pb_kind)k, PB_F32);
        pb_device *dev = NULL;
        pb_model *m = NULL;
        o.classes = 0;
        pb_assert_ok(pb_device_open("plan:cpu", NULL, &dev));
        pb_assert_ok(pb_model_new(dev, &c, &o, NULL, &m));
        ck_assert_int_eq(pb_params_elements(pb_model_params(m), false), pb_model_config_params(&c));
        pb_model_free(m);
        pb_device_close(dev);
    }
}
END_TEST

/* --- checkpoints ----------------------------------------------------------------------------- */

/* The value at [i,j] of the tensor called `name`: exact in bf16 and f16. */
static double value_of(const char *name, int64_t i, int64_t j) {
    uint64_t h = 1469598103934665603u;
    for (const char *s = name; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
    return (double)((h + (uint64_t)(i * 31 + j * 7)) % 255) / 64.0 - 2.0;
}

typedef struct pb_writer {
    pb_write_tensor list[128];
    int n;
    const char *dtype;
} pb_writer;

static void put_value(unsigned char *out, const char *dtype, double v) {
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t h = pb_f32_to_bf16(f);
    if (!strcmp(dtype, "F16")) { /* normal range only */
        h = u << 1 ? (uint16_t)((u >> 16 & 0x8000u) | (((u >> 23 & 255u) - 112u) << 10) |
                                (u >> 13 & 1023u))
                   : 0;
    }
    if (!strcmp(dtype, "F32")) memcpy(out, &f, 4);
    else memcpy(out, &h, 2);
}

static void add(pb_writer *w, const char *name, int64_t rows, int64_t cols) {
    size_t size = strcmp(w->dtype, "F32") ? 2 : 4, n = (size_t)(rows * (cols ? cols : 1));
    unsigned char *data = malloc(n * size);
    ck_assert(data && w->n < 128);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < (cols ? cols : 1); j++) {
            put_value(data + (size_t)(i * (cols ? cols : 1) + j) * size, w->dtype,
                      value_of(name, i, j));
        }
    }
    w->list[w->n++] =
        (pb_write_tensor){strdup(name), w->dtype, cols ? 2 : 1, {rows, cols}, data, n * size};
}

static void free_writer(pb_writer *w) {
    for (int i = 0; i < w->n; i++) {
        free((void *)(uintptr_t)w->list[i].name);
        free((void *)(uintptr_t)w->list[i].data);
    }
    w->n = 0;
}

/* A checkpoint of the tiny model of a kind, as its parameters are named, with a prefix put before
 * each name. */
static pb_writer checkpoint(pb_kind kind, const char *dtype, const char *prefix, size_t strip) {
    pb_writer w = {.dtype = dtype};
    pb_model_config c = tiny_config(kind);
    pb_model_options o = tiny_options(kind, PB_F32);
    pb_device *dev = NULL;
    pb_model *m = NULL;
    o.classes = 0;
    pb_assert_ok(pb_device_open("plan:cpu", NULL, &dev));
    pb_assert_ok(pb_model_new(dev, &c, &o, NULL, &m));
    for (int i = 0; i < pb_params_count(pb_model_params(m)); i++) {
        const pb_param *p = pb_params_at(pb_model_params(m), i);
        char name[160];
        (void)snprintf(name, sizeof name, "%s%s", prefix, p->name + strip);
        add(&w, name, p->dim[0], p->ndim == 2 ? p->dim[1] : 0);
    }
    pb_model_free(m);
    pb_device_close(dev);
    return w;
}

static pb_status load(pb_kind kind, const char *path, pb_dtype dtype, pb_device **dev,
                      pb_model **m) {
    pb_model_config c = tiny_config(kind);
    pb_model_options o = tiny_options(kind, dtype);
    pb_safetensors *st = NULL;
    pb_assert_ok(pb_device_open("ref", NULL, dev));
    pb_assert_ok(pb_safetensors_open(path, &st));
    pb_status status = pb_model_new(*dev, &c, &o, st, m);
    pb_safetensors_close(st);
    return status;
}

static void holds(pb_device *dev, pb_model *m, const char *param, const char *tensor, int64_t row0,
                  bool transposed, int64_t col0) {
    const pb_param *p = pb_params_find(pb_model_params(m), param);
    ck_assert_msg(p != NULL, "%s", param);
    double *v = fetched(dev, p->value);
    int64_t cols = p->ndim == 2 ? p->dim[1] : 1;
    for (int64_t i = 0; i < p->dim[0]; i++) {
        for (int64_t j = 0; j < cols; j++) {
            double want =
                transposed ? value_of(tensor, j, i + col0) : value_of(tensor, i + row0, j);
            ck_assert_msg(v[i * cols + j] == want, "%s[%lld,%lld] = %g, expected %g", param,
                          (long long)i, (long long)j, v[i * cols + j], want);
        }
    }
    free(v);
}

static void check_checkpoint(pb_kind kind, const char *dtype, pb_dtype T, const char *prefix,
                             size_t strip) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "model.safetensors");
    pb_device *dev = NULL;
    pb_model *m = NULL;
    pb_writer w = checkpoint(kind, dtype, prefix, strip);
    add(&w, "pooler.dense.weight", 3, 3); /* what the model does not use is ignored */
    pb_assert_ok(pb_safetensors_write(path, w.list, w.n, NULL));
    free_writer(&w);
    pb_assert_ok(load(kind, dir, T, &dev, &m));
    for (int i = 0; i < pb_params_count(pb_model_params(m)); i++) {
        const pb_param *p = pb_params_at(pb_model_params(m), i);
        char name[160];
        if (p->role != PB_ROLE_BASE) continue;
        (void)snprintf(name, sizeof name, "%s%s", prefix, p->name + strip);
        holds(dev, m, p->name, name, 0, false, 0);
    }
    pb_model_free(m);
    pb_device_close(dev);
    free(path);
    free(dir);
}

START_TEST(checkpoints_load_in_every_dtype_and_prefix) {
    check_checkpoint(TINY_BERT, "F32", PB_F32, "", 0);
    check_checkpoint(TINY_BERT, "F16", PB_F64, "bert.", 0);
    check_checkpoint(TINY_LLAMA, "BF16", PB_BF16, "", 0);
    check_checkpoint(TINY_LLAMA, "BF16", PB_F32, "", strlen("model."));
    check_checkpoint(TINY_QWEN2, "F16", PB_F32, "", 0);
}
END_TEST

/* GPT-2 stores [in,out] and q, k, v as one. */
START_TEST(fused_and_transposed_tensors_load) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "model.safetensors");
    pb_device *dev = NULL;
    pb_model *m = NULL;
    pb_writer w = {.dtype = "F32"};
    add(&w, "transformer.wte.weight", 23, 8);
    add(&w, "transformer.wpe.weight", 20, 8);
    for (int i = 0; i < 2; i++) {
        static const struct {
            const char *name;
            int64_t in, out;
        } linear[] = {{"attn.c_attn", 8, 24},
                      {"attn.c_proj", 8, 8},
                      {"mlp.c_fc", 8, 12},
                      {"mlp.c_proj", 12, 8}};
        char name[160];
        for (int k = 0; k < 4; k++) {
            (void)snprintf(name, sizeof name, "transformer.h.%d.%s.weight", i, linear[k].name);
            add(&w, name, linear[k].in, linear[k].out);
            (void)snprintf(name, sizeof name, "transformer.h.%d.%s.bias", i, linear[k].name);
            add(&w, name, linear[k].out, 0);
        }
        for (int k = 0; k < 4; k++) {
            (void)snprintf(name, sizeof name, "transformer.h.%d.ln_%d.%s", i, k / 2 + 1,
                           k % 2 ? "weight" : "bias");
            add(&w, name, 8, 0);
        }
    }
    add(&w, "transformer.ln_f.weight", 8, 0);
    add(&w, "transformer.ln_f.bias", 8, 0);
    pb_assert_ok(pb_safetensors_write(path, w.list, w.n, NULL));
    free_writer(&w);
    for (int k = 0; k < 2; k++) {
        pb_assert_ok(load(TINY_GPT2, dir, k ? PB_F64 : PB_F32, &dev, &m));
        holds(dev, m, "wte.weight", "transformer.wte.weight", 0, false, 0);
        holds(dev, m, "h.1.attn.c_attn.q.weight", "transformer.h.1.attn.c_attn.weight", 0, true, 0);
        holds(dev, m, "h.1.attn.c_attn.v.weight", "transformer.h.1.attn.c_attn.weight", 0, true,
              16);
        holds(dev, m, "h.0.attn.c_attn.k.bias", "transformer.h.0.attn.c_attn.bias", 8, false, 0);
        holds(dev, m, "h.0.mlp.c_proj.weight", "transformer.h.0.mlp.c_proj.weight", 0, true, 0);
        holds(dev, m, "ln_f.bias", "transformer.ln_f.bias", 0, false, 0);
        pb_model_free(m);
        pb_device_close(dev);
    }
    free(path);
    free(dir);
}
END_TEST

START_TEST(bad_checkpoints_are_refused_by_name) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "model.safetensors");
    static const char tensor[] = "model.layers.1.mlp.down_proj.weight";
    for (int k = 0; k < 3; k++) {
        static const char *const part[] = {"tensor model.layers.1.mlp.down_proj.weight is missing",
                                           "has shape [12,8], expected [8,12]",
                                           "dtype I32, expected F32"};
        pb_writer w = checkpoint(TINY_LLAMA, "F32", "", 0);
        pb_device *dev = NULL;
        pb_model *m = NULL;
        for (int i = 0; i < w.n; i++) {
            if (strcmp(w.list[i].name, tensor)) continue;
            char *name = (char *)(uintptr_t)w.list[i].name;
            if (k == 0) name[0] = 'M';
            if (k == 1) w.list[i].dim[0] = 12, w.list[i].dim[1] = 8;
            if (k == 2) w.list[i].dtype = "I32";
        }
        pb_assert_ok(pb_safetensors_write(path, w.list, w.n, NULL));
        free_writer(&w);
        pb_assert_fails(load(TINY_LLAMA, dir, PB_F32, &dev, &m), PB_E_INPUT, part[k]);
        ck_assert_ptr_null(m);
        ck_assert(strstr(pb_error_message(), dir) && strstr(pb_error_message(), tensor));
        pb_device_close(dev);
    }
    free(path);
    free(dir);
}
END_TEST

/* Quantised while loading: the codes are those of the stored matrix, and no dense copy stays. */
START_TEST(checkpoints_quantise_while_loading) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "model.safetensors");
    pb_writer w = checkpoint(TINY_LLAMA, "F32", "", 0);
    pb_model_config c = tiny_config(TINY_LLAMA);
    pb_model_options o = tiny_options(TINY_LLAMA, PB_F32);
    pb_device *dev = NULL;
    pb_model *m = NULL;
    pb_safetensors *st = NULL;
    o.storage = (pb_storage){true, PB_CODE_INT4, 32, false};
    pb_assert_ok(pb_safetensors_write(path, w.list, w.n, NULL));
    free_writer(&w);
    pb_assert_ok(pb_device_open("ref", NULL, &dev));
    pb_assert_ok(pb_safetensors_open(path, &st));
    pb_assert_ok(pb_model_new(dev, &c, &o, st, &m));
    pb_safetensors_close(st);
    const pb_param *p = pb_params_find(pb_model_params(m), "model.layers.0.mlp.up_proj.weight");
    double v[12 * 8];
    pb_assert_ok(pb_param_get(pb_model_params(m), p, v));
    for (int i = 0; i < 12 * 8; i++) {
        double want = value_of(p->name, i / 8, i % 8);
        pb_assert_close(&v[i], &want, 1, 0.5 * 2.0 / 7 + 1e-6, 0,
                        "a code's distance"); /* half a step of absmax <= 2 */
    }
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_WORK), 0);
    pb_model_free(m);
    pb_device_close(dev);
    free(path);
    free(dir);
}
END_TEST

/* --- adapters -------------------------------------------------------------------------------- */

static pb_status add_adapter(void *self, const pb_attach *ctx) {
    pb_param *p = NULL;
    PB_RETURN(pb_params_add(ctx->params, PB_ROLE_ADAPTER, "layers.0.attn.q.extra",
                            *(const int *)self, 3, &p));
    PB_RETURN(pb_param_train(ctx->params, p));
    PB_RETURN(pb_params_add(ctx->params, PB_ROLE_ADAPTER, "layers.0.attn.q.frozen", 4, 0, &p));
    return pb_param_train(ctx->params, pb_params_find(ctx->params, "embeddings.LayerNorm.weight"));
}

static const pb_method adds = {.name = "adds", .attach = add_adapter};

static pb_tiny with_adapter(int *rows) {
    pb_model_options o = tiny_options(TINY_BERT, PB_F32);
    pb_tiny t = tiny_open("ref", TINY_BERT, &o);
    pb_assert_ok(pb_model_attach(t.m, &adds, rows, 1, 0));
    return t;
}

START_TEST(adapters_save_and_load) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "adapter.safetensors");
    int two = 2, three = 3;
    pb_tiny a = with_adapter(&two), b = with_adapter(&two), c = with_adapter(&three);
    uint64_t bytes = 0;
    pb_json *meta = cJSON_CreateObject();
    pb_safetensors *st = NULL;
    ck_assert(pb_json_add_str(meta, "method", "adds"));
    tiny_fill(a.m);
    pb_assert_ok(pb_model_save_adapter(a.m, path, meta, &bytes));
    pb_assert_ok(pb_safetensors_open(path, &st));
    ck_assert_int_eq(pb_safetensors_count(st),
                     5); /* head weight and bias, extra, frozen, one norm gain */
    ck_assert_str_eq(pb_safetensors_metadata(st, "method"), "adds");
    ck_assert_uint_gt(bytes, 4 * (3 * 8 + 3 + 2 * 3 + 4 + 8));
    pb_safetensors_close(st);
    pb_assert_ok(pb_param_fill(pb_model_params(b.m),
                               pb_params_find(pb_model_params(b.m), "head.weight"), 0.5));
    ck_assert(tiny_loss(&a) != tiny_loss(&b));
    pb_assert_ok(pb_model_load_adapter(b.m, path));
    ck_assert(tiny_loss(&a) == tiny_loss(&b));
    pb_assert_fails(pb_model_load_adapter(c.m, path), PB_E_INPUT, "expected 2, [3,3]");
    pb_model_options o = tiny_options(TINY_BERT, PB_F32);
    pb_tiny plain = tiny_open("ref", TINY_BERT, &o);
    pb_assert_fails(pb_model_load_adapter(plain.m, path), PB_E_INPUT, "no such trained parameter");
    pb_assert_ok(pb_model_save_adapter(plain.m, path, NULL, NULL));
    pb_assert_fails(pb_model_load_adapter(a.m, path), PB_E_INPUT, "is missing");
    tiny_close(&plain);
    tiny_close(&a);
    tiny_close(&b);
    tiny_close(&c);
    cJSON_Delete(meta);
    free(path);
    free(dir);
}
END_TEST

int main(void) {
    Suite *s = suite_create("model_files");
    TCase *t = pb_test_case(s, "config");
    tcase_add_test(t, bert_config_reads);
    tcase_add_test(t, llama_config_reads);
    tcase_add_test(t, variants_read);
    tcase_add_test(t, unknown_families_are_refused_by_name);
    tcase_add_test(t, folders_name_models_and_poolings);
    tcase_add_test(t, shapes_have_the_published_parameters);
    tcase_add_test(t, counts_are_what_is_built);
    t = pb_test_case(s, "checkpoints");
    tcase_add_test(t, checkpoints_load_in_every_dtype_and_prefix);
    tcase_add_test(t, fused_and_transposed_tensors_load);
    tcase_add_test(t, bad_checkpoints_are_refused_by_name);
    tcase_add_test(t, checkpoints_quantise_while_loading);
    t = pb_test_case(s, "adapters");
    tcase_add_test(t, adapters_save_and_load);
    return pb_run_suite(s);
}

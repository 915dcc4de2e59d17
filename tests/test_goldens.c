/* Every method against PyTorch, transformers, HF PEFT and bitsandbytes, on tiny BERT and Llama models with the same initial
 * tensors: logits, loss, every gradient, every trainable parameter after 10 AdamW steps; the other model families the same
 * with all parameters trained; 4-bit codes equal; 8-bit AdamW step by step.
 * The files under tests/goldens/ come from make_goldens.py, which says which library made what. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "harness/optimizer.h"
#include "models/model.h"
#include "tests/cuda/on_gpu.h"
#include "tests/support.h"

/* What a case needs, on one device. */
typedef struct golden {
    pb_device *dev;
    pb_safetensors *base, *file;
    pb_model *model;
    const pb_method *method;
    void *self;
    pb_json *params;
    pb_batch batch;
    pb_tensor loss, pred;
    pb_dtype dtype;
    int64_t rows;
    char path[512];
} golden;

static double *stored(const pb_safetensors *st, const char *name, int64_t *n) {
    const pb_stored_tensor *t = pb_safetensors_find(st, name);
    if (!t) ck_abort_msg("the golden file has no tensor '%s'", name);
    *n = 1;
    for (int i = 0; i < t->ndim; i++) *n *= t->dim[i];
    double *out = calloc((size_t)*n, sizeof *out);
    ck_assert_ptr_nonnull(out);
    if (strcmp(t->dtype, "I32") == 0) {
        for (int64_t i = 0; i < *n; i++) {
            int32_t v;
            memcpy(&v, t->data + 4 * i, 4);
            out[i] = v;
        }
    } else if (strcmp(t->dtype, "U8") == 0) {
        for (int64_t i = 0; i < *n; i++) out[i] = t->data[i];
    } else {
        pb_assert_ok(pb_stored_tensor_f64(t, 0, *n, out));
    }
    return out;
}

/* The __metadata__ object of a safetensors file, which the reader leaves out. */
static pb_json *metadata(const char *path) {
    char *data;
    size_t len;
    pb_assert_ok(pb_file_read(path, 1 << 24, &data, &len));
    uint64_t header = 0;
    memcpy(&header, data, 8);
    ck_assert_uint_lt(header, len);
    pb_json *json;
    pb_assert_ok(pb_json_parse(path, data + 8, (size_t)header, &json));
    free(data);
    return json;
}

static double number(const pb_json *meta, const char *key) {
    const pb_json *v = pb_json_get(meta, key);
    ck_assert_ptr_nonnull(v);
    return strtod(v->valuestring, NULL);
}

static void put_i32(golden *g, int64_t n, const int32_t *host, pb_tensor *out) {
    pb_assert_ok(pb_alloc1(g->dev, PB_MEM_DATA, PB_I32, n, out));
    pb_assert_ok(pb_device_put(g->dev, *out, host, (size_t)n * 4));
}

/* The packed batch of the file; padding rows up to PB_ROW_ROUND. */
static void make_batch(golden *g) {
    int64_t n_ids, n_seq, n_third;
    double *ids = stored(g->file, "batch.ids", &n_ids), *lengths = stored(g->file, "batch.lengths", &n_seq);
    bool causal = pb_safetensors_find(g->file, "batch.loss_from") != NULL;
    double *third = stored(g->file, causal ? "batch.loss_from" : "batch.labels", &n_third);
    int32_t id[256] = {0}, pos[256] = {0}, cu[32] = {0}, rows[256], target[256];
    int64_t at = 0, targets = 0;
    for (int64_t s = 0; s < n_seq; s++) {
        int64_t len = (int64_t)lengths[s];
        for (int64_t i = 0; i < len; i++) {
            id[at + i] = (int32_t)ids[at + i];
            pos[at + i] = (int32_t)i;
            if (causal && i + 1 < len && i + 1 >= (int64_t)third[s]) {
                rows[targets] = (int32_t)(at + i);
                target[targets++] = (int32_t)ids[at + i + 1];
            }
        }
        if (!causal) target[targets++] = (int32_t)third[s];
        at += len;
        cu[s + 1] = (int32_t)at;
        if (len > g->batch.max_len) g->batch.max_len = len;
    }
    g->batch.sequences = n_seq;
    g->batch.tokens = at;
    g->batch.rows = g->rows = (at + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
    g->batch.targets = targets;
    put_i32(g, g->rows, id, &g->batch.ids);
    put_i32(g, g->rows, pos, &g->batch.positions);
    put_i32(g, n_seq + 1, cu, &g->batch.cu);
    put_i32(g, targets, target, &g->batch.target);
    if (causal) put_i32(g, targets, rows, &g->batch.loss_rows);
    pb_dtype m = g->dtype == PB_F64 ? PB_F64 : PB_F32;
    pb_assert_ok(pb_alloc1(g->dev, PB_MEM_DATA, m, targets, &g->loss));
    pb_assert_ok(pb_alloc1(g->dev, PB_MEM_DATA, PB_I32, targets, &g->pred));
    free(ids);
    free(lengths);
    free(third);
}

static void load_initial(golden *g) {
    bool need = !g->method->trains_base; /* else the model's own file has the initial values */
    for (int i = 0; i < pb_safetensors_count(g->file); i++) {
        const char *name = pb_safetensors_at(g->file, i)->name;
        if (strncmp(name, "init.", 5) != 0) continue;
        pb_param *p = pb_params_find(pb_model_params(g->model), name + 5);
        if (!p) ck_abort_msg("%s: the model has no parameter '%s'", g->path, name + 5);
        int64_t n;
        double *host = stored(g->file, name, &n);
        ck_assert_int_eq(n, p->dim[0] * (p->ndim > 1 ? p->dim[1] : 1));
        pb_assert_ok(pb_param_set(pb_model_params(g->model), p, host));
        free(host);
        need = false;
    }
    ck_assert(!need);
}

static void open_case(golden *g, const char *family, const char *name, const char *device, pb_dtype dtype) {
    memset(g, 0, sizeof *g);
    g->dtype = dtype;
    char dir[256];
    snprintf(dir, sizeof dir, "%s/tests/goldens/%s", pb_test_root(), family);
    snprintf(g->path, sizeof g->path, "%s/tests/goldens/%s/%s.safetensors", pb_test_root(), family, name);
    pb_assert_ok(pb_device_open(device, NULL, &g->dev));
    pb_assert_gpu(g->dev);
    pb_assert_ok(pb_safetensors_open(dir, &g->base));
    pb_assert_ok(pb_safetensors_open(g->path, &g->file));
    pb_json *header = metadata(g->path);
    const pb_json *meta = pb_json_get(header, "__metadata__");
    const char *text = pb_json_get(meta, "params")->valuestring;
    pb_assert_ok(pb_json_parse("params", text, strlen(text), &g->params));
    g->method = pb_method_find(pb_json_get(meta, "method")->valuestring);
    ck_assert_ptr_nonnull(g->method);
    pb_assert_ok(g->method->create(g->params, name, &g->self));
    pb_json_free(header);

    pb_model_config config;
    pb_assert_ok(pb_model_config_load(dir, &config));
    pb_model_options options = {.dtype = dtype, .classes = config.causal ? 0 : 5, .seed = 1, .max_rows = 64,
                                .max_sequences = 8, .max_len = 16};
    if (g->method->storage) options.storage = g->method->storage(g->self);
    pb_assert_ok(pb_model_new(g->dev, &config, &options, g->base, &g->model));
    pb_assert_ok(pb_model_attach(g->model, g->method, g->self, 1, 10));
    make_batch(g);
    load_initial(g);
}

static void close_case(golden *g) {
    pb_model_free(g->model);
    if (g->self) g->method->destroy(g->self);
    pb_json_free(g->params);
    pb_safetensors_close(g->base);
    pb_safetensors_close(g->file);
    pb_device_close(g->dev);
}

/* Both sides are f32 (or one f64): an entry may differ by eps times the length of the longest chain of sums behind it
 * (about 48 terms a product, some 30 products deep), relative to the tensor's largest entry. Where the true value is a
 * cancellation (the gradient of a key bias is 0) what is left is eps times the summands, whose size is that of the
 * other gradients, one of every token: `floor_scale`. */
#define CHAIN (48.0 * 30.0)
#define F32_EPS 1.1920929e-7
#define LEARNING_RATE 5e-3

static double largest_of(const double *x, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(x[i]));
    return largest;
}

static void close_to(golden *g, const char *key, const double *got, int64_t n, double factor, double floor_scale) {
    int64_t m;
    double *want = stored(g->file, key, &m);
    ck_assert_int_eq(n, m);
    double tolerance = factor * F32_EPS * (CHAIN * largest_of(want, m) + floor_scale);
    pb_assert_close(got, want, (size_t)n, tolerance, 0, key);
    free(want);
}

static double largest_gradient(golden *g) {
    double largest = 0;
    for (int i = 0; i < pb_safetensors_count(g->file); i++) {
        const char *name = pb_safetensors_at(g->file, i)->name;
        if (strncmp(name, "grad.", 5) != 0) continue;
        int64_t n;
        double *x = stored(g->file, name, &n);
        largest = fmax(largest, largest_of(x, n));
        free(x);
    }
    return largest;
}

/* A key bias moves all scores of a row alike (rotary positions aside). */
static bool gradient_is_zero(const char *name) {
    return strstr(name, "key.bias") || strstr(name, "c_attn.k.bias");
}

static void check_params(golden *g, const char *prefix, bool gradient, double factor) {
    pb_params *params = pb_model_params(g->model);
    size_t plen = strlen(prefix);
    int compared = 0, trainable = 0;
    for (int i = 0; i < pb_params_count(params); i++) trainable += pb_params_at(params, i)->trainable;
    for (int i = 0; i < pb_safetensors_count(g->file); i++) {
        const char *name = pb_safetensors_at(g->file, i)->name;
        if (strncmp(name, prefix, plen) != 0) continue;
        pb_param *p = pb_params_find(params, name + plen);
        if (!p) ck_abort_msg("%s: the model has no parameter '%s'", g->path, name + plen);
        ck_assert_msg(p->trainable, "%s must be trainable", name);
        int64_t n = p->dim[0] * (p->ndim > 1 ? p->dim[1] : 1);
        double *got = calloc((size_t)n, sizeof *got);
        if (gradient)
            pb_assert_ok(pb_device_get_f64(g->dev, got, p->grad));
        else
            pb_assert_ok(pb_param_get(params, p, got));
        /* Adam turns the rounding noise of a zero gradient into whole steps: such a tensor is compared by its bound, the
         * learning rate times the steps on either side. */
        bool zero = gradient_is_zero(name);
        double noise = gradient ? largest_gradient(g) * (zero ? (double)g->batch.tokens : 1) : 0;
        if (!gradient && zero)
            close_to(g, name, got, n, factor, 2 * 10 * LEARNING_RATE / F32_EPS / factor);
        else
            close_to(g, name, got, n, factor, noise);
        free(got);
        compared++;
    }
    ck_assert_int_eq(compared, trainable);
}

static void select_rank(golden *g, int64_t step) {
    if (!pb_safetensors_find(g->file, "dylora.ranks")) {
        if (g->method->before_step) pb_assert_ok(g->method->before_step(g->self, step));
        return;
    }
    int64_t n;
    double *ranks = stored(g->file, "dylora.ranks", &n);
    pb_assert_ok(g->method->select(g->self, (int)ranks[step] - 1));
    free(ranks);
}

/* One forward and backward; leaves the mean loss in *loss and the method's own term in *term. */
static void pass_once(golden *g, int64_t step, double *loss, double *term) {
    pb_pass pass = {.dev = g->dev, .dtype = g->dtype, .train = true, .seed = 1, .step = step};
    select_rank(g, step);
    pb_assert_ok(pb_params_zero_grads(pb_model_params(g->model)));
    pb_assert_ok(pb_model_forward(g->model, &pass, &g->batch, g->loss, g->pred));
    pb_assert_ok(pb_model_backward(g->model, &pass, &g->batch, 1.0 / (double)g->batch.targets));
    double losses[256];
    pb_assert_ok(pb_device_get_f64(g->dev, losses, g->loss));
    *loss = *term = 0;
    for (int64_t i = 0; i < g->batch.targets; i++) *loss += losses[i] / (double)g->batch.targets;
    if (g->method->loss_term) {
        pb_tensor slot;
        pb_mark mark = pb_device_mark(g->dev, PB_MEM_DATA);
        pb_assert_ok(pb_alloc1(g->dev, PB_MEM_DATA, g->loss.dtype, 1, &slot));
        pb_assert_ok(g->method->loss_term(g->self, g->dev, slot));
        pb_assert_ok(pb_device_get_f64(g->dev, term, slot));
        pb_device_rewind(g->dev, PB_MEM_DATA, mark);
    }
}

static void check_logits(golden *g) {
    pb_pass pass = {.dev = g->dev, .dtype = g->dtype, .seed = 1};
    const pb_model_config *config = pb_model_get_config(g->model);
    int64_t rows = config->causal ? g->rows : g->batch.sequences, cols = config->causal ? config->V : 5;
    int64_t live = config->causal ? g->batch.tokens : rows;
    pb_tensor logits;
    pb_assert_ok(pb_alloc2(g->dev, PB_MEM_DATA, g->dtype, rows, cols, &logits));
    select_rank(g, 0);
    pb_assert_ok(pb_model_logits(g->model, &pass, &g->batch, logits));
    double *got = calloc((size_t)(rows * cols), sizeof *got);
    pb_assert_ok(pb_device_get_f64(g->dev, got, logits));
    close_to(g, "logits", got, live * cols, 1, 0);
    free(got);
}

static void check_case(const char *family, const char *name, const char *device, pb_dtype dtype) {
    golden g;
    open_case(&g, family, name, device, dtype);
    check_logits(&g);
    pb_json *header = metadata(g.path);
    const pb_json *meta = pb_json_get(header, "__metadata__");
    pb_optim_config config = {.kind = PB_OPT_ADAMW, .schedule = PB_SCHEDULE_CONSTANT, .lr = number(meta, "lr"), .beta1 = 0.9,
                              .beta2 = 0.999, .eps = 1e-8, .weight_decay = number(meta, "weight_decay"), .steps = 10};
    ck_assert_double_eq(config.lr, LEARNING_RATE);
    pb_optim *optim;
    pb_assert_ok(pb_optim_new(g.dev, pb_model_params(g.model), &config, &optim));
    double loss = 0, term, norm;
    for (int64_t step = 0; step < 10; step++) {
        pass_once(&g, step, &loss, &term);
        if (step == 0) {
            close_to(&g, "loss", &loss, 1, 1, 0);
            if (g.method->loss_term) close_to(&g, "loss_term", &term, 1, 1, 0);
            check_params(&g, "grad.", true, 1);
        }
        pb_assert_ok(pb_optim_step(optim, step, &norm));
        if (g.method->after_step) pb_assert_ok(g.method->after_step(g.self, g.dev, step, pb_optim_grad_scale(optim)));
    }
    close_to(&g, "loss_last", &loss, 1, 10, 0);
    /* Ten steps feed the error back ten times; Adam's division makes entries with tiny gradients follow the sign of noise,
     * which `after` tolerates only up to the same chain once per step. */
    check_params(&g, "after.", false, 10);
    pb_json_free(header);
    pb_optim_free(optim);
    close_case(&g);
}

static const char *const cases[] = {"full",  "head",    "lora",   "lora_qv",     "rslora",  "dora",
                                    "qlora", "adalora", "dylora", "dylora_free", "houlsby", "pfeiffer"};
#define N_CASES ((int)(sizeof cases / sizeof *cases))

static void check_family(const char *family, const char *device, pb_dtype dtype, int i) {
    if (strcmp(family, "llama") == 0 && strcmp(cases[i], "head") == 0) return; /* nothing is new there: no golden */
    check_case(family, cases[i], device, dtype);
}

/* LoRA's biases: BERT has some. */
static const char *const bias_cases[] = {"lora_bias", "lora_bias_all"};
/* Families beside those two, every parameter trained. */
static const char *const families[] = {"roberta", "gpt2", "qwen2", "mistral", "llama3"};
#define N_FAMILIES ((int)(sizeof families / sizeof *families))

/* tests/gpu/run_all.sh asks for another device. */
static const char *on_device(void) {
    const char *name = getenv("PB_TEST_DEVICE");
    return name ? name : "cpu";
}

START_TEST(biases_on_cpu_equal_torch) { check_case("bert", bias_cases[_i], on_device(), PB_F32); }
END_TEST
START_TEST(biases_on_ref_equal_torch) { check_case("bert", bias_cases[_i], "ref", PB_F64); }
END_TEST
START_TEST(families_on_cpu_equal_torch) { check_case(families[_i], "full", on_device(), PB_F32); }
END_TEST
START_TEST(families_on_ref_equal_torch) { check_case(families[_i], "full", "ref", PB_F64); }
END_TEST
START_TEST(bert_on_cpu_equals_torch) { check_family("bert", on_device(), PB_F32, _i); }
END_TEST
START_TEST(llama_on_cpu_equals_torch) { check_family("llama", on_device(), PB_F32, _i); }
END_TEST
START_TEST(bert_on_ref_equals_torch) { check_family("bert", "ref", PB_F64, _i); }
END_TEST
START_TEST(llama_on_ref_equals_torch) { check_family("llama", "ref", PB_F64, _i); }
END_TEST

/* FP4 has two codes for zero (0 and 8): bitsandbytes' backends disagree on which one a tiny value gets. */
static unsigned char one_zero(unsigned char pair) {
    int high = pair >> 4, low = pair & 15;
    return (unsigned char)(((high == 8 ? 0 : high) << 4) | (low == 8 ? 0 : low));
}

static void bytes_equal(golden *g, const char *key, pb_tensor t, bool fp4, bool padded) {
    int64_t n;
    double *want = stored(g->file, key, &n);
    unsigned char *got = calloc((size_t)n, 1);
    ck_assert_int_eq(n, pb_numel(t));
    pb_assert_ok(pb_device_get(g->dev, got, t, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        unsigned char a = got[i], b = (unsigned char)want[i];
        if (padded && i == n - 1) a &= 0xf0, b &= 0xf0; /* what fills up the last byte is nobody's value */
        ck_assert_msg(fp4 ? one_zero(a) == one_zero(b) : a == b, "%s: byte %lld is %d, bitsandbytes has %d", key,
                      (long long)i, a, b);
    }
    free(got);
    free(want);
}

static void check_quant(golden *g, const char *name, pb_code code, bool dq) {
    char key[96];
    snprintf(key, sizeof key, "%s.w", name);
    const pb_stored_tensor *stored_w = pb_safetensors_find(g->file, key);
    ck_assert_ptr_nonnull(stored_w);
    int64_t n;
    double *host = stored(g->file, key, &n);
    pb_tensor w, values;
    pb_assert_ok(pb_alloc2(g->dev, PB_MEM_BASE, PB_F32, stored_w->dim[0], stored_w->dim[1], &w));
    pb_assert_ok(pb_alloc2(g->dev, PB_MEM_BASE, PB_F32, stored_w->dim[0], stored_w->dim[1], &values));
    pb_assert_ok(pb_device_put_f64(g->dev, w, host));
    pb_quant4 q;
    pb_assert_ok(pb_quant4_alloc(g->dev, code, 64, dq, PB_F32, stored_w->dim[0], stored_w->dim[1], &q));
    pb_assert_ok(pb_quantize4(g->dev, &(pb_quantize4_args){.src = w, .q = q}));
    pb_assert_ok(pb_dequantize4(g->dev, &(pb_dequantize4_args){.q = q, .dst = values}));
    char stem[64];
    snprintf(stem, sizeof stem, "%s.%s.%s", name, pb_code_name(code), dq ? "dq" : "sq");
    bool zeros = strcmp(name, "zeros") == 0; /* nibbles of an all-zero block differ by design: only values count */
    snprintf(key, sizeof key, "%s.codes", stem);
    if (!zeros) bytes_equal(g, key, q.codes, code == PB_CODE_FP4, n % 2 == 1);
    if (dq && !zeros) {
        snprintf(key, sizeof key, "%s.absmax_q", stem);
        bytes_equal(g, key, q.absmax_q, false, false);
    }
    snprintf(key, sizeof key, "%s.values", stem);
    if (pb_safetensors_find(g->file, key)) {
        double *got = calloc((size_t)n, sizeof *got);
        pb_assert_ok(pb_device_get_f64(g->dev, got, values));
        close_to(g, key, got, n, 4.0 / CHAIN, 0); /* two roundings, and the mean of absmax in another order */
        free(got);
    }
    free(host);
}

START_TEST(four_bit_codes_equal_bitsandbytes) {
    golden g = {0};
    snprintf(g.path, sizeof g.path, "%s/tests/goldens/quant.safetensors", pb_test_root());
    pb_assert_ok(pb_device_open(_i ? "ref" : on_device(), NULL, &g.dev));
    pb_assert_ok(pb_safetensors_open(g.path, &g.file));
    const char *const names[] = {"small", "wide", "odd", "heavy", "zeros"};
    for (int i = 0; i < 5; i++)
        for (int code = PB_CODE_NF4; code <= PB_CODE_FP4; code++)
            for (int dq = 0; dq < 2; dq++) check_quant(&g, names[i], (pb_code)code, dq);
    int64_t n;
    double *map = stored(g.file, "map.signed", &n), own[256];
    for (int i = 0; i < 256; i++) own[i] = (double)pb_dynamic_map_signed()[i];
    pb_assert_close(own, map, 256, 0, 2 * F32_EPS, "the signed map"); /* linspace, mean, scale: one rounding each */
    free(map);
    map = stored(g.file, "map.unsigned", &n);
    for (int i = 0; i < 256; i++) own[i] = (double)pb_dynamic_map_unsigned()[i];
    pb_assert_close(own, map, 256, 0, 2 * F32_EPS, "the unsigned map");
    free(map);
    pb_safetensors_close(g.file);
    pb_device_close(g.dev);
}
END_TEST

/* --- 8-bit AdamW ------------------------------------------------------------------------------ */

static void put_state(golden *g, const char *what, int64_t step, pb_tensor t) {
    char key[32];
    int64_t n;
    snprintf(key, sizeof key, "%s.%d", what, (int)step);
    double *host = stored(g->file, key, &n);
    ck_assert_int_eq(n, pb_numel(t));
    if (t.dtype != PB_U8) {
        pb_assert_ok(pb_device_put_f64(g->dev, t, host));
    } else {
        unsigned char *bytes = calloc((size_t)n, 1);
        ck_assert_ptr_nonnull(bytes);
        for (int64_t i = 0; i < n; i++) bytes[i] = (unsigned char)host[i];
        pb_assert_ok(pb_device_put(g->dev, t, bytes, (size_t)n));
        free(bytes);
    }
    free(host);
}

static void compare_state(golden *g, const char *what, int64_t step, pb_tensor t) {
    char key[32];
    snprintf(key, sizeof key, "%s.%d", what, (int)step);
    double *got = calloc((size_t)pb_numel(t), sizeof *got);
    pb_assert_ok(pb_device_get_f64(g->dev, got, t));
    close_to(g, key, got, pb_numel(t), 8.0 / CHAIN, 0); /* a handful of roundings */
    free(got);
}

/* A moment within a rounding of the middle between two codes may get either. */
static void compare_codes(golden *g, const char *what, int64_t step, pb_tensor t) {
    char key[32];
    int64_t n, other = 0;
    snprintf(key, sizeof key, "%s.%d", what, (int)step);
    double *want = stored(g->file, key, &n);
    unsigned char *got = calloc((size_t)n, 1);
    pb_assert_ok(pb_device_get(g->dev, got, t, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        ck_assert_msg(abs(got[i] - (int)want[i]) <= 1, "%s[%d] is %d, bitsandbytes has %d", key,
                      (int)i, got[i], (int)want[i]);
        other += got[i] != (int)want[i];
    }
    ck_assert_msg(other <= n / 100, "%s: %d of %d codes differ", key, (int)other, (int)n);
    free(got);
    free(want);
}

/* One step of the optimizer from each recorded state to the next. */
START_TEST(adamw8_equals_bitsandbytes) {
    golden g = {0};
    snprintf(g.path, sizeof g.path, "%s/tests/goldens/adamw8.safetensors", pb_test_root());
    pb_assert_ok(pb_device_open(_i ? "ref" : on_device(), NULL, &g.dev));
    pb_assert_ok(pb_safetensors_open(g.path, &g.file));
    pb_json *header = metadata(g.path);
    const pb_json *meta = pb_json_get(header, "__metadata__");
    int64_t n = pb_safetensors_find(g.file, "w.0")->dim[0], steps = (int64_t)number(meta, "steps");
    pb_adamw8_item it = {.lr = number(meta, "lr"), .weight_decay = number(meta, "weight_decay")};
    pb_assert_ok(pb_alloc1(g.dev, PB_MEM_ADAPTER, PB_F32, n, &it.w));
    pb_assert_ok(pb_alloc1(g.dev, PB_MEM_GRAD, PB_F32, n, &it.g));
    pb_assert_ok(pb_alloc1(g.dev, PB_MEM_OPTIM, PB_U8, n, &it.m));
    pb_assert_ok(pb_alloc1(g.dev, PB_MEM_OPTIM, PB_U8, n, &it.v));
    pb_assert_ok(pb_alloc1(g.dev, PB_MEM_OPTIM, PB_F32, (n + 255) / 256, &it.m_absmax));
    pb_assert_ok(pb_alloc1(g.dev, PB_MEM_OPTIM, PB_F32, (n + 255) / 256, &it.v_absmax));
    put_state(&g, "w", 0, it.w); /* moments start as they are allocated, as the trainer's do */
    for (int64_t step = 1; step <= steps; step++) {
        pb_adamw8_args args = {
            .items = &it, .n = 1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = step};
        put_state(&g, "g", step, it.g);
        pb_assert_ok(pb_adamw8(g.dev, &args));
        compare_state(&g, "w", step, it.w);
        compare_state(&g, "m_absmax", step, it.m_absmax);
        compare_state(&g, "v_absmax", step, it.v_absmax);
        compare_codes(&g, "m", step, it.m);
        compare_codes(&g, "v", step, it.v);
        put_state(&g, "w", step, it.w);
        put_state(&g, "m", step, it.m);
        put_state(&g, "v", step, it.v);
        put_state(&g, "m_absmax", step, it.m_absmax);
        put_state(&g, "v_absmax", step, it.v_absmax);
    }
    pb_json_free(header);
    pb_safetensors_close(g.file);
    pb_device_close(g.dev);
}
END_TEST

int main(void) {
    Suite *s = suite_create("goldens");
    TCase *t = pb_test_case(s, "methods");
    tcase_add_loop_test(t, bert_on_cpu_equals_torch, 0, N_CASES);
    tcase_add_loop_test(t, llama_on_cpu_equals_torch, 0, N_CASES);
    tcase_add_loop_test(t, bert_on_ref_equals_torch, 0, N_CASES);
    tcase_add_loop_test(t, llama_on_ref_equals_torch, 0, N_CASES);
    tcase_add_loop_test(t, biases_on_cpu_equal_torch, 0, 2);
    tcase_add_loop_test(t, biases_on_ref_equal_torch, 0, 2);
    tcase_add_loop_test(t, families_on_cpu_equal_torch, 0, N_FAMILIES);
    tcase_add_loop_test(t, families_on_ref_equal_torch, 0, N_FAMILIES);
    TCase *q = pb_test_case(s, "quantisation");
    tcase_add_loop_test(q, four_bit_codes_equal_bitsandbytes, 0, 2);
    tcase_add_loop_test(q, adamw8_equals_bitsandbytes, 0, 2);
    return pb_run_suite(s);
}

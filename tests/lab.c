/* See lab.h. */
#include "tests/lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/support.h"

const char *pb_lab_config_json(pb_lab_model model) {
    static const char bert[] =
        "{\"model_type\": \"bert\", \"vocab_size\": 61, \"hidden_size\": 32, "
        "\"num_hidden_layers\": 2,"
        " \"num_attention_heads\": 4, \"intermediate_size\": 64, \"max_position_embeddings\": 40,"
        " \"type_vocab_size\": 2, \"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-12,"
        " \"hidden_dropout_prob\": 0.1, \"attention_probs_dropout_prob\": 0.1}";
    static const char llama[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 61, \"hidden_size\": 32, "
        "\"num_hidden_layers\": 2,"
        " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 48,"
        " \"max_position_embeddings\": 40, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5,"
        " \"rope_theta\": 10000.0, \"tie_word_embeddings\": true}";
    return model == PB_LAB_BERT ? bert : llama;
}

/* --- a model folder --- */

/* Values of one parameter: norms near 1, the rest normal. */
static float *draw(const pb_param *p, int index, size_t n, double of_matrices) {
    float *values = malloc(n * sizeof *values);
    bool norm = strstr(p->name, "norm") != NULL || strstr(p->name, "Norm") != NULL;
    bool gain = p->ndim == 1 && norm && strstr(p->name, "weight") != NULL;
    double sigma = p->ndim == 1 ? 0.1 : of_matrices;
    uint64_t stream = pb_random_stream("lab", (uint64_t)index, 0);
    for (size_t i = 0; values != NULL && i < n; i++) {
        values[i] = (float)((gain ? 1.0 : 0.0) + sigma * pb_random_normal(7, stream, i));
    }
    return values;
}

static pb_status write_weights(pb_params *params, const char *path, double sigma) {
    pb_status status = PB_OK;
    int count = pb_params_count(params), n = 0;
    pb_write_tensor *tensors = calloc((size_t)count, sizeof *tensors);
    if (tensors == NULL) PB_FAIL(PB_E_OOM, "no memory");
    for (int i = 0; i < count; i++) {
        const pb_param *p = pb_params_at(params, i);
        if (p->role != PB_ROLE_BASE) continue;
        size_t size = (size_t)(p->dim[0] * (p->ndim == 2 ? p->dim[1] : 1));
        tensors[n] = (pb_write_tensor){.name = p->name,
                                       .dtype = "F32",
                                       .ndim = p->ndim,
                                       .dim = {p->dim[0], p->dim[1]},
                                       .bytes = size * sizeof(float)};
        tensors[n].data = draw(p, i, size, sigma);
        if (tensors[n++].data == NULL) PB_FAIL(PB_E_OOM, "no memory");
    }
    PB_TRY(pb_safetensors_write(path, tensors, n, NULL));
done:
    for (int i = 0; i < n; i++) free((void *)(uintptr_t)tensors[i].data);
    free(tensors);
    return status;
}

void pb_lab_write_model(pb_lab_model model, const char *dir) {
    pb_lab_write_config(pb_lab_config_json(model), 0.25, dir);
}

void pb_lab_write_config(const char *json, double sigma, const char *dir) {
    pb_model_config config;
    pb_device *dev = NULL;
    pb_model *m = NULL;
    pb_model_options options = {.dtype = PB_F32, .max_len = 40};
    char *config_path = pb_path_join(dir, "config.json"),
         *weights = pb_path_join(dir, "model.safetensors");
    pb_assert_ok(pb_make_dirs(dir));
    pb_assert_ok(pb_file_write_atomic(config_path, json, strlen(json)));
    pb_assert_ok(pb_model_config_parse("lab", json, strlen(json), &config));
    pb_assert_ok(pb_device_open("plan:cpu", NULL, &dev));
    pb_assert_ok(pb_model_new(dev, &config, &options, NULL, &m));
    pb_assert_ok(write_weights(pb_model_params(m), weights, sigma));
    pb_model_free(m);
    pb_device_close(dev);
    free(config_path);
    free(weights);
}

/* --- sessions --- */

/* Sequences [from, to) of a batch as a batch of their own. */
static pb_status part_of(const pb_host_batch *b, bool causal, int64_t from, int64_t to,
                         pb_synthetic *out) {
    pb_loader_bounds bounds = {
        .rows = b->rows, .sequences = to - from, .max_len = b->max_len, .targets = b->rows};
    PB_RETURN(pb_synthetic_of_bounds(&bounds, out));
    pb_host_batch *p = &out->batch;
    int32_t start = b->cu[from];
    p->tokens = b->cu[to] - start;
    p->rows = (p->tokens + PB_ROW_ROUND - 1) / PB_ROW_ROUND * PB_ROW_ROUND;
    memcpy(p->ids, b->ids + start, (size_t)p->tokens * sizeof *p->ids);
    memcpy(p->positions, b->positions + start, (size_t)p->tokens * sizeof *p->positions);
    p->targets = 0;
    for (int64_t i = from; i <= to; i++) p->cu[i - from] = b->cu[i] - start;
    for (int64_t t = 0; t < b->targets; t++) {
        int64_t row = causal ? b->loss_rows[t] : b->cu[t];
        if (row < start || row >= b->cu[to]) continue;
        p->loss_rows[p->targets] = (int32_t)(row - start);
        p->target[p->targets++] = b->target[t];
    }
    return PB_OK;
}

static pb_status make_batches(pb_lab *lab) {
    bool causal = lab->config.causal;
    PB_RETURN(pb_synthetic_new(&lab->config, PB_LAB_CLASSES, PB_LAB_SEQUENCES, 3, PB_LAB_MAX_LEN, 5,
                               &lab->batch));
    PB_RETURN(part_of(&lab->batch.batch, causal, 0, PB_LAB_SEQUENCES / 2, &lab->half[0]));
    return part_of(&lab->batch.batch, causal, PB_LAB_SEQUENCES / 2, PB_LAB_SEQUENCES,
                   &lab->half[1]);
}

static pb_status source(void *user, int64_t i, const pb_host_batch **out) {
    pb_lab *lab = user;
    *out = lab->session.spec.accumulate == 2 ? &lab->half[i % 2].batch : &lab->batch.batch;
    return PB_OK;
}

/* The base alone is stored as the method would store it. */
static pb_status base_storage(const pb_method *method, pb_storage *out) {
    void *self = NULL;
    PB_RETURN(method->create(NULL, "lab", &self));
    if (method->storage != NULL) *out = method->storage(self);
    if (self != NULL) method->destroy(self);
    return PB_OK;
}

static pb_status open_session(pb_lab *lab) {
    const pb_lab_options *o = &lab->o;
    const pb_host_batch *b = &lab->batch.batch;
    pb_session_spec spec = {
        .device = o->device != NULL ? o->device : "cpu",
        .device_options = {.threads = o->threads > 0 ? o->threads : 2, .fail_alloc = o->fail_alloc},
        .config = &lab->config,
        .weights = lab->weights,
        .method = o->base_only ? NULL : o->method,
        .method_params = o->base_only ? NULL : o->params,
        .where = "lab",
        .model = {.dtype = o->dtype,
                  .checkpoint = o->checkpoint,
                  .classes = lab->config.causal ? 0 : PB_LAB_CLASSES,
                  .hidden_dropout = o->dropout,
                  .attention_dropout = o->dropout,
                  .head_dropout = o->dropout},
        .optim = {.kind = o->optimizer,
                  .schedule = PB_SCHEDULE_CONSTANT,
                  .lr = o->lr > 0 ? o->lr : 5e-3,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .eps = 1e-8,
                  .weight_decay = 0.01,
                  .clip = o->clip,
                  .steps = o->steps > 0 ? o->steps : 4},
        .seed = o->seed > 0 ? o->seed : 1,
        .accumulate = o->accumulate > 0 ? o->accumulate : 1,
        .train = {.rows = b->rows,
                  .sequences = b->sequences,
                  .max_len = b->max_len,
                  .targets = b->targets},
        .no_optim = o->no_optim || o->base_only,
    };
    if (o->base_only) PB_RETURN(base_storage(o->method, &spec.model.storage));
    return pb_session_open(&lab->session, &spec);
}

pb_status pb_lab_open(pb_lab *lab, const char *model_dir, const pb_lab_options *options,
                      bool *trains) {
    pb_status status = PB_OK;
    *lab = (pb_lab){.o = *options};
    if (trains != NULL) *trains = true;
    PB_TRY(pb_model_config_load(model_dir, &lab->config));
    PB_TRY(pb_safetensors_open(model_dir, &lab->weights));
    PB_TRY(make_batches(lab));
    PB_TRY(open_session(lab));
done:
    if (status == PB_E_UNSUPPORTED && trains != NULL &&
        strstr(pb_error_message(), "nothing to train") != NULL) {
        *trains = false;
        pb_lab_close(lab);
        pb_error_clear();
        return PB_OK;
    }
    return status;
}

void pb_lab_close(pb_lab *lab) {
    pb_session_close(&lab->session);
    pb_synthetic_free(&lab->batch);
    pb_synthetic_free(&lab->half[0]);
    pb_synthetic_free(&lab->half[1]);
    pb_safetensors_close(lab->weights);
    *lab = (pb_lab){0};
}

pb_status pb_lab_train(pb_lab *lab, int64_t steps) {
    pb_step_result result;
    for (int64_t i = 0; i < steps; i++) {
        PB_RETURN(pb_session_step(&lab->session, lab->step, source, lab, &result));
        lab->step++;
    }
    return PB_OK;
}

static pb_status select_variant(pb_lab *lab, bool training) {
    const pb_method *m = lab->session.spec.method;
    if (m == NULL || m->variants == NULL || m->select == NULL) return PB_OK;
    return m->select(lab->session.self, training ? -1 : m->variants(lab->session.self) - 1);
}

pb_status pb_lab_logits(pb_lab *lab, double **out, size_t *n) {
    pb_session *s = &lab->session;
    const pb_host_batch *hb = &lab->batch.batch;
    bool causal = lab->config.causal;
    int64_t rows = causal ? hb->rows : hb->sequences,
            cols = causal ? lab->config.V : PB_LAB_CLASSES;
    pb_batch_buffers buffers;
    pb_batch batch;
    pb_tensor logits;
    pb_pass pass = pb_session_eval_pass(s);
    pb_loader_bounds bounds = {.rows = hb->rows,
                               .sequences = hb->sequences,
                               .max_len = hb->max_len,
                               .targets = hb->targets};
    *n = (size_t)((causal ? hb->tokens : hb->sequences) * cols);
    *out = malloc((size_t)(rows * cols) * sizeof(double));
    if (*out == NULL) return PB_ERROR(PB_E_OOM, "no memory");
    PB_RETURN(select_variant(lab, false));
    PB_RETURN(pb_batch_buffers_new(s, &bounds, &buffers));
    PB_RETURN(pb_batch_put(s, &buffers, hb, &batch));
    PB_RETURN(pb_alloc2(s->dev, PB_MEM_DATA, lab->o.dtype, rows, cols, &logits));
    PB_RETURN(pb_model_logits(s->model, &pass, &batch, logits));
    PB_RETURN(pb_device_get_f64(s->dev, *out, logits));
    return select_variant(lab, true);
}

pb_status pb_lab_hash(pb_lab *lab, bool trainable, char hex[PB_SHA256_HEX]) {
    pb_status status = PB_OK;
    pb_params *params = pb_model_params(lab->session.model);
    pb_sha256 *h = NULL;
    double *host = NULL;
    PB_TRY(pb_sha256_new(&h));
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        if (p->trainable != trainable) continue;
        size_t n = (size_t)(p->dim[0] * (p->ndim == 2 ? p->dim[1] : 1));
        free(host);
        host = malloc(n * sizeof *host);
        if (host == NULL) PB_FAIL(PB_E_OOM, "no memory");
        PB_TRY(pb_param_get(params, p, host));
        pb_sha256_add(h, host, n * sizeof *host);
    }
    pb_sha256_end(h, hex);
    h = NULL;
done:
    pb_sha256_free(h);
    free(host);
    return status;
}

pb_status pb_lab_losses(pb_lab *lab, double *out, int64_t n) {
    return pb_device_get_f64(lab->session.dev, out, pb_first(lab->session.loss_log, n));
}

/* Facts: a recipe from a claim's file to numbers. A plan of a published shape (no weight is held), or
 * the rounding of a code on weights that are here. */
#include "harness/claims_facts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "harness/trainer_impl.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define SIDE 1024 /* of the random matrix */

typedef struct recipe {
    bool quant;          /* rounding of weights; else a plan */
    pb_run_config run;   /* plan */
    const char *weights; /* "gaussian", or a model's name */
    pb_code code;
    int64_t block;
    bool double_quant;
} recipe;

/* ---- reading ---- */

static pb_status read_quant(const pb_json *o, const char *where, recipe *r) {
    static const char *const keys[] = {"weights", "code", "block", "double_quant"};
    const char *codes[PB_CODE_COUNT];
    int code = PB_CODE_NF4;
    for (int i = 0; i < PB_CODE_COUNT; i++) codes[i] = pb_code_name((pb_code)i);
    r->quant = true;
    r->block = 64;
    PB_RETURN(pb_json_only_keys(o, where, keys, COUNT(keys)));
    PB_RETURN(pb_json_read_str(o, where, "weights", &r->weights));
    PB_RETURN(pb_json_read_choice(o, where, "code", codes, PB_CODE_COUNT, &code));
    PB_RETURN(pb_json_read_i64(o, where, "block", 16, 4096, &r->block));
    PB_RETURN(pb_json_read_bool(o, where, "double_quant", &r->double_quant));
    r->code = (pb_code)code;
    return PB_OK;
}

static pb_status read_plan(const pb_json *o, const char *where, recipe *r) {
    static const char *const keys[] = {"model",     "method", "params",  "dtype",
                                       "optimizer", "batch",  "max_len", "checkpoint"};
    static const char *const dtypes[] = {"f32", "bf16"}, *const optimizers[] = {"adamw", "adamw8"};
    int dtype = 1, optimizer = 0;
    bool checkpoint = false;
    const char *model = "", *method = "";
    pb_model_config config;
    PB_RETURN(pb_json_only_keys(o, where, keys, COUNT(keys)));
    PB_RETURN(pb_json_read_str(o, where, "model", &model));
    PB_RETURN(pb_json_read_str(o, where, "method", &method));
    PB_RETURN(pb_json_read_choice(o, where, "dtype", dtypes, 2, &dtype));
    PB_RETURN(pb_json_read_choice(o, where, "optimizer", optimizers, 2, &optimizer));
    r->run = (pb_run_config){.device = "cpu",
                             .label = "fact",
                             .seed = 1,
                             .dtype = dtype == 0 ? PB_F32 : PB_BF16,
                             .optimizer = optimizer == 0 ? PB_OPT_ADAMW : PB_OPT_ADAMW8,
                             .lr = 1e-4,
                             .steps = 1,
                             .batch = 1,
                             .accumulate = 1,
                             .beta1 = 0.9,
                             .beta2 = 0.999,
                             .eps = 1e-8,
                             .clip = 1.0,
                             .hidden_dropout = 0.0,
                             .attention_dropout = 0.0,
                             .head_dropout = 0.0,
                             .max_len = 512,
                             .deterministic = true};
    PB_RETURN(pb_json_read_i64(o, where, "batch", 1, 65536, &r->run.batch));
    PB_RETURN(pb_json_read_i64(o, where, "max_len", 2, 1048576, &r->run.max_len));
    PB_RETURN(pb_json_read_bool(o, where, "checkpoint", &checkpoint));
    r->run.checkpoint = checkpoint ? PB_CHECKPOINT_ALL : 0;
    r->run.method_params = cJSON_GetObjectItemCaseSensitive(o, "params");
    r->run.method = pb_method_find(method);
    if (!r->run.method) {
        const char *names[64];
        size_t n = 0;
        for (; n < (size_t)pb_method_registry_count && n < 64; n++)
            names[n] = pb_method_registry[n]->name;
        return PB_ERROR(PB_E_INPUT, "%s: unknown method \"%.60s\": did you mean \"%s\"?", where,
                        method, pb_nearest(method, names, n));
    }
    if (pb_model_shape(model, &config) != PB_OK)
        return PB_ERROR(PB_E_INPUT, "%s: model: %s", where, pb_error_message());
    snprintf(r->run.model, sizeof r->run.model, "shape:%.900s", model);
    void *self = NULL;
    PB_RETURN(r->run.method->create(r->run.method_params, where, &self));
    r->run.method->destroy(self);
    return PB_OK;
}

static pb_status read_recipe(const pb_claim_file *claim, const pb_json *o, recipe *r) {
    char where[640];
    *r = (recipe){.code = PB_CODE_NF4};
    snprintf(where, sizeof where, "%s: facts.%.100s", claim->file, o->string);
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object", where);
    if (pb_json_get(o, "weights")) return read_quant(o, where, r);
    if (pb_json_get(o, "model")) return read_plan(o, where, r);
    return PB_ERROR(PB_E_INPUT, "%s: expected model (a plan) or weights (a rounding)", where);
}

/* ---- plans ---- */

static double parameters(pb_params *params, int role, const char *part, bool trainable) {
    double sum = 0;
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        if ((role >= 0 && (int)p->role != role) || (part && !strstr(p->name, part)) ||
            (trainable && !p->trainable))
            continue;
        sum += p->quant ? (double)p->quant->out * (double)p->quant->in
                        : (double)p->dim[0] * (double)(p->ndim > 1 ? p->dim[1] : 1);
    }
    return sum;
}

static double tensor_bytes(pb_tensor t) { return pb_has(t) ? (double)pb_bytes(t) : 0.0; }

/* Bits that the weights stored in 4 bits take: in all, and for their constants alone. */
static bool add_bits(pb_json *o, pb_params *params) {
    double weights = 0, codes = 0, constants = 0;
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_quant4 *q = pb_params_at(params, i)->quant;
        if (!q) continue;
        weights += (double)q->out * (double)q->in;
        codes += tensor_bytes(q->codes);
        constants += tensor_bytes(q->absmax) + tensor_bytes(q->absmax_q) +
                     tensor_bytes(q->absmax2) + tensor_bytes(q->offset);
    }
    if (weights == 0) return true;
    return pb_json_add_f64(o, "weights_quantised", weights) &&
           pb_json_add_f64(o, "bits_per_weight", 8 * (codes + constants) / weights) &&
           pb_json_add_f64(o, "constant_bits", 8 * constants / weights);
}

static bool add_parameters(pb_json *o, pb_params *p) {
    return pb_json_add_f64(o, "params_total", parameters(p, -1, NULL, false)) &&
           pb_json_add_f64(o, "params_trainable", parameters(p, -1, NULL, true)) &&
           pb_json_add_f64(o, "params_base", parameters(p, PB_ROLE_BASE, NULL, false)) &&
           pb_json_add_f64(o, "params_adapter", parameters(p, PB_ROLE_ADAPTER, NULL, false)) &&
           pb_json_add_f64(o, "params_head", parameters(p, PB_ROLE_HEAD, NULL, false)) &&
           pb_json_add_f64(o, "params_embedding", parameters(p, PB_ROLE_BASE, "embed_tokens", false) +
                                                      parameters(p, PB_ROLE_BASE, "wte", false) +
                                                      parameters(p, PB_ROLE_BASE, "word_embed", false)) &&
           pb_json_add_f64(o, "params_norm", parameters(p, PB_ROLE_BASE, "norm", false)) &&
           add_bits(o, p);
}

static bool add_bytes(pb_json *o, const pb_prediction *p) {
    static const pb_mem kept[] = {PB_MEM_BASE, PB_MEM_QUANT, PB_MEM_ADAPTER,
                                  PB_MEM_MASTER, PB_MEM_GRAD, PB_MEM_OPTIM};
    double sum = 0;
    bool ok = true;
    for (int m = 0; m < PB_MEM_COUNT && ok; m++) {
        char key[64];
        snprintf(key, sizeof key, "bytes.%s", pb_mem_name((pb_mem)m));
        ok = pb_json_add_f64(o, key, (double)p->bytes[m]);
    }
    for (size_t i = 0; i < COUNT(kept); i++) sum += (double)p->bytes[kept[i]];
    return ok && pb_json_add_f64(o, "bytes.static", sum) &&
           pb_json_add_f64(o, "bytes.total", (double)p->total) &&
           pb_json_add_f64(o, "flops", p->step.flops);
}

/* Everything a training of this shape would allocate, and what its parameters are. */
static pb_status plan(const recipe *r, int threads, pb_json *o) {
    pb_status status = PB_OK;
    pb_assets assets = {0};
    pb_session session = {0};
    pb_session_spec spec;
    pb_loader *loader = NULL;
    pb_prediction p;
    PB_TRY(pb_assets_load(&r->run, &assets));
    PB_TRY(pb_run_predict(&r->run, &assets, threads, 0, 0, &p));
    PB_TRY(pb_run_spec(&r->run, &assets, threads, &spec, &loader));
    spec.device = "plan:cpu";
    PB_TRY(pb_session_open(&session, &spec));
    if (!add_bytes(o, &p) || !add_parameters(o, pb_model_params(session.model)))
        PB_FAIL(PB_E_OOM, "no memory for a fact");
done:
    pb_session_close(&session);
    pb_loader_free(loader);
    pb_assets_free(&assets);
    return status;
}

/* ---- rounding ---- */

typedef struct rounding {
    double error, weight;       /* sums of squares: W - W', W */
    double constant, quantised; /* with the constants in 8 bits against in 32: W'' - W', W' */
    double n, codes, constants; /* weights; bytes */
} rounding;

/* Quantises a matrix with and without 8-bit constants and adds up what that did. */
static pb_status round_matrix(pb_device *dev, const recipe *r, const double *w, int64_t out,
                              int64_t in, rounding *sum) {
    pb_status status = PB_OK;
    size_t n = (size_t)(out * in);
    pb_mark base = pb_device_mark(dev, PB_MEM_BASE), quant = pb_device_mark(dev, PB_MEM_QUANT),
            work = pb_device_mark(dev, PB_MEM_WORK);
    pb_tensor src;
    double *back[2] = {malloc(n * sizeof(double)), malloc(n * sizeof(double))};
    if (!back[0] || !back[1]) PB_FAIL(PB_E_OOM, "no memory for %zu weights", n);
    PB_TRY(pb_alloc2(dev, PB_MEM_WORK, PB_F32, out, in, &src));
    PB_TRY(pb_device_put_f64(dev, src, w));
    for (int twice = 0; twice < 2; twice++) {
        pb_quantize4_args q = {.src = src};
        pb_tensor dst;
        PB_TRY(pb_quant4_alloc(dev, r->code, (int)r->block, twice, PB_F32, out, in, &q.q));
        PB_TRY(pb_alloc2(dev, PB_MEM_WORK, PB_F32, out, in, &dst));
        PB_TRY(pb_quantize4(dev, &q));
        PB_TRY(pb_dequantize4(dev, &(pb_dequantize4_args){.q = q.q, .dst = dst}));
        PB_TRY(pb_device_get_f64(dev, back[twice], dst));
        if (twice != r->double_quant) continue;
        sum->codes += tensor_bytes(q.q.codes);
        sum->constants += tensor_bytes(q.q.absmax) + tensor_bytes(q.q.absmax_q) +
                          tensor_bytes(q.q.absmax2) + tensor_bytes(q.q.offset);
    }
    for (size_t i = 0; i < n; i++) {
        double e = back[r->double_quant][i] - w[i], c = back[1][i] - back[0][i];
        sum->error += e * e;
        sum->weight += w[i] * w[i];
        sum->constant += c * c;
        sum->quantised += back[0][i] * back[0][i];
    }
    sum->n += (double)n;
done:
    pb_device_rewind(dev, PB_MEM_WORK, work);
    pb_device_rewind(dev, PB_MEM_QUANT, quant);
    pb_device_rewind(dev, PB_MEM_BASE, base);
    free(back[0]);
    free(back[1]);
    return status;
}

static pb_status round_gaussian(pb_device *dev, const recipe *r, rounding *sum) {
    uint64_t stream = pb_random_stream("claim weights", 0, 0);
    double *w = malloc((size_t)SIDE * SIDE * sizeof *w);
    if (!w) return PB_ERROR(PB_E_OOM, "no memory for %d weights", SIDE * SIDE);
    /* float first: what is stored is what the error is taken from */
    for (uint64_t i = 0; i < (uint64_t)SIDE * SIDE; i++)
        w[i] = (double)(float)pb_random_normal(1, stream, i);
    pb_status status = round_matrix(dev, r, w, SIDE, SIDE, sum);
    free(w);
    return status;
}

/* Every weight of a LINEAR site of a model that is here. */
static pb_status round_model(const char *dir, int threads, const recipe *r, rounding *sum) {
    pb_status status = PB_OK;
    pb_session s = {0};
    pb_safetensors *weights = NULL;
    pb_model_config config;
    double *w = NULL;
    int n = 0;
    PB_TRY(pb_model_config_load(dir, &config));
    PB_TRY(pb_safetensors_open(dir, &weights));
    pb_session_spec spec = {.device = "cpu",
                            .device_options = {.threads = threads},
                            .config = &config,
                            .weights = weights,
                            .where = "claims",
                            .model = {.dtype = PB_F32, .classes = config.causal ? 0 : 2},
                            .no_optim = true,
                            .train = {.rows = PB_ROW_ROUND,
                                      .sequences = 1,
                                      .max_len = PB_ROW_ROUND,
                                      .targets = PB_ROW_ROUND}};
    PB_TRY(pb_session_open(&s, &spec));
    const pb_site *sites = pb_model_sites(s.model, &n);
    for (int i = 0; i < n; i++) {
        if (sites[i].kind != PB_SITE_LINEAR || !sites[i].weight) continue;
        free(w);
        w = malloc((size_t)(sites[i].out * sites[i].in) * sizeof *w);
        if (!w) PB_FAIL(PB_E_OOM, "no memory for the weights of %s", sites[i].name);
        PB_TRY(pb_param_get(pb_model_params(s.model), sites[i].weight, w));
        PB_TRY(round_matrix(s.dev, r, w, sites[i].out, sites[i].in, sum));
    }
done:
    free(w);
    pb_session_close(&s);
    pb_safetensors_close(weights);
    return status;
}

static pb_status missing(pb_json *o, const char *fmt, const char *what) {
    char text[400];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, fmt, what);
#pragma GCC diagnostic pop
    return pb_json_add_str(o, "missing", text) ? PB_OK : PB_ERROR(PB_E_OOM, "no memory for a fact");
}

static pb_status round_weights(const recipe *r, int threads, pb_json *o) {
    pb_status status = PB_OK;
    rounding sum = {0};
    pb_device *dev = NULL;
    char dir[1200];
    if (strcmp(r->weights, "gaussian") == 0) {
        pb_device_options options = {.threads = threads};
        PB_TRY(pb_device_open("cpu", &options, &dev));
        PB_TRY(round_gaussian(dev, r, &sum));
    } else {
        snprintf(dir, sizeof dir, "%s/.cache/models/%.100s", pb_home(), r->weights);
        if (!pb_is_dir(dir)) return missing(o, "no model %.100s here: ./run.sh fetches it", r->weights);
        PB_TRY(round_model(dir, threads, r, &sum));
    }
    bool ok = pb_json_add_f64(o, "weights_quantised", sum.n) &&
              pb_json_add_f64(o, "bits_per_weight", 8 * (sum.codes + sum.constants) / sum.n) &&
              pb_json_add_f64(o, "constant_bits", 8 * sum.constants / sum.n) &&
              pb_json_add_f64(o, "relative_error", sqrt(sum.error / sum.weight)) &&
              pb_json_add_f64(o, "constant_error", sqrt(sum.constant / sum.quantised));
    if (!ok) PB_FAIL(PB_E_OOM, "no memory for a fact");
done:
    pb_device_close(dev);
    return status;
}

/* ---- all ---- */

static pb_status one_claim(const pb_claim_file *c, int threads, pb_json *out) {
    const pb_json *f = NULL;
    recipe r;
    if (!c->facts) return PB_OK;
    pb_json *facts = pb_json_add_object(out, c->id);
    cJSON_ArrayForEach (f, c->facts) {
        pb_json *o = pb_json_add_object(facts, f->string);
        if (!o) return PB_ERROR(PB_E_OOM, "no memory for a fact");
        PB_RETURN(read_recipe(c, f, &r));
        PB_RETURN(r.quant ? round_weights(&r, threads, o) : plan(&r, threads, o));
    }
    return PB_OK;
}

pb_status pb_claim_facts(const pb_claim_file *const *claims, int n, int threads, pb_json **out) {
    pb_status status = PB_OK;
    *out = cJSON_CreateObject();
    if (!*out) return PB_ERROR(PB_E_OOM, "no memory for facts");
    for (int i = 0; i < n && status == PB_OK; i++) status = one_claim(claims[i], threads, *out);
    if (status == PB_OK) return PB_OK;
    pb_json_free(*out);
    *out = NULL;
    return status;
}

pb_status pb_claim_facts_check(const pb_claim_file *claim) {
    const pb_json *f = NULL;
    recipe r;
    cJSON_ArrayForEach (f, claim->facts) PB_RETURN(read_recipe(claim, f, &r));
    return PB_OK;
}

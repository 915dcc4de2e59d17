/* Methods at single sites, without a model: hand-made weights on the reference device in f64. Every method that hooks
 * linear layers or sub-layers is checked against finite differences, at its start, and merged and unmerged. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/core/rng.h"
#include "methods/budget.h"
#include "methods/method.h"
#include "tests/support.h"

enum { N = 16, IN = 12, OUT = 10, WIDE = 14, N_SITES = 6 };
enum { SITE_Q, SITE_UP, SITE_ATTN_OUT, SITE_MLP_OUT, SITE_NORM1, SITE_NORM2 };

/* --- a bench: one block's worth of sites, and one method on them ------------------------------------------------------ */

typedef struct bench {
    pb_device *dev;
    pb_params *params;
    pb_dtype dtype;
    pb_site sites[N_SITES];
    pb_quant4 quant[2];
    const pb_method *method;
    void *self;
    pb_pass pass;
} bench;

/* {'rank': 4} -> JSON. */
static pb_json *json(const char *text) {
    char buffer[512];
    ck_assert(strlen(text) < sizeof buffer);
    size_t n = strlen(text);
    for (size_t i = 0; i <= n; i++) buffer[i] = (char)(text[i] == '\'' ? '"' : text[i]);
    pb_json *out = NULL;
    pb_assert_ok(pb_json_parse("test", buffer, n, &out));
    return out;
}

static pb_status add_matrix(bench *b, pb_site *site, int i, const char *name, pb_storage storage) {
    pb_tensor src;
    if (!storage.quantised) {
        PB_RETURN(pb_params_add(b->params, PB_ROLE_BASE, name, site->out, site->in, &site->weight));
        return pb_param_init_normal(b->params, site->weight, 0.3, 0, 5, (uint64_t)i);
    }
    pb_quant4 *q = &b->quant[i];
    PB_RETURN(pb_quant4_alloc(b->dev, storage.code, storage.block, storage.double_quant, b->dtype,
                              site->out, site->in, q));
    double host[WIDE * IN];
    for (int k = 0; k < WIDE * IN; k++)
        host[k] = 0.3 * pb_random_normal(5, (uint64_t)i, (uint64_t)k);
    PB_RETURN(pb_alloc2(b->dev, PB_MEM_WORK, b->dtype, site->out, site->in, &src));
    PB_RETURN(pb_device_put_f64(b->dev, src, host));
    PB_RETURN(pb_quantize4(b->dev, &(pb_quantize4_args){.src = src, .q = *q}));
    return pb_params_add_quant(b->params, name, q, &site->weight);
}

static pb_status add_vector(bench *b, const char *name, int64_t n, double mean, uint64_t stream,
                            pb_param **out) {
    double host[WIDE];
    for (int64_t i = 0; i < n; i++) host[i] = mean + 0.2 * pb_random_normal(6, stream, (uint64_t)i);
    PB_RETURN(pb_params_add(b->params, PB_ROLE_BASE, name, n, 0, out));
    return pb_param_set(b->params, *out, host);
}

/* post_norm false: no norm follows the sub-layers. */
static pb_status add_sites(bench *b, pb_storage storage, bool post_norm) {
    pb_param *gamma[2], *beta[2];
    b->sites[SITE_Q] =
        (pb_site){.name = "layers.0.attn.q", .kind = PB_SITE_LINEAR, .in = IN, .out = OUT};
    b->sites[SITE_UP] =
        (pb_site){.name = "layers.0.mlp.up", .kind = PB_SITE_LINEAR, .in = IN, .out = WIDE};
    PB_RETURN(add_matrix(b, &b->sites[SITE_Q], 0, "q.weight", storage));
    PB_RETURN(add_vector(b, "q.bias", OUT, 0, 1, &b->sites[SITE_Q].bias));
    PB_RETURN(add_matrix(b, &b->sites[SITE_UP], 1, "up.weight", storage));
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "norm%d.gamma", i);
        PB_RETURN(add_vector(b, name, IN, 1, 10 + (uint64_t)i, &gamma[i]));
        snprintf(name, sizeof name, "norm%d.beta", i);
        PB_RETURN(add_vector(b, name, IN, 0, 20 + (uint64_t)i, &beta[i]));
        pb_site *out = &b->sites[SITE_ATTN_OUT + i], *norm = &b->sites[SITE_NORM1 + i];
        *norm = (pb_site){.kind = PB_SITE_NORM,
                          .in = IN,
                          .out = IN,
                          .gamma = gamma[i],
                          .beta = beta[i],
                          .norm = PB_NORM_LAYER,
                          .norm_eps = 1e-5};
        *out = *norm;
        out->kind = PB_SITE_SUBLAYER_OUT;
        if (!post_norm) out->gamma = out->beta = NULL;
        snprintf(out->name, sizeof out->name, "layers.0.%s.out", i ? "mlp" : "attn");
        snprintf(norm->name, sizeof norm->name, "layers.0.%s.norm", i ? "mlp" : "attn");
    }
    for (int i = 0; i < N_SITES; i++) b->sites[i].id = i;
    return PB_OK;
}

static void bench_close(bench *b) {
    if (b->method) b->method->destroy(b->self);
    pb_params_free(b->params);
    pb_device_close(b->dev);
    *b = (bench){0};
}

/* Fails with a status, so that allocation failures can be tested; the caller closes in any case. */
static pb_status bench_try(bench *b, const char *backend, const pb_device_options *options,
                           pb_dtype dtype, const char *method, const char *params, int64_t steps,
                           bool post_norm) {
    *b = (bench){.dtype = dtype};
    PB_RETURN(pb_device_open(backend, options, &b->dev));
    PB_RETURN(pb_params_new(b->dev, dtype, &b->params));
    b->pass = (pb_pass){.dev = b->dev, .dtype = dtype, .train = true, .seed = 77, .step = 3};
    pb_json *o = json(params);
    const pb_method *m = pb_method_find(method);
    ck_assert_ptr_nonnull(m);
    pb_status status = m->create(o, method, &b->self);
    pb_json_free(o);
    PB_RETURN(status);
    b->method = m;
    pb_storage storage = m->storage ? m->storage(b->self) : (pb_storage){0};
    PB_RETURN(add_sites(b, storage, post_norm));
    pb_attach ctx = {.dev = b->dev,
                     .params = b->params,
                     .sites = b->sites,
                     .n_sites = N_SITES,
                     .seed = 9,
                     .total_steps = steps,
                     .max_rows = N};
    return m->attach(b->self, &ctx);
}

static void bench_open(bench *b, pb_dtype dtype, const char *method, const char *params,
                       int64_t steps) {
    pb_assert_ok(bench_try(b, "ref", NULL, dtype, method, params, steps, true));
}

/* Values away from the start (B = 0, E = 0) so that every gradient is at work. */
static void stir(bench *b) {
    for (int i = 0; i < pb_params_count(b->params); i++) {
        pb_param *p = pb_params_at(b->params, i);
        if (p->role != PB_ROLE_ADAPTER) continue;
        int64_t n = pb_numel(p->value);
        double *host = calloc((size_t)n, sizeof *host);
        pb_assert_ok(pb_param_get(b->params, p, host));
        for (int64_t k = 0; k < n; k++)
            host[k] += 0.3 * pb_random_normal(31, (uint64_t)i, (uint64_t)k);
        pb_assert_ok(pb_param_set(b->params, p, host));
        free(host);
    }
}

static pb_tensor tensor(bench *b, int64_t rows, int64_t cols, uint64_t stream, double *host) {
    pb_tensor t;
    double *own = calloc((size_t)(rows * cols), sizeof *own);
    for (int64_t i = 0; i < rows * cols; i++) own[i] = pb_random_normal(41, stream, (uint64_t)i);
    pb_assert_ok(pb_alloc2(b->dev, PB_MEM_DATA, b->dtype, rows, cols, &t));
    pb_assert_ok(pb_device_put_f64(b->dev, t, own));
    if (host) memcpy(host, own, (size_t)(rows * cols) * sizeof *own);
    free(own);
    return t;
}

/* What the model would do at a linear site. */
static pb_status linear_fwd(bench *b, int i, pb_tensor x, pb_tensor y) {
    pb_site *site = &b->sites[i];
    if (site->hooked && b->method->linear_fwd)
        return b->method->linear_fwd(b->self, &b->pass, site, x, y);
    return pb_site_base_fwd(&b->pass, site, x, y, true);
}

static pb_status linear_bwd(bench *b, int i, pb_tensor x, pb_tensor dy, pb_tensor dx,
                            double beta_dx) {
    pb_site *site = &b->sites[i];
    if (site->hooked && b->method->linear_bwd)
        return b->method->linear_bwd(b->self, &b->pass, site, x, dy, dx, beta_dx);
    return pb_site_base_bwd(&b->pass, site, x, dy, dx, beta_dx);
}

/* y of one forward pass on the host; activations are given back. */
static void output(bench *b, int i, pb_tensor x, double *host) {
    pb_mark act = pb_device_mark(b->dev, PB_MEM_ACT), data = pb_device_mark(b->dev, PB_MEM_DATA);
    pb_tensor y;
    pb_assert_ok(pb_alloc2(b->dev, PB_MEM_DATA, b->dtype, N, b->sites[i].out, &y));
    pb_assert_ok(linear_fwd(b, i, x, y));
    pb_assert_ok(pb_device_get_f64(b->dev, host, y));
    pb_device_rewind(b->dev, PB_MEM_ACT, act);
    pb_device_rewind(b->dev, PB_MEM_DATA, data);
}

static double dot(const double *a, const double *b, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

/* --- finite differences ------------------------------------------------------------------------------------------------ */

/* The scalar function under test: sum(dy .* y). */
typedef struct probe {
    bench *b;
    int site;
    pb_tensor x, res; /* res: sub-layers only */
    const double *dy;
} probe;

static double value(const probe *p) {
    double y[N * WIDE];
    bench *b = p->b;
    pb_site *site = &b->sites[p->site];
    if (site->kind == PB_SITE_LINEAR) {
        output(b, p->site, p->x, y);
    } else {
        pb_mark act = pb_device_mark(b->dev, PB_MEM_ACT),
                data = pb_device_mark(b->dev, PB_MEM_DATA);
        pb_tensor out;
        pb_assert_ok(pb_alloc2(b->dev, PB_MEM_DATA, b->dtype, N, site->out, &out));
        pb_assert_ok(b->method->sublayer_fwd(b->self, &b->pass, site, p->x, p->res, out));
        pb_assert_ok(pb_device_get_f64(b->dev, y, out));
        pb_device_rewind(b->dev, PB_MEM_ACT, act);
        pb_device_rewind(b->dev, PB_MEM_DATA, data);
    }
    return dot(p->dy, y, N * site->out);
}

#define STEP 1e-5

static void check_tensor(const probe *p, pb_tensor t, const double *gradient, const char *what) {
    int64_t n = pb_numel(t);
    double *host = calloc((size_t)n, sizeof *host), *want = calloc((size_t)n, sizeof *want);
    pb_assert_ok(pb_device_get_f64(p->b->dev, host, t));
    for (int64_t i = 0; i < n; i++) {
        double at = host[i];
        host[i] = at + STEP;
        pb_assert_ok(pb_device_put_f64(p->b->dev, t, host));
        double up = value(p);
        host[i] = at - STEP;
        pb_assert_ok(pb_device_put_f64(p->b->dev, t, host));
        want[i] = (up - value(p)) / (2 * STEP);
        host[i] = at;
    }
    pb_assert_ok(pb_device_put_f64(p->b->dev, t, host));
    pb_assert_close(gradient, want, (size_t)n, 1e-7, 1e-7, what);
    free(host);
    free(want);
}

static void check_parameters(const probe *p) {
    for (int i = 0; i < pb_params_count(p->b->params); i++) {
        pb_param *param = pb_params_at(p->b->params, i);
        if (!param->trainable) {
            ck_assert(!pb_has(param->grad) && !pb_has(param->master));
            continue;
        }
        double *gradient = calloc((size_t)pb_numel(param->grad), sizeof *gradient);
        pb_assert_ok(pb_device_get_f64(p->b->dev, gradient, param->grad));
        check_tensor(p, param->value, gradient, param->name);
        free(gradient);
    }
}

/* Gradients of a linear site: dx = beta*dx + ..., and every trainable parameter. */
static void check_linear(bench *b, int i) {
    double r[N * WIDE], before[N * IN], dx_host[N * IN];
    int64_t out = b->sites[i].out;
    pb_tensor x = tensor(b, N, IN, 1, NULL), dy = tensor(b, N, out, 2, r),
              dx = tensor(b, N, IN, 3, before);
    pb_tensor y = tensor(b, N, out, 4, NULL);
    probe p = {.b = b, .site = i, .x = x, .dy = r};
    pb_assert_ok(pb_params_zero_grads(b->params));
    pb_mark act = pb_device_mark(b->dev, PB_MEM_ACT), work = pb_device_mark(b->dev, PB_MEM_WORK);
    pb_assert_ok(linear_fwd(b, i, x, y));
    pb_assert_ok(linear_bwd(b, i, x, dy, dx, 0.5));
    pb_assert_ok(pb_device_get_f64(b->dev, dx_host, dx));
    ck_assert_int_eq(pb_device_mark(b->dev, PB_MEM_WORK).bytes, work.bytes);
    pb_device_rewind(b->dev, PB_MEM_ACT, act);
    for (int k = 0; k < N * IN; k++) dx_host[k] -= 0.5 * before[k];
    check_tensor(&p, x, dx_host, "dx");
    check_parameters(&p);
    /* no dx wanted: the parameters' gradients are the same, added a second time */
    pb_assert_ok(linear_fwd(b, i, x, y));
    pb_assert_ok(linear_bwd(b, i, x, dy, (pb_tensor){0}, 0));
    pb_device_rewind(b->dev, PB_MEM_ACT, act);
    for (int k = 0; k < N * WIDE; k++) r[k] *= 2;
    check_parameters(&p);
}

typedef struct method_case {
    const char *method, *params;
} method_case;

/* DoRA with its norm taken as a constant is no gradient of anything: it has a test of its own. DyLoRA likewise. */
static const method_case linear_cases[] = {
    {"full", "{}"},
    {"full", "{'targets': ['*.up', 'q.bias']}"},
    {"head", "{}"},
    {"lora", "{'rank': 4, 'alpha': 6}"},
    {"lora", "{'rank': 4, 'alpha': 6, 'dropout': 0.4, 'bias': 'all', 'rslora': true}"},
    {"lora", "{'rank': 1, 'targets': ['*.up'], 'bias': 'lora_only', 'init': 'gaussian'}"},
    {"qlora", "{'rank': 4, 'dropout': 0.4}"},
    {"qlora", "{'rank': 3, 'code': 'int4', 'block': 32, 'double_quant': false, 'bias': 'all'}"},
    {"adalora", "{'init_rank': 5, 'target_rank': 2}"},
    {"adalora", "{'init_rank': 5, 'target_rank': 2, 'dropout': 0.4, 'scale': 1.5}"},
    {"dylora", "{'rank': 4, 'frozen': false}"},
    {"dylora", "{'rank': 4, 'frozen': false, 'dropout': 0.4}"},
    {"dora", "{'rank': 4, 'exact_norm_gradient': true, 'bias': 'all'}"},
    {"dora", "{'rank': 4, 'exact_norm_gradient': true, 'dropout': 0.4, 'bias': 'all'}"},
};
enum { N_LINEAR = sizeof linear_cases / sizeof linear_cases[0] };

START_TEST(linear_gradients_match_finite_differences) {
    bench b;
    const method_case *c = &linear_cases[_i];
    bench_open(&b, PB_F64, c->method, c->params, 100);
    stir(&b);
    if (b.method->before_step) pb_assert_ok(b.method->before_step(b.self, 2));
    check_linear(&b, SITE_Q);
    check_linear(&b, SITE_UP);
    bench_close(&b);
}
END_TEST

START_TEST(every_method_with_linear_hooks_has_a_case) {
    for (int m = 0; m < pb_method_registry_count; m++) {
        bool found = pb_method_registry[m]->linear_fwd == NULL;
        for (int i = 0; i < N_LINEAR; i++)
            found = found || strcmp(linear_cases[i].method, pb_method_registry[m]->name) == 0;
        ck_assert_msg(found, "%s hooks linear layers and is not tested",
                      pb_method_registry[m]->name);
    }
}
END_TEST

/* --- every backend --------------------------------------------------------------------------------------------------- */

/* Output and gradients of one pass at the q site on a backend in f32. */
static void gradients(const char *backend, const method_case *c, double *out) {
    bench b;
    int64_t at = 2 * N * IN;
    pb_assert_ok(bench_try(&b, backend, NULL, PB_F32, c->method, c->params, 100, true));
    stir(&b);
    if (b.method->before_step) pb_assert_ok(b.method->before_step(b.self, 2));
    pb_tensor x = tensor(&b, N, IN, 1, NULL), dy = tensor(&b, N, OUT, 2, NULL);
    pb_tensor y = tensor(&b, N, OUT, 3, NULL), dx = tensor(&b, N, IN, 4, NULL);
    pb_assert_ok(pb_params_zero_grads(b.params));
    pb_assert_ok(linear_fwd(&b, SITE_Q, x, y));
    pb_assert_ok(linear_bwd(&b, SITE_Q, x, dy, dx, 0));
    pb_assert_ok(pb_device_get_f64(b.dev, out, y));
    pb_assert_ok(pb_device_get_f64(b.dev, out + N * IN, dx));
    for (int i = 0; i < pb_params_count(b.params); i++) {
        pb_param *p = pb_params_at(b.params, i);
        if (!p->trainable) continue;
        pb_assert_ok(pb_device_get_f64(b.dev, out + at, p->grad));
        at += pb_numel(p->grad);
        ck_assert_int_lt(at, 4096);
    }
    if (b.method->loss_term)
        pb_assert_ok(
            b.method->loss_term(b.self, b.dev, pb_rows_of(pb_reshape(dx, N * IN, 1), 0, 1)));
    for (int step = 0; step < 3 && b.method->after_step; step++)
        pb_assert_ok(b.method->after_step(b.self, b.dev, step, (pb_tensor){0}));
    if (b.method->merge) {
        pb_assert_ok(b.method->merge(b.self, b.dev));
        pb_assert_ok(b.method->unmerge(b.self, b.dev));
    }
    bench_close(&b);
}

START_TEST(the_cpu_backend_agrees_with_the_reference) {
    const method_case frozen = {"dylora", "{'rank': 4, 'dropout': 0.4}"};
    const method_case *c = _i < N_LINEAR ? &linear_cases[_i] : &frozen;
    double cpu[4096] = {0}, ref[4096] = {0};
    gradients("cpu", c, cpu);
    gradients("ref", c, ref);
    pb_assert_close(cpu, ref, 4096, 2e-5, 2e-5, "y, dx and gradients");
}
END_TEST

/* --- start, evaluation, merge -------------------------------------------------------------------------------------------- */

static void base_output(bench *b, int i, pb_tensor x, double *host) {
    const pb_method *m = b->method;
    b->method = &(pb_method){0};
    output(b, i, x, host);
    b->method = m;
}

START_TEST(step_zero_equals_the_base_model) {
    bench b;
    double got[N * WIDE], want[N * WIDE];
    bench_open(&b, PB_F64, linear_cases[_i].method, linear_cases[_i].params, 100);
    ck_assert(b.method->exact_at_start);
    b.pass.train = false;
    pb_tensor x = tensor(&b, N, IN, 1, NULL);
    for (int i = SITE_Q; i <= SITE_UP; i++) {
        output(&b, i, x, got);
        base_output(&b, i, x, want);
        pb_assert_close(got, want, (size_t)(N * b.sites[i].out), 1e-14, 0,
                        "y"); /* DoRA adds b last */
    }
    bench_close(&b);
}
END_TEST

START_TEST(evaluation_has_no_dropout_and_keeps_nothing) {
    bench b, plain;
    double got[N * WIDE], want[N * WIDE];
    bench_open(&b, PB_F64, _i ? "dora" : "lora", "{'rank': 4, 'dropout': 0.5}", 0);
    bench_open(&plain, PB_F64, _i ? "dora" : "lora", "{'rank': 4}", 0);
    stir(&b);
    stir(&plain);
    pb_tensor x = tensor(&b, N, IN, 1, NULL), x2 = tensor(&plain, N, IN, 1, NULL);
    output(&b, SITE_Q, x, got);
    output(&plain, SITE_Q, x2, want);
    ck_assert(memcmp(got, want, sizeof(double) * N * OUT) != 0);
    b.pass.train = plain.pass.train = false;
    uint64_t act = pb_device_mem_peak(b.dev, PB_MEM_ACT),
             work = pb_device_mem_now(b.dev, PB_MEM_WORK);
    output(&b, SITE_Q, x, got);
    output(&plain, SITE_Q, x2, want);
    ck_assert(memcmp(got, want, sizeof(double) * N * OUT) == 0);
    ck_assert_uint_eq(pb_device_mem_peak(b.dev, PB_MEM_ACT), act);
    ck_assert_uint_eq(pb_device_mem_now(b.dev, PB_MEM_WORK), work);
    bench_close(&b);
    bench_close(&plain);
}
END_TEST

START_TEST(a_steady_step_takes_no_new_memory) {
    bench b;
    bench_open(&b, PB_F64, linear_cases[_i].method, linear_cases[_i].params, 100);
    pb_tensor x = tensor(&b, N, IN, 1, NULL), y = tensor(&b, N, OUT, 2, NULL),
              dx = tensor(&b, N, IN, 3, NULL);
    uint64_t growths = 0;
    for (int step = 0; step < 3; step++) {
        pb_mark act = pb_device_mark(b.dev, PB_MEM_ACT);
        pb_assert_ok(linear_fwd(&b, SITE_Q, x, y));
        pb_assert_ok(linear_bwd(&b, SITE_Q, x, y, dx, 0));
        if (b.method->after_step)
            pb_assert_ok(b.method->after_step(b.self, b.dev, step, (pb_tensor){0}));
        pb_device_rewind(b.dev, PB_MEM_ACT, act);
        if (step > 0) ck_assert_uint_eq(pb_device_growths(b.dev), growths);
        growths = pb_device_growths(b.dev);
    }
    bench_close(&b);
}
END_TEST

static void stored(bench *b, int i, double *host) {
    pb_assert_ok(pb_param_get(b->params, b->sites[i].weight, host));
}

/* merge_tol: how far the merged forward may be off; back_tol: the restored weights. */
static void check_merge(bench *b, double merge_tol, double back_tol) {
    double unmerged[2][N * WIDE], merged[N * WIDE], before[2][WIDE * IN], after[WIDE * IN];
    b->pass.train = false;
    pb_tensor x = tensor(b, N, IN, 1, NULL);
    uint64_t work = pb_device_mem_now(b->dev, PB_MEM_WORK);
    for (int i = SITE_Q; i <= SITE_UP; i++) {
        output(b, i, x, unmerged[i]);
        stored(b, i, before[i]);
    }
    pb_assert_ok(b->method->merge(b->self, b->dev));
    for (int i = SITE_Q; i <= SITE_UP; i++) {
        output(b, i, x, merged);
        pb_assert_close(merged, unmerged[i], (size_t)(N * b->sites[i].out), merge_tol, merge_tol,
                        "merged y");
        stored(b, i, after);
        ck_assert(!b->sites[i].hooked || memcmp(after, before[i], sizeof(double) * IN * OUT) != 0);
    }
    pb_assert_ok(b->method->unmerge(b->self, b->dev));
    for (int i = SITE_Q; i <= SITE_UP; i++) {
        stored(b, i, after);
        pb_assert_close(after, before[i], (size_t)(IN * b->sites[i].out), back_tol, back_tol,
                        "restored weight");
        output(b, i, x, merged);
        pb_assert_close(merged, unmerged[i], (size_t)(N * b->sites[i].out), 100 * back_tol,
                        100 * back_tol, "y");
    }
    ck_assert_uint_eq(pb_device_mem_now(b->dev, PB_MEM_WORK), work);
}

START_TEST(merge_equals_the_unmerged_forward_and_unmerge_restores) {
    bench b;
    bench_open(&b, PB_F64, linear_cases[_i].method, linear_cases[_i].params, 100);
    if (b.method->mergeable) {
        stir(&b);
        bool quantised = b.method->storage !=
                         NULL; /* requantised: lossy, but kept codes come back bit for bit */
        check_merge(&b, quantised ? 2.0 : 1e-12, quantised ? 0 : 1e-14);
    }
    bench_close(&b);
}
END_TEST

START_TEST(unmerge_restores_bf16_weights_bit_for_bit) {
    static const method_case cases[] = {{"lora", "{}"},
                                        {"adalora", "{'init_rank': 6, 'target_rank': 2}"},
                                        {"dylora", "{}"},
                                        {"dora", "{}"},
                                        {"qlora", "{}"}};
    bench b;
    bench_open(&b, PB_BF16, cases[_i].method, cases[_i].params, 100);
    stir(&b);
    check_merge(&b, _i == 4 ? 2.0 : 0.06, 0);
    bench_close(&b);
}
END_TEST

START_TEST(merge_takes_the_selected_rank) {
    bench b;
    bench_open(&b, PB_F64, "dylora", "{'rank': 4}", 0);
    stir(&b);
    ck_assert_int_eq(b.method->variants(b.self), 4);
    for (int v = 0; v < 4; v++) {
        ck_assert(b.method->variant_value(b.self, v) == v + 1);
        pb_assert_ok(b.method->select(b.self, v));
        check_merge(&b, 1e-12, 1e-14);
    }
    bench_close(&b);
}
END_TEST

/* A failed merge leaves no site merged; a good one is taken back. */
static pb_status merge_or_nothing(bench *b) {
    double before[2][WIDE * IN], after[WIDE * IN];
    bool quantised = b->sites[SITE_Q].weight->quant != NULL;
    stir(b);
    for (int i = SITE_Q; i <= SITE_UP && !quantised; i++) stored(b, i, before[i]);
    unsigned char codes[2][WIDE * IN / 2], now[WIDE * IN / 2];
    for (int i = SITE_Q; i <= SITE_UP && quantised; i++)
        pb_assert_ok(
            pb_device_get(b->dev, codes[i], b->quant[i].codes, pb_bytes(b->quant[i].codes)));
    pb_status status = b->method->merge(b->self, b->dev);
    if (status == PB_OK) pb_assert_ok(b->method->unmerge(b->self, b->dev));
    for (int i = SITE_Q; i <= SITE_UP; i++) {
        int64_t n = b->sites[i].out * IN;
        if (quantised) { /* reading values would need memory */
            pb_assert_ok(
                pb_device_get(b->dev, now, b->quant[i].codes, pb_bytes(b->quant[i].codes)));
            ck_assert(memcmp(now, codes[i], (size_t)n / 2) == 0);
        } else {
            stored(b, i, after);
            pb_assert_close(after, before[i], (size_t)n, 1e-14, 1e-14, "weight");
        }
    }
    return status;
}

/* Any allocation may fail: a status, no leak, and a failed merge leaves the weights as they were. */
START_TEST(every_allocation_may_fail) {
    const method_case *c = &linear_cases[_i];
    int64_t n = 1;
    for (bool done = false; !done; n++) {
        bench b;
        pb_tensor x, y;
        ck_assert_int_lt(n, 2000);
        pb_device_options options = {.threads = 1, .fail_alloc = n};
        pb_status status = bench_try(&b, "ref", &options, PB_F64, c->method, c->params, 100, true);
        if (status == PB_OK) status = pb_alloc2(b.dev, PB_MEM_DATA, PB_F64, N, IN, &x);
        if (status == PB_OK) status = pb_alloc2(b.dev, PB_MEM_DATA, PB_F64, N, OUT, &y);
        if (status == PB_OK) status = linear_fwd(&b, SITE_Q, x, y);
        if (status == PB_OK) status = linear_bwd(&b, SITE_Q, x, y, (pb_tensor){0}, 0);
        if (status == PB_OK && b.method->merge) status = merge_or_nothing(&b);
        done = status == PB_OK;
        if (!done) ck_assert_int_eq(status, PB_E_OOM);
        bench_close(&b);
    }
    ck_assert_int_gt(n, 5);
}
END_TEST

/* --- DoRA and DyLoRA in their default forms ------------------------------------------------------------------------------ */

static void host_of(bench *b, const char *name, double *host) {
    pb_param *p = pb_params_find(b->params, name);
    ck_assert_ptr_nonnull(p);
    pb_assert_ok(pb_param_get(b->params, p, host));
}

static void gradient_of(bench *b, const char *name, double *host) {
    pb_param *p = pb_params_find(b->params, name);
    ck_assert_ptr_nonnull(p);
    pb_assert_ok(pb_device_get_f64(b->dev, host, p->grad));
}

/* c[m,n] = scale * op(a) b */
static void product(const double *a, bool trans_a, const double *b, int64_t m, int64_t k, int64_t n,
                    double scale, double *c) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t l = 0; l < k; l++)
                s += (trans_a ? a[l * m + i] : a[i * k + l]) * b[l * n + j];
            c[i * n + j] = scale * s;
        }
}

enum { R = 4 };

/* What the factors A [R,IN] and B [OUT,R] of the q site hold, and one forward and backward pass over it. */
typedef struct q_pass {
    double a[R * IN], b[OUT * R], w[OUT * IN], bias[OUT], x[N * IN], dy[N * OUT], y[N * OUT],
        dx[N * IN];
} q_pass;

static void run_q(bench *b, q_pass *q) {
    pb_tensor x = tensor(b, N, IN, 1, q->x), dy = tensor(b, N, OUT, 2, q->dy);
    pb_tensor y = tensor(b, N, OUT, 3, NULL), dx = tensor(b, N, IN, 4, NULL);
    host_of(b, "layers.0.attn.q.lora_A", q->a);
    host_of(b, "layers.0.attn.q.lora_B", q->b);
    host_of(b, "q.weight", q->w);
    host_of(b, "q.bias", q->bias);
    pb_mark act = pb_device_mark(b->dev, PB_MEM_ACT);
    pb_assert_ok(pb_params_zero_grads(b->params));
    pb_assert_ok(linear_fwd(b, SITE_Q, x, y));
    pb_assert_ok(linear_bwd(b, SITE_Q, x, dy, dx, 0));
    pb_assert_ok(pb_device_get_f64(b->dev, q->y, y));
    pb_assert_ok(pb_device_get_f64(b->dev, q->dx, dx));
    pb_device_rewind(b->dev, PB_MEM_ACT, act);
}

START_TEST(dora_takes_its_norm_as_a_constant) {
    bench b;
    q_pass q;
    double m[OUT], gc[N * OUT], h[N * R], at[IN * R], dh[N * R], da[R * IN], db[OUT * R],
        got[OUT * IN];
    const double s = 6.0 / R;
    bench_open(&b, PB_F64, "dora", "{'rank': 4, 'alpha': 6}", 0);
    stir(&b);
    run_q(&b, &q);
    host_of(&b, "layers.0.attn.q.dora_m", m);
    for (int j = 0; j < OUT; j++) {
        double n2 = 0;
        for (int i = 0; i < IN; i++) {
            double v = q.w[j * IN + i];
            for (int k = 0; k < R; k++) v += s * q.b[j * R + k] * q.a[k * IN + i];
            n2 += v * v;
        }
        for (int n = 0; n < N; n++) gc[n * OUT + j] = q.dy[n * OUT + j] * m[j] / sqrt(n2);
    }
    for (int k = 0; k < R; k++)
        for (int i = 0; i < IN; i++) at[i * R + k] = q.a[k * IN + i];
    product(q.x, false, at, N, IN, R, 1, h);
    product(gc, true, h, OUT, N, R, s, db);
    product(gc, false, q.b, N, OUT, R, s, dh);
    product(dh, true, q.x, R, N, IN, 1, da);
    gradient_of(&b, "layers.0.attn.q.lora_A", got);
    pb_assert_close(got, da, R * IN, 1e-12, 1e-12, "dA");
    gradient_of(&b, "layers.0.attn.q.lora_B", got);
    pb_assert_close(got, db, OUT * R, 1e-12, 1e-12, "dB");
    bench_close(&b);
}
END_TEST

/* DoRA's other gradients (x, m, bias) are those of the exact variant, with and without dropout. */
START_TEST(dora_variants_differ_in_the_factors_only) {
    double dx[2][N * IN], dm[2][OUT], da[2][R * IN];
    for (int exact = 0; exact < 2; exact++) {
        bench b;
        q_pass q;
        char params[100];
        snprintf(params, sizeof params, "{'rank': 4, 'dropout': %s, 'exact_norm_gradient': %s}",
                 _i ? "0.4" : "0", exact ? "true" : "false");
        bench_open(&b, PB_F64, "dora", params, 0);
        stir(&b);
        run_q(&b, &q);
        memcpy(dx[exact], q.dx, sizeof q.dx);
        gradient_of(&b, "layers.0.attn.q.dora_m", dm[exact]);
        gradient_of(&b, "layers.0.attn.q.lora_A", da[exact]);
        bench_close(&b);
    }
    ck_assert(memcmp(dx[0], dx[1], sizeof dx[0]) == 0);
    ck_assert(memcmp(dm[0], dm[1], sizeof dm[0]) == 0);
    ck_assert(memcmp(da[0], da[1], sizeof da[0]) != 0);
}
END_TEST

/* c = 1 and B = 0: W xd leaves and comes back, whatever the mask. */
START_TEST(dora_with_dropout_begins_at_the_base_model) {
    bench b;
    double got[N * OUT], want[N * OUT];
    bench_open(&b, PB_F64, "dora", "{'rank': 4, 'dropout': 0.5}", 0);
    pb_tensor x = tensor(&b, N, IN, 1, NULL);
    output(&b, SITE_Q, x, got);
    base_output(&b, SITE_Q, x, want);
    pb_assert_close(got, want, N * OUT, 1e-13, 0, "y");
    bench_close(&b);
}
END_TEST

START_TEST(dylora_ranks_give_the_truncated_product) {
    bench b;
    bench_open(&b, PB_F64, "dylora", "{'rank': 4, 'alpha': 6}", 0);
    stir(&b);
    for (int rank = 1; rank <= R; rank++) {
        q_pass q;
        double want[N * OUT];
        pb_assert_ok(b.method->select(b.self, rank - 1));
        run_q(&b, &q);
        for (int n = 0; n < N; n++)
            for (int j = 0; j < OUT; j++) {
                double v = q.bias[j] + dot(q.x + n * IN, q.w + j * IN, IN);
                for (int k = 0; k < rank; k++)
                    v += 6.0 / rank * q.b[j * R + k] * dot(q.x + n * IN, q.a + k * IN, IN);
                want[n * OUT + j] = v;
            }
        pb_assert_close(q.y, want, N * OUT, 1e-12, 1e-12, "y");
    }
    bench_close(&b);
}
END_TEST

/* A cut takes the first components at the scale of all, and leaves nothing behind. */
START_TEST(a_cut_gives_the_first_components) {
    static const char *const names[] = {"lora", "qlora"};
    bench b;
    double host[N * IN], fa[R * IN], fb[OUT * R], base[N * OUT], whole[N * OUT], y[N * OUT], want[N * OUT];
    bench_open(&b, PB_F64, names[_i], "{'rank': 4, 'alpha': 6}", 0);
    stir(&b);
    pb_tensor x = tensor(&b, N, IN, 1, host);
    host_of(&b, "layers.0.attn.q.lora_A", fa);
    host_of(&b, "layers.0.attn.q.lora_B", fb);
    base_output(&b, SITE_Q, x, base);
    output(&b, SITE_Q, x, whole);
    ck_assert_int_eq(b.method->components(b.self), R);
    for (int rank = R - 1; rank >= 0; rank--) { /* 0: all of them again */
        pb_assert_ok(b.method->cut(b.self, rank));
        output(&b, SITE_Q, x, y);
        for (int i = 0; i < N * OUT; i++) {
            want[i] = base[i];
            for (int k = 0; k < (rank ? rank : R); k++)
                want[i] += 6.0 / R * fb[i % OUT * R + k] * dot(host + i / OUT * IN, fa + k * IN, IN);
        }
        pb_assert_close(y, want, N * OUT, 1e-12, 1e-12, "y");
    }
    ck_assert(memcmp(y, whole, sizeof y) == 0);
    bench_close(&b);
}
END_TEST

START_TEST(frozen_dylora_learns_the_last_row_alone) {
    for (int rank = 1; rank <= R; rank++) {
        double da[2][R * IN], db[2][OUT * R], dx[2][N * IN];
        for (int frozen = 0; frozen < 2; frozen++) {
            bench b;
            q_pass q;
            bench_open(&b, PB_F64, "dylora",
                       frozen ? "{'rank': 4, 'dropout': 0.3}"
                              : "{'rank': 4, 'dropout': 0.3, 'frozen': false}",
                       0);
            stir(&b);
            pb_assert_ok(b.method->select(b.self, rank - 1));
            run_q(&b, &q);
            memcpy(dx[frozen], q.dx, sizeof q.dx);
            gradient_of(&b, "layers.0.attn.q.lora_A", da[frozen]);
            gradient_of(&b, "layers.0.attn.q.lora_B", db[frozen]);
            bench_close(&b);
        }
        pb_assert_close(dx[1], dx[0], N * IN, 1e-13, 1e-13, "dx");
        for (int i = 0; i < R * IN; i++) {
            if (i / IN != rank - 1) da[0][i] = 0;
            ck_assert((da[0][i] == 0) == (da[1][i] == 0));
        }
        for (int i = 0; i < OUT * R; i++) {
            if (i % R != rank - 1) db[0][i] = 0;
            ck_assert((db[0][i] == 0) == (db[1][i] == 0));
        }
        pb_assert_close(da[1], da[0], R * IN, 1e-13, 1e-13, "dA");
        pb_assert_close(db[1], db[0], OUT * R, 1e-13, 1e-13, "dB");
    }
}
END_TEST

/* The drawn rank shows in the width of h, that is in which columns of B get a gradient. */
static int drawn_rank(bench *b, int64_t step) {
    q_pass q;
    double db[OUT * R];
    pb_assert_ok(b->method->before_step(b->self, step));
    run_q(b, &q);
    gradient_of(b, "layers.0.attn.q.lora_B", db);
    int rank = R;
    while (rank > 0 && db[rank - 1] == 0) rank--;
    return rank;
}

START_TEST(dylora_draws_every_rank_and_the_same_again) {
    bench b;
    int count[R + 1] = {0}, ranks[200];
    bench_open(&b, PB_F64, "dylora", "{'rank': 4}", 0);
    stir(&b);
    for (int step = 0; step < 200; step++) count[ranks[step] = drawn_rank(&b, step)]++;
    for (int rank = 1; rank <= R; rank++) ck_assert_int_gt(count[rank], 25);
    for (int step = 199; step >= 0; step -= 13) ck_assert_int_eq(drawn_rank(&b, step), ranks[step]);
    bench_close(&b);
}
END_TEST

/* --- AdaLoRA --------------------------------------------------------------------------------------------------------------- */

/* Importance written down again, in double on the host: one matrix of n triplets. */
typedef struct watcher {
    double ibar[WIDE * IN], ubar[WIDE * IN];
} watcher;

static void watch(watcher *w, const double *value, const double *gradient, int64_t rows,
                  int64_t cols, bool by_col, double grad_scale, double *score) {
    for (int64_t i = 0; i < rows * cols; i++) {
        double now = fabs(value[i] * gradient[i] * grad_scale);
        w->ibar[i] = 0.85 * w->ibar[i] + 0.15 * now;
        w->ubar[i] = 0.85 * w->ubar[i] + 0.15 * fabs(now - w->ibar[i]);
        score[by_col ? i % cols : i / cols] +=
            w->ibar[i] * w->ubar[i] / (double)(by_col ? rows : cols);
    }
}

enum { R0 = 3 };

/* One optimizer step's end: new values and gradients for the q site, kept on the host. */
typedef struct q_triplets {
    double value[3][OUT * IN], gradient[3][OUT * IN];
} q_triplets;

static const char *const triplet_names[3] = {"layers.0.attn.q.lora_A", "layers.0.attn.q.lora_B",
                                             "layers.0.attn.q.lora_E"};

static void fresh_values(bench *b, int64_t step, q_triplets *t) {
    for (int k = 0; k < 3; k++) {
        pb_param *p = pb_params_find(b->params, triplet_names[k]);
        for (int64_t i = 0; i < pb_numel(p->master); i++) {
            t->value[k][i] = pb_random_normal(51, (uint64_t)(10 * step + k), (uint64_t)i);
            t->gradient[k][i] = pb_random_normal(52, (uint64_t)(10 * step + k), (uint64_t)i);
        }
        pb_assert_ok(pb_param_set(b->params, p, t->value[k]));
        pb_assert_ok(pb_device_put_f64(b->dev, p->grad, t->gradient[k]));
    }
}

static void check_e(bench *b, const q_triplets *t, const double *keep) {
    double e[R0], want[R0];
    host_of(b, triplet_names[2], e);
    for (int k = 0; k < R0; k++) want[k] = t->value[2][k] * keep[k];
    pb_assert_close(e, want, R0, 0, 0, "E");
}

/* T = 5, tinit 0, tfinal 2: t = 0 watches; 1, 2 watch and allocate; 3 fixes the choice by the old scores; 4 re-applies. */
START_TEST(importance_comes_after_the_step_and_the_choice_is_final) {
    bench b;
    pb_tensor scale;
    q_triplets t;
    watcher w[3] = {0};
    double score[R0], scratch[R0], keep[R0] = {1, 1, 1};
    bench_open(&b, PB_F64, "adalora",
               "{'init_rank': 3, 'target_rank': 1, 'tinit': 0, 'tfinal': 2, 'targets': ['*.q']}",
               5);
    pb_assert_ok(pb_alloc1(b.dev, PB_MEM_DATA, PB_F64, 1, &scale));
    for (int64_t step = 0; step < 5; step++) {
        const double clip = (double[]){1, 0.1, 3, 1, 1}[step];
        pb_assert_ok(pb_device_put_f64(b.dev, scale, &clip));
        fresh_values(&b, step, &t); /* E comes back to life at every step */
        pb_assert_ok(b.method->after_step(b.self, b.dev, step, scale));
        if (step < 3) {
            memset(score, 0, sizeof score);
            watch(&w[0], t.value[0], t.gradient[0], R0, IN, false, clip, score);
            watch(&w[1], t.value[1], t.gradient[1], OUT, R0, true, clip, score);
            watch(&w[2], t.value[2], t.gradient[2], R0, 1, false, clip, score);
        }
        /* budgets: t = 1: 1 + 2 (2/3)^3 = 1.6, t = 2: 1 + 2/27 = 1.07, then 1 */
        if (step > 0 && step < 4) ck_assert(pb_budget_mask(score, R0, 1, scratch, keep));
        check_e(&b, &t, keep);
    }
    pb_json *out = json("{}");
    pb_assert_ok(b.method->report(b.self, b.dev, out));
    ck_assert_int_eq(cJSON_GetObjectItem(pb_json_get(out, "ranks"), "layers.0.attn.q")->valueint,
                     1);
    pb_json_free(out);
    bench_close(&b);
}
END_TEST

START_TEST(the_budget_is_shared_by_all_sites) {
    bench b;
    bench_open(&b, PB_F32, "adalora", "{'init_rank': 6, 'target_rank': 2}", 20);
    for (int64_t step = 0; step < 20; step++) {
        stir(&b); /* E comes back to life */
        for (int i = 0; i < pb_params_count(b.params); i++) {
            pb_param *p = pb_params_at(b.params, i);
            double g[WIDE * IN];
            for (int k = 0; k < WIDE * IN; k++)
                g[k] = pb_random_normal(61, (uint64_t)(100 * step + i), (uint64_t)k);
            if (p->trainable) pb_assert_ok(pb_device_put_f64(b.dev, p->grad, g));
        }
        pb_assert_ok(b.method->after_step(b.self, b.dev, step, (pb_tensor){0}));
    }
    pb_json *out = json("{}");
    pb_assert_ok(b.method->report(b.self, b.dev, out));
    ck_assert_int_eq(pb_json_get(out, "rank_total")->valueint, 4);
    int alive = 0;
    for (int i = SITE_Q; i <= SITE_UP; i++) {
        double e[6];
        host_of(&b, i == SITE_Q ? "layers.0.attn.q.lora_E" : "layers.0.mlp.up.lora_E", e);
        for (int k = 0; k < 6; k++) alive += e[k] != 0;
    }
    ck_assert_int_eq(alive, 4);
    pb_json_free(out);
    bench_close(&b);
}
END_TEST

static double orthogonality(bench *b) {
    double loss;
    pb_tensor t;
    pb_mark data = pb_device_mark(b->dev, PB_MEM_DATA);
    pb_assert_ok(pb_alloc1(b->dev, PB_MEM_DATA, PB_F64, 1, &t));
    pb_assert_ok(b->method->loss_term(b->self, b->dev, t));
    pb_assert_ok(pb_device_get_f64(b->dev, &loss, t));
    pb_device_rewind(b->dev, PB_MEM_DATA, data);
    return loss;
}

START_TEST(the_orthogonality_term_and_its_gradient) {
    bench b;
    bench_open(&b, PB_F64, "adalora", "{'init_rank': 4, 'target_rank': 2, 'orth_weight': 0.3}",
               100);
    stir(&b);
    double loss = orthogonality(&b), want = 0;
    for (int i = 0; i < 4; i++) { /* two sites; A's rows, then B's columns */
        double f2 = 0, u[WIDE * IN];
        int64_t n = i % 2 == 0 ? IN : b.sites[i / 2].out;
        char name[64];
        snprintf(name, sizeof name, "%s.lora_%c", b.sites[i / 2].name, i % 2 ? 'B' : 'A');
        host_of(&b, name, u);
        for (int r = 0; r < 4; r++)
            for (int c = 0; c < 4; c++) {
                double g = -(r == c);
                for (int64_t k = 0; k < n; k++)
                    g += i % 2 ? u[k * 4 + r] * u[k * 4 + c] : u[r * n + k] * u[c * n + k];
                f2 += g * g;
            }
        want += 0.3 / 4 * sqrt(f2);
    }
    pb_assert_close(&loss, &want, 1, 0, 1e-12, "loss");
    for (int i = 0; i < pb_params_count(b.params); i++) {
        pb_param *p = pb_params_at(b.params, i);
        if (!p->trainable) continue;
        int64_t n = pb_numel(p->value);
        double host[WIDE * IN], gradient[WIDE * IN], slope[WIDE * IN];
        pb_assert_ok(pb_params_zero_grads(b.params));
        orthogonality(&b);
        pb_assert_ok(pb_device_get_f64(b.dev, gradient, p->grad));
        pb_assert_ok(pb_param_get(b.params, p, host));
        for (int64_t k = 0; k < n; k++) {
            double at = host[k];
            host[k] = at + STEP;
            pb_assert_ok(pb_param_set(b.params, p, host));
            double up = orthogonality(&b);
            host[k] = at - STEP;
            pb_assert_ok(pb_param_set(b.params, p, host));
            slope[k] = (up - orthogonality(&b)) / (2 * STEP);
            host[k] = at;
        }
        pb_assert_ok(pb_param_set(b.params, p, host));
        pb_assert_close(gradient, slope, (size_t)n, 1e-8, 1e-7, p->name);
    }
    bench_close(&b);
}
END_TEST

START_TEST(a_checkpoint_of_adalora_holds_its_scores_and_its_choice) {
    bench b;
    char name[PB_STATE_NAME];
    pb_tensor t;
    int n = 0;
    bench_open(&b, PB_F64, "adalora", "{'init_rank': 3, 'target_rank': 1}", 5);
    while (b.method->state(b.self, n, name, &t)) {
        ck_assert(pb_has(t) && strlen(name) > 0);
        n++;
    }
    ck_assert_int_eq(n, 2 * 6 + 2);
    bench_close(&b);
}
END_TEST

/* --- adapters ---------------------------------------------------------------------------------------------------------------- */

static const method_case adapter_cases[] = {
    {"post", "{'size': 5}"},
    {"post", "{'variant': 'pfeiffer', 'size': 5, 'activation': 'silu', 'train_norms': true}"},
    {"post", "{'variant': 'pfeiffer', 'size': 5, 'activation': 'gelu'}"},
    {"pre", "{'variant': 'pfeiffer', 'size': 5, 'activation': 'gelu_tanh'}"},
    {"pre", "{'variant': 'houlsby', 'size': 1, 'activation': 'silu', 'train_norms': false}"},
};

static void check_sublayer(bench *b, int i) {
    double r[N * IN], before[N * IN], dx_host[N * IN], dres_host[N * IN];
    pb_site *site = &b->sites[i];
    pb_tensor x = tensor(b, N, IN, 1, NULL), res = tensor(b, N, IN, 2, NULL),
              y = tensor(b, N, IN, 3, NULL);
    pb_tensor dy = tensor(b, N, IN, 4, r), dx = tensor(b, N, IN, 5, NULL),
              dres = tensor(b, N, IN, 6, before);
    probe p = {.b = b, .site = i, .x = x, .res = res, .dy = r};
    pb_assert_ok(pb_params_zero_grads(b->params));
    pb_mark act = pb_device_mark(b->dev, PB_MEM_ACT);
    pb_assert_ok(b->method->sublayer_fwd(b->self, &b->pass, site, x, res, y));
    pb_assert_ok(b->method->sublayer_bwd(b->self, &b->pass, site, dy, dx, dres));
    pb_device_rewind(b->dev, PB_MEM_ACT, act);
    pb_assert_ok(pb_device_get_f64(b->dev, dx_host, dx));
    pb_assert_ok(pb_device_get_f64(b->dev, dres_host, dres));
    for (int k = 0; k < N * IN; k++) dres_host[k] -= before[k];
    check_tensor(&p, x, dx_host, "dx");
    check_tensor(&p, res, dres_host, "dres");
    check_parameters(&p);
}

START_TEST(adapter_gradients_match_finite_differences) {
    bench b;
    const method_case *c = &adapter_cases[_i];
    pb_assert_ok(bench_try(&b, "ref", NULL, PB_F64, "adapter", c->params, 0,
                           strcmp(c->method, "post") == 0));
    stir(&b);
    bool pfeiffer = strstr(c->params, "pfeiffer") != NULL;
    ck_assert(b.sites[SITE_ATTN_OUT].hooked == !pfeiffer && b.sites[SITE_MLP_OUT].hooked);
    if (!pfeiffer) check_sublayer(&b, SITE_ATTN_OUT);
    check_sublayer(&b, SITE_MLP_OUT);
    bench_close(&b);
}
END_TEST

START_TEST(adapters_begin_close_to_the_identity_and_inside_two_sigmas) {
    bench b;
    double x_host[N * IN], y_host[N * IN], down[64 * IN];
    bench_open(&b, PB_F64, "adapter", "{}", 0);
    b.pass.train = false;
    pb_tensor x = tensor(&b, N, IN, 1, x_host), y = tensor(&b, N, IN, 2, NULL),
              res = tensor(&b, N, IN, 3, NULL);
    uint64_t act = pb_device_mem_peak(b.dev, PB_MEM_ACT);
    pb_assert_ok(b.method->sublayer_fwd(b.self, &b.pass, &b.sites[SITE_MLP_OUT], x, res, y));
    pb_assert_ok(pb_device_get_f64(b.dev, y_host, y));
    pb_assert_close(y_host, x_host, N * IN, 1e-3, 0, "y");
    ck_assert_uint_eq(pb_device_mem_peak(b.dev, PB_MEM_ACT), act);
    host_of(&b, "layers.0.mlp.out.adapter_down.weight", down);
    double most = 0;
    for (int i = 0; i < 64 * IN; i++) most = fmax(most, fabs(down[i]));
    ck_assert(most <= 2e-3 && most > 1e-3);
    for (int i = SITE_NORM1; i <= SITE_NORM2; i++)
        ck_assert(b.sites[i].gamma->trainable && b.sites[i].beta->trainable &&
                  !b.sites[i].gamma->decay);
    bench_close(&b);
}
END_TEST

/* --- parameters ---------------------------------------------------------------------------------------------------------------- */

START_TEST(a_bf16_parameter_has_an_f32_master_that_rounds_to_it) {
    bench b;
    bench_open(&b, PB_BF16, "lora", "{'rank': 4}", 0);
    pb_param *a = pb_params_find(b.params, "layers.0.attn.q.lora_A");
    double master[R * IN], copy[R * IN];
    pb_assert_ok(pb_device_get_f64(b.dev, master, a->master));
    pb_assert_ok(pb_device_get_f64(b.dev, copy, a->value));
    ck_assert(a->master.dtype == PB_F32 && a->grad.dtype == PB_F32 && a->value.dtype == PB_BF16);
    for (int i = 0; i < R * IN; i++) {
        ck_assert(fabs(master[i]) <= 1 / sqrt((double)IN));
        ck_assert(copy[i] == (double)pb_bf16_to_f32(pb_f32_to_bf16((float)master[i])));
    }
    /* base weights of a method that trains them start from the value */
    pb_param *w = b.sites[SITE_Q].weight;
    ck_assert(!w->trainable && !pb_has(w->grad));
    double value[OUT * IN], now[OUT * IN];
    host_of(&b, "q.weight", value);
    pb_assert_ok(pb_param_train(b.params, w));
    pb_assert_ok(pb_param_train(b.params, w));
    host_of(&b, "q.weight", now);
    ck_assert(memcmp(value, now, sizeof now) == 0);
    bench_close(&b);
}
END_TEST

START_TEST(the_registry_knows_its_parameters) {
    bench b;
    bench_open(&b, PB_F64, "lora", "{'rank': 4, 'bias': 'lora_only', 'targets': ['*.q']}", 0);
    pb_param *p = NULL;
    pb_assert_fails(pb_params_add(b.params, PB_ROLE_BASE, "q.weight", 2, 2, &p), PB_E_BUG,
                    "declared twice");
    ck_assert_int_eq(pb_params_elements(b.params, true), 4 * (IN + OUT) + OUT);
    ck_assert_int_eq(pb_params_elements(b.params, false),
                     4 * (IN + OUT) + OUT + OUT * IN + WIDE * IN + 4 * IN);
    ck_assert_ptr_null(pb_params_find(b.params, "nothing"));
    p = b.sites[SITE_Q].bias;
    ck_assert(p->trainable && !p->decay && p->master.data == p->value.data);
    ck_assert(pb_params_find(b.params, "layers.0.attn.q.lora_A")->decay);
    bench_close(&b);
    bench_open(&b, PB_F64, "lora", "{'rank': 4, 'bias': 'lora_only', 'targets': ['*.up']}", 0);
    ck_assert(!b.sites[SITE_Q].bias->trainable);
    bench_close(&b);
    bench_open(&b, PB_F64, "lora", "{'rank': 4, 'bias': 'all', 'targets': ['*.up']}", 0);
    ck_assert(b.sites[SITE_Q].bias->trainable && b.sites[SITE_NORM1].beta->trainable);
    ck_assert(!b.sites[SITE_NORM1].gamma->trainable && !b.sites[SITE_Q].hooked &&
              b.sites[SITE_UP].hooked);
    bench_close(&b);
}
END_TEST

START_TEST(the_seed_decides_the_initial_values) {
    double a[3][R * IN], other[R * IN];
    for (int i = 0; i < 3; i++) {
        bench b;
        bench_open(&b, PB_F32, "lora", i == 2 ? "{'rank': 4, 'init': 'gaussian'}" : "{'rank': 4}",
                   0);
        host_of(&b, "layers.0.attn.q.lora_A", a[i]);
        host_of(&b, "layers.0.mlp.up.lora_A", other);
        ck_assert(memcmp(a[i], other, sizeof other) != 0);
        bench_close(&b);
    }
    ck_assert(memcmp(a[0], a[1], sizeof a[0]) == 0);
    ck_assert(memcmp(a[0], a[2], sizeof a[0]) != 0);
}
END_TEST

/* N(0, 1/r^2): the same draws, scaled by the rank. */
START_TEST(gaussian_factors_have_the_deviation_of_one_over_the_rank) {
    enum { DRAWS = 2 * IN };
    double a[2][4 * IN], sum = 0;
    for (int k = 0; k < 2; k++) {
        bench b;
        bench_open(&b, PB_F64, "lora",
                   k ? "{'rank': 4, 'init': 'gaussian'}" : "{'rank': 2, 'init': 'gaussian'}", 0);
        host_of(&b, "layers.0.attn.q.lora_A", a[k]);
        bench_close(&b);
    }
    for (int i = 0; i < DRAWS; i++) {
        ck_assert(fabs(a[0][i] - 2 * a[1][i]) < 1e-12);
        sum += 4 * a[0][i] * a[0][i];
    }
    ck_assert_msg(sum > 0.3 * DRAWS && sum < 2.5 * DRAWS, "variance %g of N(0,1)", sum / DRAWS);
}
END_TEST

/* Layers of linear sites on a device that holds no weights: published counts. */
typedef struct shape {
    const char *name;
    int64_t out, in;
} shape;

static int64_t count(const char *method, const char *params, int64_t layers, const shape *shapes,
                     int n) {
    pb_device *dev;
    pb_params *reg;
    void *self = NULL;
    const pb_method *m = pb_method_find(method);
    pb_json *o = json(params);
    pb_site *sites = calloc((size_t)(layers * n), sizeof *sites);
    pb_assert_ok(pb_device_open("plan:ref", NULL, &dev));
    pb_assert_ok(pb_params_new(dev, PB_BF16, &reg));
    pb_assert_ok(m->create(o, method, &self));
    for (int i = 0; i < layers * n; i++) {
        const shape *s = &shapes[i % n];
        sites[i] = (pb_site){.layer = i / n, .id = i, .in = s->in, .out = s->out};
        sites[i].kind = strstr(s->name, "out") ? PB_SITE_SUBLAYER_OUT : PB_SITE_LINEAR;
        snprintf(sites[i].name, sizeof sites[i].name, "layers.%d.%s", i / n, s->name);
        pb_assert_ok(
            pb_params_add(reg, PB_ROLE_BASE, sites[i].name, s->out, s->in, &sites[i].weight));
    }
    pb_attach ctx = {.dev = dev, .params = reg, .sites = sites, .n_sites = (int)(layers * n)};
    pb_assert_ok(m->attach(self, &ctx));
    int64_t elements = pb_params_elements(reg, true);
    m->destroy(self);
    pb_params_free(reg);
    pb_device_close(dev);
    pb_json_free(o);
    free(sites);
    return elements;
}

START_TEST(trainable_counts_match_the_papers) {
    const shape roberta[] = {{"attn.q", 768, 768}, {"attn.k", 768, 768},  {"attn.v", 768, 768},
                             {"attn.o", 768, 768}, {"mlp.up", 3072, 768}, {"mlp.down", 768, 3072}};
    const char *qv8 = "{'rank': 8, 'targets': ['*.attn.q', '*.attn.v']}";
    ck_assert_int_eq(count("lora", qv8, 12, roberta, 6), 294912);
    ck_assert_int_eq(count("dylora", qv8, 12, roberta, 6), 294912);
    ck_assert_int_eq(count("qlora", qv8, 12, roberta, 6), 294912);
    ck_assert_int_eq(count("dora", qv8, 12, roberta, 6), 294912 + 24 * 768);
    ck_assert_int_eq(count("lora", "{'rank': 8}", 12, roberta, 6),
                     1327104); /* DeBERTaV3-base, six matrices a layer */
    ck_assert_int_eq(count("lora", "{'rank': 2}", 12, roberta, 6), 331776);
    ck_assert_int_eq(count("adalora", "{'init_rank': 12}", 12, roberta, 6),
                     12 * 1327104 / 8 + 72 * 12);
    const shape llama[] = {{"attn.q", 4096, 4096},    {"attn.k", 4096, 4096},
                           {"attn.v", 4096, 4096},    {"attn.o", 4096, 4096},
                           {"mlp.gate", 11008, 4096}, {"mlp.up", 11008, 4096},
                           {"mlp.down", 4096, 11008}};
    ck_assert_int_eq(count("lora", "{'rank': 64}", 32, llama, 7), 159907840);
    const shape gpt3[] = {{"attn.q", 12288, 12288}, {"attn.v", 12288, 12288}};
    ck_assert_int_eq(count("lora", "{'rank': 4}", 96, gpt3, 2), 18874368);
    const shape medium[] = {{"attn.out", 1024, 1024}, {"mlp.out", 1024, 1024}};
    ck_assert_int_eq(count("adapter", "{'size': 112, 'train_norms': false}", 24, medium, 2),
                     11064576);
}
END_TEST

/* --- configuration ----------------------------------------------------------------------------------------------------------- */

typedef struct refusal {
    const char *method, *params, *part;
} refusal;

static const refusal refusals[] = {
    {"lora", "{'rnak': 4}", "rank"},
    {"lora", "{'rank': 0}", "rank"},
    {"lora", "{'rank': 2.5}", "rank"},
    {"lora", "{'alpha': 0}", "alpha"},
    {"lora", "{'dropout': 1}", "dropout"},
    {"lora", "{'scale': 0}", "scale"},
    {"lora", "{'targets': []}", "targets"},
    {"lora", "{'targets': ['*.query']}",
     "'*.query' matches no linear layer; there are: layers.0.attn.q"},
    {"lora", "{'targets': ['*.attn.out']}", "matches no linear layer"},
    {"lora", "{'targets': [3]}", "targets[0]"},
    {"lora", "{'bias': 'some'}", "bias"},
    {"lora", "{'rank': 11}", "rank 11 at 'layers.0.attn.q' is above its limit 10"},
    {"lora", "[]", "object"},
    {"qlora", "{'code': 'nf5'}", "code"},
    {"qlora", "{'block': 48}", "block"},
    {"dora", "{'exact_norm_gradent': true}", "exact_norm_gradient"},
    {"dylora", "{'bias': 'all'}", "bias"},
    {"adalora", "{'init_rank': 4, 'target_rank': 5}", "target_rank"},
    {"adalora", "{'init_rank': 4, 'target_rank': 2, 'tinit': 2.5}", "tinit"},
    {"adalora", "{'init_rank': 4, 'target_rank': 2, 'tinit': 60, 'tfinal': 40}",
     "tinit 60 and tfinal 40"},
    {"adapter", "{'variant': 'lin'}", "variant"},
    {"adapter", "{'init_sigma': 0}", "init_sigma"},
    {"full", "{'rank': 4}", "rank"},
    {"full", "{'targets': []}", "at least one pattern"},
    {"full", "{'targets': 'layers.5.*'}", "at least one pattern"},
    {"full", "{'targets': ['*.up', 'layers.7.*']}", "norm1.beta (site layers.0.mlp.norm)"},
};
enum { N_REFUSALS = sizeof refusals / sizeof refusals[0] };

START_TEST(bad_parameters_are_refused_by_name) {
    bench b;
    const refusal *r = &refusals[_i];
    pb_status status = bench_try(&b, "ref", NULL, PB_F64, r->method, r->params, 100, true);
    ck_assert_msg(status == PB_E_INPUT && strstr(pb_error_message(), r->part), "%s %s: %s, %s",
                  r->method, r->params, pb_status_name(status), pb_error_message());
    bench_close(&b);
}
END_TEST

START_TEST(full_fine_tuning_refuses_a_4_bit_base) {
    bench b;
    bench_open(&b, PB_F64, "qlora", "{'rank': 4}", 0);
    pb_attach ctx = {.dev = b.dev, .params = b.params, .sites = b.sites, .n_sites = N_SITES};
    void *full = NULL;
    pb_assert_ok(pb_method_find("full")->create(NULL, "full", &full));
    pb_assert_fails(pb_method_find("full")->attach(full, &ctx), PB_E_INPUT, "4 bits");
    pb_method_find("full")->destroy(full);
    bench_close(&b);
}
END_TEST

START_TEST(methods_are_found_by_name_and_near_misses_are_named) {
    const pb_method *m = NULL;
    ck_assert_int_eq(pb_method_registry_count, 8);
    for (int i = 0; i < pb_method_registry_count; i++) {
        const pb_method *known = pb_method_registry[i];
        pb_assert_ok(pb_method_lookup(known->name, "suite", &m));
        ck_assert_ptr_eq(m, known);
        ck_assert(known->title && known->paper && known->keys && known->create && known->describe &&
                  known->attach);
        ck_assert((known->merge != NULL) == known->mergeable &&
                  (known->unmerge != NULL) == known->mergeable);
        ck_assert((known->linear_fwd != NULL) == (known->linear_bwd != NULL));
    }
    pb_assert_fails(pb_method_lookup("adalroa", "suite", &m), PB_E_INPUT, "did you mean 'adalora'");
}
END_TEST

/* "scale" of the method's description. */
static double scale_of(const char *method, const char *params) {
    const pb_method *m = pb_method_find(method);
    void *self = NULL;
    pb_json *in = json(params), *out = json("{}");
    pb_assert_ok(m->create(in, "test", &self));
    pb_assert_ok(m->describe(self, out));
    double scale = pb_json_get(out, "scale")->valuedouble;
    m->destroy(self);
    pb_json_free(in);
    pb_json_free(out);
    return scale;
}

START_TEST(scales_follow_each_method) {
    ck_assert(scale_of("lora", "{'rank': 4, 'alpha': 6}") == 6.0 / 4);
    ck_assert(scale_of("qlora", "{'rank': 16, 'alpha': 6, 'rslora': true}") == 6.0 / 4);
    ck_assert(scale_of("dora", "{'rank': 4, 'scale': 3}") == 3);
    ck_assert(scale_of("adalora", "{'init_rank': 5, 'target_rank': 2, 'alpha': 6}") == 6 / 5.00001);
    ck_assert(scale_of("adalora", "{'scale': 2}") == 2);
}
END_TEST

/* describe gives exactly the method's keys, and the same method when it is read again. Full fine-tuning without targets
 * is what it was before there were any, and keeps the identity of its runs. */
START_TEST(a_description_describes_itself) {
    for (int i = 0; i < pb_method_registry_count; i++) {
        const pb_method *m = pb_method_registry[i];
        void *self = NULL;
        pb_json *first = json("{}"), *second = json("{}");
        pb_assert_ok(m->create(NULL, "test", &self));
        pb_assert_ok(m->describe(self, first));
        m->destroy(self);
        for (int k = 0; m->keys[k]; k++)
            ck_assert_msg(pb_json_get(first, m->keys[k]) || strcmp(m->name, "full") == 0, "%s.%s", m->name, m->keys[k]);
        pb_assert_ok(m->create(first, "test", &self));
        pb_assert_ok(m->describe(self, second));
        m->destroy(self);
        char *a = pb_json_print(first, false), *b = pb_json_print(second, false);
        ck_assert_str_eq(a, b);
        free(a);
        free(b);
        pb_json_free(first);
        pb_json_free(second);
    }
}
END_TEST

START_TEST(full_describes_its_targets_when_it_has_any) {
    const pb_method *m = pb_method_find("full");
    const char *const cases[][2] = {{"{}", "{}"}, {"{'targets': ['*.norm', 'x']}", "{\"targets\":[\"*.norm\",\"x\"]}"}};
    for (int i = 0; i < 2; i++) {
        void *self = NULL;
        pb_json *in = json(cases[i][0]), *out = json("{}");
        pb_assert_ok(m->create(in, "test", &self));
        pb_assert_ok(m->describe(self, out));
        char *text = pb_json_print(out, false);
        ck_assert_str_eq(text, cases[i][1]);
        m->destroy(self);
        free(text);
        pb_json_free(in);
        pb_json_free(out);
    }
}
END_TEST

START_TEST(dropout_streams_differ_by_step_micro_batch_site_and_slot) {
    pb_pass pass = {.train = true, .seed = 7, .step = 1, .micro = 1};
    uint64_t base = pb_pass_dropout(&pass, 1, 1, 0.5).stream;
    ck_assert(pb_pass_dropout(&pass, 1, 1, 0.5).stream == base);
    ck_assert(pb_pass_dropout(&pass, 2, 1, 0.5).stream != base);
    ck_assert(pb_pass_dropout(&pass, 1, 2, 0.5).stream != base);
    pb_pass step = pass, micro = pass, eval = pass;
    step.step = 2;
    micro.micro = 2;
    eval.train = false;
    ck_assert(pb_pass_dropout(&step, 1, 1, 0.5).stream != base);
    ck_assert(pb_pass_dropout(&micro, 1, 1, 0.5).stream != base);
    ck_assert(pb_pass_dropout(&eval, 1, 1, 0.5).p == 0 && pb_pass_dropout(&pass, 1, 1, 0).p == 0);
    ck_assert(pb_pass_dropout(&pass, 1, 1, 0.5).key == 7);
}
END_TEST

static void hook_tests(Suite *s) {
    TCase *t = pb_test_case(s, "linear hooks");
    tcase_add_loop_test(t, linear_gradients_match_finite_differences, 0, N_LINEAR);
    tcase_add_test(t, every_method_with_linear_hooks_has_a_case);
    tcase_add_loop_test(t, the_cpu_backend_agrees_with_the_reference, 0, N_LINEAR + 1);
    tcase_add_loop_test(t, step_zero_equals_the_base_model, 0, N_LINEAR);
    tcase_add_loop_test(t, evaluation_has_no_dropout_and_keeps_nothing, 0, 2);
    tcase_add_loop_test(t, a_steady_step_takes_no_new_memory, 0, N_LINEAR);
    tcase_add_loop_test(t, merge_equals_the_unmerged_forward_and_unmerge_restores, 0, N_LINEAR);
    tcase_add_loop_test(t, unmerge_restores_bf16_weights_bit_for_bit, 0, 5);
    tcase_add_test(t, merge_takes_the_selected_rank);
    tcase_add_loop_test(t, every_allocation_may_fail, 0, N_LINEAR);
    tcase_add_test(t, dora_takes_its_norm_as_a_constant);
    tcase_add_loop_test(t, dora_variants_differ_in_the_factors_only, 0, 2);
    tcase_add_test(t, dora_with_dropout_begins_at_the_base_model);
    tcase_add_test(t, dylora_ranks_give_the_truncated_product);
    tcase_add_loop_test(t, a_cut_gives_the_first_components, 0, 2);
    tcase_add_test(t, frozen_dylora_learns_the_last_row_alone);
    tcase_add_test(t, dylora_draws_every_rank_and_the_same_again);
}

int main(void) {
    Suite *s = suite_create("methods_unit");
    hook_tests(s);
    TCase *t = pb_test_case(s, "adalora");
    tcase_add_test(t, importance_comes_after_the_step_and_the_choice_is_final);
    tcase_add_test(t, the_budget_is_shared_by_all_sites);
    tcase_add_test(t, the_orthogonality_term_and_its_gradient);
    tcase_add_test(t, a_checkpoint_of_adalora_holds_its_scores_and_its_choice);
    t = pb_test_case(s, "adapter");
    tcase_add_loop_test(t, adapter_gradients_match_finite_differences, 0,
                        sizeof adapter_cases / sizeof adapter_cases[0]);
    tcase_add_test(t, adapters_begin_close_to_the_identity_and_inside_two_sigmas);
    t = pb_test_case(s, "parameters");
    tcase_add_test(t, a_bf16_parameter_has_an_f32_master_that_rounds_to_it);
    tcase_add_test(t, the_registry_knows_its_parameters);
    tcase_add_test(t, the_seed_decides_the_initial_values);
    tcase_add_test(t, gaussian_factors_have_the_deviation_of_one_over_the_rank);
    tcase_add_test(t, trainable_counts_match_the_papers);
    t = pb_test_case(s, "configuration");
    tcase_add_loop_test(t, bad_parameters_are_refused_by_name, 0, N_REFUSALS);
    tcase_add_test(t, full_fine_tuning_refuses_a_4_bit_base);
    tcase_add_test(t, methods_are_found_by_name_and_near_misses_are_named);
    tcase_add_test(t, scales_follow_each_method);
    tcase_add_test(t, a_description_describes_itself);
    tcase_add_test(t, full_describes_its_targets_when_it_has_any);
    tcase_add_test(t, dropout_streams_differ_by_step_micro_batch_site_and_slot);
    return pb_run_suite(s);
}

/* The registry of named parameters (param.h): who exists, who is trained, and where value, master
 * and gradient live. Not here: optimizer state (the optimizer's) and files (models/). Initial
 * values are drawn on the host from Philox in double, so that every device starts from the same
 * numbers. Test: tests/test_methods_unit.c. */
#include "methods/param.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

struct pb_params {
    pb_device *dev;
    pb_dtype compute, master;
    struct entry {
        pb_param *param; /* its own allocation: pointers stay valid when the list grows */
        uint64_t hash;   /* of its name */
    } *list;
    int n, cap;
    pb_param **trained; /* in the order of their gradients in memory; room for cap */
    int n_trained;
};

/* Numbers are compared before bytes: every name that is declared is looked up among all of them. */
static uint64_t hash_of(const char *name) { return pb_random_stream(name, 0, 0); }

pb_status pb_params_new(pb_device *dev, pb_dtype compute, pb_params **out) {
    PB_ASSERT(compute == PB_F32 || compute == PB_BF16 || compute == PB_F64);
    pb_params *params = calloc(1, sizeof *params);
    *out = params;
    if (!params) return PB_ERROR(PB_E_OOM, "no memory for the parameter registry");
    params->dev = dev;
    params->compute = compute;
    params->master = compute == PB_F64 ? PB_F64 : PB_F32;
    return PB_OK;
}

void pb_params_free(pb_params *params) {
    if (!params) return;
    for (int i = 0; i < params->n; i++) free(params->list[i].param);
    free(params->list);
    free(params->trained);
    free(params);
}

pb_dtype pb_params_compute(const pb_params *params) { return params->compute; }

pb_dtype pb_params_master(const pb_params *params) { return params->master; }

static int64_t numel(const pb_param *p) { return p->ndim == 2 ? p->dim[0] * p->dim[1] : p->dim[0]; }

static pb_status alloc_like(pb_params *params, const pb_param *p, pb_mem mem, pb_dtype dtype,
                            pb_tensor *out) {
    return pb_device_alloc(params->dev, mem, dtype, p->ndim, p->dim, out);
}

/* Room for one more. */
static pb_status grow(pb_params *params) {
    if (params->n < params->cap) return PB_OK;
    int cap = params->cap ? 2 * params->cap : 64;
    struct entry *list = realloc(params->list, (size_t)cap * sizeof *list);
    if (list) params->list = list;
    pb_param **trained = realloc(params->trained, (size_t)cap * sizeof *trained);
    if (trained) params->trained = trained;
    if (!list || !trained) return PB_ERROR(PB_E_OOM, "no memory for %d parameter records", cap);
    params->cap = cap;
    return PB_OK;
}

/* A new record in the list, without tensors; the list owns it. */
static pb_status declare(pb_params *params, pb_role role, const char *name, int64_t dim0,
                         int64_t dim1, pb_param **out) {
    if (pb_params_find(params, name))
        return PB_ERROR(PB_E_BUG, "parameter '%s' is declared twice", name);
    if (dim0 < 1 || dim1 < 0)
        return PB_ERROR(PB_E_BUG, "parameter '%s' has shape [%lld,%lld]", name, (long long)dim0,
                        (long long)dim1);
    PB_RETURN(grow(params));
    pb_param *p = calloc(1, sizeof *p);
    if (!p) return PB_ERROR(PB_E_OOM, "no memory for the record of parameter '%s'", name);
    if (!pb_copy(p->name, sizeof p->name, name)) {
        free(p);
        return PB_ERROR(PB_E_BUG, "parameter name '%s' is longer than %zu bytes", name,
                        sizeof p->name - 1);
    }
    p->role = role;
    p->ndim = dim1 ? 2 : 1;
    p->dim[0] = dim0;
    p->dim[1] = dim1;
    p->decay = dim1 > 0; /* vectors (biases, norms) do not, unless their owner says so */
    p->lr_scale = 1;
    params->list[params->n++] = (struct entry){p, hash_of(name)};
    *out = p;
    return PB_OK;
}

pb_status pb_params_add(pb_params *params, pb_role role, const char *name, int64_t dim0,
                        int64_t dim1, pb_param **out) {
    PB_RETURN(declare(params, role, name, dim0, dim1, out));
    pb_mem mem = role == PB_ROLE_BASE ? PB_MEM_BASE : PB_MEM_ADAPTER;
    PB_RETURN(alloc_like(params, *out, mem, params->compute, &(*out)->value));
    return PB_OK;
}

pb_status pb_params_add_quant(pb_params *params, const char *name, const pb_quant4 *quant,
                              pb_param **out) {
    PB_RETURN(declare(params, PB_ROLE_BASE, name, quant->out, quant->in, out));
    (*out)->quant = quant;
    return PB_OK;
}

pb_status pb_param_train(pb_params *params, pb_param *p) {
    if (p->trainable) return PB_OK;
    if (p->quant)
        return PB_ERROR(PB_E_INPUT,
                        "'%s' is stored in 4 bits (%s) and cannot be trained: only adapters on top "
                        "of it can",
                        p->name, pb_code_name(p->quant->code));
    if (params->compute == params->master) {
        p->master = p->value;
    } else {
        PB_RETURN(alloc_like(params, p, PB_MEM_MASTER, params->master, &p->master));
        PB_RETURN(
            pb_axpby(params->dev, &(pb_axpby_args){.x = p->value, .y = p->master, .alpha = 1}));
    }
    PB_RETURN(alloc_like(params, p, PB_MEM_GRAD, params->master, &p->grad));
    params->trained[params->n_trained++] = p;
    p->trainable = true;
    return PB_OK;
}

int pb_params_count(const pb_params *params) { return params->n; }

pb_param *pb_params_at(pb_params *params, int i) {
    PB_ASSERT(i >= 0 && i < params->n);
    return params->list[i].param;
}

pb_param *pb_params_find(pb_params *params, const char *name) {
    uint64_t hash = hash_of(name);
    for (int i = 0; i < params->n; i++) {
        const struct entry *e = &params->list[i];
        if (e->hash == hash && strcmp(e->param->name, name) == 0) return e->param;
    }
    return NULL;
}

int64_t pb_params_elements(const pb_params *params, bool trainable_only) {
    int64_t n = 0;
    for (int i = 0; i < params->n; i++)
        if (params->list[i].param->trainable || !trainable_only) n += numel(params->list[i].param);
    return n;
}

/* Neighbours in memory are one call, so that a GPU has one short fill where there are hundreds of factors. */
pb_status pb_params_zero_grads(pb_params *params) {
    pb_tensor run = {0};
    for (int i = 0; i < params->n_trained; i++) {
        pb_tensor grad = params->trained[i]->grad;
        if (pb_device_join(params->dev, PB_MEM_GRAD, &run, grad)) continue;
        if (pb_has(run)) PB_RETURN(pb_device_zero(params->dev, run));
        run = grad;
    }
    return pb_has(run) ? pb_device_zero(params->dev, run) : PB_OK;
}

/* --- values ----------------------------------------------------------------------------------- */

/* One value of an initial distribution at element i of n. */
typedef struct draw {
    enum { DRAW_CONSTANT, DRAW_UNIFORM, DRAW_NORMAL } kind;
    double a, b; /* constant; lo, hi; sigma, cut */
    uint64_t seed, stream;
} draw;

static double draw_at(const draw *d, int64_t i, int64_t n) {
    if (d->kind == DRAW_CONSTANT) return d->a;
    if (d->kind == DRAW_UNIFORM)
        return d->a + (d->b - d->a) * pb_random_uniform(d->seed, d->stream, (uint64_t)i);
    /* Redraws use indices behind the n first ones: still a pure function of (seed, stream, i). */
    double z = pb_random_normal(d->seed, d->stream, (uint64_t)i);
    for (int64_t k = 1; d->b > 0 && fabs(z) > d->b; k++)
        z = pb_random_normal(d->seed, d->stream, (uint64_t)(i + k * n));
    return d->a * z;
}

pb_status pb_param_set(pb_params *params, pb_param *p, const double *host) {
    if (p->quant) return PB_ERROR(PB_E_BUG, "'%s' is stored in 4 bits: quantise into it", p->name);
    bool two = p->trainable && params->compute != params->master;
    if (!two) return pb_device_put_f64(params->dev, p->value, host);
    /* value is the rounded master, exactly what the optimizer would leave behind */
    PB_RETURN(pb_device_put_f64(params->dev, p->master, host));
    return pb_axpby(params->dev, &(pb_axpby_args){.x = p->master, .y = p->value, .alpha = 1});
}

static pb_status set_drawn(pb_params *params, pb_param *p, draw d) {
    if (!pb_device_computes(params->dev)) return PB_OK;
    int64_t n = numel(p);
    double *host = malloc((size_t)n * sizeof *host);
    if (!host)
        return PB_ERROR(PB_E_OOM, "no memory to draw %lld values of '%s'", (long long)n, p->name);
    for (int64_t i = 0; i < n; i++) host[i] = draw_at(&d, i, n);
    pb_status status = pb_param_set(params, p, host);
    free(host);
    PB_RETURN(status);
    return PB_OK;
}

pb_status pb_param_fill(pb_params *params, pb_param *p, double constant) {
    return set_drawn(params, p, (draw){.kind = DRAW_CONSTANT, .a = constant});
}

pb_status pb_param_init_uniform(pb_params *params, pb_param *p, double lo, double hi, uint64_t seed,
                                uint64_t stream) {
    draw d = {.kind = DRAW_UNIFORM, .a = lo, .b = hi, .seed = seed, .stream = stream};
    return set_drawn(params, p, d);
}

pb_status pb_param_init_normal(pb_params *params, pb_param *p, double sigma, double cut,
                               uint64_t seed, uint64_t stream) {
    draw d = {.kind = DRAW_NORMAL, .a = sigma, .b = cut, .seed = seed, .stream = stream};
    return set_drawn(params, p, d);
}

pb_status pb_param_get(pb_params *params, const pb_param *p, double *host) {
    if (!p->quant) return pb_device_get_f64(params->dev, host, p->trainable ? p->master : p->value);
    pb_status status = PB_OK;
    pb_tensor dense;
    pb_mark mark = pb_device_mark(params->dev, PB_MEM_WORK);
    PB_TRY(pb_alloc2_raw(params->dev, PB_MEM_WORK, params->master, p->dim[0], p->dim[1], &dense));
    PB_TRY(pb_dequantize4(params->dev, &(pb_dequantize4_args){.q = *p->quant, .dst = dense}));
    PB_TRY(pb_device_get_f64(params->dev, host, dense));
done:
    pb_device_rewind(params->dev, PB_MEM_WORK, mark);
    return status;
}

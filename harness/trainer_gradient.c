/* Gradient norms of what the method added, by part: the last word of the parameters' names ("lora_A"
 * -> "lora_a"), and "norm" over all. Read on the host behind a step, so no time of the step and no
 * operation of it changes. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/trainer_impl.h"

/* "layers.0.attn.q.lora_A" -> "lora_a" */
static void part_of(const char *name, char out[40]) {
    const char *dot = strrchr(name, '.');
    size_t n = 0;
    for (const char *p = dot ? dot + 1 : name; *p && n < 39; p++)
        out[n++] = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '_';
    out[n] = 0;
}

static int part_index(const pb_gradient_log *log, const char *name) {
    int i = 0;
    while (i < log->n_parts && strcmp(log->name[i], name) != 0) i++;
    return i;
}

static bool counts(const pb_param *p) { return p->trainable && p->role == PB_ROLE_ADAPTER; }

/* Names and room, before the first measurement. */
static pb_status open_log(pb_trainer *t) {
    pb_gradient_log *log = &t->gradient;
    pb_params *params = pb_model_params(t->session.model);
    log->cap = t->steps / t->run->gradients + 1;
    snprintf(log->name[log->n_parts++], sizeof log->name[0], "norm");
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        char name[40];
        part_of(p->name, name);
        if (!counts(p) || part_index(log, name) < log->n_parts || log->n_parts == PB_GRADIENT_PARTS)
            continue;
        memcpy(log->name[log->n_parts++], name, sizeof name);
    }
    log->step = calloc((size_t)log->cap, sizeof(double));
    bool ok = log->step != NULL;
    for (int k = 0; k < log->n_parts; k++) {
        log->norm[k] = calloc((size_t)log->cap, sizeof(double));
        ok = ok && log->norm[k] != NULL;
    }
    return ok ? PB_OK
              : PB_ERROR(PB_E_OOM, "no host memory for %" PRId64 " gradient norms", log->cap);
}

static pb_status square_norm(pb_trainer *t, const pb_param *p, double *out) {
    int64_t n = pb_numel(p->grad);
    double *g = malloc((size_t)n * sizeof *g);
    *out = 0.0;
    if (g == NULL) return PB_ERROR(PB_E_OOM, "no host memory for the gradient of %s", p->name);
    pb_status status = pb_device_get_f64(t->session.dev, g, p->grad);
    for (int64_t i = 0; status == PB_OK && i < n; i++) *out += g[i] * g[i];
    free(g);
    return status;
}

pb_status pb_trainer_gradient(pb_trainer *t, int64_t step) {
    pb_gradient_log *log = &t->gradient;
    if (t->run->gradients < 1 || (step + 1) % t->run->gradients != 0) return PB_OK;
    if (log->n_parts == 0) PB_RETURN(open_log(t));
    if (log->n == log->cap) return PB_OK;
    pb_params *params = pb_model_params(t->session.model);
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        double square = 0.0;
        char name[40];
        if (!counts(p)) continue;
        PB_RETURN(square_norm(t, p, &square));
        part_of(p->name, name);
        int k = part_index(log, name);
        log->norm[0][log->n] += square;
        if (k < log->n_parts) log->norm[k][log->n] += square;
    }
    for (int k = 0; k < log->n_parts; k++) log->norm[k][log->n] = sqrt(log->norm[k][log->n]);
    log->step[log->n++] = (double)(step + 1);
    return PB_OK;
}

pb_status pb_trainer_record_last_gradient(pb_trainer *t) {
    pb_params *params = pb_model_params(t->session.model);
    double sum = 0.0;
    int64_t n = 0;
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        double square = 0.0;
        if (!counts(p)) continue;
        PB_RETURN(square_norm(t, p, &square));
        sum += square;
        n += pb_numel(p->grad);
    }
    if (n == 0) return PB_OK;
    return pb_record_known(t->record, "gradient/norm/adapter", sqrt(sum), n);
}

pb_status pb_trainer_record_gradient(pb_trainer *t) {
    const pb_gradient_log *log = &t->gradient;
    if (log->n == 0 || log->n_parts < 2) return PB_OK; /* the method added nothing */
    PB_RETURN(pb_record_sample(t->record, "gradient/adapter/step", log->step, log->n));
    for (int k = 0; k < log->n_parts; k++) {
        static const char *const hows[] = {"last", "median"};
        char tag[96], metric[96];
        snprintf(tag, sizeof tag, "gradient/adapter/%s", log->name[k]);
        PB_RETURN(pb_record_sample(t->record, tag, log->norm[k], log->n));
        for (int i = 0; i < 2; i++) {
            snprintf(metric, sizeof metric, "%.80s/%s", tag, hows[i]);
            PB_RETURN(pb_record_derived(t->record, metric, hows[i], tag));
        }
    }
    return PB_OK;
}

void pb_gradient_log_free(pb_gradient_log *log) {
    free(log->step);
    for (int k = 0; k < log->n_parts; k++) free(log->norm[k]);
    *log = (pb_gradient_log){0};
}

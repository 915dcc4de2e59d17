/* Model FLOP utilisation: 4 N FLOP per token where the base is frozen (forward and the gradient of the inputs), 6 N where it
 * is trained, N = weights inside matrix products; attention is not counted. Peaks: gpus.def. */
#include "harness/gpus.h"
#include "harness/profile/mfu.h"
#include "harness/trainer_impl.h"

double pb_gpu_peak_flops(const char *device, pb_dtype dtype) {
    int n = 0;
    const pb_gpu *table = pb_gpu_table(&n);
    for (int i = 0; i < n; i++) {
        if (!pb_gpu_is(&table[i], device)) continue;
        return 1e12 * (dtype == PB_BF16 ? table[i].bf16_tflops : dtype == PB_F32 ? table[i].f32_tflops : 0.0);
    }
    return 0.0;
}

/* Weights inside the products of a token, and whether most of the base is trained. */
static double product_weights(const pb_session *s, double *trained) {
    int n = 0;
    double weights = 0.0;
    *trained = 0.0;
    const pb_site *sites = pb_model_sites(s->model, &n);
    for (int i = 0; i < n; i++) {
        if (sites[i].kind != PB_SITE_LINEAR) continue;
        double size = (double)sites[i].in * (double)sites[i].out;
        weights += size;
        if (sites[i].weight != NULL && sites[i].weight->trainable) *trained += size;
    }
    if (s->spec.config->causal) weights += (double)s->spec.config->V * (double)s->spec.config->C;
    return weights;
}

pb_mfu pb_mfu_of(const pb_session *s, double tokens, double step_s) {
    pb_mfu m = {.value = -1.0};
    char text[512] = "";
    double trained = 0.0, weights = product_weights(s, &trained);
    pb_device_describe(s->dev, text, sizeof text);
    m.peak_flops_per_s = pb_gpu_peak_flops(text, s->spec.model.dtype);
    m.flops_per_token = (2.0 * trained > weights ? 6.0 : 4.0) * weights;
    m.known = m.peak_flops_per_s > 0.0 && step_s > 0.0;
    if (m.known) m.value = m.flops_per_token * tokens / step_s / m.peak_flops_per_s;
    return m;
}

pb_status pb_mfu_record(const pb_mfu *m, pb_record *r) {
    pb_json *o = pb_json_add_object(r->profile, "mfu");
    bool ok = o != NULL && pb_json_add_f64(o, "flops_per_token", m->flops_per_token);
    if (ok && m->known) ok = pb_json_add_f64(o, "value", m->value) && pb_json_add_f64(o, "peak_flops_per_s", m->peak_flops_per_s);
    if (ok && !m->known)
        ok = cJSON_AddNullToObject(o, "value") != NULL &&
             pb_json_add_str(o, "reason", "the device's peak is not known");
    if (!ok) return PB_ERROR(PB_E_OOM, "no host memory for the record's profile");
    return m->known ? pb_record_known(r, "work/mfu", m->value, 1) : PB_OK;
}

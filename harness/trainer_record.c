/* From a run's state to its record: descriptions, samples, the metrics derived from them. Tags:
 * results/SCHEMA.md. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "harness/environment.h"
#include "harness/trainer_impl.h"

pb_status pb_record_known(pb_record *r, const char *tag, double value, int64_t n) {
    const pb_tag_info *info = pb_tag_find(tag);
    if (!isfinite(value)) return pb_record_warn(r, "%s is %g and was left out", tag, value);
    return pb_record_metric(r, tag, value, info != NULL ? info->unit : "1",
                            info != NULL ? info->better : 0, n, "");
}

pb_status pb_record_derived(pb_record *r, const char *metric_tag, const char *how,
                            const char *sample_tag) {
    const pb_sample *sample = pb_record_find_sample(r, sample_tag);
    const pb_tag_info *info = pb_tag_find(metric_tag);
    char from[sizeof((pb_metric *)0)->from];
    double value = 0.0;
    if (sample == NULL || sample->n == 0) return PB_OK;
    PB_RETURN(pb_derive(how, sample->values, sample->n, &value));
    if (!isfinite(value)) return pb_record_warn(r, "%s is %g and was left out", metric_tag, value);
    if (snprintf(from, sizeof from, "%s:%s", how, sample_tag) >= (int)sizeof from) {
        return PB_ERROR(PB_E_BUG, "derivation %s of %s is too long a name", how, sample_tag);
    }
    return pb_record_metric(r, metric_tag, value, info != NULL ? info->unit : "1",
                            info != NULL ? info->better : 0, sample->n, from);
}

/* --- who, on what --- */

static pb_status json_ok(bool ok) {
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no host memory for the record");
}

static int64_t elements_of_role(pb_params *params, pb_role role) {
    int64_t n = 0;
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        if (p->role == role) n += p->dim[0] * (p->ndim == 2 ? p->dim[1] : 1);
    }
    return n;
}

static pb_status describe_model(pb_trainer *t) {
    pb_params *params = pb_model_params(t->session.model);
    const pb_model_config *c = &t->assets->config;
    pb_json *o = t->record->model;
    PB_RETURN(json_ok(pb_json_add_str(o, "family", c->family)));
    PB_RETURN(json_ok(pb_json_add_i64(o, "params_total", pb_params_elements(params, false))));
    PB_RETURN(json_ok(pb_json_add_i64(o, "params_trainable", pb_params_elements(params, true))));
    PB_RETURN(json_ok(pb_json_add_i64(o, "params_base", elements_of_role(params, PB_ROLE_BASE))));
    PB_RETURN(
        json_ok(pb_json_add_i64(o, "params_adapter", elements_of_role(params, PB_ROLE_ADAPTER))));
    PB_RETURN(json_ok(pb_json_add_i64(o, "params_head", elements_of_role(params, PB_ROLE_HEAD))));
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {{"layers", c->L}, {"width", c->C},      {"heads", c->NH},
                 {"mlp", c->FF},   {"vocabulary", c->V}, {"positions", c->P}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        PB_RETURN(json_ok(pb_json_add_i64(o, sizes[i].key, sizes[i].value)));
    }
    return PB_OK;
}

static pb_status describe_data(const pb_dataset *data, pb_json *o) {
    PB_RETURN(json_ok(pb_json_add_str(o, "name", pb_dataset_name(data))));
    PB_RETURN(json_ok(pb_json_add_str(o, "sha256", pb_dataset_sha256(data))));
    PB_RETURN(json_ok(pb_json_add_str(o, "task", pb_task_name(pb_dataset_task(data)))));
    PB_RETURN(json_ok(pb_json_add_i64(o, "classes", pb_dataset_classes(data))));
    PB_RETURN(json_ok(pb_json_add_f64(o, "majority", pb_dataset_majority(data, PB_TEST))));
    static const char *const groups[] = {"splits", "truncated", "longest"};
    for (int g = 0; g < 3; g++) {
        pb_json *group = pb_json_add_object(o, groups[g]);
        for (int i = 0; i < PB_SPLITS; i++) {
            pb_split_id split = (pb_split_id)i;
            int64_t n = g == 0   ? pb_dataset_size(data, split)
                        : g == 1 ? pb_dataset_truncated(data, split)
                                 : pb_dataset_longest(data, split);
            PB_RETURN(json_ok(pb_json_add_i64(group, pb_split_name(split), n)));
        }
    }
    return PB_OK;
}

/* Before anything can fail on the device: what a failed run is known by. */
pb_status pb_trainer_record_identity(pb_trainer *t) {
    pb_record *r = t->record;
    const pb_run_config *run = t->run;
    if (t->session.model != NULL) return describe_model(t);
    snprintf(r->suite, sizeof r->suite, "%s", run->suite);
    snprintf(r->method, sizeof r->method, "%s", run->method->name);
    snprintf(r->label, sizeof r->label, "%s", run->label);
    snprintf(r->verified, sizeof r->verified, "not_verified");
    r->seed = run->seed;
    PB_RETURN(pb_run_config_json(run, t->assets->model_sha256, pb_dataset_sha256(t->assets->data),
                                 &r->config));
    PB_RETURN(pb_run_id_of(r->config, r->run_id));
    PB_RETURN(pb_environment_json(run->device, t->options->threads, &r->environment));
    r->model = cJSON_CreateObject();
    r->dataset = cJSON_CreateObject();
    PB_RETURN(json_ok(pb_json_add_str(r->model, "name", t->assets->model_name)));
    PB_RETURN(json_ok(pb_json_add_str(r->model, "sha256", t->assets->model_sha256)));
    return describe_data(t->assets->data, r->dataset);
}

/* The numbers of the training examples in the order in which they come, as the hash of their
 * little-endian 64-bit values: equal for two runs that see the same data in the same order. */
pb_status pb_trainer_record_order(pb_trainer *t) {
    enum { MAX_BATCHES = 1 << 16 }; /* beyond that the start speaks for the rest */
    pb_status status = PB_OK;
    pb_sha256 *hash = NULL;
    char hex[PB_SHA256_HEX];
    int64_t batches = t->steps * t->run->accumulate;
    PB_RETURN(pb_sha256_new(&hash));
    for (int64_t i = 0; i < batches && i < MAX_BATCHES && status == PB_OK; i++) {
        const pb_host_batch *hb = NULL;
        status = pb_loader_batch(t->loader, i, &hb);
        for (int64_t k = 0; status == PB_OK && k < hb->sequences; k++) {
            uint64_t id = pb_dataset_at(t->assets->data, PB_TRAIN, hb->example[k])->id;
            unsigned char bytes[8];
            for (int b = 0; b < 8; b++) bytes[b] = (unsigned char)(id >> (8 * b));
            pb_sha256_add(hash, bytes, sizeof bytes);
        }
    }
    pb_sha256_end(hash, hex);
    PB_RETURN(status);
    return json_ok(pb_json_add_str(t->record->dataset, "order_sha256", hex));
}

/* --- training --- */

int64_t pb_warmup_samples(int64_t steps) { return steps / 3 < 3 ? steps / 3 : 3; }

/* "time/step" holds the steps behind the warm-up, "time/step/warmup" the others. */
static pb_status record_timed(pb_trainer *t, int series, const char *tag) {
    int64_t warm = pb_warmup_samples(t->done);
    char name[96], metric[96];
    if (warm > 0) {
        snprintf(name, sizeof name, "%s/warmup", tag);
        PB_RETURN(pb_record_sample(t->record, name, t->series[series], warm));
    }
    PB_RETURN(pb_record_sample(t->record, tag, t->series[series] + warm, t->done - warm));
    snprintf(metric, sizeof metric, "%s/median", tag);
    return pb_record_derived(t->record, metric, "median", tag);
}

static double sum_of(const double *values, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += values[i];
    return sum;
}

/* Examples and tokens over the time of the same steps, warm-up left out. */
static pb_status record_speed(pb_trainer *t) {
    int64_t warm = pb_warmup_samples(t->done), n = t->done - warm;
    double seconds = sum_of(t->series[PB_SERIES_STEP] + warm, n);
    double all = sum_of(t->series[PB_SERIES_STEP], t->done), steps = (double)t->done;
    PB_RETURN(pb_record_known(t->record, "time/train/total", all, t->done));
    PB_RETURN(pb_record_known(t->record, "work/step/flops", t->work.flops / steps, t->done));
    PB_RETURN(pb_record_known(t->record, "work/step/bytes", t->work.bytes / steps, t->done));
    PB_RETURN(pb_record_metric(t->record, "work/step/flops_else", t->work.flops_else / steps,
                               "FLOP", -1, t->done, ""));
    PB_RETURN(pb_record_metric(t->record, "work/step/ops", (double)t->work.ops / steps, "1", -1,
                               t->done, ""));
    if (!(seconds > 0.0)) return PB_OK;
    double examples = sum_of(t->series[PB_SERIES_EXAMPLES] + warm, n);
    double tokens = sum_of(t->series[PB_SERIES_TOKENS] + warm, n);
    PB_RETURN(pb_record_known(t->record, "time/train/examples_per_s", examples / seconds, n));
    PB_RETURN(pb_record_known(t->record, "time/train/tokens_per_s", tokens / seconds, n));
    return pb_record_metric(t->record, "work/flops_per_s", t->work.flops / all, "FLOP/s", 1,
                            t->done, "");
}

pb_status pb_trainer_record_curve(pb_trainer *t) {
    static const char *const tags[PB_CURVE_COUNT] = {"curve/step", "curve/valid/nll",
                                                     "curve/valid/accuracy"};
    for (int i = 0; i < PB_CURVE_COUNT && t->n_curve > 0; i++) {
        PB_RETURN(pb_record_sample(t->record, tags[i], t->curve[i], t->n_curve));
    }
    if (t->n_curve < 2) return PB_OK;
    PB_RETURN(pb_record_derived(t->record, "curve/valid/nll/min", "min", "curve/valid/nll"));
    return pb_record_known(t->record, "curve/valid/upturn",
                           pb_upturn(t->curve[PB_CURVE_NLL], t->n_curve), t->n_curve);
}

static pb_status read_log(pb_trainer *t, pb_tensor log, double *out) {
    if (t->done == 0) return PB_OK;
    return pb_device_get_f64(t->session.dev, out, pb_first(log, t->done));
}

pb_status pb_trainer_record_training(pb_trainer *t) {
    static const struct {
        int series;
        const char *tag;
    } plain[] = {{PB_SERIES_LOSS, "loss/train"},
                 {PB_SERIES_NORM, "gradient/norm"},
                 {PB_SERIES_LR, "lr"},
                 {PB_SERIES_EXAMPLES, "step/examples"},
                 {PB_SERIES_TOKENS, "step/tokens"}};
    static const struct {
        int series;
        const char *tag;
    } timed[] = {{PB_SERIES_STEP, "time/step"},
                 {PB_SERIES_FORWARD, "time/forward"},
                 {PB_SERIES_BACKWARD, "time/backward"},
                 {PB_SERIES_OPTIM, "time/optimizer"}};
    if (t->done == 0) return PB_OK;
    PB_RETURN(read_log(t, t->session.loss_log, t->series[PB_SERIES_LOSS]));
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        PB_RETURN(pb_record_sample(t->record, plain[i].tag, t->series[plain[i].series], t->done));
    }
    if (t->run->method->loss_term != NULL) {
        PB_RETURN(read_log(t, t->session.term_log, t->series[PB_SERIES_TERM]));
        PB_RETURN(pb_record_sample(t->record, "loss/term", t->series[PB_SERIES_TERM], t->done));
    }
    PB_RETURN(pb_record_derived(t->record, "loss/train/last", "last", "loss/train"));
    double roughness = pb_roughness(t->series[PB_SERIES_LOSS], t->done);
    if (isfinite(roughness))
        PB_RETURN(pb_record_known(t->record, "loss/train/roughness", roughness, t->done));
    for (size_t i = 0; i < sizeof timed / sizeof timed[0]; i++) {
        PB_RETURN(record_timed(t, timed[i].series, timed[i].tag));
    }
    return record_speed(t);
}

/* --- memory --- */

pb_status pb_trainer_record_memory(pb_trainer *t) {
    struct rusage usage;
    bool predicted = t->prediction.total > 0;
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        PB_RETURN(pb_record_memory(t->record, pb_mem_name((pb_mem)m),
                                   predicted ? t->prediction.bytes[m] : 0, t->peak[m]));
    }
    PB_RETURN(pb_record_memory(t->record, "total", t->prediction.total, t->peak_total));
    PB_RETURN(pb_record_known(t->record, "memory/peak/total", (double)t->peak_total, 1));
    PB_RETURN(pb_record_metric(t->record, "check/arena_growths", (double)t->growths, "1", -1,
                               t->done, ""));
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return pb_record_warn(t->record, "the peak resident memory is unknown");
    return pb_record_known(t->record, "memory/rss/peak", (double)usage.ru_maxrss * 1024.0, 1);
}

#include "tests/synthetic_records.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

typedef struct noise {
    uint64_t state;
} noise;

/* Uniform in [-1, 1). */
static double draw(noise *n) {
    n->state = n->state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)n->state / 9223372036854775808.0;
}

static pb_status fill_parts(const pb_synthetic *s, pb_record *r) {
    r->config = cJSON_CreateObject();
    r->model = cJSON_CreateObject();
    r->dataset = cJSON_CreateObject();
    r->environment = cJSON_CreateObject();
    bool ok = pb_json_add_str(r->config, "suite", s->suite) &&
              pb_json_add_str(r->config, "label", s->label) &&
              pb_json_add_str(r->config, "method", s->method) &&
              pb_json_add_i64(r->config, "seed", (int64_t)s->seed) &&
              pb_json_add_f64(r->config, "lr", strcmp(s->method, "full") == 0 ? 1e-4 : 2e-3) &&
              pb_json_add_i64(r->config, "steps", s->steps);
    pb_json *params = pb_json_add_object(r->config, "params");
    if (strstr(s->method, "lora") || strcmp(s->method, "dora") == 0)
        ok = ok && pb_json_add_i64(params, "rank", 8) && pb_json_add_i64(params, "alpha", 16);
    if (strcmp(s->method, "adapter") == 0) ok = ok && pb_json_add_i64(params, "size", 64);
    ok = ok && pb_json_add_str(r->model, "name", "all-MiniLM-L6-v2") &&
         pb_json_add_str(r->model, "sha256",
                         "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db") &&
         pb_json_add_i64(r->model, "params_total", 22713216 + s->trainable) &&
         pb_json_add_i64(r->model, "params_trainable", s->trainable) &&
         pb_json_add_str(r->dataset, "name", "wordnet") &&
         pb_json_add_str(r->dataset, "sha256",
                         "0f0e0d0c0b0a09080706050403020100ffeeddccbbaa99887766554433221100") &&
         pb_json_add_i64(r->dataset, "classes", 45) &&
         pb_json_add_f64(r->dataset, "majority", 0.1465);
    pb_json *splits = pb_json_add_object(r->dataset, "splits");
    ok = ok && pb_json_add_i64(splits, "train", 4096) && pb_json_add_i64(splits, "valid", 1000) &&
         pb_json_add_i64(splits, "test", 2000);
    pb_json *machine = pb_json_add_object(r->environment, "machine");
    ok = ok && pb_json_add_str(machine, "cpu", "Example CPU 2.0 GHz") &&
         pb_json_add_i64(machine, "cores", 8) &&
         pb_json_add_i64(machine, "memory_bytes", INT64_C(16) << 30);
    pb_json *libraries = pb_json_add_object(r->environment, "libraries");
    ok = ok && pb_json_add_str(libraries, "onednn", "2.6.3") &&
         pb_json_add_str(r->environment, "build", "gcc 12.2 Release") &&
         pb_json_add_i64(r->environment, "threads", 2);
    pb_json *argv = pb_json_add_array(r->environment, "argv");
    ok = ok && pb_json_add_str(argv, NULL, "peftbench") && pb_json_add_str(argv, NULL, "run") &&
         pb_json_add_str(argv, NULL, s->suite);
    return ok ? PB_OK : PB_ERROR(PB_E_OOM, "no memory");
}

static pb_status fill_ranks(pb_record *r, noise *z) {
    static const char *const sites[] = {"attn.q", "attn.k", "attn.v",
                                        "attn.o", "mlp.up", "mlp.down"};
    r->report = cJSON_CreateObject();
    pb_json *ranks = pb_json_add_object(r->report, "ranks");
    for (int layer = 0; layer < 6; layer++)
        for (int i = 0; i < 6; i++) {
            char name[64];
            snprintf(name, sizeof name, "layers.%d.%s", layer, sites[i]);
            double rank = fmax(0, fmin(12, floor(4 + layer + i * 0.8 + 3 * draw(z))));
            if (!pb_json_add_i64(ranks, name, (int64_t)rank))
                return PB_ERROR(PB_E_OOM, "no memory");
        }
    return PB_OK;
}

static pb_status add_derived(pb_record *r, const char *tag, const char *unit, int better,
                             const char *from) {
    const char *source = strchr(from, ':') + 1;
    char how[16] = "";
    double value = 0;
    memcpy(how, from, (size_t)(source - from - 1));
    const pb_sample *s = pb_record_find_sample(r, source);
    PB_RETURN(pb_derive(how, s->values, s->n, &value));
    PB_RETURN(pb_record_metric(r, tag, value, unit, better, s->n, from));
    return PB_OK;
}

static pb_status fill_eval(const pb_synthetic *s, pb_record *r, noise *z) {
    pb_status status = PB_OK;
    int n = s->examples, right = 0;
    double *correct = calloc((size_t)n * 3, sizeof *correct), *nll = correct + n, *id = nll + n;
    if (!correct) return PB_ERROR(PB_E_OOM, "no memory");
    for (int i = 0; i < n; i++) {
        correct[i] = 0.5 + 0.5 * draw(z) < s->accuracy;
        nll[i] = fmax(0.001, s->nll * (1 + 0.8 * draw(z)));
        id[i] = i;
        right += correct[i] > 0;
    }
    PB_TRY(pb_record_sample(r, "eval/test/correct", correct, n));
    PB_TRY(pb_record_sample(r, "eval/test/nll", nll, n));
    PB_TRY(pb_record_sample(r, "eval/test/id", id, n));
    PB_TRY(add_derived(r, "quality/test/accuracy", "1", 1, "mean:eval/test/correct"));
    PB_TRY(add_derived(r, "quality/test/nll", "nats", -1, "mean:eval/test/nll"));
    PB_TRY(pb_record_metric(r, "quality/valid/accuracy", (double)right / n, "1", 1, 1000, ""));
    if (strcmp(s->method, "dylora") == 0)
        for (int rank = 1; rank <= 8; rank++) {
            char tag[64];
            double v = s->accuracy - 0.09 * exp(-0.6 * (rank - 1)) + 0.004 * draw(z);
            snprintf(tag, sizeof tag, "quality/test/accuracy@rank=%d", rank);
            PB_TRY(pb_record_metric(r, tag, v, "1", 1, n, ""));
            snprintf(tag, sizeof tag, "quality/test/nll@rank=%d", rank);
            PB_TRY(
                pb_record_metric(r, tag, s->nll * (1 + 0.3 * exp(-0.5 * rank)), "nats", -1, n, ""));
        }
done:
    free(correct);
    return status;
}

static pb_status fill_curves(const pb_synthetic *s, pb_record *r, noise *z) {
    pb_status status = PB_OK;
    static const struct {
        const char *tag;
        double share;
    } phases[] = {{"time/step", 1},
                  {"time/forward", 0.36},
                  {"time/backward", 0.58},
                  {"time/optimizer", 0.03}};
    int n = s->steps;
    double *v = calloc((size_t)n + 16, sizeof *v), valid[4], at[4], total = 0;
    if (!v) return PB_ERROR(PB_E_OOM, "no memory");
    for (int i = 0; i < n; i++) v[i] = s->nll + (3.8 - s->nll) * exp(-4.0 * i / n) + 0.25 * draw(z);
    PB_TRY(pb_record_sample(r, "loss/train", v, n));
    for (int i = 0; i < 4; i++) {
        at[i] = (i + 1) * n / 4.0;
        valid[i] = s->nll + 0.05 + (3.8 - s->nll) * exp(-(i + 1.0)) + 0.02 * draw(z);
    }
    PB_TRY(pb_record_sample(r, "loss/valid", valid, 4));
    PB_TRY(pb_record_sample(r, "loss/valid/step", at, 4));
    for (size_t p = 0; p < 4; p++) {
        char from[64], tag[64];
        double share = phases[p].share;
        if (strcmp(s->method, "full") == 0 && p == 3) share = 0.2;
        for (int i = 0; i < n; i++) v[i] = s->step_s * share * (1 + 0.03 * fabs(draw(z)));
        for (int i = 0; i < n && p == 0; i++) total += v[i];
        PB_TRY(pb_record_sample(r, phases[p].tag, v, n));
        snprintf(from, sizeof from, "median:%s", phases[p].tag);
        snprintf(tag, sizeof tag, "%s/median", phases[p].tag);
        PB_TRY(add_derived(r, tag, "s", -1, from));
    }
    for (int i = 0; i < 5; i++) v[i] = s->step_s * 0.3 * (1 + 0.05 * draw(z));
    PB_TRY(pb_record_sample(r, "time/infer/merged", v, 5));
    PB_TRY(add_derived(r, "time/infer/merged/median", "s", -1, "median:time/infer/merged"));
    for (int i = 0; i < 5; i++) v[i] *= 1.13;
    PB_TRY(pb_record_sample(r, "time/infer/unmerged", v, 5));
    PB_TRY(add_derived(r, "time/infer/unmerged/median", "s", -1, "median:time/infer/unmerged"));
    PB_TRY(pb_record_metric(r, "time/train/total", total, "s", -1, n, ""));
    PB_TRY(
        pb_record_metric(r, "time/train/examples_per_s", 32 / s->step_s, "examples/s", 1, n, ""));
    PB_TRY(pb_record_metric(r, "time/train/tokens_per_s", 32 * 17.3 / s->step_s, "tokens/s", 1, n,
                            ""));
done:
    free(v);
    return status;
}

static pb_status fill_memory(const pb_synthetic *s, pb_record *r, noise *z) {
    double mb = 1048576, trainable = (double)s->trainable * 4, total = s->peak_mb * mb;
    bool four_bit = strcmp(s->method, "qlora") == 0;
    struct {
        const char *tag;
        double bytes;
    } rows[] = {{"base", four_bit ? 57 * mb : 86.6 * mb},
                {"quant_constants", four_bit ? 1.4 * mb : 0},
                {"adapter", trainable < 20 * mb ? trainable : 70000},
                {"master", 0},
                {"gradient", trainable},
                {"optimizer", 2 * trainable},
                {"activation", 0},
                {"workspace", 9.5 * mb},
                {"data", 0.9 * mb},
                {"total", total}};
    double rest = total;
    for (int i = 0; i < 9; i++) rest -= rows[i].bytes;
    rows[6].bytes = fmax(rest, mb);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t peak = s->status == PB_RUN_OK ? (uint64_t)rows[i].bytes : 0;
        PB_RETURN(pb_record_memory(r, rows[i].tag, (uint64_t)(rows[i].bytes * (1 + 0.02 * draw(z))),
                                   peak));
    }
    if (s->status != PB_RUN_OK) return PB_OK;
    PB_RETURN(
        pb_record_metric(r, "memory/peak/total", (double)(uint64_t)total, "bytes", -1, 1, ""));
    PB_RETURN(pb_record_metric(r, "memory/rss/peak", (double)(uint64_t)(total * 1.3), "bytes", -1,
                               1, ""));
    PB_RETURN(pb_record_metric(r, "size/adapter_file", (double)s->trainable * 4 + 512, "bytes", -1,
                               1, ""));
    PB_RETURN(pb_record_metric(r, "work/step/flops", 3.1e10, "FLOP", -1, 1, ""));
    return PB_OK;
}

pb_status pb_synthetic_record(const pb_synthetic *s, pb_record *r) {
    static const char *const reasons[PB_RUN_STATUS_COUNT] = {
        "", "child ended with signal 11 (Segmentation fault) at step 17",
        "NaN in the gradient of layers.3.attn.q.lora_B at step 41",
        "predicted 17.2 GiB, budget 16 GiB: optimizer 9.1 GiB is the largest part",
        "SIGTERM at step 63"};
    noise z = {s->seed * 1000003 + strlen(s->label) * 7919 + (uint64_t)s->method[0] * 31 + 12345};
    for (int i = 0; i < 8; i++) draw(&z);
    *r = (pb_record){.status = s->status, .seed = s->seed};
    pb_copy(r->suite, sizeof r->suite, s->suite);
    pb_copy(r->method, sizeof r->method, s->method);
    pb_copy(r->label, sizeof r->label, s->label);
    pb_copy(r->reason, sizeof r->reason, reasons[s->status]);
    pb_copy(r->verified, sizeof r->verified, s->status == PB_RUN_OK ? "passed" : "not_verified");
    strcpy(r->started, "2025-03-01T10:00:00Z");
    strcpy(r->ended, "2025-03-01T10:02:30.125Z");
    pb_status status = PB_OK;
    PB_TRY(fill_parts(s, r));
    PB_TRY(pb_run_id_of(r->config, r->run_id));
    if (s->status == PB_RUN_OK && !s->sparse) {
        if (s->steps) PB_TRY(fill_curves(s, r, &z));
        if (s->examples) PB_TRY(fill_eval(s, r, &z));
        if (strcmp(s->method, "adalora") == 0) PB_TRY(fill_ranks(r, &z));
    }
    if (!s->sparse) PB_TRY(fill_memory(s, r, &z));
    if (strcmp(s->method, "qlora") == 0)
        PB_TRY(pb_record_warn(
            r, "merging re-quantises the 4-bit base: the merged model is an approximation"));
done:
    if (status != PB_OK) pb_record_free(r);
    return status;
}

static pb_status write_one(const char *root, const pb_synthetic *s) {
    pb_record r;
    PB_RETURN(pb_synthetic_record(s, &r));
    pb_status status = pb_record_write(&r, root);
    pb_record_free(&r);
    return status;
}

pb_status pb_synthetic_suite(const char *root, const char *suite, int seeds) {
    static const pb_synthetic rows[] = {{.method = "head",
                                         .label = "head only",
                                         .accuracy = .612,
                                         .nll = 1.41,
                                         .step_s = .041,
                                         .peak_mb = 118,
                                         .trainable = 17325},
                                        {.method = "lora",
                                         .label = "LoRA r8",
                                         .accuracy = .771,
                                         .nll = .802,
                                         .step_s = .104,
                                         .peak_mb = 231,
                                         .trainable = 680000},
                                        {.method = "adalora",
                                         .label = "AdaLoRA 12 to 8",
                                         .accuracy = .764,
                                         .nll = .827,
                                         .step_s = .129,
                                         .peak_mb = 246,
                                         .trainable = 1010000},
                                        {.method = "dylora",
                                         .label = "DyLoRA r8",
                                         .accuracy = .751,
                                         .nll = .868,
                                         .step_s = .101,
                                         .peak_mb = 229,
                                         .trainable = 680000},
                                        {.method = "dora",
                                         .label = "DoRA r8",
                                         .accuracy = .774,
                                         .nll = .795,
                                         .step_s = .137,
                                         .peak_mb = 262,
                                         .trainable = 702000},
                                        {.method = "qlora",
                                         .label = "QLoRA r8",
                                         .accuracy = .766,
                                         .nll = .815,
                                         .step_s = .161,
                                         .peak_mb = 204,
                                         .trainable = 680000},
                                        {.method = "adapter",
                                         .label = "Adapter 64",
                                         .accuracy = .768,
                                         .nll = .811,
                                         .step_s = .089,
                                         .peak_mb = 214,
                                         .trainable = 610000},
                                        {.method = "full",
                                         .label = "full",
                                         .accuracy = .786,
                                         .nll = .761,
                                         .step_s = .142,
                                         .peak_mb = 472,
                                         .trainable = 22730541}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int seed = 1; seed <= seeds; seed++) {
            pb_synthetic s = rows[i];
            noise z = {(uint64_t)seed * 77 + i * 1313};
            for (int k = 0; k < 4; k++) draw(&z);
            s.suite = suite;
            s.seed = (uint64_t)seed;
            s.steps = 128;
            s.examples = 2000;
            s.step_s *= 1 + 0.02 * draw(&z);
            PB_RETURN(write_one(root, &s));
        }
    return PB_OK;
}

pb_status pb_synthetic_failures(const char *root, const char *suite) {
    static const char *const labels[PB_RUN_STATUS_COUNT] = {"", "LoRA r64", "LoRA r8 high lr",
                                                            "full batch 512", "DoRA r32"};
    static const char *const methods[PB_RUN_STATUS_COUNT] = {"", "lora", "lora", "full", "dora"};
    for (int i = PB_RUN_FAILED; i < PB_RUN_STATUS_COUNT; i++) {
        pb_synthetic s = {.suite = suite,
                          .method = methods[i],
                          .label = labels[i],
                          .seed = 1,
                          .status = (pb_run_status)i,
                          .peak_mb = 400,
                          .trainable = 680000};
        PB_RETURN(write_one(root, &s));
    }
    return PB_OK;
}

/* Runs from files to records on tiny models, and the parts of the training loop on their own. What
 * every method must satisfy: test_laws.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "harness/bench_step.h"
#include "harness/environment.h"
#include "harness/trainer_impl.h"
#include "tests/lab_data.h"
#include "tests/support.h"

/* --- schedules and optimizer --- */

static void assert_factor(pb_schedule schedule, int64_t step, int64_t warmup, int64_t steps,
                          double want) {
    double got = pb_schedule_factor(schedule, step, warmup, steps);
    ck_assert_msg(fabs(got - want) < 1e-12, "schedule %d, step %d of %d: %.15g, expected %.15g",
                  (int)schedule, (int)step, (int)steps, got, want);
}

START_TEST(schedules_follow_hugging_face) {
    static const double linear[] = {0.0, 0.5,   1.0,  0.875, 0.75, 0.625,
                                    0.5, 0.375, 0.25, 0.125, 0.0};
    for (int i = 0; i <= 10; i++) assert_factor(PB_SCHEDULE_LINEAR, i, 2, 10, linear[i]);
    assert_factor(PB_SCHEDULE_LINEAR, 11, 2, 10, 0.0);
    assert_factor(PB_SCHEDULE_LINEAR, 0, 0, 4, 1.0);
    assert_factor(PB_SCHEDULE_LINEAR, 3, 0, 4, 0.25);
    assert_factor(PB_SCHEDULE_CONSTANT, 1, 4, 10, 0.25);
    assert_factor(PB_SCHEDULE_CONSTANT, 9, 4, 10, 1.0);
    assert_factor(PB_SCHEDULE_COSINE, 2, 2, 10, 1.0);
    assert_factor(PB_SCHEDULE_COSINE, 4, 2, 10, 0.5 * (1.0 + sqrt(0.5)));
    assert_factor(PB_SCHEDULE_COSINE, 6, 2, 10, 0.5);
    assert_factor(PB_SCHEDULE_COSINE, 10, 2, 10, 0.0);
    ck_assert_int_eq(pb_schedule_warmup_steps(0.06, 128), 8);
    ck_assert_int_eq(pb_schedule_warmup_steps(0.0, 128), 0);
    ck_assert_int_eq(pb_schedule_warmup_steps(5.0, 128), 5);
}
END_TEST

static pb_optim_config adamw_config(void) {
    return (pb_optim_config){.kind = PB_OPT_ADAMW,
                             .schedule = PB_SCHEDULE_LINEAR,
                             .lr = 0.1,
                             .beta1 = 0.9,
                             .beta2 = 0.99,
                             .eps = 1e-8,
                             .weight_decay = 0.5,
                             .clip = 1.0,
                             .steps = 4};
}

/* Two parameters of two elements, gradient (3, 0) and (0, 4): norm 5, clipped to 1. */
static void adamw_by_hand(pb_dtype T) {
    static const double w0[2] = {1.0, -2.0}, g[2][2] = {{3.0, 0.0}, {0.0, 4.0}};
    pb_device *dev = NULL;
    pb_params *params = NULL;
    pb_param *p[2];
    pb_optim *o = NULL;
    pb_optim_config config = adamw_config();
    double norm = 0.0, got[2];
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    pb_assert_ok(pb_params_new(dev, T, &params));
    for (int i = 0; i < 2; i++) {
        pb_assert_ok(
            pb_params_add(params, PB_ROLE_ADAPTER, i == 0 ? "a" : "b", 2, i == 0 ? 1 : 0, &p[i]));
        pb_assert_ok(pb_param_train(params, p[i]));
        pb_assert_ok(pb_param_set(params, p[i], w0));
        pb_assert_ok(pb_device_put_f64(dev, p[i]->grad, g[i]));
    }
    p[1]->lr_scale = 2.0;
    pb_assert_ok(pb_optim_new(dev, params, &config, &o));
    pb_assert_ok(pb_optim_step(o, 0, &norm));
    ck_assert(fabs(norm - 5.0) < 1e-6);
    for (int i = 0; i < 2; i++) {
        double lr = i == 0 ? 0.1 : 0.2, decay = i == 0 ? 0.5 : 0.0, want[2];
        /* The first bias-corrected step moves by lr in the direction of the sign. */
        for (int k = 0; k < 2; k++)
            want[k] = w0[k] * (1.0 - lr * decay) - (g[i][k] > 0.0 ? lr : 0.0);
        pb_assert_ok(pb_device_get_f64(dev, got, p[i]->master));
        pb_assert_close(got, want, 2, 0.0, 1e-5, "master");
        pb_assert_ok(pb_device_get_f64(dev, got, p[i]->value));
        pb_assert_close(got, want, 2, 0.0, T == PB_F32 ? 1e-5 : 0x1p-8, "compute copy");
    }
    pb_optim_free(o);
    pb_params_free(params);
    pb_device_close(dev);
}

START_TEST(adamw_decays_clips_and_scales_as_said) {
    adamw_by_hand(PB_F32);
    adamw_by_hand(PB_BF16);
}
END_TEST

START_TEST(adamw8_keeps_small_tensors_in_32_bits) {
    pb_device *dev = NULL;
    pb_params *params = NULL;
    pb_param *small = NULL, *large = NULL;
    pb_optim *o = NULL;
    pb_optim_config config = adamw_config();
    double norm = 0.0;
    config.kind = PB_OPT_ADAMW8;
    pb_assert_ok(pb_device_open("cpu", NULL, &dev));
    pb_assert_ok(pb_params_new(dev, PB_F32, &params));
    pb_assert_ok(pb_params_add(params, PB_ROLE_ADAPTER, "small", 63, 65, &small)); /* 4095 */
    pb_assert_ok(pb_params_add(params, PB_ROLE_ADAPTER, "large", 64, 64, &large)); /* 4096 */
    pb_assert_ok(pb_param_train(params, small));
    pb_assert_ok(pb_param_train(params, large));
    pb_assert_ok(pb_optim_new(dev, params, &config, &o));
    uint64_t want =
        2 * 16384 + 2 * (4096 + 64); /* 4095 floats rounded to 64 bytes; codes and 16 absmax */
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_OPTIM), want);
    pb_assert_ok(pb_optim_step(o, 0, &norm));
    ck_assert(norm == 0.0);
    pb_optim_free(o);
    pb_params_free(params);
    pb_device_close(dev);
}
END_TEST

/* --- whole runs --- */

static pb_lab_world world;

static void make_world(void) { pb_lab_world_new(&world); }
static void free_world(void) { pb_lab_world_free(&world); }

static double metric(const pb_record *r, const char *tag) {
    const pb_metric *m = pb_record_find(r, tag);
    ck_assert_msg(m != NULL, "%s: no metric %s", r->label, tag);
    return m->value;
}

static int64_t samples(const pb_record *r, const char *tag) {
    const pb_sample *s = pb_record_find_sample(r, tag);
    ck_assert_msg(s != NULL, "%s: no sample %s", r->label, tag);
    return s->n;
}

static void assert_memory(const pb_record *r) {
    ck_assert_int_eq(r->n_memory, PB_MEM_COUNT + 1);
    for (int i = 0; i < r->n_memory; i++) {
        const pb_mem_row *m = &r->memory[i];
        double off = fabs((double)m->predicted - (double)m->peak);
        ck_assert_msg(off <= 0.05 * (double)m->peak, "%s: %s: predicted %llu, measured %llu",
                      r->label, m->tag, (unsigned long long)m->predicted,
                      (unsigned long long)m->peak);
    }
}

static void assert_complete(const pb_record *r, bool mergeable, int64_t steps) {
    ck_assert_msg(r->status == PB_RUN_OK, "%s: %s: %s", r->label, pb_run_status_name(r->status),
                  r->reason);
    ck_assert_str_eq(r->verified, "passed");
    ck_assert_int_eq(samples(r, "loss/train"), steps);
    ck_assert_int_eq(samples(r, "time/step") + samples(r, "time/step/warmup"), steps);
    ck_assert_int_eq(samples(r, "eval/test/nll"), PB_LAB_TEST);
    ck_assert_int_eq(samples(r, "eval/test/id"), PB_LAB_TEST);
    ck_assert_int_eq(samples(r, "eval/valid/correct"), PB_LAB_VALID);
    ck_assert_int_eq(samples(r, "eval/train/nll"), 10);
    ck_assert_int_eq(samples(r, "curve/valid/nll"), 4); /* steps 0, 5, 10, 12 */
    ck_assert_int_eq(samples(r, "time/infer/unmerged"), 3);
    ck_assert(metric(r, "time/step/median") > 0.0);
    ck_assert(metric(r, "work/step/flops") > 0.0);
    ck_assert(metric(r, "memory/rss/peak") > 1e6);
    double share = metric(r, "profile/products_share");
    ck_assert(share > 0.0 && share <= 1.0);
    ck_assert(metric(r, "check/arena_growths") == 0.0);
    if (mergeable) ck_assert(metric(r, "check/merge/max_nll_diff") < 2.0);
    assert_memory(r);
}

/* Written, read back, verified: every derived metric comes out again. */
static void assert_verifies(const pb_record *r) {
    char *root = pb_test_dir();
    int n = 0, bad = 0;
    pb_assert_ok(pb_record_write(r, root));
    pb_status status = pb_records_verify(root, stdout, &n, &bad);
    ck_assert_msg(status == PB_OK && n == 1 && bad == 0, "%s: %s", r->label, pb_error_message());
    free(root);
}

/* Every method on both models, f32 and bf16. */
START_TEST(a_run_gives_a_complete_record) {
    const pb_method *method = pb_method_registry[_i / 4];
    pb_lab_model model = (pb_lab_model)(_i / 2 % 2);
    pb_run_config run = pb_lab_run(&world, model, method->name);
    pb_record r;
    run.dtype = _i % 2 == 0 ? PB_F32 : PB_BF16;
    pb_lab_execute(&world, &run, &r);
    if (strstr(r.reason, "nothing to train") != NULL) {
        ck_assert_int_eq(r.status, PB_RUN_FAILED);
    } else {
        assert_complete(&r, method->mergeable, run.steps);
        if (run.dtype == PB_F32 && method->mergeable && !pb_record_find_sample(&r, "quant")) {
            ck_assert(isfinite(metric(&r, "time/infer/merged/median")));
        }
        assert_verifies(&r);
    }
    pb_record_free(&r);
}
END_TEST

/* Means over tokens, not over examples; and what follows from more than one sample is verified. */
START_TEST(language_models_are_measured_per_token) {
    static const char *const tags[] = {
        "quality/test/nll",      "quality/valid/accuracy",    "quality/test/perplexity",
        "time/train/total",      "time/train/examples_per_s", "time/train/tokens_per_s",
        "memory/peak/total",     "quality/test/nll@rank=1"};
    pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, "dylora");
    pb_record r;
    pb_lab_execute(&world, &run, &r);
    ck_assert_int_eq(r.status, PB_RUN_OK);
    const pb_sample *nll = pb_record_find_sample(&r, "eval/test/nll"),
                    *tokens = pb_record_find_sample(&r, "eval/test/tokens");
    double sum = 0, n = 0, plain = 0;
    for (int64_t i = 0; i < nll->n; i++) {
        sum += nll->values[i] * tokens->values[i];
        n += tokens->values[i];
        plain += nll->values[i] / (double)nll->n;
    }
    ck_assert_double_eq_tol(metric(&r, "quality/test/nll"), sum / n, 1e-12);
    ck_assert_double_eq_tol(metric(&r, "quality/test/perplexity"), exp(sum / n), 1e-9);
    ck_assert_msg(fabs(plain - sum / n) > 1e-6, "examples of equal length prove nothing");
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        char *root = pb_test_dir();
        pb_metric *m = NULL;
        int bad = 0;
        for (int k = 0; k < r.n_metrics; k++)
            if (strcmp(r.metrics[k].tag, tags[i]) == 0) m = &r.metrics[k];
        ck_assert_msg(m != NULL, "no %s", tags[i]);
        double value = m->value;
        m->value *= 1.001;
        pb_assert_ok(pb_record_write(&r, root));
        m->value = value;
        ck_assert_msg(pb_records_verify(root, NULL, NULL, &bad) == PB_E_CHECK && bad == 1, "%s",
                      tags[i]);
        free(root);
    }
    assert_verifies(&r);
    pb_record_free(&r);
}
END_TEST

START_TEST(training_learns_the_task) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    pb_record r;
    run.steps = 80;
    run.eval_every = 0;
    pb_lab_execute(&world, &run, &r);
    ck_assert_int_eq(r.status, PB_RUN_OK);
    ck_assert_msg(metric(&r, "quality/train/accuracy") > 0.8, "training accuracy %g",
                  metric(&r, "quality/train/accuracy"));
    ck_assert_ptr_null(pb_record_find_sample(&r, "curve/step"));
    pb_record_free(&r);
}
END_TEST

START_TEST(every_variant_is_evaluated_and_the_best_is_the_headline) {
    bool any = false;
    for (int i = 0; i < pb_method_registry_count; i++) {
        const pb_method *method = pb_method_registry[i];
        if (method->variants == NULL) continue;
        pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, method->name);
        pb_record r;
        char tag[96];
        double best = INFINITY;
        pb_lab_execute(&world, &run, &r);
        ck_assert_int_eq(r.status, PB_RUN_OK);
        double chosen = metric(&r, "quality/best_variant");
        for (int k = 0; k < r.n_metrics; k++) {
            if (strncmp(r.metrics[k].tag, "quality/valid/nll@", 18) == 0)
                best = fmin(best, r.metrics[k].value);
        }
        ck_assert(metric(&r, "quality/valid/nll") == best);
        snprintf(tag, sizeof tag, "quality/test/accuracy@%s=%g", method->variant_name, chosen);
        ck_assert(metric(&r, tag) == metric(&r, "quality/test/accuracy"));
        any = true;
        pb_record_free(&r);
    }
    ck_assert(any);
}
END_TEST

/* The test data at every cut, behind everything that the same run without cuts measures. */
START_TEST(an_adapter_is_evaluated_at_every_cut) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    pb_record plain, r;
    double last = NAN;
    pb_json *params = NULL;
    char json[] = "{\"rank\": 3, \"alpha\": 6}";
    pb_assert_ok(pb_json_parse("params", json, strlen(json), &params));
    run.method_params = params;
    pb_lab_execute(&world, &run, &plain);
    run.cuts = true;
    pb_lab_execute(&world, &run, &r);
    ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
    for (int cut = 1; cut < 3; cut++) {
        char tag[96];
        snprintf(tag, sizeof tag, "quality/test/nll@cut=%d", cut);
        ck_assert_msg(fabs(metric(&r, tag) - last) > 0 || cut == 1, "two cuts give one loss");
        last = metric(&r, tag);
        ck_assert(last != metric(&r, "quality/test/nll"));
        snprintf(tag, sizeof tag, "eval/test/nll@cut=%d", cut);
        ck_assert_int_eq(pb_record_find_sample(&r, tag)->n, PB_LAB_TEST);
        ck_assert_ptr_null(pb_record_find_sample(&plain, tag));
    }
    ck_assert_ptr_null(pb_record_find_sample(&r, "eval/test/nll@cut=3"));
    ck_assert(metric(&r, "quality/test/nll") == metric(&plain, "quality/test/nll"));
    ck_assert(metric(&r, "quality/train/nll") == metric(&plain, "quality/train/nll"));
    ck_assert(metric(&r, "check/merge/max_nll_diff") == metric(&plain, "check/merge/max_nll_diff"));
    assert_verifies(&r);
    pb_record_free(&plain);
    pb_record_free(&r);
    pb_json_free(params);
}
END_TEST

/* Folding into 4-bit weights rounds them again: what is left of the quality stands in the record. */
START_TEST(a_merge_into_4_bits_has_its_own_quality) {
    for (int i = 0; i < pb_method_registry_count; i++) {
        const pb_method *method = pb_method_registry[i];
        if (!method->mergeable) continue;
        pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, method->name);
        pb_record r;
        pb_lab_execute(&world, &run, &r);
        ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
        const pb_sample *beside = pb_record_find_sample(&r, "eval/test/nll"),
                        *merged = pb_record_find_sample(&r, "eval/test/nll@weights=merged");
        ck_assert_msg((merged != NULL) == (method->storage != NULL), "%s", method->name);
        if (merged != NULL) {
            ck_assert_int_eq(merged->n, PB_LAB_TEST);
            ck_assert(memcmp(merged->values, beside->values, PB_LAB_TEST * sizeof(double)) != 0);
            ck_assert(fabs(metric(&r, "quality/test/nll@weights=merged") -
                           metric(&r, "quality/test/nll")) < 0.5);
            ck_assert(metric(&r, "quality/test/accuracy@weights=merged") >= 0.0);
        }
        pb_record_free(&r);
    }
}
END_TEST

static const double *times_of(const pb_record *r, const char *start, const char *form,
                              const char *shape) {
    char tag[96];
    snprintf(tag, sizeof tag, "%s/%s@shape=%s", start, form, shape);
    const pb_sample *sample = pb_record_find_sample(r, tag);
    ck_assert_msg(sample && sample->n == 4, "%s", tag);
    return sample->values;
}

static void assert_ratios_of_turns(const pb_record *r, const char *form, const char *base,
                                   const char *shape) {
    const double *with = times_of(r, "time/infer", form, shape);
    const double *without = times_of(r, "time/infer", base, shape);
    const double *ratios = times_of(r, "ratio/infer", form, shape);
    for (int i = 0; i < 4; i++) ck_assert_double_eq(ratios[i], with[i] / without[i]);
}

/* Over batch x length beside the base model; hooks and weights are as before afterwards. */
START_TEST(latency_is_measured_over_shapes) {
    for (int i = 0; i < pb_method_registry_count; i++) {
        const pb_method *method = pb_method_registry[i];
        pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, method->name);
        pb_record plain, grid;
        pb_lab_execute(&world, &run, &plain);
        run.infer_shapes[0] = (pb_infer_shape){1, 16};
        run.infer_shapes[1] = (pb_infer_shape){24, 5}; /* more rows than any batch of the data */
        run.n_infer_shapes = 2;
        run.shape_repeats = 4;
        pb_lab_execute(&world, &run, &grid);
        ck_assert_msg(grid.status == PB_RUN_OK, "%s: %s", method->name, grid.reason);
        ck_assert_int_eq(samples(&grid, "time/infer/base@shape=1x16"), 4);
        ck_assert_int_eq(samples(&grid, "time/infer/unmerged"), 3);
        ck_assert(metric(&grid, "time/infer/unmerged/median@shape=24x5") > 0.0);
        ck_assert(metric(&grid, "time/infer/base/median@shape=24x5") > 0.0);
        bool merged = pb_record_find(&grid, "time/infer/merged/median@shape=1x16") != NULL;
        ck_assert(merged == method->mergeable);
        ck_assert(merged == (pb_record_find(&grid, "time/infer/base_merged/median@shape=1x16") != NULL));
        ck_assert(merged == (pb_record_find(&grid, "ratio/infer/merged/median@shape=1x16") != NULL));
        assert_ratios_of_turns(&grid, "unmerged", "base", "24x5");
        if (merged) assert_ratios_of_turns(&grid, "merged", "base_merged", "1x16");
        bool adds = pb_record_find(&plain, "gradient/norm/adapter") != NULL;
        ck_assert(adds == (strcmp(method->name, "full") != 0 && strcmp(method->name, "head") != 0));
        if (adds) { /* a merge that is undone leaves rounding, in 4 bits a little more */
            double a = metric(&plain, "gradient/norm/adapter"), b = metric(&grid, "gradient/norm/adapter");
            ck_assert_msg(a > 0 && fabs(a - b) <= 1e-3 * a, "%s: %g and %g", method->name, a, b);
        }
        assert_verifies(&grid);
        pb_record_free(&plain);
        pb_record_free(&grid);
    }
}
END_TEST

START_TEST(a_shape_longer_than_the_model_is_refused) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    pb_record r;
    run.infer_shapes[run.n_infer_shapes++] = (pb_infer_shape){1, 100000};
    pb_lab_execute(&world, &run, &r);
    ck_assert_int_eq(r.status, PB_RUN_FAILED);
    ck_assert_msg(strstr(r.reason, "infer_shapes: 100000 tokens") != NULL, "%s", r.reason);
    pb_record_free(&r);
}
END_TEST

/* Counts, memory as predicted, and backward no lower than the lowest trained layer: equal counts, less work on top. */
START_TEST(full_of_some_layers_costs_what_it_trains) {
    static const char *const targets[] = {"layers.1.*", "layers.0.*", "*.norm", "*"};
    static const double counts[] = {8544, 8544, 320}; /* hidden size 32, intermediate 64, two layers */
    double work[4], activations[4];
    for (int i = 0; i < 4; i++) {
        char text[64];
        pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "full");
        pb_record r;
        snprintf(text, sizeof text, "{\"targets\": [\"%s\"]}", targets[i]);
        pb_assert_ok(pb_json_parse("test", text, strlen(text), &run.method_params));
        run.infer_repeats = 0;
        pb_lab_execute(&world, &run, &r);
        ck_assert_msg(r.status == PB_RUN_OK, "%s: %s", targets[i], r.reason);
        double trained = pb_json_number(r.model, "params_trainable") - pb_json_number(r.model, "params_head");
        if (i < 3) ck_assert_msg(trained == counts[i], "%s trains %g", targets[i], trained);
        else ck_assert_double_eq(trained, pb_json_number(r.model, "params_base"));
        for (int k = 0; k < r.n_memory; k++) {
            const char *tag = r.memory[k].tag;
            bool kept = strcmp(tag, "gradient") == 0 || strcmp(tag, "optimizer") == 0 || strcmp(tag, "base") == 0;
            if (kept) ck_assert_msg(r.memory[k].predicted == r.memory[k].peak, "%s: %s", targets[i], tag);
            if (strcmp(tag, "activation") == 0) activations[i] = (double)r.memory[k].peak;
        }
        assert_memory(&r);
        work[i] = metric(&r, "work/step/flops");
        pb_record_free(&r);
        pb_json_free(run.method_params);
    }
    ck_assert_msg(work[0] < work[1] && work[1] < work[3] && work[2] < work[3], "%g %g %g %g", work[0], work[1], work[2],
                  work[3]);
    ck_assert(activations[0] < activations[1]);
}
END_TEST

START_TEST(adalora_reports_the_rank_of_every_matrix) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_run_config run = pb_lab_run(&world, (pb_lab_model)model, "adalora");
        pb_record r;
        int sites = model == PB_LAB_BERT ? 2 * 6 : 2 * 7, n = 0, total = 0, least = 99, most = 0;
        pb_lab_execute(&world, &run, &r);
        ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
        const pb_json *ranks = pb_json_get(r.report, "ranks");
        for (const pb_json *e = ranks != NULL ? ranks->child : NULL; e != NULL; e = e->next, n++) {
            ck_assert_msg(strncmp(e->string, "layers.", 7) == 0, "%s", e->string);
            total += e->valueint;
            if (e->valueint < least) least = e->valueint;
            if (e->valueint > most) most = e->valueint;
        }
        ck_assert_int_eq(n, sites);
        ck_assert_int_eq(total, pb_json_get(r.report, "rank_total")->valueint);
        ck_assert_msg(total <= 8 * sites && total > 7 * sites, "%d triplets, budget %d", total,
                      8 * sites);
        ck_assert_msg(least < most && most <= 12, "ranks from %d to %d", least, most);
        pb_record_free(&r);
    }
}
END_TEST

START_TEST(a_diverging_run_says_where) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "full");
    pb_record r;
    run.lr = 1e30;
    run.schedule = PB_SCHEDULE_CONSTANT;
    run.warmup = 0.0;
    run.clip = 0.0;
    run.eval_every = 0;
    pb_lab_execute(&world, &run, &r);
    ck_assert_msg(r.status == PB_RUN_DIVERGED, "%s: %s", pb_run_status_name(r.status), r.reason);
    ck_assert_msg(strstr(r.reason, "step 1: the ") != NULL && strstr(r.reason, "first in ") != NULL,
                  "reason: %s", r.reason);
    ck_assert_int_eq(samples(&r, "loss/train"), 1);
    assert_verifies(&r);
    pb_record_free(&r);
}
END_TEST

static int stop_flag;

static void stop_at_step_3(void *user, const pb_progress_event *event) {
    int *events = user;
    ++*events;
    if (strcmp(event->phase, "train") == 0) stop_flag = 15;
}

START_TEST(a_signal_ends_the_run_with_what_it_has) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, "lora");
    pb_record r = {0};
    int events = 0;
    stop_flag = 0;
    run.steps = 100000;
    run.eval_every = 0;
    pb_run_options options = {
        .threads = 2, .progress = stop_at_step_3, .user = &events, .stop = &stop_flag};
    pb_assert_ok(pb_run_execute(&run, &world.assets[PB_LAB_LLAMA], &options, &r));
    ck_assert_int_eq(r.status, PB_RUN_INTERRUPTED);
    ck_assert_msg(strstr(r.reason, "signal 15") != NULL, "reason: %s", r.reason);
    ck_assert_int_ge(events, 2);
    ck_assert_int_ge(samples(&r, "loss/train"), 1);
    ck_assert_int_lt(samples(&r, "loss/train"), run.steps);
    assert_verifies(&r);
    pb_record_free(&r);
}
END_TEST

START_TEST(too_little_memory_is_an_oom_record) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    pb_record r = {0};
    pb_run_options options = {.threads = 2, .memory_budget = 100000};
    pb_assert_ok(pb_run_execute(&run, &world.assets[PB_LAB_BERT], &options, &r));
    ck_assert_int_eq(r.status, PB_RUN_OOM);
    ck_assert_msg(strstr(r.reason, "100000") != NULL && strstr(r.reason, "would need") != NULL,
                  "reason: %s", r.reason);
    ck_assert_msg(strstr(r.reason, "MiB: base ") != NULL && strstr(r.reason, "activation ") != NULL &&
                      strstr(r.reason, "raise the budget") != NULL,
                  "reason: %s", r.reason);
    pb_record_free(&r);
    for (int64_t n = 1; n < 500; n++) {
        r = (pb_record){0};
        options = (pb_run_options){.threads = 2, .fail_alloc = n};
        pb_assert_ok(pb_run_execute(&run, &world.assets[PB_LAB_BERT], &options, &r));
        pb_run_status status = r.status;
        ck_assert_msg(status == PB_RUN_OOM || status == PB_RUN_OK, "growth %d: %s", (int)n,
                      r.reason);
        pb_record_free(&r);
        if (status == PB_RUN_OK) return;
        ck_assert_int_lt(n, 100);
    }
}
END_TEST

START_TEST(model_and_task_must_go_together) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    pb_run_options options = {.threads = 2};
    pb_assets mixed = world.assets[PB_LAB_BERT];
    pb_record r = {0};
    mixed.config = world.assets[PB_LAB_LLAMA].config;
    pb_assert_ok(pb_run_execute(&run, &mixed, &options, &r));
    ck_assert_int_eq(r.status, PB_RUN_FAILED);
    ck_assert_msg(strstr(r.reason, "cannot learn the task 'classify'") != NULL, "reason: %s",
                  r.reason);
    pb_record_free(&r);
}
END_TEST

static void assert_same_sample(const pb_record *a, const pb_record *b, const char *tag) {
    const pb_sample *x = pb_record_find_sample(a, tag), *y = pb_record_find_sample(b, tag);
    ck_assert(x != NULL && y != NULL && x->n == y->n);
    ck_assert_msg(memcmp(x->values, y->values, (size_t)x->n * sizeof(double)) == 0, "%s differs",
                  tag);
}

/* The result is a function of the configuration: not of the clock, the threads, evaluation in
 * between or its batch. */
START_TEST(a_run_repeats_bit_for_bit) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_run_config run = pb_lab_run(&world, (pb_lab_model)model, "adalora");
        pb_record a = {0}, b = {0};
        pb_run_options one = {.threads = 1}, two = {.threads = 2};
        pb_assert_ok(pb_run_execute(&run, &world.assets[model], &one, &a));
        run.eval_every = 0;
        run.infer_repeats = 1;
        pb_assert_ok(pb_run_execute(&run, &world.assets[model], &two, &b));
        ck_assert_int_eq(a.status, PB_RUN_OK);
        assert_same_sample(&a, &b, "loss/train");
        assert_same_sample(&a, &b, "gradient/norm");
        assert_same_sample(&a, &b, "eval/test/nll");
        pb_record_free(&a);
        pb_record_free(&b);
    }
}
END_TEST

START_TEST(evaluation_memory_is_not_training_memory) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, "lora");
    pb_record small, large;
    run.eval_every = 1;
    run.eval_batch = 1;
    pb_lab_execute(&world, &run, &small);
    run.eval_batch = 64;
    pb_lab_execute(&world, &run, &large);
    for (int i = 0; i < small.n_memory; i++)
        ck_assert_uint_eq(small.memory[i].peak, large.memory[i].peak);
    pb_record_free(&small);
    pb_record_free(&large);
}
END_TEST

static void evaluate_with_batch(pb_lab_model model, int64_t batch, pb_eval *out) {
    pb_run_config run = pb_lab_run(&world, model, "lora");
    pb_session session = {0};
    pb_session_spec spec;
    pb_loader *loader = NULL;
    run.eval_batch = batch;
    pb_assert_ok(pb_run_spec(&run, &world.assets[model], 2, &spec, &loader));
    pb_assert_ok(pb_session_open(&session, &spec));
    pb_eval_options options = {.split = PB_TEST, .batch = batch};
    pb_assert_ok(pb_evaluate(&session, world.assets[model].data, &options, out));
    pb_session_close(&session);
    pb_loader_free(loader);
}

START_TEST(evaluation_does_not_depend_on_its_batch) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_eval one, many;
        evaluate_with_batch((pb_lab_model)model, 1, &one);
        evaluate_with_batch((pb_lab_model)model, 7, &many);
        ck_assert_int_eq(one.n, PB_LAB_TEST);
        ck_assert_int_eq(many.n, PB_LAB_TEST);
        pb_assert_close(many.nll, one.nll, (size_t)one.n, 0.0, 1e-4, "nll");
        pb_assert_close(many.id, one.id, (size_t)one.n, 0.0, 0.0, "ids");
        pb_assert_close(many.tokens, one.tokens, (size_t)one.n, 0.0, 0.0, "tokens");
        ck_assert(model == PB_LAB_BERT ? one.tokens[0] == 1.0 : one.tokens[0] > 1.0);
        pb_eval_free(&one);
        pb_eval_free(&many);
    }
}
END_TEST

/* Losses and predictions of a batch against log-softmax and argmax of its logits. */
START_TEST(evaluation_agrees_with_the_logits) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_lab_options o = {.model = (pb_lab_model)model, .method = pb_method_find("lora")};
        pb_lab lab;
        double *logits = NULL, loss[64];
        int32_t predicted[64];
        size_t n = 0;
        pb_tensor pred;
        pb_assert_ok(pb_lab_open(&lab, world.model[model], &o, NULL));
        const pb_host_batch *hb = &lab.batch.batch;
        int64_t targets = pb_batch_targets(&lab.session, hb);
        ck_assert_int_le(targets, 64);
        pb_assert_ok(pb_lab_logits(&lab, &logits, &n));
        pb_assert_ok(pb_alloc1(lab.session.dev, PB_MEM_DATA, PB_I32, 64, &pred));
        pb_assert_ok(pb_eval_batch(&lab.session, &lab.session.buffers, pred, hb, loss, predicted));
        int64_t width = model == PB_LAB_BERT ? PB_LAB_CLASSES : PB_LAB_WORDS;
        for (int64_t t = 0; t < targets; t++) {
            const double *z = logits + (model == PB_LAB_BERT ? t : hb->loss_rows[t]) * width;
            double sum = 0.0;
            int best = 0;
            for (int k = 0; k < width; k++) {
                sum += exp(z[k]);
                if (z[k] > z[best]) best = k;
            }
            ck_assert(fabs(loss[t] - (log(sum) - z[hb->target[t]])) < 1e-4);
            ck_assert_int_eq(predicted[t], best);
        }
        free(logits);
        pb_lab_close(&lab);
    }
}
END_TEST

START_TEST(epochs_become_steps) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "head");
    pb_record r;
    run.steps = 0;
    run.epochs = 1.5; /* 48 examples, batch 8, two batches a step: 9 batches, 5 steps */
    run.accumulate = 2;
    pb_lab_execute(&world, &run, &r);
    ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
    ck_assert_int_eq(samples(&r, "loss/train"), 5);
    ck_assert(pb_record_find_sample(&r, "step/examples")->values[0] == 16.0);
    pb_record_free(&r);
}
END_TEST

START_TEST(accumulated_micro_batches_repeat_the_larger_batch) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, "lora");
    pb_record whole, parts;
    run.hidden_dropout = run.attention_dropout = 0.0;
    run.steps = 6; /* one epoch */
    run.eval_every = 0;
    pb_lab_execute(&world, &run, &whole);
    run.batch = 4;
    run.accumulate = 2;
    pb_lab_execute(&world, &run, &parts);
    pb_assert_close(pb_record_find_sample(&parts, "loss/train")->values,
                    pb_record_find_sample(&whole, "loss/train")->values, 6, 0.0, 1e-4, "loss");
    pb_record_free(&whole);
    pb_record_free(&parts);
}
END_TEST

START_TEST(the_adapter_file_is_measured_and_kept_on_request) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "sub/adapter.safetensors"),
         *sub = pb_path_join(dir, "sub");
    for (int keep = 1; keep >= 0; keep--) {
        pb_run_options options = {.threads = 2, .out_dir = sub, .keep_adapter = keep == 1};
        pb_record r = {0};
        pb_assert_ok(pb_run_execute(&run, &world.assets[PB_LAB_BERT], &options, &r));
        ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
        ck_assert(metric(&r, "size/adapter_file") > 1000.0);
        ck_assert(pb_file_exists(path) == (keep == 1));
        pb_record_free(&r);
    }
    free(dir);
    free(path);
    free(sub);
}
END_TEST

/* Asked for, a run ends with the table, the roofs and the trace; else with the sums over ops alone. */
START_TEST(a_profiled_run_holds_table_roofs_and_trace) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "dora");
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "trace.json");
    for (int asked = 0; asked < 3; asked++) { /* nothing, the profile, counters too */
        int profile = asked > 0;
        pb_run_options options = {
            .threads = 2, .out_dir = dir, .profile = asked == 1, .counters = asked == 2};
        pb_record r = {0};
        pb_assert_ok(pb_run_execute(&run, &world.assets[PB_LAB_BERT], &options, &r));
        ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
        ck_assert(metric(&r, "profile/op/linear") > 0.0);
        ck_assert((r.profile != NULL) == (profile == 1) && pb_file_exists(path) == (profile == 1));
        ck_assert((pb_record_find(&r, "roof/flops_per_s") != NULL) == (profile == 1));
        if (profile == 1) {
            ck_assert(metric(&r, "profile/part/weight_norm") > 0.0);
            ck_assert(cJSON_IsNull(pb_json_get(pb_json_get(r.profile, "mfu"), "value")));
            const pb_json *counters = pb_json_get(r.profile, "counters");
            ck_assert(cJSON_IsFalse(pb_json_get(counters, "available")));
            ck_assert(strstr(pb_json_get(counters, "reason")->valuestring,
                             asked == 1 ? "--counters" : "on a GPU only") != NULL);
            ck_assert(pb_record_find(&r, "work/mfu") == NULL); /* no known peak */
        }
        assert_verifies(&r);
        pb_record_free(&r);
    }
    free(dir);
    free(path);
}
END_TEST

/* A recorder that only watches the order of things. */
static struct {
    int begun, ended;
    bool device_open;
} watched;

static pb_status watch_begin(void **recorder) {
    *recorder = &watched;
    watched.begun++;
    return PB_OK;
}

static pb_status watch_end(void *recorder, pb_device *dev, pb_memory_seen *out) {
    const void *data = NULL;
    uint64_t bytes = 0;
    ck_assert(recorder == &watched);
    watched.ended++;
    watched.device_open = dev != NULL;
    for (int m = 0; dev != NULL && m < PB_MEM_COUNT; m++)
        for (int i = 0; pb_device_block(dev, (pb_mem)m, i, &data, &bytes); i++) out->blocks[m] += bytes;
    return PB_OK;
}

/* The pass takes what the run was predicted to take, every purpose inside its blocks; a failing step ends the recorder too. On a
 * CPU a profiled run makes no such pass. */
START_TEST(a_memory_pass_takes_the_memory_of_the_run) {
    static const pb_memory_recorder recorder = {"watch", watch_begin, watch_end};
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    pb_run_options options = {.threads = 2, .profile = true};
    pb_trainer t = {.run = &run, .assets = &world.assets[PB_LAB_BERT], .options = &options};
    pb_prediction predicted;
    pb_memory_seen seen = {0};
    pb_assert_ok(pb_run_predict(&run, t.assets, 2, 0.0, 0.0, &predicted));
    watched.begun = watched.ended = 0;
    pb_assert_ok(pb_trainer_memory_steps(&t, &recorder, &seen));
    ck_assert(watched.begun == 1 && watched.ended == 1 && watched.device_open);
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        bool by_batch = m == PB_MEM_ACT || m == PB_MEM_WORK || m == PB_MEM_DATA; /* the first batch is not the largest */
        ck_assert_msg(by_batch ? seen.taken[m] <= predicted.bytes[m] : seen.taken[m] == predicted.bytes[m],
                      "%s: %llu taken, %llu predicted", pb_mem_name((pb_mem)m), (unsigned long long)seen.taken[m],
                      (unsigned long long)predicted.bytes[m]);
        ck_assert(seen.blocks[m] >= seen.taken[m]);
    }
    options.fail_alloc = 3;
    pb_assert_fails(pb_trainer_memory_steps(&t, &recorder, &seen), PB_E_OOM, "fails on request");
    ck_assert(watched.begun == 2 && watched.ended == 2 && !watched.device_open);
    t.memory_seen = (pb_memory_seen){0};
    pb_assert_ok(pb_trainer_memory(&t));
    ck_assert(!t.memory_seen.known && t.memory_seen.reason[0] == 0);
}
END_TEST

/* --- around runs --- */

START_TEST(ops_are_verified_on_the_shapes_of_the_run) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        for (int dtype = 0; dtype < 2; dtype++) {
            bool passed = false;
            char what[256];
            pb_assert_ok(pb_verify_ops("cpu", 2, &world.assets[model].config,
                                       dtype == 0 ? PB_F32 : PB_BF16, 3, &passed, what,
                                       sizeof what));
            ck_assert_msg(passed, "%s", what);
        }
    }
}
END_TEST

START_TEST(a_shape_is_predicted_without_data) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, "lora");
    pb_assets assets;
    pb_prediction p;
    snprintf(run.model, sizeof run.model, "shape:llama-7b");
    run.dtype = PB_BF16;
    run.batch = 1;
    run.max_len = 512;
    pb_assert_ok(pb_assets_load(&run, &assets));
    pb_assert_ok(pb_run_predict(&run, &assets, 2, 1e12, 1e11, &p));
    ck_assert(p.bytes[PB_MEM_BASE] > 13000000000u && p.bytes[PB_MEM_BASE] < 13600000000u);
    ck_assert(p.total >= p.bytes[PB_MEM_BASE] + p.bytes[PB_MEM_ACT]);
    ck_assert(p.params_trainable > 0 && p.params_trainable < p.params_total / 20);
    /* Forward and input gradients: 4 N per token, and the head twice more. */
    double N = (double)p.params_total;
    ck_assert_msg(p.step.flops > 3.5 * N * 511 && p.step.flops < 5.0 * N * 512, "%g FLOP a step",
                  p.step.flops);
    ck_assert(p.seconds_per_step > 1.0);
    pb_assets_free(&assets);
}
END_TEST

START_TEST(assets_know_what_they_serve) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora"), other = run;
    char *path = pb_path_join(run.model, "model.safetensors"), hex[PB_SHA256_HEX];
    pb_assert_ok(pb_sha256_file(path, hex));
    ck_assert_str_eq(world.assets[PB_LAB_BERT].model_sha256, hex);
    ck_assert(pb_assets_serve(&run, &other));
    other.seed = 9;
    other.lr = 1.0;
    ck_assert(pb_assets_serve(&run, &other));
    other.limit[1] = 5;
    ck_assert(!pb_assets_serve(&run, &other));
    free(path);
}
END_TEST

START_TEST(the_environment_holds_no_secrets) {
    char *argv[] = {"peftbench", "run"};
    pb_json *o = NULL;
    setenv("OMP_TEST", "1", 1);
    setenv("MY_TOKEN", "secret-value", 1);
    pb_environment_set_argv(2, argv);
    pb_assert_ok(pb_environment_json("cpu", 2, &o));
    char *text = pb_json_print(o, true);
    ck_assert(strstr(text, "secret-value") == NULL && strstr(text, "OMP_TEST") != NULL);
    ck_assert(strstr(text, "oneDNN") != NULL && strstr(text, "\"run\"") != NULL);
    ck_assert(pb_json_get(pb_json_get(o, "machine"), "cores_online") != NULL);
    free(text);
    pb_json_free(o);
}
END_TEST

START_TEST(a_step_can_be_timed_without_data) {
    static const char *const models[] = {NULL, "shape:minilm"};
    for (int i = 0; i < 2; i++) {
        pb_bench_step_options o = {.model = i == 0 ? world.model[PB_LAB_LLAMA] : models[i],
                                   .method = pb_method_find("lora"),
                                   .threads = 2,
                                   .dtype = PB_F32,
                                   .batch = 2,
                                   .min_len = 4,
                                   .max_len = 16,
                                   .steps = 4,
                                   .warmup = 1,
                                   .seed = 1};
        pb_bench_step_result r;
        pb_assert_ok(pb_bench_step(&o, &r));
        ck_assert_int_eq(r.steps, 4);
        ck_assert(r.median_s > 0.0 && r.examples_per_s > 0.0 && r.tokens_per_s > r.examples_per_s);
        ck_assert(r.product_share > 0.0 && r.product_share <= 1.0 && r.gemm_limit > 0.0 &&
                  r.limit_share > 0.0);
        ck_assert_uint_eq(r.growths, 0);
        ck_assert(r.params_trainable > 0 && r.peak_total > 0);
        ck_assert_uint_eq(r.predicted_total, r.peak_total);
        ck_assert(r.device_bytes == 0 && (r.head_bytes > 0) == (i == 0) && (r.logits_bytes > 0) == (i == 0));
        ck_assert(r.head_bytes <= 2 * r.logits_bytes); /* of a chunk: logits, and little else */
        ck_assert(r.trace_records > 0 && r.trace_dropped == 0);
        uint64_t peak = r.peak_total, records = r.trace_records;
        pb_bench_step_free(&r);
        o.trace = PB_BENCH_OPS; /* all five steps instead of three */
        pb_assert_ok(pb_bench_step(&o, &r));
        ck_assert(r.median_s > 0.0 && r.product_share == 0.0 && r.peak_total == peak);
        ck_assert_uint_eq(3 * r.trace_records, 5 * records);
        pb_bench_step_free(&r);
        o.trace = PB_BENCH_NODES; /* nobody looks at the ops */
        pb_assert_ok(pb_bench_step(&o, &r));
        ck_assert(r.median_s > 0.0 && r.trace_records == 0);
        pb_bench_step_free(&r);
        o.trace = PB_BENCH_UNTRACED;
        o.memory_budget = UINT64_C(1) << 30; /* taken as the plan says, and held to it */
        pb_assert_ok(pb_bench_step(&o, &r));
        ck_assert_uint_eq(r.peak_total, peak);
        ck_assert_uint_eq(r.growths, 0);
        pb_bench_step_free(&r);
        o.memory_budget = 50000; /* refused from the plan: nothing was allocated */
        pb_assert_fails(pb_bench_step(&o, &r), PB_E_OOM, "would need");
        ck_assert_msg(strstr(pb_error_message(), "MiB: base ") != NULL, "%s", pb_error_message());
    }
}
END_TEST

/* Of 2,048 tokens and 128,256 words, whether the head is trained or not. */
START_TEST(the_loss_takes_a_tenth_of_all_logits) {
    static const char *const methods[] = {"lora", "full"};
    for (int i = 0; i < 2; i++) {
        pb_bench_step_options o = {.model = "shape:llama-3.2-1b",
                                   .method = pb_method_find(methods[i]),
                                   .device = "plan:cpu",
                                   .threads = 2,
                                   .dtype = PB_BF16,
                                   .batch = 4,
                                   .min_len = 512,
                                   .max_len = 512,
                                   .steps = 1,
                                   .warmup = 1,
                                   .seed = 1};
        pb_bench_step_result r;
        pb_assert_ok(pb_bench_step(&o, &r));
        ck_assert_msg(r.head_bytes > 0 && 10 * r.head_bytes <= r.logits_bytes, "%s: %llu of %llu bytes", methods[i],
                      (unsigned long long)r.head_bytes, (unsigned long long)r.logits_bytes);
        pb_bench_step_free(&r);
    }
}
END_TEST

/* On the plan of the CPU: the budgets of a 48 GiB card. */
START_TEST(large_models_fit_or_are_refused_with_numbers) {
    uint64_t bytes[PB_MEM_COUNT], total = 0, budget = UINT64_C(48) << 30;
    pb_json *params = NULL;
    pb_bench_step_result r;
    const char *text = "{\"rank\": 64}";
    pb_assert_ok(pb_json_parse("params", text, strlen(text), &params));
    pb_bench_step_options qlora = {.model = "shape:llama-65b",
                                   .method = pb_method_find("qlora"),
                                   .params = params,
                                   .device = "cpu",
                                   .threads = 2,
                                   .dtype = PB_BF16,
                                   .optimizer = PB_OPT_ADAMW8,
                                   .checkpoint = PB_CHECKPOINT_ALL,
                                   .batch = 1,
                                   .max_len = 512,
                                   .memory_budget = budget,
                                   .seed = 1};
    pb_assert_ok(pb_bench_step_predict(&qlora, bytes, &total));
    ck_assert_msg(total < budget, "%llu bytes", (unsigned long long)total);
    ck_assert(total > UINT64_C(33) << 30 && bytes[PB_MEM_BASE] > UINT64_C(30) << 30);
    pb_bench_step_options full = qlora;
    full.model = "shape:llama-7b";
    full.method = pb_method_find("full");
    full.params = NULL;
    full.optimizer = PB_OPT_ADAMW;
    pb_assert_ok(pb_bench_step_predict(&full, bytes, &total));
    /* 6.7e9 weights: bf16 and an f32 master, an f32 gradient and two f32 moments */
    ck_assert(total > UINT64_C(18) * UINT64_C(6700000000));
    pb_assert_fails(pb_bench_step(&full, &r), PB_E_OOM, "would need");
    ck_assert(strstr(pb_error_message(), "optimizer") != NULL && strstr(pb_error_message(), "51539607552") != NULL);
    pb_json_free(params);
}
END_TEST

int main(void) {
    Suite *s = suite_create("trainer");
    TCase *parts = pb_test_case(s, "optimizer"), *runs = pb_test_case(s, "runs"),
          *around = pb_test_case(s, "around");
    tcase_add_test(parts, schedules_follow_hugging_face);
    tcase_add_test(parts, adamw_decays_clips_and_scales_as_said);
    tcase_add_test(parts, adamw8_keeps_small_tensors_in_32_bits);
    tcase_add_checked_fixture(runs, make_world, free_world);
    tcase_add_loop_test(runs, a_run_gives_a_complete_record, 0, 4 * pb_method_registry_count);
    tcase_add_test(runs, full_of_some_layers_costs_what_it_trains);
    tcase_add_test(runs, language_models_are_measured_per_token);
    tcase_add_test(runs, training_learns_the_task);
    tcase_add_test(runs, every_variant_is_evaluated_and_the_best_is_the_headline);
    tcase_add_test(runs, an_adapter_is_evaluated_at_every_cut);
    tcase_add_test(runs, a_merge_into_4_bits_has_its_own_quality);
    tcase_add_test(runs, latency_is_measured_over_shapes);
    tcase_add_test(runs, a_shape_longer_than_the_model_is_refused);
    tcase_add_test(runs, adalora_reports_the_rank_of_every_matrix);
    tcase_add_test(runs, a_diverging_run_says_where);
    tcase_add_test(runs, a_signal_ends_the_run_with_what_it_has);
    tcase_add_test(runs, too_little_memory_is_an_oom_record);
    tcase_add_test(runs, model_and_task_must_go_together);
    tcase_add_test(runs, a_run_repeats_bit_for_bit);
    tcase_add_test(runs, evaluation_memory_is_not_training_memory);
    tcase_add_test(runs, evaluation_does_not_depend_on_its_batch);
    tcase_add_test(runs, evaluation_agrees_with_the_logits);
    tcase_add_test(runs, epochs_become_steps);
    tcase_add_test(runs, accumulated_micro_batches_repeat_the_larger_batch);
    tcase_add_test(runs, the_adapter_file_is_measured_and_kept_on_request);
    tcase_add_test(runs, a_profiled_run_holds_table_roofs_and_trace);
    tcase_add_test(runs, a_memory_pass_takes_the_memory_of_the_run);
    tcase_add_checked_fixture(around, make_world, free_world);
    tcase_add_test(around, ops_are_verified_on_the_shapes_of_the_run);
    tcase_add_test(around, a_shape_is_predicted_without_data);
    tcase_add_test(around, assets_know_what_they_serve);
    tcase_add_test(around, the_environment_holds_no_secrets);
    tcase_add_test(around, a_step_can_be_timed_without_data);
    tcase_add_test(around, the_loss_takes_a_tenth_of_all_logits);
    tcase_add_test(around, large_models_fit_or_are_refused_with_numbers);
    return pb_run_suite(s);
}

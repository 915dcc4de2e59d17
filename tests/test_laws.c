/* The laws of DESIGN.md that every registered method must satisfy, on tiny models of two families,
 * in f32 and bf16, with no code for any method. A new file methods/method_<name>.c is tested by
 * this without a change here.
 *
 * Tolerances are relative to the largest value compared: f32 by 2^-24 times the few thousand
 * operations of these models, bf16 by the 2^-8 of one rounding times the depth. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lab.h"
#include "tests/support.h"

enum { DTYPES = 2, ROUNDS = PB_LAB_MODELS * DTYPES };

static char *dirs[PB_LAB_MODELS];

static void write_models(void) {
    for (int i = 0; i < PB_LAB_MODELS; i++) {
        dirs[i] = pb_test_dir();
        pb_lab_write_model((pb_lab_model)i, dirs[i]);
    }
}

static void free_models(void) {
    for (int i = 0; i < PB_LAB_MODELS; i++) free(dirs[i]);
}

static int cases(void) { return pb_method_registry_count * ROUNDS; }

/* Case i of the loop: method, model, dtype. */
static pb_lab_options option_of(int i) {
    return (pb_lab_options){.method = pb_method_registry[i / ROUNDS],
                            .model = (pb_lab_model)(i % ROUNDS / DTYPES),
                            .dtype = i % DTYPES == 0 ? PB_F32 : PB_BF16};
}

static const char *name_of(const pb_lab_options *o) {
    static char name[96];
    snprintf(name, sizeof name, "%s on %s in %s", o->method->name,
             o->model == PB_LAB_BERT ? "bert" : "llama", pb_dtype_name(o->dtype));
    return name;
}

/* False: nothing to train, the law holds trivially (counted as a check). */
static bool opened(pb_lab *lab, const pb_lab_options *o) {
    bool trains = false;
    pb_assert_ok(pb_lab_open(lab, dirs[o->model], o, &trains));
    if (!trains) ck_assert_msg(!o->method->trains_base, "%s trains nothing", name_of(o));
    return trains;
}

static double largest(const double *values, size_t n) {
    double m = 0.0;
    for (size_t i = 0; i < n; i++) m = fmax(m, fabs(values[i]));
    return m;
}

/* Logits now, compared with `want` when it is not NULL; returns them. */
static double *logits_like(pb_lab *lab, const double *want, double tolerance, const char *what) {
    double *got = NULL;
    size_t n = 0;
    pb_assert_ok(pb_lab_logits(lab, &got, &n));
    if (want != NULL) pb_assert_close(got, want, n, tolerance * largest(want, n), 0.0, what);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(isfinite(got[i]), "%s: logit %zu is %g", what, i, got[i]);
    return got;
}

static double loose(const pb_lab_options *o, double f32, double bf16) {
    return o->dtype == PB_F32 ? f32 : bf16;
}

START_TEST(step_0_equals_the_base_model) {
    pb_lab_options o = option_of(_i), base = o;
    pb_lab lab, bare;
    base.base_only = true;
    if (!opened(&lab, &o)) return;
    pb_assert_ok(pb_lab_open(&bare, dirs[o.model], &base, NULL));
    double *want = logits_like(&bare, NULL, 0.0, name_of(&o));
    double tolerance = o.method->exact_at_start ? loose(&o, 1e-6, 0x1p-6) : 0.05;
    double *got = logits_like(&lab, want, tolerance, name_of(&o));
    free(want);
    free(got);
    pb_lab_close(&lab);
    pb_lab_close(&bare);
}
END_TEST

START_TEST(frozen_weights_keep_their_bits) {
    pb_lab_options o = option_of(_i);
    pb_lab lab;
    char before[PB_SHA256_HEX], after[PB_SHA256_HEX];
    if (!opened(&lab, &o)) return;
    pb_params *params = pb_model_params(lab.session.model);
    for (int i = 0; i < pb_params_count(params) && !o.method->trains_base; i++) {
        const pb_param *p = pb_params_at(params, i);
        ck_assert_msg(p->role != PB_ROLE_BASE || !p->trainable || p->ndim == 1, "%s trains %s",
                      name_of(&o), p->name);
    }
    pb_assert_ok(pb_lab_hash(&lab, false, before));
    pb_assert_ok(pb_lab_train(&lab, 3));
    pb_assert_ok(pb_lab_hash(&lab, false, after));
    ck_assert_msg(strcmp(before, after) == 0, "%s changed a frozen weight", name_of(&o));
    pb_lab_close(&lab);
}
END_TEST

/* Some of the base: what the globs name over parameters and sites, and nothing else, has a gradient and moves. */
START_TEST(full_moves_its_targets_alone) {
    static const char *const targets[] = {"layers.1.*", "*.norm", "*.attention.self.query.bias"};
    for (int i = 0; i < 3; i++) {
        char text[96], frozen[2][PB_SHA256_HEX], trained[2][PB_SHA256_HEX];
        pb_json *params = NULL;
        pb_lab lab;
        snprintf(text, sizeof text, "{\"targets\": [\"%s\"]}", targets[i]);
        pb_assert_ok(pb_json_parse("test", text, strlen(text), &params));
        pb_lab_options o = {.method = pb_method_find("full"), .model = PB_LAB_BERT, .dtype = PB_F32, .params = params};
        pb_assert_ok(pb_lab_open(&lab, dirs[PB_LAB_BERT], &o, NULL));
        pb_params *all = pb_model_params(lab.session.model);
        int named = 0;
        for (int k = 0; k < pb_params_count(all); k++) {
            const pb_param *p = pb_params_at(all, k);
            if (p->role != PB_ROLE_BASE) continue;
            bool norm = strstr(p->name, "LayerNorm") != NULL;
            bool wanted = i == 0   ? strstr(p->name, "layer.1.") != NULL
                          : i == 1 ? norm
                                   : strstr(p->name, "query.bias") != NULL;
            ck_assert_msg(p->trainable == wanted && pb_has(p->grad) == wanted, "%s: %s", targets[i], p->name);
            named += wanted;
        }
        ck_assert_int_eq(named, i == 0 ? 16 : i == 1 ? 10 : 2);
        pb_assert_ok(pb_lab_hash(&lab, false, frozen[0]));
        pb_assert_ok(pb_lab_hash(&lab, true, trained[0]));
        pb_assert_ok(pb_lab_train(&lab, 3));
        pb_assert_ok(pb_lab_hash(&lab, false, frozen[1]));
        pb_assert_ok(pb_lab_hash(&lab, true, trained[1]));
        ck_assert_msg(strcmp(frozen[0], frozen[1]) == 0, "%s moved what it does not name", targets[i]);
        ck_assert_msg(strcmp(trained[0], trained[1]) != 0, "%s moved nothing", targets[i]);
        pb_lab_close(&lab);
        pb_json_free(params);
    }
}
END_TEST

START_TEST(only_trainable_parameters_have_gradients_and_state) {
    pb_lab_options o = option_of(_i);
    pb_lab lab, bare;
    uint64_t gradients = 0, masters = 0, states = 0;
    if (!opened(&lab, &o)) return;
    o.no_optim = true; /* what the method itself keeps as state: importance scores, say */
    pb_assert_ok(pb_lab_open(&bare, dirs[o.model], &o, NULL));
    states = pb_device_mem_peak(bare.session.dev, PB_MEM_OPTIM);
    pb_lab_close(&bare);
    pb_assert_ok(pb_lab_train(&lab, 1));
    pb_params *params = pb_model_params(lab.session.model);
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        ck_assert_msg(pb_has(p->grad) == p->trainable, "%s: %s: gradient and trainable differ",
                      name_of(&o), p->name);
        if (!p->trainable) continue;
        uint64_t bytes = (pb_bytes(p->grad) + 63) / 64 * 64;
        gradients += bytes;
        states += 2 * bytes;
        if (p->master.data != p->value.data) masters += bytes;
    }
    ck_assert_uint_eq(pb_device_mem_peak(lab.session.dev, PB_MEM_GRAD), gradients);
    ck_assert_uint_eq(pb_device_mem_peak(lab.session.dev, PB_MEM_OPTIM), states);
    ck_assert_uint_eq(pb_device_mem_peak(lab.session.dev, PB_MEM_MASTER), masters);
    pb_lab_close(&lab);
}
END_TEST

static void count_zeros(void *user, const char *op, bool begin, const pb_work *work) {
    pb_work *seen = user;
    if (begin || strcmp(op, "zero") != 0) return;
    seen->ops++;
    seen->bytes += work->bytes;
}

/* All gradients, which are one block of memory here, in one call and to the byte. */
START_TEST(gradients_are_zeroed_at_once) {
    pb_lab_options o = option_of(_i);
    pb_lab lab;
    if (!opened(&lab, &o)) return;
    pb_assert_ok(pb_lab_train(&lab, 1));
    pb_params *params = pb_model_params(lab.session.model);
    pb_device *dev = lab.session.dev;
    pb_work seen = {0};
    uint64_t held = pb_device_mem_now(dev, PB_MEM_GRAD);
    pb_device_observe(dev, count_zeros, &seen);
    pb_assert_ok(pb_params_zero_grads(params));
    pb_device_observe(dev, NULL, NULL);
    ck_assert_msg(seen.ops == 1, "%s: %" PRIu64 " calls", name_of(&o), seen.ops);
    ck_assert(seen.bytes <= (double)held && seen.bytes > (double)held - 64.0);
    for (int i = 0; i < pb_params_count(params); i++) {
        const pb_param *p = pb_params_at(params, i);
        if (!p->trainable) continue;
        size_t n = (size_t)pb_numel(p->grad);
        double *host = malloc(n * sizeof *host);
        ck_assert_ptr_nonnull(host);
        pb_assert_ok(pb_device_get_f64(dev, host, p->grad));
        ck_assert_msg(largest(host, n) == 0.0, "%s: %s", name_of(&o), p->name);
        free(host);
    }
    pb_lab_close(&lab);
}
END_TEST

START_TEST(loss_falls_on_a_tiny_task) {
    enum { STEPS = 40 };
    pb_lab_options o = option_of(_i);
    pb_lab lab;
    double loss[STEPS], first = 0.0, last = 0.0;
    o.steps = STEPS;
    o.lr = 1e-2;
    if (!opened(&lab, &o)) return;
    pb_assert_ok(pb_lab_train(&lab, STEPS));
    pb_assert_ok(pb_lab_losses(&lab, loss, STEPS));
    for (int i = 0; i < 4; i++) {
        first += loss[i] / 4;
        last += loss[STEPS - 1 - i] / 4;
    }
    ck_assert_msg(last < 0.95 * first, "%s: loss went from %g to %g", name_of(&o), first, last);
    pb_lab_close(&lab);
}
END_TEST

START_TEST(saved_and_loaded_gives_the_same_logits) {
    pb_lab_options o = option_of(_i);
    pb_lab lab, other;
    uint64_t bytes = 0;
    char path[1200];
    snprintf(path, sizeof path, "%s/adapter.safetensors", dirs[o.model]);
    if (!opened(&lab, &o)) return;
    pb_assert_ok(pb_lab_train(&lab, 3));
    pb_assert_ok(pb_model_save_adapter(lab.session.model, path, NULL, &bytes));
    ck_assert_uint_gt(bytes, 0);
    double *want = logits_like(&lab, NULL, 0.0, name_of(&o));
    o.seed = 77; /* other initial values: all must come from the file */
    ck_assert(opened(&other, &o));
    pb_assert_ok(pb_model_load_adapter(other.session.model, path));
    double *got = logits_like(&other, want, 0.0, name_of(&o));
    remove(path);
    free(want);
    free(got);
    pb_lab_close(&lab);
    pb_lab_close(&other);
}
END_TEST

/* A 4-bit base is requantised by a merge: then only the way back is exact. */
START_TEST(merged_equals_unmerged_and_unmerge_inverts) {
    pb_lab_options o = option_of(_i);
    pb_lab lab;
    if (!o.method->mergeable) {
        ck_assert_msg(o.method->merge == NULL, "%s has a merge but is not mergeable",
                      o.method->name);
        return;
    }
    if (!opened(&lab, &o)) return;
    pb_session *s = &lab.session;
    pb_assert_ok(pb_lab_train(&lab, 4));
    const pb_method *m = o.method;
    int last = m->variants != NULL && m->select != NULL ? m->variants(s->self) - 1 : -1;
    if (last >= 0) pb_assert_ok(m->select(s->self, last));
    double *want = logits_like(&lab, NULL, 0.0, name_of(&o));
    if (last >= 0) pb_assert_ok(m->select(s->self, last));
    pb_assert_ok(m->merge(s->self, s->dev));
    double tolerance = s->spec.model.storage.quantised ? 2.0 : loose(&o, 1e-4, 0.08);
    double *merged = logits_like(&lab, want, tolerance, name_of(&o));
    if (last >= 0) pb_assert_ok(m->select(s->self, last));
    pb_assert_ok(m->unmerge(s->self, s->dev));
    double *back = logits_like(&lab, want, loose(&o, 1e-5, 0.0), name_of(&o));
    free(want);
    free(merged);
    free(back);
    pb_lab_close(&lab);
}
END_TEST

static void trained_hash(const pb_lab_options *o, char hex[PB_SHA256_HEX]) {
    pb_lab lab;
    hex[0] = 0;
    if (!opened(&lab, o)) return;
    pb_assert_ok(pb_lab_train(&lab, 4));
    pb_assert_ok(pb_lab_hash(&lab, true, hex));
    pb_lab_close(&lab);
}

START_TEST(same_seed_same_bits_at_any_thread_count) {
    static const int threads[] = {1, 2, 4, 1};
    pb_lab_options o = option_of(_i);
    char want[PB_SHA256_HEX] = "", got[PB_SHA256_HEX];
    o.dropout = 0.1;
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        o.threads = threads[i];
        trained_hash(&o, i == 0 ? want : got);
        if (i > 0)
            ck_assert_msg(strcmp(want, got) == 0, "%s: %d threads give other bits", name_of(&o),
                          threads[i]);
    }
    if (want[0] == 0) return;
    o.seed = 2;
    trained_hash(&o, got);
    ck_assert_msg(strcmp(want, got) != 0, "%s: another seed gives the same bits", name_of(&o));
}
END_TEST

/* A layer that backward runs again gives what the first run gave, dropout masks included: with every
 * layer, with the lower one alone, and with more layers than there are. */
START_TEST(checkpointing_keeps_every_bit) {
    static const int64_t layers[] = {0, 1, 2, 100};
    pb_lab_options o = option_of(_i);
    char want[PB_SHA256_HEX] = "", got[PB_SHA256_HEX];
    o.dropout = 0.1;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        o.checkpoint = layers[i];
        trained_hash(&o, i == 0 ? want : got);
        if (i > 0)
            ck_assert_msg(strcmp(want, got) == 0, "%s: %lld checkpointed layers give other bits",
                          name_of(&o), (long long)layers[i]);
    }
}
END_TEST

static pb_status train_with_failure(const pb_lab_options *o, pb_lab *lab, bool *trains) {
    PB_RETURN(pb_lab_open(lab, dirs[o->model], o, trains));
    return *trains ? pb_lab_train(lab, 2) : PB_OK;
}

/* Leaks show under the address sanitizer. */
START_TEST(any_allocation_may_fail) {
    pb_lab_options o = option_of(_i * DTYPES);
    pb_lab lab;
    int64_t n = 1;
    bool trains = true;
    o.threads = 1;
    for (;; n++) {
        o.fail_alloc = n;
        pb_status status = train_with_failure(&o, &lab, &trains);
        if (status == PB_OK) break;
        ck_assert_msg(status == PB_E_OOM, "%s: growth %lld fails with %s: %s", name_of(&o),
                      (long long)n, pb_status_name(status), pb_error_message());
        pb_lab_close(&lab);
        ck_assert_int_lt(n, 5000);
    }
    if (trains) ck_assert_uint_lt(pb_device_growths(lab.session.dev), (uint64_t)n);
    ck_assert_int_gt(n, 8);
    pb_lab_close(&lab);
}
END_TEST

START_TEST(steady_steps_take_no_memory) {
    pb_lab_options o = option_of(_i);
    pb_lab lab;
    if (!opened(&lab, &o)) return;
    pb_assert_ok(pb_lab_train(&lab, 1));
    uint64_t growths = pb_device_growths(lab.session.dev), now[PB_MEM_COUNT];
    for (int m = 0; m < PB_MEM_COUNT; m++) now[m] = pb_device_mem_now(lab.session.dev, (pb_mem)m);
    pb_assert_ok(pb_lab_train(&lab, 3));
    ck_assert_uint_eq(pb_device_growths(lab.session.dev), growths);
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        uint64_t later = pb_device_mem_now(lab.session.dev, (pb_mem)m);
        ck_assert_msg(later == now[m], "%s: %s holds %llu bytes after a step, %llu later",
                      name_of(&o), pb_mem_name((pb_mem)m), (unsigned long long)now[m],
                      (unsigned long long)later);
    }
    pb_lab_close(&lab);
}
END_TEST

/* What can change memory beside method, model and dtype. */
static const struct {
    int64_t checkpoint, accumulate;
    pb_optimizer optimizer;
} settings[] = {
    {0, 1, PB_OPT_ADAMW},  {2, 1, PB_OPT_ADAMW}, {1, 2, PB_OPT_ADAMW},
    {0, 2, PB_OPT_ADAMW8}, {2, 1, PB_OPT_ADAMW8},
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

START_TEST(predicted_memory_is_measured_memory) {
    pb_lab_options o = option_of(_i / SETTINGS), plan;
    pb_lab lab, planned;
    o.checkpoint = settings[_i % SETTINGS].checkpoint;
    o.accumulate = settings[_i % SETTINGS].accumulate;
    o.optimizer = settings[_i % SETTINGS].optimizer;
    o.dropout = 0.1;
    plan = o;
    plan.device = "plan:cpu";
    if (!opened(&lab, &o)) return;
    ck_assert(opened(&planned, &plan));
    pb_assert_ok(pb_lab_train(&lab, 3));
    pb_assert_ok(pb_lab_train(&planned, 1));
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        uint64_t want = pb_device_mem_peak(lab.session.dev, (pb_mem)m);
        uint64_t got = pb_device_mem_peak(planned.session.dev, (pb_mem)m);
        ck_assert_msg(got == want, "%s, setting %d: %s: predicted %llu, measured %llu", name_of(&o),
                      _i % SETTINGS, pb_mem_name((pb_mem)m), (unsigned long long)got,
                      (unsigned long long)want);
    }
    ck_assert_uint_eq(pb_device_mem_peak_total(planned.session.dev),
                      pb_device_mem_peak_total(lab.session.dev));
    pb_lab_close(&lab);
    pb_lab_close(&planned);
}
END_TEST

static void compare_gradients(pb_lab *a, pb_lab *b, const char *what) {
    pb_params *pa = pb_model_params(a->session.model), *pb = pb_model_params(b->session.model);
    for (int i = 0; i < pb_params_count(pa); i++) {
        const pb_param *p = pb_params_at(pa, i), *q = pb_params_at(pb, i);
        if (!p->trainable) continue;
        size_t n = (size_t)pb_numel(p->grad);
        double *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        ck_assert(x != NULL && y != NULL);
        pb_assert_ok(pb_device_get_f64(a->session.dev, x, p->grad));
        pb_assert_ok(pb_device_get_f64(b->session.dev, y, q->grad));
        pb_assert_close(x, y, n, 2e-5 * largest(y, n) + 1e-9, 0.0, what);
        free(x);
        free(y);
    }
}

/* The loss of a step is the mean over all its targets, however they are cut into micro-batches. */
START_TEST(accumulation_equals_the_larger_batch) {
    pb_lab_options o = option_of(_i * DTYPES), halves = o;
    pb_lab whole, parts;
    double a = 0.0, b = 0.0;
    halves.accumulate = 2;
    if (!opened(&whole, &o)) return;
    ck_assert(opened(&parts, &halves));
    pb_assert_ok(pb_lab_train(&whole, 1));
    pb_assert_ok(pb_lab_train(&parts, 1));
    pb_assert_ok(pb_lab_losses(&whole, &a, 1));
    pb_assert_ok(pb_lab_losses(&parts, &b, 1));
    ck_assert_msg(fabs(a - b) <= 1e-5 * a, "%s: loss %.9g whole, %.9g in parts", name_of(&o), a, b);
    compare_gradients(&parts, &whole, name_of(&o));
    pb_lab_close(&whole);
    pb_lab_close(&parts);
}
END_TEST

START_TEST(a_nan_is_found_before_anything_is_updated) {
    pb_lab_options o = option_of(_i);
    pb_lab lab;
    char before[PB_SHA256_HEX], after[PB_SHA256_HEX];
    if (!opened(&lab, &o)) return;
    pb_params *params = pb_model_params(lab.session.model);
    pb_param *p = pb_params_at(params, 0);
    size_t n = (size_t)(p->dim[0] * p->dim[1]);
    double *values = malloc(n * sizeof *values);
    ck_assert(values != NULL && p->role == PB_ROLE_BASE && p->ndim == 2);
    for (size_t i = 0; i < n; i++) values[i] = NAN;
    pb_assert_ok(pb_lab_train(&lab, 1));
    pb_assert_ok(pb_param_set(params, p, values));
    pb_assert_ok(pb_lab_hash(&lab, true, before));
    pb_assert_fails(pb_lab_train(&lab, 1), PB_E_DIVERGED, "step 1: the loss is");
    ck_assert_msg(strstr(pb_error_message(), "first in ") != NULL, "%s", pb_error_message());
    pb_assert_ok(pb_lab_hash(&lab, true, after));
    ck_assert_msg(strcmp(before, after) == 0, "%s was updated", name_of(&o));
    free(values);
    pb_lab_close(&lab);
}
END_TEST

int main(void) {
    Suite *s = suite_create("laws");
    TCase *t = pb_test_case(s, "every method");
    int all = cases(), f32 = all / DTYPES;
    tcase_add_checked_fixture(t, write_models, free_models);
    tcase_add_loop_test(t, step_0_equals_the_base_model, 0, all);
    tcase_add_loop_test(t, frozen_weights_keep_their_bits, 0, all);
    tcase_add_test(t, full_moves_its_targets_alone);
    tcase_add_loop_test(t, only_trainable_parameters_have_gradients_and_state, 0, all);
    tcase_add_loop_test(t, gradients_are_zeroed_at_once, 0, all);
    tcase_add_loop_test(t, loss_falls_on_a_tiny_task, 0, all);
    tcase_add_loop_test(t, saved_and_loaded_gives_the_same_logits, 0, all);
    tcase_add_loop_test(t, merged_equals_unmerged_and_unmerge_inverts, 0, all);
    tcase_add_loop_test(t, same_seed_same_bits_at_any_thread_count, 0, all);
    tcase_add_loop_test(t, any_allocation_may_fail, 0, f32);
    tcase_add_loop_test(t, steady_steps_take_no_memory, 0, all);
    tcase_add_loop_test(t, checkpointing_keeps_every_bit, 0, all);
    tcase_add_loop_test(t, predicted_memory_is_measured_memory, 0, all * SETTINGS);
    tcase_add_loop_test(t, accumulation_equals_the_larger_batch, 0, f32);
    tcase_add_loop_test(t, a_nan_is_found_before_anything_is_updated, 0, all);
    return pb_run_suite(s);
}

/* Single kernels, checked and timed: right ones pass, and each way to be wrong is seen. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/core/device_impl.h"
#include "tests/kernel_lab.h"
#include "tests/support.h"

/* The reference takes seconds for these at any width. */
static bool too_long(const pb_kernel_case *c) {
    return strstr(c->name, " x 1024, ") || strstr(c->name, " x 4096, ");
}

START_TEST(every_case_agrees_with_the_reference) {
    static const char *const models[] = {"shape:minilm", "shape:gpt2-124m", "shape:llama-3.2-1b"};
    pb_device *ref = kernel_lab_device("ref", 1), *dev = kernel_lab_device("cpu", 2),
              *one = kernel_lab_device("cpu", 1);
    const pb_dtype dtypes[] = {PB_F32, PB_BF16};
    pb_kernel_clock *clock = NULL;
    pb_assert_ok(pb_kernel_clock_open_host(2, &clock));
    for (int d = 0; d < 2; d++) {
        pb_kernel_cases cases = kernel_lab_cases(models[_i], 64, dtypes[d], PB_LAYER_ALL, NULL);
        for (int op = 0; op < PB_OP_COUNT; op++) {
            int n = 0;
            for (int i = 0; i < cases.n; i++) n += cases.items[i].op == (pb_op)op;
            ck_assert_msg(n > 0, "%s has no case: harness/layer_ops.c", pb_op_name((pb_op)op));
        }
        for (int i = 0; i < cases.n; i++) {
            pb_kernel_result r, again;
            if (too_long(&cases.items[i])) continue;
            pb_kernel_way quick = {.limit_s = 0.001, .clock = clock};
            pb_assert_ok(pb_kernel_measure(&cases.items[i], ref, dev, quick, &r));
            ck_assert_msg(!r.wrong, "%s: %s", cases.items[i].name, r.why);
            ck_assert(r.n >= 3 && r.worst <= 1 && *r.variant && r.cycles);
            for (int64_t k = 0; k < r.n; k++)
                ck_assert(r.samples[k] > 0 && r.cycles[k] < 8e9 * r.samples[k] && r.cycles[k] > 0);
            quick.unchecked = true;
            quick.clock = NULL;
            pb_assert_ok(pb_kernel_measure(&cases.items[i], ref, one, quick, &again));
            ck_assert_ptr_null(again.cycles);
            ck_assert_str_eq(r.sha256, again.sha256); /* any number of threads, unchecked too */
            pb_kernel_result_free(&r);
            pb_kernel_result_free(&again);
            for (int k = 0; k < i; k++)
                ck_assert_str_ne(cases.items[i].name, cases.items[k].name);
        }
        pb_kernel_cases_free(&cases);
    }
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_DATA), 0);
    ck_assert_uint_eq(pb_device_mem_now(dev, PB_MEM_BASE), 0);
    pb_kernel_clock_close(clock);
    pb_device_close(one);
    pb_device_close(dev);
    pb_device_close(ref);
}
END_TEST

static int named(const char *model, pb_layer_rank most, const char *part) {
    pb_kernel_cases cases = {0};
    pb_assert_ok(pb_kernel_cases_add(&cases, model, 128, PB_F32, most, part));
    int n = cases.n;
    pb_kernel_cases_free(&cases);
    return n;
}

/* The layer's own norm, activation, mask and heads; and what is left for --all. */
START_TEST(cases_are_those_of_the_model) {
    static const char *const bert = "shape:minilm", *const gpt = "shape:gpt2-124m",
                             *const llama = "shape:llama-3.1-8b";
    ck_assert_int_eq(named(bert, PB_LAYER_ALL, " causal/"), 0);
    ck_assert_int_eq(named(gpt, PB_LAYER_EACH, " causal/"), 2);
    ck_assert_int_eq(named(llama, PB_LAYER_USUAL, " causal/"), 4);
    ck_assert_int_eq(named(llama, PB_LAYER_ALL, " causal/"), 8);
    ck_assert_int_eq(named(llama, PB_LAYER_ALL, "1 x 4096, 8 heads of 128 causal/"), 2); /* two groups */
    ck_assert_int_eq(named(gpt, PB_LAYER_USUAL, " layer/| layer weights/"), 3);
    ck_assert_int_eq(named(llama, PB_LAYER_USUAL, " rms/| rms weights/"), 3);
    ck_assert_int_eq(named(llama, PB_LAYER_USUAL, " layer/"), 0);
    ck_assert_int_eq(named(bert, PB_LAYER_USUAL, " gelu/"), 2);
    ck_assert_int_eq(named(gpt, PB_LAYER_USUAL, " gelu_tanh/"), 2);
    ck_assert_int_eq(named(llama, PB_LAYER_USUAL, " silu/"), 2);
    ck_assert_int_eq(named(llama, PB_LAYER_USUAL, " transposed/"), 2);
    ck_assert_int_eq(named(llama, PB_LAYER_USUAL, " 4096 -> 1024/"), 1); /* keys and values */
    ck_assert_int_eq(named(bert, PB_LAYER_USUAL, " 384 -> 384/"), 0);
    ck_assert_int_eq(named(llama, PB_LAYER_USUAL, "/64 x 128256/"), 1);  /* the whole vocabulary */
    ck_assert_int_eq(named(bert, PB_LAYER_USUAL, "fp4/|int4/|rank 64/"), 0);
    ck_assert_int_eq(named(bert, PB_LAYER_ALL, "fp4/|int4/|rank 64/"), 8);
    ck_assert_int_eq(named(bert, PB_LAYER_EACH, NULL), 39); /* what kernels count has a baseline of */
}
END_TEST

/* ---- kernels that are wrong ---- */

static const pb_kernel *right;
static int calls, wrong_from;
static enum { OUTPUT, INPUT, NOTHING } fault;

static pb_status faulty(pb_device *dev, const void *args, void *ws) {
    const pb_axpby_args *a = args;
    if (++calls < wrong_from) return right->run(dev, args, ws);
    if (fault == NOTHING) return PB_OK;
    PB_RETURN(right->run(dev, args, ws));
    float *x = fault == INPUT ? a->x.data : a->y.data;
    x[pb_numel(a->y) - 1] += 0.001f;
    return PB_OK;
}

static void assert_wrong(int from, int kind, const char *why, bool timed) {
    pb_device *ref = kernel_lab_device("ref", 1), *dev = kernel_lab_device("cpu", 1);
    pb_kernel_cases cases = kernel_lab_cases("shape:minilm", 64, PB_F32, PB_LAYER_ALL, "/axpby/");
    pb_kernel_result r;
    ck_assert_int_eq(cases.n, 1);
    right = dev->kernel[PB_OP_axpby];
    pb_kernel bad = *right;
    bad.run = faulty;
    dev->kernel[PB_OP_axpby] = &bad;
    calls = 0;
    wrong_from = from;
    fault = kind;
    pb_assert_ok(pb_kernel_measure(&cases.items[0], ref, dev, (pb_kernel_way){.hot = false}, &r));
    ck_assert_msg(r.wrong && strstr(r.why, why) != NULL, "\"%s\", wanted \"%s\"", r.why, why);
    ck_assert((r.n > 0) == timed);
    pb_kernel_result_free(&r);
    pb_kernel_cases_free(&cases);
    pb_device_close(dev);
    pb_device_close(ref);
}

START_TEST(wrong_kernels_are_seen) {
    assert_wrong(1, OUTPUT, "the reference is", false);
    assert_wrong(1, INPUT, "an input", false);
    assert_wrong(1, NOTHING, "the reference is", false);
    /* right when it is checked, wrong when it is timed */
    assert_wrong(20, OUTPUT, "timed output", true);
    assert_wrong(20, NOTHING, "timed output", true);
}
END_TEST

/* ---- samples ---- */

START_TEST(a_kernel_is_sampled_as_often_as_said) {
    pb_device *ref = kernel_lab_device("ref", 1), *dev = kernel_lab_device("cpu", 1),
              *plan = kernel_lab_device("plan:cpu", 1);
    pb_kernel_cases cases = kernel_lab_cases("shape:minilm", 64, PB_F32, PB_LAYER_ALL, "/axpby/");
    pb_kernel_result r;
    pb_assert_ok(pb_kernel_measure(&cases.items[0], ref, dev, (pb_kernel_way){.hot = false}, &r));
    double sum = 0;
    for (int64_t i = 0; i < r.n; i++) sum += r.samples[i];
    sum *= r.batch;
    bool late = r.spent_s >= PB_KERNEL_LIMIT_S && r.n >= PB_KERNEL_LEAST; /* a busy machine */
    ck_assert(late || (r.n >= PB_KERNEL_SAMPLES && (sum >= PB_KERNEL_SECONDS || r.n == 2000)));
    pb_kernel_result_free(&r);
    pb_assert_fails(
        pb_kernel_measure(&cases.items[0], ref, plan, (pb_kernel_way){.hot = false}, &r),
        PB_E_UNSUPPORTED, "plan:cpu");
    pb_kernel_cases_free(&cases);
    pb_device_close(plan);
    pb_device_close(dev);
    pb_device_close(ref);
}
END_TEST

static int calls_in_all;
static const void *first_args[PB_KERNEL_BATCH + 2];

static pb_status counting(pb_device *dev, const void *args, void *ws) {
    int i = 0;
    calls_in_all++;
    while (i <= PB_KERNEL_BATCH && first_args[i] && first_args[i] != args) i++;
    first_args[i] = args;
    return right->run(dev, args, ws);
}

/* What takes microseconds is called on several copies of its tensors in a row; what takes longer is
 * not. */
START_TEST(short_calls_come_in_batches) {
    pb_device *ref = kernel_lab_device("ref", 1), *dev = kernel_lab_device("cpu", 1);
    pb_kernel_cases cases = kernel_lab_cases("shape:minilm", 64, PB_F32, PB_LAYER_ALL,
                                             "/orthogonality/|/linear/64 x 384 -> 1536/");
    pb_kernel_result r;
    ck_assert_int_eq(cases.n, 2);
    right = dev->kernel[PB_OP_orthogonality];
    pb_kernel watched = *right;
    watched.run = counting;
    dev->kernel[PB_OP_orthogonality] = &watched;
    pb_assert_ok(pb_kernel_measure(&cases.items[1], ref, dev, (pb_kernel_way){.limit_s = 0.01}, &r));
    ck_assert_msg(!r.wrong, "%s", r.why);
    ck_assert_msg(r.batch > 1 && r.batch <= PB_KERNEL_BATCH, "%d", r.batch);
    ck_assert_int_eq(calls_in_all, 1 + PB_KERNEL_WARMUPS + (int)r.n * r.batch);
    int sets = 0;
    while (first_args[sets]) sets++;
    ck_assert_int_eq(sets, r.batch);
    pb_kernel_result_free(&r);
    cases.items[0].layer.C = 512; /* some 100 us at the least */
    cases.items[0].layer.FF = 2048;
    pb_assert_ok(pb_kernel_measure(&cases.items[0], ref, dev,
                                   (pb_kernel_way){.unchecked = true, .limit_s = 0.01}, &r));
    ck_assert_int_eq(r.batch, 1);
    pb_kernel_result_free(&r);
    pb_kernel_cases_free(&cases);
    pb_device_close(dev);
    pb_device_close(ref);
}
END_TEST

int main(void) {
    Suite *s = suite_create("kernels");
    TCase *t = pb_test_case(s, "measure");
    tcase_add_loop_test(t, every_case_agrees_with_the_reference, 0, 3);
    tcase_add_test(t, cases_are_those_of_the_model);
    tcase_add_test(t, wrong_kernels_are_seen);
    tcase_add_test(t, a_kernel_is_sampled_as_often_as_said);
    tcase_add_test(t, short_calls_come_in_batches);
    return pb_run_suite(s);
}

/* What a run measures beside time and quality: gradient norms of the method's parameters, part by part,
 * and what 4 bits do to the base weights (harness/trainer_gradient.c, trainer_quant.c). Each figure is
 * had a second way. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lab_data.h"
#include "tests/support.h"

static pb_lab_world world;
static void make_world(void) { pb_lab_world_new(&world); }
static void free_world(void) { pb_lab_world_free(&world); }

static double metric(const pb_record *r, const char *tag) {
    const pb_metric *m = pb_record_find(r, tag);
    ck_assert_msg(m != NULL, "%s: no metric %s: %s", r->label, tag, r->reason);
    return m->value;
}

static const pb_sample *sample(const pb_record *r, const char *tag, int64_t n) {
    const pb_sample *s = pb_record_find_sample(r, tag);
    ck_assert_msg(s != NULL, "%s: no sample %s: %s", r->label, tag, r->reason);
    ck_assert_msg(s->n == n, "%s: %lld values of %s, expected %lld", r->label, (long long)s->n, tag,
                  (long long)n);
    return s;
}

static void execute(const pb_run_config *run, pb_record *r) {
    char *root = pb_test_dir();
    int n = 0, bad = 0;
    pb_lab_execute(&world, run, r);
    ck_assert_msg(r->status == PB_RUN_OK, "%s: %s", r->label, r->reason);
    pb_assert_ok(pb_record_write(r, root));
    ck_assert_msg(pb_records_verify(root, stdout, &n, &bad) == PB_OK, "%s", pb_error_message());
    free(root);
}

/* ---- gradient norms ---- */

#define PREFIX "gradient/adapter/"

/* Squares of the parts add up to the square of the whole, at every measured step. */
static void assert_parts_add_up(const pb_record *r, int64_t n) {
    const pb_sample *norm = sample(r, PREFIX "norm", n);
    int parts = 0;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        parts = 0;
        for (int k = 0; k < r->n_samples; k++) {
            const char *tag = r->samples[k].tag;
            if (strncmp(tag, PREFIX, strlen(PREFIX)) != 0 || &r->samples[k] == norm ||
                strcmp(tag, PREFIX "step") == 0)
                continue;
            ck_assert_int_eq(r->samples[k].n, n);
            sum += r->samples[k].values[i] * r->samples[k].values[i];
            parts++;
        }
        ck_assert_msg(fabs(sqrt(sum) - norm->values[i]) <= 1e-12 * norm->values[i],
                      "%s: parts give %.15g, the whole is %.15g", r->label, sqrt(sum),
                      norm->values[i]);
    }
    ck_assert_int_ge(parts, 2);
}

/* In a decoder these methods train nothing but their own parameters: the norm over them is the norm that
 * the optimizer clips by, which a kernel sums in another order. */
START_TEST(the_norm_over_all_parts_is_the_optimizers) {
    static const char *const methods[] = {"lora", "dora", "adalora"};
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, methods[m]);
        pb_record r;
        run.gradients = 3;
        run.accumulate = 2;
        execute(&run, &r);
        const pb_sample *at = sample(&r, PREFIX "step", 4), *ours = sample(&r, PREFIX "norm", 4),
                        *all = sample(&r, "gradient/norm", 12);
        for (int i = 0; i < 4; i++) {
            double want = all->values[3 * i + 2];
            ck_assert(at->values[i] == 3 * (i + 1));
            ck_assert_msg(fabs(ours->values[i] - want) <= 1e-6 * want,
                          "%s, step %d: %.9g, the optimizer's %.9g", methods[m], 3 * (i + 1),
                          ours->values[i], want);
        }
        assert_parts_add_up(&r, 4);
        pb_record_free(&r);
    }
}
END_TEST

/* B is zero before the first step, so that A has no gradient there and B has; from the second on both
 * have. An encoder's head is trained beside them and is no part of the method. */
START_TEST(parts_are_told_apart) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    pb_record r;
    run.gradients = 1;
    run.warmup = 0; /* else the first step would have a rate of 0 and move nothing */
    execute(&run, &r);
    const pb_sample *a = sample(&r, PREFIX "lora_a", 12), *b = sample(&r, PREFIX "lora_b", 12),
                    *norm = sample(&r, PREFIX "norm", 12), *all = sample(&r, "gradient/norm", 12);
    ck_assert(a->values[0] == 0 && b->values[0] > 0);
    for (int i = 0; i < 12; i++) {
        if (i > 0) ck_assert(a->values[i] > 0 && b->values[i] > 0);
        ck_assert(norm->values[i] < all->values[i]);
    }
    assert_parts_add_up(&r, 12);
    double want = 0;
    pb_assert_ok(pb_derive("median", a->values, a->n, &want));
    ck_assert(metric(&r, PREFIX "lora_a/median") == want);
    ck_assert(metric(&r, PREFIX "lora_b/last") == b->values[11]);
    pb_record_free(&r);
}
END_TEST

/* Looking on moves nothing: the losses keep their bits. Without the option, and without parameters of
 * a method, there is nothing to report. */
START_TEST(measuring_gradients_changes_no_step) {
    static const char *const methods[] = {"adalora", "dylora", "full", "head"};
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, methods[m]);
        pb_record with, without;
        execute(&run, &without);
        run.gradients = 4;
        execute(&run, &with);
        const pb_sample *x = sample(&with, "loss/train", 12),
                        *y = sample(&without, "loss/train", 12);
        ck_assert_msg(memcmp(x->values, y->values, 12 * sizeof(double)) == 0, "%s", methods[m]);
        ck_assert_ptr_null(pb_record_find_sample(&without, PREFIX "norm"));
        bool adds = m < 2;
        ck_assert_msg((pb_record_find_sample(&with, PREFIX "norm") != NULL) == adds, "%s",
                      methods[m]);
        if (adds) assert_parts_add_up(&with, 3);
        pb_record_free(&with);
        pb_record_free(&without);
    }
}
END_TEST

/* ---- 4 bits ---- */

/* NF4 of Dettmers et al. 2023, appendix E. */
static const double nf4[16] = {
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0};

/* Adds squares of a matrix and of what blocks of 64 rounded to the nearest value leave. */
static void round_nf4(const double *w, int64_t n, double *error2, double *plain2) {
    for (int64_t from = 0; from < n; from += 64) {
        double most = 0;
        for (int64_t i = from; i < from + 64; i++) most = fmax(most, fabs(w[i]));
        for (int64_t i = from; i < from + 64; i++) {
            double least = INFINITY;
            for (int k = 0; k < 16; k++) least = fmin(least, fabs(w[i] - most * nf4[k]));
            *error2 += least * least;
            *plain2 += w[i] * w[i];
        }
    }
}

/* The linear weights of the model's file: matrices that are no embedding. */
static double error_by_hand(const pb_safetensors *weights, int64_t *n_elements, int *n_matrices) {
    double error2 = 0, plain2 = 0;
    *n_elements = *n_matrices = 0;
    for (int i = 0; i < pb_safetensors_count(weights); i++) {
        const pb_stored_tensor *t = pb_safetensors_at(weights, i);
        if (t->ndim != 2 || strstr(t->name, "embed")) continue;
        int64_t n = t->dim[0] * t->dim[1];
        double *w = malloc((size_t)n * sizeof *w);
        ck_assert_int_eq(n % 64, 0);
        pb_assert_ok(pb_stored_tensor_f64(t, 0, n, w));
        round_nf4(w, n, &error2, &plain2);
        free(w);
        *n_elements += n;
        ++*n_matrices;
    }
    return sqrt(error2 / plain2);
}

static void run_qlora(pb_lab_model model, const char *params, pb_record *r) {
    pb_run_config run = pb_lab_run(&world, model, "qlora");
    pb_assert_ok(pb_json_parse("test", params, strlen(params), &run.method_params));
    execute(&run, r);
    pb_json_free(run.method_params);
}

START_TEST(the_error_of_4_bits_is_that_of_the_weights) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_record plain, twice;
        int64_t n = 0;
        int matrices = 0;
        double want = error_by_hand(world.assets[model].weights, &n, &matrices);
        run_qlora((pb_lab_model)model, "{\"double_quant\": false}", &plain);
        double got = metric(&plain, "quant/error");
        ck_assert_msg(fabs(got - want) <= 1e-6 * want, "model %d: %.9g, by hand %.9g", model, got,
                      want);
        ck_assert_int_eq(pb_record_find(&plain, "quant/error")->n, n);
        ck_assert(metric(&plain, "quant/bits") == 4 + 32.0 / 64);
        /* 8 bits a block; of each matrix one f32 scale (its blocks are fewer than 256) and one mean */
        run_qlora((pb_lab_model)model, "{\"double_quant\": true}", &twice);
        double bits = 4 + 8.0 / 64 + 64.0 * matrices / (double)n;
        ck_assert_msg(fabs(metric(&twice, "quant/bits") - bits) < 1e-12, "%.9g bits, expected %.9g",
                      metric(&twice, "quant/bits"), bits);
        ck_assert(metric(&twice, "quant/error") != got);
        ck_assert(fabs(metric(&twice, "quant/error") - got) < 0.02 * got);
        pb_record_free(&plain);
        pb_record_free(&twice);
    }
}
END_TEST

/* Normal weights: NF4 was made for them; INT4's even steps and FP4 lose more. Unquantised bases have
 * no such figure. */
START_TEST(codes_rank_as_on_normal_weights) {
    pb_record r;
    double error[3];
    static const char *const params[] = {"{\"code\": \"nf4\"}", "{\"code\": \"fp4\"}",
                                         "{\"code\": \"int4\"}"};
    for (int i = 0; i < 3; i++) {
        run_qlora(PB_LAB_BERT, params[i], &r);
        error[i] = metric(&r, "quant/error");
        pb_record_free(&r);
    }
    ck_assert_msg(error[0] < error[1] && error[0] < error[2], "nf4 %g, fp4 %g, int4 %g", error[0],
                  error[1], error[2]);
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    execute(&run, &r);
    ck_assert_ptr_null(pb_record_find(&r, "quant/error"));
    pb_record_free(&r);
}
END_TEST

int main(void) {
    Suite *s = suite_create("instruments");
    TCase *t = pb_test_case(s, "gradients");
    tcase_add_checked_fixture(t, make_world, free_world);
    tcase_add_test(t, the_norm_over_all_parts_is_the_optimizers);
    tcase_add_test(t, parts_are_told_apart);
    tcase_add_test(t, measuring_gradients_changes_no_step);
    t = pb_test_case(s, "4 bits");
    tcase_add_checked_fixture(t, make_world, free_world);
    tcase_add_test(t, the_error_of_4_bits_is_that_of_the_weights);
    tcase_add_test(t, codes_rank_as_on_normal_weights);
    return pb_run_suite(s);
}

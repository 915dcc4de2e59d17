/* What a run measures beside time and quality: gradient norms of the method's parameters, part by part,
 * how the query matrices change, and what 4 bits do to the base weights (harness/trainer_gradient.c,
 * trainer_weights.c, trainer_quant.c). Each figure is had a second way. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "harness/trainer_impl.h"
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

/* ---- change of the query matrices ---- */

/* Rows (3,4) -> (6,8): twice as long, not turned; (1,0) -> (0,2): one longer, by a right angle; (0,5) ->
 * (0,-5): turned about; (1,1) -> (0,0): shorter by its length, without a direction. */
START_TEST(change_of_a_matrix_by_hand) {
    static const double before[8] = {3, 4, 1, 0, 0, 5, 1, 1}, after[8] = {6, 8, 0, 2, 0, -5, 0, 0};
    double magnitude = 0, direction = 0;
    pb_weight_change(before, after, 2, 2, &magnitude, &direction);
    ck_assert(magnitude == (5.0 + 1.0) / 2 && direction == (0.0 + 1.0) / 2);
    pb_weight_change(before + 4, after + 4, 2, 2, &magnitude, &direction);
    ck_assert(magnitude == sqrt(2.0) / 2 && direction == (2.0 + 0.0) / 2);
    pb_weight_change(before, before, 4, 2, &magnitude, &direction);
    ck_assert(magnitude == 0 && direction == 0);
}
END_TEST

enum { WIDE = 32, RANK = 8 }; /* q of the decoder; the methods' default rank, alpha twice that */

static void stored(const pb_safetensors *st, const char *end, int64_t n, double *out) {
    for (int i = 0; i < pb_safetensors_count(st); i++) {
        const pb_stored_tensor *t = pb_safetensors_at(st, i);
        size_t len = strlen(t->name), tail = strlen(end);
        if (len < tail || strcmp(t->name + len - tail, end) != 0) continue;
        pb_assert_ok(pb_stored_tensor_f64(t, 0, n, out));
        return;
    }
    ck_abort_msg("no tensor ...%s", end);
}

static double norm_of(const double *row) {
    double sum = 0;
    for (int k = 0; k < WIDE; k++) sum += row[k] * row[k];
    return sqrt(sum);
}

/* w := m .* (w0 + 2 B A) / norm (m NULL: as it is). Returns what rounding to f32 may do to a row, relative
 * to its length: each element is a sum of RANK products and w0, every term rounded a few times. */
static double fold_by_hand(const double *w0, const double *a, const double *b, const double *m,
                           double *w) {
    double worst = 0;
    for (int i = 0; i < WIDE; i++) {
        double terms[WIDE];
        for (int k = 0; k < WIDE; k++) {
            w[i * WIDE + k] = w0[i * WIDE + k];
            terms[k] = fabs(w0[i * WIDE + k]);
            for (int r = 0; r < RANK; r++) {
                w[i * WIDE + k] += 2 * b[i * RANK + r] * a[r * WIDE + k];
                terms[k] += fabs(2 * b[i * RANK + r] * a[r * WIDE + k]);
            }
        }
        double norm = norm_of(w + i * WIDE);
        worst = fmax(worst, norm_of(terms) / norm);
        for (int k = 0; k < WIDE && m; k++) w[i * WIDE + k] *= m[i] / norm;
    }
    return 2 * (RANK + 8) * 0x1p-24 * worst; /* twice: DoRA divides by a norm of such rows */
}

/* The effective weight at the end, from the model's file and the adapter's. */
static double weight_by_hand(const pb_safetensors *adapter, const char *method, int layer,
                             double *w0, double *w) {
    static double a[RANK * WIDE], b[WIDE * RANK], m[WIDE];
    char name[64];
    snprintf(name, sizeof name, "layers.%d.self_attn.q_proj.weight", layer);
    stored(world.assets[PB_LAB_LLAMA].weights, name, WIDE * WIDE, w0);
    if (strcmp(method, "full") == 0) {
        stored(adapter, name, WIDE * WIDE, w);
        return 0x1p-24;
    }
    snprintf(name, sizeof name, "layers.%d.attn.q.lora_A", layer);
    stored(adapter, name, RANK * WIDE, a);
    snprintf(name, sizeof name, "layers.%d.attn.q.lora_B", layer);
    stored(adapter, name, WIDE * RANK, b);
    snprintf(name, sizeof name, "layers.%d.attn.q.dora_m", layer);
    bool dora = strcmp(method, "dora") == 0;
    if (dora) stored(adapter, name, WIDE, m);
    return fold_by_hand(w0, a, b, dora ? m : NULL, w);
}

/* An error e of a row, relative to its length, moves its norm by e norms and its unit vector by at most
 * 2 e, so that the mean of t^2 / 2 moves by at most 2 e sqrt(mean t^2) + 2 e^2. */
static void assert_change(const double *w0, const double *w, double e, double magnitude,
                          double direction, const char *what) {
    double want_m = 0, want_d = 0, length = 0;
    for (int i = 0; i < WIDE; i++) {
        double n0 = norm_of(w0 + i * WIDE), n = norm_of(w + i * WIDE), dot = 0;
        for (int k = 0; k < WIDE; k++) dot += w0[i * WIDE + k] * w[i * WIDE + k];
        want_m += fabs(n - n0) / WIDE;
        want_d += (1 - dot / (n0 * n)) / WIDE;
        length += n / WIDE;
    }
    ck_assert_msg(want_m > 1e-4 && want_d > 1e-5, "%s: hardly changed: %g, %g", what, want_m, want_d);
    pb_assert_close(&magnitude, &want_m, 1, e * length, 0, what);
    pb_assert_close(&direction, &want_d, 1, 2 * e * sqrt(2 * want_d) + 2 * e * e, 0, what);
}

START_TEST(change_is_that_of_the_effective_weights) {
    static const char *const methods[] = {"lora", "dora", "full"};
    for (size_t k = 0; k < 3; k++) {
        char *dir = pb_test_dir(), *path = pb_path_join(dir, "adapter.safetensors");
        pb_run_options options = {.threads = 2, .out_dir = dir, .keep_adapter = true};
        pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, methods[k]);
        pb_safetensors *adapter = NULL;
        pb_record r = {0};
        run.weights = 5;
        pb_assert_ok(pb_run_execute(&run, &world.assets[PB_LAB_LLAMA], &options, &r));
        ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
        ck_assert_int_eq(r.n_warnings, 0);
        const pb_sample *step = sample(&r, "change/step", 6), *layer = sample(&r, "change/layer", 6),
                        *magnitude = sample(&r, "change/magnitude", 6),
                        *direction = sample(&r, "change/direction", 6);
        pb_assert_ok(pb_safetensors_open(path, &adapter));
        for (int i = 0; i < 6; i++) {
            static double w0[WIDE * WIDE], w[WIDE * WIDE];
            static const double steps[3] = {5, 10, 12};
            ck_assert(step->values[i] == steps[i / 2] && layer->values[i] == i % 2);
            ck_assert(i < 2 || direction->values[i] != direction->values[i - 2]);
            if (i < 4) continue; /* the file is of the end */
            double e = weight_by_hand(adapter, methods[k], i % 2, w0, w);
            assert_change(w0, w, e, magnitude->values[i], direction->values[i], methods[k]);
        }
        ck_assert(metric(&r, "change/correlation") ==
                  pb_correlation(magnitude->values, direction->values, 6));
        pb_safetensors_close(adapter);
        pb_record_free(&r);
        free(path);
        free(dir);
    }
}
END_TEST

/* Weights that were folded have their bits back, and what it took is no part of the training peak. */
START_TEST(measuring_weights_changes_no_step) {
    static const char *const methods[] = {"lora", "dora", "adalora", "dylora", "qlora", "full"};
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, methods[m]);
        pb_record with, without;
        execute(&run, &without);
        run.weights = 1;
        execute(&run, &with);
        ck_assert_ptr_null(pb_record_find_sample(&without, "change/step"));
        sample(&with, "change/direction", 2 * 12);
        static const char *const same[] = {"loss/train", "eval/test/nll"};
        for (int i = 0; i < 2; i++) {
            const pb_sample *x = pb_record_find_sample(&with, same[i]),
                            *y = sample(&without, same[i], x->n);
            ck_assert_msg(memcmp(x->values, y->values, (size_t)x->n * sizeof(double)) == 0, "%s: %s",
                          methods[m], same[i]);
        }
        for (int i = 0; i < with.n_memory; i++)
            ck_assert_msg(with.memory[i].peak == without.memory[i].peak, "%s: %s", methods[m],
                          with.memory[i].tag);
        sample(&with, "time/step", sample(&without, "time/step", 9)->n);
        pb_record_free(&with);
        pb_record_free(&without);
    }
}
END_TEST

/* Nothing there to fold or trained: said, and no figure. So for queries that are no target. */
START_TEST(unchanged_queries_are_said) {
    static const char *const methods[] = {"adapter", "head", "lora"};
    for (size_t m = 0; m < 3; m++) {
        static const char targets[] = "{\"targets\": [\"*.attn.v\"]}";
        pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, methods[m]);
        pb_record r;
        run.weights = 4;
        if (m == 2) pb_assert_ok(pb_json_parse("test", targets, strlen(targets), &run.method_params));
        execute(&run, &r);
        ck_assert_ptr_null(pb_record_find_sample(&r, "change/step"));
        ck_assert_int_eq(r.n_warnings, 1);
        ck_assert_ptr_nonnull(strstr(r.warnings[0], "changes no query matrix"));
        pb_json_free(run.method_params);
        pb_record_free(&r);
    }
}
END_TEST

START_TEST(verify_correlates_again) {
    pb_run_config run = pb_lab_run(&world, PB_LAB_BERT, "lora");
    char *root = pb_test_dir(), *text = NULL;
    size_t size = 0;
    pb_record r;
    run.weights = 4;
    pb_lab_execute(&world, &run, &r);
    for (int i = 0; i < r.n_metrics; i++)
        if (strcmp(r.metrics[i].tag, "change/correlation") == 0) r.metrics[i].value -= 1e-6;
    pb_assert_ok(pb_record_write(&r, root));
    FILE *out = open_memstream(&text, &size);
    ck_assert_int_eq(pb_records_verify(root, out, NULL, NULL), PB_E_CHECK);
    fclose(out);
    ck_assert_msg(strstr(text, "change/correlation") != NULL, "%s", text);
    pb_record_free(&r);
    free(text);
    free(root);
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
    t = pb_test_case(s, "weights");
    tcase_add_checked_fixture(t, make_world, free_world);
    tcase_add_test(t, change_of_a_matrix_by_hand);
    tcase_add_test(t, change_is_that_of_the_effective_weights);
    tcase_add_test(t, measuring_weights_changes_no_step);
    tcase_add_test(t, unchanged_queries_are_said);
    tcase_add_test(t, verify_correlates_again);
    return pb_run_suite(s);
}

/* Whole training steps of the cuda backend on the host (shim and stand-in) against the cpu backend: every method, two model
 * families, f32, ten steps with dropout and clipping. The same masks, the same order of examples, the same formulas: what
 * differs is the order of sums. And: graphs change no bit, no order of threads does, and any call may fail. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "harness/advise.h"
#include "tests/cuda/api_host.h"
#include "tests/lab_data.h"
#include "tests/support.h"

enum { STEPS = 10 };

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

/* Case i of the loop: method and model. */
static pb_lab_options option_of(int i) {
    return (pb_lab_options){.method = pb_method_registry[i / PB_LAB_MODELS],
                            .model = (pb_lab_model)(i % PB_LAB_MODELS),
                            .dtype = PB_F32,
                            .steps = STEPS,
                            .dropout = 0.1,
                            .clip = 1.0};
}

static const char *name_of(const pb_lab_options *o) {
    static char name[96];
    snprintf(name, sizeof name, "%s on %s in %s", o->method->name,
             o->model == PB_LAB_BERT ? "bert" : "llama", pb_dtype_name(o->dtype));
    return name;
}

typedef struct training {
    double loss[STEPS];
    char trainable[PB_SHA256_HEX], frozen[PB_SHA256_HEX];
    double *logits;
    size_t n;
    bool trains;
} training;

static void train_in(const char *dir, pb_lab_options o, const char *device, training *out) {
    pb_lab lab;
    o.device = device;
    *out = (training){0};
    pb_assert_ok(pb_lab_open(&lab, dir, &o, &out->trains));
    if (!out->trains) return;
    pb_assert_ok(pb_lab_train(&lab, o.steps));
    pb_assert_ok(pb_lab_losses(&lab, out->loss, o.steps));
    pb_assert_ok(pb_lab_logits(&lab, &out->logits, &out->n));
    pb_assert_ok(pb_lab_hash(&lab, true, out->trainable));
    pb_assert_ok(pb_lab_hash(&lab, false, out->frozen));
    pb_lab_close(&lab);
}

static void train(pb_lab_options o, const char *device, training *out) {
    train_in(dirs[o.model], o, device, out);
}

/* Sums of a few thousand terms in another order differ by 2^-24 times the root of their number, some 4e-6; Adam turns a
 * relative error of a gradient into one of the update, and ten of those add up. */
#define FIRST 4e-6
#define LAST  4e-5

START_TEST(ten_steps_as_on_the_cpu) {
    pb_lab_options o = option_of(_i);
    training cpu, cuda;
    train(o, "cpu", &cpu);
    if (!cpu.trains) return;
    train(o, "cuda", &cuda);
    ck_assert_int_eq(pb_host_live(), 0);
    double worst = 0.0, largest = 0.0, apart = 0.0;
    for (int i = 0; i < STEPS; i++) {
        double err = fabs(cuda.loss[i] - cpu.loss[i]) / fabs(cpu.loss[i]);
        double allowed = FIRST + (LAST - FIRST) * i / (STEPS - 1);
        ck_assert_msg(err <= allowed, "%s, step %d: loss %.9g, on the cpu %.9g (%.2g apart, %.2g allowed)",
                      name_of(&o), i, cuda.loss[i], cpu.loss[i], err, allowed);
        worst = fmax(worst, err);
    }
    ck_assert_uint_eq(cpu.n, cuda.n);
    for (size_t i = 0; i < cpu.n; i++) {
        largest = fmax(largest, fabs(cpu.logits[i]));
        apart = fmax(apart, fabs(cpu.logits[i] - cuda.logits[i]));
    }
    ck_assert_msg(apart <= LAST * largest, "%s: logits %.3g apart, largest %.3g", name_of(&o), apart, largest);
    ck_assert_str_eq(cpu.frozen, cuda.frozen);
    ck_assert_msg(cuda.loss[STEPS - 1] != cuda.loss[0], "%s learns nothing", name_of(&o));
    printf("%-24s losses %.1e apart, logits %.1e of the largest\n", name_of(&o), worst, apart / largest);
    free(cpu.logits);
    free(cuda.logits);
}
END_TEST

/* In bf16 with 4 steps: graphs, eager steps and other orders of threads end in the same weights. */
START_TEST(graphs_and_orders_change_no_bit) {
    pb_lab_options o = option_of(_i);
    training graphs, eager;
    o.steps = 4;
    o.dtype = _i % 2 == 0 ? PB_BF16 : PB_F32;
    setenv("PB_CUDA_GRAPHS", "1", 1);
    pb_host_seed(1);
    train(o, "cuda", &graphs);
    if (!graphs.trains) return;
    ck_assert_uint_gt(pb_host_graph_launches(), 0);
    uint64_t launches = pb_host_graph_launches();
    setenv("PB_CUDA_GRAPHS", "0", 1);
    pb_host_seed(2);
    train(o, "cuda", &eager);
    ck_assert_uint_eq(pb_host_graph_launches(), launches);
    ck_assert_msg(memcmp(graphs.loss, eager.loss, 4 * sizeof *eager.loss) == 0, "%s: other losses", name_of(&o));
    ck_assert_str_eq(graphs.trainable, eager.trainable);
    ck_assert_str_eq(graphs.frozen, eager.frozen);
    ck_assert_uint_eq(graphs.n, eager.n);
    ck_assert(memcmp(graphs.logits, eager.logits, eager.n * sizeof *eager.logits) == 0);
    free(graphs.logits);
    free(eager.logits);
}
END_TEST

/* Memory grows in the first step, the third makes graphs of what the second did, and from then on the same ones come again. Without
 * dropout their kernels keep their parameters to the byte but for the optimizer's (the number of the step) and the loss's (its
 * place in the log). */
START_TEST(steady_steps_take_the_same_graphs) {
    pb_lab_options o = {.method = pb_method_find("lora"), .model = PB_LAB_LLAMA, .dtype = _i == 0 ? PB_F32 : PB_BF16,
                        .steps = 6, .device = "cuda"};
    pb_lab lab;
    uint64_t per_step = 0;
    pb_assert_ok(pb_lab_open(&lab, dirs[o.model], &o, NULL));
    for (int i = 0; i < o.steps; i++) {
        uint64_t made = pb_host_instantiated(), launched = pb_host_graph_launches(), anew = pb_host_set_anew();
        pb_assert_ok(pb_lab_train(&lab, 1));
        made = pb_host_instantiated() - made;
        launched = pb_host_graph_launches() - launched;
        anew = pb_host_set_anew() - anew;
        if (i == 2) per_step = launched;
        if (i < 3) continue;
        ck_assert_uint_eq(made, 0);
        ck_assert_uint_eq(launched, per_step);
        ck_assert(anew >= 1 && anew <= 2); /* the loss may be in a piece too short for a graph */
    }
    ck_assert_uint_gt(per_step, 2); /* it waits for the loss only */
    pb_lab_close(&lab);
}
END_TEST

/* Layers that end in GELU's tanh form, which rides in the product's epilogue in bf16 where the width allows (64; not 44): a layer made
 * again gets the same bits, so does a graph, and the first loss is that of the cpu up to the rounding of a few layers. */
START_TEST(gelu_in_an_epilogue_keeps_every_bit) {
    char json[512], *dir = pb_test_dir();
    training eager, graphs, again, cpu;
    pb_lab_options o = {.method = pb_method_find("full"), .model = PB_LAB_BERT, .dtype = PB_BF16, .steps = 4, .dropout = 0.1};
    snprintf(json, sizeof json,
             "{\"model_type\": \"bert\", \"vocab_size\": 61, \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
             " \"max_position_embeddings\": 40, \"type_vocab_size\": 2, \"intermediate_size\": %d, \"hidden_act\": \"gelu_new\","
             " \"layer_norm_eps\": 1e-12, \"hidden_dropout_prob\": 0.1, \"attention_probs_dropout_prob\": 0.1}",
             _i == 0 ? 64 : 44);
    pb_lab_write_config(json, 0.25, dir);
    setenv("PB_CUDA_GRAPHS", "0", 1);
    train_in(dir, o, "cuda", &eager);
    setenv("PB_CUDA_GRAPHS", "1", 1);
    train_in(dir, o, "cuda", &graphs);
    o.checkpoint = 100;
    train_in(dir, o, "cuda", &again);
    train_in(dir, o, "cpu", &cpu);
    ck_assert_str_eq(eager.trainable, graphs.trainable);
    ck_assert_str_eq(eager.trainable, again.trainable);
    ck_assert_msg(fabs(eager.loss[0] - cpu.loss[0]) <= ldexp(cpu.loss[0], -7), "%.9g on cuda, %.9g", eager.loss[0], cpu.loss[0]);
    ck_assert(eager.loss[3] != eager.loss[0]);
    training *all[] = {&eager, &graphs, &again, &cpu};
    for (int i = 0; i < 4; i++) free(all[i]->logits);
    free(dir);
}
END_TEST

static int cases(void) { return pb_method_registry_count * PB_LAB_MODELS; }

/* Nothing of the device's memory stands outside the arenas: what the products need is workspace too. */
static void assert_arenas_hold_all(const pb_device *dev) {
    const void *data = NULL;
    uint64_t bytes = 0, sum = 0;
    for (int m = 0; m < PB_MEM_COUNT; m++)
        for (int i = 0; pb_device_block(dev, (pb_mem)m, i, &data, &bytes); i++) sum += bytes;
    ck_assert_uint_eq(pb_host_device_bytes(), sum);
    ck_assert_uint_ge(pb_device_mem_peak(dev, PB_MEM_WORK), 32u << 20);
}

/* What the plan says is what the arenas hold. */
START_TEST(memory_is_predicted_to_the_byte) {
    pb_lab_options o = option_of(_i), p = o;
    pb_lab real, plan;
    bool trains = false;
    o.device = "cuda";
    p.device = "plan:cuda";
    pb_assert_ok(pb_lab_open(&real, dirs[o.model], &o, &trains));
    if (!trains) return;
    pb_assert_ok(pb_lab_open(&plan, dirs[o.model], &p, &trains));
    pb_assert_ok(pb_lab_train(&real, 1));
    pb_assert_ok(pb_lab_train(&plan, 1));
    for (int m = 0; m < PB_MEM_COUNT; m++) {
        uint64_t want = pb_device_mem_peak(real.session.dev, (pb_mem)m);
        uint64_t got = pb_device_mem_peak(plan.session.dev, (pb_mem)m);
        ck_assert_msg(got == want, "%s, %s: %" PRIu64 " planned, %" PRIu64 " used", name_of(&o),
                      pb_mem_name((pb_mem)m), got, want);
    }
    assert_arenas_hold_all(real.session.dev);
    uint64_t growths = pb_device_growths(real.session.dev);
    pb_assert_ok(pb_lab_train(&real, 2));
    ck_assert_uint_eq(pb_device_growths(real.session.dev), growths);
    pb_lab_close(&plan);
    pb_lab_close(&real);
}
END_TEST

static pb_status life(const pb_lab_options *o, double *loss) {
    pb_lab lab;
    bool trains = false;
    pb_status status = pb_lab_open(&lab, dirs[o->model], o, &trains);
    if (status == PB_OK) status = pb_lab_train(&lab, o->steps);
    if (status == PB_OK) status = pb_lab_losses(&lab, loss, o->steps);
    pb_lab_close(&lab);
    return status;
}

/* Every call of the seam is failed by test_cuda_device; here two dozen, spread over a whole training. */
START_TEST(a_failing_call_ends_a_training_cleanly) {
    enum { TRIES = 24 };
    pb_lab_options o = option_of(0);
    o.method = pb_method_find("qlora");
    o.device = "cuda";
    o.steps = 2;
    o.model = PB_LAB_LLAMA;
    double want[STEPS], got[STEPS];
    uint64_t before = pb_host_calls();
    pb_assert_ok(life(&o, want));
    uint64_t calls = pb_host_calls() - before;
    int ended = 0;
    for (int i = 0; i < TRIES; i++) {
        pb_host_fail_at(1 + calls * (uint64_t)i / TRIES);
        pb_status status = life(&o, got);
        ck_assert(pb_host_failed());
        if (status == PB_OK) ck_assert(memcmp(want, got, (size_t)o.steps * sizeof *want) == 0);
        else ended++;
        ck_assert_msg(pb_host_live() == 0, "call %d of %d: %" PRId64 " things left", i, TRIES, pb_host_live());
    }
    ck_assert_msg(ended > TRIES / 3, "%d of %d failures ended the training", ended, TRIES);
}
END_TEST

/* The device's own words through a whole run and into the name of a calibration. */
START_TEST(records_and_calibrations_name_the_gpu) {
    pb_lab_world world;
    pb_record r;
    char name[96];
    pb_lab_world_new(&world);
    pb_run_config run = pb_lab_run(&world, PB_LAB_LLAMA, "lora");
    pb_copy(run.device, sizeof run.device, "cuda");
    run.steps = 2;
    run.eval_every = run.train_eval = run.infer_repeats = 0;
    pb_lab_execute(&world, &run, &r);
    ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
    const pb_json *gpu = pb_json_get(pb_json_get(r.environment, "machine"), "gpu");
    const char *described = pb_json_get(r.environment, "accelerator")->valuestring;
    ck_assert_str_eq(pb_json_get(gpu, "name")->valuestring, "host stand-in");
    ck_assert_ptr_eq(strstr(described, "host stand-in, "), described);
    ck_assert_ptr_nonnull(strchr(pb_json_get(gpu, "driver")->valuestring, '.'));
    pb_assert_ok(pb_advise_machine("cuda", 1, name));
    ck_assert_str_eq(name, "host stand-in");
    pb_record_free(&r);
    pb_lab_world_free(&world);
}
END_TEST

int main(void) {
    Suite *s = suite_create("cuda training");
    TCase *parity = pb_test_case(s, "parity"), *bits = pb_test_case(s, "bits"), *memory = pb_test_case(s, "memory"),
          *failures = pb_test_case(s, "failures"), *names = pb_test_case(s, "names");
    TCase *all[] = {parity, bits, memory, failures};
    for (int i = 0; i < 4; i++) tcase_add_unchecked_fixture(all[i], write_models, free_models);
    tcase_add_loop_test(parity, ten_steps_as_on_the_cpu, 0, cases());
    tcase_add_loop_test(bits, graphs_and_orders_change_no_bit, 0, cases());
    tcase_add_loop_test(bits, steady_steps_take_the_same_graphs, 0, 2);
    tcase_add_loop_test(bits, gelu_in_an_epilogue_keeps_every_bit, 0, 2);
    tcase_add_loop_test(memory, memory_is_predicted_to_the_byte, 0, cases());
    tcase_add_test(failures, a_failing_call_ends_a_training_cleanly);
    tcase_add_test(names, records_and_calibrations_name_the_gpu);
    return pb_run_suite(s);
}

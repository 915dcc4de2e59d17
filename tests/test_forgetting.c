/* Forgetting: what the record says about general text, for a decoder and an encoder. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "tests/lab_data.h"
#include "tests/support.h"

static pb_lab_world world;
static void make_world(void) { pb_lab_world_new(&world); }
static void free_world(void) { pb_lab_world_free(&world); }

/* Plain texts, one a line. */
static char *plain_texts(void) {
    char *dir = pb_test_dir(), *path = pb_path_join(dir, "train.jsonl");
    pb_text t = {0};
    for (int i = 0; i < 40; i++)
        pb_text_add(&t, "{\"text\": \"ba %c%c fa do%s\"}\n", "bdfghklmnp"[i % 10], "aeio"[i / 10],
                    i % 3 ? " ga ha" : "");
    pb_assert_ok(pb_text_status(&t));
    pb_assert_ok(pb_file_write_atomic(path, t.data, t.len));
    pb_text_free(&t);
    free(path);
    return dir;
}

static double metric(const pb_record *r, const char *tag) {
    const pb_metric *m = pb_record_find(r, tag);
    ck_assert_msg(m != NULL, "no metric %s: %s", tag, r->reason);
    return m->value;
}

/* A run whose general text is its own data set's test split, so that the figures are known; `before` asks for the
 * test split before training. */
static void run_with(pb_lab_model model, double lr, bool general, bool before, bool trial, pb_record *r) {
    pb_run_options options = {.threads = 2};
    pb_assets assets;
    int n = 0, bad = 0;
    char *root = pb_test_dir();
    pb_run_config run = pb_lab_run(&world, model, "lora");
    run.lr = lr;
    run.before = before;
    run.skip_test = trial;
    if (general) {
        run.general_examples = 1000;
        memcpy(run.general_dir, run.data_dir, sizeof run.general_dir);
    }
    *r = (pb_record){0};
    pb_assert_ok(pb_assets_load(&run, &assets));
    pb_assert_ok(pb_run_execute(&run, &assets, &options, r));
    ck_assert_msg(r->status == PB_RUN_OK, "%s", r->reason);
    pb_assert_ok(pb_record_write(r, root));
    pb_assert_ok(pb_records_verify(root, stdout, &n, &bad));
    ck_assert_int_eq(bad, 0);
    pb_assets_free(&assets);
    free(root);
}

static void run_general(pb_lab_model model, double lr, bool general, pb_record *r) {
    run_with(model, lr, general, false, false, r);
}

/* The same bits as the general text's, which is the same text; no trial sees it, and training does not notice. */
START_TEST(the_test_split_can_be_seen_before_training) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_record r, plain, trial;
        bool decoder = model != PB_LAB_BERT;
        run_with((pb_lab_model)model, 1e-2, true, true, false, &r);
        run_general((pb_lab_model)model, 1e-2, true, &plain);
        run_with((pb_lab_model)model, 1e-2, false, true, true, &trial);
        double before = metric(&r, "quality/test/nll/before");
        ck_assert(isfinite(before) && before != metric(&r, "quality/test/nll"));
        ck_assert(metric(&r, "quality/test/accuracy/before") >= 0);
        if (decoder) {
            ck_assert_double_gt(before, metric(&r, "quality/test/nll"));
            ck_assert(before == metric(&r, "quality/general/nll/before"));
            ck_assert_double_eq_tol(metric(&r, "quality/test/perplexity/before"), exp(before), 1e-9);
        }
        ck_assert_int_eq(pb_record_find_sample(&r, "eval/test/nll/before")->n,
                         pb_record_find_sample(&r, "eval/test/id")->n);
        ck_assert(metric(&r, "quality/test/nll") == metric(&plain, "quality/test/nll"));
        for (int k = 0; k < r.n_memory; k++) ck_assert_uint_eq(r.memory[k].peak, plain.memory[k].peak);
        ck_assert(pb_record_find(&plain, "quality/test/nll/before") == NULL);
        ck_assert(pb_record_find(&trial, "quality/test/nll/before") == NULL);
        pb_record_free(&r);
        pb_record_free(&plain);
        pb_record_free(&trial);
    }
}
END_TEST

START_TEST(a_decoder_has_its_loss_before_and_after) {
    pb_record r;
    run_general(PB_LAB_LLAMA, 1e-2, true, &r);
    double before = metric(&r, "quality/general/nll/before"),
           after = metric(&r, "quality/general/nll/after");
    ck_assert(isfinite(before) && after < before); /* it is the task's own text */
    ck_assert_double_eq_tol(metric(&r, "quality/general/nll/change"), after - before, 1e-12);
    ck_assert_double_eq_tol(after, metric(&r, "quality/test/nll"), 1e-9);
    ck_assert(pb_record_find(&r, "quality/general/drift") == NULL);
    pb_record_free(&r);
}
END_TEST

START_TEST(an_encoder_has_drift_and_neighbours) {
    pb_record still, moved;
    run_general(PB_LAB_BERT, 1e-12, true, &still);
    run_general(PB_LAB_BERT, 3e-2, true, &moved);
    ck_assert(pb_record_find(&moved, "quality/general/nll/before") == NULL);
    double none = metric(&still, "quality/general/drift"), some = metric(&moved, "quality/general/drift");
    ck_assert_msg(none >= 0 && none < 1e-9, "drift %g without training", none);
    ck_assert_msg(some > 1e-4 && some <= 2, "drift %g", some);
    ck_assert(metric(&still, "quality/general/neighbours") == 1);
    double kept = metric(&moved, "quality/general/neighbours");
    ck_assert(kept >= 0 && kept < 1);
    ck_assert_int_eq(pb_record_find_sample(&moved, "eval/general/drift")->n, PB_LAB_TEST);
    pb_record_free(&still);
    pb_record_free(&moved);
}
END_TEST

/* Folders of plain text serve both families; labelled ones a decoder refuses. */
START_TEST(plain_text_is_enough) {
    char *dir = plain_texts();
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_run_options options = {.threads = 2};
        pb_assets assets;
        pb_record r = {0};
        pb_run_config run = pb_lab_run(&world, (pb_lab_model)model, "dylora");
        run.general_examples = 10;
        snprintf(run.general_dir, sizeof run.general_dir, "%s", dir);
        pb_assert_ok(pb_assets_load(&run, &assets));
        pb_assert_ok(pb_run_execute(&run, &assets, &options, &r));
        ck_assert_msg(r.status == PB_RUN_OK, "%s", r.reason);
        ck_assert(metric(&r, model == PB_LAB_BERT ? "quality/general/drift"
                                                  : "quality/general/nll/after") >= 0);
        pb_record_free(&r);
        pb_assets_free(&assets);
        if (model == PB_LAB_BERT) continue;
        memcpy(run.general_dir, world.data[PB_LAB_BERT], strlen(world.data[PB_LAB_BERT]) + 1);
        pb_assert_fails(pb_assets_load(&run, &assets), PB_E_INPUT, "labelled texts");
    }
    free(dir);
}
END_TEST

/* Measuring it changes nothing: training, its memory and the prediction stay bit for bit. */
START_TEST(it_leaves_the_training_alone) {
    for (int model = 0; model < PB_LAB_MODELS; model++) {
        pb_record with, without;
        run_general((pb_lab_model)model, 1e-2, true, &with);
        run_general((pb_lab_model)model, 1e-2, false, &without);
        const pb_sample *a = pb_record_find_sample(&with, "loss/train"),
                        *b = pb_record_find_sample(&without, "loss/train");
        ck_assert(a->n == b->n && memcmp(a->values, b->values, (size_t)a->n * sizeof(double)) == 0);
        for (int k = 0; k < with.n_memory; k++) {
            ck_assert_uint_eq(with.memory[k].peak, without.memory[k].peak);
            ck_assert_uint_eq(with.memory[k].predicted, without.memory[k].predicted);
        }
        pb_record_free(&with);
        pb_record_free(&without);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("forgetting");
    TCase *t = pb_test_case(s, "general text");
    tcase_add_checked_fixture(t, make_world, free_world);
    tcase_add_test(t, a_decoder_has_its_loss_before_and_after);
    tcase_add_test(t, the_test_split_can_be_seen_before_training);
    tcase_add_test(t, an_encoder_has_drift_and_neighbours);
    tcase_add_test(t, plain_text_is_enough);
    tcase_add_test(t, it_leaves_the_training_alone);
    return pb_run_suite(s);
}

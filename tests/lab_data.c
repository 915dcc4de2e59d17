/* See lab_data.h. */
#include "tests/lab_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "tests/support.h"

enum { SPECIALS = 5, WORDS = PB_LAB_WORDS - SPECIALS };

static void word(uint64_t i, char out[3]) {
    out[0] = "bdfghklmnprstv"[i / 4 % 14];
    out[1] = "aeio"[i % 4];
    out[2] = 0;
}

static void write_file(const char *dir, const char *name, pb_text *text) {
    char *path = pb_path_join(dir, name);
    ck_assert(path != NULL);
    pb_assert_ok(pb_text_status(text));
    pb_assert_ok(pb_file_write_atomic(path, text->data, text->len));
    pb_text_free(text);
    free(path);
}

static void write_vocabulary(const char *dir) {
    pb_text t = {0};
    char w[3];
    pb_text_add(&t, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
    for (uint64_t i = 0; i < WORDS; i++) {
        word(i, w);
        pb_text_add(&t, "%s\n", w);
    }
    write_file(dir, "vocab.txt", &t);
}

/* Words 0, 1, 2 name the labels; the others mean nothing. */
static void add_line(pb_text *t, pb_lab_model model, uint64_t stream, uint64_t i) {
    uint64_t n = 3 + pb_random_below(3, stream, 100 * i, 6),
             label = pb_random_below(3, stream, 100 * i + 1, 3);
    uint64_t place = pb_random_below(3, stream, 100 * i + 2, n);
    char w[3], first[3] = "";
    pb_text_add(t, "{\"%s\": \"", model == PB_LAB_BERT ? "text" : "prompt");
    for (uint64_t k = 0; k < n; k++) {
        word(k == place ? label : 3 + pb_random_below(3, stream, 100 * i + 3 + k, WORDS - 3), w);
        if (k == 0) memcpy(first, w, sizeof w);
        pb_text_add(t, "%s%s", k == 0 ? "" : " ", w);
    }
    if (model == PB_LAB_BERT) {
        pb_text_add(t, "\", \"label\": \"label %d\"}\n", (int)label);
    } else {
        bool longer = i % 3 == 0; /* means over tokens and over examples must differ */
        pb_text_add(t, "\", \"completion\": \"%s %s%s%s\"}\n", first, first, longer ? " " : "",
                    longer ? first : "");
    }
}

static void write_data(pb_lab_model model, const char *dir) {
    static const int sizes[PB_SPLITS] = {PB_LAB_TRAIN, PB_LAB_VALID, PB_LAB_TEST};
    for (int split = 0; split < PB_SPLITS; split++) {
        pb_text t = {0};
        char name[32];
        uint64_t stream = pb_random_stream("lab data", (uint64_t)split, 0);
        for (int i = 0; i < sizes[split]; i++) add_line(&t, model, stream, (uint64_t)i);
        snprintf(name, sizeof name, "%s.jsonl", pb_split_name((pb_split_id)split));
        write_file(dir, name, &t);
    }
}

void pb_lab_world_new(pb_lab_world *w) {
    *w = (pb_lab_world){0};
    for (int i = 0; i < PB_LAB_MODELS; i++) {
        w->model[i] = pb_test_dir();
        w->data[i] = pb_test_dir();
        pb_lab_write_model((pb_lab_model)i, w->model[i]);
        write_vocabulary(w->model[i]);
        write_data((pb_lab_model)i, w->data[i]);
        pb_run_config run = pb_lab_run(w, (pb_lab_model)i, "lora");
        pb_assert_ok(pb_assets_load(&run, &w->assets[i]));
    }
}

void pb_lab_world_free(pb_lab_world *w) {
    for (int i = 0; i < PB_LAB_MODELS; i++) {
        pb_assets_free(&w->assets[i]);
        free(w->model[i]);
        free(w->data[i]);
    }
}

pb_run_config pb_lab_run(const pb_lab_world *w, pb_lab_model model, const char *method) {
    pb_run_config run = {.suite = "lab",
                         .method = pb_method_find(method),
                         .device = "cpu",
                         .dtype = PB_F32,
                         .seed = 1,
                         .lr = 1e-2,
                         .steps = 12,
                         .batch = 8,
                         .accumulate = 1,
                         .schedule = PB_SCHEDULE_LINEAR,
                         .warmup = 0.1,
                         .beta1 = 0.9,
                         .beta2 = 0.999,
                         .eps = 1e-8,
                         .weight_decay = 0.01,
                         .clip = 1.0,
                         .hidden_dropout = 0.05,
                         .attention_dropout = 0.05,
                         .head_dropout = 0.0,
                         .max_len = 16,
                         .eval_batch = 16,
                         .eval_every = 5,
                         .train_eval = 10,
                         .infer_repeats = 3,
                         .deterministic = true};
    ck_assert_msg(run.method != NULL, "no method %s", method);
    snprintf(run.label, sizeof run.label, "%s", method);
    snprintf(run.model, sizeof run.model, "%s", w->model[model]);
    snprintf(run.data_dir, sizeof run.data_dir, "%s", w->data[model]);
    return run;
}

void pb_lab_execute(const pb_lab_world *w, const pb_run_config *run, pb_record *record) {
    pb_run_options options = {.threads = 2};
    int model = strcmp(run->model, w->model[PB_LAB_BERT]) == 0 ? PB_LAB_BERT : PB_LAB_LLAMA;
    *record = (pb_record){0};
    pb_assert_ok(pb_run_execute(run, &w->assets[model], &options, record));
}

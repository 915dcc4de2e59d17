/* See tiny_suite.h. */
#include "tests/tiny_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "tests/lab.h"
#include "tests/support.h"

const char pb_tiny_suite_json[] =
    "{\"title\": \"Tiny\", \"model\": \"./model\", \"data\": {\"dir\": \"texts\", \"max_len\": "
    "16},\n"
    " \"dtype\": \"f32\", \"seeds\": [1, 2],\n"
    " \"train\": {\"steps\": 4, \"batch\": 4},\n"
    " \"eval\": {\"batch\": 8, \"train_examples\": 4, \"infer_repeats\": 1},\n"
    " \"runs\": [\n"
    "  {\"label\": \"LoRA r2\", \"method\": \"lora\", \"lr\": 1e-3, \"params\": {\"rank\": 2}},\n"
    "  {\"label\": \"full\", \"method\": \"full\", \"lr\": 1e-4}\n"
    " ]}\n";

void pb_tiny_write(const char *dir, const char *file, const char *text) {
    char *path = pb_path_join(dir, file);
    pb_assert_ok(pb_file_write_atomic(path, text, strlen(text)));
    free(path);
}

char *pb_tiny_read(const char *dir, const char *file) {
    char *path = pb_path_join(dir, file), *text = NULL;
    pb_assert_ok(pb_file_read(path, 1 << 24, &text, NULL));
    free(path);
    return text;
}

/* The lab's model has 61 rows: five specials and 56 letters and words. */
static void write_vocabulary(const char *model) {
    pb_text t = {0};
    pb_text_add(&t, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
    for (char c = 'a'; c <= 'z'; c++) pb_text_add(&t, "%c\n", c);
    for (int i = 0; i < 30; i++) pb_text_add(&t, "w%c%c\n", 'a' + i / 6, 'a' + i % 6);
    pb_tiny_write(model, "vocab.txt", t.data);
    pb_text_free(&t);
}

/* Three classes, told apart by their words. */
static void write_split(const char *texts, const char *file, int n, int offset) {
    static const char *const labels[] = {"red", "green", "blue"};
    pb_text t = {0};
    for (int i = 0; i < n; i++) {
        int k = (i + offset) % 3;
        pb_text_add(&t, "{\"text\": \"%c %c w%ca x %c\", \"label\": \"%s\"}\n", 'a' + k,
                    'd' + (i + offset) % 11, 'a' + k, 'p' + i % 7, labels[k]);
    }
    pb_tiny_write(texts, file, t.data);
    pb_text_free(&t);
}

void pb_tiny_suite_write(const char *dir) {
    char *model = pb_path_join(dir, "model"), *texts = pb_path_join(dir, "texts");
    pb_assert_ok(pb_make_dirs(texts));
    pb_lab_write_model(PB_LAB_BERT, model);
    write_vocabulary(model);
    write_split(texts, "train.jsonl", 24, 0);
    write_split(texts, "valid.jsonl", 9, 1);
    write_split(texts, "test.jsonl", 9, 2);
    pb_tiny_write(dir, "tiny.json", pb_tiny_suite_json);
    free(texts);
    free(model);
}

/* Writes a model, texts and a suite into a folder, so that whole runs can be tried on a machine without models and data:
 *
 *     pb_gpu_suite DIR && peftbench run DIR/gpu.json --device cuda
 *
 * The model has MiniLM's sizes and random weights; there is something to learn in the texts, but what comes of it says nothing
 * about a method. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/text.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "tests/tiny_suite.h"

static const char *folder;

static const char config[] =
    "{\"model_type\": \"bert\", \"vocab_size\": 61, \"hidden_size\": 384, \"num_hidden_layers\": 6,"
    " \"num_attention_heads\": 12, \"intermediate_size\": 1536, \"max_position_embeddings\": 512, \"type_vocab_size\": 2,"
    " \"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-12, \"hidden_dropout_prob\": 0.1,"
    " \"attention_probs_dropout_prob\": 0.1}";

static const char suite[] =
    "{\"title\": \"Random weights of MiniLM's sizes, made-up texts\", \"model\": \"./model\",\n"
    " \"data\": {\"dir\": \"texts\", \"max_len\": 64}, \"dtype\": \"auto\", \"seeds\": [1], \"keep_adapters\": false,\n"
    " \"train\": {\"steps\": 24, \"batch\": 32, \"clip\": 1.0},\n"
    " \"eval\": {\"batch\": 64, \"train_examples\": 64, \"infer_repeats\": 3},\n"
    " \"runs\": [\n"
    "  {\"label\": \"LoRA r8\", \"method\": \"lora\", \"lr\": 1e-3, \"params\": {\"rank\": 8, \"alpha\": 16}},\n"
    "  {\"label\": \"AdaLoRA 12 to 8\", \"method\": \"adalora\", \"lr\": 1e-3, \"params\": {\"init_rank\": 12, "
    "\"target_rank\": 8, \"scale\": 2}},\n"
    "  {\"label\": \"DyLoRA r8\", \"method\": \"dylora\", \"lr\": 1e-3, \"params\": {\"rank\": 8, \"alpha\": 16}},\n"
    "  {\"label\": \"DoRA r8\", \"method\": \"dora\", \"lr\": 1e-3, \"params\": {\"rank\": 8, \"alpha\": 16}},\n"
    "  {\"label\": \"QLoRA r8\", \"method\": \"qlora\", \"lr\": 1e-3, \"params\": {\"rank\": 8, \"alpha\": 16}},\n"
    "  {\"label\": \"Adapter 64\", \"method\": \"adapter\", \"lr\": 1e-3, \"params\": {\"size\": 64}},\n"
    "  {\"label\": \"full\", \"method\": \"full\", \"lr\": 1e-4}\n"
    " ]}\n";

/* Three classes, told apart by one letter in a text of 10 to 60 words of the vocabulary. */
static void write_texts(const char *file, int n, int from) {
    static const char *const labels[] = {"red", "green", "blue"};
    char *texts = pb_path_join(folder, "texts");
    pb_text t = {0};
    for (int i = from; i < from + n; i++) {
        pb_text_add(&t, "{\"text\": \"%c", 'a' + i % 3);
        for (int k = 0; k < 9 + i * 7 % 50; k++) pb_text_add(&t, " w%c%c", 'a' + (i + k) % 5, 'a' + (i * k + k) % 6);
        pb_text_add(&t, "\", \"label\": \"%s\"}\n", labels[i % 3]);
    }
    pb_tiny_write(texts, file, t.data);
    pb_text_free(&t);
    free(texts);
}

START_TEST(written) {
    char *model = pb_path_join(folder, "model");
    pb_tiny_suite_write(folder); /* its vocabulary, and what the rest then replaces */
    pb_lab_write_config(config, 0.07, model);
    write_texts("train.jsonl", 800, 0);
    write_texts("valid.jsonl", 100, 800);
    write_texts("test.jsonl", 200, 900);
    pb_tiny_write(folder, "gpu.json", suite);
    free(model);
}
END_TEST

/* As a test, since the helpers are those of the tests. */
int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIR\n", argv[0]);
        return 1;
    }
    folder = argv[1];
    Suite *s = suite_create("gpu suite");
    TCase *t = pb_test_case(s, "written");
    tcase_add_test(t, written);
    return pb_run_suite(s);
}

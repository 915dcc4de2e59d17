/* Memory that cannot be had: every single allocation of reading, tokenising and batching fails
 * once. Each time the status is PB_E_OOM and nothing leaks (seen by the sanitizer build); once
 * nothing fails, the work succeeds. Linked with
 * --wrap=malloc and so on; libraries' own allocations are not touched. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/text.h"
#include "datasets/loader.h"
#include "tests/support.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static long countdown = -1; /* allocations until one fails; below 0: none does */

static bool fails(void) { return countdown >= 0 && countdown-- == 0; }
void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }
char *__wrap_strdup(const char *s) { return fails() ? NULL : __real_strdup(s); }

static pb_status tokenise(const char *dir) {
    static const char *const texts[] = {"the cat na\xc3\xafve \xe4\xb8\xad [MASK] <tool> word",
                                        "aaaa bbbb", ""};
    pb_status status = PB_OK;
    pb_tokenizer *tok = NULL;
    pb_ids ids = {0};
    PB_TRY(pb_tokenizer_open(dir, &tok));
    for (int i = 0; i < 3; i++)
        PB_TRY(pb_tokenizer_encode(tok, texts[i], strlen(texts[i]), true, &ids));
done:
    free(ids.ids);
    pb_tokenizer_free(tok);
    return status;
}

static pb_status load_and_batch(const char *dir, const pb_tokenizer *tok) {
    pb_status status = PB_OK;
    pb_texts texts = {0};
    pb_dataset *ds = NULL;
    pb_loader *loader = NULL;
    const pb_host_batch *batch = NULL;
    pb_loader_bounds bounds;
    pb_dataset_options options = {.max_len = 16, .limit = {10, 0, 0}};
    pb_loader_options order = {.batch = 4, .shuffle = true, .seed = 1, .row_round = 16};
    PB_TRY(pb_texts_load(NULL, dir, &texts));
    PB_TRY(pb_dataset_new(&texts, tok, &options, &ds));
    PB_TRY(pb_loader_new(ds, PB_TRAIN, &order, &loader));
    PB_TRY(pb_loader_bound(loader, 4, &bounds));
    PB_TRY(pb_loader_batch(loader, 3, &batch));
done:
    pb_loader_free(loader);
    pb_dataset_free(ds);
    pb_texts_free(&texts);
    return status;
}

static const char *const tokenizers[] = {"bert-cased",      "vocab-txt", "llama-added",
                                         "metaspace-split", "roberta",   "llama3"};

START_TEST(every_allocation_of_a_tokenizer_may_fail)
    {
        char dir[1024];
        snprintf(dir, sizeof dir, "%s/tests/goldens/tokenizer/%s", pb_test_root(), tokenizers[_i]);
        for (long n = 0;; n++) {
            countdown = n;
            pb_status status = tokenise(dir);
            bool reached = countdown < 0;
            countdown = -1;
            if (!reached) {
                pb_assert_ok(status);
                ck_assert_int_gt(n, 20);
                return;
            }
            ck_assert_msg(status == PB_E_OOM, "allocation %ld: %s: %s", n, pb_status_name(status),
                          pb_error_message());
        }
    }
END_TEST

static const char *const lines[] = {"{\"text\": \"cat %d\", \"label\": \"c%d\"}",
                                    "{\"prompt\": \"cat %d\", \"completion\": \"%d\"}",
                                    "{\"text\": \"cat %d %d\"}"};

START_TEST(every_allocation_of_a_data_set_may_fail)
    {
        char *dir = pb_test_dir(), *path = pb_path_join(dir, "train.jsonl"), golden[1024];
        pb_tokenizer *tok = NULL;
        pb_text t = {0};
        for (int i = 0; i < 40; i++) {
            char line[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(line, sizeof line, lines[_i], i, i % 3);
#pragma GCC diagnostic pop
            pb_text_add(&t, "%s\n", line);
        }
        pb_assert_ok(pb_text_status(&t));
        pb_assert_ok(pb_file_write_atomic(path, t.data, t.len));
        snprintf(golden, sizeof golden, "%s/tests/goldens/tokenizer/llama", pb_test_root());
        pb_assert_ok(pb_tokenizer_open(golden, &tok));
        for (long n = 0;; n++) {
            countdown = n;
            pb_status status = load_and_batch(dir, tok);
            bool reached = countdown < 0;
            countdown = -1;
            if (!reached) {
                pb_assert_ok(status);
                ck_assert_int_gt(n, 50);
                break;
            }
            ck_assert_msg(status == PB_E_OOM, "allocation %ld: %s: %s", n, pb_status_name(status),
                          pb_error_message());
        }
        pb_tokenizer_free(tok);
        pb_text_free(&t);
        free(path);
        free(dir);
    }
END_TEST

int main(void) {
    Suite *s = suite_create("datasets_oom");
    TCase *t = pb_test_case(s, "oom");
    tcase_add_loop_test(t, every_allocation_of_a_tokenizer_may_fail, 0,
                        (int)(sizeof tokenizers / sizeof tokenizers[0]));
    tcase_add_loop_test(t, every_allocation_of_a_data_set_may_fail, 0, 3);
    return pb_run_suite(s);
}

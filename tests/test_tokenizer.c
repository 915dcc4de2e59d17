/* Tokenizers against ids made by Hugging Face `tokenizers` (tests/goldens/tokenizer.py), and
 * everything they must refuse. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "datasets/tokenizer.h"
#include "tests/support.h"

#define WORDNET "/usr/share/wordnet"
#define MINILM ".cache/models/all-MiniLM-L6-v2"
/* `tokenizer.py hash`: ids of all 117,659 glosses */
#define MINILM_GLOSSES "829a8deca2b18899f66ec0c7cda3561ee91f7fa5a461bdfa15045d560825bb47"

static char *golden_path(const char *name, const char *file) {
    pb_text t = {0};
    pb_text_add(&t, "%s/tests/goldens/tokenizer/%s%s%s", pb_test_root(), name, *file ? "/" : "",
                file);
    ck_assert(pb_text_status(&t) == PB_OK);
    return t.data;
}

static pb_tokenizer *open_golden(const char *name) {
    char *dir = golden_path(name, "");
    pb_tokenizer *tok = NULL;
    pb_assert_ok(pb_tokenizer_open(dir, &tok));
    free(dir);
    return tok;
}

static const char *const goldens[] = {
    "bert-uncased", "bert-cased",  "bert-accents",    "bert-stripped",   "vocab-txt",
    "llama",        "llama-added", "metaspace-first", "metaspace-split", "metaspace-never",
    "gpt2",         "roberta",     "llama3"};

/* One case per folder. */
START_TEST(ids_equal_hugging_face)
    {
        const char *name = goldens[_i];
        char *texts_path = golden_path("texts.json", ""),
             *ids_path = golden_path(name, "goldens.json");
        pb_json *texts = NULL, *want = NULL;
        pb_tokenizer *tok = open_golden(name);
        pb_ids ids = {0};
        int64_t vocab = 0;
        int n = 0;
        pb_assert_ok(pb_json_load(texts_path, 1 << 20, &texts));
        pb_assert_ok(pb_json_load(ids_path, 1 << 20, &want));
        pb_assert_ok(pb_json_read_i64(want, name, "vocab", 1, 1 << 20, &vocab));
        ck_assert_int_eq(pb_tokenizer_vocab(tok), vocab);
        const pb_json *row = pb_json_get(want, "ids")->child;
        for (const pb_json *t = texts->child; t; t = t->next, row = row->next, n++) {
            ck_assert_ptr_nonnull(row);
            ids.n = 0;
            pb_assert_ok(
                pb_tokenizer_encode(tok, t->valuestring, strlen(t->valuestring), true, &ids));
            int64_t i = 0;
            for (const pb_json *id = row->child; id; id = id->next, i++)
                ck_assert_msg(i < ids.n && ids.ids[i] == (int32_t)id->valuedouble,
                              "%s: text %d \"%s\": id %lld is %d, not %d", name, n, t->valuestring,
                              (long long)i, i < ids.n ? ids.ids[i] : -1, (int)id->valuedouble);
            ck_assert_msg(i == ids.n, "%s: text %d: %lld ids, not %lld", name, n, (long long)ids.n,
                          (long long)i);
        }
        ck_assert_ptr_null(row);
        ck_assert_int_gt(n, 60);
        free(ids.ids);
        pb_tokenizer_free(tok);
        pb_json_free(texts);
        pb_json_free(want);
        free(texts_path);
        free(ids_path);
    }
END_TEST

/* Ids as a line of decimal numbers. */
static void add_line(pb_sha256 *sha, const pb_ids *ids) {
    char number[16];
    for (int64_t i = 0; i < ids->n; i++) {
        int n = snprintf(number, sizeof number, i ? " %d" : "%d", ids->ids[i]);
        pb_sha256_add(sha, number, (size_t)n);
    }
    pb_sha256_add(sha, "\n", 1);
}

START_TEST(minilm_ids_of_every_gloss_equal_hugging_face)
    {
        static const char *const names[] = {"noun", "verb", "adj", "adv"};
        pb_tokenizer *tok = NULL;
        pb_sha256 *sha = NULL;
        pb_ids ids = {0};
        char hex[PB_SHA256_HEX];
        pb_assert_ok(pb_tokenizer_open(MINILM, &tok));
        pb_assert_ok(pb_sha256_new(&sha));
        for (int k = 0; k < 4; k++) {
            char path[64], *data = NULL, *save = NULL;
            size_t len = 0;
            snprintf(path, sizeof path, WORDNET "/data.%s", names[k]);
            pb_assert_ok(pb_file_read(path, 1 << 26, &data, &len));
            for (char *line = strtok_r(data, "\n", &save); line;
                 line = strtok_r(NULL, "\n", &save)) {
                if (line[0] == ' ') continue;
                const char *gloss = strstr(line, " | ");
                ck_assert_ptr_nonnull(gloss);
                gloss += 3 + strspn(gloss + 3, " ");
                size_t n = strlen(gloss);
                while (n > 0 && gloss[n - 1] == ' ') n--;
                ids.n = 0;
                pb_assert_ok(pb_tokenizer_encode(tok, gloss, n, true, &ids));
                add_line(sha, &ids);
            }
            free(data);
        }
        pb_sha256_end(sha, hex);
        ck_assert_str_eq(hex, MINILM_GLOSSES);
        ck_assert_int_eq(pb_tokenizer_end_id(tok), 102);
        free(ids.ids);
        pb_tokenizer_free(tok);
    }
END_TEST

START_TEST(knows_its_tokens)
    {
        pb_tokenizer *bert = open_golden("bert-uncased"), *llama = open_golden("llama");
        ck_assert_int_eq(pb_tokenizer_id(bert, "[CLS]"), 2);
        ck_assert_int_eq(pb_tokenizer_end_id(bert), pb_tokenizer_id(bert, "[SEP]"));
        ck_assert_int_eq(pb_tokenizer_id(bert, "no such token"), -1);
        ck_assert_int_eq(pb_tokenizer_id(llama, "</s>"), 2);
        ck_assert_int_eq(pb_tokenizer_end_id(llama), 2);
        pb_tokenizer_free(bert);
        pb_tokenizer_free(llama);
    }
END_TEST

START_TEST(appends_and_leaves_out_specials)
    {
        pb_tokenizer *tok = open_golden("bert-uncased");
        pb_ids ids = {0}, plain = {0};
        pb_assert_ok(pb_tokenizer_encode(tok, "the cat", 7, true, &ids));
        pb_assert_ok(pb_tokenizer_encode(tok, "the cat", 7, false, &plain));
        ck_assert_int_eq(ids.n, plain.n + 2);
        ck_assert_mem_eq(ids.ids + 1, plain.ids, (size_t)plain.n * sizeof(int32_t));
        pb_assert_ok(pb_tokenizer_encode(tok, "the cat", 7, false, &ids));
        ck_assert_int_eq(ids.n, 2 * plain.n + 2);
        int64_t n = ids.n;
        pb_assert_ok(pb_tokenizer_encode(tok, NULL, 0, false, &ids));
        ck_assert_int_eq(ids.n, n);
        free(ids.ids);
        free(plain.ids);
        pb_tokenizer_free(tok);
    }
END_TEST

START_TEST(a_nul_is_a_character_like_others)
    {
        pb_tokenizer *tok = open_golden("bert-uncased"), *llama = open_golden("llama");
        pb_ids with = {0}, without = {0};
        pb_assert_ok(pb_tokenizer_encode(tok, "c\0at", 4, true, &with)); /* cleaned away */
        pb_assert_ok(pb_tokenizer_encode(tok, "cat", 3, true, &without));
        ck_assert_int_eq(with.n, without.n);
        ck_assert_mem_eq(with.ids, without.ids, (size_t)with.n * sizeof(int32_t));
        with.n = 0;
        pb_assert_ok(
            pb_tokenizer_encode(llama, "\0", 1, false, &with)); /* falls back to its byte */
        ck_assert_int_eq(with.ids[with.n - 1], pb_tokenizer_id(llama, "<0x00>"));
        free(with.ids);
        free(without.ids);
        pb_tokenizer_free(tok);
        pb_tokenizer_free(llama);
    }
END_TEST

START_TEST(invalid_utf8_is_refused_with_its_offset)
    {
        pb_tokenizer *tok = open_golden("bert-uncased");
        pb_ids ids = {0};
        pb_assert_ok(pb_tokenizer_encode(tok, "a", 1, false, &ids));
        pb_assert_fails(pb_tokenizer_encode(tok, "abc\xff", 4, true, &ids), PB_E_INPUT, "offset 3");
        pb_assert_fails(pb_tokenizer_encode(tok, "\xed\xa0\x80", 3, true, &ids), PB_E_INPUT,
                        "offset 0");
        pb_assert_fails(pb_tokenizer_encode(tok, "caf\xc3", 4, true, &ids), PB_E_INPUT, "offset 3");
        ck_assert_int_eq(ids.n, 1); /* nothing half written */
        free(ids.ids);
        pb_tokenizer_free(tok);
    }
END_TEST

/* A megabyte in one word: fails by the time limit when something is quadratic. */
START_TEST(long_texts_are_not_quadratic)
    {
        static const char *const parts[] = {
            "a", "ab", "e\xcc\x81\xcc\xa3", "\xcc\x81\xcc\xa3", "the ", "[MASK]", " "};
        size_t n = 0, cap = 1 << 20;
        char *text = malloc(cap);
        ck_assert_ptr_nonnull(text);
        for (int k = 0; k < 7; k++) {
            size_t len = strlen(parts[k]);
            for (n = 0; n + len <= cap; n += len) memcpy(text + n, parts[k], len);
            for (size_t g = 0; g < sizeof goldens / sizeof goldens[0]; g += 3) {
                pb_tokenizer *tok = open_golden(goldens[g]);
                pb_ids ids = {0};
                pb_assert_ok(pb_tokenizer_encode(tok, text, n, true, &ids));
                free(ids.ids);
                pb_tokenizer_free(tok);
            }
        }
        free(text);
    }
END_TEST

typedef struct shared {
    const pb_tokenizer *tok;
    pb_ids ids;
    pb_status status;
} shared;

static void *encode_often(void *arg) {
    static const char text[] = "We were walking in the garden, na\xc3\xafve <tool> word by word.";
    shared *s = arg;
    for (int i = 0; i < 200 && s->status == PB_OK; i++)
        s->status = pb_tokenizer_encode(s->tok, text, sizeof text - 1, true, &s->ids);
    return NULL;
}

START_TEST(threads_share_a_tokenizer)
    {
        pb_tokenizer *tok = open_golden("llama-added");
        shared s[4] = {{0}};
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            s[i].tok = tok;
            ck_assert_int_eq(pthread_create(&threads[i], NULL, encode_often, &s[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            ck_assert_int_eq(s[i].status, PB_OK);
            ck_assert_int_eq(s[i].ids.n, s[0].ids.n);
            ck_assert_mem_eq(s[i].ids.ids, s[0].ids.ids, (size_t)s[0].ids.n * sizeof(int32_t));
        }
        for (int i = 0; i < 4; i++) free(s[i].ids.ids);
        pb_tokenizer_free(tok);
    }
END_TEST

/* ---- what is refused ---- */

#define WORDPIECE \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1}}"
#define BPE_VOCAB "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"

static const struct {
    const char *json, *part;
} bad[] = {
    {"", "expected a value"},
    {"[]", "expected an object"},
    {"{}", "model: expected an object"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}",
     "model \"Unigram\" is not supported; supported: WordPiece, BPE"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":[]}}", "model.vocab: expected an object"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}",
     "unk_token \"[UNK]\" is not in the vocabulary"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":-1}}}",
     "model.vocab[\"[UNK]\"]: expected an id"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0.5}}}", "expected an id"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":99999999999}}}", "expected an id"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"b\":0}}}",
     "id 0 is another token's too"},
    {"{" BPE_VOCAB "\"merges\":[\"a b\",\"a c\"]}}",
     "merges[1]: token \"c\" is not in the vocabulary"},
    {"{" BPE_VOCAB "\"merges\":[\"b a\"]}}", "merges[0]: token \"ba\" is not in the vocabulary"},
    {"{" BPE_VOCAB "\"merges\":[\"ab\"]}}", "merges[0]: expected two tokens"},
    {"{" BPE_VOCAB "\"merges\":[[\"a\",\"b\",\"c\"]]}}", "merges[0]: expected two tokens"},
    {"{" BPE_VOCAB "\"merges\":{}}}", "merges: expected an array"},
    {"{" BPE_VOCAB "\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
     "end_of_word_suffix \"</w>\" is not supported"},
    {"{" BPE_VOCAB "\"merges\":[],\"dropout\":0.1}}", "dropout is not supported"},
    {"{" BPE_VOCAB "\"merges\":[],\"unk_token\":\"x\"}}",
     "unk_token \"x\" is not in the vocabulary"},
    {"{" WORDPIECE ",\"normalizer\":{\"type\":\"Precompiled\"}}",
     "normalizer \"Precompiled\" is not supported"},
    {"{" WORDPIECE
     ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x\"},\"content\":\"\"}}",
     "pattern: only"},
    {"{" WORDPIECE ",\"pre_tokenizer\":{\"type\":\"Digits\"}}",
     "pre_tokenizer \"Digits\" is not supported"},
    {"{" WORDPIECE ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
                   "\"behavior\":\"Isolated\"}}",
     "regular expression \"(\", offset 1"},
    {"{" WORDPIECE ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}}",
     "replacement: expected one"},
    {"{" WORDPIECE ",\"post_processor\":{\"type\":\"Other\"}}",
     "post_processor \"Other\" is not supported"},
    {"{" WORDPIECE
     ",\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",9],\"sep\":[\"y\",1]}}",
     "id 9 is outside the vocabulary of 2"},
    {"{" WORDPIECE ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}}",
     "Sequence A is missing"},
    {"{" WORDPIECE ",\"added_tokens\":[{\"id\":0,\"content\":\"a\"}]}",
     "\"a\" has id 0, expected 1"},
    {"{" WORDPIECE ",\"added_tokens\":[{\"id\":7,\"content\":\"z\"}]}",
     "\"z\" has id 7, expected 2"},
    {"{" WORDPIECE ",\"added_tokens\":[{\"id\":2}]}", "needs \"id\" and \"content\""},
};

START_TEST(bad_files_are_refused_with_a_name)
    {
        pb_tokenizer *tok = NULL;
        pb_assert_fails(pb_tokenizer_parse("t.json", bad[_i].json, strlen(bad[_i].json), &tok),
                        PB_E_INPUT, bad[_i].part);
        ck_assert_ptr_nonnull(strstr(pb_error_message(), "t.json"));
        ck_assert_ptr_null(tok);
    }
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
    {
        static const char *const names[] = {"bert-cased", "llama3"};
        for (int k = 0; k < 2; k++) {
            char *path = golden_path(names[k], "tokenizer.json"), *data = NULL;
            size_t len = 0;
            pb_assert_ok(pb_file_read(path, 1 << 20, &data, &len));
            for (size_t n = 0; n + 2 < len; n += 1 + n / 64) {
                pb_tokenizer *tok = NULL;
                char *cut = malloc(
                    n + 1); /* of its exact size, so that a sanitizer sees a read behind it */
                ck_assert_ptr_nonnull(cut);
                memcpy(cut, data, n);
                pb_assert_fails(pb_tokenizer_parse("cut", cut, n, &tok), PB_E_INPUT, "cut:");
                free(cut);
            }
            free(data);
            free(path);
        }
    }
END_TEST

START_TEST(folders_without_a_tokenizer_are_refused)
    {
        char *dir = pb_test_dir(), *config = pb_path_join(dir, "tokenizer_config.json"),
             *txt = pb_path_join(dir, "vocab.txt");
        pb_tokenizer *tok = NULL;
        pb_assert_fails(pb_tokenizer_open(dir, &tok), PB_E_INPUT,
                        "expected tokenizer.json or vocab.txt");
        pb_assert_ok(pb_file_write_atomic(txt, "[PAD]\n[UNK]\n", 12));
        pb_assert_fails(pb_tokenizer_open(dir, &tok), PB_E_INPUT, "[SEP] is not in the vocabulary");
        pb_assert_ok(pb_file_write_atomic(txt, "[UNK]\n[SEP]\n[CLS]\na\na\n", 22));
        pb_assert_fails(pb_tokenizer_open(dir, &tok), PB_E_INPUT,
                        "vocab.txt:5: the token of line 4 stands here again");
        pb_assert_ok(pb_file_write_atomic(txt, "[UNK]\r\n[SEP]\r\n[CLS]\r\na\r\nA", 25));
        pb_assert_ok(pb_file_write_atomic(config, "{\"do_lower_case\": false}", 24));
        pb_assert_ok(pb_tokenizer_open(dir, &tok));
        pb_ids ids = {0};
        pb_assert_ok(pb_tokenizer_encode(tok, "A a b", 5, true, &ids));
        static const int32_t want[] = {2, 4, 3, 0, 1};
        ck_assert_int_eq(ids.n, 5);
        ck_assert_mem_eq(ids.ids, want, sizeof want);
        free(ids.ids);
        pb_tokenizer_free(tok);
        pb_assert_ok(pb_file_write_atomic(config, "{\"eos_token\": \"<end>\"}", 22));
        pb_assert_fails(pb_tokenizer_open(dir, &tok), PB_E_INPUT,
                        "eos_token \"<end>\" is not in the vocabulary");
        free(config);
        free(txt);
        free(dir);
    }
END_TEST

int main(void) {
    Suite *s = suite_create("tokenizer");
    TCase *t = pb_test_case(s, "goldens");
    tcase_add_loop_test(t, ids_equal_hugging_face, 0, (int)(sizeof goldens / sizeof goldens[0]));
    if (pb_is_dir(MINILM)) tcase_add_test(t, minilm_ids_of_every_gloss_equal_hugging_face);
    else
        fprintf(stderr,
                "not run, not counted: minilm_ids_of_every_gloss_equal_hugging_face (no %s)\n",
                MINILM);
    t = pb_test_case(s, "encode");
    tcase_add_test(t, knows_its_tokens);
    tcase_add_test(t, appends_and_leaves_out_specials);
    tcase_add_test(t, a_nul_is_a_character_like_others);
    tcase_add_test(t, invalid_utf8_is_refused_with_its_offset);
    tcase_add_test(t, long_texts_are_not_quadratic);
    tcase_add_test(t, threads_share_a_tokenizer);
    t = pb_test_case(s, "refusals");
    tcase_add_loop_test(t, bad_files_are_refused_with_a_name, 0, (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(t, a_file_cut_anywhere_is_refused);
    tcase_add_test(t, folders_without_a_tokenizer_are_refused);
    return pb_run_suite(s);
}

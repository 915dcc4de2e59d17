/* Raw texts, tokenised data sets, batches: what they hold, what they refuse, and that nothing
 * depends on anything but bytes and seeds. The WordNet tests need the package wordnet-base and fail
 * without it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "datasets/loader.h"
#include "datasets/wordnet.h"
#include "tests/support.h"

/* ---- helpers ---- */

static void write_file(const char *dir, const char *name, const char *data, size_t len) {
    char *path = pb_path_join(dir, name);
    ck_assert_ptr_nonnull(path);
    pb_assert_ok(pb_file_write_atomic(path, data, len));
    free(path);
}

static void write_text(const char *dir, const char *name, const char *text) {
    write_file(dir, name, text, strlen(text));
}

/* n lines of format(i % cycle). */
static void write_lines(const char *dir, const char *name, int n, int cycle, const char *format) {
    pb_text t = {0};
    for (int i = 0; i < n; i++) {
        char line[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(line, sizeof line, format, i % cycle, i % 3);
#pragma GCC diagnostic pop
        pb_text_add(&t, "%s\n", line);
    }
    pb_assert_ok(pb_text_status(&t));
    write_file(dir, name, t.data, t.len);
    pb_text_free(&t);
}

static pb_tokenizer *tokenizer(const char *name) {
    char path[1024];
    pb_tokenizer *tok = NULL;
    snprintf(path, sizeof path, "%s/tests/goldens/tokenizer/%s", pb_test_root(), name);
    pb_assert_ok(pb_tokenizer_open(path, &tok));
    return tok;
}

static pb_dataset *tokenised(const pb_texts *texts, const char *tok_name,
                             pb_dataset_options options) {
    pb_tokenizer *tok = tokenizer(tok_name);
    pb_dataset *ds = NULL;
    pb_assert_ok(pb_dataset_new(texts, tok, &options, &ds));
    pb_tokenizer_free(tok);
    return ds;
}

/* ---- WordNet ---- */

static int by_text(const void *a, const void *b) {
    const pb_text_example *const *x = a, *const *y = b;
    return strcmp((*x)->text, (*y)->text);
}

static int by_id(const void *a, const void *b) {
    const pb_text_example *const *x = a, *const *y = b;
    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static int split_of(const pb_texts *t, const pb_text_example *e) {
    for (int i = 0; i < PB_SPLITS; i++)
        if (e >= t->split[i].examples && e < t->split[i].examples + t->split[i].n) return i;
    return -1;
}

START_TEST(wordnet_holds_every_synset_once_and_no_definition_twice_across_splits)
    {
        pb_texts t;
        pb_assert_ok(pb_texts_load("wordnet", NULL, &t));
        int64_t n = 0, k = 0, seen[45][PB_SPLITS] = {{0}};
        for (int i = 0; i < PB_SPLITS; i++) n += t.split[i].n;
        ck_assert_int_eq(n, 117659);
        ck_assert_int_eq(t.n_labels, 45);
        ck_assert_int_eq(t.task, PB_TASK_CLASSIFY);
        ck_assert_str_eq(t.labels[0], "adj.all");
        ck_assert_str_eq(t.labels[18], "noun.person");
        ck_assert_str_eq(t.labels[44], "adj.ppl");
        const pb_text_example **all = malloc((size_t)n * sizeof *all);
        ck_assert_ptr_nonnull(all);
        for (int i = 0; i < PB_SPLITS; i++) {
            for (int64_t j = 0; j < t.split[i].n; j++) {
                const pb_text_example *e = &t.split[i].examples[j];
                ck_assert(e->label >= 0 && e->label < 45 && e->text_len > 0 &&
                          strlen(e->text) == e->text_len);
                seen[e->label][i]++;
                all[k++] = e;
            }
        }
        for (int c = 0; c < 45; c++)
            ck_assert_msg(seen[c][0] > 0 && seen[c][1] > 0 && seen[c][2] > 0,
                          "%s is missing in a split", t.labels[c]);
        qsort(all, (size_t)n, sizeof *all, by_id);
        for (int64_t i = 1; i < n; i++)
            ck_assert_msg(all[i - 1]->id != all[i]->id, "id %llu twice",
                          (unsigned long long)all[i]->id);
        ck_assert_uint_eq(all[0]->id, 100001740); /* entity */
        ck_assert_str_eq(all[0]->text, "that which is perceived or known or inferred to have its "
                                       "own distinct existence (living or "
                                       "nonliving)");
        qsort(all, (size_t)n, sizeof *all, by_text);
        int64_t twins = 0;
        for (int64_t i = 1; i < n; i++) {
            if (strcmp(all[i - 1]->text, all[i]->text) != 0) continue;
            ck_assert_int_eq(split_of(&t, all[i - 1]), split_of(&t, all[i]));
            twins++;
        }
        ck_assert_int_gt(twins, 100); /* there are some to keep together */
        double train = (double)t.split[PB_TRAIN].n / (double)n,
               test = (double)t.split[PB_TEST].n / (double)n;
        ck_assert(train > 0.79 && train < 0.81 && test > 0.095 && test < 0.105);
        free(all);
        pb_texts_free(&t);
    }
END_TEST

START_TEST(wordnet_tokenises_at_once)
    {
        pb_texts t;
        int64_t start = pb_now_ns();
        pb_assert_ok(pb_texts_load("wordnet", NULL, &t));
        double loaded = (double)(pb_now_ns() - start) * 1e-9;
        start = pb_now_ns();
        pb_dataset *ds = tokenised(&t, "bert-uncased", (pb_dataset_options){.max_len = 64});
        double all = (double)(pb_now_ns() - start) * 1e-9;
        start = pb_now_ns();
        pb_dataset *few = tokenised(
            &t, "bert-uncased",
            (pb_dataset_options){.max_len = 64, .limit = {4096, 1000, 2000}, .subsample_seed = 1});
        double quick = (double)(pb_now_ns() - start) * 1e-9;
        printf("WordNet: read in %.2f s, all tokenised in %.2f s, 7,096 in %.2f s\n", loaded, all,
               quick);
#ifndef PB_SANITIZED
        ck_assert_msg(loaded + all < 15, "%.1f s", loaded + all); /* 0.5 s on an idle machine */
#endif
        ck_assert_int_eq(pb_dataset_size(ds, PB_TRAIN), t.split[PB_TRAIN].n);
        ck_assert_int_eq(pb_dataset_size(few, PB_TRAIN), 4096);
        ck_assert_int_eq(pb_dataset_size(few, PB_TEST), 2000);
        ck_assert_int_eq(pb_dataset_classes(few), 45);
        ck_assert(pb_dataset_majority(few, PB_TEST) > 0.1 &&
                  pb_dataset_majority(few, PB_TEST) < 0.25);
        int seen[45] = {0};
        for (int64_t i = 0; i < 1000; i++) seen[pb_dataset_at(few, PB_VALID, i)->label]++;
        for (int c = 0; c < 45; c++)
            ck_assert_msg(seen[c] > 0, "%s is not in the subsample", t.labels[c]);
        pb_texts_free(&t);
        pb_dataset_free(ds);
        pb_dataset_free(few);
    }
END_TEST

START_TEST(wordnet_elsewhere_says_how_to_get_it)
    {
        char *dir = pb_test_dir();
        pb_texts t;
        pb_assert_fails(pb_texts_load("wordnet", dir, &t), PB_E_ENV,
                        "apt-get install wordnet-base");
        pb_assert_fails(pb_texts_load("wordnte", NULL, &t), PB_E_INPUT, "\"wordnet\"");
        write_text(dir, "data.noun", "00000000 03 n 01 x 0 000 | a thing\n");
        write_text(dir, "data.verb", "  licence\n");
        write_text(dir, "data.adj", "");
        write_text(dir, "data.adv", "");
        pb_assert_fails(pb_texts_load("wordnet", dir, &t), PB_E_INPUT,
                        "1 synsets, WordNet 3.0 has 117659");
        pb_assert_fails(pb_texts_load("wordnet-examples", dir, &t), PB_E_INPUT,
                        "0 example sentences, WordNet 3.0 has 29661");
        free(dir);
    }
END_TEST

static const struct {
    const char *line, *part; /* part NULL: fine, then the definition */
    const char *text;
} synsets[] = {
    {"00000000 05 n 01 x 0 000 | a dog; \"the dog barked\"; \"dogs\"  \n", NULL, "a dog"},
    {"00000000 05 n 01 x 0 000 | to bark:\"he barked\"", NULL, "to bark"},
    {"00000000 05 n 01 x 0 000 | \"only a quote\"  \n", NULL, "\"only a quote\""},
    {"00000000 05 n 01 x 0 000 | the phrase \"make strides\"; \"they made strides\"", NULL,
     "the phrase \"make strides\""},
    {"00000000 45 n 01 x 0 000 | a dog", "lex_filenum 45, expected 00 to 44", NULL},
    {"00000001 05 n 01 x 0 000 | a dog", "the synset says offset 1", NULL},
    {"00000000 05 v 01 x 0 000 | a dog", "ss_type 'v', expected 'n'", NULL},
    {"00000000 05 n 01 x 0 000 a dog", "expected \"offset lex_filenum", NULL},
    {"0000000x 05 n 01 x 0 000 | a dog", "expected \"offset lex_filenum", NULL},
    {"00000000 05 n 01 x 0 000 |    ", "an empty gloss", NULL},
    {"00000000 05 n 01 x 0 000 | caf\xe9 au lait", "not valid UTF-8", NULL},
    {"00000000 05 n 01 x 0 000 | a dog; \"caf\xe9 au lait\"", "not valid UTF-8", NULL},
    {"x", "offset 0: expected", NULL},
};

START_TEST(synsets_are_checked)
    {
        pb_texts t = {0};
        const char *line = synsets[_i].line;
        if (synsets[_i].part) {
            pb_assert_fails(pb_wordnet_parse("data.noun", line, strlen(line), 'n',
                                             &pb_wordnet_definitions, &t), PB_E_INPUT,
                            synsets[_i].part);
            ck_assert_ptr_nonnull(strstr(pb_error_message(), "data.noun"));
        } else {
            pb_assert_ok(pb_wordnet_parse("data.noun", line, strlen(line), 'n',
                                             &pb_wordnet_definitions, &t));
            for (int i = 0; i < PB_SPLITS; i++)
                if (t.split[i].n) ck_assert_str_eq(t.split[i].examples[0].text, synsets[_i].text);
            ck_assert_int_eq(t.split[0].n + t.split[1].n + t.split[2].n, 1);
        }
        pb_texts_free(&t);
    }
END_TEST

static const struct {
    const char *gloss, *texts; /* texts: sentences taken, each with "number:" before it */
} glosses[] = {
    {"a dog; \"the dog barked at me\"; \"dogs\"; \" the dogs  of the house \"  ",
     "1:the dog barked at me|3:the dogs  of the house|"},
    {"a dog; \"these are four words\"; \"now here are five words\"", "2:now here are five words|"},
    {"a dog; \"the dog barked at me\"- Mark Twain; \"the cat sat on it\"",
     "1:the dog barked at me|2:the cat sat on it|"},
    {"the phrase \"make strides over and over\"; \"they made strides with us\"",
     "1:they made strides with us|"},
    {"\"only a quote of five words\"", ""},
    {"a dog; \"the dog barked at me\"; \"no end of this one", ""},
    {"a dog without an example", ""},
};

START_TEST(example_sentences_are_what_stands_in_quotation_marks)
    {
        pb_texts t = {0};
        pb_text line = {0}, seen = {0};
        pb_text_add(&line, "00000000 05 v 01 x 0 000 | %s\n", glosses[_i].gloss);
        pb_assert_ok(pb_wordnet_parse("data.verb", line.data, line.len, 'v', &pb_wordnet_examples, &t));
        ck_assert_int_eq(t.task, PB_TASK_LM);
        ck_assert_str_eq(t.name, "wordnet-examples");
        for (uint64_t id = 1; id < 9; id++)
            for (int i = 0; i < PB_SPLITS; i++)
                for (int64_t k = 0; k < t.split[i].n; k++) {
                    const pb_text_example *e = &t.split[i].examples[k];
                    ck_assert_int_eq(e->label, -1);
                    if (e->id == 20000000000 + id)
                        pb_text_add(&seen, "%d:%s|", (int)id, e->text);
                }
        ck_assert_str_eq(seen.data ? seen.data : "", glosses[_i].texts);
        pb_text_free(&line);
        pb_text_free(&seen);
        pb_texts_free(&t);
    }
END_TEST

START_TEST(example_sentences_are_counted_once_and_lie_in_one_split)
    {
        pb_texts t, definitions;
        pb_assert_ok(pb_texts_load("wordnet-examples", NULL, &t));
        pb_assert_ok(pb_texts_load("wordnet", NULL, &definitions));
        ck_assert_str_eq(t.sha256, definitions.sha256); /* of the same files */
        int64_t n = 0, k = 0, m = 0;
        for (int i = 0; i < PB_SPLITS; i++) n += t.split[i].n, m += definitions.split[i].n;
        ck_assert_int_eq(n, 29661);
        ck_assert_int_eq(t.n_labels, 0);
        const pb_text_example **all = malloc((size_t)(n + m) * sizeof *all);
        ck_assert_ptr_nonnull(all);
        for (int i = 0; i < PB_SPLITS; i++)
            for (int64_t j = 0; j < t.split[i].n; j++) all[k++] = &t.split[i].examples[j];
        qsort(all, (size_t)n, sizeof *all, by_id);
        for (int64_t i = 1; i < n; i++)
            ck_assert_msg(all[i - 1]->id != all[i]->id, "id %llu twice",
                          (unsigned long long)all[i]->id);
        for (int i = 0; i < PB_SPLITS; i++)
            for (int64_t j = 0; j < definitions.split[i].n; j++)
                all[k++] = &definitions.split[i].examples[j];
        qsort(all, (size_t)(n + m), sizeof *all, by_text);
        int64_t twins = 0, shared = 0;
        for (int64_t i = 1; i < n + m; i++) {
            const pb_text_example *a = all[i - 1], *b = all[i];
            if (strcmp(a->text, b->text) != 0) continue;
            int x = split_of(&t, a), y = split_of(&t, b);
            shared += (x < 0) != (y < 0);
            twins += x >= 0 && y >= 0;
            ck_assert_int_eq(x < 0 ? split_of(&definitions, a) : x,
                             y < 0 ? split_of(&definitions, b) : y);
        }
        ck_assert_int_gt(twins, 10); /* there are some to keep together */
        ck_assert_int_lt(shared, 20); /* by chance */
        double train = (double)t.split[PB_TRAIN].n / (double)n,
               test = (double)t.split[PB_TEST].n / (double)n;
        ck_assert(train > 0.79 && train < 0.81 && test > 0.09 && test < 0.11);
        free(all);
        pb_texts_free(&t);
        pb_texts_free(&definitions);
    }
END_TEST

START_TEST(example_sentences_are_tokenised_as_plain_text)
    {
        pb_texts t;
        pb_assert_ok(pb_texts_load("wordnet-examples", NULL, &t));
        pb_dataset *ds = tokenised(&t, "bert-uncased",
                                   (pb_dataset_options){.max_len = 32, .limit = {100, 50, 200}});
        ck_assert_int_eq(pb_dataset_task(ds), PB_TASK_LM);
        ck_assert_int_eq(pb_dataset_size(ds, PB_TEST), 200);
        for (int64_t i = 0; i < 200; i++) {
            const pb_example *e = pb_dataset_at(ds, PB_TEST, i);
            ck_assert(e->n_ids > 5 && e->loss_from < e->n_ids && e->label == -1);
        }
        pb_texts_free(&t);
        pb_dataset_free(ds);
    }
END_TEST

/* ---- JSON Lines ---- */

START_TEST(a_folder_with_labels_is_read)
    {
        char *dir = pb_test_dir();
        pb_texts t;
        write_text(dir, "train.jsonl",
                   "{\"text\": \"a b\", \"label\": \"x\"}\r\n\r\n{\"label\": \"y\", \"text\": "
                   "\"c\\u00e9\"}\n");
        write_text(dir, "valid.jsonl", "{\"text\": \"v\", \"label\": \"y\"}");
        write_text(dir, "test.jsonl", "{\"text\": \"t\", \"label\": \"x\"}\n");
        pb_assert_ok(pb_texts_load(NULL, dir, &t));
        ck_assert_int_eq(t.task, PB_TASK_CLASSIFY);
        ck_assert_int_eq(t.n_labels, 2);
        ck_assert_str_eq(t.labels[0], "x");
        ck_assert_int_eq(t.split[PB_TRAIN].n, 2);
        ck_assert_str_eq(t.split[PB_TRAIN].examples[1].text, "c\xc3\xa9");
        ck_assert_uint_eq(t.split[PB_TRAIN].examples[1].id,
                          3); /* line numbers, also behind a blank line */
        ck_assert_int_eq(t.split[PB_VALID].examples[0].label, 1);
        ck_assert_int_eq((int)strlen(t.sha256), 64);
        pb_texts_free(&t);
        free(dir);
    }
END_TEST

START_TEST(one_class_is_nothing_to_classify)
    {
        char *dir = pb_test_dir();
        pb_texts t;
        for (int i = 0; i < PB_SPLITS; i++) {
            char name[16];
            snprintf(name, sizeof name, "%s.jsonl", pb_split_name((pb_split_id)i));
            write_text(dir, name, "{\"text\": \"a\", \"label\": \"only\"}\n");
        }
        pb_assert_fails(pb_texts_load(NULL, dir, &t), PB_E_INPUT,
                        "every example has the label \"only\"");
        free(dir);
    }
END_TEST

START_TEST(integer_labels_and_other_tasks_are_read)
    {
        char *dir = pb_test_dir();
        pb_texts t;
        write_lines(dir, "train.jsonl", 30, 30, "{\"text\": \"t %d\", \"label\": %d}");
        pb_assert_ok(pb_texts_load("jsonl", dir, &t));
        ck_assert_str_eq(t.labels[2], "2");
        pb_texts_free(&t);
        write_lines(dir, "train.jsonl", 30, 30, "{\"prompt\": \"p %d\", \"completion\": \"c %d\"}");
        pb_assert_ok(pb_texts_load("", dir, &t));
        ck_assert_int_eq(t.task, PB_TASK_COMPLETE);
        ck_assert_str_eq(t.split[PB_TRAIN].examples[0].completion, "c 0");
        ck_assert_int_eq(t.n_labels, 0);
        pb_texts_free(&t);
        write_lines(dir, "train.jsonl", 30, 30, "{\"text\": \"t %d %d\"}");
        pb_assert_ok(pb_texts_load(NULL, dir, &t));
        ck_assert_int_eq(t.task, PB_TASK_LM);
        pb_texts_free(&t);
        free(dir);
    }
END_TEST

START_TEST(missing_splits_are_taken_from_train_by_hash)
    {
        char *dir = pb_test_dir();
        pb_texts t, again;
        write_lines(dir, "train.jsonl", 1000, 400,
                    "{\"prompt\": \"p %d\", \"completion\": \"c %d\"}");
        pb_assert_ok(pb_texts_load(NULL, dir, &t));
        ck_assert_int_eq(t.split[0].n + t.split[1].n + t.split[2].n, 1000);
        ck_assert(t.split[PB_VALID].n > 95 && t.split[PB_VALID].n <= 100);
        ck_assert(t.split[PB_TEST].n > 95 && t.split[PB_TEST].n <= 100);
        for (int i = 0; i < PB_SPLITS; i++) /* one prompt, one split */
            for (int j = 0; j < i; j++)
                for (int64_t a = 0; a < t.split[i].n; a++)
                    for (int64_t b = 0; b < t.split[j].n; b++)
                        ck_assert_str_ne(t.split[i].examples[a].text, t.split[j].examples[b].text);
        pb_assert_ok(pb_texts_load(NULL, dir, &again));
        ck_assert_int_eq(t.split[PB_TEST].n, again.split[PB_TEST].n);
        for (int64_t a = 0; a < t.split[PB_TEST].n; a++)
            ck_assert_uint_eq(t.split[PB_TEST].examples[a].id, again.split[PB_TEST].examples[a].id);
        pb_texts_free(&t);
        pb_texts_free(&again);
        free(dir);
    }
END_TEST

START_TEST(a_class_never_loses_its_last_training_example)
    {
        char *dir = pb_test_dir();
        pb_texts t;
        write_lines(dir, "train.jsonl", 20, 20,
                    "{\"text\": \"only one %1$d\", \"label\": \"class %1$d\"}");
        pb_assert_fails(pb_texts_load(NULL, dir, &t), PB_E_INPUT, "add test.jsonl");
        write_lines(dir, "train.jsonl", 60, 20,
                    "{\"text\": \"t %1$d %2$d\", \"label\": \"class %1$d\"}");
        pb_assert_ok(pb_texts_load(NULL, dir, &t));
        int left[20] = {0};
        for (int64_t i = 0; i < t.split[PB_TRAIN].n; i++)
            left[t.split[PB_TRAIN].examples[i].label]++;
        for (int c = 0; c < 20; c++) ck_assert_int_gt(left[c], 0);
        pb_texts_free(&t);
        free(dir);
    }
END_TEST

#define GOOD "{\"text\":\"a\",\"label\":\"x\"}\n"

static const struct {
    const char *train, *test, *part;
} bad[] = {
    {"", NULL, "train.jsonl: no examples"},
    {"\n \r\n", NULL, "train.jsonl: no examples"},
    {GOOD, "", "test.jsonl: no examples"},
    {GOOD "{\"text\":\"a\",\"label\":\"x\"\n", NULL, "train.jsonl:2:"},
    {GOOD "[1]\n", NULL, "train.jsonl:2: expected an object"},
    {GOOD "{\"text\":\"a\",\"label\":\"x\"} x\n", NULL, "train.jsonl:2:"},
    {GOOD "{\"text\":\"a\",\"text\":\"b\",\"label\":\"x\"}\n", NULL, "stands twice"},
    {"{\"txet\":\"a\"}\n", NULL, "text"},
    {"{\"text\":\"a\",\"label\":\"x\",\"prompt\":\"p\"}\n", NULL, "wrong or missing keys"},
    {"{\"prompt\":\"a\"}\n", NULL, "train.jsonl:1: wrong or missing keys"},
    {"{\"label\":\"a\"}\n", NULL, "wrong or missing keys"},
    {GOOD "{\"text\":\"a\"}\n", NULL,
     "train.jsonl:2: mixed tasks: {\"text\"} here, {\"text\", \"label\"} before"},
    {GOOD, "{\"text\":\"a\"}\n", "test.jsonl:1: mixed tasks"},
    {GOOD, "{\"text\":\"a\",\"label\":\"z\"}\n",
     "test.jsonl:1: label \"z\" is in no training example"},
    {GOOD "{\"text\":\"a\",\"label\":1}\n", NULL,
     "label 1 is an integer, the labels before are strings"},
    {"{\"text\":\"a\",\"label\":1.5}\n", NULL, "label 1.5: expected a string or an integer"},
    {"{\"text\":\"a\",\"label\":\"\"}\n", NULL, "expected a non-empty string or an integer"},
    {"{\"text\":\"a\",\"label\":null}\n", NULL, "expected a non-empty string or an integer"},
    {"{\"text\":1,\"label\":\"x\"}\n", NULL, "train.jsonl:1"},
    {"{\"text\":\"\",\"label\":\"x\"}\n", NULL, "train.jsonl:1: text: expected a text"},
    {"{\"prompt\":\"p\",\"completion\":\"\"}\n", NULL, "completion: expected a text"},
    {"{\"text\":\"a\\u0000b\"}\n", NULL, "\\u0000"},
    {GOOD "{\"text\":\"a\xff\",\"label\":\"x\"}\n", NULL,
     "train.jsonl:2:11: the text is not valid UTF-8"},
    {"\xef\xbb\xbf" GOOD, NULL, "byte order mark"},
    {GOOD, NULL,
     "train.jsonl: no test split can be taken from 1 training examples: add test.jsonl"},
};

START_TEST(bad_lines_are_refused_with_file_and_line)
    {
        char *dir = pb_test_dir();
        pb_texts t;
        write_text(dir, "train.jsonl", bad[_i].train);
        if (bad[_i].test) write_text(dir, "test.jsonl", bad[_i].test);
        pb_assert_fails(pb_texts_load(NULL, dir, &t), PB_E_INPUT, bad[_i].part);
        ck_assert_ptr_null(t.storage);
        free(dir);
    }
END_TEST

START_TEST(nul_bytes_and_folders_without_train_are_refused)
    {
        char *dir = pb_test_dir();
        pb_texts t;
        pb_assert_fails(pb_texts_load(NULL, dir, &t), PB_E_INPUT,
                        "expected a folder with train.jsonl");
        pb_assert_fails(pb_texts_load(NULL, NULL, &t), PB_E_INPUT,
                        "needs the name of a source or a folder");
        write_file(dir, "train.jsonl", GOOD "{\"text\":\"a\0\"}\n", strlen(GOOD) + 13);
        pb_assert_fails(pb_texts_load(NULL, dir, &t), PB_E_INPUT,
                        "train.jsonl:2: a NUL byte at column 11");
        free(dir);
    }
END_TEST

START_TEST(a_line_of_100_mb_is_refused_without_taking_memory)
    {
        char *dir = pb_test_dir(), *path = pb_path_join(dir, "train.jsonl");
        pb_texts t;
        FILE *f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        char *chunk = malloc(1 << 20);
        ck_assert_ptr_nonnull(chunk);
        memset(chunk, 'a', 1 << 20);
        fputs(GOOD "{\"text\":\"", f);
        for (int i = 0; i < 100; i++) ck_assert_uint_eq(fwrite(chunk, 1, 1 << 20, f), 1 << 20);
        fputs("\"}\n", f);
        ck_assert_int_eq(fclose(f), 0);
        free(chunk);
        struct rusage before, after;
        getrusage(RUSAGE_SELF, &before);
        int64_t start = pb_now_ns();
        pb_assert_fails(pb_texts_load(NULL, dir, &t), PB_E_INPUT,
                        "train.jsonl:2: a line of 104857611 bytes, at most 16 MiB");
        double seconds = (double)(pb_now_ns() - start) * 1e-9;
        getrusage(RUSAGE_SELF, &after);
        long grown = after.ru_maxrss -
                     before.ru_maxrss; /* KiB; the mapped file counts while it is looked at */
        ck_assert_msg(grown < (100 + 64) * 1024, "%ld KiB", grown);
#ifndef PB_SANITIZED
        ck_assert_msg(seconds < 10, "%.1f s", seconds);
#endif
        (void)seconds;
        free(path);
        free(dir);
    }
END_TEST

/* ---- tokenised ---- */

static void add(pb_texts *t, pb_split_id split, const char *text, const char *completion,
                int32_t label, uint64_t id) {
    pb_text_example e = {
        .text = text, .text_len = strlen(text), .completion = completion, .label = label, .id = id};
    if (completion) e.completion_len = strlen(completion);
    pb_assert_ok(pb_texts_add(t, split, &e));
}

/* Ids of a text without specials. */
static pb_ids plain(const char *tok_name, const char *text) {
    pb_tokenizer *tok = tokenizer(tok_name);
    pb_ids ids = {0};
    pb_assert_ok(pb_tokenizer_encode(tok, text, strlen(text), false, &ids));
    pb_tokenizer_free(tok);
    return ids;
}

START_TEST(classification_keeps_the_template_when_cut)
    {
        pb_texts t;
        pb_assert_ok(pb_texts_begin(&t, "made", PB_TASK_CLASSIFY));
        int32_t label = -1;
        pb_assert_ok(pb_texts_label(&t, "x", true, &label));
        add(&t, PB_TRAIN, "the cat sat on the mat and the dog ran", NULL, 0, 7);
        add(&t, PB_TRAIN, "cat", NULL, 0, 8);
        pb_ids whole = plain("bert-uncased", t.split[PB_TRAIN].examples[0].text);
        pb_dataset *ds = tokenised(&t, "bert-uncased", (pb_dataset_options){.max_len = 6});
        const pb_example *e = pb_dataset_at(ds, PB_TRAIN, 0);
        ck_assert_int_eq(e->n_ids, 6);
        ck_assert_int_eq(e->ids[0], 2);
        ck_assert_mem_eq(e->ids + 1, whole.ids, 4 * sizeof(int32_t));
        ck_assert_int_eq(e->ids[5], 3);
        ck_assert_uint_eq(e->id, 7);
        ck_assert_int_eq(pb_dataset_truncated(ds, PB_TRAIN), 1);
        ck_assert_int_eq(pb_dataset_longest(ds, PB_TRAIN), 6);
        ck_assert_int_eq(pb_dataset_size(ds, PB_VALID), 0);
        pb_dataset_free(ds);
        pb_tokenizer *tok = tokenizer("bert-uncased");
        pb_dataset_options o = {.max_len = 6, .refuse_long = true};
        pb_assert_fails(pb_dataset_new(&t, tok, &o, &ds), PB_E_INPUT, "made, train, example 7: ");
        o.max_len = 3;
        pb_assert_fails(pb_dataset_new(&t, tok, &o, &ds), PB_E_INPUT,
                        "max_len 3: this tokenizer and task need at least 4");
        pb_tokenizer_free(tok);
        free(whole.ids);
        pb_texts_free(&t);
    }
END_TEST

START_TEST(a_completion_cuts_the_prompt_from_the_left)
    {
        pb_texts t;
        pb_assert_ok(pb_texts_begin(&t, "made", PB_TASK_COMPLETE));
        const char *prompt = "the cat sat on the mat", *completion = "and the dog ran";
        add(&t, PB_TRAIN, prompt, completion, -1, 1);
        pb_ids p = plain("llama", prompt), c = plain("llama", completion);
        int64_t full = 1 + p.n + c.n + 1;
        for (int64_t max_len = 3; max_len <= full + 1; max_len++) {
            pb_dataset *ds = tokenised(&t, "llama", (pb_dataset_options){.max_len = max_len});
            const pb_example *e = pb_dataset_at(ds, PB_TRAIN, 0);
            int64_t n = max_len < full ? max_len : full, kept_c = c.n + 1 < n - 1 ? c.n + 1 : n - 1,
                    kept_p = n - 1 - kept_c;
            ck_assert_int_eq(e->n_ids, n);
            ck_assert_int_eq(e->ids[0], 1); /* <s> */
            ck_assert_int_eq(e->loss_from, 1 + kept_p);
            if (kept_p)
                ck_assert_mem_eq(e->ids + 1, p.ids + p.n - kept_p,
                                 (size_t)kept_p * sizeof(int32_t));
            ck_assert_mem_eq(e->ids + 1 + kept_p, c.ids,
                             (size_t)(kept_c < c.n ? kept_c : c.n) * sizeof(int32_t));
            if (kept_c == c.n + 1) ck_assert_int_eq(e->ids[n - 1], 2); /* </s> */
            ck_assert_int_eq(pb_dataset_truncated(ds, PB_TRAIN), max_len < full);
            pb_dataset_free(ds);
        }
        free(p.ids);
        free(c.ids);
        pb_texts_free(&t);
    }
END_TEST

START_TEST(subsamples_are_stable_and_keep_every_class)
    {
        pb_texts t;
        pb_assert_ok(pb_texts_begin(&t, "made", PB_TASK_CLASSIFY));
        char name[32];
        int32_t label = -1;
        for (int i = 0; i < 10; i++) {
            snprintf(name, sizeof name, "c%d", i);
            pb_assert_ok(pb_texts_label(&t, name, true, &label));
        }
        for (int i = 0; i < 1000; i++) { /* class 0 has nearly all, classes 1 to 9 one each */
            snprintf(name, sizeof name, "cat %d", i);
            add(&t, PB_TRAIN, name, NULL, i % 100 == 50 && i > 100 ? i / 100 : 0, (uint64_t)i);
        }
        pb_dataset *a =
            tokenised(&t, "bert-uncased",
                      (pb_dataset_options){.max_len = 16, .limit = {50}, .subsample_seed = 1});
        pb_dataset *b =
            tokenised(&t, "bert-uncased",
                      (pb_dataset_options){.max_len = 16, .limit = {50}, .subsample_seed = 1});
        pb_dataset *c =
            tokenised(&t, "bert-uncased",
                      (pb_dataset_options){.max_len = 16, .limit = {50}, .subsample_seed = 2});
        int seen[10] = {0}, same = 0;
        ck_assert_int_eq(pb_dataset_size(a, PB_TRAIN), 50);
        for (int64_t i = 0; i < 50; i++) {
            seen[pb_dataset_at(a, PB_TRAIN, i)->label]++;
            ck_assert_uint_eq(pb_dataset_at(a, PB_TRAIN, i)->id, pb_dataset_at(b, PB_TRAIN, i)->id);
            same += pb_dataset_at(a, PB_TRAIN, i)->id == pb_dataset_at(c, PB_TRAIN, i)->id;
            if (i)
                ck_assert_uint_lt(pb_dataset_at(a, PB_TRAIN, i - 1)->id,
                                  pb_dataset_at(a, PB_TRAIN, i)->id);
        }
        for (int i = 0; i < 10; i++) ck_assert_int_gt(seen[i], 0);
        ck_assert_int_lt(same, 25);
        ck_assert_double_eq(pb_dataset_majority(a, PB_TRAIN), 41.0 / 50.0);
        double chance = -(0.82 * log(0.82) + 9 * 0.02 * log(0.02)); /* 41 of one class, 9 of one each */
        ck_assert_double_eq_tol(pb_dataset_chance_nll(a, PB_TRAIN), chance, 1e-12);
        ck_assert_str_eq(pb_dataset_label(a, 9), "c9");
        pb_dataset_free(a);
        pb_dataset_free(b);
        pb_dataset_free(c);
        pb_texts_free(&t);
    }
END_TEST

/* ---- batches ---- */

static pb_dataset *some(pb_task task, int n) {
    static const char *const words[] = {"the", "cat sat", "on the mat by",
                                        "and the old red dog ran to"};
    pb_texts t;
    pb_assert_ok(pb_texts_begin(&t, "made", task));
    int32_t label = -1;
    if (task == PB_TASK_CLASSIFY) pb_assert_ok(pb_texts_label(&t, "a", true, &label));
    if (task == PB_TASK_CLASSIFY) pb_assert_ok(pb_texts_label(&t, "b", true, &label));
    for (int i = 0; i < n; i++)
        add(&t, PB_TRAIN, words[i * 7 % 4], task == PB_TASK_COMPLETE ? words[i * 5 % 4] : NULL,
            task == PB_TASK_CLASSIFY ? i % 2 : -1, (uint64_t)i);
    pb_dataset *ds = tokenised(&t, task == PB_TASK_CLASSIFY ? "bert-uncased" : "llama",
                               (pb_dataset_options){.max_len = 32});
    pb_texts_free(&t);
    return ds;
}

/* Everything a batch promises. */
static void check_batch(const pb_dataset *ds, const pb_host_batch *b, int row_round) {
    int64_t row = 0, target = 0, longest = 0;
    for (int64_t s = 0; s < b->sequences; s++) {
        const pb_example *e = pb_dataset_at(ds, PB_TRAIN, b->example[s]);
        ck_assert_int_eq(b->cu[s], row);
        ck_assert_mem_eq(b->ids + row, e->ids, (size_t)e->n_ids * sizeof(int32_t));
        if (pb_dataset_task(ds) == PB_TASK_CLASSIFY)
            ck_assert_int_eq(b->target[target++], e->label);
        for (int32_t t = 0; t < e->n_ids; t++) {
            ck_assert_int_eq(b->positions[row + t], t);
            if (pb_dataset_task(ds) == PB_TASK_CLASSIFY || t < e->loss_from || t == 0) continue;
            ck_assert_int_eq(b->loss_rows[target], row + t - 1);
            ck_assert_int_eq(b->target[target++], e->ids[t]);
        }
        row += e->n_ids;
        if (e->n_ids > longest) longest = e->n_ids;
    }
    ck_assert_int_eq(b->cu[b->sequences], row);
    ck_assert_int_eq(b->tokens, row);
    ck_assert_int_eq(b->targets, target);
    ck_assert_int_eq(b->max_len, longest);
    ck_assert_int_eq(b->rows % row_round, 0);
    ck_assert(b->rows >= row && b->rows < row + row_round);
    for (; row < b->rows; row++) ck_assert(b->ids[row] == 0 && b->positions[row] == 0);
}

START_TEST(every_example_comes_once_per_epoch)
    {
        pb_dataset *ds = some((pb_task)_i, 60);
        pb_loader *l = NULL;
        const pb_host_batch *b = NULL;
        pb_assert_ok(pb_loader_new(
            ds, PB_TRAIN,
            &(pb_loader_options){.batch = 12, .shuffle = true, .seed = 3, .row_round = 16}, &l));
        ck_assert_int_eq(pb_loader_batches(l), 5);
        int64_t orders[3][60];
        for (int epoch = 0; epoch < 3; epoch++) {
            int seen[60] = {0};
            for (int i = 0; i < 5; i++) {
                pb_assert_ok(pb_loader_batch(l, epoch * 5 + i, &b));
                check_batch(ds, b, 16);
                ck_assert_int_eq(b->sequences, 12);
                for (int s = 0; s < 12; s++) {
                    seen[b->example[s]]++;
                    orders[epoch][i * 12 + s] = b->example[s];
                }
            }
            for (int i = 0; i < 60; i++) ck_assert_int_eq(seen[i], 1);
        }
        ck_assert_mem_ne(orders[0], orders[1], sizeof orders[0]);
        ck_assert_mem_ne(orders[1], orders[2], sizeof orders[0]);
        pb_assert_ok(pb_loader_batch(l, 7, &b)); /* back again: random access */
        ck_assert_mem_eq(b->example, &orders[1][24], 12 * sizeof(int64_t));
        pb_loader_free(l);
        pb_dataset_free(ds);
    }
END_TEST

START_TEST(the_order_is_that_of_the_seed)
    {
        pb_dataset *ds = some(PB_TASK_CLASSIFY, 100);
        pb_loader *l[3] = {0};
        for (int i = 0; i < 3; i++)
            pb_assert_ok(pb_loader_new(
                ds, PB_TRAIN,
                &(pb_loader_options){
                    .batch = 20, .shuffle = true, .seed = i < 2 ? 5 : 6, .row_round = 1},
                &l[i]));
        const pb_host_batch *a = NULL, *b = NULL, *c = NULL;
        pb_assert_ok(pb_loader_batch(l[0], 3, &a));
        pb_assert_ok(pb_loader_batch(l[1], 17, &b)); /* another way to the same place */
        pb_assert_ok(pb_loader_batch(l[1], 3, &b));
        pb_assert_ok(pb_loader_batch(l[2], 3, &c));
        ck_assert_mem_eq(a->example, b->example, 20 * sizeof(int64_t));
        ck_assert_mem_ne(a->example, c->example, 20 * sizeof(int64_t));
        for (int i = 0; i < 3; i++) pb_loader_free(l[i]);
        pb_dataset_free(ds);
    }
END_TEST

START_TEST(bounds_are_reached_and_never_exceeded)
    {
        for (int shuffle = 0; shuffle < 2; shuffle++) {
            pb_dataset *ds = some((pb_task)_i, 53);
            pb_loader *l = NULL;
            pb_loader_bounds want = {0}, got;
            pb_assert_ok(
                pb_loader_new(ds, PB_TRAIN,
                              &(pb_loader_options){
                                  .batch = 8, .shuffle = shuffle != 0, .seed = 9, .row_round = 16},
                              &l));
            ck_assert_int_eq(pb_loader_batches(l), shuffle ? 6 : 7);
            for (int64_t i = 0; i < 20; i++) {
                const pb_host_batch *b = NULL;
                pb_assert_ok(pb_loader_batch(l, i, &b));
                check_batch(ds, b, 16);
                if (b->rows > want.rows) want.rows = b->rows;
                if (b->sequences > want.sequences) want.sequences = b->sequences;
                if (b->max_len > want.max_len) want.max_len = b->max_len;
                if (b->targets > want.targets) want.targets = b->targets;
            }
            pb_assert_ok(pb_loader_bound(l, 20, &got));
            ck_assert_int_eq(got.rows, want.rows);
            ck_assert_int_eq(got.sequences, want.sequences);
            ck_assert_int_eq(got.max_len, want.max_len);
            ck_assert_int_eq(got.targets, want.targets);
            pb_loader_free(l);
            pb_dataset_free(ds);
        }
    }
END_TEST

START_TEST(evaluation_goes_in_order_with_a_short_last_batch)
    {
        pb_dataset *ds = some(PB_TASK_LM, 10);
        pb_loader *l = NULL;
        const pb_host_batch *b = NULL;
        pb_assert_ok(
            pb_loader_new(ds, PB_TRAIN, &(pb_loader_options){.batch = 4, .row_round = 16}, &l));
        ck_assert_int_eq(pb_loader_batches(l), 3);
        pb_assert_ok(pb_loader_batch(l, 2, &b));
        ck_assert_int_eq(b->sequences, 2);
        ck_assert_int_eq(b->example[0], 8);
        check_batch(ds, b, 16);
        pb_loader_free(l);
        pb_assert_ok(
            pb_loader_new(ds, PB_VALID, &(pb_loader_options){.batch = 4, .row_round = 16}, &l));
        ck_assert_int_eq(pb_loader_batches(l), 0);
        pb_assert_fails(pb_loader_batch(l, 0, &b), PB_E_INPUT, "there are 0 per epoch");
        pb_loader_free(l);
        pb_assert_fails(
            pb_loader_new(ds, PB_TRAIN,
                          &(pb_loader_options){.batch = 11, .shuffle = true, .row_round = 16}, &l),
            PB_E_INPUT, "batch 11 is larger than the 10 examples of made, train");
        pb_dataset_free(ds);
    }
END_TEST

int main(void) {
    Suite *s = suite_create("datasets");
    TCase *t = pb_test_case(s, "wordnet");
    tcase_add_test(t, wordnet_holds_every_synset_once_and_no_definition_twice_across_splits);
    tcase_add_test(t, wordnet_tokenises_at_once);
    tcase_add_test(t, wordnet_elsewhere_says_how_to_get_it);
    tcase_add_loop_test(t, synsets_are_checked, 0, (int)(sizeof synsets / sizeof synsets[0]));
    tcase_add_loop_test(t, example_sentences_are_what_stands_in_quotation_marks, 0,
                        (int)(sizeof glosses / sizeof glosses[0]));
    tcase_add_test(t, example_sentences_are_counted_once_and_lie_in_one_split);
    tcase_add_test(t, example_sentences_are_tokenised_as_plain_text);
    t = pb_test_case(s, "jsonl");
    tcase_add_test(t, a_folder_with_labels_is_read);
    tcase_add_test(t, one_class_is_nothing_to_classify);
    tcase_add_test(t, integer_labels_and_other_tasks_are_read);
    tcase_add_test(t, missing_splits_are_taken_from_train_by_hash);
    tcase_add_test(t, a_class_never_loses_its_last_training_example);
    tcase_add_loop_test(t, bad_lines_are_refused_with_file_and_line, 0,
                        (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(t, nul_bytes_and_folders_without_train_are_refused);
    tcase_add_test(t, a_line_of_100_mb_is_refused_without_taking_memory);
    t = pb_test_case(s, "tokenised");
    tcase_add_test(t, classification_keeps_the_template_when_cut);
    tcase_add_test(t, a_completion_cuts_the_prompt_from_the_left);
    tcase_add_test(t, subsamples_are_stable_and_keep_every_class);
    t = pb_test_case(s, "batches");
    tcase_add_loop_test(t, every_example_comes_once_per_epoch, 0, 3);
    tcase_add_test(t, the_order_is_that_of_the_seed);
    tcase_add_loop_test(t, bounds_are_reached_and_never_exceeded, 0, 3);
    tcase_add_test(t, evaluation_goes_in_order_with_a_short_last_batch);
    return pb_run_suite(s);
}

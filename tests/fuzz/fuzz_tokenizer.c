/* Tokenizers. First byte below 16: a golden tokenizer by number, the rest is a text. Otherwise:
 * tokenizer.json up to a NUL, then a text. Ids lie inside the vocabulary and a second encoding
 * gives the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char *const goldens[] = {
    "bert-uncased", "bert-cased",  "bert-accents",    "bert-stripped",   "vocab-txt",
    "llama",        "llama-added", "metaspace-first", "metaspace-split", "metaspace-never",
    "gpt2",         "roberta",     "llama3"};
#define N_GOLDENS (sizeof goldens / sizeof goldens[0])

static const pb_tokenizer *golden(size_t i) {
    static pb_tokenizer *open[N_GOLDENS]; /* kept for the life of the process */
    i %= N_GOLDENS;
    if (!open[i]) {
        char path[1024];
        snprintf(path, sizeof path, "%s/tests/goldens/tokenizer/%s", PB_FUZZ_ROOT, goldens[i]);
        PB_ASSERT(pb_tokenizer_open(path, &open[i]) == PB_OK);
    }
    return open[i];
}

static void encode(const pb_tokenizer *tok, const uint8_t *data, size_t size) {
    pb_ids a = {0}, b = {0};
    char *text = malloc(size ? size : 1); /* of its exact size: reads behind it are seen */
    PB_ASSERT(text);
    if (size) memcpy(text, data, size);
    pb_status first = pb_tokenizer_encode(tok, text, size, true, &a);
    pb_status second = pb_tokenizer_encode(tok, text, size, true, &b);
    PB_ASSERT(first == second && a.n == b.n);
    for (int64_t i = 0; i < a.n; i++)
        PB_ASSERT(a.ids[i] >= 0 && a.ids[i] < pb_tokenizer_vocab(tok) && a.ids[i] == b.ids[i]);
    free(text);
    free(a.ids);
    free(b.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0 && data[0] < 16) {
        encode(golden(data[0]), data + 1, size - 1);
        return 0;
    }
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    pb_tokenizer *tok = NULL;
    if (pb_tokenizer_parse("fuzz", (const char *)data, n, &tok) != PB_OK) {
        PB_ASSERT(!tok);
        return 0;
    }
    if (nul) encode(tok, nul + 1, size - n - 1);
    pb_tokenizer_free(tok);
    return 0;
}

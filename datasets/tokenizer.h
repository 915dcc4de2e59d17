/* Tokenizers read from Hugging Face files: WordPiece (BERT normaliser and pre-tokenizer) and BPE
 * with byte fallback (SentencePiece style), ids equal to Hugging Face `tokenizers`. */
#ifndef PB_DATASETS_TOKENIZER_H
#define PB_DATASETS_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct pb_tokenizer pb_tokenizer;

/* DIR/tokenizer.json, else DIR/vocab.txt (lower-casing from tokenizer_config.json, default true).
 * PB_E_INPUT names file, key, value and what is supported. */
pb_status pb_tokenizer_open(const char *dir, pb_tokenizer **out);
/* tokenizer.json from memory, for fuzzing. */
pb_status pb_tokenizer_parse(const char *where, const char *json, size_t len, pb_tokenizer **out);
void pb_tokenizer_free(pb_tokenizer *tok);

/* A growing id array; zero-initialise, free `ids` with free(). */
typedef struct pb_ids {
    int32_t *ids;
    int64_t n, cap;
} pb_ids;

/* Appends the ids of text (valid UTF-8, PB_E_INPUT with the offset otherwise). special: with the
 * post-processor's special tokens ([CLS] ... [SEP], <s> ...). Thread-safe on one tokenizer. */
pb_status pb_tokenizer_encode(const pb_tokenizer *tok, const char *text, size_t len, bool special,
                              pb_ids *out);

int32_t pb_tokenizer_vocab(const pb_tokenizer *tok);                 /* ids are < this */
int32_t pb_tokenizer_id(const pb_tokenizer *tok, const char *token); /* -1 when absent */
/* The id that ends a completion: </s>, [SEP], ...; -1 when there is none. */
int32_t pb_tokenizer_end_id(const pb_tokenizer *tok);

#endif

/* Private to datasets/: the parts of a tokenizer. A text goes through
 *   added tokens in the raw text -> normalizers -> added tokens in the normalised text ->
 * pre-tokenizers -> model -> template in the order of Hugging Face `tokenizers`, whose results
 * these files reproduce. */
#ifndef PB_DATASETS_TOKENIZER_IMPL_H
#define PB_DATASETS_TOKENIZER_IMPL_H

#include "base/json.h"
#include "datasets/tokenizer.h"
#include "datasets/unicode.h"
#include "datasets/vocab.h"

#define PB_TOKENIZER_MAX_BYTES (256u << 20)
#define PB_TOKENIZER_MAX_ID (1 << 24)

/* ---- normalizers ---- */

typedef enum pb_norm_kind {
    PB_NORM_BERT,
    PB_NORM_PREPEND,
    PB_NORM_REPLACE,
    PB_NORM_LOWERCASE,
    PB_NORM_STRIP,
    PB_NORM_FORM
} pb_norm_kind;

typedef struct pb_norm {
    pb_norm_kind kind;
    bool clean_text, chinese, strip_accents, lowercase; /* BERT */
    bool left, right;                                   /* STRIP */
    pb_normal_form form;                                /* FORM */
    char *what, *with;                                  /* REPLACE what by with; PREPEND with */
    size_t what_len, with_len;
} pb_norm;

typedef struct pb_norms {
    pb_norm *v;
    int n;
} pb_norms;

/* json: the normalizer object, or NULL / null for none. */
pb_status pb_norms_read(const pb_json *json, const char *where, pb_norms *out);
/* Empties out, then writes the normalised text; spare is working memory. */
pb_status pb_norms_apply(const pb_norms *norms, const char *s, size_t n, pb_buf *out,
                         pb_buf *spare);
void pb_norms_free(pb_norms *norms);

/* ---- pre-tokenizers ---- */

/* A list of pieces of one text buffer. */
typedef struct pb_piece {
    size_t off, len;
    bool at_start; /* the piece holds the beginning of the whole input */
} pb_piece;

typedef struct pb_pieces {
    pb_buf text;
    pb_piece *v;
    size_t n, cap;
} pb_pieces;

pb_status pb_pieces_add(pb_pieces *p, size_t off, size_t len, bool at_start);
void pb_pieces_free(pb_pieces *p);

typedef enum pb_pre_kind {
    PB_PRE_BERT,
    PB_PRE_WHITESPACE_SPLIT,
    PB_PRE_METASPACE,
    PB_PRE_BYTE_LEVEL,
    PB_PRE_SPLIT
} pb_pre_kind;

typedef enum pb_prepend { PB_PREPEND_ALWAYS, PB_PREPEND_FIRST, PB_PREPEND_NEVER } pb_prepend;

typedef struct pb_regex pb_regex;

typedef struct pb_pre {
    pb_pre_kind kind;
    char replacement[8]; /* METASPACE */
    size_t replacement_len;
    pb_prepend prepend;
    bool split;            /* METASPACE: cut before each replacement */
    bool add_prefix_space; /* BYTE_LEVEL */
    bool removed;          /* SPLIT: matches are dropped; else isolated */
    pb_regex *regex;       /* BYTE_LEVEL (or NULL), SPLIT */
} pb_pre;

typedef struct pb_pres {
    pb_pre *v;
    int n;
} pb_pres;

pb_status pb_pres_read(const pb_json *json, const char *where, pb_pres *out);
/* Applies every pre-tokenizer to the pieces; swaps its results between p and spare, the result is
 * in p. */
pb_status pb_pres_apply(const pb_pres *pres, pb_pieces *p, pb_pieces *spare);
void pb_pres_free(pb_pres *pres);

/* Regular expressions over UTF-8 (PCRE2, Unicode properties). */
pb_status pb_regex_new(const char *where, const char *pattern, pb_regex **out);
void pb_regex_free(pb_regex *re);
/* Cuts s[0..n), which lies at `off` of its buffer, into matches and what is between them. */
pb_status pb_regex_split(const pb_regex *re, const char *s, size_t n, size_t off, bool removed,
                         bool at_start, pb_pieces *out);
/* The GPT-2 pattern and byte alphabet. */
extern const char *const pb_gpt2_pattern;
pb_status pb_byte_level(const char *s, size_t n, pb_buf *out);

/* ---- added tokens ---- */

typedef struct pb_added {
    char *content; /* as written */
    char *match;   /* as looked for: normalised where `normalized` */
    size_t match_len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} pb_added;

typedef struct pb_added_set {
    pb_added *v;
    int n;
    bool first[2][256]; /* [normalized][byte]: some token starts with it */
} pb_added_set;

pb_status pb_added_read(const pb_json *json, const char *where, const pb_norms *norms,
                        pb_added_set *out);
/* One token that is matched in the raw text. */
pb_status pb_added_push(pb_added_set *set, const char *content, int32_t id);
/* Fills the tables of first bytes; call after the last token. */
void pb_added_index(pb_added_set *set);
void pb_added_free(pb_added_set *set);

/* Walks over s: text before the next added token, then the token. Start with *pos = *from = 0 until
 * false. Text s[out->start..out->stop) has id -1 and may be empty. */
typedef struct pb_added_cut {
    size_t start, stop;
    int32_t id; /* the token behind the text, -1 at the end */
} pb_added_cut;
bool pb_added_next(const pb_added_set *set, bool normalized, const char *s, size_t n, size_t *pos,
                   size_t *from, pb_added_cut *out);

/* ---- models ---- */

typedef struct pb_wordpiece {
    int32_t unk;
    char *prefix; /* "##" */
    size_t prefix_len;
    int64_t max_chars;
} pb_wordpiece;

typedef struct pb_merge_slot {
    uint64_t pair; /* left << 32 | right */
    int32_t rank;  /* -1 = free */
    int32_t id;
} pb_merge_slot;

typedef struct pb_bpe {
    pb_merge_slot *merges;
    size_t n_slots; /* power of two or 0 */
    int32_t unk;    /* -1: unknown characters vanish */
    int32_t byte[256];
    bool byte_fallback, fuse_unk, ignore_merges;
} pb_bpe;

/* Working memory of one pb_tokenizer_encode. */
typedef struct pb_symbol {
    int32_t id, prev, next;
    bool gone;
} pb_symbol;

typedef struct pb_candidate {
    int32_t rank, pos, id;
} pb_candidate;

typedef struct pb_bpe_work {
    pb_symbol *symbols;
    size_t n, cap;
    pb_candidate *heap;
    size_t heap_n, heap_cap;
} pb_bpe_work;

typedef enum pb_model_kind { PB_MODEL_WORDPIECE, PB_MODEL_BPE } pb_model_kind;

struct pb_tokenizer {
    pb_vocab vocab;
    pb_added_set added;
    pb_norms norms;
    pb_pres pres;
    pb_model_kind model;
    pb_wordpiece wordpiece;
    pb_bpe bpe;
    int32_t *before, *after; /* the template's special ids */
    int n_before, n_after;
    int32_t vocab_size; /* largest id + 1 */
    int32_t end_id;
};

pb_status pb_ids_push(pb_ids *out, int32_t id);

pb_status pb_wordpiece_read(const pb_json *model, const char *where, const pb_vocab *vocab,
                            pb_wordpiece *out);
pb_status pb_wordpiece_encode(const pb_wordpiece *wp, const pb_vocab *vocab, const char *word,
                              size_t n, pb_ids *out);
pb_status pb_bpe_read(const pb_json *model, const char *where, const pb_vocab *vocab, pb_bpe *out);
pb_status pb_bpe_encode(const pb_bpe *bpe, const pb_vocab *vocab, pb_bpe_work *work,
                        const char *text, size_t n, pb_ids *out);
void pb_bpe_free(pb_bpe *bpe);

/* The template's ids around a text: where truncation may cut. */
const int32_t *pb_tokenizer_before(const pb_tokenizer *tok, int *n);
const int32_t *pb_tokenizer_after(const pb_tokenizer *tok, int *n);

#endif

/* Private to datasets/: Unicode as Hugging Face `tokenizers` 0.23 sees it. Its crates are pinned to
 * old Unicode tables (categories: 8.0) while lower-casing follows Rust's newer ones, so the
 * system's utf8proc (15.0) is corrected by lists. */
#ifndef PB_DATASETS_UNICODE_H
#define PB_DATASETS_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A growing byte string that keeps its memory when emptied; free `s` with free(). */
typedef struct pb_buf {
    char *s;
    size_t n, cap;
} pb_buf;

/* Room for `extra` more bytes. */
pb_status pb_buf_reserve(pb_buf *b, size_t extra);
pb_status pb_buf_add(pb_buf *b, const char *s, size_t n);

/* The code point at s[*i] of valid UTF-8; moves *i behind it. */
static inline int32_t pb_uc_next(const char *text, size_t *i) {
    const unsigned char *s = (const unsigned char *)text + *i;
    if (s[0] < 0x80) {
        *i += 1;
        return s[0];
    }
    if (s[0] < 0xE0) {
        *i += 2;
        return (s[0] & 0x1F) << 6 | (s[1] & 0x3F);
    }
    if (s[0] < 0xF0) {
        *i += 3;
        return (s[0] & 0x0F) << 12 | (s[1] & 0x3F) << 6 | (s[2] & 0x3F);
    }
    *i += 4;
    return (s[0] & 0x07) << 18 | (s[1] & 0x3F) << 12 | (s[2] & 0x3F) << 6 | (s[3] & 0x3F);
}

/* Bytes of the sequence that starts with `lead` (valid UTF-8). */
static inline size_t pb_uc_len(unsigned char lead) {
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* The code point that ends before s[end]; end > 0. *start = its first byte. */
int32_t pb_uc_before(const char *s, size_t end, size_t *start);

/* Writes 1 to 4 bytes. */
size_t pb_uc_put(char *out, int32_t c);

bool pb_uc_space(int32_t c);   /* Rust's char::is_whitespace (White_Space) */
bool pb_uc_other(int32_t c);   /* control, format, private use */
bool pb_uc_punct(int32_t c);   /* ASCII punctuation or a P category */
bool pb_uc_mark(int32_t c);    /* Mn */
bool pb_uc_word(int32_t c);    /* a regular expression's \w */
bool pb_uc_chinese(int32_t c); /* BERT's CJK blocks */
/* Rust's char::to_lowercase: one or two code points, returns how many. */
int pb_uc_lower(int32_t c, int32_t out[2]);

/* Normal forms NFD, NFKD (compat), NFC, NFKC (compose), appended to out. drop_marks removes Mn
 * afterwards. */
typedef struct pb_normal_form {
    bool compat, compose, drop_marks;
} pb_normal_form;
pb_status pb_uc_normalize(pb_buf *out, const char *s, size_t n, pb_normal_form form);

#endif

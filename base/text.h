/* Growing strings, strict numbers, nearest names, globs, UTF-8, the clock. No function here depends on the locale. */
#ifndef PB_BASE_TEXT_H
#define PB_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

/* A growing byte string; `data` is NUL-terminated once anything was added. Zero-initialise; free with pb_text_free. */
typedef struct pb_text {
    char *data;
    size_t len, cap;
    bool failed; /* an allocation failed: the content is incomplete; pb_text_status reports it */
} pb_text;

void pb_text_add(pb_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void pb_text_add_bytes(pb_text *t, const void *bytes, size_t n);
/* PB_OK, or PB_E_OOM when an addition failed. */
pb_status pb_text_status(const pb_text *t);
void pb_text_free(pb_text *t);

/* Strict numbers: the whole string must parse and fit; false (and *out untouched) otherwise. No spaces, no leading '+'. */
bool pb_parse_i64(const char *s, int64_t *out); /* decimal */
bool pb_parse_f64(const char *s, double *out);  /* finite only; decimal or 0x hexadecimal */
/* "4096", "4K", "4Ki", "1.5G", "48GiB": K/M/G are powers of 1000, Ki/Mi/Gi of 1024; a trailing B is allowed.
 * A fraction needs a unit and is rounded down to whole bytes. */
bool pb_parse_size(const char *s, uint64_t *out);
/* A time above 0 in seconds: "30", "30s", "90m", "5min", "2h"; fractions are fine. */
bool pb_parse_seconds(const char *s, double *out);

/* The shortest decimal that reads back as the same double: whole numbers below 2^53 without a point or exponent, else the
 * shortest of %.15g, %.16g and %.17g. "nan", "inf", "-inf" for the rest. */
#define PB_F64_CHARS 32
void pb_format_f64(char out[PB_F64_CHARS], double v);

/* The entry of names[0..n-1] with the least edit distance to `name`, NULL when n is 0. */
const char *pb_nearest(const char *name, const char *const *names, size_t n);

/* Shell-style match with * and ? (a '*' also matches dots). */
bool pb_glob(const char *pattern, const char *name);

/* True when bytes[0..n-1] is valid UTF-8 (no surrogates, no overlong forms); else *bad = offset of the first bad byte. */
bool pb_utf8_valid(const char *bytes, size_t n, size_t *bad);

/* Copies at most cap-1 bytes and terminates; returns false when it was cut. */
bool pb_copy(char *dst, size_t cap, const char *src);

/* Monotonic time in nanoseconds. */
int64_t pb_now_ns(void);

#endif

/* Growing strings, strict numbers, nearest names, globs, UTF-8, the clock. Numbers are read and written in the C locale
 * whatever the process has set: a comma for a point would silently change data. Test: tests/test_base.c. */
#include "base/text.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The C locale is a static object of libc: getting it costs nothing and it needs no free. */
static locale_t c_locale(void) {
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* Room for n more bytes and the NUL. */
static bool reserve(pb_text *t, size_t n) {
    if (t->failed) return false;
    if (t->cap > t->len && t->cap - t->len > n) return true;
    size_t cap = t->cap ? t->cap : 64;
    while (cap - t->len <= n) {
        if (cap > SIZE_MAX / 2) goto failed;
        cap *= 2;
    }
    char *data = realloc(t->data, cap);
    if (!data) goto failed;
    t->data = data;
    t->cap = cap;
    return true;
failed:
    t->failed = true;
    return false;
}

void pb_text_add(pb_text *t, const char *fmt, ...) {
    if (!reserve(t, 0)) return;
    locale_t c = c_locale();
    locale_t old = c ? uselocale(c) : (locale_t)0;
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(t->data + t->len, t->cap - t->len, fmt, args);
    va_end(args);
    if (n < 0) {
        t->data[t->len] = 0;
        t->failed = true;
    } else if ((size_t)n >= t->cap - t->len) {
        t->data[t->len] = 0;
        if (reserve(t, (size_t)n)) vsnprintf(t->data + t->len, t->cap - t->len, fmt, again);
    }
    va_end(again);
    if (!t->failed) t->len += (size_t)n;
    if (c) uselocale(old);
}

void pb_text_add_bytes(pb_text *t, const void *bytes, size_t n) {
    if (!reserve(t, n)) return;
    if (n) memcpy(t->data + t->len, bytes, n);
    t->len += n;
    t->data[t->len] = 0;
}

pb_status pb_text_status(const pb_text *t) {
    if (t->failed) return PB_ERROR(PB_E_OOM, "no memory to grow a text beyond %zu bytes", t->len);
    return PB_OK;
}

void pb_text_free(pb_text *t) {
    free(t->data);
    *t = (pb_text){0};
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool pb_parse_i64(const char *s, int64_t *out) {
    bool negative = *s == '-';
    if (negative) s++;
    if (!is_digit(*s)) return false;
    int64_t v = 0; /* kept at or below zero: INT64_MIN has no positive twin */
    for (; is_digit(*s); s++) {
        int d = *s - '0';
        if (v < (INT64_MIN + d) / 10) return false;
        v = v * 10 - d;
    }
    if (*s) return false;
    if (!negative && v == INT64_MIN) return false;
    *out = negative ? v : -v;
    return true;
}

bool pb_parse_f64(const char *s, double *out) {
    /* strtod also takes spaces, '+', "inf" and "nan(...)". */
    const char *first = *s == '-' ? s + 1 : s;
    if (!is_digit(*first) && !(*first == '.' && is_digit(first[1]))) return false;
    locale_t c = c_locale();
    if (!c) return false;
    char *end = NULL;
    double v = strtod_l(s, &end, c);
    if (*end || !isfinite(v)) return false;
    *out = v;
    return true;
}

/* Digits at *s into *v; false when there are none or they overflow. */
static bool take_digits(const char **s, uint64_t *v) {
    if (!is_digit(**s)) return false;
    for (*v = 0; is_digit(**s); (*s)++) {
        uint64_t d = (uint64_t)(**s - '0');
        if (*v > (UINT64_MAX - d) / 10) return false;
        *v = *v * 10 + d;
    }
    return true;
}

bool pb_parse_size(const char *s, uint64_t *out) {
    uint64_t whole = 0, frac = 0, scale = 1, unit = 1;
    if (!take_digits(&s, &whole)) return false;
    bool fraction = *s == '.';
    if (fraction) {
        const char *first = ++s;
        if (!is_digit(*s)) return false;
        /* Nine digits keep frac * unit below 2^64; later ones are worth less than two bytes of the largest unit. */
        for (; is_digit(*s); s++) {
            if (s - first >= 9) continue;
            frac = frac * 10 + (uint64_t)(*s - '0');
            scale *= 10;
        }
    }
    const char *units = "KMG", *at = *s ? strchr(units, *s) : NULL;
    if (at) {
        s++;
        uint64_t base = 1000;
        if (*s == 'i') {
            base = 1024;
            s++;
        }
        for (int i = 0; i <= (int)(at - units); i++) unit *= base;
    } else if (fraction) {
        return false;
    }
    if (*s == 'B') s++;
    if (*s) return false;
    /* frac < 10^9 and unit <= 2^30: the product fits. */
    uint64_t part = frac * unit / scale;
    if (whole > (UINT64_MAX - part) / unit) return false;
    *out = whole * unit + part;
    return true;
}

bool pb_parse_seconds(const char *s, double *out) {
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"s", 1}, {"min", 60}, {"m", 60}, {"h", 3600}, {"", 1}};
    char number[32];
    double value;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t n = strlen(s), k = strlen(units[i].unit);
        if (n <= k || strcmp(s + n - k, units[i].unit) != 0 || n - k >= sizeof number) continue;
        memcpy(number, s, n - k);
        number[n - k] = 0;
        if (!pb_parse_f64(number, &value) || !(value > 0) || value > 1e12) return false;
        *out = value * units[i].seconds;
        return true;
    }
    return false;
}

void pb_format_f64(char out[PB_F64_CHARS], double v) {
    if (isnan(v)) {
        strcpy(out, "nan");
        return;
    }
    if (isinf(v)) {
        strcpy(out, v < 0 ? "-inf" : "inf");
        return;
    }
    if (fabs(v) < 9007199254740992.0 && v == trunc(v)) {
        if (v == 0.0)
            strcpy(out, signbit(v) ? "-0" : "0");
        else
            snprintf(out, PB_F64_CHARS, "%lld", (long long)v);
        return;
    }
    locale_t c = c_locale();
    locale_t old = c ? uselocale(c) : (locale_t)0;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, PB_F64_CHARS, "%.*g", digits, v);
        if (digits == 17 || strtod(out, NULL) == v) break;
    }
    if (c) uselocale(old);
}

/* Levenshtein distance of the first 255 bytes. */
static int edit_distance(const char *a, const char *b) {
    int row[256];
    int n = (int)strnlen(a, 255), m = (int)strnlen(b, 255);
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *pb_nearest(const char *name, const char *const *names, size_t n) {
    const char *best = NULL;
    int best_distance = 0;
    for (size_t i = 0; i < n; i++) {
        int d = edit_distance(name, names[i]);
        if (!best || d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

bool pb_glob(const char *pattern, const char *name) {
    /* On a mismatch only the last '*' needs to take one more byte: an earlier one cannot help. */
    const char *star = NULL, *resume = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == 0;
}

/* Length of the valid sequence at s (n > 0 bytes left), 0 when it is not one. Table 3-7 of the Unicode standard. */
static size_t utf8_sequence(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    size_t len = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : s[0] >= 0xE0 && s[0] <= 0xEF ? 3 : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4 : 0;
    if (len == 0 || n < len) return 0;
    unsigned char lo = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char hi = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < lo || s[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return len;
}

bool pb_utf8_valid(const char *bytes, size_t n, size_t *bad) {
    const unsigned char *s = (const unsigned char *)bytes;
    for (size_t i = 0; i < n;) {
        size_t len = utf8_sequence(s + i, n - i);
        if (len == 0) {
            if (bad) *bad = i;
            return false;
        }
        i += len;
    }
    return true;
}

bool pb_copy(char *dst, size_t cap, const char *src) {
    PB_ASSERT(cap > 0);
    size_t n = strnlen(src, cap);
    bool fits = n < cap;
    if (!fits) n = cap - 1;
    memcpy(dst, src, n);
    dst[n] = 0;
    return fits;
}

int64_t pb_now_ns(void) {
    struct timespec t;
    PB_ASSERT(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

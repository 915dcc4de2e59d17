/* Strict JSON over cJSON. A validator of our own walks the text first and places every fault; cJSON then only builds the
 * tree. Printing is ours too, since cJSON rounds doubles. cJSON's global error pointer is never read.
 * Grammar: RFC 8259. Test: tests/test_base.c. */
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

#define MAX_DEPTH 256
#define MAX_NUMBER 63           /* cJSON copies a number into a buffer of this many characters */
#define TWO_53 9007199254740992 /* from here on a double skips integers */

/* ---- validation ---- */

typedef struct scan {
    const char *s;
    size_t len, pos;
    size_t at; /* where the fault is */
    const char *reason;
} scan;

static bool fault(scan *p, size_t at, const char *reason) {
    p->at = at;
    p->reason = reason;
    return false;
}

static int peek(const scan *p) {
    return p->pos < p->len ? (unsigned char)p->s[p->pos] : -1;
}

static void skip_space(scan *p) {
    while (p->pos < p->len && p->s[p->pos] && strchr(" \t\r\n", p->s[p->pos])) p->pos++;
}

static bool digit_next(const scan *p) {
    int c = peek(p);
    return c >= '0' && c <= '9';
}

static bool scan_digits(scan *p) {
    if (!digit_next(p)) return fault(p, p->pos, "expected a digit");
    while (digit_next(p)) p->pos++;
    return true;
}

static bool scan_number(scan *p) {
    size_t start = p->pos;
    bool exponent = false;
    if (peek(p) == '-') p->pos++;
    if (peek(p) == '0') {
        p->pos++;
        if (digit_next(p)) return fault(p, p->pos, "a number must not start with 0");
    } else if (!scan_digits(p)) {
        return false;
    }
    if (peek(p) == '.') {
        p->pos++;
        if (!scan_digits(p)) return false;
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        exponent = true;
        p->pos++;
        if (peek(p) == '+' || peek(p) == '-') p->pos++;
        if (!scan_digits(p)) return false;
    }
    size_t n = p->pos - start;
    if (n > MAX_NUMBER) return fault(p, start, "a number must not be longer than 63 characters");
    if (exponent) { /* without one 63 digits cannot overflow */
        char copy[MAX_NUMBER + 1];
        double v = 0;
        memcpy(copy, p->s + start, n);
        copy[n] = 0;
        if (!pb_parse_f64(copy, &v)) return fault(p, start, "the number is too large for a double");
    }
    return true;
}

/* Four hex digits after \u. */
static bool scan_hex4(scan *p, unsigned *code) {
    *code = 0;
    for (int i = 0; i < 4; i++, p->pos++) {
        int c = peek(p);
        unsigned d;
        if (c >= '0' && c <= '9')
            d = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            d = (unsigned)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            d = (unsigned)(c - 'A' + 10);
        else
            return fault(p, p->pos, "expected four hexadecimal digits after \\u");
        *code = *code * 16 + d;
    }
    return true;
}

static bool scan_escape(scan *p) {
    size_t start = p->pos++;
    int c = peek(p);
    if (c > 0 && strchr("\"\\/bfnrt", c)) {
        p->pos++;
        return true;
    }
    if (c != 'u') return fault(p, p->pos, "expected one of \" \\ / b f n r t u after a backslash");
    p->pos++;
    unsigned code = 0, low = 0;
    if (!scan_hex4(p, &code)) return false;
    if (code == 0) return fault(p, start, "\\u0000 is not supported in a string");
    if (code >= 0xDC00 && code <= 0xDFFF) return fault(p, start, "a low surrogate without its high one");
    if (code < 0xD800 || code > 0xDBFF) return true;
    if (p->len - p->pos < 2 || p->s[p->pos] != '\\' || p->s[p->pos + 1] != 'u')
        return fault(p, start, "a high surrogate without its low one");
    p->pos += 2;
    if (!scan_hex4(p, &low)) return false;
    return (low >= 0xDC00 && low <= 0xDFFF) || fault(p, start, "a high surrogate without its low one");
}

static bool scan_string(scan *p) {
    size_t start = p->pos++;
    for (;;) {
        int c = peek(p);
        if (c < 0) return fault(p, start, "the string is never closed");
        if (c == '"') {
            p->pos++;
            return true;
        }
        if (c < 0x20) return fault(p, p->pos, "a control character in a string must be written as an escape");
        if (c != '\\')
            p->pos++;
        else if (!scan_escape(p))
            return false;
    }
}

static bool scan_value(scan *p, int depth);

static bool scan_member(scan *p, int depth) {
    if (peek(p) != '"') return fault(p, p->pos, "expected a key in double quotes");
    if (!scan_string(p)) return false;
    skip_space(p);
    if (peek(p) != ':') return fault(p, p->pos, "expected ':' after the key");
    p->pos++;
    return scan_value(p, depth);
}

/* An object or array; p is at its opening bracket. */
static bool scan_container(scan *p, int depth) {
    bool object = peek(p) == '{';
    int close = object ? '}' : ']';
    if (depth >= MAX_DEPTH) return fault(p, p->pos, "nested deeper than 256 levels");
    p->pos++;
    skip_space(p);
    if (peek(p) == close) {
        p->pos++;
        return true;
    }
    for (;;) {
        skip_space(p);
        if (!(object ? scan_member(p, depth + 1) : scan_value(p, depth + 1))) return false;
        skip_space(p);
        int c = peek(p);
        if (c != ',' && c != close)
            return fault(p, p->pos, object ? "expected ',' or '}' in an object" : "expected ',' or ']' in an array");
        p->pos++;
        if (c == close) return true;
    }
}

static bool scan_value(scan *p, int depth) {
    static const char *const words[] = {"true", "false", "null"};
    skip_space(p);
    int c = peek(p);
    if (c == '{' || c == '[') return scan_container(p, depth);
    if (c == '"') return scan_string(p);
    if (c == '-' || digit_next(p)) return scan_number(p);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i]);
        if (p->len - p->pos < n || memcmp(p->s + p->pos, words[i], n) != 0) continue;
        p->pos += n;
        return true;
    }
    return fault(p, p->pos, "expected a value");
}

static bool scan_text(scan *p) {
    size_t bad = 0;
    if (!pb_utf8_valid(p->s, p->len, &bad)) return fault(p, bad, "the text is not valid UTF-8");
    if (p->len >= 3 && memcmp(p->s, "\xEF\xBB\xBF", 3) == 0)
        return fault(p, 0, "the text must not start with a byte order mark");
    if (!scan_value(p, 0)) return false;
    skip_space(p);
    return p->pos == p->len || fault(p, p->pos, "expected nothing after the value");
}

/* The key that stands `nth` (from 0) in valid JSON text: offset of its opening quote. */
static size_t find_key(const char *text, size_t len, size_t nth) {
    scan p = {.s = text, .len = len};
    while (p.pos < len) {
        if (p.s[p.pos] != '"') {
            p.pos++;
            continue;
        }
        size_t start = p.pos;
        if (!scan_string(&p)) break;
        skip_space(&p);
        if (peek(&p) == ':' && nth-- == 0) return start;
    }
    return 0;
}

/* The text and what messages call it: "where:line:column", its first line being number `line`. */
typedef struct source {
    const char *where, *text;
    size_t len, line;
} source;

/* PB_E_INPUT with the place of an offset. Columns count characters. */
static pb_status fail_at(const source *s, size_t offset, const char *reason) {
    const char *text = s->text;
    size_t len = s->len, line = s->line, column = 1;
    for (size_t i = 0; i < offset && i < len; i++) {
        if (text[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)text[i] & 0xC0) != 0x80) {
            column++;
        }
    }
    char found[32];
    unsigned char c = offset < len ? (unsigned char)text[offset] : 0;
    if (offset >= len)
        strcpy(found, "the end of the text");
    else if (c >= 0x20 && c < 0x7F)
        snprintf(found, sizeof found, "'%c'", c);
    else
        snprintf(found, sizeof found, "byte 0x%02x", c);
    return PB_ERROR(PB_E_INPUT, "%s:%zu:%zu: %s, found %s", s->where, line, column, reason, found);
}

/* ---- duplicate keys ---- */

typedef struct entry {
    const cJSON *node;
    size_t index;
} entry;

static int by_key(const void *a, const void *b) {
    const entry *x = a, *y = b;
    int order = strcmp(x->node->string, y->node->string);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* *dup = the first member of this one object whose key came before, or NULL. Sorted: vocabularies have 10^5 keys. */
static pb_status find_duplicate(const cJSON *object, const cJSON **dup) {
    size_t n = 0, i = 0, first = SIZE_MAX;
    *dup = NULL;
    for (const cJSON *c = object->child; c; c = c->next) n++;
    if (n < 2) return PB_OK;
    entry *entries = malloc(n * sizeof *entries);
    if (!entries) return PB_ERROR(PB_E_OOM, "no memory to look for duplicates among %zu keys", n);
    for (const cJSON *c = object->child; c; c = c->next, i++) entries[i] = (entry){c, i};
    qsort(entries, n, sizeof *entries, by_key);
    for (i = 1; i < n; i++) {
        if (strcmp(entries[i].node->string, entries[i - 1].node->string) != 0 || entries[i].index >= first) continue;
        first = entries[i].index;
        *dup = entries[i].node;
    }
    free(entries);
    return PB_OK;
}

/* Depth is bounded by the validator. */
static pb_status find_duplicate_below(const cJSON *json, const cJSON **dup) {
    *dup = NULL;
    if (cJSON_IsObject(json)) PB_RETURN(find_duplicate(json, dup));
    for (const cJSON *c = json->child; c && !*dup; c = c->next) PB_RETURN(find_duplicate_below(c, dup));
    return PB_OK;
}

/* Counts the keys before `node` in document order; true when it was met. */
static bool count_keys_until(const cJSON *json, const cJSON *node, size_t *n) {
    for (const cJSON *c = json->child; c; c = c->next) {
        if (c == node) return true;
        if (c->string) (*n)++;
        if (count_keys_until(c, node, n)) return true;
    }
    return false;
}

/* ---- parsing ---- */

static pb_status parse(const source *s, pb_json **out) {
    const char *text = s->text;
    size_t len = s->len;
    pb_status status = PB_OK;
    cJSON *json = NULL;
    const cJSON *dup = NULL;
    const char *end = NULL;
    scan p = {.s = text, .len = len};
    *out = NULL;
    if (!scan_text(&p)) {
        status = fail_at(s, p.at, p.reason);
        goto done;
    }
    errno = 0; /* cJSON says NULL and no more: malloc's errno tells an empty heap from a refusal */
    json = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    if (!json && errno == ENOMEM) PB_FAIL(PB_E_OOM, "%s: no memory for its JSON tree", s->where);
    if (!json) {
        status = fail_at(s, end ? (size_t)(end - text) : 0, "cJSON refuses the text here");
        goto done;
    }
    p.pos = (size_t)(end - text);
    skip_space(&p);
    PB_ASSERT(p.pos == len); /* the validator saw one value to the end */
    PB_TRY(find_duplicate_below(json, &dup));
    if (dup) {
        size_t nth = 0;
        char reason[128];
        PB_ASSERT(count_keys_until(json, dup, &nth));
        snprintf(reason, sizeof reason, "the key \"%.80s\" stands twice in one object", dup->string);
        status = fail_at(s, find_key(text, len, nth), reason);
        goto done;
    }
    *out = json;
    json = NULL;
done:
    cJSON_Delete(json);
    return status;
}

pb_status pb_json_parse(const char *where, const char *text, size_t len, pb_json **out) {
    return parse(&(source){where, text, len, 1}, out);
}

pb_status pb_json_parse_line(const char *where, size_t number, const char *text, size_t len, pb_json **out) {
    return parse(&(source){where, text, len, number}, out);
}

pb_status pb_json_load(const char *path, size_t max_bytes, pb_json **out) {
    pb_status status = PB_OK;
    char *text = NULL;
    size_t len = 0;
    *out = NULL;
    PB_TRY(pb_file_read(path, max_bytes, &text, &len));
    PB_TRY(pb_json_parse(path, text, len, out));
done:
    free(text);
    return status;
}

void pb_json_free(pb_json *json) {
    cJSON_Delete(json);
}

/* ---- printing ---- */

static void print_plain(pb_text *t, const char *s, size_t n) {
    static const char escapes[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        pb_text_add_bytes(t, s + start, i - start);
        start = i + 1;
        const char *at = memchr(escapes, c, sizeof escapes - 1);
        char pair[2] = {'\\', at ? letters[at - escapes] : 'u'};
        pb_text_add_bytes(t, pair, 2);
        if (!at) pb_text_add(t, "%04x", c);
    }
    pb_text_add_bytes(t, s + start, n - start);
}

static void print_string(pb_text *t, const char *s) {
    size_t n = strlen(s), bad = 0;
    pb_text_add_bytes(t, "\"", 1);
    while (!pb_utf8_valid(s, n, &bad)) {
        print_plain(t, s, bad);
        pb_text_add_bytes(t, "\\ufffd", 6);
        s += bad + 1;
        n -= bad + 1;
    }
    print_plain(t, s, n);
    pb_text_add_bytes(t, "\"", 1);
}

static void print_number(pb_text *t, double v) {
    char buf[PB_F64_CHARS] = "null";
    if (isfinite(v)) pb_format_f64(buf, v);
    pb_text_add_bytes(t, buf, strlen(buf));
}

static void print_break(pb_text *t, int depth) {
    static const char spaces[] = "\n                                ";
    pb_text_add_bytes(t, spaces, 1);
    for (int n = 2 * depth; n > 0; n -= 32) pb_text_add_bytes(t, spaces + 1, (size_t)(n < 32 ? n : 32));
}

static void print_value(pb_text *t, const cJSON *json, bool pretty, int depth);

/* An array of numbers, booleans and nulls fills lines instead of taking one line per element. */
static bool is_plain_array(const cJSON *json) {
    if (!cJSON_IsArray(json)) return false;
    for (const cJSON *c = json->child; c; c = c->next)
        if (!(cJSON_IsNumber(c) || cJSON_IsBool(c) || cJSON_IsNull(c))) return false;
    return true;
}

static void print_container(pb_text *t, const cJSON *json, bool pretty, int depth) {
    bool object = cJSON_IsObject(json), fill = is_plain_array(json);
    bool breaks = pretty && json->child && !fill;
    size_t line = t->len;
    pb_text_add_bytes(t, object ? "{" : "[", 1);
    for (const cJSON *c = json->child; c && !t->failed; c = c->next) {
        if (breaks) {
            print_break(t, depth + 1);
        } else if (pretty && t->len - line > 100) {
            print_break(t, depth + 1);
            line = t->len;
        } else if (pretty && c != json->child) {
            pb_text_add_bytes(t, " ", 1);
        }
        if (object) {
            print_string(t, c->string ? c->string : "");
            pb_text_add_bytes(t, ": ", pretty ? 2 : 1);
        }
        print_value(t, c, pretty, depth + 1);
        if (c->next) pb_text_add_bytes(t, ",", 1);
    }
    if (breaks) print_break(t, depth);
    pb_text_add_bytes(t, object ? "}" : "]", 1);
}

static void print_value(pb_text *t, const cJSON *json, bool pretty, int depth) {
    const char *word = "null";
    if (cJSON_IsObject(json) || cJSON_IsArray(json)) {
        print_container(t, json, pretty, depth);
        return;
    }
    if (cJSON_IsNumber(json)) {
        print_number(t, json->valuedouble);
        return;
    }
    if (cJSON_IsString(json) && json->valuestring) {
        print_string(t, json->valuestring);
        return;
    }
    if (cJSON_IsBool(json)) word = cJSON_IsTrue(json) ? "true" : "false";
    if (cJSON_IsRaw(json) && json->valuestring) word = json->valuestring;
    pb_text_add_bytes(t, word, strlen(word));
}

char *pb_json_print(const pb_json *json, bool pretty) {
    pb_text t = {0};
    if (json) print_value(&t, json, pretty, 0);
    if (!json || t.failed) {
        pb_text_free(&t);
        return NULL;
    }
    return t.data;
}

pb_status pb_json_save(const pb_json *json, const char *path) {
    char *text = pb_json_print(json, true);
    if (!text) return PB_ERROR(PB_E_OOM, "%s: no memory for its text", path);
    pb_status status = pb_file_write_atomic(path, text, strlen(text));
    free(text);
    return status;
}

/* ---- reading ---- */

const pb_json *pb_json_get(const pb_json *object, const char *key) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

double pb_json_number(const pb_json *object, const char *key) {
    const pb_json *v = pb_json_get(object, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

const char *pb_json_text(const pb_json *object, const char *key) {
    const pb_json *v = pb_json_get(object, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

/* A value for messages: short scalars as they are, the rest by kind. */
static const char *describe(const cJSON *v, char buf[96]) {
    if (cJSON_IsObject(v)) return "an object";
    if (cJSON_IsArray(v)) return "an array";
    pb_text t = {0};
    print_value(&t, v, false, 0);
    if (t.failed || !t.data)
        strcpy(buf, "a value");
    else if (!pb_copy(buf, 80, t.data))
        strcat(buf, "...");
    pb_text_free(&t);
    return buf;
}

/* Finds key. *v = NULL when absent; PB_E_INPUT when o is no object. */
static pb_status find(const pb_json *o, const char *where, const char *key, const cJSON **v) {
    char buf[96];
    *v = NULL;
    if (o && !cJSON_IsObject(o))
        return PB_ERROR(PB_E_INPUT, "%s: expected an object with \"%s\", got %s", where, key, describe(o, buf));
    *v = pb_json_get(o, key);
    return PB_OK;
}

static pb_status mismatch(const char *where, const char *key, const char *expected, const cJSON *got) {
    char buf[96];
    return PB_ERROR(PB_E_INPUT, "%s: \"%s\": expected %s, got %s", where, key, expected, describe(got, buf));
}

pb_status pb_json_read_f64(const pb_json *o, const char *where, const char *key, double lo, double hi, double *out) {
    const cJSON *v = NULL;
    PB_ASSERT(lo <= hi);
    PB_RETURN(find(o, where, key, &v));
    if (!v) return PB_OK;
    if (cJSON_IsNumber(v) && isfinite(v->valuedouble) && v->valuedouble >= lo && v->valuedouble <= hi) {
        *out = v->valuedouble;
        return PB_OK;
    }
    char expected[96], low[PB_F64_CHARS], high[PB_F64_CHARS];
    pb_format_f64(low, lo);
    pb_format_f64(high, hi);
    if (isfinite(lo) && isfinite(hi))
        snprintf(expected, sizeof expected, "a number from %s to %s", low, high);
    else if (isfinite(lo))
        snprintf(expected, sizeof expected, "a number of at least %s", low);
    else if (isfinite(hi))
        snprintf(expected, sizeof expected, "a number of at most %s", high);
    else
        strcpy(expected, "a number");
    return mismatch(where, key, expected, v);
}

/* A whole number below 2^53, or a decimal string from there on: a smaller one in quotes is a wrong type. */
static bool take_i64(const cJSON *v, int64_t *out) {
    if (cJSON_IsString(v))
        return v->valuestring && pb_parse_i64(v->valuestring, out) && (*out >= TWO_53 || *out <= -TWO_53);
    if (!cJSON_IsNumber(v) || !(fabs(v->valuedouble) < (double)TWO_53) || v->valuedouble != trunc(v->valuedouble))
        return false;
    *out = (int64_t)v->valuedouble;
    return true;
}

pb_status pb_json_read_i64(const pb_json *o, const char *where, const char *key, int64_t lo, int64_t hi, int64_t *out) {
    const cJSON *v = NULL;
    int64_t i = 0;
    PB_ASSERT(lo <= hi);
    PB_RETURN(find(o, where, key, &v));
    if (!v) return PB_OK;
    if (take_i64(v, &i) && i >= lo && i <= hi) {
        *out = i;
        return PB_OK;
    }
    char expected[128];
    bool wide = cJSON_IsNumber(v) && fabs(v->valuedouble) >= (double)TWO_53;
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld%s", (long long)lo, (long long)hi,
             wide ? " (in quotes from 2^53 on)" : "");
    return mismatch(where, key, expected, v);
}

pb_status pb_json_read_bool(const pb_json *o, const char *where, const char *key, bool *out) {
    const cJSON *v = NULL;
    PB_RETURN(find(o, where, key, &v));
    if (!v) return PB_OK;
    if (!cJSON_IsBool(v)) return mismatch(where, key, "true or false", v);
    *out = cJSON_IsTrue(v);
    return PB_OK;
}

pb_status pb_json_read_str(const pb_json *o, const char *where, const char *key, const char **out) {
    const cJSON *v = NULL;
    PB_RETURN(find(o, where, key, &v));
    if (!v) return PB_OK;
    if (!cJSON_IsString(v) || !v->valuestring) return mismatch(where, key, "a string", v);
    *out = v->valuestring;
    return PB_OK;
}

pb_status pb_json_read_choice(const pb_json *o, const char *where, const char *key, const char *const *choices, size_t n,
                              int *out) {
    pb_status status = PB_OK;
    const cJSON *v = NULL;
    pb_text expected = {0};
    PB_TRY(find(o, where, key, &v));
    if (!v) goto done;
    for (size_t i = 0; cJSON_IsString(v) && v->valuestring && i < n; i++) {
        if (strcmp(v->valuestring, choices[i]) != 0) continue;
        *out = (int)i;
        goto done;
    }
    pb_text_add(&expected, "one of");
    for (size_t i = 0; i < n; i++) pb_text_add(&expected, "%s \"%s\"", i ? "," : "", choices[i]);
    if (cJSON_IsString(v) && v->valuestring && n)
        pb_text_add(&expected, " (nearest: \"%s\")", pb_nearest(v->valuestring, choices, n));
    PB_TRY(pb_text_status(&expected));
    PB_TRY(mismatch(where, key, expected.data, v));
done:
    pb_text_free(&expected);
    return status;
}

pb_status pb_json_only_keys(const pb_json *o, const char *where, const char *const *keys, size_t n) {
    char buf[96];
    if (!o) return PB_OK;
    if (!cJSON_IsObject(o)) return PB_ERROR(PB_E_INPUT, "%s: expected an object, got %s", where, describe(o, buf));
    for (const cJSON *c = o->child; c; c = c->next) {
        size_t i = 0;
        while (i < n && strcmp(c->string, keys[i]) != 0) i++;
        if (i < n) continue;
        if (n == 0) return PB_ERROR(PB_E_INPUT, "%s: unknown key \"%.80s\": no key is allowed here", where, c->string);
        return PB_ERROR(PB_E_INPUT, "%s: unknown key \"%.80s\": did you mean \"%s\"?", where, c->string,
                        pb_nearest(c->string, keys, n));
    }
    return PB_OK;
}

/* ---- building ---- */

/* Takes `item` over, also when it cannot be added. */
static bool add(cJSON *o, const char *key, cJSON *item) {
    bool added = false;
    if (o && item && cJSON_IsArray(o)) {
        PB_ASSERT(!key);
        added = cJSON_AddItemToArray(o, item);
    } else if (o && item) {
        PB_ASSERT(cJSON_IsObject(o) && key);
        added = cJSON_AddItemToObject(o, key, item);
    }
    if (!added) cJSON_Delete(item);
    return added;
}

bool pb_json_add_f64(pb_json *o, const char *key, double v) {
    return add(o, key, isfinite(v) ? cJSON_CreateNumber(v) : cJSON_CreateNull());
}

bool pb_json_add_i64(pb_json *o, const char *key, int64_t v) {
    if (v > -TWO_53 && v < TWO_53) return add(o, key, cJSON_CreateNumber((double)v));
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)v);
    return add(o, key, cJSON_CreateString(digits));
}

bool pb_json_add_str(pb_json *o, const char *key, const char *v) {
    return add(o, key, v ? cJSON_CreateString(v) : cJSON_CreateNull());
}

bool pb_json_add_bool(pb_json *o, const char *key, bool v) {
    return add(o, key, cJSON_CreateBool(v));
}

pb_json *pb_json_add_object(pb_json *o, const char *key) {
    cJSON *item = cJSON_CreateObject();
    return add(o, key, item) ? item : NULL;
}

pb_json *pb_json_add_array(pb_json *o, const char *key) {
    cJSON *item = cJSON_CreateArray();
    return add(o, key, item) ? item : NULL;
}

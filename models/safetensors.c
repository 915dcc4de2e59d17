/* safetensors reader: 8 bytes little-endian header length, a JSON header, tensor data back to back.
 * The header is read by a strict streaming parser of exactly the format's schema instead of a JSON
 * tree, so that a header of 100 MB costs no more than its tensor table. Every number is checked
 * before it is used; nothing is trusted because a checksum matched. Writer and element conversion:
 * safetensors_write.c. Test: tests/test_safetensors.c. */
#include "models/safetensors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "models/stored.h"

#define MAX_HEADER_BYTES (100u * 1000u * 1000u)
#define MAX_INDEX_BYTES ((size_t)4 << 20) /* as a JSON tree: below 40 MiB */
#define MAX_TENSORS 131072
#define MAX_NAME_BYTES ((size_t)16 << 20) /* of all names and metadata together */
#define MAX_SHARDS 1024

typedef struct pb_pair {
    char *key, *value;
} pb_pair;

struct pb_safetensors {
    char *path;
    pb_stored_tensor *tensors; /* sorted by name */
    int n, cap;
    pb_pair *meta;
    int n_meta, cap_meta;
    size_t name_bytes;
    char **files; /* names of the mapped files, for messages */
    pb_map *maps;
    int n_files;
};

/* The header being read; offsets in messages count from the start of the file. */
typedef struct pb_scan {
    const char *where;
    const char *text;
    size_t len, at;
    const unsigned char *payload;
    uint64_t payload_bytes;
    pb_safetensors *st;
} pb_scan;

static const struct {
    const char *name;
    unsigned bytes;
} known_dtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
    {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
    {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8},
};

uint64_t pb_stored_dtype_bytes(const char *dtype) {
    for (size_t i = 0; i < sizeof known_dtypes / sizeof *known_dtypes; i++) {
        if (!strcmp(dtype, known_dtypes[i].name)) return known_dtypes[i].bytes;
    }
    return 0;
}

/* --- the header's own JSON ------------------------------------------------------------------- */

static pb_status syntax(const pb_scan *s, const char *expected) {
    if (s->at >= s->len) {
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: header ends, expected %s", s->where, s->at + 8,
                        expected);
    }
    return PB_ERROR(PB_E_INPUT, "%s: offset %zu: found byte 0x%02x, expected %s", s->where,
                    s->at + 8, (unsigned)(unsigned char)s->text[s->at], expected);
}

static void skip_space(pb_scan *s) {
    while (s->at < s->len && strchr(" \t\r\n", s->text[s->at]) && s->text[s->at]) s->at++;
}

static bool take(pb_scan *s, char c) {
    skip_space(s);
    if (s->at >= s->len || s->text[s->at] != c) return false;
    s->at++;
    return true;
}

static bool hex4(pb_scan *s, unsigned *out) {
    if (s->len - s->at < 4) return false;
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s->text[s->at + (size_t)i];
        unsigned d = 0;
        if (c >= '0' && c <= '9') d = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f') d = (unsigned)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F') d = (unsigned)(c - 'A') + 10;
        else return false;
        v = v * 16 + d;
    }
    s->at += 4;
    *out = v;
    return true;
}

static size_t put_utf8(char *out, unsigned u) {
    if (u < 0x80) {
        out[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        out[0] = (char)(0xc0 | (u >> 6));
        out[1] = (char)(0x80 | (u & 63));
        return 2;
    }
    if (u < 0x10000) {
        out[0] = (char)(0xe0 | (u >> 12));
        out[1] = (char)(0x80 | ((u >> 6) & 63));
        out[2] = (char)(0x80 | (u & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | (u >> 18));
    out[1] = (char)(0x80 | ((u >> 12) & 63));
    out[2] = (char)(0x80 | ((u >> 6) & 63));
    out[3] = (char)(0x80 | (u & 63));
    return 4;
}

/* One escape behind its backslash, appended at out[*n]. */
static pb_status escape(pb_scan *s, char *out, size_t *n) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->at >= s->len) return syntax(s, "an escape");
    char c = s->text[s->at];
    const char *hit = c ? strchr(from, c) : NULL;
    if (hit) {
        out[(*n)++] = to[hit - from];
        s->at++;
        return PB_OK;
    }
    if (c != 'u') return syntax(s, "an escape");
    s->at++;
    unsigned u = 0, low = 0;
    if (!hex4(s, &u)) return syntax(s, "four hex digits");
    if (u >= 0xd800 && u < 0xdc00) {
        if (s->len - s->at < 6 || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u') {
            return syntax(s, "the second half of a surrogate pair");
        }
        s->at += 2;
        if (!hex4(s, &low) || low < 0xdc00 || low > 0xdfff) return syntax(s, "a low surrogate");
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    } else if (u >= 0xdc00 && u < 0xe000) {
        return syntax(s, "no lone surrogate");
    }
    if (u == 0) return syntax(s, "no NUL in a string");
    *n += put_utf8(out + *n, u);
    return PB_OK;
}

/* A string, malloc'ed. Escapes never grow: \uXXXX is six bytes for at most three. */
static pb_status string(pb_scan *s, char **out) {
    pb_status status = PB_OK;
    char *text = NULL;
    *out = NULL;
    if (!take(s, '"')) return syntax(s, "a string");
    size_t end = s->at;
    while (end < s->len && s->text[end] != '"') end += s->text[end] == '\\' ? 2 : 1;
    if (end >= s->len) {
        s->at = s->len;
        return syntax(s, "the end of a string");
    }
    size_t room = end - s->at + 1, n = 0, bad = 0, from = s->at;
    s->st->name_bytes += room;
    if (s->st->name_bytes > MAX_NAME_BYTES) {
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: names and metadata exceed %zu bytes", s->where,
                        s->at + 8, MAX_NAME_BYTES);
    }
    text = malloc(room);
    if (!text) return PB_ERROR(PB_E_OOM, "%s: no memory for a name of %zu bytes", s->where, room);
    while (s->at < end) {
        unsigned char c = (unsigned char)s->text[s->at];
        if (c < 0x20) {
            status = syntax(s, "no control character in a string");
            goto done;
        }
        s->at++;
        if (c == '\\') PB_TRY(escape(s, text, &n));
        else text[n++] = (char)c;
    }
    if (s->at != end) {
        status = syntax(s, "a complete escape");
        goto done;
    }
    s->at = end + 1;
    text[n] = 0;
    if (!pb_utf8_valid(text, n, &bad)) {
        PB_FAIL(PB_E_INPUT, "%s: offset %zu: string is not valid UTF-8", s->where, from + 8);
    }
    *out = text;
    text = NULL;
done:
    free(text);
    return status;
}

/* A non-negative integer below 2^63. */
static pb_status integer(pb_scan *s, int64_t *out) {
    skip_space(s);
    size_t from = s->at;
    int64_t v = 0;
    while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9') {
        if (__builtin_mul_overflow(v, (int64_t)10, &v) ||
            __builtin_add_overflow(v, (int64_t)(s->text[s->at] - '0'), &v)) {
            return PB_ERROR(PB_E_INPUT, "%s: offset %zu: integer is 2^63 or more", s->where,
                            from + 8);
        }
        s->at++;
    }
    if (s->at == from) return syntax(s, "a non-negative integer");
    if (s->text[from] == '0' && s->at - from > 1) {
        return PB_ERROR(PB_E_INPUT, "%s: offset %zu: integer with a leading zero", s->where,
                        from + 8);
    }
    *out = v;
    return PB_OK;
}

static pb_status integers(pb_scan *s, const char *name, const char *key, int max, int64_t *out,
                          int *n) {
    *n = 0;
    if (!take(s, '[')) return syntax(s, "'['");
    if (take(s, ']')) return PB_OK;
    do {
        if (*n == max) {
            return PB_ERROR(PB_E_INPUT, "%s: tensor %s: %s has more than %d entries", s->where,
                            name, key, max);
        }
        PB_RETURN(integer(s, &out[*n]));
        (*n)++;
    } while (take(s, ','));
    if (!take(s, ']')) return syntax(s, "',' or ']'");
    return PB_OK;
}

/* --- one tensor ------------------------------------------------------------------------------ */

static pb_status check_tensor(const pb_scan *s, const pb_stored_tensor *t,
                              const int64_t offset[2]) {
    uint64_t need = pb_stored_dtype_bytes(t->dtype);
    if (need == 0) {
        return PB_ERROR(
            PB_E_INPUT,
            "%s: tensor %s: unknown dtype \"%s\", expected F32, BF16, F16, F64, I64, ...", s->where,
            t->name, t->dtype);
    }
    for (int i = 0; i < t->ndim; i++) {
        if (__builtin_mul_overflow(need, (uint64_t)t->dim[i], &need) || need > INT64_MAX) {
            return PB_ERROR(PB_E_INPUT, "%s: tensor %s: its shape needs 2^63 bytes or more",
                            s->where, t->name);
        }
    }
    if (offset[1] < offset[0] || (uint64_t)offset[1] > s->payload_bytes) {
        return PB_ERROR(
            PB_E_INPUT,
            "%s: tensor %s: data_offsets [%lld,%lld] leave the %llu bytes of data (truncated?)",
            s->where, t->name, (long long)offset[0], (long long)offset[1],
            (unsigned long long)s->payload_bytes);
    }
    if ((uint64_t)(offset[1] - offset[0]) != need) {
        return PB_ERROR(
            PB_E_INPUT,
            "%s: tensor %s: data_offsets hold %lld bytes, its shape and dtype %s need %llu",
            s->where, t->name, (long long)(offset[1] - offset[0]), t->dtype,
            (unsigned long long)need);
    }
    return PB_OK;
}

static pb_status tensor_member(pb_scan *s, pb_stored_tensor *t, int64_t offset[2], unsigned *seen) {
    pb_status status = PB_OK;
    char *key = NULL, *dtype = NULL;
    unsigned bit = 0;
    int n = 0;
    PB_TRY(string(s, &key));
    if (!take(s, ':')) {
        status = syntax(s, "':'");
        goto done;
    }
    if (!strcmp(key, "dtype")) bit = 1;
    else if (!strcmp(key, "shape")) bit = 2;
    else if (!strcmp(key, "data_offsets")) bit = 4;
    else PB_FAIL(PB_E_INPUT, "%s: tensor %s: unknown key \"%s\"", s->where, t->name, key);
    if (*seen & bit) PB_FAIL(PB_E_INPUT, "%s: tensor %s: key \"%s\" twice", s->where, t->name, key);
    *seen |= bit;
    if (bit == 1) {
        PB_TRY(string(s, &dtype));
        if (!pb_copy(t->dtype, sizeof t->dtype, dtype)) {
            PB_FAIL(PB_E_INPUT, "%s: tensor %s: unknown dtype \"%s\"", s->where, t->name, dtype);
        }
    } else if (bit == 2) {
        PB_TRY(integers(s, t->name, key, 8, t->dim, &t->ndim));
    } else {
        PB_TRY(integers(s, t->name, key, 2, offset, &n));
        if (n != 2)
            PB_FAIL(PB_E_INPUT, "%s: tensor %s: data_offsets needs two numbers", s->where, t->name);
    }
done:
    free(key);
    free(dtype);
    return status;
}

static pb_status grow(pb_safetensors *st, const char *where) {
    if (st->n == MAX_TENSORS)
        return PB_ERROR(PB_E_INPUT, "%s: more than %d tensors", where, MAX_TENSORS);
    if (st->n < st->cap) return PB_OK;
    int cap = st->cap ? st->cap * 2 : 64;
    pb_stored_tensor *bigger = realloc(st->tensors, (size_t)cap * sizeof *bigger);
    if (!bigger) return PB_ERROR(PB_E_OOM, "%s: no memory for a table of %d tensors", where, cap);
    st->tensors = bigger;
    st->cap = cap;
    return PB_OK;
}

/* Takes ownership of `name`. */
static pb_status tensor(pb_scan *s, char *name) {
    pb_status status = PB_OK;
    pb_stored_tensor t = {.name = name, .file = s->where};
    int64_t offset[2] = {0, 0};
    unsigned seen = 0;
    if (!take(s, '{')) {
        status = syntax(s, "'{'");
        goto done;
    }
    do PB_TRY(tensor_member(s, &t, offset, &seen));
    while (take(s, ','));
    if (!take(s, '}')) {
        status = syntax(s, "',' or '}'");
        goto done;
    }
    if (seen != 7)
        PB_FAIL(PB_E_INPUT, "%s: tensor %s: needs dtype, shape and data_offsets", s->where, name);
    PB_TRY(check_tensor(s, &t, offset));
    PB_TRY(grow(s->st, s->where));
    t.data = s->payload + offset[0];
    t.bytes = (uint64_t)(offset[1] - offset[0]);
    s->st->tensors[s->st->n++] = t;
    name = NULL;
done:
    free(name);
    return status;
}

static pb_status metadata(pb_scan *s) {
    if (!take(s, '{')) return syntax(s, "'{'");
    if (take(s, '}')) return PB_OK;
    do {
        pb_safetensors *st = s->st;
        if (st->n_meta == st->cap_meta) {
            int cap = st->cap_meta ? st->cap_meta * 2 : 8;
            pb_pair *bigger = realloc(st->meta, (size_t)cap * sizeof *bigger);
            if (!bigger) return PB_ERROR(PB_E_OOM, "%s: no memory for metadata", s->where);
            st->meta = bigger;
            st->cap_meta = cap;
        }
        pb_pair *p = &st->meta[st->n_meta];
        *p = (pb_pair){NULL, NULL};
        st->n_meta++;
        PB_RETURN(string(s, &p->key));
        if (!take(s, ':')) return syntax(s, "':'");
        PB_RETURN(string(s, &p->value));
    } while (take(s, ','));
    if (!take(s, '}')) return syntax(s, "',' or '}'");
    return PB_OK;
}

static pb_status header(pb_scan *s) {
    bool meta = false;
    if (!take(s, '{')) return syntax(s, "'{'");
    if (!take(s, '}')) {
        do {
            char *name = NULL;
            PB_RETURN(string(s, &name));
            bool colon = take(s, ':'), is_meta = !strcmp(name, "__metadata__");
            if (!colon || (is_meta && meta)) {
                free(name);
                return colon ? PB_ERROR(PB_E_INPUT, "%s: __metadata__ twice", s->where)
                             : syntax(s, "':'");
            }
            if (is_meta) {
                free(name);
                meta = true;
                PB_RETURN(metadata(s));
            } else {
                PB_RETURN(tensor(s, name));
            }
        } while (take(s, ','));
        if (!take(s, '}')) return syntax(s, "',' or '}'");
    }
    skip_space(s);
    if (s->at != s->len) return syntax(s, "nothing behind the header but spaces");
    return PB_OK;
}

/* --- whole files ----------------------------------------------------------------------------- */

static int by_data(const void *a, const void *b) {
    const pb_stored_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const pb_stored_tensor *)a)->name, ((const pb_stored_tensor *)b)->name);
}

/* The tensors [from, n) must tile the payload exactly. */
static pb_status check_tiling(const pb_scan *s, int from) {
    pb_stored_tensor *t = s->st->tensors;
    uint64_t at = 0;
    if (s->st->n > from) qsort(t + from, (size_t)(s->st->n - from), sizeof *t, by_data);
    for (int i = from; i < s->st->n; i++) {
        uint64_t begin = (uint64_t)(t[i].data - s->payload);
        if (begin < at) {
            return PB_ERROR(PB_E_INPUT,
                            "%s: tensor %s: starts at data offset %llu, inside tensor %s (overlap)",
                            s->where, t[i].name, (unsigned long long)begin, t[i - 1].name);
        }
        if (begin > at) {
            return PB_ERROR(PB_E_INPUT,
                            "%s: tensor %s: starts at data offset %llu, expected %llu (hole)",
                            s->where, t[i].name, (unsigned long long)begin, (unsigned long long)at);
        }
        at += t[i].bytes;
    }
    if (at != s->payload_bytes) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: tensors end at data offset %llu, but the data has %llu bytes",
                        s->where, (unsigned long long)at, (unsigned long long)s->payload_bytes);
    }
    return PB_OK;
}

static pb_status add_bytes(pb_safetensors *st, const char *where, const unsigned char *bytes,
                           size_t len) {
    if (len < 8)
        return PB_ERROR(PB_E_INPUT, "%s: %zu bytes, expected at least 8 (not a safetensors file)",
                        where, len);
    uint64_t size = 0;
    for (int i = 0; i < 8; i++) size |= (uint64_t)bytes[i] << (8 * i);
    if (size > MAX_HEADER_BYTES) {
        return PB_ERROR(PB_E_INPUT, "%s: offset 0: header of %llu bytes, at most %u are read",
                        where, (unsigned long long)size, MAX_HEADER_BYTES);
    }
    if (size > len - 8) {
        return PB_ERROR(PB_E_INPUT,
                        "%s: offset 0: header of %llu bytes, but the file has %zu (truncated?)",
                        where, (unsigned long long)size, len);
    }
    pb_scan s = {.where = where,
                 .text = (const char *)bytes + 8,
                 .len = (size_t)size,
                 .payload = bytes + 8 + size,
                 .payload_bytes = len - 8 - size,
                 .st = st};
    int from = st->n;
    PB_RETURN(header(&s));
    PB_RETURN(check_tiling(&s, from));
    return PB_OK;
}

static pb_status sort_names(pb_safetensors *st) {
    if (st->n) qsort(st->tensors, (size_t)st->n, sizeof *st->tensors, by_name);
    for (int i = 1; i < st->n; i++) {
        if (!strcmp(st->tensors[i - 1].name, st->tensors[i].name)) {
            return PB_ERROR(PB_E_INPUT, "%s: tensor %s twice", st->tensors[i].file,
                            st->tensors[i].name);
        }
    }
    return PB_OK;
}

static pb_status new_reader(const char *path, int files, pb_safetensors **out) {
    pb_safetensors *st = calloc(1, sizeof *st);
    *out = st;
    if (st) {
        st->path = strdup(path);
        st->files = calloc((size_t)files, sizeof *st->files);
        st->maps = calloc((size_t)files, sizeof *st->maps);
    }
    if (!st || !st->path || !st->files || !st->maps)
        return PB_ERROR(PB_E_OOM, "%s: no memory for a reader", path);
    return PB_OK;
}

/* Takes ownership of `file`. */
static pb_status add_file(pb_safetensors *st, char *file) {
    if (!file) return PB_ERROR(PB_E_OOM, "%s: no memory for a file name", st->path);
    st->files[st->n_files++] = file;
    pb_map *map = &st->maps[st->n_files - 1];
    PB_RETURN(pb_map_open(file, map));
    PB_RETURN(add_bytes(st, file, map->data, map->len));
    return PB_OK;
}

/* --- shards ---------------------------------------------------------------------------------- */

static pb_status check_shard(const char *index, const pb_json *entry) {
    if (!cJSON_IsString(entry)) {
        return PB_ERROR(PB_E_INPUT, "%s: weight_map.%s: expected a file name", index,
                        entry->string);
    }
    const char *s = entry->valuestring;
    if (!*s || strchr(s, '/') || strchr(s, '\\')) {
        return PB_ERROR(PB_E_INPUT, "%s: weight_map.%s: \"%s\" is not a file name in this folder",
                        index, entry->string, s);
    }
    return PB_OK;
}

/* The distinct file names of a weight map; they stay the tree's. */
static pb_status shards(const char *index, const pb_json *map, const char *names[MAX_SHARDS],
                        int *n) {
    const pb_json *entry = NULL;
    *n = 0;
    cJSON_ArrayForEach(entry, map) {
        PB_RETURN(check_shard(index, entry));
        int i = *n;
        while (i > 0 && strcmp(names[i - 1], entry->valuestring)) i--;
        if (i) continue;
        if (*n == MAX_SHARDS)
            return PB_ERROR(PB_E_INPUT, "%s: more than %d shards", index, MAX_SHARDS);
        names[(*n)++] = entry->valuestring;
    }
    if (!*n) return PB_ERROR(PB_E_INPUT, "%s: weight_map is empty", index);
    return PB_OK;
}

static pb_status check_map(const pb_safetensors *st, const char *index, const pb_json *map) {
    const pb_json *entry = NULL;
    cJSON_ArrayForEach(entry, map) {
        const pb_stored_tensor *t = pb_safetensors_find(st, entry->string);
        const char *base = t ? strrchr(t->file, '/') : NULL;
        base = base ? base + 1 : t ? t->file : "";
        if (strcmp(base, entry->valuestring)) {
            return PB_ERROR(PB_E_INPUT, "%s: tensor %s: not in its shard %s", index, entry->string,
                            entry->valuestring);
        }
    }
    return PB_OK;
}

static pb_status open_sharded(const char *dir, const char *index, pb_safetensors **out) {
    pb_status status = PB_OK;
    pb_json *json = NULL;
    const char *names[MAX_SHARDS];
    int n = 0;
    PB_TRY(pb_json_load(index, MAX_INDEX_BYTES, &json));
    const pb_json *map = pb_json_get(json, "weight_map");
    if (!cJSON_IsObject(map)) PB_FAIL(PB_E_INPUT, "%s: expected an object \"weight_map\"", index);
    PB_TRY(shards(index, map, names, &n));
    PB_TRY(new_reader(dir, n, out));
    for (int i = 0; i < n; i++) {
        char *file = pb_path_join(dir, names[i]);
        if (file && !pb_file_exists(file)) {
            status = PB_ERROR(PB_E_INPUT, "%s: shard %s is missing", index, names[i]);
            free(file);
            goto done;
        }
        PB_TRY(add_file(*out, file));
    }
    PB_TRY(sort_names(*out));
    PB_TRY(check_map(*out, index, map));
done:
    pb_json_free(json);
    return status;
}

/* --- public ---------------------------------------------------------------------------------- */

pb_status pb_safetensors_open(const char *path, pb_safetensors **out) {
    pb_status status = PB_OK;
    pb_safetensors *st = NULL;
    char *single = NULL, *index = NULL;
    *out = NULL;
    if (pb_is_dir(path)) {
        single = pb_path_join(path, "model.safetensors");
        index = pb_path_join(path, "model.safetensors.index.json");
        if (!single || !index) PB_FAIL(PB_E_OOM, "%s: no memory for a file name", path);
    } else if (!(single = strdup(path))) {
        PB_FAIL(PB_E_OOM, "%s: no memory for a file name", path);
    }
    if (index && !pb_file_exists(single)) {
        if (!pb_file_exists(index)) {
            PB_FAIL(PB_E_INPUT,
                    "%s: neither model.safetensors nor model.safetensors.index.json is there",
                    path);
        }
        PB_TRY(open_sharded(path, index, &st));
    } else {
        PB_TRY(new_reader(path, 1, &st));
        char *file = single;
        single = NULL;
        PB_TRY(add_file(st, file));
        PB_TRY(sort_names(st));
    }
    *out = st;
    st = NULL;
done:
    pb_safetensors_close(st);
    free(single);
    free(index);
    return status;
}

pb_status pb_safetensors_open_bytes(const char *where, const void *bytes, size_t len,
                                    pb_safetensors **out) {
    pb_status status = PB_OK;
    pb_safetensors *st = NULL;
    *out = NULL;
    PB_TRY(new_reader(where, 1, &st));
    PB_TRY(add_bytes(st, st->path, bytes, len));
    PB_TRY(sort_names(st));
    *out = st;
    st = NULL;
done:
    pb_safetensors_close(st);
    return status;
}

void pb_safetensors_close(pb_safetensors *st) {
    if (!st) return;
    /* The table owns its names; the public struct shows them as const. */
    for (int i = 0; i < st->n; i++) free((void *)(uintptr_t)st->tensors[i].name);
    for (int i = 0; i < st->n_meta; i++) {
        free(st->meta[i].key);
        free(st->meta[i].value);
    }
    for (int i = 0; i < st->n_files; i++) {
        pb_map_close(&st->maps[i]);
        free(st->files[i]);
    }
    free(st->maps);
    free(st->files);
    free(st->meta);
    free(st->tensors);
    free(st->path);
    free(st);
}

const char *pb_safetensors_path(const pb_safetensors *st) { return st->path; }

int pb_safetensors_count(const pb_safetensors *st) { return st->n; }

const pb_stored_tensor *pb_safetensors_at(const pb_safetensors *st, int i) {
    PB_ASSERT(i >= 0 && i < st->n);
    return &st->tensors[i];
}

const pb_stored_tensor *pb_safetensors_find(const pb_safetensors *st, const char *name) {
    pb_stored_tensor key = {.name = name};
    if (!st->n) return NULL;
    return bsearch(&key, st->tensors, (size_t)st->n, sizeof key, by_name);
}

const char *pb_safetensors_metadata(const pb_safetensors *st, const char *key) {
    for (int i = 0; i < st->n_meta; i++) {
        if (!strcmp(st->meta[i].key, key)) return st->meta[i].value;
    }
    return NULL;
}
